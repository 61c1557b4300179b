import Core
import HTTP
import Security
import ServiceKit
public import Telegram

/// Which Telegram a service talks to.
public struct TelegramSource: Sendable {
    public let transport: any TelegramTransport
    public let application: TelegramApplication
    /// Where tokens of bots are checked.
    public let botAPI: String

    public init(_ transport: any TelegramTransport, _ application: TelegramApplication, botAPI: String) {
        self.transport = transport
        self.application = application
        self.botAPI = botAPI
    }

    /// The real one where its library is named, else the sandbox.
    static func configured(_ context: ServiceContext) async throws -> TelegramSource {
        guard let path = context.environment.value("TDJSON_PATH") else {
            let address = context.peers.addresses(of: "telegram-sandbox")[0]
            let transport = NetworkTransport(
                address, client: context.client,
                headers: {
                    let token = context.tokens.service(context.name, onBehalfOf: nil, now: context.time.now)
                    return ["Authorization": "Bearer \(token.expose())"]
                }, time: context.time.machine, random: context.random, log: context.log)
            return TelegramSource(transport, .sandbox, botAPI: address)
        }
        let secrets = context.secrets
        guard let id = try await secrets.value("TELEGRAM_API_ID").flatMap({ Int32($0.expose()) }),
            let hash = try await secrets.value("TELEGRAM_API_HASH")
        else {
            throw ConfigurationError(mistakes: [
                "TELEGRAM_API_ID and TELEGRAM_API_HASH are needed with TDJSON_PATH; my.telegram.org gives them"
            ])
        }
        return TelegramSource(
            try TDLibTransport(path: path),
            TelegramApplication(apiID: id, apiHash: hash, version: platformVersion),
            botAPI: "https://api.telegram.org")
    }
}
