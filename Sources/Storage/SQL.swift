public import Core

/// A value as it goes to the database and comes back.
public enum SQLValue: Sendable, Equatable {
    case null
    case integer(Int64)
    case double(Double)
    case text(String)
    case bytes([UInt8])
    case bool(Bool)
}

/// What an interpolation may bind.
public protocol SQLConvertible: Sendable {
    var sqlValue: SQLValue { get }
}

/// A statement and its arguments. Interpolation binds: what comes from outside can never become SQL text.
///
/// ```swift
/// try await database.run("SELECT id FROM account WHERE owner = \(owner) AND free_at <= \(now)")
/// ```
public struct SQL: ExpressibleByStringInterpolation, Sendable {
    public private(set) var text: String
    public private(set) var arguments: [SQLValue]

    public init(stringLiteral value: StaticString) {
        text = value.description
        arguments = []
    }

    /// For statements the library itself puts together.
    init(text: String, arguments: [SQLValue] = []) {
        self.text = text
        self.arguments = arguments
    }

    public init(stringInterpolation: StringInterpolation) {
        text = stringInterpolation.text
        arguments = stringInterpolation.arguments
    }

    public struct StringInterpolation: StringInterpolationProtocol {
        var text = ""
        var arguments: [SQLValue] = []

        public init(literalCapacity: Int, interpolationCount: Int) {
            text.reserveCapacity(literalCapacity + interpolationCount * 3)
        }

        public mutating func appendLiteral(_ literal: StaticString) { text += literal.description }

        public mutating func appendInterpolation(_ value: some SQLConvertible) {
            arguments.append(value.sqlValue)
            text += "$\(arguments.count)"
        }

        public mutating func appendInterpolation(_ value: (some SQLConvertible)?) {
            arguments.append(value?.sqlValue ?? .null)
            text += "$\(arguments.count)"
        }

        /// Text of ours, known when we compile: what a user sends cannot become a `StaticString`.
        public mutating func appendInterpolation(raw: StaticString) { text += raw.description }

        /// A part of a statement, with its arguments renumbered behind ours.
        public mutating func appendInterpolation(_ part: SQL) {
            let before = arguments.count
            arguments.append(contentsOf: part.arguments)
            guard before > 0, !part.arguments.isEmpty else { return text += part.text }
            // By bytes: a statement is put together for every call, and going by characters costs as much as
            // sending it.
            var rest = part.text.utf8[...]
            while let mark = rest.firstIndex(of: UInt8(ascii: "$")) {
                var end = rest.index(after: mark)
                text += Substring(rest[..<end])
                var number = 0
                while end < rest.endIndex, (0x30...0x39).contains(rest[end]) {
                    number = number * 10 + Int(rest[end] - 0x30)
                    end = rest.index(after: end)
                }
                if number > 0 { text += String(before + number) }
                rest = rest[end...]
            }
            text += Substring(rest)
        }

        /// `($1, $2, $3)` for `IN`; an empty list becomes `(NULL)`, which nothing equals.
        public mutating func appendInterpolation(list values: [some SQLConvertible]) {
            guard !values.isEmpty else { return text += "(NULL)" }
            text += "("
            for (index, value) in values.enumerated() {
                if index > 0 { text += ", " }
                appendInterpolation(value)
            }
            text += ")"
        }
    }
}

extension SQLValue: SQLConvertible { public var sqlValue: SQLValue { self } }
extension String: SQLConvertible { public var sqlValue: SQLValue { .text(self) } }
extension Int: SQLConvertible { public var sqlValue: SQLValue { .integer(Int64(self)) } }
extension Int64: SQLConvertible { public var sqlValue: SQLValue { .integer(self) } }
extension Double: SQLConvertible { public var sqlValue: SQLValue { .double(self) } }
extension Bool: SQLConvertible { public var sqlValue: SQLValue { .bool(self) } }
extension [UInt8]: SQLConvertible { public var sqlValue: SQLValue { .bytes(self) } }
/// `BIGINT` milliseconds: a test owns time in SQL as well.
extension Timestamp: SQLConvertible { public var sqlValue: SQLValue { .integer(milliseconds) } }
/// `JSONB` or text.
extension JSONValue: SQLConvertible { public var sqlValue: SQLValue { .text(text) } }
