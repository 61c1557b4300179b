import CPostgres

/// Owns a PGresult for one scope: it cannot be copied, and is freed on every way out, thrown or not.
struct PostgresResult: ~Copyable {
    let pointer: OpaquePointer?

    init(_ pointer: OpaquePointer?) { self.pointer = pointer }
    deinit { PQclear(pointer) }

    var status: ExecStatusType { PQresultStatus(pointer) }

    func field(_ code: Int32) -> String? { PQresultErrorField(pointer, code).map { String(cString: $0) } }

    var commandTag: String { PQcmdStatus(pointer).map { String(cString: $0) } ?? "" }

    /// Copies the rows out.
    func rows() -> Rows {
        let (height, width) = (Int(PQntuples(pointer)), Int(PQnfields(pointer)))
        let affected = PQcmdTuples(pointer).flatMap { Int(String(cString: $0)) } ?? height
        guard width > 0 else { return Rows(names: ColumnNames([]), values: [], count: 0, affected: affected) }
        let names = (0..<width).map { PQfname(pointer, Int32($0)).map { String(cString: $0) } ?? "" }
        let types = (0..<width).map { PQftype(pointer, Int32($0)) }
        var values: [SQLValue] = []
        values.reserveCapacity(height * width)
        for row in 0..<Int32(height) {
            for column in 0..<width { values.append(value(row, Int32(column), types[column])) }
        }
        return Rows(names: ColumnNames(names), values: values, count: height, affected: affected)
    }

    private func value(_ row: Int32, _ column: Int32, _ type: Oid) -> SQLValue {
        guard PQgetisnull(pointer, row, column) == 0, let start = PQgetvalue(pointer, row, column) else {
            return .null
        }
        let bytes = UnsafeRawBufferPointer(start: start, count: Int(PQgetlength(pointer, row, column)))
        switch type {
        case 16: return .bool(bytes.first == UInt8(ascii: "t"))
        case 20, 21, 23, 26: return integer(bytes).map(SQLValue.integer) ?? text(bytes)
        case 700, 701: return double(bytes).map(SQLValue.double) ?? text(bytes)
        case 1700:
            // What `sum` makes of BIGINT: whole where it fits, as SQLite has it.
            return integer(bytes).map(SQLValue.integer) ?? double(bytes).map(SQLValue.double) ?? text(bytes)
        case 17: return unescaped(bytes).map(SQLValue.bytes) ?? text(bytes)
        default: return text(bytes)
        }
    }
}

private func text(_ bytes: UnsafeRawBufferPointer) -> SQLValue {
    .text(String(decoding: bytes, as: UTF8.self))
}

private func double(_ bytes: UnsafeRawBufferPointer) -> Double? {
    Double(String(decoding: bytes, as: UTF8.self))
}

private func integer(_ bytes: UnsafeRawBufferPointer) -> Int64? {
    var digits = bytes[...]
    let isNegative = digits.first == UInt8(ascii: "-")
    if isNegative { digits = digits.dropFirst() }
    guard !digits.isEmpty else { return nil }
    var value: Int64 = 0
    for byte in digits {
        guard byte >= 0x30, byte <= 0x39 else { return nil }
        let (product, tooLarge) = value.multipliedReportingOverflow(by: 10)
        // Downwards, because the smallest number has no positive twin.
        let (sum, tooSmall) = product.subtractingReportingOverflow(Int64(byte - 0x30))
        guard !tooLarge, !tooSmall else { return nil }
        value = sum
    }
    guard !isNegative else { return value }
    return value == .min ? nil : -value
}

/// `\x0aff`, how the server writes BYTEA.
private func unescaped(_ bytes: UnsafeRawBufferPointer) -> [UInt8]? {
    guard bytes.count >= 2, bytes.count % 2 == 0, bytes[0] == UInt8(ascii: "\\"),
        bytes[1] == UInt8(ascii: "x")
    else { return nil }
    var result: [UInt8] = []
    result.reserveCapacity(bytes.count / 2 - 1)
    for index in stride(from: 2, to: bytes.count, by: 2) {
        guard let high = hexDigit(bytes[index]), let low = hexDigit(bytes[index + 1]) else { return nil }
        result.append(high << 4 | low)
    }
    return result
}
