import Core
import HTTP
import HTTPServer
import Synchronization
import Testing

/// Serves `router` on a free port while `body` runs, and ends the server properly afterwards.
func serving(
    _ responder: any Responder, limits: ServerSettings.Limits = .init(), threads: Int = 2,
    log: Log = .silent, time: any TimeSource = SystemTime(), tls: ServerSettings.TLS? = nil,
    _ body: @Sendable (HTTPServer) async throws -> Void
) async throws {
    let server = HTTPServer(
        ServerSettings(port: 0, threads: threads, limits: limits, tls: tls), responder, log: log, time: time)
    try server.bind()
    try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await server.run() }
        do {
            try await body(server)
        } catch {
            group.cancelAll()
            throw error
        }
        group.cancelAll()
        try await group.waitForAll()
    }
}

func router(_ build: (inout Router) -> Void) -> Router {
    var router = Router()
    build(&router)
    return router
}

/// Waits until something that happens elsewhere has happened; a failure after far longer than it takes.
func eventually(
    _ what: String, within limit: Duration = .seconds(100), sourceLocation: SourceLocation = #_sourceLocation,
    _ isSo: () async throws -> Bool
) async throws {
    let time = SystemTime()
    let start = time.uptime
    while try await !isSo() {
        guard time.uptime - start < limit else {
            Issue.record("never happened: \(what)", sourceLocation: sourceLocation)
            return
        }
        try await time.sleep(for: .milliseconds(5))
    }
}

/// A value that one task leaves for another.
final class Mailbox<Value: Sendable>: Sendable {
    private let content = Mutex<Value?>(nil)
    var value: Value? {
        get { content.withLock { $0 } }
        set { content.withLock { $0 = newValue } }
    }
}

/// Counts what happens in handlers.
final class Tally: Sendable {
    private let count = Atomic<Int>(0)
    var value: Int { count.load(ordering: .acquiring) }
    func add(_ amount: Int = 1) { count.wrappingAdd(amount, ordering: .releasing) }
}

/// Holds handlers back until a test opens it.
final class Gate: Sendable {
    private let state = Mutex<(isOpen: Bool, waiters: [CheckedContinuation<Void, Never>])>((false, []))

    func pass() async {
        await withCheckedContinuation { waiter in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.waiters.append(waiter) }
                return state.isOpen
            }
            if isOpen { waiter.resume() }
        }
    }

    func open() {
        let waiters = state.withLock { state in
            state.isOpen = true
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }
}
