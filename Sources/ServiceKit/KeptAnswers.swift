import Core
import HTTP
import Security
import Storage

/// The first answers to requests with an `Idempotency-Key`, in the service's own database.
///
/// A row is claimed before the request is worked on and completed with its answer. What was claimed and never
/// answered, because its process died, is free again after `lease`.
struct KeptAnswers: Sendable {
    static let lifetime: Duration = .hours(24)
    static let lease: Duration = .minutes(2)
    /// Larger answers are exports and the like, which make nothing.
    static let largest = 1 << 20

    private let database: any Database
    private let service: String

    init(_ database: any Database, service: String) {
        self.database = database
        self.service = service
    }

    static let migrations = [
        Migration(
            1, "kept answers",
            postgres: """
                CREATE TABLE kept_answer (
                    service TEXT NOT NULL,
                    caller TEXT NOT NULL,
                    key_digest TEXT NOT NULL,
                    user_id BIGINT,
                    claim TEXT NOT NULL,
                    expires_at BIGINT NOT NULL,
                    fingerprint TEXT,
                    status BIGINT,
                    headers TEXT,
                    answer BYTEA,
                    PRIMARY KEY (service, caller, key_digest)
                );
                CREATE INDEX kept_answer_expiry ON kept_answer (expires_at)
                """,
            sqlite: """
                CREATE TABLE kept_answer (
                    service TEXT NOT NULL,
                    caller TEXT NOT NULL,
                    key_digest TEXT NOT NULL,
                    user_id BIGINT,
                    claim TEXT NOT NULL,
                    expires_at BIGINT NOT NULL,
                    fingerprint TEXT,
                    status BIGINT,
                    headers TEXT,
                    answer BLOB,
                    PRIMARY KEY (service, caller, key_digest)
                );
                CREATE INDEX kept_answer_expiry ON kept_answer (expires_at)
                """)
    ]

    /// Whose key it is. Keys of one caller say nothing to another.
    struct Owner: Sendable {
        let caller: String
        let user: Int64?
        let keyDigest: String

        init(_ identity: Identity, key: String) {
            switch identity {
            case .nobody: caller = "nobody"
            // The gateway is the person's own door.
            case .user(let user), .service("gateway", let user?): caller = "user \(user.id)"
            case .service(let name, let user?): caller = "\(name) for user \(user.id)"
            case .service(let name, nil): caller = name
            }
            user = identity.user?.id
            keyDigest = TokenDigest.of(Secret(key))
        }
    }

    struct Answer: Sendable {
        let fingerprint: String
        let response: Response
    }

    enum Verdict: Sendable {
        /// The caller is the first, and does the work.
        case first
        case underWay
        case answered(Answer)
    }

    func claim(_ owner: Owner, as claim: String, at now: Timestamp) async throws -> Verdict {
        let service = service
        return try await database.transaction { transaction in
            let mine: SQL =
                "service = \(service) AND caller = \(owner.caller) AND key_digest = \(owner.keyDigest)"
            try transaction.run("DELETE FROM kept_answer WHERE \(mine) AND expires_at <= \(now)")
            let inserted = try transaction.run(
                """
                INSERT INTO kept_answer (service, caller, key_digest, user_id, claim, expires_at)
                VALUES (\(service), \(owner.caller), \(owner.keyDigest), \(owner.user), \(claim), \(now + Self.lease))
                ON CONFLICT DO NOTHING RETURNING claim
                """)
            guard inserted.isEmpty else { return .first }
            let row = try transaction.run(
                "SELECT fingerprint, status, headers, answer FROM kept_answer WHERE \(mine) AND status IS NOT NULL"
            ).first
            guard let row else { return .underWay }
            var headers = Headers()
            for member in try JSONValue(parsing: row.text("headers")).objectValue ?? [] {
                headers.add(member.name, member.value.stringValue ?? "")
            }
            return .answered(
                Answer(
                    fingerprint: try row.text("fingerprint"),
                    response: Response(
                        try row.int("status"), headers: headers, content: .bytes(try row.bytes("answer")))))
        }
    }

    /// Keeps the answer, unless the claim ran out and is somebody else's by now. It is erased with `user`, whom
    /// it is about, even where nobody had signed in who asked.
    func complete(
        _ owner: Owner, _ claim: String, about user: Int64?, fingerprint: String, _ response: Response,
        _ body: Bytes,
        at now: Timestamp
    ) async throws {
        let headers = JSONValue.object(response.headers.map { JSONMember($0.name, .string($0.value)) })
        try await database.run(
            """
            UPDATE kept_answer SET user_id = \(user), fingerprint = \(fingerprint), status = \(response.status),
                headers = \(headers), answer = \(body), expires_at = \(now + Self.lifetime)
            WHERE service = \(service) AND caller = \(owner.caller) AND key_digest = \(owner.keyDigest)
                AND claim = \(claim)
            """)
    }

    /// Lets the next request with this key be the first.
    func release(_ owner: Owner, _ claim: String) async throws {
        try await database.run(
            """
            DELETE FROM kept_answer WHERE service = \(service) AND caller = \(owner.caller)
                AND key_digest = \(owner.keyDigest) AND claim = \(claim)
            """)
    }

    func erase(user: Int64) async throws {
        try await database.run("DELETE FROM kept_answer WHERE service = \(service) AND user_id = \(user)")
    }

    func tidy(at now: Timestamp) async throws {
        try await database.run("DELETE FROM kept_answer WHERE service = \(service) AND expires_at <= \(now)")
    }
}
