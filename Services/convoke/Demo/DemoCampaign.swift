import Core
import HTTP

/// A campaign through pauses, a flood wait and a lost account, to the true counts.
struct DemoCampaign: Sendable {
    private static let group = "sandbox_club"
    private let platform: DemoPlatform
    private let person: DemoOperator
    private let pen: DemoPen
    private let phones: [String]

    init(_ platform: DemoPlatform, _ person: DemoOperator, _ pen: DemoPen, phones: [String]) {
        self.platform = platform
        self.person = person
        self.pen = pen
        self.phones = phones
    }

    func run(with audience: DemoAudience.Found) async throws {
        let task = try await prepared(audience)
        try await plan(task)
        pen.chapter("The campaign")
        _ = try await person.post("/api/invite/tasks/\(task)/execute")
        try await follow(task)
        try await settle(task)
    }

    private func prepared(_ audience: DemoAudience.Found) async throws -> Int64 {
        pen.chapter("Preparing the campaign")
        let task = try await person.post(
            "/api/invite/tasks",
            [
                "name": "Summer meeting", "platform": "telegram", "priority": "HIGH",
                "settings": [
                    "group_id": .string(Self.group), "invite_type": "group_invite", "verify_membership": true,
                ],
            ]
        ).number("id")
        let file = try await person.upload(
            "/api/invite/import/file?task_id=\(task)", file: "meeting.csv", audience.list)
        pen.line(
            "a list: \(try file.number("imported")) imported, \(try file.number("duplicates")) twice in it, "
                + "\(try file.number("invalid_count")) refused: \(file["invalid"]?[0]?["message"]?.stringValue ?? "")"
        )
        let parsed = try await person.post(
            "/api/invite/tasks/\(task)/import/parsing",
            [
                "parsing_task_id": .string(audience.parseTask),
                "consent_basis": "members of our own talk group",
                // Without a name only the account that has read them could find them again.
                "filters": ["has_username": true],
            ])
        pen.line(
            "from the community: \(try parsed.number("imported_count")) imported, "
                + "\(try parsed.number("duplicate_count")) known already")
        return task
    }

    private func plan(_ task: Int64) async throws {
        let run = try await person.post("/api/invite/tasks/\(task)/dry-run")
        guard let plan = run["plan"] else { throw DemoFailure("the dry run has no plan") }
        pen.line("dry run, nothing sent: \(try plan.text("message"))")
        for day in plan["schedule"]?.arrayValue ?? [] {
            let limit = day["binding_limit"]?.stringValue.map { ", what binds is \($0)" } ?? ""
            pen.line("    \(try day.text("day")): \(try day.number("invites")) invitations\(limit)")
        }
        if let saved = plan["one_more_account"]?["seconds_saved"]?.intValue {
            pen.line("    one more account would save \(saved / 3600) h")
        }
    }

    // MARK: - The run

    /// What happens to the campaign from outside, once so many have been tried.
    private func trouble(after attempted: Int64, _ state: inout Troubles) async throws {
        if attempted >= 20, !state.hasFlood {
            state.hasFlood = true
            // Whichever account is next meets it.
            _ = try await platform.client.call(
                .post, "\(platform.sandbox)/faults",
                [
                    "method": "addChatMember", "code": 429,
                    "message": "Too Many Requests: retry after 7200", "count": 1,
                ])
            pen.line(at: platform.time.now, "(Telegram will ask the next account to wait for two hours)")
        }
        if attempted >= 60, !state.hasLoss, let phone = phones.last {
            state.hasLoss = true
            _ = try await platform.client.call(
                .post, "\(platform.sandbox)/accounts/\(percentEncoded(phone))/revoke")
            pen.line(at: platform.time.now, "(the owner of one account ends its session)")
        }
    }

    private struct Troubles {
        var hasFlood = false
        var hasLoss = false
        var told: Set<Int64> = []
        var lastWait = ""
    }

    private func follow(_ task: Int64) async throws {
        var state = Troubles()
        while true {
            let status = try await person.get("/api/invite/tasks/\(task)")
            try await tellSwitches(task, &state)
            guard status["finished_at"]?.stringValue == nil else {
                pen.line(
                    at: platform.time.now,
                    "\(try status.text("status")): \(status["ended_reason"]?.stringValue ?? "every target is settled")"
                )
                return
            }
            try await trouble(after: status["counts"]?.number("attempted") ?? 0, &state)
            guard let next = status["next_action_at"]?.stringValue.flatMap({ Timestamp($0) }),
                next > platform.time.now + .seconds(5), status["in_flight"]?.intValue ?? 0 == 0
            else {
                try await SystemTime().sleep(for: .milliseconds(10))
                continue
            }
            tellWait(status, until: next, &state)
            try await platform.skip(to: next)
        }
    }

    /// Once an hour of the story: more would be noise.
    private func tellWait(_ status: JSONValue, until next: Timestamp, _ state: inout Troubles) {
        let hour = "\((platform.time.now - pen.start).milliseconds / 3_600_000)"
        guard hour != state.lastWait else { return }
        state.lastWait = hour
        let counts = status["counts"]
        pen.line(
            at: platform.time.now,
            "\(counts?["attempted"]?.intValue ?? 0) tried, \(counts?["accepted"]?.intValue ?? 0) accepted; "
                + "\(waiting(status)), until \(pen.clock(next))")
    }

    /// Why, without the moment: that is told in the story's own days.
    private func waiting(_ status: JSONValue) -> String {
        let message = status["waiting_for"]?["message"]?.stringValue ?? "at work"
        return message.firstRange(of: ", until").map { String(message[..<$0.lowerBound]) } ?? message
    }

    private func tellSwitches(_ task: Int64, _ state: inout Troubles) async throws {
        let log = try await person.get("/api/invite/tasks/\(task)/logs?action=ACCOUNT_SWITCHED&page_size=20")
        for line in (log["items"]?.arrayValue ?? []).reversed()
        where state.told.insert(try line.number("id")).inserted {
            let moment = line["created_at"]?.stringValue.flatMap { Timestamp($0) } ?? platform.time.now
            pen.line(at: moment, try line.text("message"))
        }
    }

    // MARK: - The end

    /// Four books, kept by four parties; they have to agree to the last invitation.
    private func settle(_ task: Int64) async throws {
        pen.chapter("The report")
        let stats = try await person.get("/api/invite/tasks/\(task)/stats")
        guard let counts = stats["counts"] else { throw DemoFailure("the statistics have no counts") }
        let accepted = try counts.number("accepted")
        pen.line(
            "\(try stats.number("target_count")) people: \(try counts.number("attempted")) tried, "
                + "\(accepted) accepted by Telegram, \(try counts.number("refused")) refused, "
                + "\(try counts.number("verified")) seen among the members afterwards")
        let words = try await reasons(task)
        for reason in stats["by_error"]?.objectValue ?? [] {
            let count = (reason.value.objectValue ?? []).reduce(0) { $0 + ($1.value.intValue ?? 0) }
            let why = words[reason.name] ?? reason.name
            // The log begins with whom it is about; here it is about all of them.
            pen.line("    \(count): \(why.firstRange(of: ": ").map { String(why[$0.upperBound...]) } ?? why)")
        }
        let ledger = try await platform.client.lines("\(platform.sandbox)/ledger").filter {
            $0["kind"] == "add_member" && $0["accepted"] == true
        }
        let people = Set(ledger.compactMap { $0["target"]?.intValue })
        let violations = try await platform.client.call(.get, "\(platform.sandbox)/ledger/violations").number(
            "count")
        let authority = try await acceptedByAuthority()
        pen.line(
            "accepted, as counted by the campaign \(accepted), by account-manager's ledger \(authority), "
                + "by Telegram \(ledger.count)")
        pen.line("invited twice: \(ledger.count - people.count); limits broken: \(violations)")
        guard accepted == authority, accepted == ledger.count, people.count == ledger.count, violations == 0
        else {
            throw DemoFailure("the books do not agree")
        }
    }

    /// Each reason in the words of the campaign's log.
    private func reasons(_ task: Int64) async throws -> [String: String] {
        var words: [String: String] = [:]
        for action in ["INVITE_FAILED", "INVITE_SKIPPED"] {
            var page: Int64 = 1
            while true {
                let lines = try await person.get(
                    "/api/invite/tasks/\(task)/logs?action=\(action)&page_size=100&page=\(page)")
                for line in lines["items"]?.arrayValue ?? [] {
                    if let code = line["code"]?.stringValue { words[code] = try line.text("message") }
                }
                guard lines["has_next"] == true else { break }
                page += 1
            }
        }
        return words
    }

    private func acceptedByAuthority() async throws -> Int64 {
        var accepted: Int64 = 0
        let accounts = try await person.get("/api/integrations/telegram/accounts?page_size=100")
        for account in accounts["items"]?.arrayValue ?? [] {
            var page: Int64 = 1
            while true {
                let entries = try await person.get(
                    "/api/account-manager/ledger?account_id=\(try account.text("id"))&page_size=100&page=\(page)"
                )
                accepted += Int64(
                    (entries["items"]?.arrayValue ?? []).count {
                        $0["action_type"] == "invite" && $0["success"] == true
                    })
                guard entries["has_next"] == true else { break }
                page += 1
            }
        }
        return accepted
    }
}
