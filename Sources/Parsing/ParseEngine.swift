public import Core
import Storage

/// How requests follow each other. Everybody keeps the documented pace; tests and benchmarks of what happens
/// between the requests do not wait.
public struct Rhythm: Sendable {
    let isPaced: Bool
    /// Nil is the speed's own.
    let size: Int?
    let pages: Int

    public static let documented = Rhythm(isPaced: true, size: nil, pages: 1)
    /// The requests are the same; only nobody waits between them.
    public static let withoutWaiting = Rhythm(isPaced: false, size: nil, pages: 1)
    /// As much as goes through.
    public static func unlimited(size: Int, pages: Int) -> Rhythm {
        Rhythm(isPaced: false, size: size, pages: pages)
    }
}

/// Works on a claimed task until it ends, is stopped, or has to wait. What it decides by is in `Course` and
/// `Pace`; what it leaves behind is in the store, after every page.
public struct ParseEngine: Sendable {
    /// How an attempt to work on a task came out.
    public enum Outcome: String, Sendable, CaseIterable {
        case completed, failed, waiting, yielded, stopped
    }
    /// For an account that a crash forgets; it is prolonged while it is used.
    static let leaseDuration: Duration = .minutes(5)
    private static let patience = 5
    private static let lookAround: Duration = .seconds(10)
    /// How often people wrote is counted as often as takes no more than a tenth of the time, and whenever the task
    /// rests. So a person's row is changed after every page of a slow source, and for many at once of a fast one.
    private static let countShare = 10
    private static let mostUncounted: Int64 = 300_000

    let store: ParseStore
    let adapters: [Platform: any PlatformAdapter]
    let lender: any AccountLending
    let rhythm: Rhythm
    let retention: Duration
    let time: any TimeSource
    let random: any RandomSource
    let log: Log
    /// Told of what each page brought.
    let didSave: @Sendable (ParseTask, TaskCounts) -> Void
    /// Whether tasks wait because all places are taken.
    let isCrowded: @Sendable () -> Bool

    public init(
        store: ParseStore, adapters: [any PlatformAdapter], lender: any AccountLending,
        rhythm: Rhythm = .documented, retention: Duration = .days(90), time: any TimeSource,
        random: any RandomSource, log: Log,
        didSave: @escaping @Sendable (ParseTask, TaskCounts) -> Void = { _, _ in },
        isCrowded: @escaping @Sendable () -> Bool = { false }
    ) {
        self.store = store
        self.adapters = Dictionary(adapters.map { ($0.platform, $0) }) { first, _ in first }
        self.lender = lender
        self.rhythm = rhythm
        self.retention = retention
        self.time = time
        self.random = random
        self.log = log
        self.didSave = didSave
        self.isCrowded = isCrowded
    }

    /// What one attempt knows beside the task itself.
    private struct Attempt {
        var task: ParseTask
        var lease: AccountLease?
        /// When the account asked; nil where only the store knows.
        var pace: Pace?
        /// Accounts that cannot go on with this task now.
        var excluded: [String] = []
        var waitsForTelegram = false
        var noAccess: String?
        var refusal: NoAccount?
        var failures = 0
        var lookedAround: Duration
        /// Up to when its time is in the task's counts.
        var entered: Duration
        /// When people's messages are to be counted next.
        var countsNext: Duration
        /// People who need not be looked for.
        var known = KnownPeople.nobody
        /// The page behind the last one, which was asked for while that was written.
        var ahead: Answer?

        init(_ task: ParseTask, at uptime: Duration) {
            self.task = task
            (lookedAround, entered, countsNext) = (uptime, uptime, uptime)
        }

        /// How the task stands in the store, whatever we believed.
        mutating func goOn(from task: ParseTask) {
            self.task = task
            known = .nobody
            ahead = nil
            pace = nil
        }
    }

    /// What came of asking for a page.
    private struct Answer: Sendable {
        let page: Result<ReadingPage, any Error>
        let pace: Pace
    }

    /// Works on `task`. Throws `CancellationError` when it is stopped from outside; then somebody has to
    /// `abandon` it.
    public func work(on task: ParseTask) async throws -> Outcome {
        guard let adapter = adapters[task.platform] else {
            try await store.finish(task, .noAdapter, at: time.now, keepingResultsFor: retention)
            return .failed
        }
        var attempt = Attempt(task, at: time.uptime)
        do {
            try await takeUpLease(&attempt)
            while true {
                do {
                    if let outcome = try await step(&attempt, adapter) { return outcome }
                } catch let error as StorageError {
                    try await recover(&attempt, from: error)
                } catch ParseError.overtaken {
                    try await readAnew(&attempt)
                } catch  where !(error is CancellationError || error is ParseError) {
                    // Another service does not answer, or not as it should.
                    let failure = ReadingFailure.unreachable(message: String(describing: error))
                    if let outcome = try await meet(failure, &attempt, nil) { return outcome }
                }
            }
        } catch ParseError.claimLost {
            log.info("parse.stopped", ["task": .id(task.id)])
            if let lease = attempt.lease {
                // Half of a return would be none: whoever is cut off here is abandoned, and that returns it.
                try Task.checkCancellation()
                try await returnIfOurs(lease, of: attempt.task)
            }
            return .stopped
        }
    }

    /// Gives back what an attempt held that was cut off.
    public func abandon(_ task: ParseTask) async throws {
        guard let current = try await store.claimed(task) else {
            // Stopped by its user: the row still says which account it read with, also of a deleted task.
            if let lease = try await store.leaseLeft(by: task) { try await returnIfOurs(lease, of: task) }
            return
        }
        if let lease = current.lease { try await lender.giveBack(lease, user: task.user) }
        try await store.yield(current, at: time.now)
    }

    private func returnIfOurs(_ lease: AccountLease, of task: ParseTask) async throws {
        guard try await store.dropLease(lease, of: task) else { return }
        try await lender.giveBack(lease, user: task.user)
        _ = try await store.wakeWaiting(of: task.user)
    }

    // MARK: - One page

    /// Nil as long as there is more to do.
    private func step(_ attempt: inout Attempt, _ adapter: any PlatformAdapter) async throws -> Outcome? {
        guard let request = nextRequest(attempt.task, attempt.task.course) else {
            return try await finish(&attempt, nil)
        }
        let answer: Answer
        if let ahead = attempt.ahead {
            answer = ahead
            attempt.ahead = nil
        } else {
            attempt.entered = time.uptime
            guard let lease = try await heldLease(&attempt) else { return try await waitForAccount(&attempt) }
            answer = try await ask(request, &attempt, adapter, with: lease)
        }
        attempt.pace = answer.pace
        let page: ReadingPage
        do { page = try answer.page.get() } catch let failure as ReadingFailure {
            return try await meet(failure, &attempt, request)
        }
        if !page.messages.isEmpty || !page.people.isEmpty { attempt.failures = 0 }
        var course = attempt.task.course
        course.begin(at: time.now)
        let harvest: Course.Harvest
        do {
            harvest = try course.take(page, of: request, attempt.task.type, attempt.task.config)
        } catch {
            return try await finish(&attempt, error.failure)
        }
        try await save(harvest, course, &attempt, adapter, mayReadAhead: page.failure == nil)
        didSave(attempt.task, harvest.counts)
        if let failure = page.failure { return try await meet(failure, &attempt, request) }
        return try await giveWay(&attempt)
    }

    private func nextRequest(_ task: ParseTask, _ course: Course) -> ReadingRequest? {
        course.next(
            task.link, task.config, size: rhythm.size ?? task.config.speed.figures.batch, pages: rhythm.pages)
    }

    /// Writes a page, and reads the next one meanwhile, unless the account may have to be given back before.
    private func save(
        _ harvest: Course.Harvest, _ course: Course, _ attempt: inout Attempt, _ adapter: any PlatformAdapter,
        mayReadAhead: Bool
    ) async throws {
        let task = attempt.task
        let now = time.uptime
        let uncounted = task.counts.uncounted + Int64(harvest.messages.count)
        let isCounting = now >= attempt.countsNext || uncounted >= Self.mostUncounted
        var ahead: (request: ReadingRequest, lease: AccountLease, pace: Pace)?
        if mayReadAhead, !isTimeToLookAround(attempt), let lease = attempt.lease, isFresh(lease),
            let request = nextRequest(task, course), let pace = attempt.pace
        {
            ahead = (request, lease, pace)
            attempt.pace = nil
        }
        let next = ahead
        async let answer: Answer? =
            if let next {
                await ask(next.request, task, adapter, with: next.lease, next.pace)
            } else { nil }
        attempt.task = try await store.save(
            harvest, course, of: task, knowing: attempt.known, counting: isCounting,
            active: now - attempt.entered, at: time.now)
        if isCounting {
            let saved = time.uptime
            attempt.countsNext = saved + (saved - now) * Self.countShare
        }
        attempt.entered = now
        attempt.known.note(harvest.people, in: task.config)
        attempt.ahead = await answer
    }

    private func ask(
        _ request: ReadingRequest, _ attempt: inout Attempt, _ adapter: any PlatformAdapter,
        with lease: AccountLease
    ) async throws -> Answer {
        var pace = attempt.pace
        if pace == nil { pace = try await store.pace(of: lease.account) }
        return await ask(request, attempt.task, adapter, with: lease, pace ?? Pace())
    }

    /// Reads a page as soon as the account may.
    private func ask(
        _ request: ReadingRequest, _ task: ParseTask, _ adapter: any PlatformAdapter,
        with lease: AccountLease, _ pace: Pace
    ) async -> Answer {
        var pace = pace
        do {
            try await keepPace(
                &pace, lease, request, task.config.speed.figures, cost: adapter.cost(of: request))
            return Answer(
                page: .success(try await adapter.read(request, with: lease, for: task.user)), pace: pace)
        } catch { return Answer(page: .failure(error), pace: pace) }
    }

    private func keepPace(
        _ pace: inout Pace, _ lease: AccountLease, _ request: ReadingRequest, _ figures: Speed.Figures,
        cost: Int
    ) async throws {
        guard rhythm.isPaced else { return }
        let asking: Pace.Asking = request.what == .members ? .users : .messages
        while true {
            let now = time.now
            let moment = pace.next(asking, figures, count: cost, at: now)
            guard moment > now else { break }
            try await time.sleep(for: moment - now)
        }
        pace.note(cost, at: time.now)
        try await store.note(pace, of: lease.account, at: time.now)
    }

    private func isTimeToLookAround(_ attempt: Attempt) -> Bool {
        time.uptime - attempt.lookedAround > Self.lookAround
    }

    /// Gives the account or the place to somebody whose turn it is more.
    private func giveWay(_ attempt: inout Attempt) async throws -> Outcome? {
        guard attempt.ahead == nil, isTimeToLookAround(attempt), !attempt.task.course.isFinished else {
            return nil
        }
        attempt.lookedAround = time.uptime
        var gives = try await store.isUrgentWaiting(for: attempt.task)
        if !gives, isCrowded() {
            gives = try await store.isSomebodyWaiting(behind: attempt.task, at: time.now)
        }
        guard gives else { return nil }
        if let lease = attempt.lease { try await lender.giveBack(lease, user: attempt.task.user) }
        attempt.lease = nil
        try await store.yield(attempt.task, at: time.now)
        _ = try await store.wakeWaiting(of: attempt.task.user)
        log.info("parse.gave-way", ["task": .id(attempt.task.id)])
        return .yielded
    }

    // MARK: - Accounts

    /// The account a crashed attempt left behind is still ours, if its lease has not ended.
    private func takeUpLease(_ attempt: inout Attempt) async throws {
        guard let left = attempt.task.lease else { return }
        if let lease = try? await lender.extend(left, user: attempt.task.user, for: Self.leaseDuration) {
            attempt.lease = lease
            attempt.pace = nil
            attempt.task = try await store.begin(attempt.task, with: lease, at: time.now)
        } else {
            try Task.checkCancellation()
            attempt.task = try await store.forgetLease(attempt.task)
        }
    }

    /// Counted from when it was asked for, so that it never ends before we think it does.
    private func isFresh(_ lease: AccountLease) -> Bool { lease.until - time.now > Self.leaseDuration / 2 }

    private func heldLease(_ attempt: inout Attempt) async throws -> AccountLease? {
        if let lease = attempt.lease {
            if isFresh(lease) { return lease }
            if let longer = try await lender.extend(lease, user: attempt.task.user, for: Self.leaseDuration) {
                attempt.lease = longer
                attempt.task = try await store.begin(attempt.task, with: longer, at: time.now)
                return longer
            }
            log.warning("parse.lease-lost", ["task": .id(attempt.task.id), "account": .id(lease.account)])
            attempt.lease = nil
        }
        do {
            let lease = try await lender.lease(
                user: attempt.task.user, excluding: attempt.excluded, for: Self.leaseDuration)
            attempt.lease = lease
            attempt.pace = nil
            attempt.task = try await store.begin(attempt.task, with: lease, at: time.now)
            log.info("parse.account", ["task": .id(attempt.task.id), "account": .id(lease.account)])
            return lease
        } catch let none as NoAccount {
            attempt.refusal = none
            return nil
        }
    }

    /// Says until when, and leaves.
    private func waitForAccount(_ attempt: inout Attempt) async throws -> Outcome {
        let refusal = attempt.refusal
        if let message = attempt.noAccess, refusal?.retryAt == nil {
            return try await finish(&attempt, .noAccess(message))
        }
        let now = time.now
        // Nobody tells us of accounts that other services give back, so we look again now and then.
        let soon = now + .seconds(30)
        let until = min(max(refusal?.retryAt ?? soon, now + .seconds(1)), max(soon, now + .seconds(1)))
        let reason: Waiting.Reason = attempt.waitsForTelegram ? .floodWait : .noAccount
        try await store.wait(
            attempt.task,
            for: Waiting(
                reason, until: until,
                details: .object([
                    JSONMember("reasons", refusal?.reasons ?? [:]),
                    JSONMember("free_at", JSONValue(refusal?.retryAt)),
                ])), at: now)
        log.info("parse.waiting", ["task": .id(attempt.task.id), "until": .text(until.description)])
        return .waiting
    }

    // MARK: - What goes wrong

    private func meet(
        _ failure: ReadingFailure, _ attempt: inout Attempt, _ request: ReadingRequest?
    ) async throws -> Outcome? {
        log.info("parse.failure", ["task": .id(attempt.task.id), "failure": .error(failure)])
        switch failure {
        case .mustWait(let duration):
            attempt.waitsForTelegram = true
            // Told of the wait, account-manager lends it to nobody before it is over.
            try await report("flood_wait", "", duration.wholeSecondsUp, &attempt, excludes: false)
            return nil
        case .accountTrouble(let type, let message):
            try await report(type, message, nil, &attempt)
            return nil
        case .leaseLost:
            // Given back under the lease's own number, so that nobody who has the account now loses it.
            if let lease = attempt.lease { try? await lender.giveBack(lease, user: attempt.task.user) }
            attempt.lease = nil
            attempt.task = try await store.forgetLease(attempt.task)
            return nil
        case .noAccess(let message):
            attempt.noAccess = message
            try await letGo(&attempt)
            return nil
        case .refused(let code, let message):
            return try await finish(&attempt, .refused(code, message))
        case .nothingThere:
            guard case .comments = request?.what else {
                return try await finish(&attempt, .refused("nothing_there", ""))
            }
            var course = attempt.task.course
            course.skipThread()
            attempt.task = try await store.save(
                Course.Harvest(), course, of: attempt.task, active: .zero, at: time.now)
            return nil
        case .unreachable(let message):
            attempt.failures += 1
            guard attempt.failures < Self.patience else {
                let lease = attempt.lease
                attempt.lease = nil
                if let lease { try? await lender.giveBack(lease, user: attempt.task.user) }
                try Task.checkCancellation()
                try await store.wait(
                    attempt.task, for: Waiting(.unreachable, until: time.now + .seconds(30)), at: time.now)
                log.warning("parse.unreachable", ["task": .id(attempt.task.id), "message": .text(message)])
                return .waiting
            }
            let backoff = Backoff(first: .milliseconds(500), ceiling: .seconds(10))
            try await time.sleep(for: backoff.delay(after: attempt.failures, random))
            return nil
        }
    }

    /// Tells account-manager, which decides what becomes of the account, and goes on with another.
    private func report(
        _ type: String, _ message: String, _ seconds: Int64?, _ attempt: inout Attempt, excludes: Bool = true
    ) async throws {
        if let lease = attempt.lease {
            try await lender.report(
                type, message: message, seconds: seconds, of: lease, user: attempt.task.user)
        }
        try await letGo(&attempt, excludes: excludes)
    }

    private func letGo(_ attempt: inout Attempt, excludes: Bool = true) async throws {
        guard let lease = attempt.lease else { return }
        if excludes { attempt.excluded.append(lease.account) }
        attempt.lease = nil
        try await lender.giveBack(lease, user: attempt.task.user)
        attempt.task = try await store.forgetLease(attempt.task)
    }

    private func finish(_ attempt: inout Attempt, _ failure: TaskFailure?) async throws -> Outcome {
        // While the task is still ours: once it has ended, nothing says any more that this work goes on. An
        // account that is not given back comes back when its lease ends.
        let lease = attempt.lease
        attempt.lease = nil
        if let lease { try? await lender.giveBack(lease, user: attempt.task.user) }
        try Task.checkCancellation()
        try await store.finish(attempt.task, failure, at: time.now, keepingResultsFor: retention)
        _ = try? await store.wakeWaiting(of: attempt.task.user)
        log.info(
            "parse.finished",
            [
                "task": .id(attempt.task.id), "results": .int(Int(attempt.task.counts.results)),
                "failure": .text(failure?.code ?? ""),
            ])
        return failure == nil ? .completed : .failed
    }

    private func readAnew(_ attempt: inout Attempt) async throws {
        guard let current = try await store.claimed(attempt.task) else { throw ParseError.claimLost }
        attempt.goOn(from: current)
    }

    /// Whether the last write arrived is not known: what stands in the store counts.
    private func recover(_ attempt: inout Attempt, from error: StorageError) async throws {
        attempt.failures += 1
        log.warning("parse.store-failed", ["task": .id(attempt.task.id), "error": .error(error)])
        let isOurFault: Bool =
            switch error {
            case .unavailable, .poolExhausted, .timedOut, .contended: false
            default: true
            }
        let backoff = Backoff(first: .milliseconds(200), ceiling: .seconds(10))
        try await time.sleep(for: backoff.delay(after: attempt.failures, random))
        let current: ParseTask?
        do { current = try await store.claimed(attempt.task) } catch is StorageError {
            // Until the claim has surely run out; then it is for whoever takes it up.
            if attempt.failures > 30 { throw ParseError.claimLost }
            return
        }
        guard let current else { throw ParseError.claimLost }
        attempt.goOn(from: current)
        if isOurFault, attempt.failures >= Self.patience {
            _ = try await finish(&attempt, .broken)
            throw ParseError.claimLost
        }
    }
}
