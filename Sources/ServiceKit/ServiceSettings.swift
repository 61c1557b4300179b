public import Broker
public import Cache
public import Core
import HTTPServer
public import Security
public import Storage

/// Who may call a service.
public enum AuthMode: String, Sendable, CaseIterable {
    /// Every call needs a token.
    case strict
    /// On loopback alone: a call without a token acts as the user it names, so that the documented commands
    /// work as they are written.
    case dev
}

/// What a process is told once for all services in it.
public struct ProcessSettings: Sendable {
    public let dataFolder: String
    public let cache: CacheLocation
    public let queue: AMQPAddress?
    public let vault: VaultSettings?
    public let timeScale: Double
    public let timeOrigin: Timestamp?
    public let logLevel: LogLevel
    let environment: Environment

    public init(from environment: consuming Environment) throws(ConfigurationError) {
        self.environment = environment
        dataFolder = environment.string("DATA_DIR", default: "data")
        cache = CacheLocation(from: &environment)
        queue = environment.parsed(
            "RABBITMQ_URL", default: nil, expects: "amqp://user:password@host:port/vhost"
        ) {
            AMQPAddress($0)
        }
        vault = VaultSettings(from: &environment)
        timeScale = environment.double("CONVOKE_TIME_SCALE", default: 1, in: 0.001...1_000_000)
        timeOrigin = environment.parsed(
            "CONVOKE_TIME_ORIGIN", default: nil, expects: "a time such as 2025-08-24T10:00:00Z"
        ) { Timestamp($0) }
        logLevel = environment.choice("LOG_LEVEL", default: .info)
        try environment.finish()
    }

    /// The machine's time, or a scaled one for demonstrations.
    public var time: any TimeSource {
        timeScale == 1 && timeOrigin == nil
            ? SystemTime() : ScaledTime(origin: timeOrigin ?? SystemTime().now, scale: timeScale)
    }
}

/// What one service is told: where it listens, whom it trusts, where its data is.
public struct ServiceSettings: Sendable {
    public let host: String
    public let port: Int
    public let authMode: AuthMode
    public let database: DatabaseLocation?
    public let bodyLimit: Int
    public let connections: Int
    public let connectionsPerAddress: Int
    public let threads: Int
    let tls: ServerSettings.TLS?

    init(
        for service: ServiceDefinition, from environment: consuming Environment, dataFolder: String
    ) throws(ConfigurationError) {
        // In one process every service listens on a port of its own, so only the name's own variable counts.
        let prefix = service.name.uppercased().replacing("-", with: "_")
        let base = environment.int("CONVOKE_PORT_BASE", default: 8000, in: 1024...65_000)
        host = environment.string("HOST", default: "127.0.0.1")
        port = environment.int("\(prefix)_PORT", default: base + service.portOffset, in: 0...65_535)
        authMode = environment.choice("AUTH_MODE", default: .dev)
        if authMode == .dev, !isLoopback(host) {
            environment.mistake("AUTH_MODE must be strict when HOST is not a loopback address")
        }
        database = databaseLocation(for: service, from: &environment, dataFolder: dataFolder)
        bodyLimit = environment.int("MAX_BODY_BYTES", default: 2 << 30, in: 1024...(64 << 30))
        connections = environment.int("MAX_CONNECTIONS", default: 12_000, in: 10...1_000_000)
        connectionsPerAddress = environment.int(
            "MAX_CONNECTIONS_PER_ADDRESS", default: 12_000, in: 1...1_000_000)
        threads = environment.int("HTTP_THREADS", default: 2, in: 1...256)
        // The certificate is no secret; the key is, and is read as one (`TLS_KEY` or `TLS_KEY_FILE`).
        let certificate = environment.secret("TLS_CERTIFICATE")?.expose()
        let key = environment.secret("TLS_KEY")
        if (certificate == nil) != (key == nil) {
            environment.mistake("TLS_CERTIFICATE and TLS_KEY belong together")
        }
        tls = certificate.flatMap { certificate in key.map { .init(certificate: certificate, key: $0) } }
        try environment.finish()
    }
}

/// Reads everything that this process and its services will read, and throws with all mistakes together: an
/// operator mends them in one go, and nothing has been opened yet.
public func checkSettings(of services: [ServiceDefinition], in environment: Environment)
    throws(ConfigurationError)
{
    var mistakes: [String] = []
    func gather(_ read: () throws(ConfigurationError) -> Void) {
        do {
            try read()
        } catch {
            for mistake in error.mistakes where !mistakes.contains(mistake) { mistakes.append(mistake) }
        }
    }
    gather { () throws(ConfigurationError) in _ = try ProcessSettings(from: environment) }
    for service in services {
        gather { () throws(ConfigurationError) in
            _ = try ServiceSettings(for: service, from: environment, dataFolder: "data")
        }
        var environment = environment
        let mode: AuthMode = environment.choice("AUTH_MODE", default: .dev)
        gather { () throws(ConfigurationError) in try service.checkSettings(environment, mode) }
    }
    guard mistakes.isEmpty else { throw ConfigurationError(mistakes: mistakes) }
}

extension ServiceDefinition {
    /// Where this service keeps its data, for a command that reads it beside the service.
    public func databaseLocation(
        in environment: consuming Environment, dataFolder: String
    ) throws(ConfigurationError) -> DatabaseLocation? {
        let location = ServiceKit.databaseLocation(for: self, from: &environment, dataFolder: dataFolder)
        try environment.finish()
        return location
    }
}

/// `DATABASE_URL` (with the service's own database where the URL names none), or `POSTGRES_SERVER` and its
/// neighbours, or a file in the data folder.
private func databaseLocation(
    for service: ServiceDefinition, from environment: inout Environment, dataFolder: String
) -> DatabaseLocation? {
    guard let name = service.database else { return nil }
    if environment.has("DATABASE_URL") {
        let location = environment.parsed(
            "DATABASE_URL", default: DatabaseLocation.sqlite(":memory:"), expects: DatabaseLocation.form
        ) { DatabaseLocation($0) }
        return location.naming(name)
    }
    if let server = environment.value("POSTGRES_SERVER") {
        let port = environment.int("POSTGRES_PORT", default: 5432, in: 1...65_535)
        let user = percentEncodedUser(environment.string("POSTGRES_USER", default: "postgres"))
        let password =
            environment.secret("POSTGRES_PASSWORD").map { ":" + percentEncodedUser($0.expose()) } ?? ""
        let database = environment.string("POSTGRES_DB", default: name)
        return .postgres(Secret("postgres://\(user)\(password)@\(server):\(port)/\(database)"))
    }
    return .sqlite("\(dataFolder)/\(name).sqlite")
}

/// `127.0.0.1` and its like, to the last digit: `127.0.0.1.example.com` is a name that anybody may own.
func isLoopback(_ host: String) -> Bool {
    if ["localhost", "::1", "[::1]"].contains(host.lowercased()) { return true }
    let parts = host.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts[0] == "127"
        && parts.allSatisfy { part in
            (1...3).contains(part.utf8.count) && part.utf8.allSatisfy { (0x30...0x39).contains($0) }
                && UInt8(part) != nil
        }
}
