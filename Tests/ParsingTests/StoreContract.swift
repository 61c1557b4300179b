import Core
import Storage
import TestServers
import Testing

@testable import Parsing

/// What the store must do, asked of each engine.
enum Engine: String, CaseIterable, CustomTestStringConvertible {
    case sqlite = "SQLite"
    case postgres = "PostgreSQL"

    static var available: [Engine] { allCases.filter { $0 != .postgres || TestServers.areAvailable } }
    var testDescription: String { rawValue }

    func withStore(_ test: (ParseStore, any Database) async throws -> Void) async throws {
        let location: DatabaseLocation =
            switch self {
            case .sqlite: .sqlite(try await TestServers.directory() + "/parsing.sqlite")
            case .postgres: .postgres(Secret(try await TestServers.postgres()))
            }
        let database = location.open("test")
        do {
            try await database.migrate(Migration.parsing, scope: "parsing", at: .epoch)
            try await test(ParseStore(database), database)
        } catch {
            await database.close()
            throw error
        }
        await database.close()
    }
}

private let noon = Timestamp(seconds: 1_756_036_800)

extension ParseStore {
    @discardableResult
    func make(
        _ id: String, of user: Int64 = 1, _ priority: TaskPriority = .normal, _ type: TaskType = .members,
        link: String? = nil, _ config: ParseConfig = ParseConfig(), at now: Timestamp = noon
    ) async throws -> ParseTask {
        let task = NewTask(
            user: user, link: CommunityLink(key: link ?? id), type: type, priority: priority, config: config)
        return try await create([(id, task)], at: now)[0]
    }
}

func lease(_ account: String = "a") -> AccountLease {
    AccountLease(account: account, lease: "l", fencingToken: 1, until: noon + .hours(1))
}

@Suite struct `A store of parse tasks` {
    @Test(arguments: Engine.available)
    func `hands out high before low, and shares between users`(engine: Engine) async throws {
        try await engine.withStore { store, _ in
            for number in 0..<4 {
                try await store.make("a\(number)", of: 1, .normal, at: noon + .seconds(number))
            }
            try await store.make("b0", of: 2, .normal, at: noon + .seconds(50))
            try await store.make("low", of: 3, .low, at: noon - .days(1))
            try await store.make("high", of: 1, .high, at: noon + .seconds(60))
            var order: [String] = []
            for number in 0..<8 {
                if let task = try await store.claim("c\(number)", by: "w", at: noon + .minutes(2)) {
                    order.append(task.id)
                }
            }
            // User 1 has the urgent one already, so user 2 is next, although they came later.
            #expect(order == ["high", "b0", "a0", "a1", "a2", "a3", "low"])
        }
    }

    /// What a running task asks itself when all places are taken.
    @Test(arguments: Engine.available)
    func `knows who waits whose turn it is more`(engine: Engine) async throws {
        try await engine.withStore { store, _ in
            func claim(_ count: Int) async throws -> [ParseTask] {
                var tasks: [ParseTask] = []
                for _ in 0..<count {
                    tasks.append(
                        try #require(try await store.claim("c-\(tasks.count)-\(count)", by: "w", at: noon)))
                }
                return tasks
            }
            for number in 0..<4 { try await store.make("mine\(number)") }
            let mine = try await claim(2)
            // The own further tasks wait for a place of their own.
            #expect(try await store.isSomebodyWaiting(behind: mine[0], at: noon) == false)
            try await store.make("low", of: 2, .low)
            #expect(try await store.isSomebodyWaiting(behind: mine[0], at: noon) == false)
            let other = try await store.make("other", of: 2)
            #expect(try await store.isSomebodyWaiting(behind: mine[0], at: noon))
            // Whoever has one place less would have one more after the exchange: nothing were won.
            #expect(try #require(try await store.claim("theirs", by: "w", at: noon)).number == other.number)
            try await store.make("another", of: 2)
            #expect(try await store.isSomebodyWaiting(behind: mine[0], at: noon) == false)

            // What is urgent goes first, whoever has how many; what is not due yet does not wait.
            let urgent = try await store.make("urgent", .high)
            #expect(try await store.isSomebodyWaiting(behind: mine[0], at: noon))
            let taken = try #require(try await store.claim("u", by: "w", at: noon))
            #expect(taken.number == urgent.number)
            #expect(try await store.isSomebodyWaiting(behind: taken, at: noon) == false)
            try await store.wait(taken, for: Waiting(.noAccount, until: noon + .minutes(5)), at: noon)
            #expect(try await store.isSomebodyWaiting(behind: mine[0], at: noon) == false)
            _ = try await store.order(.pause, "urgent", of: 1, at: noon, keepingResultsFor: .days(1))
            #expect(try await store.isSomebodyWaiting(behind: mine[0], at: noon + .minutes(6)) == false)
        }
    }

    @Test(arguments: Engine.available)
    func `sends a task that gave way behind its equals`(engine: Engine) async throws {
        try await engine.withStore { store, _ in
            for number in 0..<3 { try await store.make("t\(number)", at: noon + .seconds(number)) }
            let first = try #require(try await store.claim("one", by: "w", at: noon + .minutes(1)))
            #expect(first.id == "t0")
            try await store.yield(first, at: noon + .minutes(1))
            var order: [String] = []
            while let task = try await store.claim("c\(order.count)", by: "w", at: noon + .minutes(2)) {
                order.append(task.id)
            }
            #expect(order == ["t1", "t2", "t0"])
        }
    }

    @Test(arguments: Engine.available)
    func `gives each task to one worker alone`(engine: Engine) async throws {
        try await engine.withStore { store, _ in
            for number in 0..<40 { try await store.make("t\(number)", of: Int64(number % 7 + 1)) }
            let claimed = try await withThrowingTaskGroup(of: [String].self) { group in
                for worker in 0..<8 {
                    group.addTask {
                        var mine: [String] = []
                        var attempt = 0
                        while let task = try await store.claim(
                            "\(worker)-\(attempt)", by: "w\(worker)", at: noon)
                        {
                            mine.append(task.id)
                            attempt += 1
                        }
                        return mine
                    }
                }
                return try await group.reduce(into: []) { $0 += $1 }
            }
            #expect(Set(claimed).count == claimed.count)
            // Whoever found the last one locked by another came away with nothing; it is still there.
            var rest = 0
            while try await store.claim("rest-\(rest)", by: "w", at: noon) != nil { rest += 1 }
            #expect(claimed.count + rest == 40)
        }
    }

    @Test(arguments: Engine.available)
    func `lets nobody write who has lost the claim`(engine: Engine) async throws {
        try await engine.withStore { store, _ in
            try await store.make("t")
            let late = try #require(try await store.claim("one", by: "w1", at: noon))
            let begun = try await store.begin(late, with: lease(), at: noon)
            #expect(try await store.claim("two", by: "w2", at: noon + .seconds(30)) == nil)
            let after = noon + ParseStore.claimDuration
            let next = try #require(try await store.claim("two", by: "w2", at: after))
            #expect(next.lease == lease())
            #expect(try await store.keepClaim(begun, at: after) == false)
            await #expect(throws: ParseError.claimLost) {
                _ = try await store.save(
                    Course.Harvest(), Course(), of: begun, active: .zero, at: after)
            }
            await #expect(throws: ParseError.claimLost) {
                try await store.finish(begun, nil, at: after, keepingResultsFor: .days(1))
            }
            // The account went with the task, so the one who lost it must not give it back.
            #expect(try await store.dropLease(lease(), of: begun) == false)
            #expect(try await store.keepClaim(next, at: after))
        }
    }

    @Test(arguments: Engine.available)
    func `stops work at once when the task is stopped`(engine: Engine) async throws {
        try await engine.withStore { store, _ in
            for order in [TaskOrder.pause, .cancel] {
                try await store.make("\(order)")
                let claimed = try #require(try await store.claim("\(order)", by: "w", at: noon))
                let task = try await store.begin(claimed, with: lease(), at: noon)
                let stopped = try await store.order(
                    order, task.id, of: 1, at: noon, keepingResultsFor: .days(1))
                #expect(stopped.status == (order == .pause ? .paused : .cancelled))
                await #expect(throws: ParseError.claimLost) {
                    _ = try await store.save(Course.Harvest(), Course(), of: task, active: .zero, at: noon)
                }
                #expect(try await store.dropLease(lease(), of: task))
                #expect(try await store.dropLease(lease(), of: task) == false)
            }
            await #expect(throws: ParseError.wrongState(.cancelled, .resume)) {
                _ = try await store.order(.resume, "cancel", of: 1, at: noon, keepingResultsFor: .days(1))
            }
            await #expect(throws: ParseError.unknownTask) {
                _ = try await store.order(.pause, "pause", of: 2, at: noon, keepingResultsFor: .days(1))
            }
            _ = try await store.delete("pause", of: 1, at: noon)
            await #expect(throws: ParseError.unknownTask) { _ = try await store.task("pause", of: 1) }
        }
    }

    /// Now and then is counted what was written, now and then somebody is met in an event, and what is known of
    /// people from one page to the next is lost as a crash loses it.
    @Test(arguments: Engine.available)
    func `keeps people once, and counts them right, whatever the order in which they are met`(engine: Engine)
        async throws
    {
        try await engine.withStore { store, _ in
            try await store.make("t", .normal, .messages)
            let claimed = try #require(try await store.claim("one", by: "w", at: noon))
            var task = try await store.begin(claimed, with: lease(), at: noon)
            let random = SeededRandom(seed: 5)
            var truth: [String: (count: Int64, first: Timestamp, last: Timestamp)] = [:]
            var known = KnownPeople.nobody
            for page in 0..<40 {
                var harvest = Course.Harvest()
                for _ in 0..<random.int(in: 0...60) {
                    let id = random.int(in: 1...90)
                    let at = Timestamp(seconds: Int64(1_700_000_000 + random.int(in: 0...1_000_000)))
                    let writes = random.int(in: 0...9) > 0
                    harvest.people.see(person(id), first: at, last: at, messages: writes ? 1 : 0)
                    if writes {
                        var message = message(id, by: id)
                        message.sentAt = at
                        harvest.messages.append(message)
                    }
                    let met = truth[String(id)] ?? (0, at, at)
                    truth[String(id)] = (met.count + (writes ? 1 : 0), min(met.first, at), max(met.last, at))
                }
                harvest.counts.messages = Int64(harvest.messages.count)
                task = try await store.save(
                    harvest, task.course, of: task, knowing: known, counting: page % 7 == 3,
                    active: .seconds(1), at: noon)
                known.note(harvest.people, in: task.config)
                if page % 9 == 4 { known = .nobody }
            }
            #expect(task.counts.uncounted > 0)
            try await store.finish(task, nil, at: noon, keepingResultsFor: .days(1))
            let people = try await store.people(of: task, ResultQuery(), at: .after(0), limit: 1000)
            #expect(people.count == truth.count)
            #expect(task.counts.results == Int64(truth.count))
            #expect(task.counts.active == .seconds(40))
            for found in people {
                let known = try #require(truth[found.platformID])
                #expect(found.messageCount == known.count)
                #expect(found.firstSeen == known.first)
                #expect(found.lastSeen == known.last)
            }
            #expect(people.map(\.position) == Array(1...Int64(people.count)))
            let messages = try await store.messages(of: task, ResultQuery(), at: .after(0), limit: 10_000)
            #expect(Int64(messages.count) == task.counts.storedMessages)
            #expect(messages.map(\.position) == Array(1...Int64(messages.count)))
        }
    }

    @Test(arguments: Engine.available)
    func `has everything counted whenever a task rests`(engine: Engine) async throws {
        let rests: [@Sendable (ParseStore, ParseTask) async throws -> Void] = [
            { try await $0.finish($1, nil, at: noon, keepingResultsFor: .days(1)) },
            { try await $0.finish($1, .broken, at: noon, keepingResultsFor: .days(1)) },
            { try await $0.wait($1, for: Waiting(.noAccount, until: noon), at: noon) },
            { try await $0.yield($1, at: noon) },
            { _ = try await $0.order(.pause, $1.id, of: 1, at: noon, keepingResultsFor: .days(1)) },
            { _ = try await $0.order(.cancel, $1.id, of: 1, at: noon, keepingResultsFor: .days(1)) },
        ]
        try await engine.withStore { store, _ in
            for (number, rest) in rests.enumerated() {
                try await store.make("t\(number)", .normal, .messages)
                let claimed = try #require(try await store.claim("c\(number)", by: "w", at: noon))
                var task = try await store.begin(claimed, with: lease(), at: noon)
                for id in 1...3 {
                    var harvest = Course.Harvest()
                    harvest.people.see(person(1), first: noon, last: noon, messages: 1)
                    harvest.messages = [message(id, by: 1)]
                    task = try await store.save(
                        harvest, task.course, of: task, counting: id == 1, active: .zero, at: noon)
                }
                func count() async throws -> [Int64] {
                    try await store.people(of: task, ResultQuery(), at: .after(0), limit: 9).map(
                        \.messageCount)
                }
                #expect(try await count() == [1])
                try await rest(store, task)
                #expect(try await count() == [3], "\(number)")
                if let again = try await store.claim("again\(number)", by: "w", at: noon) {
                    #expect(again.counts.uncounted == 0)
                    try await store.finish(again, nil, at: noon, keepingResultsFor: .days(1))
                    #expect(try await count() == [3], "\(number)")
                }
            }
        }
    }

    /// A power cut takes the last pages from the database, and a worker that lives on does not know.
    @Test(arguments: Engine.available)
    func `writes nothing on top of what it does not stand on`(engine: Engine) async throws {
        try await engine.withStore { store, database in
            try await store.make("t", .normal, .messages)
            let claimed = try #require(try await store.claim("one", by: "w", at: noon))
            let begun = try await store.begin(claimed, with: lease(), at: noon)
            let saved = try await store.save(
                Course.Harvest(), begun.course, of: begun, active: .zero, at: noon)
            try await database.run("UPDATE parse_tasks SET revision = \(begun.revision)")
            await #expect(throws: ParseError.overtaken) {
                _ = try await store.save(Course.Harvest(), saved.course, of: saved, active: .zero, at: noon)
            }
            await #expect(throws: ParseError.overtaken) {
                try await store.finish(saved, nil, at: noon, keepingResultsFor: .days(1))
            }
            let current = try #require(try await store.claimed(saved))
            #expect(current == begun)
            try await store.finish(current, nil, at: noon, keepingResultsFor: .days(1))
        }
    }

    /// Whoever was read by an earlier run is known; what its user has deleted, or what was kept long enough,
    /// is as if it had never been.
    @Test(arguments: Engine.available)
    func `knows from earlier runs what still stands in their results`(engine: Engine) async throws {
        try await engine.withStore { store, database in
            var incremental = ParseConfig()
            incremental.isIncremental = true
            func run(_ id: String, _ people: ClosedRange<Int>, _ config: ParseConfig = ParseConfig())
                async throws -> Int64
            {
                try await store.make(id, link: "village", config)
                let claimed = try #require(try await store.claim("of \(id)", by: "w", at: noon))
                let task = try await store.begin(claimed, with: lease(), at: noon)
                var harvest = Course.Harvest()
                for number in people { harvest.people.see(person(number), first: nil, last: nil) }
                let saved = try await store.save(
                    harvest, task.course, of: task, active: .zero, at: noon)
                try await store.finish(saved, nil, at: noon, keepingResultsFor: .days(1))
                return saved.counts.results
            }
            #expect(try await run("first", 1...20) == 20)
            // Who is known as a member is new where they write, also within one run.
            try await store.make("writing", .normal, .members, link: "village", incremental)
            let claimed = try #require(try await store.claim("writing", by: "w", at: noon))
            var task = try await store.begin(claimed, with: lease(), at: noon)
            var known = KnownPeople.nobody
            for isWriting in [false, true, true] {
                var harvest = Course.Harvest()
                harvest.people.see(person(7), first: noon, last: noon, messages: isWriting ? 1 : 0)
                if isWriting { harvest.messages = [message(1, by: 7)] }
                task = try await store.save(
                    harvest, task.course, of: task, knowing: known, active: .zero, at: noon)
                known.note(harvest.people, in: incremental)
                #expect(task.counts.results == (isWriting ? 1 : 0))
            }
            _ = try await store.delete("writing", of: 1, at: noon)
            #expect(try await run("second", 1...25, incremental) == 5)
            #expect(try await run("third", 1...25, incremental) == 0)
            // Its rows go later, a part at a time; from now on they are nobody's.
            _ = try await store.delete("first", of: 1, at: noon)
            #expect(try await run("fourth", 1...25, incremental) == 20)
            while try await store.purge(at: noon) > 0 {}
            #expect(try await run("fifth", 1...25, incremental) == 0)
            while try await store.purge(at: noon + .days(2)) > 0 {}
            #expect(try await run("sixth", 1...25, incremental) == 25)
            let rows = try await database.run("SELECT count(*) AS n FROM parse_people")
            #expect(try rows[0].int("n") == 25)
        }
    }

    @Test(arguments: Engine.available)
    func `writes rows and checkpoint together or not at all`(engine: Engine) async throws {
        try await engine.withStore { store, database in
            try await store.make("t", .normal, .messages)
            let claimed = try #require(try await store.claim("one", by: "w", at: noon))
            let task = try await store.begin(claimed, with: lease(), at: noon)
            var harvest = Course.Harvest()
            harvest.people.see(person(1), first: noon, last: noon, messages: 1)
            // What no database takes as text, past everything that would have cleaned it.
            var broken = message(1, by: 1)
            broken.content = "a\u{0}b"
            harvest.messages = [message(2, by: 1), broken]
            await #expect(throws: (any Error).self) {
                _ = try await store.save(harvest, task.course, of: task, active: .zero, at: noon)
            }
            for table in ["parse_people", "parse_messages"] {
                let rows =
                    try await table == "parse_people"
                    ? database.run("SELECT count(*) AS n FROM parse_people")
                    : database.run("SELECT count(*) AS n FROM parse_messages")
                #expect(try rows[0].int("n") == 0)
            }
            harvest.messages.removeLast()
            // Now the rows can be written and the checkpoint cannot.
            switch engine {
            case .sqlite:
                try await database.run(
                    """
                    CREATE TRIGGER broken BEFORE UPDATE OF course ON parse_tasks
                    BEGIN SELECT RAISE(ABORT, 'broken'); END
                    """)
            case .postgres:
                try await database.run(
                    """
                    CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql
                    AS 'BEGIN RAISE EXCEPTION ''broken''; END'
                    """)
                try await database.run(
                    """
                    CREATE TRIGGER broken BEFORE UPDATE OF course ON parse_tasks
                    FOR EACH ROW EXECUTE FUNCTION broken()
                    """)
            }
            await #expect(throws: (any Error).self) {
                _ = try await store.save(harvest, task.course, of: task, active: .zero, at: noon)
            }
            let written = try await database.run(
                """
                SELECT (SELECT count(*) FROM parse_people) + (SELECT count(*) FROM parse_messages) AS n
                """)
            #expect(try written[0].int("n") == 0)
            switch engine {
            case .sqlite: try await database.run("DROP TRIGGER broken")
            case .postgres: try await database.run("DROP TRIGGER broken ON parse_tasks")
            }
            let saved = try await store.save(harvest, task.course, of: task, active: .zero, at: noon)
            #expect(saved.counts.results == 1)
            #expect(saved.counts.storedMessages == 1)
        }
    }

    @Test(arguments: Engine.available)
    func `brings a waiting task back when it is time or an account is free`(engine: Engine) async throws {
        try await engine.withStore { store, _ in
            try await store.make("t")
            let task = try #require(try await store.claim("one", by: "w", at: noon))
            try await store.wait(task, for: Waiting(.noAccount, until: noon + .minutes(5)), at: noon)
            #expect(try await store.claim("two", by: "w", at: noon + .minutes(4)) == nil)
            #expect(try await store.nextDue(after: noon) == noon + .minutes(5))
            #expect(try await store.wakeWaiting(of: 2) == 0)
            #expect(try await store.wakeWaiting(of: 1) == 1)
            #expect(try await store.claim("two", by: "w", at: noon + .minutes(4)) != nil)
            try await store.forgetClaims(of: "another")
            #expect(try await store.claim("three", by: "w", at: noon + .minutes(4)) == nil)
            try await store.forgetClaims(of: "w")
            let again = try #require(try await store.claim("three", by: "w", at: noon + .minutes(4)))
            #expect(again.waiting?.reason == .noAccount)
            let urgent = try await store.make("urgent", of: 1, .high)
            let taken = try #require(try await store.claim("four", by: "w", at: noon + .minutes(4)))
            #expect(taken.number == urgent.number)
            #expect(try await store.isUrgentWaiting(for: again) == false)
            try await store.wait(taken, for: Waiting(.noAccount, until: noon + .minutes(9)), at: noon)
            #expect(try await store.isUrgentWaiting(for: again))
        }
    }

    @Test(arguments: Engine.available)
    func `forgets a person wherever they stand`(engine: Engine) async throws {
        try await engine.withStore { store, _ in
            for (id, user) in [("mine", 1), ("theirs", 2)] as [(String, Int64)] {
                try await store.make(id, of: user, .normal, .messages)
                let claimed = try #require(try await store.claim(id, by: "w", at: noon))
                let task = try await store.begin(claimed, with: lease(), at: noon)
                var harvest = Course.Harvest()
                for number in 1...4 {
                    harvest.people.see(person(number), first: noon, last: noon, messages: 1)
                    var message = message(number, by: number)
                    // What the first one wrote, the third has handed on; the ninth is met in no other way.
                    message.forwardedFrom = number == 3 ? "1" : number == 4 ? "9" : nil
                    harvest.messages.append(message)
                }
                _ = try await store.save(harvest, task.course, of: task, active: .zero, at: noon)
            }
            #expect(try await store.erase(person: "@USER_1", of: 1).people == 1)
            #expect(try await store.erase(person: "9", of: 1).people == 0)
            func messages(_ id: String, _ user: Int64) async throws -> [MessageResult] {
                try await store.messages(
                    of: store.task(id, of: user), ResultQuery(), at: .after(0), limit: 10)
            }
            let mine = try await messages("mine", 1)
            #expect(mine.map(\.platformID) == ["2", "3", "4"])
            #expect(mine.compactMap(\.forwardedFrom) == [])
            #expect(try await messages("theirs", 2).compactMap(\.forwardedFrom) == ["1", "9"])
        }
    }

    @Test(arguments: Engine.available)
    func `bounds what one user leaves unfinished`(engine: Engine) async throws {
        guard engine == .sqlite else { return }
        try await engine.withStore { store, _ in
            let many = (0..<ParseStore.mostUnfinished).map {
                (id: "t\($0)", task: NewTask(user: 1, link: CommunityLink(key: "k\($0)")))
            }
            _ = try await store.create(many, at: noon)
            await #expect(throws: ParseError.tooManyTasks(limit: ParseStore.mostUnfinished)) {
                _ = try await store.make("one-more")
            }
            try await store.make("another's", of: 2)
        }
    }
}
