public import Contracts
public import Core

/// Where a target came from.
public enum TargetSource: String, Sendable, CaseIterable {
    case manual = "MANUAL"
    case fileUpload = "FILE_UPLOAD"
    case parsingImport = "PARSING_IMPORT"
}

/// One person of a campaign, before they stand in it.
public struct NewTarget: Equatable, Sendable {
    public var identity: PersonIdentity
    public var email: String?
    public var fullName: String?
    public var source: TargetSource
    /// Which file, which parse task.
    public var sourceDetail: String?
    /// On what ground the person may be contacted.
    public var consentBasis: String?
    /// The community they were met in, however written.
    public var seenIn: String?

    public init(
        _ identity: PersonIdentity, email: String? = nil, fullName: String? = nil,
        source: TargetSource = .manual, sourceDetail: String? = nil, consentBasis: String? = nil,
        seenIn: String? = nil
    ) {
        self.identity = identity
        self.email = email
        self.fullName = fullName
        self.source = source
        self.sourceDetail = sourceDetail
        self.consentBasis = consentBasis
        self.seenIn = seenIn
    }
}

public struct InviteTarget: Equatable, Sendable {
    public let id: Int64
    public let taskID: Int64
    public let userID: Int64
    public var identity: PersonIdentity
    public var email: String?
    public var fullName: String?
    public var source: TargetSource
    public var sourceDetail: String?
    public var consentBasis: String?
    /// The community they were met in.
    public var seenIn: String?
    /// Accounts that have turned out not to know them.
    public var strangers: [String]
    public var stage: TargetStage
    /// Is to be written to instead of added.
    public var asMessage: Bool
    public var errorCode: String?
    /// Telegram's own words.
    public var errorDetail: String?
    /// Those that were the target's own.
    public var attempts: Int
    public var detours: Int
    public var looks: Int
    public var notBefore: Timestamp
    public var attemptID: String?
    public var accountID: String?
    public var invitedAt: Timestamp?
    public var isMember: Bool?
    public var inviteLink: String?
    public var linkAccountID: String?
    public var joined: Int
    public var createdAt: Timestamp
    public var updatedAt: Timestamp

    /// As integration-service is told.
    public var person: PersonReference {
        PersonReference(
            username: identity.username, phone: identity.phone, userID: identity.platformID, seenIn: seenIn,
            name: fullName)
    }

    /// Who is looking for them where they were met, and so knows more of the people there every minute.
    var seeker: String? {
        guard errorCode == SendRefusal.personUnseen.rawValue, let accountID else { return nil }
        return strangers.contains(accountID) ? nil : accountID
    }
}

extension InviteTarget {
    public func json(_ language: Language) -> JSONValue {
        let reason = errorCode.flatMap { TargetReason(code: $0) }
        return .object([
            JSONMember("id", .int(id)), JSONMember("task_id", .int(taskID)),
            JSONMember("username", JSONValue(identity.username)),
            JSONMember("phone_number", JSONValue(identity.phone)),
            JSONMember("user_id_platform", JSONValue(identity.platformID.map(String.init))),
            JSONMember("email", JSONValue(email)), JSONMember("full_name", JSONValue(fullName)),
            JSONMember("source", .string(source.rawValue)),
            JSONMember("source_detail", JSONValue(sourceDetail)),
            JSONMember("consent_basis", JSONValue(consentBasis)), JSONMember("seen_in", JSONValue(seenIn)),
            JSONMember("status", .string(stage.name)), JSONMember("error_code", JSONValue(errorCode)),
            JSONMember("error_message", JSONValue(reason?.text(language) ?? errorDetail)),
            JSONMember("attempts", JSONValue(attempts)), JSONMember("account_id", JSONValue(accountID)),
            JSONMember("not_before", notBefore == .epoch ? .null : notBefore.json),
            JSONMember("invited_at", JSONValue(invitedAt)),
            JSONMember("is_member", isMember.map { .bool($0) } ?? .null),
            JSONMember("invite_link", JSONValue(inviteLink)), JSONMember("joined", JSONValue(joined)),
            JSONMember("created_at", createdAt.json), JSONMember("updated_at", updatedAt.json),
        ])
    }
}

public struct TargetQuery: Equatable, Sendable {
    public var statusName: String?
    public var errorCode: String?
    /// A part of the username, the number or the name.
    public var text: String?
    public init(statusName: String? = nil, errorCode: String? = nil, text: String? = nil) {
        self.statusName = statusName
        self.errorCode = errorCode
        self.text = text
    }
}

/// What the writing of a list came to.
public struct AddedTargets: Equatable, Sendable {
    public var ids: [Int64]
    /// Stood in the task already, or twice in the list: the first one counts.
    public var duplicates: Int
    public init(ids: [Int64], duplicates: Int) {
        self.ids = ids
        self.duplicates = duplicates
    }
}
