import Core
import HTTP

/// Where the people come from: a community that is found and read, and a list somebody had.
struct DemoAudience: Sendable {
    struct Found: Sendable {
        let parseTask: String
        let list: String
    }

    private let platform: DemoPlatform
    private let person: DemoOperator
    private let pen: DemoPen

    init(_ platform: DemoPlatform, _ person: DemoOperator, _ pen: DemoPen) {
        self.platform = platform
        self.person = person
        self.pen = pen
    }

    func found() async throws -> Found {
        pen.chapter("Finding an audience")
        let link = try await searched()
        let task = try await read(link)
        return Found(parseTask: task, list: try await list())
    }

    private func searched() async throws -> String {
        let found = try await person.get("/api/parsing/search?q=sandbox&platform=telegram&limit=10")
        let communities = found["items"]?.arrayValue ?? []
        for community in communities.prefix(4) {
            let details = community["platform_specific_data"]
            let comments = details?["has_comments"]?.boolValue == true ? ", with comments" : ""
            pen.line(
                "\(community["title"]?.stringValue ?? "?"): \(community["members_count"]?.intValue ?? 0) members\(comments)"
            )
        }
        return "https://t.me/sandbox_talk"
    }

    private func read(_ link: String) async throws -> String {
        let made = try await person.post(
            "/api/parsing/tasks",
            [
                "platform": "telegram", "links": [.string(link)], "task_type": "members",
                "config": ["member_limit": 200, "speed_config": "fast"],
            ])
        let task = try (made["items"]?[0] ?? made["tasks"]?[0] ?? made).text("id")
        while true {
            let now = try await person.get("/api/parsing/tasks/\(task)")
            switch try now.text("status") {
            case "completed":
                let coverage = now["coverage"]
                pen.line(
                    "read \(coverage?["read"]?.intValue ?? 0) of \(coverage?["reported"]?.intValue ?? 0) members of \(link)"
                )
                return task
            case "failed", "cancelled": throw DemoFailure("the community could not be read: \(now)")
            default: try await platform.skip(to: platform.time.now + .seconds(1))
            }
        }
    }

    /// A list as people keep it: a few of its lines are repeated, and one is of nobody.
    private func list() async throws -> String {
        let people = try await platform.client.call(
            .get, "\(platform.sandbox)/world/people?temper=open&not_in=-1001001&limit=20")
        let names = try (people.arrayValue ?? []).map { try $0.text("username") }
        let lines = (names + names.prefix(3)).map { "@\($0);signed up at the summer meeting" }
        return (["Имя пользователя;consent_basis"] + lines + ["not a name!;none"]).joined(separator: "\n")
    }
}
