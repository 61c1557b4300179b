public import Core

/// What a statement gave back: its rows, and how many it changed.
public struct Rows: RandomAccessCollection, Sendable {
    let names: ColumnNames
    let values: [SQLValue]
    public let count: Int
    /// Rows that an INSERT, UPDATE or DELETE has touched; for a SELECT the rows it gave.
    public let affected: Int

    init(names: ColumnNames, values: [SQLValue], count: Int, affected: Int) {
        self.names = names
        self.values = values
        self.count = count
        self.affected = affected
    }

    static let none = Rows(names: ColumnNames([]), values: [], count: 0, affected: 0)

    public var startIndex: Int { 0 }
    public var endIndex: Int { count }
    public subscript(position: Int) -> Row {
        precondition(position >= 0 && position < count, "there is no such row")
        return Row(names: names, values: values, start: position * names.count)
    }
}

/// One row of a result. Columns are read by name, in the type the caller says.
public struct Row: Sendable {
    let names: ColumnNames
    let values: [SQLValue]
    let start: Int

    public subscript(name: String) -> SQLValue? { names.index(of: name).map { values[start + $0] } }

    /// By position, for a result of one column such as `SELECT count(*)`.
    public subscript(column index: Int) -> SQLValue? {
        index >= 0 && index < names.count ? values[start + index] : nil
    }

    public var columns: [String] { names.names }
}

/// The column names of a result, shared by its rows.
final class ColumnNames: Sendable {
    let names: [String]
    init(_ names: [String]) { self.names = names }
    var count: Int { names.count }
    func index(of name: String) -> Int? { names.firstIndex(of: name) }
}

/// Reading: the plain form throws `unexpectedColumn` when the column is absent, null or of another type; the
/// `optional` form gives `nil` for null alone.
extension Row {
    public func int(_ name: String) throws -> Int { try read(name, optionalInt(name)) }
    public func int64(_ name: String) throws -> Int64 { try read(name, optionalInt64(name)) }
    public func double(_ name: String) throws -> Double { try read(name, optionalDouble(name)) }
    public func text(_ name: String) throws -> String { try read(name, optionalText(name)) }
    public func bool(_ name: String) throws -> Bool { try read(name, optionalBool(name)) }
    public func bytes(_ name: String) throws -> [UInt8] { try read(name, optionalBytes(name)) }
    public func timestamp(_ name: String) throws -> Timestamp { try read(name, optionalTimestamp(name)) }
    public func uuid(_ name: String) throws -> UniqueID { try read(name, optionalUUID(name)) }
    public func json(_ name: String) throws -> JSONValue { try read(name, optionalJSON(name)) }

    public func optionalInt(_ name: String) throws -> Int? { try optionalInt64(name).map { Int($0) } }

    public func optionalInt64(_ name: String) throws -> Int64? {
        switch try value(name) {
        case .null: nil
        case .integer(let value): value
        case .bool(let value): value ? 1 : 0
        case .double(let value): try Int64(exactly: value).orThrow(unexpected(name))
        default: throw unexpected(name)
        }
    }

    public func optionalDouble(_ name: String) throws -> Double? {
        switch try value(name) {
        case .null: nil
        case .double(let value): value
        case .integer(let value): Double(value)
        default: throw unexpected(name)
        }
    }

    public func optionalText(_ name: String) throws -> String? {
        switch try value(name) {
        case .null: nil
        case .text(let value): value
        default: throw unexpected(name)
        }
    }

    /// SQLite has no truth of its own: 0 and 1 count.
    public func optionalBool(_ name: String) throws -> Bool? {
        switch try value(name) {
        case .null: nil
        case .bool(let value): value
        case .integer(0): false
        case .integer(1): true
        default: throw unexpected(name)
        }
    }

    public func optionalBytes(_ name: String) throws -> [UInt8]? {
        switch try value(name) {
        case .null: nil
        case .bytes(let value): value
        default: throw unexpected(name)
        }
    }

    public func optionalTimestamp(_ name: String) throws -> Timestamp? {
        try optionalInt64(name).map(Timestamp.init(milliseconds:))
    }

    public func optionalUUID(_ name: String) throws -> UniqueID? {
        try optionalText(name).map { try UniqueID($0).orThrow(unexpected(name)) }
    }

    public func optionalJSON(_ name: String) throws -> JSONValue? {
        guard let text = try optionalText(name) else { return nil }
        do { return try JSONValue(parsing: text) } catch { throw unexpected(name) }
    }

    private func value(_ name: String) throws -> SQLValue {
        guard let value = self[name] else {
            throw StorageError.unexpectedColumn("\(name) is not in the result")
        }
        return value
    }

    private func read<Value>(_ name: String, _ value: Value?) throws -> Value {
        guard let value else { throw StorageError.unexpectedColumn("\(name) is null") }
        return value
    }

    private func unexpected(_ name: String) -> StorageError {
        .unexpectedColumn("\(name) holds another type than was asked for")
    }
}

extension Optional {
    fileprivate func orThrow(_ error: StorageError) throws -> Wrapped {
        guard let self else { throw error }
        return self
    }
}
