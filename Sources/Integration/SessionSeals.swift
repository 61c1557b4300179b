public import Core
public import Security
public import Storage

/// Seals the key of each session's database, and the tokens of bots: under a key of its own for each, which is
/// derived from the secret source's and stored nowhere.
public struct SessionSeals: Sendable {
    private let keys: SealingKeys
    private let random: any RandomSource

    public init(_ keys: SealingKeys, random: any RandomSource = SystemRandom()) {
        self.keys = keys
        self.random = random
    }

    /// A new session's key, and the form in which it is stored.
    public func newKey(for session: UniqueID) -> (key: Secret<[UInt8]>, sealed: String) {
        let key = Secret(random.bytes(32))
        let sealed = sessionKeys(session).seal(Secret(Base64.encode(key.expose())), for: binding(session))
        return (key, sealed)
    }

    public func open(_ sealed: String, of session: UniqueID) throws(SealingError) -> Secret<[UInt8]> {
        let text = try sessionKeys(session).open(sealed, for: binding(session)).expose()
        guard let key = Base64.decode(text) else { throw .malformed }
        return Secret(key)
    }

    public func seal(_ token: BotToken, of bot: UniqueID) -> String {
        keys.keys(for: "telegram-bot/\(bot)").seal(
            token.secret, for: SealBinding("telegram_bots", bot.description, "sealed_token"))
    }

    public func openToken(_ sealed: String, of bot: UniqueID) throws(SealingError) -> Secret<String> {
        try keys.keys(for: "telegram-bot/\(bot)").open(
            sealed, for: SealBinding("telegram_bots", bot.description, "sealed_token"))
    }

    private func sessionKeys(_ session: UniqueID) -> SealingKeys {
        keys.keys(for: "telegram-session/\(session)")
    }
    private func binding(_ session: UniqueID) -> SealBinding {
        SealBinding("telegram_session", session.description, "key")
    }
}
