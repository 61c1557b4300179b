public import Core
public import HTTP

/// Which Telegram is spoken with. A library that is named is the real one; without it there is the sandbox.
public enum TelegramLocation: Equatable, Sendable {
    /// The path of `libtdjson`.
    case library(path: String)
    /// The address of a telegram-sandbox.
    case sandbox(address: String)

    /// `TDJSON_PATH`, else `sandbox`, which is where that service is.
    public init(from environment: inout Environment, sandbox: String) {
        if environment.has("TDJSON_PATH") {
            self = .library(path: environment.string("TDJSON_PATH", default: ""))
        } else {
            self = .sandbox(address: sandbox)
        }
    }

    public var isReal: Bool {
        if case .library = self { true } else { false }
    }

    /// A library that cannot be loaded is an error at once: nothing falls back to a simulation in silence.
    public func open(
        client: any HTTPSending, headers: @escaping @Sendable () -> Headers = { [:] }, log: Log
    ) throws -> any TelegramTransport {
        switch self {
        case .library(let path): return try TDLibTransport(path: path)
        case .sandbox(let address):
            return NetworkTransport(address, client: client, headers: headers, log: log)
        }
    }
}

extension TelegramApplication {
    /// `TELEGRAM_API_ID` and `TELEGRAM_API_HASH`: of the operator's own application, needed for the real one.
    public init(from environment: inout Environment, location: TelegramLocation) {
        guard location.isReal else {
            self = .sandbox
            return
        }
        let id = environment.int("TELEGRAM_API_ID", default: 0, in: 0...Int(Int32.max))
        let hash = environment.secret("TELEGRAM_API_HASH")
        if id == 0 || hash == nil {
            environment.mistake(
                "TELEGRAM_API_ID and TELEGRAM_API_HASH are needed for the real Telegram: https://my.telegram.org gives them"
            )
        }
        self.init(
            apiID: Int32(id), apiHash: hash ?? Secret(""),
            usesTestServers: environment.bool("TELEGRAM_TEST_SERVERS", default: false))
    }
}
