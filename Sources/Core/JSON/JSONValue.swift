/// Any JSON, exact: whole numbers stay `Int64`, members keep their order.
///
/// One form for requests, answers, stored details and Telegram's interface. Members are searched one by one,
/// so no choice of keys from outside can make a lookup table degenerate.
public enum JSONValue: Sendable, Equatable {
    case null
    case bool(Bool)
    case int(Int64)
    case double(Double)
    case string(String)
    case array([JSONValue])
    case object([JSONMember])

    /// A member by name; the last one wins where a name stands twice.
    public subscript(name: String) -> JSONValue? {
        guard case .object(let members) = self else { return nil }
        return members.last { $0.name == name }?.value
    }

    public subscript(index: Int) -> JSONValue? {
        guard case .array(let values) = self, values.indices.contains(index) else { return nil }
        return values[index]
    }

    public var stringValue: String? {
        if case .string(let value) = self { value } else { nil }
    }
    public var intValue: Int64? {
        switch self {
        case .int(let value): value
        case .double(let value): Int64(exactly: value)
        default: nil
        }
    }
    public var doubleValue: Double? {
        switch self {
        case .int(let value): Double(value)
        case .double(let value): value
        default: nil
        }
    }
    public var boolValue: Bool? {
        if case .bool(let value) = self { value } else { nil }
    }
    public var arrayValue: [JSONValue]? {
        if case .array(let values) = self { values } else { nil }
    }
    public var objectValue: [JSONMember]? {
        if case .object(let members) = self { members } else { nil }
    }
    public var isNull: Bool { self == .null }

    /// An object of the members that have a value: an absent optional leaves no trace.
    public static func object(present members: KeyValuePairs<String, JSONValue?>) -> JSONValue {
        .object(members.compactMap { name, value in value.map { JSONMember(name, $0) } })
    }
}

public struct JSONMember: Sendable, Equatable {
    public let name: String
    public let value: JSONValue
    public init(_ name: String, _ value: JSONValue) {
        self.name = name
        self.value = value
    }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByStringInterpolation,
    ExpressibleByIntegerLiteral,
    ExpressibleByFloatLiteral, ExpressibleByBooleanLiteral, ExpressibleByNilLiteral,
    ExpressibleByArrayLiteral,
    ExpressibleByDictionaryLiteral
{
    public init(stringLiteral value: String) { self = .string(value) }
    public init(integerLiteral value: Int64) { self = .int(value) }
    public init(floatLiteral value: Double) { self = .double(value) }
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(nilLiteral: ()) { self = .null }
    public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
    public init(dictionaryLiteral elements: (String, JSONValue)...) {
        self = .object(elements.map { JSONMember($0.0, $0.1) })
    }
}

/// What can be written as JSON.
public protocol JSONEncodable: Sendable {
    var json: JSONValue { get }
}

/// What can be read from a JSON object, saying all that is wrong with it at once.
public protocol JSONDecodable: Sendable {
    init(from fields: inout Fields)
}

extension JSONValue: JSONEncodable {
    public var json: JSONValue { self }
    public init(_ value: String?) { self = value.map(JSONValue.string) ?? .null }
    public init(_ value: Timestamp?) { self = value.map { .string($0.description) } ?? .null }
    public init(_ value: (some BinaryInteger)?) { self = value.map { .int(Int64(clamping: $0)) } ?? .null }
    public init(_ values: [some JSONEncodable]) { self = .array(values.map(\.json)) }
}

extension String: JSONEncodable { public var json: JSONValue { .string(self) } }
extension Bool: JSONEncodable { public var json: JSONValue { .bool(self) } }
extension Int: JSONEncodable { public var json: JSONValue { .int(Int64(self)) } }
extension Int64: JSONEncodable { public var json: JSONValue { .int(self) } }
extension Double: JSONEncodable { public var json: JSONValue { .double(self) } }
extension Timestamp: JSONEncodable { public var json: JSONValue { .string(description) } }
