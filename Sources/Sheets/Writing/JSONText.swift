import Core

/// Objects in an array, or one a line. An empty cell is `null`.
struct JSONText {
    private var bytes: [UInt8] = []
    /// `"name":`, written once.
    private let names: [[UInt8]]
    private let isArray: Bool
    private var isFirst = true

    static let nothing = JSONText([], isArray: false)

    init(_ columns: [String], isArray: Bool) {
        names = columns.map { name in
            var bytes: [UInt8] = []
            JSONWriter.append(name, to: &bytes)
            return bytes + [UInt8(ascii: ":")]
        }
        self.isArray = isArray
        if isArray { bytes = [UInt8(ascii: "["), 0x0A] }
    }

    mutating func take() -> [UInt8] {
        defer {
            bytes = []
            bytes.reserveCapacity(64 << 10)
        }
        return bytes
    }

    mutating func append(_ row: [SheetValue]) {
        if isArray, !isFirst { bytes.append(contentsOf: [UInt8(ascii: ","), 0x0A]) }
        isFirst = false
        bytes.append(UInt8(ascii: "{"))
        for (index, name) in names.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            bytes.append(contentsOf: name)
            switch index < row.count ? row[index] : .empty {
            case .empty: bytes.append(contentsOf: "null".utf8)
            case .text(let text): JSONWriter.append(text, to: &bytes)
            case .number(let number): bytes.append(contentsOf: String(number).utf8)
            case .decimal(let number): JSONWriter.append(.double(number), to: &bytes)
            case .bool(let flag): bytes.append(contentsOf: (flag ? "true" : "false").utf8)
            case .json(let value): JSONWriter.append(value, to: &bytes)
            }
        }
        bytes.append(UInt8(ascii: "}"))
        if !isArray { bytes.append(0x0A) }
    }

    mutating func end() {
        if isArray { bytes.append(contentsOf: [0x0A, UInt8(ascii: "]"), 0x0A]) }
    }
}
