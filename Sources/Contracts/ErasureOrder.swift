public import Core

/// Services tell each other with this whom to forget: in every way the person is known, and by what was sent to
/// them. `POST /internal/privacy/erase` takes it everywhere, for the user the caller acts for.
public struct ErasureOrder: Equatable, Sendable {
    public var usernames: [String]
    public var phones: [String]
    public var userIDs: [Int64]
    public var attempts: [String]

    public init(
        usernames: [String] = [], phones: [String] = [], userIDs: [Int64] = [], attempts: [String] = []
    ) {
        self.usernames = usernames
        self.phones = phones
        self.userIDs = userIDs
        self.attempts = attempts
    }
}

extension ErasureOrder: JSONDecodable, JSONEncodable {
    /// A person has a few names, not thousands; attempts are what was sent to them.
    private static let mostNames = 1000
    private static let mostAttempts = 100_000

    public init(from fields: inout Fields) {
        func values<Value>(_ name: String, most: Int, _ read: (JSONValue) -> Value?) -> [Value] {
            guard let raw = fields.raw(name) else { return [] }
            let values = (raw.arrayValue ?? []).compactMap(read)
            guard let count = raw.arrayValue?.count, count == values.count, count <= most else {
                fields.fail(
                    name, "wrong_list",
                    .init("A list of at most \(most) is expected", "Ожидается список, не больше \(most)"))
                return []
            }
            return values
        }
        func text(_ value: JSONValue) -> String? {
            value.stringValue.flatMap { $0.isEmpty || $0.utf8.contains(0) || $0.utf8.count > 300 ? nil : $0 }
        }
        self.init(
            usernames: values("usernames", most: Self.mostNames, text),
            phones: values("phones", most: Self.mostNames, text),
            userIDs: values("user_ids", most: Self.mostNames) { $0.intValue },
            attempts: values("attempt_ids", most: Self.mostAttempts, text))
        guard fields.errors.isEmpty, usernames.isEmpty, phones.isEmpty, userIDs.isEmpty, attempts.isEmpty
        else { return }
        fields.fail(
            "usernames", "missing",
            .init(
                "Somebody has to be named: by username, phone or id", "Нужно имя, телефон или идентификатор"))
    }

    public var json: JSONValue {
        [
            "usernames": .array(usernames.map { .string($0) }), "phones": .array(phones.map { .string($0) }),
            "user_ids": .array(userIDs.map { .int($0) }), "attempt_ids": .array(attempts.map { .string($0) }),
        ]
    }
}

/// What a service answers: how many records of each kind are gone, and how else it knew the person.
public struct ErasureAnswer: JSONEncodable, Sendable {
    public let service: String
    public let erased: [String: Int]
    public let known: ErasureOrder?

    public init(service: String, erased: [String: Int], known: ErasureOrder? = nil) {
        self.service = service
        self.erased = erased
        self.known = known
    }

    public var json: JSONValue {
        .object(present: [
            "service": .string(service),
            "erased": .object(
                erased.sorted { $0.key < $1.key }.map { JSONMember($0.key, .int(Int64($0.value))) }),
            "known": known?.json,
        ])
    }
}
