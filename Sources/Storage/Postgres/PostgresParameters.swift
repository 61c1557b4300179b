import CPostgres

#if canImport(Glibc)
    import Glibc
#endif

extension SQLValue {
    /// Neither engine keeps these faithfully: PostgreSQL's text ends at a null byte, SQLite makes NULL of a
    /// number that is none.
    func checkStorable() throws {
        switch self {
        case .text(let text):
            var text = text
            let hasNull = text.withUTF8 { bytes in
                guard let start = bytes.baseAddress else { return false }
                return memchr(start, 0, bytes.count) != nil
            }
            if hasNull { throw StorageError.unsupportedValue(reason: "text holds a null byte") }
        case .double(let value):
            if value.isNaN { throw StorageError.unsupportedValue(reason: "a number is not a number") }
        default: break
        }
    }
}

/// Lays the arguments out as libpq wants them, in one piece of memory: text as C strings, BYTEA as it is.
func withParameters<Result>(
    _ arguments: [SQLValue],
    _ body: (Int32, UnsafePointer<UnsafePointer<CChar>?>?, UnsafePointer<Int32>?, UnsafePointer<Int32>?) ->
        Result
) -> Result {
    guard !arguments.isEmpty else { return body(0, nil, nil, nil) }
    var bytes: [UInt8] = []
    var starts: [Int] = []
    var lengths: [Int32] = []
    var formats: [Int32] = []
    for argument in arguments {
        starts.append(bytes.count)
        formats.append(0)
        switch argument {
        case .null: starts[starts.count - 1] = -1
        case .integer(let value): appendDecimal(value, to: &bytes)
        case .double(let value): bytes.append(contentsOf: postgresText(value).utf8)
        case .text(let value): bytes.append(contentsOf: value.utf8)
        case .bool(let value): bytes.append(UInt8(ascii: value ? "t" : "f"))
        case .bytes(let value):
            bytes.append(contentsOf: value)
            formats[formats.count - 1] = 1
        }
        lengths.append(
            Int32(clamping: starts[starts.count - 1] < 0 ? 0 : bytes.count - starts[starts.count - 1]))
        bytes.append(0)
    }
    return bytes.withUnsafeBytes { buffer in
        let base = buffer.baseAddress?.assumingMemoryBound(to: CChar.self)
        let values: [UnsafePointer<CChar>?] = starts.map { start in start < 0 ? nil : base.map { $0 + start }
        }
        return values.withUnsafeBufferPointer { values in
            body(Int32(arguments.count), values.baseAddress, lengths, formats)
        }
    }
}

func postgresText(_ value: Double) -> String {
    value.isInfinite ? (value < 0 ? "-Infinity" : "Infinity") : value.description
}

func appendDecimal(_ value: Int64, to bytes: inout [UInt8]) {
    var magnitude = value.magnitude
    var digits: (UInt64, UInt64, UInt64) = (0, 0, 0)
    withUnsafeMutableBytes(of: &digits) { buffer in
        var index = 24
        repeat {
            index -= 1
            buffer[index] = UInt8(truncatingIfNeeded: 0x30 + magnitude % 10)
            magnitude /= 10
        } while magnitude > 0
        if value < 0 {
            index -= 1
            buffer[index] = UInt8(ascii: "-")
        }
        bytes.append(contentsOf: buffer[index...])
    }
}

/// An array of C strings that ends with a null pointer.
func withCStrings<Result>(
    _ strings: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> Result
) -> Result {
    var bytes: [CChar] = []
    var starts: [Int] = []
    for string in strings {
        starts.append(bytes.count)
        bytes.append(contentsOf: string.utf8.map { CChar(bitPattern: $0) } + [0])
    }
    return bytes.withUnsafeBufferPointer { buffer in
        let pointers = starts.map { start in buffer.baseAddress.map { $0 + start } } + [nil]
        return pointers.withUnsafeBufferPointer { pointers in
            guard let base = pointers.baseAddress else {
                preconditionFailure("an array with a null has an address")
            }
            return body(base)
        }
    }
}
