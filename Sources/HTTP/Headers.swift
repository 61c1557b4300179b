/// Header fields in their order; names compare without regard to case.
public struct Headers: Sendable, Equatable, ExpressibleByDictionaryLiteral, Sequence {
    public struct Field: Sendable, Equatable {
        public let name: String
        public let value: String

        public init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }
    public private(set) var fields: [Field]

    public init() { fields = [] }
    public init(dictionaryLiteral elements: (String, String)...) {
        fields = elements.map { Field(name: $0.0, value: $0.1) }
    }

    /// The first value of a field. Setting replaces all of them.
    public subscript(name: String) -> String? {
        get { fields.first { sameName($0.name, name) }?.value }
        set {
            if fields.contains(where: { sameName($0.name, name) }) {
                fields.removeAll { sameName($0.name, name) }
            }
            if let newValue { fields.append(Field(name: name, value: newValue)) }
        }
    }

    public func all(_ name: String) -> [String] {
        fields.filter { sameName($0.name, name) }.map(\.value)
    }

    public mutating func add(_ name: String, _ value: String) {
        fields.append(Field(name: name, value: value))
    }
    public mutating func add(_ field: Field) { fields.append(field) }

    /// Sets several at once, each in place of all of its name.
    public mutating func set(_ new: [Field]) {
        fields.removeAll { field in new.contains { sameName($0.name, field.name) } }
        fields += new
    }

    public mutating func removeAll(where matches: (Field) -> Bool) { fields.removeAll(where: matches) }
    public mutating func reserveCapacity(_ count: Int) { fields.reserveCapacity(count) }

    public var count: Int { fields.count }
    public func makeIterator() -> IndexingIterator<[Field]> { fields.makeIterator() }

    /// Whether a comma-separated field such as `Connection` or `Accept-Encoding` names `token`.
    public func lists(_ token: String, in name: String) -> Bool {
        all(name).contains { value in
            value.split(separator: ",").contains { part in
                sameName(String(trimmingBlanks(part.prefix { $0 != ";" })), token)
            }
        }
    }
}

/// Whether two header names or tokens are the same, as HTTP compares them: ASCII case does not count.
public func sameName(_ left: String, _ right: String) -> Bool {
    let (left, right) = (left.utf8, right.utf8)
    guard left.count == right.count else { return false }
    for (a, b) in zip(left, right) where a != b {
        guard a | 0x20 == b | 0x20, (a | 0x20) >= 0x61, (a | 0x20) <= 0x7A else { return false }
    }
    return true
}

func trimmingBlanks(_ text: Substring) -> Substring {
    var text = text
    while let first = text.first, first == " " || first == "\t" { text.removeFirst() }
    while let last = text.last, last == " " || last == "\t" { text.removeLast() }
    return text
}
