import Core
import HTTP
import Invites
import Sandbox
import ServiceKit
import Storage
import TestServers
import Testing

/// Whatever Telegram may say to an invitation, from its own word to what the operator reads: the table of
/// `docs/invite-service.md`, asked of the whole system.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct `What Telegram says to an invitation` {
    struct Row: Sendable, CustomTestStringConvertible {
        let words: String
        var code: Int32 = 400
        /// How the person ends.
        let status: String
        var reason: String?
        /// Under what the account that heard it was changed for another.
        var switched: String?
        /// How account-manager shows that account then.
        var account = "active"
        /// Whose stop-list they are on: this community's, or the operator's for all.
        var stops: String?
        var refused = 1
        var testDescription: String { words.isEmpty ? "yes, and nobody comes" : words }
    }

    static let table: [Row] = [
        Row(
            words: "Too Many Requests: retry after 90000", code: 429, status: "INVITED",
            switched: "flood_wait",
            account: "flood_wait", refused: 0),
        Row(words: "PEER_FLOOD", status: "INVITED", switched: "peer_flood", account: "blocked", refused: 0),
        Row(
            words: "CHAT_ADMIN_REQUIRED", status: "INVITED", switched: "admin_required", refused: 0),
        Row(words: "USERS_TOO_MUCH", status: "INVITED", switched: "group_restriction", refused: 0),
        Row(words: "CHAT_WRITE_FORBIDDEN", status: "INVITED", switched: "group_restriction", refused: 0),
        Row(
            words: "FROZEN_METHOD_INVALID", code: 420, status: "INVITED", switched: "account_frozen",
            account: "frozen", refused: 0),
        Row(
            words: "AUTH_KEY_UNREGISTERED", code: 401, status: "INVITED", switched: "account_disabled",
            account: "disabled", refused: 0),
        Row(words: "USER_PRIVACY_RESTRICTED", code: 403, status: "FAILED", reason: "privacy_restricted"),
        Row(
            words: "USER_IS_BLOCKED", code: 403, status: "FAILED", reason: "privacy_restricted",
            stops: "operator"),
        Row(
            words: "USER_NOT_MUTUAL_CONTACT", code: 403, status: "FAILED", reason: "not_mutual_contact",
            stops: "community"),
        Row(words: "USER_KICKED", status: "FAILED", reason: "user_banned_in_group", stops: "community"),
        Row(
            words: "USER_CHANNELS_TOO_MUCH", code: 403, status: "FAILED", reason: "too_many_channels"),
        Row(words: "INPUT_USER_DEACTIVATED", status: "FAILED", reason: "user_not_found"),
        // The library knows nobody of that number in this account: somebody else tries, and nothing has counted.
        Row(words: "User not found", status: "INVITED", switched: "person_unseen", refused: 0),
        Row(words: "USER_ID_INVALID", status: "INVITED", switched: "person_unseen", refused: 0),
        Row(words: "USER_ALREADY_PARTICIPANT", status: "SKIPPED", reason: "already_participant"),
        Row(words: "NOBODY_HAS_SEEN_THIS_WORD", status: "FAILED", reason: "invite_failed"),
        Row(words: "", status: "FAILED", reason: "not_in_members_after_invite", refused: 0),
    ]

    @Test(arguments: table)
    func `leads to the documented state, message and next step`(row: Row) async throws {
        try await withTown { town in
            try await town.connect(2)
            let club = try #require(town.world.communities().first { $0.username == "sandbox_club" }?.chatID)
            let person = try #require(town.world.people(.open, notIn: club, limit: 1).first)
            for method in ["addChatMember", "addChatMembers"] {
                _ = town.world.add(
                    Fault(
                        method: method, code: row.code, message: row.words, count: 1,
                        isHollow: row.words.isEmpty))
            }
            let task = try await town.makeTask()
            try await town.add([person], to: task)
            _ = try await town.post("/api/v1/tasks/\(task)/execute")
            try await town.play(task)

            let end = try await town.get("/api/v1/tasks/\(task)")
            #expect(end["status"] == "COMPLETED")
            #expect(end["counts"]["refused"]?.intValue == Int64(row.refused))
            let target = try await town.get("/api/v1/tasks/\(task)/targets")["items"][0] ?? .null
            #expect(target["status"]?.stringValue == row.status, "\(target)")
            #expect(target["error_code"]?.stringValue == row.reason)
            // What was not their fault has cost them no attempt.
            #expect(target["attempts"]?.intValue == 1)
            if row.reason != nil {
                for language in ["en", "ru"] {
                    let shown = try await town.ask(
                        .invites, .get, "/api/v1/tasks/\(task)/targets",
                        headers: ["Accept-Language": language])
                    let message = shown["items"][0]?["error_message"]?.stringValue ?? ""
                    #expect(message.count > 10)
                    let isRussian = message.unicodeScalars.contains { ("а"..."я").contains($0) }
                    #expect(isRussian == (language == "ru"), "\(message)")
                }
            }
            let switches = try await town.get("/api/v1/tasks/\(task)/logs?action=ACCOUNT_SWITCHED")
            #expect(switches["items"][0]?["code"]?.stringValue == row.switched)
            let found = town.run(.manager)
            let manager = try #require(found).service.context.database
            let states = try await manager.run("SELECT status FROM telegram_sessions").map {
                try $0.text("status")
            }
            #expect(states.contains(row.account), "\(states)")
            #expect(states.count { $0 != "active" } == (row.account == "active" ? 0 : 1), "\(states)")
            let stops = try await town.store.database.run("SELECT community FROM invite_suppressions")
            let expected: Set<String> =
                switch row.stops {
                case nil: []
                case "community": ["sandbox_club"]
                default: [""]
                }
            #expect(Set(try stops.map { try $0.text("community") }) == expected)
            #expect(Judge.judge(town.world.ledger).isEmpty)
        }
    }
}
