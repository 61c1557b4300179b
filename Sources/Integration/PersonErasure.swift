import Core
public import Storage

/// Removes what is kept of a person among one operator's records.
///
/// Whom something was sent to stands nowhere outright: attempts and the log have neither names nor numbers. What
/// could lead back to somebody goes all the same, and so do accounts that were connected once: their rows and
/// logins hold a phone number and names. An account that is connected stays, for its owner disconnects it.
public struct PersonErasure: Sendable {
    /// How a person is known, and the attempts that were made on them.
    public struct Wish: Equatable, Sendable {
        public var usernames: [String]
        /// With or without their plus.
        public var phones: [String]
        public var platformIDs: [Int64]
        public var attempts: [String]

        public init(
            usernames: [String] = [], phones: [String] = [], platformIDs: [Int64] = [],
            attempts: [String] = []
        ) {
            self.usernames = usernames
            self.phones = phones
            self.platformIDs = platformIDs
            self.attempts = attempts
        }
    }

    /// What is gone, and by which other names the person was known here.
    public struct Outcome: Equatable, Sendable {
        /// Records of each kind.
        public var erased: [String: Int] = [:]
        public var known = Wish()

        mutating func count(_ kind: String, _ rows: Int) { erased[kind, default: 0] += rows }
    }

    private let database: any Database

    public init(_ database: any Database) { self.database = database }

    public func erase(_ wish: Wish, of user: Int64) async throws -> Outcome {
        try await database.transaction { transaction in
            var outcome = Outcome(erased: ["accounts": 0, "logins": 0, "log_lines": 0, "sends": 0])
            for attempt in wish.attempts { try transaction.blur(attempt, of: user, &outcome) }
            let phones = wish.phones.map { $0.hasPrefix("+") ? $0 : "+\($0)" }
            var accounts: [SQL] = []
            for id in wish.platformIDs { accounts.append("telegram_user_id = \(id)") }
            for phone in phones { accounts.append("phone = \(phone)") }
            for name in wish.usernames { accounts.append("lower(username) = \(name.lowercased())") }
            for account in accounts { try transaction.eraseEnded(account, of: user, &outcome) }
            for phone in Set(phones + outcome.known.phones) {
                let logins = try transaction.run(
                    """
                    DELETE FROM telegram_logins WHERE user_id = \(user) AND phone = \(phone)
                        AND stage IN ('done', 'failed', 'expired')
                        AND (account_id IS NULL OR account_id NOT IN (SELECT id FROM telegram_accounts))
                    """)
                outcome.count("logins", logins.affected)
            }
            for text in wish.usernames + wish.phones + wish.platformIDs.map(String.init)
            where text.utf8.count > 2 {
                try transaction.strike(text, fromLogOf: user, &outcome)
            }
            return outcome
        }
    }
}

extension Transaction {
    /// Whoever has the key and guesses the person could confirm it by the fingerprint. That the attempt was made
    /// stays, so that it is not made again.
    fileprivate func blur(_ attempt: String, of user: Int64, _ outcome: inout PersonErasure.Outcome) throws {
        let mine: SQL = "user_id = \(user) AND attempt_id = \(attempt) AND fingerprint <> ''"
        guard let row = try run("SELECT outcome FROM telegram_sends WHERE \(mine)").first else { return }
        let blurred = try row.optionalJSON("outcome").map { stored -> JSONValue in
            .object((stored.objectValue ?? []).filter { !["original", "message_id"].contains($0.name) })
        }
        let rows = try run(
            "UPDATE telegram_sends SET fingerprint = '', outcome = \(blurred?.text) WHERE \(mine)")
        outcome.count("sends", rows.affected)
    }

    fileprivate func eraseEnded(
        _ account: SQL, of user: Int64, _ outcome: inout PersonErasure.Outcome
    ) throws {
        let ended = try run(
            """
            SELECT id, phone, username, telegram_user_id FROM telegram_accounts
            WHERE user_id = \(user) AND status <> 'connected' AND \(account)
            """)
        for row in ended {
            let id = try row.text("id")
            let phone = try row.text("phone")
            if !phone.isEmpty { outcome.known.phones.append(phone) }
            if let name = try row.optionalText("username") {
                outcome.known.usernames.append(name.lowercased())
            }
            outcome.known.platformIDs.append(try row.int64("telegram_user_id"))
            outcome.count(
                "log_lines", try run("DELETE FROM integration_logs WHERE account_id = \(id)").affected)
            outcome.count(
                "sends",
                try run(
                    "DELETE FROM telegram_sends WHERE account_id = \(id) AND stage IN ('done', 'in_doubt')"
                ).affected)
            outcome.count("logins", try run("DELETE FROM telegram_logins WHERE account_id = \(id)").affected)
            try run("UPDATE telegram_channels SET account_id = NULL WHERE account_id = \(id)")
            outcome.count("accounts", try run("DELETE FROM telegram_accounts WHERE id = \(id)").affected)
        }
    }

    fileprivate func strike(
        _ text: String, fromLogOf user: Int64, _ outcome: inout PersonErasure.Outcome
    ) throws {
        let pattern =
            "%"
            + text.lowercased().replacing("!", with: "!!").replacing("%", with: "!%").replacing(
                "_", with: "!_")
            + "%"
        let lines = try run(
            """
            UPDATE integration_logs SET details = '{}'
            WHERE user_id = \(user) AND LOWER(details) LIKE \(pattern) ESCAPE '!'
            """)
        outcome.count("log_lines", lines.affected)
    }
}
