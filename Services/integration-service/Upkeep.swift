import Core
import HTTP
import Integration
import ServiceKit
import Storage

/// Tells account-manager which accounts there are and what befell them, until it has surely heard.
struct NoticeCourier: Service {
    static let interval: Duration = .seconds(1)

    let name = "notice-courier"
    let notices: NoticeStore
    let peers: Peers
    let readiness: Readiness
    let time: any TimeSource
    let random: any RandomSource
    let log: Log

    func run() async throws {
        try await readiness.wait(time)
        while true {
            do { try await deliverDue() } catch  where !(error is CancellationError) {
                log.warning("notices.not-read", ["error": .error(error)])
            }
            try await time.sleep(for: Self.interval)
        }
    }

    func deliverDue() async throws {
        for pending in try await notices.due(at: time.now) {
            do {
                let status = try await deliver(pending)
                // What account-manager does not know has nothing to forget.
                guard (200...299).contains(status) || status == 404 && pending.notice == .disconnected else {
                    throw Refused(status: status)
                }
                try await notices.delivered(pending.id)
            } catch  where !(error is CancellationError) {
                let backoff = Backoff(first: .seconds(1), ceiling: .minutes(1))
                try await notices.postpone(
                    pending.id, until: time.now + backoff.delay(after: pending.attempts + 1, random))
                log.warning(
                    "notice.not-delivered",
                    [
                        "account": .id(pending.accountID), "attempt": .int(pending.attempts + 1),
                        "error": .error(error),
                    ])
            }
        }
    }

    private struct Refused: Error { let status: Int }

    private func deliver(_ pending: PendingNotice) async throws -> Int {
        func ask(_ method: HTTP.Method, _ path: String, _ body: JSONValue? = nil) async throws -> Int {
            // For the service itself: nobody is signed in when a session is lost.
            let answer = try await peers.ask("account-manager", method, path, body: body)
            _ = try await answer.body.collect(upTo: 1 << 20)
            return answer.status
        }
        func trouble(_ type: String, _ message: String, _ context: JSONValue) async throws -> Int {
            try await ask(
                .post, "/api/v1/account-manager/handle-error/\(pending.accountID)",
                ["error_type": .string(type), "error_message": .string(message), "context": context])
        }
        switch pending.notice {
        case .connected(let phone):
            return try await ask(
                .post, "/internal/accounts",
                [
                    "account_id": pending.accountID.json, "user_id": .int(pending.userID),
                    "phone": .string(phone),
                ])
        case .disconnected: return try await ask(.delete, "/internal/accounts/\(pending.accountID)")
        case .lost(let reason):
            let isBanned = reason.hasPrefix("USER_DEACTIVATED")
            return try await trouble(
                isBanned ? "user_deactivated" : "auth_key_error", reason, ["service": "integration-service"])
        case .frozen(let until, let appeal):
            return try await trouble(
                "frozen", "FROZEN_METHOD_INVALID",
                ["service": "integration-service", "until": until.json, "appeal_link": JSONValue(appeal)])
        }
    }
}

/// Forgets what time has settled.
struct Janitor: Service {
    static let interval: Duration = .minutes(10)

    let name = "integration-janitor"
    let logins: LoginStore
    let sends: SendStore
    let logs: LogStore
    let settings: IntegrationSettings
    let readiness: Readiness
    let time: any TimeSource
    let log: Log

    func run() async throws {
        try await readiness.repeating(every: Self.interval, time, log, failure: "integration.not-tidied") {
            try await tidy()
        }
    }

    func tidy() async throws {
        let now = time.now
        try await logins.tidy(before: now - .days(1))
        try await sends.tidy(before: now - settings.attemptRetention)
        try await logs.tidy(before: now - settings.logRetention)
    }
}

/// What has to be so before anything is sent or opened: nobody else holds these sessions, and what an earlier
/// run left open is settled.
struct Settlement: Service {
    let name = "send-settlement"
    let sends: SendStore
    let folder: String
    let gate: Gate
    let readiness: Readiness
    let time: any TimeSource
    let log: Log

    func run() async throws {
        try await readiness.wait(time)
        let lock = try await folderLock()
        defer { lock.release() }
        while !gate.isOpen {
            do {
                let (withdrawn, inDoubt) = try await sends.settleEarlierRuns()
                if withdrawn + inDoubt > 0 {
                    log.warning("sends.settled", ["withdrawn": .int(withdrawn), "in_doubt": .int(inDoubt)])
                }
                gate.open()
            } catch  where !(error is CancellationError) {
                log.warning("sends.not-settled", ["error": .error(error)])
                try await time.sleep(for: .seconds(1))
            }
        }
        while true { try await time.sleep(for: .days(1)) }
    }

    /// One session used by two processes is destroyed by Telegram, so the second waits for the first to end.
    private func folderLock() async throws -> FolderLock {
        while true {
            if let lock = try FolderLock(folder) { return lock }
            log.warning("sessions.held-by-another-process", ["folder": .id(folder)])
            try await time.sleep(for: .milliseconds(500))
        }
    }
}
