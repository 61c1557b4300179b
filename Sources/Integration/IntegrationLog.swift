public import Core
public import Storage

/// One operation of the integration log. It holds no names, numbers or texts of people: those are where the
/// operation was asked for, and can be erased there.
public struct LogEntry: Equatable, Sendable {
    public enum Status: String, Sendable, CaseIterable { case success, error, started }

    public let id: UniqueID
    public let userID: Int64
    public let accountID: UniqueID?
    public let action: Action
    public let status: Status
    public let errorCode: String?
    public let details: JSONValue
    public let requestID: String
    public let duration: Duration
    public let at: Timestamp

    public init(
        id: UniqueID, userID: Int64, accountID: UniqueID?, action: Action, status: Status,
        errorCode: String? = nil,
        details: JSONValue = [:], requestID: String, duration: Duration, at: Timestamp
    ) {
        self.id = id
        self.userID = userID
        self.accountID = accountID
        self.action = action
        self.status = status
        self.errorCode = errorCode
        self.details = details
        self.requestID = requestID
        self.duration = duration
        self.at = at
    }
}

/// What is written to the log.
public enum Action: String, Sendable, CaseIterable {
    case connect, verify, qrCode = "qr_code", qrCheck = "qr_check"
    case resendCode = "resend_code"
    case loginFinished = "login_finished"
    case loginExpired = "login_expired"
    case disconnect
    case sessionLost = "session_lost"
    case frozen
    case checkAdmin = "check_admin"
    case groupInvite = "group_invite"
    case directMessage = "direct_message"
    case addContact = "add_contact"
    case membership
    case inviteLink = "invite_link"
    case community, join
    case readMembers = "read_members"
    case readMessages = "read_messages"
    case readComments = "read_comments"
    case search
    case botAdded = "bot_added"
    case botChanged = "bot_changed"
    case botChecked = "bot_checked"
    case botRemoved = "bot_removed"
    case channelAdded = "channel_added"
    case channelChanged = "channel_changed"
    case channelChecked = "channel_checked"
    case channelRemoved = "channel_removed"
}

extension Action {
    public init(_ kind: Attempt.Kind) {
        switch kind {
        case .groupInvite: self = .groupInvite
        case .directMessage: self = .directMessage
        case .addContact: self = .addContact
        }
    }

    public var title: LocalizedText {
        switch self {
        case .connect: .init("Code requested", "Запрошен код")
        case .verify: .init("Code or password entered", "Введён код или пароль")
        case .qrCode: .init("QR code shown", "Показан QR-код")
        case .qrCheck: .init("QR login checked", "Проверен вход по QR")
        case .resendCode: .init("Code requested again", "Код запрошен повторно")
        case .loginFinished: .init("Account connected", "Аккаунт подключён")
        case .loginExpired: .init("Connection given up", "Подключение не завершено")
        case .disconnect: .init("Account disconnected", "Аккаунт отключён")
        case .sessionLost: .init("Session lost", "Сеанс утрачен")
        case .frozen: .init("Account frozen by Telegram", "Аккаунт заморожен Telegram")
        case .checkAdmin: .init("Administrator rights checked", "Проверены права администратора")
        case .groupInvite: .init("Invitation into a group", "Приглашение в группу")
        case .directMessage: .init("Direct message", "Личное сообщение")
        case .addContact: .init("Contact added", "Добавлен контакт")
        case .membership: .init("Membership checked", "Проверено участие")
        case .inviteLink: .init("Invite link", "Ссылка-приглашение")
        case .community: .init("Community looked up", "Найдено сообщество")
        case .join: .init("Community joined", "Вступление в сообщество")
        case .readMembers: .init("Members read", "Прочитаны участники")
        case .readMessages: .init("Messages read", "Прочитаны сообщения")
        case .readComments: .init("Comments read", "Прочитаны комментарии")
        case .search: .init("Communities searched", "Поиск сообществ")
        case .botAdded: .init("Bot added", "Добавлен бот")
        case .botChanged: .init("Bot changed", "Изменён бот")
        case .botChecked: .init("Bot checked", "Проверен бот")
        case .botRemoved: .init("Bot removed", "Удалён бот")
        case .channelAdded: .init("Channel added", "Добавлен канал")
        case .channelChanged: .init("Channel changed", "Изменён канал")
        case .channelChecked: .init("Channel checked", "Проверен канал")
        case .channelRemoved: .init("Channel removed", "Удалён канал")
        }
    }
}

/// Which entries somebody wants to see.
public struct LogFilter: Equatable, Sendable {
    public var action: Action?
    public var status: LogEntry.Status?
    public var accountID: UniqueID?
    public var from: Timestamp?
    public var to: Timestamp?

    public init(
        action: Action? = nil, status: LogEntry.Status? = nil, accountID: UniqueID? = nil,
        from: Timestamp? = nil,
        to: Timestamp? = nil
    ) {
        self.action = action
        self.status = status
        self.accountID = accountID
        self.from = from
        self.to = to
    }

    func condition(of user: Int64) -> SQL {
        var condition: SQL = "user_id = \(user)"
        if let action { condition = "\(condition) AND action = \(action.rawValue)" }
        if let status { condition = "\(condition) AND status = \(status.rawValue)" }
        if let accountID { condition = "\(condition) AND account_id = \(accountID)" }
        if let from { condition = "\(condition) AND at >= \(from)" }
        if let to { condition = "\(condition) AND at < \(to)" }
        return condition
    }
}

public struct ErrorCount: Equatable, Sendable {
    public let action: Action
    public let code: String
    public let count: Int
    public let last: Timestamp
}

public struct LogStore: Sendable {
    let database: any Database

    public init(_ database: any Database) { self.database = database }

    public func write(_ entry: LogEntry) async throws {
        try await database.gather(Self.writing(entry))
    }

    static func writing(_ entry: LogEntry) -> SQL {
        """
        INSERT INTO integration_logs (id, user_id, account_id, action, status, error_code, details, request_id,
            duration_ms, at)
        VALUES (\(entry.id), \(entry.userID), \(entry.accountID), \(entry.action.rawValue),
            \(entry.status.rawValue), \(entry.errorCode), \(entry.details), \(entry.requestID),
            \(entry.duration.milliseconds), \(entry.at))
        """
    }

    /// The newest first.
    public func entries(
        of user: Int64, _ filter: LogFilter, offset: Int, limit: Int
    ) async throws -> (items: [LogEntry], total: Int) {
        let condition = filter.condition(of: user)
        let rows = try await database.run(
            """
            SELECT * FROM integration_logs WHERE \(condition) ORDER BY at DESC, id DESC
            LIMIT \(limit) OFFSET \(offset)
            """)
        let total = try await database.run(
            "SELECT count(*) AS total FROM integration_logs WHERE \(condition)")
        return (try rows.map { try LogEntry($0) }, try total.first?.int("total") ?? 0)
    }

    /// Errors by action and code, the most frequent first.
    public func errors(of user: Int64, _ filter: LogFilter) async throws -> [ErrorCount] {
        try await database.run(
            """
            SELECT action, error_code, count(*) AS count, max(at) AS last FROM integration_logs
            WHERE \(filter.condition(of: user)) AND error_code IS NOT NULL
            GROUP BY action, error_code ORDER BY count(*) DESC, error_code, action LIMIT 500
            """
        ).compactMap { row in
            guard let action = Action(rawValue: try row.text("action")) else { return nil }
            return ErrorCount(
                action: action, code: try row.text("error_code"), count: try row.int("count"),
                last: try row.timestamp("last"))
        }
    }

    /// How many operations there were in all, to set the errors against.
    public func count(of user: Int64, _ filter: LogFilter) async throws -> Int {
        try await database.run(
            "SELECT count(*) AS total FROM integration_logs WHERE \(filter.condition(of: user))"
        ).first?.int("total") ?? 0
    }

    public func tidy(before moment: Timestamp) async throws {
        try await database.run("DELETE FROM integration_logs WHERE at < \(moment)")
    }
}

extension LogEntry {
    init(_ row: Row) throws {
        guard let action = Action(rawValue: try row.text("action")),
            let status = Status(rawValue: try row.text("status"))
        else { throw StorageError.unexpectedColumn("action or status holds no known word") }
        self.init(
            id: try row.uuid("id"), userID: try row.int64("user_id"),
            accountID: try row.optionalUUID("account_id"),
            action: action, status: status, errorCode: try row.optionalText("error_code"),
            details: try row.json("details"), requestID: try row.text("request_id"),
            duration: .milliseconds(try row.int64("duration_ms")), at: try row.timestamp("at"))
    }

    public func json(in language: Language) -> JSONValue {
        [
            "id": id.json, "source": "integration-service", "account_id": accountID?.json ?? .null,
            "action": .string(action.rawValue),
            "title": .string(action.title(language)), "status": .string(status.rawValue),
            "error_code": JSONValue(errorCode), "details": details, "request_id": .string(requestID),
            "duration_ms": .int(duration.milliseconds), "created_at": at.json,
        ]
    }
}
