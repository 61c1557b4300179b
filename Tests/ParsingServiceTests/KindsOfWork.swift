import Core
import HTTP
import Parsing
import Sandbox
import Testing

@Suite(.timeLimit(.minutes(5)))
struct `A parse over a world of known content` {
    /// In the pages of the documented speed, only without the pauses between them.
    @Test(arguments: Engine.available)
    func `reads members, messages and comments to the last one`(engine: Engine) async throws {
        try await Plant.open(engine, Plant.options(), [:], .withoutWaiting) { plant, run in
            try await plant.connect(3)
            plant.addChannel("test_news", posts: 25)
            // At once, as far as accounts allow.
            let members = try await run.create(
                "https://t.me/Sandbox_Gate", "members", ["speed_config": "fast"])
            let messages = try await run.create("@sandbox_gate", "messages", ["speed_config": "medium"])
            let comments = try await run.create("test_news", "comments", ["speed_config": "fast"])

            let read = try await run.ended(members)
            #expect(read["status"] == "completed", "\(read.text)")
            let people = try await run.results(members)
            let ids = people.compactMap { $0["platform_id"]?.stringValue.flatMap { Int64($0) } }
            let truth = plant.members(of: "sandbox_gate")
            #expect(ids.count == truth.count)
            #expect(Set(ids) == truth)
            #expect(read["result_count"] == .int(Int64(truth.count)))
            #expect(read["coverage"]["read"] == .int(Int64(truth.count)))
            #expect(read["coverage"]["reported"] == .int(Int64(truth.count)))
            #expect(read["coverage"]["hidden"] == 0)
            #expect(read["progress"] == 100)

            let written = try await run.ended(messages)
            let history = plant.truth(of: "sandbox_gate")
            #expect(written["status"] == "completed", "\(written.text)")
            #expect(try await run.found(messages).differences(from: history) == [])
            #expect(written["processed_messages"] == .int(Int64(history.total)))
            #expect(written["coverage"]["read"] == .int(Int64(history.total)))
            #expect(written["coverage"]["reported"] == .int(Int64(history.total)))
            #expect(
                written["processed_media"] == .int(Int64(history.messages.values.count { $0.media != nil })))

            let commented = try await run.ended(comments)
            let threads = plant.comments(of: "test_news")
            #expect(commented["status"] == "completed", "\(commented.text)")
            #expect(threads.total > 50)
            #expect(try await run.found(comments).differences(from: threads) == [])
            #expect(commented["coverage"]["read"] == commented["coverage"]["reported"])
        }
    }

    @Test func `is honest about what the community hides or Telegram cuts`() async throws {
        try await Plant.open(.sqlite) { plant, run in
            try await plant.connect(3)
            plant.addGroup("test_hidden", messages: 120, members: 250, hidesMembers: true)
            let hidden = try await run.create("test_hidden", "members")
            let chosen = try await run.create("test_hidden", "parse")
            // Our accounts administer it, and are shown two hundred all the same.
            let capped = try await run.create("sandbox_news", "members")

            let shown = try await run.ended(hidden)
            let all = Int64(plant.members(of: "test_hidden").count)
            let read = try #require(shown["coverage"]["read"]?.intValue)
            #expect(shown["status"] == "completed", "\(shown.text)")
            #expect(read < all)
            #expect(shown["coverage"]["reported"] == .int(all))
            #expect(shown["coverage"]["hidden"] == .int(all - read))
            #expect(shown["coverage"]["members_hidden"] == true)

            let both = try await run.ended(chosen)
            #expect(both["plan"]["steps"] == ["members", "messages"])
            #expect(both["plan"]["reason"] == "members_hidden")
            let truth = plant.truth(of: "test_hidden")
            let people = Set(try await run.results(chosen).compactMap { $0["platform_id"]?.stringValue })
            #expect(people.isSuperset(of: truth.authors.keys))
            #expect(people.count == Int(both["result_count"].intValue ?? 0))

            let many = Int64(plant.members(of: "sandbox_news").count)
            let big = try await run.ended(capped)
            #expect(big["coverage"]["reported"] == .int(many), "\(big.text)")
            #expect(big["coverage"]["capped_at"] == 200)
            #expect(big["coverage"]["read"] == 200)
            #expect(big["result_count"] == 200)
            #expect(big["coverage"]["hidden"] == .int(many - 200))
        }
    }

    /// Telegram's list of a supergroup ends after ten thousand; whoever stands behind that and writes is found
    /// by what they write. Ten thousand people take their time: `CONVOKE_LONG=1`.
    @Test(.enabled(if: Environment.process.has("CONVOKE_LONG")))
    func `says where Telegram's list of members ends`() async throws {
        var options = Plant.options()
        options.people = 10_400
        try await Plant.open(.sqlite, options, [:], .unlimited(size: 200, pages: 10)) { plant, run in
            try await plant.connect(1)
            plant.addGroup("test_full", messages: 2000, members: 10_300)
            let all = Int64(plant.members(of: "test_full").count)
            let id = try await run.create("test_full", "parse")
            let task = try await run.ended(id)
            #expect(task["plan"]["steps"] == ["members", "messages"], "\(task.text)")
            #expect(task["plan"]["reason"] == "members_capped")
            let members = task["coverage"]["steps"]?["members"]
            for coverage in [task["coverage"], members ?? .null] {
                #expect(coverage["capped_at"] == 10_000)
                #expect(coverage["read"] == 10_000)
                #expect(coverage["reported"] == .int(all))
                #expect(coverage["hidden"] == .int(all - 10_000))
                #expect(coverage["members_hidden"] == nil)
            }
            #expect(task["coverage"]["steps"]?["messages"]?["hidden"] == 0)
            let truth = plant.truth(of: "test_full")
            #expect(task["message_count"] == .int(Int64(truth.messages.count)))
            let writers = try await run.results(id, "&min_messages=1")
            #expect(
                Set(writers.compactMap { $0["platform_id"]?.stringValue })
                    == Set(truth.authors.filter { $0.value.count > 0 }.keys))
            #expect(task["result_count"].intValue ?? 0 > 10_000)
        }
    }

    @Test func `picks what the community allows, and says why where it allows nothing`() async throws {
        try await Plant.open(.sqlite) { plant, run in
            try await plant.connect(4)
            let group = try await run.create("sandbox_gate", "parse", ["speed_config": "fast"])
            let channel = try await run.create("sandbox_quiet", "parse", ["speed_config": "fast"])
            let subscribers = try await run.create("sandbox_quiet", "members")
            let commentless = try await run.create("sandbox_quiet", "comments")
            let notChannel = try await run.create("sandbox_gate", "comments")
            let nowhere = try await run.create("no_such_group_at_all", "members")
            let shut = try await run.create("https://t.me/c/999999/5", "messages")

            let read = try await run.ended(group)
            #expect(read["plan"]["steps"] == ["members"])
            #expect(read["plan"]["reason"] == "members_listed")
            let posts = try await run.ended(channel)
            #expect(posts["plan"]["steps"] == ["messages"], "\(posts.text)")
            #expect(posts["plan"]["reason"] == "channel_without_comments")
            #expect(posts["message_count"] == .int(Int64(plant.truth(of: "sandbox_quiet").messages.count)))
            #expect(posts["result_count"] == 0)
            #expect(try await run.ended(subscribers)["error"]["code"] == "members_not_listable")
            #expect(try await run.ended(commentless)["error"]["code"] == "no_comments")
            #expect(try await run.ended(notChannel)["error"]["code"] == "not_a_channel")
            let missing = try await run.ended(nowhere)
            #expect(missing["status"] == "failed")
            #expect(missing["error"]["code"] == "group_restriction", "\(missing.text)")
            let closed = try await run.ended(shut)
            #expect(closed["status"] == "failed", "\(closed.text)")
        }
    }

    @Test(arguments: Engine.available)
    func `keeps to limits by count and date, to filters, and to what is new`(engine: Engine) async throws {
        try await Plant.open(engine) { plant, run in
            try await plant.connect(4)
            plant.addGroup("test_dated", messages: 700, members: 90)
            let truth = plant.truth(of: "test_dated")
            let newest = truth.messages.values.map(\.date).max() ?? .epoch
            let since = newest - .days(10)
            let until = newest - .days(3)
            let few = try await run.create("test_dated", "messages", ["message_limit": 123])
            let some = try await run.create("test_dated", "members", ["member_limit": 77])
            let dated = try await run.create(
                "test_dated", "messages",
                ["since": since.json, "until": until.json, "speed_config": "fast"])
            let filtered = try await run.create(
                "sandbox_gate", "members",
                [
                    "speed_config": "fast",
                    "filters": ["has_username": true, "exclude_bots": true, "exclude_deleted": true],
                ])
            let first = try await run.create("sandbox_talk", "messages", ["message_limit": 40])

            let limited = try await run.ended(few)
            #expect(limited["processed_messages"] == 123)
            #expect(limited["coverage"]["limited"] == true)
            let most = try await run.ended(some)
            #expect(most["result_count"] == 77)
            #expect(most["coverage"]["hidden"] == 0)

            #expect(try await run.ended(dated)["status"] == "completed")
            let expected = Set(
                truth.messages.filter { $0.value.date >= since && $0.value.date <= until }.keys)
            #expect(!expected.isEmpty)
            #expect(Set(try await run.found(dated).messages.keys) == expected)

            let kept = try await run.ended(filtered)
            let people = try await run.results(filtered)
            #expect(people.allSatisfy { $0["username"]?.stringValue != nil })
            #expect(people.allSatisfy { $0["platform_specific_data"]?["is_bot"] == false })
            #expect(
                kept["filtered_count"].intValue == (kept["processed_users"].intValue ?? 0)
                    - Int64(people.count))

            // What comes later brings what was written since, and nobody twice.
            #expect(try await run.ended(first)["status"] == "completed")
            let talk = plant.chat("sandbox_talk")
            let author = try #require(plant.members(of: "sandbox_talk").min())
            plant.write("something new", by: author, in: talk)
            plant.write("and more", by: author, in: talk)
            let again = try await run.create(
                "t.me/sandbox_talk", "messages", ["incremental": true, "message_limit": 40])
            #expect(try await run.ended(again)["processed_messages"] == 2)
            let texts = try await run.results(again, "&kind=messages").compactMap {
                $0["content"]?.stringValue
            }
            #expect(Set(texts) == ["something new", "and more"])
            let nothing = try await run.create("sandbox_talk", "messages", ["incremental": true])
            #expect(try await run.ended(nothing)["processed_messages"] == 0)
            // Of the members only those who are new.
            let whole = try await run.create("sandbox_gate", "members", ["speed_config": "fast"])
            #expect(try await run.ended(whole)["status"] == "completed")
            let newcomer = try #require(plant.newcomer(in: "sandbox_gate"))
            let since2 = try await run.create(
                "sandbox_gate", "members", ["speed_config": "fast", "incremental": true])
            #expect(try await run.ended(since2)["result_count"] == 1)
            #expect(try await run.results(since2)[0]["platform_id"] == .string(String(newcomer)))
        }
    }

    @Test func `is broken by no text of strangers`() async throws {
        for engine in Engine.available {
            try await Plant.open(engine) { plant, run in
                try await plant.connect()
                plant.addGroup("test_odd", messages: 0, members: 30)
                let author = try #require(plant.members(of: "test_odd").min())
                let texts = [
                    "a\u{0}b", "\u{FEFF}\u{202E}reversed", "tab\tnew\nline\r\n\\N \\. \\x41",
                    "'; DROP TABLE x; --",
                    "🏳️‍🌈👩‍👩‍👧‍👦", "\u{FFFF}\u{10FFFF}", String(repeating: "Z̸̡", count: 200),
                    String(repeating: "x", count: 200_000), "=HYPERLINK(\"http://x\")", "{\"a\":\"\\u0000\"}",
                    "\u{1}\u{2}\u{1F}\u{7F}",
                ]
                for text in texts { plant.write(text, by: author, in: plant.chat("test_odd")) }
                let id = try await run.create("test_odd", "messages", ["speed_config": "fast"])
                let task = try await run.ended(id)
                #expect(task["status"] == "completed", "\(task.text)")
                #expect(task["message_count"] == .int(Int64(texts.count)))
                let read = try await run.results(id, "&kind=messages").compactMap {
                    $0["content"]?.stringValue
                }
                #expect(read.count == texts.count)
                #expect(read.contains("ab"))
                #expect(read.contains("tab\tnew\nline\r\n\\N \\. \\x41"))
                #expect(read.allSatisfy { $0.utf8.count <= 32_768 })
                let people = try await run.results(id)
                #expect(people.count == 1)
                #expect(people[0]["message_count"] == .int(Int64(texts.count)))
            }
        }
    }
}
