import CSQLite

/// A prepared statement; finalized when it is released.
final class SQLiteStatement {
    let pointer: OpaquePointer
    let isReadOnly: Bool
    private(set) var names: ColumnNames
    /// Where SQLite keeps `$1`, `$2`, …: to it they are names, numbered in the order of their first use.
    private var positions: [Int32] = []
    private var isTruth: [Bool]
    private var preparations: Int32 = 0
    var used: UInt64 = 0

    init(_ pointer: OpaquePointer) {
        self.pointer = pointer
        isReadOnly = sqlite3_stmt_readonly(pointer) != 0
        names = ColumnNames([])
        isTruth = []
        readColumns()
    }

    /// After the first step: SQLite prepares a statement again by itself when the schema has changed.
    func followSchema() {
        let count = sqlite3_stmt_status(pointer, SQLITE_STMTSTATUS_REPREPARE, 0)
        guard count != preparations else { return }
        preparations = count
        readColumns()
    }

    private func readColumns() {
        let width = sqlite3_column_count(pointer)
        names = ColumnNames(
            (0..<width).map { index in
                sqlite3_column_name(pointer, index).map { String(cString: $0) } ?? ""
            })
        isTruth = (0..<width).map { index in
            guard let type = sqlite3_column_decltype(pointer, index) else { return false }
            return String(cString: type).uppercased().hasPrefix("BOOL")
        }
    }

    deinit { sqlite3_finalize(pointer) }

    func reset() {
        sqlite3_reset(pointer)
        sqlite3_clear_bindings(pointer)
    }

    /// Returns SQLite's code.
    func bind(_ arguments: [SQLValue]) throws -> Int32 {
        while positions.count < arguments.count {
            positions.append(sqlite3_bind_parameter_index(pointer, "$\(positions.count + 1)"))
        }
        for (index, value) in arguments.enumerated() {
            try value.checkStorable()
            let code = bind(value, at: positions[index])
            if code != SQLITE_OK { return code }
        }
        return SQLITE_OK
    }

    private func bind(_ value: SQLValue, at position: Int32) -> Int32 {
        // An argument the text does not use, such as one of a part that the dialect leaves out.
        guard position > 0 else { return SQLITE_OK }
        switch value {
        case .null: return sqlite3_bind_null(pointer, position)
        case .integer(let value): return sqlite3_bind_int64(pointer, position, value)
        case .double(let value): return sqlite3_bind_double(pointer, position, value)
        case .bool(let value): return sqlite3_bind_int64(pointer, position, value ? 1 : 0)
        case .text(let value):
            var value = value
            return value.withUTF8 { bytes in
                guard let start = bytes.baseAddress else {
                    return convoke_bind_text(pointer, position, "", 0)
                }
                return start.withMemoryRebound(to: CChar.self, capacity: bytes.count) {
                    convoke_bind_text(pointer, position, $0, Int32(clamping: bytes.count))
                }
            }
        case .bytes(let value):
            return value.withUnsafeBytes {
                convoke_bind_blob(pointer, position, $0.baseAddress, Int32(clamping: $0.count))
            }
        }
    }

    func appendRow(to values: inout [SQLValue]) {
        for index in 0..<Int32(names.count) { values.append(column(index)) }
    }

    private func column(_ index: Int32) -> SQLValue {
        switch sqlite3_column_type(pointer, index) {
        case SQLITE_INTEGER:
            let value = sqlite3_column_int64(pointer, index)
            return isTruth[Int(index)] && (value == 0 || value == 1) ? .bool(value == 1) : .integer(value)
        case SQLITE_FLOAT: return .double(sqlite3_column_double(pointer, index))
        case SQLITE_TEXT:
            guard let start = sqlite3_column_text(pointer, index) else { return .text("") }
            let count = Int(sqlite3_column_bytes(pointer, index))
            return .text(String(decoding: UnsafeBufferPointer(start: start, count: count), as: UTF8.self))
        case SQLITE_BLOB:
            guard let start = sqlite3_column_blob(pointer, index) else { return .bytes([]) }
            let count = Int(sqlite3_column_bytes(pointer, index))
            return .bytes(Array(UnsafeRawBufferPointer(start: start, count: count)))
        default: return .null
        }
    }
}
