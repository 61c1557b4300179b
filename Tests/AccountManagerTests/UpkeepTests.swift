import Accounts
import Broker
import Cache
import Core
import HTTP
import LimitAudit
import Storage
import Testing

@testable import AccountManagerWiring
@testable import ServiceKit

extension Desk {
    /// The upkeep of another worker process over the same servers.
    func worker() throws -> Upkeep {
        try AccountManagerParts(service.context, AccountManagerSettings(from: service.context.environment))
            .upkeep
    }

    /// Does everything that is due now, as one worker.
    func keepUp(_ upkeep: Upkeep) async throws {
        for job in Upkeep.Job.allCases {
            let period = job.period(at: clock.now)
            _ = try await upkeep.jobs.enter(job.rawValue, period: period, at: clock.now)
            try await upkeep.perform(job, period: period, at: clock.now)
        }
    }
}

@Suite struct `The periodic work` {
    @Test(arguments: Ground.available)
    func `is done once, however many workers there are`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            try await desk.connect()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 1...8 { group.addTask { try await desk.keepUp(desk.worker()) } }
                try await group.waitForAll()
            }
            for job in Upkeep.Job.allCases {
                let runs = try await desk.worker().jobs.runs(job.rawValue)
                #expect(runs == [job.period(at: desk.clock.now): 1], "\(job)")
            }
        }
    }

    @Test(arguments: Ground.available)
    func `catches up after a pause with one look`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let account = try await desk.connect()
            _ = try await desk.post(
                "/handle-error/\(account)", ["error_type": "flood_wait", "context": ["seconds": 300]])
            _ = try await desk.post(
                "/rate-limit/record/\(account)", ["action_type": "message", "success": true])
            try await desk.keepUp(desk.worker())
            desk.clock.advance(by: .days(3))
            try await desk.keepUp(desk.worker())
            let row = try await desk.service.context.database.run(
                "SELECT status, used_messages_today FROM telegram_sessions"
            ).first
            #expect(try row?.text("status") == "active")
            #expect(try row?.int("used_messages_today") == 0)
            let runs = try await desk.worker().jobs.runs("recover")
            #expect(runs.count == 2)
        }
    }

    @Test(arguments: Ground.available)
    func `is taken over from a worker that died over it`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let upkeep = try desk.worker()
            let period = Upkeep.Job.tidy.period(at: desk.clock.now)
            let entered = try await upkeep.jobs.enter("tidy", period: period, at: desk.clock.now)
            #expect(entered)
            let begun = try await upkeep.jobs.begin(
                "tidy", period: period, worker: "the one", at: desk.clock.now)
            #expect(begun)
            let early = try await upkeep.jobs.enter("tidy", period: period, at: desk.clock.now + .minutes(9))
            #expect(!early)
            desk.clock.advance(by: .minutes(10))
            let late = try await upkeep.jobs.enter("tidy", period: period, at: desk.clock.now)
            #expect(late)
            let done = try await upkeep.perform(.tidy, period: period, at: desk.clock.now)
            #expect(done)
            // The one that was thought dead comes back and has nothing to say any more.
            let finished = try await upkeep.jobs.finish(
                "tidy", period: period, worker: "the one", result: [:], at: desk.clock.now)
            #expect(!finished)
        }
    }

    @Test(arguments: Ground.available)
    func `goes through its three queues`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let upkeep = try desk.worker()
            try await upkeep.announceDue(at: desk.clock.now)
            for queue in Upkeep.queues {
                let depth = try await desk.broker.depth(of: queue.name)
                #expect(depth > 0, "\(queue.name)")
            }
            let worker = UpkeepWorker(upkeep: upkeep, readiness: desk.service.readiness, time: desk.clock)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { do { try await worker.run() } catch is CancellationError {} }
                for job in Upkeep.Job.allCases {
                    while try await upkeep.jobs.runs(job.rawValue).isEmpty {
                        try await desk.clock.sleep(for: .milliseconds(20))
                    }
                }
                group.cancelAll()
            }
            // What is done is not announced again in its period.
            try await upkeep.announceDue(at: desk.clock.now)
            for queue in Upkeep.queues {
                let depth = try await desk.broker.depth(of: queue.name)
                #expect(depth == 0, "\(queue.name)")
            }
        }
    }

    @Test(arguments: Ground.available)
    func `leaves a health report every six hours`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            for index in 1...4 { try await desk.connect(index) }
            for index in 1...2 {
                _ = try await desk.post("/handle-error/\(accountName(index))", ["error_type": "peer_flood"])
            }
            let upkeep = try desk.worker()
            try await desk.keepUp(upkeep)
            desk.clock.advance(by: .hours(6))
            try await desk.keepUp(upkeep)
            let reports = try await desk.get("/reports/health")
            #expect(reports["total"] == 2)
            let latest = reports["items"]?[0]
            #expect(latest?["at"] == "2025-08-24T18:00:00Z")
            #expect(latest?["stats"]?["total_accounts"] == 4)
            #expect(latest?["stats"]?["blocked_active"] == 2)
            #expect(latest?["warnings"]?[0]?["code"] == "few_healthy_accounts")
        }
    }

    @Test(arguments: Ground.available)
    func `makes leases and the recovery queue anew where Redis lost them`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            try await desk.connect(1)
            try await desk.connect(2)
            _ = try await desk.post("/handle-error/\(accountName(2))", ["error_type": "peer_flood"])
            let lease = try await desk.post(
                "/allocate", ["user_id": 1, "purpose": "parsing", "service_name": "parsing-service"])
            let cache = desk.resources.cache
            func shown() async throws -> [String] {
                try await cache.database(1).keys(matching: "account_lock:*").map(\.text)
                    + cache.database(2).sortedRange("account_recovery_queue").map(\.member.text)
            }
            let before = try await shown()
            #expect(before == ["account_lock:\(lease["account_id"]?.stringValue ?? "")", accountName(2)])
            let upkeep = try desk.worker()
            try await upkeep.manager.watchCache(at: desk.clock.now)
            for index in 1...4 { try await cache.database(index).flush() }
            try await upkeep.manager.watchCache(at: desk.clock.now)
            let after = try await shown()
            #expect(after == before)
        }
    }
}

@Suite struct `The second opinion on the limits` {
    @Test(arguments: Ground.available)
    func `stops an account whose ledger shows a broken limit, and says so once`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let broken = try await desk.connect(1)
            let sound = try await desk.connect(2)
            let record: JSONValue = ["action_type": "message", "success": true]
            _ = try await desk.post("/rate-limit/record/\(sound)", record)
            // Nothing but a fact that was told without asking first can break a limit.
            for _ in 1...2 { _ = try await desk.post("/rate-limit/record/\(broken)", record) }
            let found = try await desk.post("/maintenance/verify-limits")
            #expect(found["breaches"] == 1)
            #expect(found["stopped_accounts"] == [.string(broken)])
            let alerts = try await desk.get("/alerts")
            #expect(alerts["items"]?[0]?["limit"] == "cooldown")
            let health = try await desk.get("/health/\(broken)")
            #expect(health["status"] == "disabled")
            for _ in 1...2 {
                let lease = try await desk.post(
                    "/allocate", ["user_id": 1, "purpose": "parsing", "service_name": "a"])
                if lease.status == 200 { #expect(lease["account_id"] == .string(sound)) }
            }
            let logs = try await desk.get("/logs?action=account_stopped")
            #expect(logs["total"] == 1)
            // By hand it comes back, and the same breach does not stop it again.
            let recovered = try await desk.post("/recover/\(broken)")
            #expect(recovered["status"] == "active")
            let again = try await desk.post("/maintenance/verify-limits")
            #expect(again["new_breaches"] == 0)
            let still = try await desk.get("/health/\(broken)")
            #expect(still["status"] == "active")
        }
    }

    /// One planted ledger for each limit; and one that keeps all of them by a hair.
    @Test(arguments: Ground.available)
    func `finds every limit broken, and nothing where all are kept`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let day = noon.day.start
            var plants: [(limit: String, action: String, times: [Timestamp], channel: String?)] = [
                ("cooldown", "invite", [noon, noon + .seconds(899)], nil),
                ("cooldown", "message", [noon, noon + .seconds(59)], nil),
                ("cooldown", "add_contact", [noon, noon + .seconds(299)], nil),
                ("hourly", "invite", [noon, noon + .minutes(16), noon + .minutes(59)], nil),
                ("burst", "add_contact", [noon, noon + .minutes(6), noon + .minutes(12)], nil),
            ]
            let apart = (0..<31).map { day + .minutes(Int64($0) * 46) }
            plants.append(("daily", "message", apart, nil))
            plants.append(("per_channel", "invite", Array(apart.prefix(16)), "name"))
            let months = (0..<201).map { day - .hours(Int64($0) * 13) }.reversed()
            plants.append(("per_channel_total", "invite", Array(months), "name"))
            let database = desk.service.context.database
            func plant(_ index: Int, _ action: String, _ times: [Timestamp], _ channel: String?) async throws
            {
                try await desk.connect(index)
                for at in times {
                    try await database.run(
                        """
                        INSERT INTO account_ledger (account_id, action, channel, success, service, at)
                        VALUES (\(accountName(index)), \(action), \(channel), TRUE, 'test', \(at))
                        """)
                }
            }
            for (index, one) in plants.enumerated() {
                try await plant(index + 1, one.action, one.times, one.channel)
            }
            let sound = plants.count + 1
            try await plant(sound, "invite", (0..<30).map { day + .minutes(Int64($0) * 46) }, nil)
            try await plant(
                sound + 1, "message",
                (0..<5).map { noon + .seconds(Int64($0) * 60) } + [noon + .seconds(420)], nil)
            try await plant(
                sound + 2, "invite", (0..<200).map { day - .hours(Int64($0) * 13) }.reversed(), "name")
            let report = try await LimitAudit(database).run()
            for (index, one) in plants.enumerated() {
                let found = report.breaches.filter { $0.account == accountName(index + 1) }
                #expect(found.map(\.limit) == [one.limit], "\(one.limit) of \(one.action)")
            }
            #expect(report.breaches.count == plants.count)
        }
    }

    @Test(arguments: Ground.available)
    func `judges young accounts by their share of the day`(ground: Ground) async throws {
        // A message a day on the first three days, thirty from then on.
        try await Desk.open(ground, settings: ["ACCOUNT_RAMP_UP": "0:1,3:100"]) { desk in
            let upkeep = try desk.worker()
            try await upkeep.applySettings(at: noon - .days(10))
            let young = try await desk.connect(1)
            let record: JSONValue = ["action_type": "message", "success": true]
            for _ in 1...2 {
                _ = try await desk.post("/rate-limit/record/\(young)", record)
                desk.clock.advance(by: .minutes(5))
            }
            let found = try await desk.post("/maintenance/verify-limits")
            #expect(found["details"]?[0]?["limit"] == "daily")
            #expect(found["details"]?[0]?["allowed"] == 1)
            #expect(found["breaches"] == 1)
            desk.clock.advance(by: .days(3))
            for _ in 1...2 {
                _ = try await desk.post("/rate-limit/record/\(young)", record)
                desk.clock.advance(by: .minutes(5))
            }
            let later = try await desk.post("/maintenance/verify-limits")
            #expect(later["new_breaches"] == 0)
        }
    }

    @Test func `judges by a tightened limit from then on, and not before`() async throws {
        try await Desk.open { desk in
            let account = try await desk.connect()
            let record: JSONValue = ["action_type": "message", "success": true]
            for _ in 1...2 {
                desk.clock.advance(by: .minutes(5))
                _ = try await desk.post("/rate-limit/record/\(account)", record)
            }
            _ = try await desk.put("/limits/accounts/\(account)", ["limits": ["message.daily": 1]])
            let before = try await desk.post("/maintenance/verify-limits")
            #expect(before["breaches"] == 0)
            desk.clock.advance(by: .minutes(5))
            _ = try await desk.post("/rate-limit/record/\(account)", record)
            let after = try await desk.post("/maintenance/verify-limits")
            #expect(after["breaches"] == 1)
        }
    }
}
