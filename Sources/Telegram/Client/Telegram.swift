public import Core
import Synchronization

/// All accounts of this process on Telegram: opens their clients, hands each what is its own, closes them in
/// order at the end.
public final class Telegram: Service {
    public let name = "telegram"
    private let transport: any TelegramTransport
    private let application: TelegramApplication
    private let limits: RequestLimits
    private let time: any TimeSource
    private let log: Log
    private let metrics: TelegramMetrics

    private struct State {
        var clients: [ClientID: TelegramClient] = [:]
        /// Folders that are open, or about to be: one opened twice is a session lost.
        var directories: Set<String> = []
        var isStopping = false
    }
    private let state = Mutex(State())

    public init(
        _ transport: any TelegramTransport, application: TelegramApplication, limits: RequestLimits = .init(),
        time: any TimeSource, metrics: Metrics = Metrics(), log: Log = .silent
    ) {
        self.transport = transport
        self.application = application
        self.limits = limits
        self.time = time
        self.log = log
        self.metrics = TelegramMetrics(metrics)
        transport.start { [weak self] event in self?.route(event) }
    }

    /// Opens an account's folder and brings its client as far as it gets by itself: to `ready` where a session
    /// is stored, else to `waitPhoneNumber`, or the step at which an earlier login was left.
    public func open(_ session: SessionParameters) async throws -> TelegramClient {
        let (isStopping, isFree) = state.withLock { state in
            (state.isStopping, !state.isStopping && state.directories.insert(session.directory).inserted)
        }
        guard !isStopping else {
            throw TelegramFailure(
                .aborted, code: 500, message: "Request aborted", method: "setTdlibParameters")
        }
        guard isFree else {
            throw TelegramFailure(
                .databaseInUse, code: 400, message: "The folder is open already", method: "setTdlibParameters"
            )
        }
        let client = TelegramClient(
            id: transport.makeClient(), session: session, transport: transport, limits: limits, time: time,
            metrics: metrics)
        state.withLock { $0.clients[client.id] = client }
        metrics.open.set(Double(state.withLock { $0.clients.count }))
        do {
            try await client.start(application)
            return client
        } catch {
            await client.end(.close)
            throw error
        }
    }

    public var openClients: [TelegramClient] { state.withLock { Array($0.clients.values) } }

    /// Runs until cancelled, then closes every client and waits until each is closed: leaving earlier would
    /// lose what is not yet written.
    public func run() async throws {
        // Not a child: it has to go on while the clients close.
        let running = Task.detached { [transport] in try await transport.run() }
        let (stream, continuation) = AsyncStream<Never>.makeStream()
        let watch = Task.detached {
            _ = await running.result
            continuation.finish()
        }
        for await _ in stream {}
        let wasCancelled = Task.isCancelled
        await closeAll()
        running.cancel()
        _ = await watch.value
        if !wasCancelled { try await running.value }
    }

    /// Closes every client in order. No further one can be opened.
    public func closeAll() async {
        let clients = state.withLock { state in
            state.isStopping = true
            return Array(state.clients.values)
        }
        // Out of reach of a cancelled caller: closing has to come to its end.
        await Task.detached {
            await withTaskGroup(of: Void.self) { group in
                for client in clients { group.addTask { await client.end(.close) } }
            }
        }.value
    }

    private func route(_ event: TransportEvent) {
        switch event {
        case .message(let message):
            guard let number = message["@client_id"]?.intValue, let id = ClientID(exactly: number),
                let client = state.withLock({ $0.clients[id] })
            else { return }
            // First, so that whoever waits for the end may open the folder again at once.
            if message.isClosedState { forget(client) }
            client.receive(message)
        case .log(let line):
            guard let reason = SessionLossLine.reason(of: line), let id = SessionLossLine.client(of: line)
            else { return }
            state.withLock { $0.clients[id] }?.note(lossReason: reason)
        case .connectionReset:
            log.warning("telegram.connection-reset")
            for client in openClients {
                forget(client)
                client.receive(.closedState)
            }
        }
    }

    private func forget(_ client: TelegramClient) {
        let count = state.withLock { state in
            state.clients[client.id] = nil
            state.directories.remove(client.session.directory)
            return state.clients.count
        }
        metrics.open.set(Double(count))
    }
}

/// How long we wait for Telegram. TDLib itself has no limits, and may rightly take a minute: it waits out
/// shorter floods before it answers.
public struct RequestLimits: Sendable, Equatable {
    /// For what asks the server. Above the 60 s that TDLib may use up by itself.
    public var server: Duration
    /// For what TDLib answers from memory, and for opening and closing.
    public var local: Duration

    public init(server: Duration = .seconds(100), local: Duration = .seconds(30)) {
        self.server = server
        self.local = local
    }
}

struct TelegramMetrics: Sendable {
    let open: Gauge
    let requests: Labeled<Counter>
    let failures: Labeled<Counter>
    let losses: Labeled<Counter>

    init(_ metrics: Metrics) {
        open = metrics.gauge("telegram_clients_open", "Accounts whose client is open")
        requests = metrics.counters("telegram_requests_total", "Requests to Telegram", labels: ["method"])
        failures = metrics.counters(
            "telegram_failures_total", "Requests Telegram refused or left unanswered",
            labels: ["method", "reason"])
        losses = metrics.counters(
            "telegram_sessions_lost_total", "Sessions ended from outside", labels: ["reason"])
    }
}

extension JSONValue {
    static let closedState: JSONValue = [
        "@type": "updateAuthorizationState", "authorization_state": ["@type": "authorizationStateClosed"],
    ]
}
