import Core

/// Every command the caches know, as a value: Redis is sent it, the memory carries it out, and a switch over
/// it without a `default` does not build until both can.
public enum CacheCommand: Hashable, Sendable {
    case get(CacheBytes)
    case getMany([CacheBytes])
    case set(CacheBytes, CacheBytes, expiry: Expiry, condition: Presence)
    case getAndDelete(CacheBytes)
    case delete([CacheBytes])
    case exists([CacheBytes])
    case increment(CacheBytes, by: Int64)
    case expire(CacheBytes, after: Duration, condition: ExpiryCondition)
    case persist(CacheBytes)
    case timeToLive(CacheBytes)

    case hashGet(CacheBytes, CacheBytes)
    case hashGetMany(CacheBytes, [CacheBytes])
    case hashGetAll(CacheBytes)
    case hashSet(CacheBytes, [Field])
    case hashDelete(CacheBytes, [CacheBytes])
    case hashIncrement(CacheBytes, CacheBytes, by: Int64)
    case hashCount(CacheBytes)

    case sortedAdd(CacheBytes, [Scored], condition: ScoreCondition)
    case sortedRemove(CacheBytes, [CacheBytes])
    case sortedScore(CacheBytes, CacheBytes)
    case sortedIncrement(CacheBytes, CacheBytes, by: Double)
    case sortedCount(CacheBytes)
    case sortedCountByScore(CacheBytes, ScoreRange)
    case sortedRank(CacheBytes, CacheBytes)
    case sortedRange(CacheBytes, from: Int64, through: Int64, descending: Bool)
    case sortedRangeByScore(CacheBytes, ScoreRange, limit: Int?)
    case sortedRemoveByScore(CacheBytes, ScoreRange)
    case sortedRemoveByRank(CacheBytes, from: Int64, through: Int64)
    case sortedPopLowest(CacheBytes, count: Int)

    case scan(cursor: UInt64, matching: CacheBytes)
    case count
    case flush
    case ping

    /// When what is set ends.
    public enum Expiry: Hashable, Sendable {
        case never
        case after(Duration)
        /// As it was.
        case kept
    }

    /// Whether the key has to be there already.
    public enum Presence: Hashable, Sendable {
        case any, absent, present
    }

    public enum ExpiryCondition: Hashable, Sendable {
        case always
        /// Only where there is none, only where there is one, only to prolong, only to shorten it.
        case none, some, later, earlier
    }

    public enum ScoreCondition: Hashable, Sendable {
        case always
        /// Only new members, only those that are there.
        case absent, present
        /// New members, and those whose score this raises or lowers.
        case higher, lower
    }

    public struct Field: Hashable, Sendable {
        public let name: CacheBytes
        public let value: CacheBytes
        public init(_ name: CacheBytes, _ value: CacheBytes) {
            self.name = name
            self.value = value
        }
    }

    public struct Scored: Hashable, Sendable {
        public let member: CacheBytes
        public let score: Double
        public init(_ member: CacheBytes, _ score: Double) {
            self.member = member
            self.score = score
        }
    }
}

/// The scores from one bound to another; each bound may itself be outside.
public struct ScoreRange: Hashable, Sendable {
    public let lower: Double
    public let upper: Double
    public let excludesLower: Bool
    public let excludesUpper: Bool

    public init(
        from lower: Double = -.infinity, to upper: Double = .infinity, excludesLower: Bool = false,
        excludesUpper: Bool = false
    ) {
        self.lower = lower
        self.upper = upper
        self.excludesLower = excludesLower
        self.excludesUpper = excludesUpper
    }

    public static let all = ScoreRange()
    public static func through(_ score: Double) -> ScoreRange { ScoreRange(to: score) }
    public static func below(_ score: Double) -> ScoreRange { ScoreRange(to: score, excludesUpper: true) }
    public static func from(_ score: Double) -> ScoreRange { ScoreRange(from: score) }
    public static func above(_ score: Double) -> ScoreRange { ScoreRange(from: score, excludesLower: true) }

    public func contains(_ score: Double) -> Bool { isAtOrAboveLower(score) && isAtOrBelowUpper(score) }
    func isAtOrAboveLower(_ score: Double) -> Bool { excludesLower ? score > lower : score >= lower }
    func isAtOrBelowUpper(_ score: Double) -> Bool { excludesUpper ? score < upper : score <= upper }
}

extension CacheCommand {
    /// A century: longer is a mistake, and near the ends of 64 bits the caches would no longer agree.
    static let longestExpiry = Duration.days(36_525)

    /// What Redis keeps in one value.
    static let largestValue = 512 << 20

    /// The milliseconds of an expiry, rounded up, so that nothing ends before its time.
    static func milliseconds(_ expiry: Duration) -> Int64 {
        let expiry = min(max(expiry, .zero - longestExpiry), longestExpiry)
        let cut = expiry.milliseconds
        return .milliseconds(cut) < expiry ? cut + 1 : cut
    }

    /// Throws for what no cache would do, in the same words for every cache.
    func validate() throws(CacheError) {
        switch self {
        case .set(_, let value, let expiry, _):
            guard value.bytes.count <= Self.largestValue else { throw .tooLarge }
            if case .after(let duration) = expiry {
                guard duration > .zero, duration <= Self.longestExpiry else {
                    throw .command(reason: "an expiry is positive and at most a century")
                }
            }
        case .expire(_, let duration, _):
            guard duration <= Self.longestExpiry, duration >= .zero - Self.longestExpiry else {
                throw .command(reason: "an expiry is at most a century")
            }
        case .getMany(let names), .delete(let names), .exists(let names), .hashGetMany(_, let names),
            .hashDelete(_, let names), .sortedRemove(_, let names):
            guard !names.isEmpty else { throw .command(reason: "at least one name is needed") }
        case .hashSet(_, let fields):
            guard !fields.isEmpty else { throw .command(reason: "at least one field is needed") }
        case .sortedAdd(_, let members, _):
            guard !members.isEmpty, !members.contains(where: \.score.isNaN) else {
                throw .command(reason: "at least one member is needed, and each score is a number")
            }
        case .sortedIncrement(_, _, let amount):
            guard !amount.isNaN else { throw .command(reason: "a score is a number") }
        case .sortedCountByScore(_, let range), .sortedRangeByScore(_, let range, _),
            .sortedRemoveByScore(_, let range):
            guard !range.lower.isNaN, !range.upper.isNaN else {
                throw .command(reason: "a score is a number")
            }
        case .sortedPopLowest(_, let count):
            guard count >= 0 else { throw .command(reason: "a count is not negative") }
        default: break
        }
    }
}
