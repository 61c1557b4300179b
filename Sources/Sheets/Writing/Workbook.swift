import CXLSXWriter
import Core

/// An Excel workbook through libxlsxwriter in its constant-memory mode: rows go to a scratch file as they
/// come, and everything is packed at the end. A list longer than a sheet goes on in the next.
final class Workbook {
    static let rowsPerSheet: UInt32 = 1_048_576
    /// Excel's own bound of a cell, in characters of UTF-16.
    static let longestText = 32_767

    private let columns: [String]
    private let folder: UnsafeMutablePointer<CChar>
    private let file: ScratchFile
    private var book: UnsafeMutablePointer<lxw_workbook>?
    private var sheet: UnsafeMutablePointer<lxw_worksheet>?
    private let rowsPerSheet: UInt32
    private var row: UInt32 = 0
    private var offset = 0
    private var scratch: [CChar] = []

    init(
        _ columns: [String], scratchFolder: String, rowsPerSheet: UInt32 = Workbook.rowsPerSheet
    ) throws(SheetError) {
        self.columns = columns
        self.rowsPerSheet = rowsPerSheet
        let file = try ScratchFile(in: scratchFolder)
        guard let folder = strdup(scratchFolder) else { throw .noScratchSpace(code: 0) }
        self.file = file
        self.folder = folder
        book = convoke_begin_workbook(file.path, folder)
        guard book != nil else { throw .noScratchSpace(code: 0) }
        try addSheet()
    }

    deinit {
        if let book { convoke_discard_workbook(book) }
        free(folder)
    }

    private func addSheet() throws(SheetError) {
        sheet = workbook_add_worksheet(book, nil)
        guard sheet != nil else { throw .noScratchSpace(code: 0) }
        row = 0
        worksheet_freeze_panes(sheet, 1, 0)
        try append(columns.map(SheetValue.text))
    }

    func append(_ values: [SheetValue]) throws(SheetError) {
        if row == rowsPerSheet { try addSheet() }
        for (index, value) in values.prefix(16_384).enumerated() {
            let column = UInt16(index)
            switch value {
            case .empty: continue
            case .text(let text): write(text, column)
            case .json(let value): write(value.text, column)
            case .bool(let flag): worksheet_write_boolean(sheet, row, column, flag ? 1 : 0, nil)
            case .decimal(let number) where number.isFinite:
                worksheet_write_number(sheet, row, column, number, nil)
            case .decimal(let number): write("\(number)", column)
            case .number(let number):
                // Excel counts in floating point and shows fifteen digits: a longer number stays a text.
                if abs(number) < 1_000_000_000_000_000 {
                    worksheet_write_number(sheet, row, column, Double(number), nil)
                } else {
                    write("\(number)", column)
                }
            }
        }
        row += 1
    }

    /// As a text, which no spreadsheet takes for a formula; without what XML cannot say.
    private func write(_ text: String, _ column: UInt16) {
        scratch.removeAll(keepingCapacity: true)
        var units = 0
        for scalar in text.unicodeScalars {
            units += scalar.value > 0xFFFF ? 2 : 1
            guard units <= Self.longestText else { break }
            switch scalar.value {
            case 9, 10, 13: scratch.append(CChar(scalar.value))
            case 0..<0x20, 0xFFFE, 0xFFFF: put("\u{FFFD}")
            case 0x20..<0x80: scratch.append(CChar(scalar.value))
            default: put(scalar)
            }
        }
        scratch.append(0)
        worksheet_write_string(sheet, row, column, scratch, nil)
    }

    private func put(_ scalar: Unicode.Scalar) {
        for byte in UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter {
            scratch.append(CChar(bitPattern: byte))
        }
    }

    /// Packs the workbook. It is done once.
    func end() throws(SheetError) {
        guard let book else { return }
        self.book = nil
        sheet = nil
        guard workbook_close(book) == LXW_NO_ERROR else { throw .noScratchSpace(code: 0) }
        file.measure()
    }

    /// The next bytes of what was packed; empty at the end.
    func next() throws(SheetError) -> [UInt8] {
        let bytes = try file.read(at: offset, upTo: 64 << 10)
        offset += bytes.count
        return bytes
    }
}
