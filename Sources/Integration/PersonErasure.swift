import Core
public import Storage

/// Forgets a person in what one operator's work has left behind. The log names nobody and attempts name nobody
/// outright; what could lead back to a person goes all the same. Accounts that were connected once hold a phone
/// number and names, and go; one that is connected stays, for it is its owner's to disconnect.
public struct PersonErasure: Sendable {
    private let database: any Database

    /// How a person is known, and the attempts that were made on them.
    public struct Wish: Equatable, Sendable {
        public var usernames: [String]
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

    public init(_ database: any Database) { self.database = database }

    /// Returns how many rows of each kind lost something.
    public func erase(_ wish: Wish, of user: Int64) async throws -> [String: Int] {
        try await database.transaction { transaction in
            var sends = 0
            for attempt in wish.attempts {
                guard
                    let row = try transaction.run(
                        """
                        SELECT outcome FROM telegram_sends
                        WHERE user_id = \(user) AND attempt_id = \(attempt) AND fingerprint <> ''
                        """
                    ).first
                else { continue }
                // The same attempt with the same contents has this fingerprint: whoever guesses the person
                // could confirm it. Nobody repeats the attempt of somebody who is gone.
                let outcome = try row.optionalJSON("outcome").map { stored -> JSONValue in
                    .object((stored.objectValue ?? []).filter { $0.name != "original" })
                }
                sends += try transaction.run(
                    """
                    UPDATE telegram_sends SET fingerprint = '', outcome = \(outcome?.text)
                    WHERE user_id = \(user) AND attempt_id = \(attempt)
                    """
                ).affected
            }
            var lines = 0
            for text in wish.usernames + wish.phones + wish.platformIDs.map(String.init)
            where text.utf8.count > 2 {
                let pattern =
                    "%"
                    + text.lowercased().replacing("!", with: "!!").replacing("%", with: "!%")
                    .replacing("_", with: "!_") + "%"
                lines += try transaction.run(
                    """
                    UPDATE integration_logs SET details = '{}'
                    WHERE user_id = \(user) AND LOWER(details) LIKE \(pattern) ESCAPE '!'
                    """
                ).affected
            }
            let accounts = try eraseLeftAccounts(wish, of: user, in: transaction)
            return ["sends": sends, "log_lines": lines, "accounts": accounts]
        }
    }

    private func eraseLeftAccounts(_ wish: Wish, of user: Int64, in transaction: any Transaction) throws
        -> Int
    {
        var accounts: Set<String> = []
        var phones = Set(wish.phones)
        func find(_ condition: SQL) throws {
            let rows = try transaction.run(
                """
                SELECT id, phone FROM telegram_accounts
                WHERE user_id = \(user) AND status <> 'connected' AND \(condition)
                """)
            for row in rows {
                accounts.insert(try row.text("id"))
                phones.insert(try row.text("phone"))
            }
        }
        for phone in wish.phones { try find("phone = \(phone)") }
        for username in wish.usernames { try find("lower(username) = \(username.lowercased())") }
        for id in wish.platformIDs { try find("telegram_user_id = \(id)") }
        for id in accounts {
            try transaction.run("DELETE FROM integration_logs WHERE account_id = \(id)")
            try transaction.run(
                "DELETE FROM telegram_sends WHERE account_id = \(id) AND stage IN ('done', 'in_doubt')")
            try transaction.run("DELETE FROM telegram_logins WHERE account_id = \(id)")
            try transaction.run("UPDATE telegram_channels SET account_id = NULL WHERE account_id = \(id)")
            try transaction.run("DELETE FROM telegram_accounts WHERE id = \(id)")
        }
        for phone in phones where !phone.isEmpty {
            try transaction.run(
                """
                DELETE FROM telegram_logins WHERE user_id = \(user) AND phone = \(phone)
                    AND stage IN ('done', 'failed', 'expired')
                    AND (account_id IS NULL OR account_id NOT IN (SELECT id FROM telegram_accounts))
                """)
        }
        return accounts.count
    }
}
