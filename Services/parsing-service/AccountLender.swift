import Contracts
import Core
import Parsing

/// account-manager, as a parse sees it.
struct AccountLender: AccountLending {
    private let client: AccountManagerClient

    init(_ client: AccountManagerClient) { self.client = client }

    func lease(user: Int64, excluding: [String], for duration: Duration) async throws -> AccountLease {
        let allocation = try await client.allocate(
            .parsing, for: user, excluding: excluding, minutes: Int(duration.wholeSecondsUp / 60))
        switch allocation {
        case .granted(let account): return AccountLease(account)
        case .refused(let refusal):
            throw NoAccount(
                reasons: .object(
                    refusal.reasons.sorted { $0.key < $1.key }.map { JSONMember($0.key, JSONValue($0.value)) }
                ),
                retryAt: refusal.retryAt)
        }
    }

    func extend(_ lease: AccountLease, user: Int64, for duration: Duration) async throws -> AccountLease? {
        switch try await client.extend(lease.asked(by: user), minutes: Int(duration.wholeSecondsUp / 60)) {
        case .notHeld: return nil
        case .extended(let until):
            var lease = lease
            lease.until = until
            return lease
        }
    }

    func giveBack(_ lease: AccountLease, user: Int64) async throws {
        try await client.release(lease.asked(by: user))
    }

    func report(
        _ type: String, message: String, seconds: Int64?, of lease: AccountLease, user: Int64
    ) async throws {
        _ = try await client.handleError(
            type, message: message, seconds: seconds, account: lease.account, user: user)
    }
}

extension AccountLease {
    fileprivate init(_ account: LeasedAccount) {
        self.init(
            account: account.accountID, lease: account.leaseID, fencingToken: account.fencingToken,
            until: account.expiresAt)
    }

    fileprivate func asked(by user: Int64) -> LeasedAccount {
        LeasedAccount(
            accountID: account, userID: user, phone: "", leaseID: lease, fencingToken: fencingToken,
            expiresAt: until)
    }
}
