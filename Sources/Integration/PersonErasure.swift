import Core
public import Storage

/// Removes what is kept of a person.
///
/// Whom something was sent to stands nowhere here: attempts and the log have neither names nor numbers. What
/// remains are accounts that were connected once: their rows and logins hold a phone number and names. An
/// account that is connected stays, for it is its owner's to disconnect.
public struct PersonErasure: Sendable {
    /// The ways in which somebody was named; any of them is enough.
    public struct Person: Equatable, Sendable {
        public var username: String?
        public var phone: String?
        public var telegramUserID: Int64?

        public init(username: String? = nil, phone: String? = nil, telegramUserID: Int64? = nil) {
            self.username = username
            self.phone = phone
            self.telegramUserID = telegramUserID
        }
    }

    let database: any Database

    public init(_ database: any Database) { self.database = database }

    /// Of one user's records, or of everybody's; how many records are gone.
    public func erase(_ person: Person, of user: Int64?) async throws -> Int {
        let owned: SQL = user.map { "user_id = \($0)" } ?? "TRUE"
        let account: SQL = """
            \(owned) AND status <> 'connected'
            AND (telegram_user_id = \(person.telegramUserID) OR phone = \(person.phone)
                OR lower(username) = \(person.username?.lowercased()))
            """
        return try await database.transaction { transaction in
            var erased = 0
            var phones = Set([person.phone].compactMap { $0 })
            for row in try transaction.run("SELECT id, phone FROM telegram_accounts WHERE \(account)") {
                let id = try row.text("id")
                let phone = try row.text("phone")
                if !phone.isEmpty { phones.insert(phone) }
                erased += try transaction.run("DELETE FROM integration_logs WHERE account_id = \(id)")
                    .affected
                erased += try transaction.run(
                    "DELETE FROM telegram_sends WHERE account_id = \(id) AND stage IN ('done', 'in_doubt')"
                ).affected
                erased += try transaction.run("DELETE FROM telegram_logins WHERE account_id = \(id)").affected
                try transaction.run(
                    "UPDATE telegram_channels SET account_id = NULL WHERE account_id = \(id)")
                erased += try transaction.run("DELETE FROM telegram_accounts WHERE id = \(id)").affected
            }
            for phone in phones {
                erased += try transaction.run(
                    """
                    DELETE FROM telegram_logins WHERE \(owned) AND phone = \(phone)
                        AND stage IN ('done', 'failed', 'expired')
                        AND (account_id IS NULL OR account_id NOT IN (SELECT id FROM telegram_accounts))
                    """
                ).affected
            }
            return erased
        }
    }
}
