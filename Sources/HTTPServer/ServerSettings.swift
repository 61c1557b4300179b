public import Core

/// Where a server listens and what it puts up with.
public struct ServerSettings: Sendable {
    public var host: String
    /// 0 lets the system choose; `HTTPServer.port` tells which.
    public var port: Int
    /// How many threads read and write.
    public var threads: Int
    public var handlers: Handlers
    public var limits: Limits
    public var tls: TLS?

    public init(
        host: String = "127.0.0.1", port: Int, threads: Int = 2, handlers: Handlers = .onPool,
        limits: Limits = Limits(), tls: TLS? = nil
    ) {
        self.host = host
        self.port = port
        self.threads = threads
        self.handlers = handlers
        self.limits = limits
        self.tls = tls
    }

    /// Where the tasks run that answer requests.
    public enum Handlers: Sendable {
        /// On Swift's own threads: what one handler computes holds up no other.
        case onPool
        /// On the thread that reads the request: for handlers that only pass things on, which save the way
        /// to another thread and back. One that computes for long holds up all connections of its thread.
        case onLoop
    }

    /// A certificate chain and its key, both in PEM.
    public struct TLS: Sendable {
        public var certificate: String
        public var key: Secret<String>

        public init(certificate: String, key: Secret<String>) {
            self.certificate = certificate
            self.key = key
        }
    }

    public struct Limits: Sendable {
        public var connections = 20_000
        /// From one address. Behind a proxy all come from one, so the default leaves room.
        public var connectionsPerAddress = 12_000
        /// Request line and header fields together.
        public var headBytes = 16 << 10
        public var headerCount = 100
        /// Beyond it 413, before a byte of the body is read where the length is declared.
        public var bodyBytes = 64 << 20
        /// From the connection, or from the first line of a later request, to the end of the head.
        public var head = Duration.seconds(10)
        /// Between two requests of a connection.
        public var idle = Duration.seconds(75)
        /// The longest a client may neither send what it announced nor take what it asked for.
        public var stall = Duration.seconds(30)
        /// What a client that does send or take has to manage in every `stall`.
        public var bytesPerStall = 4 << 10
        /// How long running handlers may go on once the server is to stop.
        public var finish = Duration.seconds(15)

        public init() {}
    }
}
