import Core

/// JSON: an array of objects, or an object on each line. Elements are cut out of the stream one by one, so
/// that an array may be as long as it likes.
final class JSONSource: RowSource {
    enum Shape: Equatable {
        /// The elements of one array, which begins behind `skip` bytes.
        case array(skip: Int)
        /// One value a line.
        case lines
        /// One value after the other, each over as many lines as it likes.
        case values

        /// By the first bytes of the text; `nil` where it is no JSON.
        init?(_ sample: [UInt8]) {
            guard let start = sample.firstIndex(where: { !isBlank($0) }) else { return nil }
            switch sample[start] {
            case UInt8(ascii: "["): self = .array(skip: start + 1)
            case UInt8(ascii: "{"):
                let line = sample[start...].prefix { $0 != 0x0A }
                if let inner = Self.wrappedArray(in: sample, from: start) {
                    self = .array(skip: inner)
                } else if (try? JSONValue(parsing: line)) != nil || sample.count == line.count + start {
                    self = .lines
                } else {
                    self = line.count > 1 ? .lines : .values
                }
            default: return nil
            }
        }

        private static let wrappers: Set<String> = [
            "items", "results", "result", "targets", "users", "members", "participants", "data", "contacts",
            "people", "list", "rows", "suppressions",
        ]

        /// Where the elements begin in `{"items": [{…`, as many programs wrap their lists.
        private static func wrappedArray(in sample: [UInt8], from start: Int) -> Int? {
            var index = start + 1
            func skipBlanks() { while index < sample.count, isBlank(sample[index]) { index += 1 } }
            skipBlanks()
            guard index < sample.count, sample[index] == UInt8(ascii: "\""),
                let quote = sample[(index + 1)...].firstIndex(of: UInt8(ascii: "\"")),
                wrappers.contains(String(decoding: sample[(index + 1)..<quote], as: UTF8.self))
            else { return nil }
            index = quote + 1
            for expected in [UInt8(ascii: ":"), UInt8(ascii: "[")] {
                skipBlanks()
                guard index < sample.count, sample[index] == expected else { return nil }
                index += 1
            }
            return index
        }
    }

    private var text: TextStream
    private let length: Int
    private let shape: Shape
    private let limits: SheetLimits
    private var toSkip: Int
    private var piece: [UInt8] = []
    private var index = 0
    private var line = 1

    private var value: [UInt8] = []
    private var valueLine = 1
    private var depth = 0
    private var isInText = false
    private var isEscaped = false
    private var isInValue = false
    private var isTooLong = false
    private var hasEnded = false

    private var columns: [String: Int] = [:]
    private(set) var names: [String]? = []
    var progress: Double { length == 0 ? 1 : Double(text.offset) / Double(length) }

    init(_ text: TextStream, length: Int, shape: Shape, limits: SheetLimits) {
        self.text = text
        self.length = length
        self.shape = shape
        self.limits = limits
        if case .array(let skip) = shape { toSkip = skip } else { toSkip = 0 }
    }

    func gather(into rows: inout RowGatherer) throws -> Bool {
        guard !hasEnded else { return false }
        while !rows.isFull {
            guard index < piece.count else {
                guard let next = try text.next() else {
                    try finish(&rows)
                    return true
                }
                piece = next
                index = 0
                continue
            }
            let byte = piece[index]
            index += 1
            if byte == 0x0A { line += 1 }
            if toSkip > 0 {
                toSkip -= 1
                continue
            }
            if shape == .lines {
                if byte == 0x0A { emit(&rows) } else { keep(byte) }
            } else {
                try step(byte, &rows)
                if hasEnded { return true }
            }
        }
        return true
    }

    private func finish(_ rows: inout RowGatherer) throws {
        hasEnded = true
        if case .array = shape { throw SheetError.endsEarly(line: line) }
        if shape == .values, isInValue, depth > 0 || isInText { throw SheetError.endsEarly(line: valueLine) }
        emit(&rows)
    }

    /// One byte of an array or of values behind each other.
    private func step(_ byte: UInt8, _ rows: inout RowGatherer) throws {
        if isInText {
            keep(byte)
            if isEscaped {
                isEscaped = false
            } else if byte == UInt8(ascii: "\\") {
                isEscaped = true
            } else if byte == UInt8(ascii: "\"") {
                isInText = false
            }
            return
        }
        switch byte {
        case UInt8(ascii: "\""):
            isInText = true
            keep(byte)
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            depth += 1
            keep(byte)
        case UInt8(ascii: "}"), UInt8(ascii: "]"):
            guard depth > 0 else {
                // The array's own end; what an outer object says behind it is not about people.
                guard case .array = shape, byte == UInt8(ascii: "]") else {
                    throw SheetError.brokenJSON(line: line)
                }
                emit(&rows)
                hasEnded = true
                return
            }
            depth -= 1
            keep(byte)
            if depth == 0 { emit(&rows) }
        case UInt8(ascii: ",") where depth == 0: emit(&rows)
        default:
            if depth > 0 || !isBlank(byte) { keep(byte) } else if isInValue { emit(&rows) }
        }
    }

    private func keep(_ byte: UInt8) {
        if !isInValue {
            if isBlank(byte) { return }
            isInValue = true
            valueLine = line
        }
        if value.count < limits.rowBytes { value.append(byte) } else { isTooLong = true }
    }

    private func emit(_ rows: inout RowGatherer) {
        guard isInValue else { return }
        defer {
            value.removeAll(keepingCapacity: true)
            isInValue = false
            isTooLong = false
        }
        if isTooLong {
            rows.note(.rowTooLong)
        } else if let parsed = try? JSONValue(parsing: value) {
            add(parsed, to: &rows)
        } else {
            rows.note(.brokenJSON)
            // What it said goes into the file of rejects.
            value.prefix(200).withUnsafeBufferPointer { rows.add($0) }
        }
        rows.endRow(line: valueLine)
    }

    private func add(_ element: JSONValue, to rows: inout RowGatherer) {
        var fields: [String] = []
        func put(_ text: String, under name: String) {
            guard !text.isEmpty else { return }
            guard let column = column(name) else { return rows.note(.tooManyColumns) }
            while fields.count <= column { fields.append("") }
            fields[column] = text
        }
        switch element {
        case .object(let members):
            for member in members {
                if case .object(let inner) = member.value {
                    for part in inner { put(Self.text(part.value), under: "\(member.name).\(part.name)") }
                } else {
                    put(Self.text(member.value), under: member.name)
                }
            }
        case .string, .int: put(Self.text(element), under: PeopleColumns.contactName)
        default:
            put(element.text, under: PeopleColumns.contactName)
            rows.note(.notARow)
        }
        for field in fields {
            var field = field
            field.withUTF8 { rows.add($0) }
        }
    }

    private func column(_ name: String) -> Int? {
        if let known = columns[name] { return known }
        guard columns.count < limits.columns, name.utf8.count <= 1024 else { return nil }
        columns[name] = columns.count
        names?.append(name)
        return columns.count - 1
    }

    /// Numbers as their digits: an id is no quantity.
    private static func text(_ value: JSONValue) -> String {
        switch value {
        case .null: ""
        case .string(let text): text
        case .int(let number): "\(number)"
        case .double(let number): Int64(exactly: number).map { "\($0)" } ?? "\(number)"
        default: value.text
        }
    }
}

func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 }
