public import Core
import Security
public import Storage

/// The stop-list's keyed hash: keeps a person on it without keeping who it is.
public struct SuppressionDigests: Sendable {
    private let hash: KeyedHash

    public init(key: Secret<[UInt8]>) { hash = KeyedHash(key: key) }

    /// One for each way this person is known.
    public func digests(_ identity: PersonIdentity) -> [String] {
        identity.keys.map { hash.digest("person/\($0)") }
    }
}

/// Why somebody is on the stop-list.
public enum SuppressionReason: String, Sendable, CaseIterable {
    /// They left by themselves.
    case left
    case removed
    case blocked
    case optedOut = "opted_out"
    case manual
    case imported
    case erased
}

public struct NewSuppression: Sendable {
    public var identity: PersonIdentity
    /// Nil for all communities of the operator.
    public var community: String?
    public var reason: SuppressionReason
    /// Who says so: `task 17`, `api`, a file's name.
    public var source: String
    public var note: String?

    public init(
        _ identity: PersonIdentity, community: String?, reason: SuppressionReason, source: String,
        note: String? = nil
    ) {
        self.identity = identity
        self.community = community
        self.reason = reason
        self.source = source
        self.note = note
    }
}

extension Transaction {
    /// Puts a person on the list, once for each way they are known; those that stand there stay as they are.
    /// `label` is what an operator sees; erasure empties it and keeps the digest. Returns how many are new.
    @discardableResult
    public func suppress(
        _ entry: NewSuppression, of user: Int64, _ digests: SuppressionDigests, at now: Timestamp,
        _ random: any RandomSource
    ) throws -> Int {
        var added = 0
        for (key, digest) in zip(entry.identity.keys, digests.digests(entry.identity)) {
            added += try run(
                """
                INSERT INTO invite_suppressions (id, user_id, community, digest, label, reason, source, note,
                    created_at)
                VALUES (\(UniqueID(at: now, random)), \(user), \(entry.community ?? ""), \(digest),
                    \(String(key.dropFirst(2))), \(entry.reason.rawValue), \(entry.source), \(entry.note),
                    \(now))
                ON CONFLICT (user_id, community, digest) DO NOTHING
                """
            ).affected
        }
        return added
    }

    /// Which of these digests are on the operator's list, for this community or for all.
    public func suppressed(_ digests: [String], of user: Int64, community: String) throws -> Set<String> {
        guard !digests.isEmpty else { return [] }
        let rows = try run(
            """
            SELECT digest FROM invite_suppressions
            WHERE user_id = \(user) AND community IN ('', \(community)) AND digest IN \(list: digests)
            """)
        return Set(try rows.map { try $0.text("digest") })
    }
}
