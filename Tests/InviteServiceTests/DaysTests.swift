import Core
import HTTP
import Invites
import ServiceKit
import TestServers
import Testing

@testable import Sandbox

/// What shows only over days.
@Suite(.timeLimit(.minutes(5)))
struct `A campaign over days` {
    private func club(_ town: Town) throws -> Int64 {
        try #require(town.world.communities().first { $0.username == "sandbox_club" }?.chatID)
    }

    /// Two on the first day and three more on each that follows, on the campaign's own clock, counted by what Telegram
    /// has seen; and no more where there are accounts for all of them at once.
    @Test func `is ramped up as it was told to be`() async throws {
        try await withTown(accounts: 60) { town in
            try await town.connect(15)
            let task = try await town.makeTask([
                "group_id": "@sandbox_club", "ramp_up": ["start": 2, "step": 3],
                "window": [
                    "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": "00:00", "to": "24:00",
                    "timezone": "Asia/Tokyo",
                ],
            ])
            try await town.add(town.world.people(.open, notIn: club(town), limit: 30), to: task)
            #expect(try await town.post("/api/v1/tasks/\(task)/execute", ["force": true]).status == 202)
            var reasons: Set<String> = []
            try await town.play(task) {
                let waiting = try await town.get("/api/v1/tasks/\(task)")["waiting_for"]
                if let reason = waiting["reason"]?.stringValue { reasons.insert(reason) }
            }
            #expect(try await town.get("/api/v1/tasks/\(task)")["completed_count"] == 30)
            #expect(reasons.contains("ramp_up"), "\(reasons)")
            let tokyo = Duration.hours(9)
            var days: [Int64: Int] = [:]
            for entry in town.world.ledger where entry.kind == .addMember {
                days[(entry.time + tokyo).day.number, default: 0] += 1
            }
            // 2 + 5 + 8 + 11 leave four for the fifth day.
            #expect(days.sorted { $0.key < $1.key }.map(\.value) == [2, 5, 8, 11, 4])
            let numbers = days.keys.sorted()
            #expect(numbers == Array((numbers.first ?? 0)..<((numbers.first ?? 0) + 5)))
            #expect(Judge.judge(town.world.ledger).isEmpty)
        }
    }

    /// A link of one's own for each, sent or handed over; who comes asks, an administrator lets them in, and only
    /// then are they counted.
    @Test(arguments: ["message", "export"])
    func `counts who has come in through a link, when they have`(delivery: String) async throws {
        try await withTown { town in
            try await town.connect(3)
            let task = try await town.makeTask(
                .object(present: [
                    "group_id": "@sandbox_club", "invite_type": "invite_link", "verify_membership": false,
                    "link_delivery": delivery == "export" ? "export" : nil,
                ]), message: "Come in")
            let people = try town.world.people(.open, notIn: club(town), limit: 5)
            try await town.add(people, to: task)
            _ = try await town.post("/api/v1/tasks/\(task)/execute")
            try await town.play(task)
            func links() async throws -> JSONValue {
                try await town.get("/api/v1/tasks/\(task)/stats")["links"]
            }
            #expect(try await links() == ["sent": 5, "joined": 0])

            let targets = try await town.get("/api/v1/tasks/\(task)/targets")["items"].arrayValue ?? []
            let made = targets.compactMap { $0["invite_link"]?.stringValue }
            try #require(made.count == 5)
            // Two follow theirs, and a third asks and is turned away.
            for index in 0..<3 { town.world.follow(made[index], people[index].userID) }
            for _ in 0..<4 {
                town.time.advance(by: .hours(2))
                try await SystemTime().sleep(for: .milliseconds(30))
            }
            #expect(try await links() == ["sent": 5, "joined": 0])
            for index in 0..<3 { town.world.answer(people[index].userID, isLetIn: index < 2) }
            try await eventually("both are counted") {
                town.time.advance(by: .minutes(30))
                return try await links()["joined"] == 2
            }
            for _ in 0..<4 {
                town.time.advance(by: .hours(12))
                try await SystemTime().sleep(for: .milliseconds(30))
            }
            #expect(try await links() == ["sent": 5, "joined": 2])
            let shown = try await town.get("/api/v1/tasks/\(task)/targets")["items"].arrayValue ?? []
            #expect(shown.compactMap { $0["joined"]?.intValue } == [1, 1, 0, 0, 0])
        }
    }
}

extension SandboxWorld {
    /// A person clicks on a link they were given.
    func follow(_ link: String, _ person: Int64) {
        change { $0.react(person, String(link.drop { $0 != "+" }.dropFirst())) }
    }

    /// An administrator answers who has asked to come in, in an app of Telegram's own.
    func answer(_ person: Int64, isLetIn: Bool) {
        change { world in
            for group in world.groups.values {
                guard let ask = group.joinRequests.first(where: { $0.user == person }) else { continue }
                world.make(.joinAnswered(group: group.id, user: person))
                guard isLetIn else { continue }
                world.make(
                    .standing(
                        group: group.id, user: person, kind: .member, mayInvite: false, inviter: 0,
                        at: world.now))
                world.make(
                    .joinedByLink(group: group.id, hash: ask.link, user: person, approver: 0, at: world.now))
            }
        }
    }
}
