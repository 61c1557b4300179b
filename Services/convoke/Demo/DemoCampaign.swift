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
                + "\(file["invalid"]?.intValue ?? 0) refused with the reason")
        let parsed = try await person.post(
            "/api/invite/tasks/\(task)/import/parsing",
            [
                "parsing_task_id": .string(audience.parseTask),
                "consent_basis": "members of our own talk group",
            ])
        pen.line(
            "from the community: \(try parsed.number("imported_count")) imported, "
                + "\(try parsed.number("duplicate_count")) known already")
        return task
    }

    private func plan(_ task: Int64) async throws {
        let run = try await person.post("/api/invite/tasks/\(task)/dry-run")
        pen.line("dry run: \(run)")
    }

    private func follow(_ task: Int64) async throws {}
    private func settle(_ task: Int64) async throws {}
}
