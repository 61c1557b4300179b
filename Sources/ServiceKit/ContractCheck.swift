public import Core
import HTTP

/// Holds what a service answers against what its contract promises: for tests, which send every answer they
/// get through it.
public struct ContractCheck: Sendable {
    private let contract: JSONValue

    public init(_ contract: JSONValue) { self.contract = contract }

    /// What every service may answer to any request, without each contract saying so again.
    private static let common: Set<Int> = [400, 401, 403, 404, 405, 413, 415, 503]

    /// In what an answer is not as promised; empty where all is well.
    public func breaches(
        _ method: String, _ path: String, status: Int, contentType: String?, body: [UInt8]
    ) -> [String] {
        let type = MediaType(contentType ?? "")
        if status >= 400, type.essence != "application/problem+json" {
            return ["a refusal is a problem, not \(type.essence)"]
        }
        guard let operation = operation(method, path) else {
            return [404, 405, 400, 401, 403].contains(status)
                ? problem(body) : ["\(method) \(path) is not described"]
        }
        guard let response = resolved(operation["responses"]?[String(status)]) else {
            return Self.common.contains(status) ? problem(body) : ["the status \(status) is not described"]
        }
        guard let content = response["content"]?.objectValue else {
            return body.isEmpty ? [] : ["an answer without content is described"]
        }
        guard let described = content.first(where: { $0.name == type.essence }) else {
            return ["the type \(type.essence) is not described"]
        }
        // Problems have further members, which depend on their code.
        if type.essence == "application/problem+json" { return problem(body) }
        guard type.isJSON else { return [] }
        guard let json = try? JSONValue(parsing: body) else { return ["the body is not JSON"] }
        return breaches(json, described.value["schema"], at: "")
    }

    /// In what a value is not what a schema describes. An object has no members but those described.
    func breaches(_ value: JSONValue, _ schema: JSONValue?, at path: String) -> [String] {
        guard let schema = resolved(schema) else { return ["\(path): the schema is missing"] }
        var breaches: [String] = []
        if let types = schema["type"]?.arrayValue ?? schema["type"].map({ [$0] }) {
            guard types.contains(where: { matches(value, $0.stringValue ?? "") }) else {
                return [
                    "\(path): \(value.text.prefix(60)) is not \(types.map(\.text).joined(separator: " or "))"
                ]
            }
        }
        if let known = schema["enum"]?.arrayValue, !known.contains(value) {
            breaches.append("\(path): \(value.text) is none of the listed values")
        }
        if schema["format"] == "date-time", let text = value.stringValue,
            !text.hasSuffix("Z") || Timestamp(text) == nil
        {
            breaches.append("\(path): \(text) is no time in UTC")
        }
        if case .array(let values) = value, let items = schema["items"] {
            for (index, value) in values.enumerated() {
                breaches += self.breaches(value, items, at: "\(path)[\(index)]")
            }
        }
        guard case .object(let members) = value else { return breaches }
        for name in (schema["required"]?.arrayValue ?? []).compactMap(\.stringValue) where value[name] == nil
        {
            breaches.append("\(path).\(name) is missing")
        }
        let properties = schema["properties"]
        for member in members {
            let place = "\(path).\(member.name)"
            if let described = properties?[member.name] {
                breaches += self.breaches(member.value, described, at: place)
            } else if let others = schema["additionalProperties"], others.boolValue == nil {
                breaches += self.breaches(member.value, others, at: place)
            } else if properties != nil, schema["additionalProperties"] != true {
                breaches.append("\(place) is not described")
            }
        }
        return breaches
    }

    /// Every reference within the contract that leads nowhere.
    public var danglingReferences: [String] {
        func search(_ value: JSONValue) -> [String] {
            switch value {
            case .array(let values): return values.flatMap(search)
            case .object(let members):
                if let reference = value["$ref"]?.stringValue, resolved(value) == nil { return [reference] }
                return members.flatMap { search($0.value) }
            default: return []
            }
        }
        return search(contract)
    }

    private func operation(_ method: String, _ path: String) -> JSONValue? {
        let parts = path.split(separator: "/")
        // A literal part is closer than a parameter.
        let candidates = (contract["paths"]?.objectValue ?? []).filter { member in
            let pattern = member.name.split(separator: "/")
            return pattern.count == parts.count
                && zip(pattern, parts).allSatisfy { $0.hasPrefix("{") || $0 == $1 }
        }
        let closest = candidates.min {
            $0.name.split(separator: "{").count < $1.name.split(separator: "{").count
        }
        return closest?.value[method == "HEAD" ? "get" : method.lowercased()]
    }

    private func resolved(_ value: JSONValue?) -> JSONValue? {
        guard let reference = value?["$ref"]?.stringValue else { return value }
        guard reference.hasPrefix("#/") else { return nil }
        var found: JSONValue? = contract
        for part in reference.dropFirst(2).split(separator: "/") { found = found?[String(part)] }
        return found
    }

    private func problem(_ body: [UInt8]) -> [String] {
        guard let json = try? JSONValue(parsing: body) else { return ["the problem is not JSON"] }
        return ["type", "title", "status", "detail", "code", "request_id"].filter { json[$0] == nil }
            .map { "a problem without \($0)" }
    }
}

private func matches(_ value: JSONValue, _ type: String) -> Bool {
    switch (type, value) {
    case ("object", .object), ("array", .array), ("string", .string), ("boolean", .bool), ("null", .null),
        ("integer", .int), ("number", .int), ("number", .double):
        true
    default: false
    }
}
