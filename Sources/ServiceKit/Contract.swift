public import Core

extension JSONValue {
    /// The contract as it is served, from the file that people read.
    static func contract(_ yaml: [UInt8]) throws -> JSONValue {
        try parseYAML(String(decoding: yaml, as: UTF8.self))
    }

    /// `GET /tasks/{id}` for every operation a contract describes, sorted.
    public var operations: [String] {
        let methods = ["get", "put", "post", "delete", "patch", "head", "options"]
        return (self["paths"]?.objectValue ?? []).flatMap { path in
            (path.value.objectValue ?? []).filter { methods.contains($0.name) }
                .map { "\($0.name.uppercased()) \(path.name)" }
        }.sorted()
    }
}
