import Accounts
import Core
import Testing

/// One account lives through `steps` random events; after each the rules and the reference have to agree.
private struct World {
    let random: SeededRandom
    let action: ActionType
    var book: AccountBook
    var reference: ReferenceAccount
    /// In minutes since 1970; starts near midnight often enough.
    var minute: Int
    var nextID = 0

    init(seed: UInt64) throws {
        let random = SeededRandom(seed: seed)
        let action = ActionType.allCases[random.int(in: 0...2)]
        var chosen: [LimitSetting: Int] = [:]
        for setting in LimitSetting.all where setting.action == action && random.int(in: 0...2) == 0 {
            let ceiling = setting.read(.ceilings)
            switch setting.number {
            case .pauseSeconds, .burstPauseSeconds: chosen[setting] = ceiling + 60 * random.int(in: 0...90)
            case .burst: chosen[setting] = random.int(in: 1...ceiling)
            default: chosen[setting] = random.int(in: min(1, random.int(in: 0...5))...min(ceiling, 9))
            }
        }
        let limits = Limits.tightest(try LimitsOverride(chosen))
        let start = 20_000 * 1440 + random.int(in: 0...2880)
        reference = ReferenceAccount(limits[action])
        var candidate = Candidate(account: account(1), limits: limits)
        if random.int(in: 0...2) == 0 {
            let steps = [(0, random.int(in: 0...50)), (1, 50), (2, 100)]
            candidate.rampUp = RampUp(steps.map { RampUp.Step(age: $0.0, percent: $0.1) }) ?? .none
            candidate.connectedOn = UTCDay(number: Int64(start / 1440))
            reference.connectedOnDay = start / 1440
            reference.percents = steps.map { (age: $0.0, percent: $0.1) }
        }
        book = AccountBook(candidate)
        minute = start
        self.random = random
        self.action = action
    }

    var now: Timestamp { Timestamp(seconds: Int64(minute) * 60) }

    mutating func live() {
        let name: String? = [nil, "sales", "other"][random.int(in: 0...2)]
        let key = name.map { channel($0) }
        switch random.int(in: 0...9) {
        case 0...3:
            nextID += 1
            let (verdict, permit) = book.reserve(action, into: key, id: "\(nextID)", at: now)
            let wanted = action == .invite ? name : nil
            #expect(verdict.allowed == reference.refusing(minute, wanted).isEmpty)
            if permit != nil {
                reference.held.append(.init(id: "\(nextID)", minute: minute, channel: wanted))
            }
        case 4:
            // A fact that nobody asked about first.
            let success = random.int(in: 0...3) > 0
            book.record(action, into: key, success: success, at: now)
            reference.events.append(.init(minute: minute, channel: name, success: success))
        case 5...6:
            guard let held = reference.held.randomElement(random) else { return }
            let success = random.int(in: 0...3) > 0
            let place = held.channel.map { channel($0) }
            for _ in 0...1 { book.record(action, into: place, success: success, permit: held.id, at: now) }
            let at = min(minute, held.minute + 2)
            reference.held.removeAll { $0.id == held.id }
            reference.events.append(.init(minute: at, channel: held.channel, success: success))
        case 7:
            guard let held = reference.held.randomElement(random) else { return }
            // What has run out is not given back: it may still be reported.
            if book.releasePermit(held.id, at: now) { reference.held.removeAll { $0.id == held.id } }
        case 8:
            let jumps = [1, 2, 5, 15, 60, 61, 600, 1440, -1, -30, -700]
            minute += jumps[random.int(in: 0...(jumps.count - 1))]
        default: minute += random.int(in: 0...20)
        }
    }

    func agree(_ name: String?) -> Bool {
        let verdict = book.check(action, into: name.map { channel($0) }, at: now)
        let wanted = action == .invite ? name : nil
        let refused = Set(verdict.checks.filter { !$0.isAllowed }.map(\.name.rawValue))
        guard refused == reference.refusing(minute, wanted), verdict.allowed == refused.isEmpty else {
            return false
        }
        guard !verdict.allowed else { return verdict.retryAt == nil }
        guard let retry = verdict.retryAt else {
            return reference.firstAllowed(from: minute, wanted, horizon: 3 * 1440) == nil
        }
        // At `retry_at` it is allowed, and never before: the last minute before it is refused.
        guard book.check(action, into: name.map { channel($0) }, at: retry).allowed else { return false }
        let minuteOfRetry = Int(retry.seconds / 60)
        guard reference.refusing(minuteOfRetry, wanted).isEmpty else { return false }
        return (minute..<minuteOfRetry).allSatisfy { !reference.refusing($0, wanted).isEmpty }
    }
}

extension Array {
    fileprivate func randomElement(_ random: SeededRandom) -> Element? {
        isEmpty ? nil : self[random.int(in: 0...(count - 1))]
    }
}

@Suite struct `The rules` {
    @Test(arguments: 1...150 as ClosedRange<UInt64>)
    func `agree with the reference, moment by moment`(seed: UInt64) throws {
        var world = try World(seed: seed)
        for step in 1...30 {
            world.live()
            let name: String? = [nil, "sales", "other"][step % 3]
            guard world.agree(name) else {
                Issue.record("seed \(seed), step \(step), \(world.now)")
                return
            }
        }
    }

    @Test func `would be caught by the reference if they forgot open permits`() throws {
        // The planted fault: a permit that nobody tells the reference about.
        var world = try World(seed: 3)
        let before = world.agree(nil)
        world.minute += 4000
        _ = world.book.reserve(world.action, id: "hidden", at: world.now)
        #expect(before)
        #expect(!world.agree(nil))
    }
}
