public import Core

/// An account on loan.
public struct AccountLease: Equatable, Sendable {
    public var account: String
    public var lease: String
    public var fencingToken: Int64
    public var until: Timestamp

    public init(account: String, lease: String, fencingToken: Int64, until: Timestamp) {
        self.account = account
        self.lease = lease
        self.fencingToken = fencingToken
        self.until = until
    }

    var stored: JSONValue {
        [
            "account": .string(account), "lease": .string(lease), "fencing_token": .int(fencingToken),
            "until": until.json,
        ]
    }

    init?(stored json: JSONValue?) {
        guard let account = json?["account"]?.stringValue, let lease = json?["lease"]?.stringValue,
            let token = json?["fencing_token"]?.intValue,
            let until = json?["until"]?.stringValue.flatMap({ Timestamp($0) })
        else { return nil }
        self.init(account: account, lease: lease, fencingToken: token, until: until)
    }
}

/// Who lends accounts: account-manager, which alone decides about them.
public protocol AccountLending: Sendable {
    /// Throws `NoAccount` where there is none.
    func lease(user: Int64, excluding: [String], for duration: Duration) async throws -> AccountLease

    /// Nil where the lease has ended.
    func extend(_ lease: AccountLease, user: Int64, for duration: Duration) async throws -> AccountLease?

    /// Giving back twice is no error.
    func giveBack(_ lease: AccountLease, user: Int64) async throws

    /// Tells of what the platform did to an account.
    func report(
        _ type: String, message: String, seconds: Int64?, of lease: AccountLease, user: Int64
    ) async throws
}

/// No account is free.
public struct NoAccount: Error, Equatable, Sendable {
    /// How many are out for which reason.
    public let reasons: JSONValue
    /// The first moment one becomes free, where that is known.
    public let retryAt: Timestamp?

    public init(reasons: JSONValue, retryAt: Timestamp?) {
        self.reasons = reasons
        self.retryAt = retryAt
    }
}
