import Broker
import Core
import Invites
import ServiceKit

/// Sends for a worker whenever a task is due. That a look was lost is noticed by the next round: a task is due
/// again a minute after it was sent for, until somebody has written down when it really is.
struct CampaignWaker: Service {
    let name = "campaign-waker"
    let interval: Duration
    let store: InviteStore
    let bell: CampaignBell
    let readiness: Readiness
    let time: any TimeSource
    let log: Log

    func run() async throws {
        try await readiness.repeating(every: interval, time, log, failure: "campaign-waker.failed") {
            for (id, priority) in try await store.dueTasks(at: time.now) {
                try await bell.ring(.look, id, priority)
            }
        }
    }
}

/// Takes from the queues and does what the messages ask for.
struct CampaignWorker: Service {
    let name = "campaign-worker"
    let runner: CampaignRunner
    let store: InviteStore
    let bell: CampaignBell
    let broker: any Broker
    let concurrency: Int
    let readiness: Readiness
    let time: any TimeSource
    let log: Log

    func run() async throws {
        try await readiness.wait(time)
        try await broker.consume(InviteQueues.all.map(\.name), concurrency: concurrency) { delivery in
            guard let body = try? JSONValue(parsing: delivery.message.body),
                let job = body["job"]?.stringValue.flatMap({ CampaignJob(rawValue: $0) }),
                let task = body["task_id"]?.intValue
            else { return .reject(reason: "nobody understands it") }
            switch job {
            case .look:
                let orders = try await runner.look(at: task)
                let priority = try await store.task(task)?.priority ?? .medium
                for _ in 0..<orders.lanes { try await bell.ring(.work, task, priority) }
                if orders.doubts { try await bell.ring(.doubts, task) }
            case .work: try await runner.work(on: task)
            case .doubts: try await runner.resolveDoubts(of: task)
            }
            return .ack
        }
    }
}

/// Looks after what nobody asks for: claims and attempts of workers that are gone, what account-manager has not
/// heard of, memberships to be looked up once more, logs past their time.
struct CampaignKeeper: Service {
    static let interval: Duration = .seconds(10)

    let name = "campaign-keeper"
    let runner: CampaignRunner
    let store: InviteStore
    let retention: Duration
    let readiness: Readiness
    let time: any TimeSource
    let log: Log

    func run() async throws {
        try await readiness.wait(time)
        var round = 0
        while true {
            await attempt("held") { _ = try await store.releaseHeld(at: time.now) }
            await attempt("records") { try await runner.settleRecords() }
            await attempt("doubts") { try await runner.resolveDoubts() }
            await attempt("members") { try await runner.verifyMembers() }
            if round % 360 == 0 {
                await attempt("tidy") { try await store.tidy(before: time.now - retention) }
            }
            round += 1
            try await time.sleep(for: Self.interval)
        }
    }

    /// One piece that fails keeps no other from being done.
    private func attempt(_ what: String, _ work: () async throws -> Void) async {
        do { try await work() } catch  where !(error is CancellationError) {
            log.warning("campaign-keeper.failed", ["what": .id(what), "error": .error(error)])
        } catch {
            // Stopping.
        }
    }
}
