import Core
import HTTP
import Integration
import ServiceKit
import Storage

/// Writes every operation into the integration log and counts it.
struct Journal: Sendable {
    let store: LogStore
    let time: any TimeSource
    let random: any RandomSource
    let operations: Labeled<Counter>
    let errors: Labeled<Counter>
    let log: Log

    init(_ store: LogStore, _ context: ServiceContext) {
        self.store = store
        time = context.time
        random = context.random
        log = context.log
        operations = context.metrics.counters(
            "integration_operations_total", "Operations at Telegram", labels: ["action", "status"])
        errors = context.metrics.counters(
            "integration_errors_total", "Operations that failed", labels: ["action", "code"])
    }

    /// What an operation is about.
    struct Subject: Sendable {
        let user: Int64
        var account: UniqueID?
        let requestID: String

        init(user: Int64, account: UniqueID? = nil, requestID: String) {
            self.user = user
            self.account = account
            self.requestID = requestID
        }

        init(_ request: Request, account: UniqueID? = nil) throws {
            self.init(user: try request.requireUser(), account: account, requestID: request.id)
        }
    }

    /// Runs an operation and writes down what came of it. The log never keeps an operation from succeeding.
    func noting<Result: Sendable>(
        _ action: Action, _ subject: Subject, _ details: JSONValue = [:],
        _ work: () async throws -> Result
    ) async throws -> Result {
        let start = time.uptime
        do {
            let result = try await work()
            await write(action, .success, subject, code: nil, details, time.uptime - start)
            return result
        } catch  where error is CancellationError {
            throw error
        } catch {
            let code = Problem.describing(error)?.code ?? "internal"
            await write(action, .error, subject, code: code, details, time.uptime - start)
            throw error
        }
    }

    func write(
        _ action: Action, _ status: LogEntry.Status, _ subject: Subject, code: String? = nil,
        _ details: JSONValue = [:],
        _ duration: Duration = .zero
    ) async {
        do {
            try await store.write(entry(action, status, subject, code: code, details, duration))
        } catch {
            log.error("journal.not-written", ["action": .id(action.rawValue), "error": .error(error)])
        }
    }

    /// An operation, counted, for whoever writes its line together with something else.
    func entry(
        _ action: Action, _ status: LogEntry.Status, _ subject: Subject, code: String? = nil,
        _ details: JSONValue = [:], _ duration: Duration
    ) -> LogEntry {
        operations[action.rawValue, status.rawValue].increment()
        if let code { errors[action.rawValue, code].increment() }
        let now = time.now
        return LogEntry(
            id: UniqueID(at: now, random), userID: subject.user, accountID: subject.account, action: action,
            status: status, errorCode: code, details: details, requestID: subject.requestID,
            duration: duration, at: now)
    }
}
