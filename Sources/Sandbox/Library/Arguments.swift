import Core

/// A request's fields, read as TDLib reads them: what is missing or null is the default, and what is of a wrong
/// type is refused in TDLib's words.
struct Arguments {
    let json: JSONValue

    private func refusal(_ text: String) -> Refusal {
        Refusal(400, "Failed to parse JSON object as TDLib request: \(text)")
    }

    private func value(_ name: String) -> JSONValue? {
        guard let value = json[name], !value.isNull else { return nil }
        return value
    }

    func int(_ name: String) throws(Refusal) -> Int64 {
        switch value(name) {
        case nil: return 0
        case .int(let number)?: return number
        case .string(let text)?:
            guard let number = Int64(text) else {
                throw refusal("Can't parse as an integer string \"\(text)\"")
            }
            return number
        case .double(let number)?: throw refusal("Can't parse as an integer string \"\(number)\"")
        case let other?: throw refusal("Expected String or Number, but receive \(other.kindWord)")
        }
    }

    func text(_ name: String) throws(Refusal) -> String {
        switch value(name) {
        case nil: return ""
        case .string(let text)?: return text
        case let other?: throw refusal("Expected String, but receive \(other.kindWord)")
        }
    }

    func flag(_ name: String) throws(Refusal) -> Bool {
        switch value(name) {
        case nil: return false
        case .bool(let flag)?: return flag
        case .int(let number)?: return number != 0
        case .string(let text)? where Int64(text) != nil: return Int64(text) != 0
        case let other?: throw refusal("Expected Boolean, but receive \(other.kindWord)")
        }
    }

    func object(_ name: String) throws(Refusal) -> Arguments? {
        switch value(name) {
        case nil: return nil
        case let object? where object.objectValue != nil: return Arguments(json: object)
        case let other?: throw refusal("Expected Object, but receive \(other.kindWord)")
        }
    }

    func list(_ name: String) throws(Refusal) -> [JSONValue] {
        switch value(name) {
        case nil: return []
        case .array(let values)?: return values
        case let other?: throw refusal("Expected Array, but receive \(other.kindWord)")
        }
    }

    func ids(_ name: String) throws(Refusal) -> [Int64] {
        var result: [Int64] = []
        for element in try list(name) {
            result.append(try Arguments(json: .object([JSONMember("x", element)])).int("x"))
        }
        return result
    }

    var type: String { json["@type"]?.stringValue ?? "" }
}

extension JSONValue {
    fileprivate var kindWord: String {
        switch self {
        case .null: "Null"
        case .bool: "Boolean"
        case .int, .double: "Number"
        case .string: "String"
        case .array: "Array"
        case .object: "Object"
        }
    }

    static let ok: JSONValue = ["@type": "ok"]
}
