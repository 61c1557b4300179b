/// One thing that is wrong with what a client sent.
public struct FieldError: Error, Equatable, Sendable {
    /// `targets[3].username`
    public let field: String
    /// A word for programs, such as `missing` or `out_of_range`.
    public let code: String
    public let message: LocalizedText

    public init(_ field: String, _ code: String, _ message: LocalizedText) {
        self.field = field
        self.code = code
        self.message = message
    }
}

/// All that is wrong with what a client sent.
public struct ValidationError: Error, Equatable, Sendable {
    public let errors: [FieldError]
    public init(_ errors: [FieldError]) { self.errors = errors }
}

/// Reads the fields of a JSON object and gathers every mistake, so that a client hears of all at once.
///
/// A reading method returns a harmless stand-in where the field is wrong; the value made of such stand-ins
/// is never seen, because `decode` throws.
public struct Fields {
    /// More mistakes than a person reads; without a bound a request of a megabyte could ask for an answer of
    /// a hundred.
    public static let mostErrors = 100

    private let value: JSONValue
    private let path: String
    public private(set) var errors: [FieldError] = []

    public init(_ value: JSONValue, path: String = "") {
        self.value = value
        self.path = path
        if value.objectValue == nil {
            errors.append(
                FieldError(path, "not_an_object", .init("An object is expected", "Ожидается объект")))
        }
    }

    /// Makes a `Value` or throws with every mistake found on the way.
    public static func decode<Value: JSONDecodable>(
        _ type: Value.Type = Value.self, from json: JSONValue
    ) throws(ValidationError) -> Value {
        var fields = Fields(json)
        guard fields.errors.isEmpty else { throw ValidationError(fields.errors) }
        let value = Value(from: &fields)
        guard fields.errors.isEmpty else { throw ValidationError(fields.errors) }
        return value
    }

    /// The raw value; `null` counts as absent.
    public func raw(_ name: String) -> JSONValue? {
        guard let found = value[name], !found.isNull else { return nil }
        return found
    }

    public func has(_ name: String) -> Bool { raw(name) != nil }

    public mutating func fail(_ name: String, _ code: String, _ message: LocalizedText) {
        guard errors.count < Self.mostErrors else { return }
        errors.append(
            FieldError(path.isEmpty ? name : name.isEmpty ? path : "\(path).\(name)", code, message))
    }

    /// Refuses all other names: for objects where a slip of the pen would do something else than was meant.
    public mutating func refuse(otherThan known: [String]) {
        for member in value.objectValue ?? [] where !known.contains(member.name) {
            let names = known.joined(separator: ", ")
            fail(
                String(member.name.prefix(100)), "unknown_field",
                .init("There is no such field; there are: \(names)", "Такого поля нет; есть: \(names)"))
        }
    }

    // MARK: - Text

    public mutating func string(_ name: String, length: ClosedRange<Int> = 1...10_000) -> String {
        required(name, optionalString(name, length: length), "")
    }

    public mutating func optionalString(_ name: String, length: ClosedRange<Int> = 0...10_000) -> String? {
        guard let raw = raw(name) else { return nil }
        return text(raw, name, length)
    }

    private mutating func text(_ raw: JSONValue, _ name: String, _ length: ClosedRange<Int>) -> String? {
        guard let text = raw.stringValue else { return wrong(name, "a text", "строка") }
        guard !text.unicodeScalars.contains(where: { $0.value == 0 }) else {
            fail(
                name, "forbidden_character",
                .init("A null character is not allowed", "Нулевой символ недопустим"))
            return nil
        }
        let count = text.unicodeScalars.count
        guard length.contains(count) else {
            fail(
                name, count < length.lowerBound ? "too_short" : "too_long",
                .init(
                    "From \(length.lowerBound) to \(length.upperBound) characters are expected",
                    "Ожидается от \(length.lowerBound) до \(length.upperBound) символов"))
            return nil
        }
        return text
    }

    /// A value of a closed set; case is not looked at.
    public mutating func choice<Choice: RawRepresentable<String> & CaseIterable>(
        _ name: String, default fallback: Choice? = nil
    ) -> Choice {
        if let found: Choice = optionalChoice(name) { return found }
        if let fallback { return fallback }
        if !has(name) { missing(name) }
        // The value is never used: an error has been noted.
        return Choice.allCases[Choice.allCases.startIndex]
    }

    public mutating func optionalChoice<Choice: RawRepresentable<String> & CaseIterable>(
        _ name: String
    ) -> Choice? {
        guard let raw = raw(name) else { return nil }
        let wanted = raw.stringValue?.lowercased()
        if let found = Choice.allCases.first(where: { $0.rawValue.lowercased() == wanted }) { return found }
        let known = Choice.allCases.map(\.rawValue).joined(separator: ", ")
        fail(
            name, "unknown_value", .init("One of these is expected: \(known)", "Ожидается одно из: \(known)"))
        return nil
    }

    public mutating func optionalTimestamp(_ name: String) -> Timestamp? {
        guard let raw = raw(name) else { return nil }
        guard let moment = raw.stringValue.flatMap({ Timestamp($0) }) else {
            return wrong(name, "a time such as 2025-08-24T10:00:00Z", "время вида 2025-08-24T10:00:00Z")
        }
        return moment
    }

    // MARK: - Numbers and flags

    public mutating func int(_ name: String, in range: ClosedRange<Int64> = .min ... .max) -> Int64 {
        required(name, optionalInt(name, in: range), 0)
    }

    public mutating func int(
        _ name: String, in range: ClosedRange<Int64> = .min ... .max, default fallback: Int64
    ) -> Int64 {
        optionalInt(name, in: range) ?? fallback
    }

    public mutating func optionalInt(_ name: String, in range: ClosedRange<Int64> = .min ... .max) -> Int64? {
        guard let raw = raw(name) else { return nil }
        guard let number = raw.intValue else { return wrong(name, "a whole number", "целое число") }
        guard range.contains(number) else {
            fail(
                name, "out_of_range",
                .init(
                    "From \(range.lowerBound) to \(range.upperBound) is expected",
                    "Ожидается от \(range.lowerBound) до \(range.upperBound)"))
            return nil
        }
        return number
    }

    public mutating func optionalDouble(_ name: String, in range: ClosedRange<Double>) -> Double? {
        guard let raw = raw(name) else { return nil }
        guard let number = raw.doubleValue else { return wrong(name, "a number", "число") }
        guard range.contains(number) else {
            fail(
                name, "out_of_range",
                .init(
                    "From \(range.lowerBound) to \(range.upperBound) is expected",
                    "Ожидается от \(range.lowerBound) до \(range.upperBound)"))
            return nil
        }
        return number
    }

    public mutating func bool(_ name: String, default fallback: Bool? = nil) -> Bool {
        guard let raw = raw(name) else { return fallback ?? required(name, nil, false) }
        return raw.boolValue ?? wrong(name, "true or false", "true или false") ?? false
    }

    // MARK: - Nested

    public mutating func object<Value: JSONDecodable>(_ name: String, _ type: Value.Type = Value.self)
        -> Value?
    {
        guard let raw = raw(name) else { return nil }
        return nested(raw, at: path.isEmpty ? name : "\(path).\(name)")
    }

    public mutating func array<Value: JSONDecodable>(
        _ name: String, of type: Value.Type = Value.self, count: ClosedRange<Int> = 0...10_000
    ) -> [Value] {
        let base = path.isEmpty ? name : "\(path).\(name)"
        return elements(name, count).enumerated().compactMap { nested($1, at: "\(base)[\($0)]") }
    }

    public mutating func strings(
        _ name: String, count: ClosedRange<Int> = 0...10_000, length: ClosedRange<Int> = 1...10_000
    ) -> [String] {
        elements(name, count).enumerated().compactMap { text($1, "\(name)[\($0)]", length) }
    }

    private mutating func elements(_ name: String, _ count: ClosedRange<Int>) -> [JSONValue] {
        guard let raw = raw(name) else {
            if count.lowerBound > 0 { missing(name) }
            return []
        }
        guard let values = raw.arrayValue else { return wrong(name, "a list", "список") ?? [] }
        guard count.contains(values.count) else {
            fail(
                name, "wrong_count",
                .init(
                    "From \(count.lowerBound) to \(count.upperBound) elements are expected",
                    "Ожидается от \(count.lowerBound) до \(count.upperBound) элементов"))
            return []
        }
        return values
    }

    private mutating func nested<Value: JSONDecodable>(_ value: JSONValue, at path: String) -> Value? {
        // Enough has been found: the rest would not be said anyway.
        guard errors.count < Self.mostErrors else { return nil }
        var fields = Fields(value, path: path)
        let result = fields.errors.isEmpty ? Value(from: &fields) : nil
        errors.append(contentsOf: fields.errors.prefix(Self.mostErrors - errors.count))
        return result
    }

    private mutating func required<Value>(_ name: String, _ value: Value?, _ standIn: Value) -> Value {
        if value == nil, !has(name) { missing(name) }
        return value ?? standIn
    }

    private mutating func missing(_ name: String) {
        fail(name, "missing", .init("This field is required", "Это поле обязательно"))
    }

    private mutating func wrong<Value>(_ name: String, _ english: String, _ russian: String) -> Value? {
        fail(name, "wrong_type", .init("Expected: \(english)", "Ожидается: \(russian)"))
        return nil
    }
}
