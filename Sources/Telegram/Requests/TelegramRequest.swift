public import Core

/// A request as TDLib reads it. Made by the functions beside this file, one for each method, so that a field's
/// name stands in one place.
public struct TelegramRequest: Sendable, Equatable {
    public let method: TelegramMethod
    /// Without `@type` and `@extra`.
    public let fields: [JSONMember]

    init(_ method: TelegramMethod, _ fields: KeyValuePairs<String, JSONValue?> = [:]) {
        self.method = method
        self.fields = fields.compactMap { name, value in value.map { JSONMember(name, $0) } }
    }

    public func json(extra: JSONValue? = nil) -> JSONValue {
        var members = [JSONMember("@type", .string(method.rawValue))]
        members += fields
        if let extra { members.append(JSONMember("@extra", extra)) }
        return .object(members)
    }
}
