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
    let (left, right) = (left.utf8.span, right.utf8.span)
    guard left.count == right.count else { return false }
    for index in left.indices where left[index] != right[index] {
        let (a, b) = (left[index] | 0x20, right[index] | 0x20)
        guard a == b, a >= 0x61, a <= 0x7A else { return false }
    }
    return true
}

/// RFC 9110's `tchar`: what a method and a field's name are made of.
@inlinable public func isTokenByte(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
    // ! # $ % & ' * + - . ^ _ ` | ~
    case 0x21, 0x23...0x27, 0x2A, 0x2B, 0x2D, 0x2E, 0x5E...0x60, 0x7C, 0x7E: true
    default: false
    }
}

/// Whether a byte may stand in a field's value: visible, blank, tab, or part of another encoding. A line break
/// would begin another field.
@inlinable public func isValueByte(_ byte: UInt8) -> Bool { byte >= 0x20 ? byte != 0x7F : byte == 0x09 }

func trimmingBlanks(_ text: Substring) -> Substring {
    var text = text
    while let first = text.first, first == " " || first == "\t" { text.removeFirst() }
    while let last = text.last, last == " " || last == "\t" { text.removeLast() }
    return text
}
