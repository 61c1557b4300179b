import Core
import HTTP

/// The main job, told in chapters; every line of it was answered by the platform or by the simulated Telegram.
struct DemoStory: Sendable {
    private static let accounts = 8
    private let platform: DemoPlatform
    private let pen: DemoPen

    init(_ platform: DemoPlatform) {
        self.platform = platform
        pen = DemoPen(start: platform.time.now)
    }

    func tell() async throws {
        pen.title("Convoke: from an audience to a report, without breaking a limit")
        pen.line("Telegram is simulated, everything else is the platform itself: \(platform.door)")
        let person = try await DemoOperator(platform.client, door: platform.door, random: SystemRandom())
        let phones = try await connectAccounts(person)
        let audience = try await DemoAudience(platform, person, pen).found()
        try await DemoCampaign(platform, person, pen, phones: phones).run(with: audience)
    }

    /// By QR code, as on a telephone: shown by the platform, scanned by the account's owner.
    private func connectAccounts(_ person: DemoOperator) async throws -> [String] {
        pen.chapter("Connecting the operator's own accounts")
        let known = try await platform.client.call(.get, "\(platform.sandbox)/world/accounts?limit=24")
        let usable = (known.arrayValue ?? []).filter {
            ["warmed", "two_factor", "premium"].contains($0["kind"]?.stringValue)
        }
        let chosen = usable.prefix(Self.accounts)
        for account in chosen {
            let code = try await person.get("/api/integrations/telegram/qr-code")
            let connection = try code.text("connection_id")
            _ = try await platform.client.call(
                .post, "\(platform.sandbox)/accounts/\(percentEncoded(try account.text("phone")))/scan",
                ["qr_link": .string(try code.text("qr_link"))])
            try await finishLogin(person, connection, password: account["password"]?.stringValue)
        }
        // integration-service tells account-manager of them by itself.
        while try await person.get("/api/account-manager/accounts/health").number("total") < chosen.count {
            try await platform.skip(to: platform.time.now + .seconds(1))
        }
        let list = try await person.get("/api/integrations/telegram/accounts?page_size=100")
        let passwords = chosen.count { $0["kind"] == "two_factor" }
        pen.line(
            "\(try list.number("total")) accounts by QR code, \(passwords) of them with a second password")
        return try chosen.map { try $0.text("phone") }
    }

    private func finishLogin(_ person: DemoOperator, _ connection: String, password: String?) async throws {
        var answer: JSONValue = ["connection_id": .string(connection)]
        while true {
            let check = try await person.post("/api/integrations/telegram/qr-check", answer)
            switch try check.text("status") {
            case "success": return
            case "2fa_required":
                guard let password else {
                    throw DemoFailure("an account asks for a password it does not have")
                }
                answer = ["connection_id": .string(connection), "password": .string(password)]
            case "waiting": try await SystemTime().sleep(for: .milliseconds(20))
            default: throw DemoFailure("an account could not be connected: \(check)")
            }
        }
    }
}

/// What the reader sees.
struct DemoPen: Sendable {
    let start: Timestamp

    func title(_ text: String) {
        Convoke.printLine("\n\(text)\n\(String(repeating: "=", count: text.count))")
    }
    func chapter(_ text: String) { Convoke.printLine("\n\(text)") }
    func line(_ text: String) { Convoke.printLine("  \(text)") }

    func line(at moment: Timestamp, _ text: String) { Convoke.printLine("  \(clock(moment))  \(text)") }

    /// Day and hour since the story's beginning.
    func clock(_ moment: Timestamp) -> String {
        let minutes = (moment - start).milliseconds / 60_000
        let padded = { (number: Int64) in number < 10 ? "0\(number)" : "\(number)" }
        return "day \(minutes / 1440 + 1) \(padded(minutes / 60 % 24)):\(padded(minutes % 60))"
    }
}
