public import Core
public import Security
public import Storage

/// One wish to send, as its caller names it. The same attempt is carried out once, however often and from
/// wherever it is asked for.
public struct Attempt: Equatable, Sendable {
    public enum Kind: String, Sendable, CaseIterable {
        case groupInvite = "group_invite"
        case directMessage = "direct_message"
        case addContact = "add_contact"
    }

    /// How far it has come. Only between `sending` and `done` may Telegram have acted without our knowing.
    public enum Stage: String, Sendable, CaseIterable {
        /// Ours, and nothing has gone out yet.
        case claimed
        case sending
        case done
        /// The process ended between the sending and the answer.
        case inDoubt = "in_doubt"
    }

    public let id: String
    public let userID: Int64
    public let accountID: UniqueID
    public let kind: Kind
    /// Of its contents: the same attempt with others is a mistake of the caller. It is stored under a key only.
    let fingerprint: String
    public let fencingToken: Int64?

    public init(
        id: String, userID: Int64, accountID: UniqueID, kind: Kind, contents: [String?], fencingToken: Int64?
    ) {
        self.id = id
        self.userID = userID
        self.accountID = accountID
        self.kind = kind
        // Absent and empty are two contents; lengths keep the parts apart.
        let parts = ([accountID.description, kind.rawValue] + contents).map { part in
            part.map { "\($0.utf8.count):\($0)" } ?? "-"
        }
        fingerprint = Hex.encode(sha256(Array(parts.joined(separator: ";").utf8)))
        self.fencingToken = fencingToken
    }
}

/// What may be done about an attempt that somebody asks for.
public enum Claim: Equatable, Sendable {
    /// It was not known: carry it out.
    case granted
    /// Somebody in this process is at it: wait for the outcome.
    case underWay
    /// The answer is known.
    case done(SendOutcome)
    /// It was being sent when the process ended: look, and never send again.
    case inDoubt
}

/// Attempts in SQL: stored before anything goes out, and answered from here afterwards.
public struct SendStore: Sendable {
    let database: any Database
    /// Names this run of the process: what another run left open will not be finished by it.
    let instance: String
    /// Names and numbers are few: without a key a fingerprint could be undone by trying them all. The current
    /// one first, and those before it.
    let hashes: [KeyedHash]

    public init(_ database: any Database, instance: String, hashes: [KeyedHash]) {
        precondition(!hashes.isEmpty, "fingerprints are stored under a key")
        self.database = database
        self.instance = instance
        self.hashes = hashes
    }

    /// Takes the attempt, or says why not. A lease older than the newest that was shown for the account is
    /// refused, also for an attempt that is known: its holder has to learn that it is late.
    public func claim(_ attempt: Attempt, at now: Timestamp) async throws -> Claim {
        let (instance, fingerprints) = (instance, hashes.map { $0.digest(attempt.fingerprint) })
        if try await claimAtOnce(attempt, fingerprints[0], at: now) { return .granted }
        return try await database.transaction { transaction in
            try transaction.showFence(attempt)
            let taken = try transaction.run(
                """
                INSERT INTO telegram_sends (user_id, attempt_id, account_id, kind, fingerprint, stage,
                    fencing_token, instance, started_at)
                VALUES (\(attempt.userID), \(attempt.id), \(attempt.accountID), \(attempt.kind.rawValue),
                    \(fingerprints[0]), 'claimed', \(attempt.fencingToken), \(instance), \(now))
                ON CONFLICT (user_id, attempt_id) DO NOTHING
                """)
            if taken.affected == 1 { return .granted }
            let rows = try transaction.run(
                """
                SELECT fingerprint, stage, outcome FROM telegram_sends
                WHERE user_id = \(attempt.userID) AND attempt_id = \(attempt.id)
                """)
            guard let row = rows.first else { throw IntegrationError.busy }
            // Blank where the person was erased: then nobody can tell, and nothing is sent again.
            guard try row.text("fingerprint").isEmpty || fingerprints.contains(row.text("fingerprint")) else {
                throw IntegrationError.attemptReused
            }
            switch Attempt.Stage(rawValue: try row.text("stage")) {
            case .done:
                guard let outcome = SendOutcome(stored: try row.json("outcome")) else {
                    throw StorageError.unexpectedColumn("outcome cannot be read")
                }
                return .done(outcome)
            case .inDoubt: return .inDoubt
            case .claimed, .sending, nil: return .underWay
            }
        }
    }

    /// An attempt that nobody has asked for yet, under the newest lease, in one journey to the server. False where
    /// it takes a closer look.
    private func claimAtOnce(_ attempt: Attempt, _ fingerprint: String, at now: Timestamp) async throws
        -> Bool
    {
        guard database.dialect == .postgres, let token = attempt.fencingToken else { return false }
        return try await database.gather(
            """
            WITH fence AS (
                UPDATE telegram_accounts SET fencing_token = \(token)
                WHERE id = \(attempt.accountID) AND user_id = \(attempt.userID) AND fencing_token <= \(token)
                RETURNING id)
            INSERT INTO telegram_sends (account_id, user_id, attempt_id, kind, fingerprint, stage, fencing_token,
                instance, started_at)
            SELECT fence.id, \(attempt.userID), \(attempt.id), \(attempt.kind.rawValue), \(fingerprint),
                'claimed', \(token), \(instance), \(now)
            FROM fence
            ON CONFLICT (user_id, attempt_id) DO NOTHING
            """
        ).affected == 1
    }

    /// The last step before Telegram is asked to act. From here on a crash leaves the attempt in doubt, and
    /// the lease has to be the newest still.
    public func begin(_ attempt: Attempt) async throws {
        let instance = instance
        // An attempt without a lease shows none, and no other is newer.
        let begun = try await database.gather(
            """
            UPDATE telegram_sends SET stage = 'sending'
            WHERE user_id = \(attempt.userID) AND attempt_id = \(attempt.id) AND stage = 'claimed'
                AND instance = \(instance) AND NOT EXISTS (
                    SELECT 1 FROM telegram_accounts
                    WHERE id = \(attempt.accountID) AND user_id = \(attempt.userID)
                        AND fencing_token > \(attempt.fencingToken ?? .max))
            """)
        if begun.affected == 1 { return }
        // Why not says the transaction.
        try await database.transaction { transaction in
            try transaction.showFence(attempt)
            let begun = try transaction.run(
                """
                UPDATE telegram_sends SET stage = 'sending'
                WHERE user_id = \(attempt.userID) AND attempt_id = \(attempt.id) AND stage = 'claimed'
                    AND instance = \(instance)
                """)
            guard begun.affected == 1 else { throw IntegrationError.busy }
        }
    }

    public func finish(_ attempt: Attempt, with outcome: SendOutcome, at now: Timestamp) async throws {
        try await database.run(finishing(attempt, outcome, at: now))
    }

    /// The same of an attempt that has used its account: with it the use is noted, and the line of the log.
    public func finishUse(
        _ attempt: Attempt, with outcome: SendOutcome, noting entry: LogEntry, at now: Timestamp
    ) async throws {
        let use = AccountStore.noting(useOf: attempt.accountID, at: now)
        let end = finishing(attempt, outcome, at: now)
        let line = LogStore.writing(entry)
        if database.dialect == .postgres {
            try await database.gather("WITH done AS (\(end)), used AS (\(use)) \(line)")
        } else {
            try await database.transaction { transaction in
                for sql in [end, use, line] { try transaction.run(sql) }
            }
        }
    }

    private func finishing(_ attempt: Attempt, _ outcome: SendOutcome, at now: Timestamp) -> SQL {
        """
        UPDATE telegram_sends SET stage = 'done', outcome = \(outcome.stored), finished_at = \(now)
        WHERE user_id = \(attempt.userID) AND attempt_id = \(attempt.id) AND stage <> 'done'
        """
    }

    /// Nothing went out, and the same attempt may be made again.
    public func withdraw(_ attempt: Attempt) async throws {
        try await database.run(
            """
            DELETE FROM telegram_sends
            WHERE user_id = \(attempt.userID) AND attempt_id = \(attempt.id) AND stage = 'claimed'
            """)
    }

    public func doubt(_ attempt: Attempt) async throws {
        try await database.run(
            """
            UPDATE telegram_sends SET stage = 'in_doubt'
            WHERE user_id = \(attempt.userID) AND attempt_id = \(attempt.id) AND stage = 'sending'
            """)
    }

    /// When an attempt was begun, for looking it up.
    public func startedAt(_ attempt: Attempt) async throws -> Timestamp? {
        try await database.run(
            "SELECT started_at FROM telegram_sends WHERE user_id = \(attempt.userID) AND attempt_id = \(attempt.id)"
        ).first?.timestamp("started_at")
    }

    /// After a start: what earlier runs left is withdrawn where nothing went out, and in doubt where something
    /// may have. Only one process at a time may hold these accounts.
    public func settleEarlierRuns() async throws -> (withdrawn: Int, inDoubt: Int) {
        let instance = instance
        return try await database.transaction { transaction in
            let withdrawn = try transaction.run(
                "DELETE FROM telegram_sends WHERE stage = 'claimed' AND instance <> \(instance)")
            let doubted = try transaction.run(
                "UPDATE telegram_sends SET stage = 'in_doubt' WHERE stage = 'sending' AND instance <> \(instance)"
            )
            return (withdrawn.affected, doubted.affected)
        }
    }

    /// Forgets old attempts: nobody repeats them any more.
    public func tidy(before moment: Timestamp) async throws {
        try await database.run(
            "DELETE FROM telegram_sends WHERE started_at < \(moment) AND stage IN ('done', 'in_doubt')")
    }
}

extension Transaction {
    /// Notes the newest lease of an account and refuses an older one, in one statement. An attempt without a
    /// lease shows none.
    fileprivate func showFence(_ attempt: Attempt) throws {
        guard let token = attempt.fencingToken else { return }
        let shown = try run(
            """
            UPDATE telegram_accounts SET fencing_token = \(token)
            WHERE id = \(attempt.accountID) AND user_id = \(attempt.userID) AND fencing_token <= \(token)
            """)
        guard shown.affected == 0 else { return }
        let newest = try run(
            """
            SELECT fencing_token FROM telegram_accounts
            WHERE id = \(attempt.accountID) AND user_id = \(attempt.userID)
            """
        ).first?.int64("fencing_token")
        guard let newest else { throw IntegrationError.unknownAccount }
        throw IntegrationError.leaseLost(newest: newest)
    }
}
