public import Core
internal import Storage

/// A row of the ledger as people read it.
public struct LedgerEntry: Sendable, Equatable {
    public let id: Int64
    public let action: String
    public let record: ActionRecord
    public let error: String?
    public let lease: String?
    public let permit: String?
    public let service: String
    /// Told in sum when a lease was given back: the moment is that of the report.
    public let isSummed: Bool
}

extension SQLAccountStore {
    /// A page of an account's ledger, newest first.
    public func page(
        ofLedger account: AccountID, owner: Int64?, from: Timestamp, to: Timestamp, offset: Int, limit: Int,
        at now: Timestamp
    ) async throws -> (entries: [LedgerEntry], total: Int) {
        let rampUp = rampUp
        return try await database.transaction { transaction in
            _ = try transaction.session(account, rampUp, locking: false, owner: owner)
            let total =
                try transaction.run(
                    """
                    SELECT count(*) AS entries FROM account_ledger
                    WHERE account_id = \(account) AND at >= \(from) AND at < \(to)
                    """
                ).first?.int("entries") ?? 0
            let rows = try transaction.run(
                """
                SELECT * FROM account_ledger WHERE account_id = \(account) AND at >= \(from) AND at < \(to)
                ORDER BY at DESC, id DESC LIMIT \(limit) OFFSET \(offset)
                """)
            return (
                try rows.map { row in
                    LedgerEntry(
                        id: try row.int64("id"), action: try row.text("action"),
                        record: try row.actionRecord(),
                        error: try row.optionalText("error_type"), lease: try row.optionalText("lease_id"),
                        permit: try row.optionalText("permit_id"), service: try row.text("service"),
                        isSummed: try row.bool("summed"))
                }, total
            )
        }
    }

    /// Why a user's accounts are not handed out, and when that changes: the sum over all of them.
    public func refusals(of wish: Acquire, at now: Timestamp) async throws -> NoAccountAvailable {
        try await refusal(of: wish, at: now)
    }
}

extension AccountManager {
    /// Puts yesterday's counters to nothing. Nothing waits for it.
    public func resetDay(of user: Int64? = nil, at now: Timestamp) async throws -> Int {
        var reset = 0
        while true {
            let count = try await store.tidyCounters(limit: 5_000, of: user, at: now)
            reset += count
            if count < 5_000 { return reset }
        }
    }
}
