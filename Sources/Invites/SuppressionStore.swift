public import Core
public import Storage

/// One entry of the stop-list: one way in which one person is known.
public struct Suppression: Equatable, Sendable {
    public let id: String
    /// Empty for all communities of the operator.
    public let community: String
    /// Nil once the person was erased: the keyed digest stays, and nobody can read who it is.
    public let label: String?
    public let reason: SuppressionReason
    public let source: String
    public let note: String?
    public let createdAt: Timestamp

    public var json: JSONValue {
        [
            "id": .string(id), "identifier": JSONValue(label),
            "group_id": community.isEmpty ? .null : .string(community), "reason": .string(reason.rawValue),
            "source": .string(source), "note": JSONValue(note), "created_at": createdAt.json,
        ]
    }
}

public enum SuppressionError: Error, Equatable, Sendable {
    case unknown
    /// The person said no themselves: it goes only with a stated ground.
    case personsOwnNo(SuppressionReason)
}

extension SuppressionReason {
    /// Whether the operator put it there, and may take it back without saying why.
    public var isOperators: Bool { self == .manual || self == .imported }
}

public struct SuppressionQuery: Sendable {
    /// `nil` for all, empty for those of all communities.
    public var community: String?
    public var reason: SuppressionReason?
    /// Who is looked for: found also where the name was erased.
    public var identity: PersonIdentity?

    public init(
        community: String? = nil, reason: SuppressionReason? = nil, identity: PersonIdentity? = nil
    ) {
        self.community = community
        self.reason = reason
        self.identity = identity
    }
}

/// The stop-list as its operator keeps it.
public struct SuppressionStore: Sendable {
    public let database: any Database
    public let digests: SuppressionDigests
    private let random: any RandomSource

    public init(_ database: any Database, digests: SuppressionDigests, random: any RandomSource) {
        self.database = database
        self.digests = digests
        self.random = random
    }

    /// Puts people on the list; who stands there already stays as they are. Returns how many people are new.
    @discardableResult
    public func add(_ entries: [NewSuppression], of user: Int64, at now: Timestamp) async throws -> Int {
        let (digests, random) = (digests, random)
        return try await database.transaction { transaction in
            var added = 0
            for entry in entries
            where try transaction.suppress(entry, of: user, digests, at: now, random) > 0 { added += 1 }
            return added
        }
    }

    public func entries(
        of user: Int64, _ query: SuppressionQuery, offset: Int, limit: Int
    ) async throws -> (entries: [Suppression], total: Int) {
        let filter = filter(user, query)
        let rows = try await database.run(
            """
            SELECT * FROM invite_suppressions WHERE \(filter) ORDER BY created_at DESC, id DESC
            LIMIT \(limit) OFFSET \(offset)
            """)
        let total = try await database.run(
            "SELECT COUNT(*) AS count FROM invite_suppressions WHERE \(filter)")
        return (try rows.map { try Suppression($0) }, try total.first?.int("count") ?? 0)
    }

    private func filter(_ user: Int64, _ query: SuppressionQuery) -> SQL {
        var filter: SQL = "user_id = \(user)"
        if let community = query.community { filter = "\(filter) AND community = \(community)" }
        if let reason = query.reason { filter = "\(filter) AND reason = \(reason.rawValue)" }
        if let identity = query.identity {
            filter = "\(filter) AND digest IN \(list: digests.digests(identity))"
        }
        return filter
    }

    public func entry(_ id: String, of user: Int64) async throws -> Suppression {
        let rows = try await database.run(
            "SELECT * FROM invite_suppressions WHERE id = \(id) AND user_id = \(user)")
        guard let row = rows.first else { throw SuppressionError.unknown }
        return try Suppression(row)
    }

    /// Takes an entry off. A person's own no needs a ground to be taken back.
    public func remove(_ id: String, of user: Int64, ground: String?) async throws -> Suppression {
        let found = try await entry(id, of: user)
        guard found.reason.isOperators || ground != nil else {
            throw SuppressionError.personsOwnNo(found.reason)
        }
        try await database.run(
            "DELETE FROM invite_suppressions WHERE id = \(id) AND user_id = \(user)")
        return found
    }
}

extension Suppression {
    init(_ row: Row) throws {
        self.init(
            id: try row.text("id"), community: try row.text("community"),
            label: try row.optionalText("label"),
            reason: SuppressionReason(rawValue: try row.text("reason")) ?? .manual,
            source: try row.text("source"), note: try row.optionalText("note"),
            createdAt: try row.timestamp("created_at"))
    }
}

extension SuppressionStore {
    /// All entries, in constant memory.
    public func stream(
        of user: Int64, _ query: SuppressionQuery, _ body: ([Suppression]) async throws -> Void
    ) async throws {
        try await database.stream(
            "SELECT * FROM invite_suppressions WHERE \(filter(user, query)) ORDER BY created_at, id"
        ) { rows in
            try await body(rows.map { try Suppression($0) })
        }
    }
}
