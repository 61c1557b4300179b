/// A workbook's first visible sheet. Its rows are parsed while they are unpacked; nothing is kept but the
/// shared texts, which spill to a scratch file.
final class XLSXSource: RowSource {
    private let archive: ZipArchive
    private let sheet: SheetListener
    private let part: XMLPart
    let sheetName: String
    /// How many further sheets there are, which nobody reads.
    let otherSheets: Int

    let names: [String]? = nil
    var progress: Double { part.hasEnded ? 1 : part.progress }

    init(_ file: ScratchFile, limits: SheetLimits, scratchFolder: String) throws {
        archive = try ZipArchive(file, limits: limits)
        guard let workbookPart = archive.open("xl/workbook.xml") else {
            // An archive of something else.
            throw SheetError.unknownFormat
        }
        let workbook = WorkbookListener()
        try XMLPart(workbookPart, workbook).run()
        let relations = RelationListener()
        if let part = archive.open("xl/_rels/workbook.xml.rels") { try XMLPart(part, relations).run() }
        guard let chosen = workbook.sheets.first(where: { !$0.isHidden }) ?? workbook.sheets.first else {
            throw SheetError.noSheet
        }
        sheetName = chosen.name
        otherSheets = workbook.sheets.count - 1
        let texts = SharedTexts(limits: limits, scratchFolder: scratchFolder)
        if let part = archive.open(relations.target(ofType: "/sharedStrings") ?? "xl/sharedStrings.xml") {
            let listener = SharedTextListener(texts)
            let xml = try XMLPart(part, listener)
            while try xml.step() { if let failure = listener.failure { throw failure } }
            if let failure = listener.failure { throw failure }
        }
        let path = relations.targets[chosen.relation] ?? "xl/worksheets/sheet1.xml"
        guard let entry = archive.open(path) else { throw SheetError.noSheet }
        sheet = SheetListener(texts, limits: limits)
        part = try XMLPart(entry, sheet)
    }

    func gather(into rows: inout RowGatherer) throws -> Bool {
        guard !part.hasEnded else { return false }
        swap(&sheet.rows, &rows)
        defer { swap(&sheet.rows, &rows) }
        while !sheet.rows.isFull {
            guard try part.step() else { break }
            if let failure = sheet.failure { throw failure }
        }
        if let failure = sheet.failure { throw failure }
        return true
    }
}

/// `xl/workbook.xml`: which sheets there are.
private final class WorkbookListener: XMLListener {
    struct Sheet {
        let name: String
        let relation: String
        let isHidden: Bool
    }
    private(set) var sheets: [Sheet] = []
    private static let most = 10_000

    func began(_ name: XMLName, _ attributes: XMLAttributes) {
        guard name == "sheet", sheets.count < Self.most else { return }
        sheets.append(
            Sheet(
                name: attributes["name"] ?? "", relation: attributes["id"] ?? "",
                isHidden: attributes["state"].map { $0 != "visible" } ?? false))
    }
    func ended(_ name: XMLName) {}
    func text(_ bytes: UnsafeBufferPointer<UInt8>) {}
}

/// `xl/_rels/workbook.xml.rels`: in which entry each of them stands.
private final class RelationListener: XMLListener {
    private(set) var targets: [String: String] = [:]
    private var types: [(type: String, target: String)] = []

    func target(ofType suffix: String) -> String? { types.first { $0.type.hasSuffix(suffix) }?.target }

    func began(_ name: XMLName, _ attributes: XMLAttributes) {
        guard name == "Relationship", targets.count < 10_000, let id = attributes["Id"],
            let target = attributes["Target"]
        else { return }
        let path = target.hasPrefix("/") ? String(target.dropFirst()) : "xl/\(target)"
        targets[id] = path
        types.append((attributes["Type"] ?? "", path))
    }
    func ended(_ name: XMLName) {}
    func text(_ bytes: UnsafeBufferPointer<UInt8>) {}
}

/// `xl/sharedStrings.xml`: texts by number.
private final class SharedTextListener: XMLListener {
    private let texts: SharedTexts
    private var text: [UInt8] = []
    private var isInText = false
    /// How a word is pronounced, in Japanese files: not part of the text.
    private var isInPhonetics = false
    private(set) var failure: SheetError?

    init(_ texts: SharedTexts) { self.texts = texts }

    func began(_ name: XMLName, _ attributes: XMLAttributes) {
        if name == "si" {
            text.removeAll(keepingCapacity: true)
        } else if name == "rPh" {
            isInPhonetics = true
        } else if name == "t" {
            isInText = !isInPhonetics
        }
    }

    func ended(_ name: XMLName) {
        if name == "t" {
            isInText = false
        } else if name == "rPh" {
            isInPhonetics = false
        } else if name == "si", failure == nil {
            do { try texts.add(text) } catch { failure = error }
        }
    }

    func text(_ bytes: UnsafeBufferPointer<UInt8>) {
        // One byte more than is allowed, so that the row learns that it is too long.
        if isInText { text.append(contentsOf: bytes.prefix(texts.fieldBytes + 1 - text.count)) }
    }
}

/// `xl/worksheets/sheetN.xml`: the rows.
private final class SheetListener: XMLListener {
    private enum CellKind { case number, shared, plain }

    private let texts: SharedTexts
    private let limits: SheetLimits
    var rows: RowGatherer
    private(set) var failure: SheetError?

    private var row = 0
    private var column = -1
    private var kind = CellKind.number
    private var isCollecting = false
    private var isInPhonetics = false
    private var value: [UInt8] = []
    /// The cells of this row: their text in one piece, and where each column's stands in it.
    private var rowText: [UInt8] = []
    private var cells: [Range<Int>] = []

    init(_ texts: SharedTexts, limits: SheetLimits) {
        self.texts = texts
        self.limits = limits
        rows = RowGatherer(limits)
    }

    func began(_ name: XMLName, _ attributes: XMLAttributes) {
        if name == "c" {
            beginCell(attributes)
        } else if name == "v" {
            isCollecting = true
        } else if name == "t" {
            isCollecting = !isInPhonetics
        } else if name == "rPh" {
            isInPhonetics = true
        } else if name == "row" {
            row = attributes["r"].flatMap { Int($0) } ?? row + 1
            column = -1
            rowText.removeAll(keepingCapacity: true)
            cells.removeAll(keepingCapacity: true)
        }
    }

    private func beginCell(_ attributes: XMLAttributes) {
        column = attributes.bytes("r").flatMap(Self.column) ?? column + 1
        value.removeAll(keepingCapacity: true)
        kind = .number
        guard let type = attributes.bytes("t") else { return }
        switch UInt8(bitPattern: type[0]) {
        case UInt8(ascii: "s"): kind = type[1] == 0 ? .shared : .plain
        case UInt8(ascii: "n"): kind = .number
        default: kind = .plain
        }
    }

    func ended(_ name: XMLName) {
        if name == "c" {
            endCell()
        } else if name == "v" || name == "t" {
            isCollecting = false
        } else if name == "rPh" {
            isInPhonetics = false
        } else if name == "row" {
            endRow()
        }
    }

    func text(_ bytes: UnsafeBufferPointer<UInt8>) {
        if isCollecting {
            value.append(contentsOf: bytes.prefix(max(0, limits.fieldBytes + 1 - value.count)))
        }
    }

    private func endCell() {
        guard !value.isEmpty else { return }
        guard column < limits.columns else { return rows.note(.tooManyColumns) }
        // A row cannot grow without end by saying one cell again and again.
        guard rowText.count <= limits.rowBytes else { return rows.note(.rowTooLong) }
        let start = rowText.count
        switch kind {
        case .plain: rowText.append(contentsOf: value)
        case .number: appendPlainNumber(value, to: &rowText)
        case .shared:
            guard let number = Int(String(decoding: value, as: UTF8.self)) else { return }
            do { try texts.append(number, to: &rowText) } catch { failure = error }
        }
        while cells.count <= column { cells.append(0..<0) }
        cells[column] = start..<rowText.count
    }

    private func endRow() {
        rowText.withUnsafeBufferPointer { text in
            for cell in cells { rows.add(UnsafeBufferPointer(rebasing: text[cell])) }
        }
        rows.endRow(line: row)
    }

    /// `AB12` is the 28th column, counted from 0 here: 27. A column beyond Excel's own last stays beyond.
    private static func column(_ reference: UnsafePointer<CChar>) -> Int? {
        var column = 0
        var index = 0
        while true {
            let letter = UInt8(bitPattern: reference[index]) & 0xDF
            guard letter >= UInt8(ascii: "A"), letter <= UInt8(ascii: "Z") else { break }
            column = min(column * 26 + Int(letter - UInt8(ascii: "A")) + 1, 1 << 20)
            index += 1
        }
        return index == 0 ? nil : column - 1
    }
}

/// A number's digits as a person would write them: `7.9161234567E+10` is a phone number that Excel has
/// shortened. Done on the digits, since a floating-point number would invent some.
func appendPlainNumber(_ text: [UInt8], to result: inout [UInt8]) {
    var digits: [UInt8] = []
    var point: Int?
    var exponent = 0
    var isNegative = false
    var index = 0
    if index < text.count, text[index] == UInt8(ascii: "-") {
        isNegative = true
        index += 1
    }
    while index < text.count {
        let byte = text[index]
        if byte >= 0x30, byte <= 0x39 {
            digits.append(byte)
        } else if byte == UInt8(ascii: "."), point == nil {
            point = digits.count
        } else if byte | 0x20 == UInt8(ascii: "e"),
            let power = Int(String(decoding: text[(index + 1)...], as: UTF8.self)), abs(power) <= 400
        {
            exponent = power
            break
        } else {
            // No number after all: as it is.
            return result.append(contentsOf: text)
        }
        index += 1
    }
    let position = (point ?? digits.count) + exponent
    // Far too large or small for an id, and nobody's phone number.
    guard !digits.isEmpty, position > 0, position <= 40 else { return result.append(contentsOf: text) }
    if isNegative { result.append(UInt8(ascii: "-")) }
    if position >= digits.count {
        result.append(contentsOf: digits)
        result.append(contentsOf: repeatElement(0x30, count: position - digits.count))
        return
    }
    result.append(contentsOf: digits[..<position])
    var fraction = digits[position...]
    while fraction.last == 0x30 { fraction.removeLast() }
    if !fraction.isEmpty {
        result.append(UInt8(ascii: "."))
        result.append(contentsOf: fraction)
    }
}
