import Core
import Testing

@testable import Sandbox

@Suite struct `The judge` {
    private func entry(
        _ kind: LedgerEntry.Kind = .addMember, minutes: Int64, account: String = "a", target: Int64 = 0,
        group: Int64 = -5, outcome: String = "member", accepted: Bool = true, right: Bool = true,
        words: Int64 = 0
    ) -> LedgerEntry {
        LedgerEntry(
            number: Int(minutes), time: Timestamp(seconds: 1_760_054_400) + .minutes(minutes),
            account: account, kind: kind,
            target: target == 0 ? 1000 + minutes : target, group: group, outcome: outcome,
            isAccepted: accepted,
            hadRight: right, words: words)
    }

    private func rules(_ entries: [LedgerEntry]) -> Set<Violation.Rule> {
        Set(Judge.judge(entries).map(\.rule))
    }

    @Test func `finds nothing in what keeps every limit`() {
        // Two an hour, fifteen a day and group, thirty a day.
        var day: [LedgerEntry] = []
        for number in 0..<48 {
            let isTaken = number % 24 < 15
            day.append(
                entry(
                    minutes: Int64(number) * 30, group: number < 24 ? -5 : -6,
                    outcome: isTaken ? "member" : "privacy",
                    accepted: isTaken))
        }
        #expect(rules(Array(day.prefix(30))).isEmpty)
        #expect(rules(day) == [.daily])
    }

    /// The promise was made before midnight.
    @Test func `counts a moment after midnight for the day before, where that has room`() {
        func days(before: Int64) -> [LedgerEntry] {
            let first = (0..<before).map { entry(minutes: $0 * 31, group: $0 < 15 ? -5 : -6) }
            let second = (1...30).map { entry(minutes: 1440 + Int64($0) * 47, group: $0 < 16 ? -7 : -8) }
            return first + [entry(minutes: 1440, target: 77, group: -9)] + second
        }
        #expect(rules(days(before: 29)).isEmpty)
        #expect(Judge.judge(days(before: 29), tolerance: .zero).map(\.rule) == [.daily])
        #expect(rules(days(before: 30)) == [.daily])
    }

    @Test func `finds who was invited twice, also by two accounts`() {
        #expect(
            rules([entry(minutes: 0, target: 7), entry(minutes: 60, account: "b", target: 7)]) == [
                .invitedTwice
            ])
        #expect(rules([entry(minutes: 0, target: 7), entry(minutes: 60, target: 7, group: -6)]).isEmpty)
        #expect(
            rules([
                entry(minutes: 0, target: 7, outcome: "privacy", accepted: false),
                entry(minutes: 60, target: 7),
            ]).isEmpty)
    }

    @Test func `finds who was asked again after a no`() {
        let no = entry(minutes: 0, target: 7, outcome: "USER_NOT_MUTUAL_CONTACT", accepted: false)
        #expect(rules([no, entry(minutes: 60, account: "b", target: 7)]) == [.askedAfterNo])
    }

    @Test func `finds an invitation without the right`() {
        #expect(rules([entry(minutes: 0, right: false)]) == [.noInviteRight])
    }

    @Test func `finds too many in an hour, and too close to each other`() {
        #expect(rules([entry(minutes: 0), entry(minutes: 20), entry(minutes: 40)]) == [.hourly])
        #expect(rules([entry(minutes: 0), entry(minutes: 14)]) == [.pause])
        #expect(rules([entry(minutes: 0), entry(minutes: 15), entry(minutes: 60)]).isEmpty)
    }

    @Test func `counts a failed attempt against the hour, and not against the group`() {
        let failed = (0..<29).map { entry(minutes: Int64($0) * 31, outcome: "privacy", accepted: false) }
        #expect(rules(failed).isEmpty)
        let taken = (0..<16).map { entry(minutes: Int64($0) * 31) }
        #expect(rules(taken) == [.channelDaily])
    }

    @Test func `counts two hundred into one group for ever, over all days`() {
        var entries: [LedgerEntry] = []
        for number: Int64 in 0..<201 {
            let minutes = number / 10 * 1440 + number % 10 * 60
            entries.append(entry(minutes: minutes, target: 10_000 + number))
        }
        #expect(rules(entries) == [.channelTotal])
    }

    @Test func `finds the same words written twice, and a burst of messages`() {
        #expect(
            rules([
                entry(.message, minutes: 0, target: 7, words: 5),
                entry(.message, minutes: 70, target: 7, words: 5),
            ])
                == [.wroteTwice])
        #expect(
            rules([
                entry(.message, minutes: 0, target: 7, words: 5),
                entry(.message, minutes: 70, target: 7, words: 6),
            ])
            .isEmpty)
        let burst = (0..<6).map {
            entry(.message, minutes: Int64($0) * 2, target: Int64(50 + $0), words: Int64($0))
        }
        #expect(rules(burst) == [.burst])
    }

    @Test func `counts contacts by their own limits`() {
        let three = (0..<4).map { entry(.contact, minutes: Int64($0) * 11, target: Int64(50 + $0)) }
        #expect(rules(three) == [.hourly])
    }
}
