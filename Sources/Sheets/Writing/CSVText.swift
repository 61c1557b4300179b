import Core

/// Rows as RFC 4180 has them, for Excel and for programs.
struct CSVText {
    private var bytes: [UInt8]

    static let nothing = CSVText(bytes: [])
    private init(bytes: [UInt8]) { self.bytes = bytes }

    init(_ columns: [String]) {
        // Without the mark Excel takes the file for windows-1251.
        bytes = [0xEF, 0xBB, 0xBF]
        append(columns.map(SheetValue.text))
    }

    mutating func take() -> [UInt8] {
        defer {
            bytes = []
            bytes.reserveCapacity(64 << 10)
        }
        return bytes
    }

    mutating func append(_ row: [SheetValue]) {
        for (index, value) in row.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            switch value {
            case .empty: break
            case .text(let text): append(text)
            case .number(let number): bytes.append(contentsOf: String(number).utf8)
            case .decimal(let number): bytes.append(contentsOf: String(number).utf8)
            case .bool(let flag): bytes.append(contentsOf: (flag ? "true" : "false").utf8)
            case .json(let value): append(value.text)
            }
        }
        bytes.append(0x0D)
        bytes.append(0x0A)
    }

    private mutating func append(_ text: String) {
        var text = text
        text.withUTF8 { field in
            let needsQuotes = field.contains {
                $0 == UInt8(ascii: ",") || $0 == UInt8(ascii: "\"") || $0 == 0x0A || $0 == 0x0D
                    || $0 == UInt8(ascii: ";") || $0 == 0x09
            }
            // Programs cut blanks at the edges off where no quotes keep them.
            let hasEdges = field.first == 0x20 || field.last == 0x20
            if needsQuotes || hasEdges { bytes.append(UInt8(ascii: "\"")) }
            if isRisky(field) { bytes.append(UInt8(ascii: "'")) }
            if needsQuotes || field.contains(0) {
                for byte in field {
                    if byte == UInt8(ascii: "\"") { bytes.append(byte) }
                    // To many readers a zero is the end of the file.
                    if byte == 0 {
                        bytes.append(contentsOf: UTF8.encodedReplacementCharacter)
                    } else {
                        bytes.append(byte)
                    }
                }
            } else {
                bytes.append(contentsOf: field)
            }
            if needsQuotes || hasEdges { bytes.append(UInt8(ascii: "\"")) }
        }
    }

    /// Whether a spreadsheet would take the text for a formula: `=1+1`, `+7…`, `@SUM(…)`, also behind blanks.
    /// So is one that begins with our own mark, or reading could not tell which apostrophes are ours.
    private func isRisky(_ field: UnsafeBufferPointer<UInt8>) -> Bool {
        guard let first = field.first(where: { $0 != 0x20 && $0 != UInt8(ascii: "'") }) else { return false }
        if isFormulaStart(first) { return true }
        // The wide forms of East Asian keyboards, which Excel reads as the narrow ones.
        guard first == 0xEF else { return false }
        return field.starts(with: [0xEF, 0xBC, 0x9D]) || field.starts(with: [0xEF, 0xBC, 0x8B])
            || field.starts(with: [0xEF, 0xBC, 0x8D]) || field.starts(with: [0xEF, 0xBC, 0xA0])
    }
}
