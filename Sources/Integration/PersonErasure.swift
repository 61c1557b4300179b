import Core
public import Storage

/// Forgets a person in what one operator's sends have left behind. The log names nobody and attempts name
/// nobody outright; what could lead back to a person goes all the same.
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
            return ["sends": sends, "log_lines": lines]
        }
    }
}
