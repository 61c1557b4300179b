import Contracts
import Core
import Invites
import Security
import Storage
import Synchronization
import TestServers
import Testing

enum Engine: String, CaseIterable, CustomTestStringConvertible {
    case sqlite = "SQLite"
    case postgres = "PostgreSQL"

    static var available: [Engine] { allCases.filter { $0 != .postgres || TestServers.areAvailable } }
    var testDescription: String { rawValue }

    func open(_ test: (InviteStore) async throws -> Void) async throws {
        let database: any Database
        switch self {
        case .sqlite: database = DatabaseLocation.sqlite(":memory:").open("invite_db")
        case .postgres:
            let location = try #require(DatabaseLocation(try await TestServers.postgres()))
            database = location.open("invite_db")
        }
        try await database.migrate(Migration.invites + Migration.inviteLists, scope: "invites", at: noon)
        let digests = SuppressionDigests(key: Secret(Array(repeating: 7, count: 32)))
        let store = InviteStore(database, digests: digests, random: SeededRandom(seed: 3))
        let result: Result<Void, any Error>
        do { result = .success(try await test(store)) } catch { result = .failure(error) }
        await database.close()
        try result.get()
    }
}

let noon = Timestamp("2025-08-24T12:00:00Z") ?? .epoch

private final class Flag: Sendable {
    private let state = Mutex(false)
    var isRaised: Bool { state.withLock { $0 } }
    func raise() { state.withLock { $0 = true } }
}

/// What the campaigns' SQL promises, on either engine.
@Suite(.timeLimit(.minutes(3)))
struct `The store of campaigns` {
    private func running(
        _ store: InviteStore, people: Int, _ settings: TaskSettings = TaskSettings(group: "@Club")
    ) async throws -> InviteTask {
        let task = try await store.create(NewTask(name: "Task", settings: settings), of: 1, at: noon)
        let targets = (0..<people).map {
            NewTarget(PersonIdentity(username: "person_\($0)", phone: nil, platformID: nil))
        }
        _ = try await store.add(targets, to: task.id, of: 1, at: noon)
        return try await store.apply(.execute, to: task.id, of: 1, at: noon)
    }

    private func attempt(_ target: InviteTarget, _ task: InviteTask, _ number: Int = 1) -> InviteAttempt {
        let lease = LeasedAccount(
            accountID: "account", userID: 1, phone: "", leaseID: "lease", fencingToken: 4, expiresAt: noon)
        return InviteAttempt(
            id: "attempt-\(target.id)-\(number)", target: target, run: task.run, .invite, lease,
            channel: "club", permit: "permit", content: "i@Club", at: noon)
    }

    private let sent = SendResult.sent(
        SentMessage(targetUserID: nil, messageID: nil, at: noon, isMember: true))

    private func claimed(
        _ store: InviteStore, _ task: InviteTask, _ count: Int, by worker: String, at now: Timestamp = noon
    )
        async throws -> [InviteTarget]
    {
        guard
            case .claimed(let targets) = try await store.claim(task.id, limit: count, by: worker, at: now)
                .claim
        else { return [] }
        return targets
    }

    @Test(arguments: Engine.available)
    func `gives nobody to two workers`(engine: Engine) async throws {
        try await engine.open { store in
            let task = try await running(store, people: 100)
            let taken = try await withThrowingTaskGroup(of: [Int64].self) { group in
                for worker in 0..<10 {
                    group.addTask {
                        var mine: [Int64] = []
                        while true {
                            let more = try await claimed(store, task, 3, by: "worker-\(worker)")
                            if more.isEmpty { return mine }
                            mine += more.map(\.id)
                        }
                    }
                }
                return try await group.reduce(into: []) { $0 += $1 }
            }
            #expect(taken.count == 100)
            #expect(Set(taken).count == 100)
        }
    }

    @Test(arguments: Engine.available)
    func `begins nothing once a pause is written down`(engine: Engine) async throws {
        try await engine.open { store in
            let task = try await running(store, people: 2)
            let people = try await claimed(store, task, 2, by: "worker")
            #expect(
                try await store.begin(attempt(people[0], task), of: task, by: "worker", at: noon) == .granted)
            try await store.apply(.pause, to: task.id, of: 1, at: noon)
            #expect(
                try await store.begin(attempt(people[1], task), of: task, by: "worker", at: noon) == .stopped)
            #expect(try await store.inFlight(task.id, at: noon) == 1)
            let step = OutcomePolicy.step(after: sent, AttemptContext())
            #expect(
                try await store.finish(
                    attempt(people[0], task), sent, step, of: people[0], in: task, isRecorded: true, at: noon)
            )
            #expect(try await store.inFlight(task.id, at: noon) == 0)
            #expect(try await store.claim(task.id, limit: 5, by: "worker", at: noon).claim == .stopped)
        }
    }

    /// Sends that begin do not wait for what is noted of their task, and still not one begins behind a pause.
    @Test(arguments: Engine.available)
    func `begins nothing behind a pause, however many begin and wake the task at that moment`(engine: Engine)
        async throws
    {
        try await engine.open { store in
            let task = try await running(store, people: 80)
            let targets = try await claimed(store, task, 80, by: "worker")
            try #require(targets.count == 80)
            let isPaused = Flag()
            let late = try await withThrowingTaskGroup(of: Int.self) { group in
                for (index, target) in targets.enumerated() {
                    let attempt = attempt(target, task)
                    group.addTask {
                        if index % 4 == 0 { try await store.wake(task.id, at: noon + .seconds(index)) }
                        if index == 40 {
                            try await store.apply(.pause, to: task.id, of: 1, at: noon)
                            isPaused.raise()
                        }
                        let isBehind = isPaused.isRaised
                        let permission = try await store.begin(attempt, of: task, by: "worker", at: noon)
                        if isBehind { #expect(permission == .stopped) }
                        return permission == .granted && isBehind ? 1 : 0
                    }
                }
                return try await group.reduce(0, +)
            }
            #expect(late == 0)
            let sending = try await store.database.run(
                "SELECT COUNT(*) AS count FROM invite_targets WHERE status = 'sending'")
            let attempts = try await store.database.run("SELECT COUNT(*) AS count FROM invite_attempts")
            #expect(try sending.first?.int("count") == attempts.first?.int("count"))
        }
    }

    /// A pause that is being written down at the very moment: whoever begins meanwhile waits until it stands there, and
    /// then begins nothing. With the task as it was read the quick statement decides, otherwise the transaction.
    @Test(.enabled(if: TestServers.areAvailable), arguments: [true, false])
    func `waits for a pause that is not written down yet`(isQuick: Bool) async throws {
        try await Engine.postgres.open { store in
            let read = try await running(store, people: 1)
            let person = try #require(try await claimed(store, read, 1, by: "worker").first)
            if !isQuick {
                _ = try await store.update(read.id, of: 1, versions: nil, at: noon) { $0.name = "Renamed" }
            }
            let database = store.database
            // Its last step, the line of the log, waits until the test lets go.
            try await database.run(
                """
                CREATE FUNCTION hold_pause() RETURNS trigger LANGUAGE plpgsql AS
                    'BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END'
                """)
            try await database.run(
                """
                CREATE TRIGGER hold_pause BEFORE INSERT ON invite_logs FOR EACH ROW
                WHEN (NEW.action = 'TASK_PAUSED') EXECUTE FUNCTION hold_pause()
                """)
            let (isHeld, letGo) = (Flag(), Flag())
            func waiters(_ events: String) async throws -> Int {
                try await database.run(
                    """
                    SELECT COUNT(*) AS count FROM pg_stat_activity WHERE datname = current_database()
                        AND wait_event_type = 'Lock' AND wait_event ~ \(events)
                    """
                ).first?.int("count") ?? 0
            }
            func until(_ isSo: () async throws -> Bool) async throws {
                while try await !isSo() { try await SystemTime().sleep(for: .milliseconds(5)) }
            }
            let isBegun = Flag()
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    try await database.transaction { transaction in
                        try transaction.run("SELECT pg_advisory_xact_lock(42)")
                        isHeld.raise()
                        while !letGo.isRaised { try transaction.run("SELECT pg_sleep(0.005)") }
                    }
                }
                try await until { isHeld.isRaised }
                group.addTask { _ = try await store.apply(.pause, to: read.id, of: 1, at: noon) }
                try await until { try await waiters("advisory") == 1 }
                group.addTask {
                    let permission = try await store.begin(
                        attempt(person, read), of: read, by: "worker", at: noon)
                    isBegun.raise()
                    #expect(permission == .stopped)
                }
                try await until {
                    let isWaiting = try await waiters("transactionid|tuple") > 0
                    return isWaiting || isBegun.isRaised
                }
                #expect(!isBegun.isRaised, "it did not wait for the pause")
                letGo.raise()
                try await group.waitForAll()
            }
            #expect(try await store.inFlight(read.id, at: noon) == 0)
        }
    }

    @Test(arguments: Engine.available)
    func `writes an end down once, however often it is told`(engine: Engine) async throws {
        try await engine.open { store in
            let task = try await running(store, people: 1)
            let person = try await claimed(store, task, 1, by: "worker")[0]
            let attempt = attempt(person, task)
            #expect(try await store.begin(attempt, of: task, by: "worker", at: noon) == .granted)
            let step = OutcomePolicy.step(after: sent, AttemptContext())
            #expect(
                try await store.finish(attempt, sent, step, of: person, in: task, isRecorded: false, at: noon)
            )
            #expect(
                try await !store.finish(attempt, sent, step, of: person, in: task, isRecorded: true, at: noon)
            )
            let counts = try await store.attemptCounts(of: [task.id])[task.id]
            #expect(counts?.accepted == 1)
            #expect(counts?.verified == 1)
            #expect(try await store.unrecorded(before: noon).map(\.attempt.id) == [attempt.id])
            try await store.noteRecorded(attempt.id)
            #expect(try await store.unrecorded(before: noon).isEmpty)
            #expect(try await store.logs(of: task.id, action: .inviteSuccessful, limit: 9).count == 1)
        }
    }

    @Test(arguments: Engine.available)
    func `gives back what a worker that is gone had claimed, and doubts what it was sending`(engine: Engine)
        async throws
    {
        try await engine.open { store in
            let task = try await running(store, people: 2)
            let people = try await claimed(store, task, 2, by: "worker")
            _ = try await store.begin(attempt(people[0], task), of: task, by: "worker", at: noon)
            #expect(try await store.releaseHeld(at: noon + .minutes(1)) == (0, 0))
            let later = noon + InviteStore.hold + .seconds(1)
            #expect(try await store.releaseHeld(at: later) == (1, 1))
            let outlook = try #require(try await store.outlook(task.id, at: later))
            #expect(outlook.due == 1)
            #expect(outlook.inDoubt == 1)
            // Its worker was only slow: nothing is begun under a claim that has run out.
            #expect(
                try await store.begin(attempt(people[1], task), of: task, by: "worker", at: later) == .stopped
            )
            let doubts = try await store.claimDoubts(of: task.id, limit: 5, at: later)
            #expect(doubts.map(\.attempt.id) == [attempt(people[0], task).id])
            #expect(try await store.claimDoubts(of: task.id, limit: 5, at: later).isEmpty)
            // And when it was slow in telling, its word still counts.
            let step = OutcomePolicy.step(after: sent, AttemptContext())
            #expect(
                try await store.finish(
                    attempt(people[0], task), sent, step, of: people[0], in: task, isRecorded: true, at: later
                ))
            #expect(try await store.counts(of: task.id).invited == 1)
        }
    }

    @Test(arguments: Engine.available)
    func `leaves out who is on the stop-list, of this operator alone`(engine: Engine) async throws {
        try await engine.open { store in
            let digests = store.digests
            let random = SeededRandom(seed: 9)
            func stop(_ name: String, _ community: String?, of user: Int64) async throws {
                try await store.database.transaction { transaction in
                    try transaction.suppress(
                        NewSuppression(
                            PersonIdentity(username: name, phone: nil, platformID: nil),
                            community: community, reason: .optedOut, source: "test"),
                        of: user, digests, at: noon, random)
                }
            }
            try await stop("person_0", nil, of: 1)
            try await stop("person_1", "club", of: 1)
            try await stop("person_2", "elsewhere", of: 1)
            try await stop("person_3", nil, of: 2)
            let task = try await running(store, people: 5)
            let (claim, suppressed, _) = try await store.claim(task.id, limit: 10, by: "worker", at: noon)
            #expect(suppressed == 2)
            guard case .claimed(let free) = claim else {
                Issue.record("nobody was left")
                return
            }
            #expect(free.compactMap(\.identity.username) == ["person_2", "person_3", "person_4"])
            #expect(try await store.counts(of: task.id).skipped == 2)
            // Only digests are compared; no name has to be kept for it.
            let rows = try await store.database.run(
                "SELECT COUNT(*) AS count FROM invite_suppressions WHERE digest LIKE '%person%'")
            #expect(try rows.first?.int("count") == 0)
        }
    }

    @Test(arguments: Engine.available)
    func `lets the day's last place go to one of two`(engine: Engine) async throws {
        try await engine.open { store in
            let task = try await running(
                store, people: 8, TaskSettings(group: "club", dailyCap: 3))
            let people = try await claimed(store, task, 8, by: "worker")
            let granted = try await withThrowingTaskGroup(of: Bool.self) { group in
                for person in people {
                    group.addTask {
                        try await store.begin(attempt(person, task), of: task, by: "worker", at: noon)
                            == .granted
                    }
                }
                return try await group.reduce(into: 0) { if $1 { $0 += 1 } }
            }
            #expect(granted == 3)
        }
    }

    @Test(arguments: Engine.available)
    func `finds two targets to be one person when Telegram says so`(engine: Engine) async throws {
        try await engine.open { store in
            let task = try await running(store, people: 1)
            _ = try await store.add(
                [NewTarget(PersonIdentity(username: nil, phone: nil, platformID: 42))], to: task.id, of: 1,
                at: noon)
            let person = try await claimed(store, task, 1, by: "worker")[0]
            _ = try await store.begin(attempt(person, task), of: task, by: "worker", at: noon)
            let told = SendResult.sent(
                SentMessage(targetUserID: 42, messageID: nil, at: noon, isMember: true))
            try await store.finish(
                attempt(person, task), told, OutcomePolicy.step(after: told, AttemptContext()), of: person,
                in: task, isRecorded: true, at: noon)
            let counts = try await store.counts(of: task.id)
            #expect(counts.invited == 1)
            #expect(counts.skipped == 1)
        }
    }

    @Test(arguments: Engine.available)
    func `forgets no wish to be looked at that came while somebody was looking`(engine: Engine) async throws {
        try await engine.open { store in
            let task = try await running(store, people: 1)
            #expect(try await store.dueTasks(at: noon).map(\.id) == [task.id])
            #expect(try await store.dueTasks(at: noon).isEmpty)
            let seen = try #require(try await store.task(task.id))
            try await store.wake(task.id, at: noon)
            // Whoever looked before knows nothing of it.
            try await store.wait(
                seen, Waiting(.noAccount, until: noon + .hours(5)), wakeAt: noon + .hours(5), at: noon)
            #expect(try await store.dueTasks(at: noon).map(\.id) == [task.id])
            let fresh = try #require(try await store.task(task.id))
            try await store.wait(
                fresh, Waiting(.noAccount, until: noon + .hours(5)), wakeAt: noon + .hours(5), at: noon)
            #expect(try await store.dueTasks(at: noon + .hours(4)).isEmpty)
            #expect(try await store.dueTasks(at: noon + .hours(5)).map(\.id) == [task.id])

            // Somebody was going to look anyhow, and was looking already when the next wish came.
            try await store.wake(task.id, at: noon + .hours(5))
            let looking = try #require(try await store.task(task.id))
            try await store.wake(task.id, at: noon + .hours(5))
            try await store.wait(looking, nil, wakeAt: noon + .hours(9), at: noon + .hours(5))
            #expect(try await store.dueTasks(at: noon + .hours(5)).map(\.id) == [task.id])
        }
    }

    @Test(arguments: Engine.available)
    func `starts what was scheduled when its time has come`(engine: Engine) async throws {
        try await engine.open { store in
            let task = try await store.create(
                NewTask(name: "Later", settings: TaskSettings(group: "club"), scheduledAt: noon + .hours(1)),
                of: 1, at: noon)
            #expect(try await store.dueTasks(at: noon + .minutes(59)).isEmpty)
            #expect(try await store.dueTasks(at: noon + .hours(1)).map(\.id) == [task.id])
            #expect(try await store.task(task.id)?.status == .inProgress)
        }
    }

    @Test(arguments: Engine.available)
    func `erases everything of a user who is gone`(engine: Engine) async throws {
        try await engine.open { store in
            let task = try await running(store, people: 3)
            try await store.erase(user: 1)
            #expect(try await store.task(task.id) == nil)
            #expect(try await store.counts(of: task.id).total == 0)
        }
    }
}
