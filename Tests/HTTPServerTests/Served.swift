import Core
import HTTP
import HTTPServer
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
    _ what: String, within limit: Duration = .seconds(20), sourceLocation: SourceLocation = #_sourceLocation,
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
