public import Core

/// What a world is made from: the same options give the same world.
public struct WorldOptions: Sendable, Equatable {
    /// How Telegram restrains who asks too much.
    public enum Strictness: String, Sendable, CaseIterable {
        /// Nothing but what is provoked.
        case off
        /// Waits and limits such as the real one's.
        case telegram
    }

    public var seed: UInt64
    /// People beside the accounts.
    public var people: Int
    /// Accounts that can be signed in to.
    public var accounts: Int
    /// Public communities beside the named ones.
    public var communities: Int
    public var strictness: Strictness
    /// The longest a request takes; each takes a part of it.
    public var latency: Duration
    /// Whether people who got an invite link come by themselves.
    public var peopleReact: Bool
    /// Rare oddities: unknown updates and contents, adds that succeed and add nobody.
    public var isOdd: Bool
    /// When the world was made: histories end here.
    public var start: Timestamp

    public init(
        seed: UInt64 = 1, people: Int = 20_000, accounts: Int = 30, communities: Int = 24,
        strictness: Strictness = .telegram, latency: Duration = .zero, peopleReact: Bool = false,
        isOdd: Bool = true,
        start: Timestamp
    ) {
        self.seed = seed
        self.people = people
        self.accounts = accounts
        self.communities = communities
        self.strictness = strictness
        self.latency = latency
        self.peopleReact = peopleReact
        self.isOdd = isOdd
        self.start = start
    }
}

extension WorldOptions: JSONDecodable, JSONEncodable {
    public init(from fields: inout Fields) {
        self.init(start: .epoch)
        seed = UInt64(fields.int("seed", in: 0 ... .max, default: 1))
        people = Int(fields.int("people", in: 100...1_000_000, default: 20_000))
        accounts = Int(fields.int("accounts", in: 1...20_000, default: 30))
        communities = Int(fields.int("communities", in: 0...2000, default: 24))
        strictness = fields.optionalChoice("strictness") ?? .telegram
        latency = .milliseconds(fields.int("latency_ms", in: 0...60_000, default: 0))
        peopleReact = fields.bool("people_react", default: false)
        isOdd = fields.bool("odd", default: true)
        start = fields.optionalTimestamp("start") ?? .epoch
    }

    public var json: JSONValue {
        [
            "seed": JSONValue(Int64(clamping: seed)), "people": JSONValue(people),
            "accounts": JSONValue(accounts),
            "communities": JSONValue(communities), "strictness": .string(strictness.rawValue),
            "latency_ms": .int(latency.milliseconds), "people_react": .bool(peopleReact), "odd": .bool(isOdd),
            "start": start.json,
        ]
    }
}
