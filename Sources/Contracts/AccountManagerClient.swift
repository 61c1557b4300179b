public import Core
import HTTP
public import ServiceKit

/// What an account is wanted for.
public enum AccountPurpose: String, Sendable, CaseIterable {
    case inviteCampaign = "invite_campaign"
    case parsing, messaging, contacts, maintenance
}

/// What the limits count.
public enum LimitedAction: String, Sendable, CaseIterable {
    case invite, message
    case addContact = "add_contact"
}

/// An account on loan. Whatever acts in its name shows the lease and its fencing token.
public struct LeasedAccount: Equatable, Sendable {
    public let accountID: String
    public let userID: Int64
    public let phone: String
    public let leaseID: String
    public let fencingToken: Int64
    public let expiresAt: Timestamp
    /// For the first action, where one was wanted with the account.
    public let permit: String?

    public init(
        accountID: String, userID: Int64, phone: String, leaseID: String, fencingToken: Int64,
        expiresAt: Timestamp, permit: String? = nil
    ) {
        self.accountID = accountID
        self.userID = userID
        self.phone = phone
        self.leaseID = leaseID
        self.fencingToken = fencingToken
        self.expiresAt = expiresAt
        self.permit = permit
    }
}

/// Nobody is free: why, how many for each reason, and when the first one is.
public struct AllocationRefusal: Equatable, Sendable {
    public let reasons: [String: Int]
    /// Nil when waiting helps none of them.
    public let retryAt: Timestamp?
    public let message: String

    public init(reasons: [String: Int], retryAt: Timestamp?, message: String) {
        self.reasons = reasons
        self.retryAt = retryAt
        self.message = message
    }
}

public enum Allocation: Equatable, Sendable {
    case granted(LeasedAccount)
    case refused(AllocationRefusal)
}

/// What becomes of the lease with the record of what was done under it.
public enum LeaseAfterRecord: String, Sendable {
    case keep
    /// Given back, unless the account may do the same again now.
    case releaseWhenResting = "release_when_resting"
}

/// How an account stands when something was recorded of it.
public struct RecordAnswer: Equatable, Sendable {
    /// Whether it may do the same again now, so that nobody has to ask.
    public let mayGoOn: Bool
    /// Whether it was given back with the record.
    public let isReleased: Bool
}

/// Whether an action is allowed now.
public enum LimitVerdict: Equatable, Sendable {
    /// With the permit, where one was asked for.
    case allowed(permit: String?)
    /// The binding reason, and when it ends; nil for never.
    case refused(reason: String, retryAt: Timestamp?, message: String)
}

public enum Extension: Equatable, Sendable {
    case extended(until: Timestamp)
    /// The lease has run out, or somebody else holds the account.
    case notHeld
}

/// What an error has done to an account.
public struct ErrorVerdict: Equatable, Sendable {
    public let action: String
    public let newStatus: String
    public let recoveryAt: Timestamp?
    public let shouldSwitchAccount: Bool
    public let message: String
}

/// What a lease has done, told when it ends; what was recorded meanwhile counts once.
public struct UsageReport: Equatable, Sendable {
    public var invitesSent = 0
    public var messagesSent = 0
    public var contactsAdded = 0
    public var channelsUsed: [String] = []
    public init() {}
}

/// account-manager, the one authority about accounts and limits.
public struct AccountManagerClient: Sendable {
    private let peer: PeerService
    /// Under which accounts are held.
    private let holder: String
    private static let base = "/api/v1/account-manager"

    public init(_ peers: Peers, as holder: String) {
        peer = PeerService(peers: peers, name: "account-manager")
        self.holder = holder
    }

    // MARK: - Leases

    /// The best account that is free; with `reserve`, a permit for its first action comes with it.
    public func allocate(
        _ purpose: AccountPurpose, for user: Int64, channel: String? = nil, preferred: String? = nil,
        excluding excluded: [String] = [], minutes: Int = 30, reserve: Bool = false
    ) async throws -> Allocation {
        let answer = try await peer.ask(
            .post, "\(Self.base)/allocate", for: user,
            .object(present: [
                "user_id": .int(user), "purpose": .string(purpose.rawValue), "service_name": .string(holder),
                "target_channel_id": channel.map { .string($0) },
                "preferred_account_id": preferred.map { .string($0) },
                "exclude_account_ids": excluded.isEmpty
                    ? nil : .array(excluded.prefix(1000).map { .string($0) }),
                "timeout_minutes": JSONValue(minutes), "reserve": reserve ? true : nil,
            ]))
        if answer.status == 409, answer.code == "no_account_available" {
            let reasons = answer.json["reasons"]?.objectValue ?? []
            return .refused(
                AllocationRefusal(
                    reasons: Dictionary(
                        reasons.map { ($0.name, Int($0.value.intValue ?? 0)) }, uniquingKeysWith: { $1 }),
                    retryAt: answer.moment("retry_at"), message: answer.text("detail") ?? ""))
        }
        guard answer.status == 200 else { throw peer.refusal(answer) }
        guard let account = answer.text("account_id"), let lease = answer.text("lease_id"),
            let token = answer.json["fencing_token"]?.intValue, let end = answer.moment("expires_at")
        else { throw peer.unreadable() }
        return .granted(
            LeasedAccount(
                accountID: account, userID: user, phone: answer.text("phone") ?? "", leaseID: lease,
                fencingToken: token, expiresAt: end, permit: answer.text("permit_id")))
    }

    /// Gives an account back; one that is not held any more is given back already.
    public func release(_ lease: LeasedAccount, _ usage: UsageReport = UsageReport()) async throws {
        let answer = try await peer.ask(
            .post, "\(Self.base)/release/\(lease.accountID)", for: lease.userID,
            [
                "service_name": .string(holder), "lease_id": .string(lease.leaseID),
                "usage_stats": [
                    "invites_sent": JSONValue(usage.invitesSent),
                    "messages_sent": JSONValue(usage.messagesSent),
                    "contacts_added": JSONValue(usage.contactsAdded),
                    "channels_used": .array(usage.channelsUsed.map { .string($0) }),
                ],
            ])
        guard answer.status == 200 || answer.status == 404 || answer.code == "lease_not_held" else {
            throw peer.refusal(answer)
        }
    }

    public func extend(_ lease: LeasedAccount, minutes: Int = 30) async throws -> Extension {
        let answer = try await peer.ask(
            .post, "\(Self.base)/extend/\(lease.accountID)", for: lease.userID,
            [
                "service_name": .string(holder), "lease_id": .string(lease.leaseID),
                "timeout_minutes": JSONValue(minutes),
            ])
        if answer.code == "lease_not_held" || answer.status == 404 { return .notHeld }
        guard answer.status == 200 else { throw peer.refusal(answer) }
        guard let end = answer.moment("expires_at") else { throw peer.unreadable() }
        return .extended(until: end)
    }

    // MARK: - Limits

    /// Whether the account may do this now; with `reserve`, a permit is taken with the answer.
    public func check(
        _ action: LimitedAction, _ lease: LeasedAccount, channel: String? = nil, reserve: Bool
    ) async throws -> LimitVerdict {
        let answer = try await peer.ask(
            .post, "\(Self.base)/rate-limit/check/\(lease.accountID)", for: lease.userID,
            .object(present: [
                "action_type": .string(action.rawValue), "reserve": .bool(reserve),
                "target_channel_id": channel.map { .string($0) }, "lease_id": .string(lease.leaseID),
                "service_name": .string(holder),
            ]))
        guard answer.status == 200, let allowed = answer.json["allowed"]?.boolValue else {
            throw peer.refusal(answer)
        }
        if allowed { return .allowed(permit: answer.text("permit_id")) }
        return .refused(
            reason: answer.text("reason") ?? "unknown", retryAt: answer.moment("retry_at"),
            message: answer.text("message") ?? "")
    }

    /// States what has happened. Under one permit it counts once, however often it is stated.
    @discardableResult
    public func record(
        _ action: LimitedAction, account: String, user: Int64, channel: String? = nil, success: Bool,
        permit: String?, lease: String?, error: String? = nil, then after: LeaseAfterRecord = .keep
    ) async throws -> RecordAnswer {
        let answer = try await peer.ask(
            .post, "\(Self.base)/rate-limit/record/\(account)", for: user,
            .object(present: [
                "action_type": .string(action.rawValue), "success": .bool(success),
                "target_channel_id": channel.map { .string($0) }, "permit_id": permit.map { .string($0) },
                "lease_id": lease.map { .string($0) }, "service_name": .string(holder),
                "error_type": error.map { .string($0) },
                "lease": after == .keep ? nil : .string(after.rawValue),
            ]))
        guard answer.status == 200 else { throw peer.refusal(answer) }
        return RecordAnswer(
            mayGoOn: answer.json["allowed"]?.boolValue ?? true,
            isReleased: answer.json["released"]?.boolValue ?? false)
    }

    /// Gives a permit back that was not used.
    public func release(permit: String, of lease: LeasedAccount) async throws {
        let answer = try await peer.ask(
            .post, "\(Self.base)/rate-limit/release/\(lease.accountID)", for: lease.userID,
            ["permit_id": .string(permit)])
        guard answer.status == 200 || answer.status == 404 else { throw peer.refusal(answer) }
    }

    /// Tells of an error of Telegram's that concerns the account.
    public func handleError(
        _ type: String, message: String, seconds: Int64? = nil, account: String, user: Int64
    ) async throws -> ErrorVerdict {
        let answer = try await peer.ask(
            .post, "\(Self.base)/handle-error/\(account)", for: user,
            [
                "error_type": .string(type), "error_message": .string(String(message.prefix(1000))),
                "context": .object(present: [
                    "service": .string(holder), "seconds": seconds.map { .int($0) },
                ]),
            ])
        guard answer.status == 200 else { throw peer.refusal(answer) }
        return ErrorVerdict(
            action: answer.text("action_taken") ?? "", newStatus: answer.text("new_status") ?? "",
            recoveryAt: answer.moment("recovery_at"),
            shouldSwitchAccount: answer.json["should_switch_account"]?.boolValue ?? true,
            message: answer.text("message") ?? "")
    }

    // MARK: - Why, when, and what if

    /// The verdict account by account, a page at a time, as account-manager shows it.
    public func explain(
        _ purpose: AccountPurpose, for user: Int64, channel: String? = nil, page: Int = 1, pageSize: Int = 100
    ) async throws -> JSONValue {
        var path = "\(Self.base)/explain?user_id=\(user)&purpose=\(purpose.rawValue)"
        if let channel { path += "&target_channel_id=\(percentEncoded(channel))" }
        let answer = try await peer.ask(.get, path + "&page=\(page)&page_size=\(pageSize)", for: user)
        guard answer.status == 200 else { throw peer.refusal(answer) }
        return answer.json
    }

    /// When so many invitations into a channel would be done.
    public func plan(
        invites: Int, into channel: String, for user: Int64, start: Timestamp? = nil, accountsAdded: Int = 0
    ) async throws -> JSONValue {
        let answer = try await peer.ask(
            .post, "\(Self.base)/plan", for: user,
            .object(present: [
                "user_id": .int(user), "target_channel_id": .string(channel), "invites": JSONValue(invites),
                "start_at": start?.json, "accounts_added": JSONValue(accountsAdded),
            ]), deadline: .seconds(30))
        guard answer.status == 200 else { throw peer.refusal(answer) }
        return answer.json
    }
}
