public import Core

/// What one account's client is opened with.
public struct SessionParameters: Sendable, Equatable {
    /// Its own folder, never shared, copied while open, or opened twice: that would destroy the session.
    public var directory: String
    /// Seals the session on disk: 32 bytes of a key that is kept elsewhere.
    public var encryptionKey: Secret<[UInt8]>
    /// Whether seen people and chats are kept on disk over a restart, at about 1 MB of memory a client.
    public var keepsDatabase: Bool

    public init(directory: String, encryptionKey: Secret<[UInt8]>, keepsDatabase: Bool = false) {
        self.directory = directory
        self.encryptionKey = encryptionKey
        self.keepsDatabase = keepsDatabase
    }
}

/// What this program says of itself to Telegram. The same for all accounts, and true.
public struct TelegramApplication: Sendable, Equatable {
    public var apiID: Int32
    public var apiHash: Secret<String>
    public var deviceModel: String
    public var systemVersion: String
    public var version: String
    public var languageCode: String
    /// Telegram's separate world of test accounts.
    public var usesTestServers: Bool

    public init(
        apiID: Int32, apiHash: Secret<String>, deviceModel: String = "Convoke server",
        systemVersion: String = "",
        version: String = "1.0", languageCode: String = "en", usesTestServers: Bool = false
    ) {
        self.apiID = apiID
        self.apiHash = apiHash
        self.deviceModel = deviceModel
        self.systemVersion = systemVersion
        self.version = version
        self.languageCode = languageCode
        self.usesTestServers = usesTestServers
    }

    /// For the sandbox, which believes any key that is not empty.
    public static let sandbox = TelegramApplication(apiID: 1, apiHash: Secret("sandbox"))
}
