import Core
import HTTP
import HTTPClient
import HTTPServer
import ServiceKit
import Testing

@Suite struct `Reading for other services` {
    private func telegram(members: Int = 450, posts: Int = 200) -> ScriptedTelegram {
        let telegram = ScriptedTelegram()
        telegram.add(person: 11, "anna", phone: "15550000011")
        telegram.add(
            .init(
                id: 500, name: "club", title: "Club", members: (0..<members).map { Int64(1000 + $0) },
                posts: posts,
                comments: 90))
        return telegram
    }

    private func path(_ account: String, _ what: String) -> String {
        "/internal/telegram/accounts/\(account)/\(what)"
    }

    @Test(arguments: Engine.available)
    func `streams members, messages and comments as lines, whole and from any cursor`(engine: Engine)
        async throws
    {
        let office = try await Office(engine, telegram())
        try await office.open { run in
            let worker = run.worker(for: 1)
            let account = try await run.connected(11, office.telegram)
            for (what, query, count): (String, [(String, String)], Int) in [
                ("members", [], 450), ("messages", [], 200), ("comments", [("post_id", "1048576")], 90),
            ] {
                func read(_ extra: [(String, String)]) async -> [JSONValue] {
                    let pairs = (query + extra + [("group_id", "club")]).map {
                        "\($0.0)=\(percentEncoded($0.1))"
                    }
                    let answer = await worker.ask(
                        .get, path(account, what), Query(pairs.joined(separator: "&")))
                    #expect(answer.status == 200, "\(answer.text)")
                    #expect(answer.headers["Content-Type"] == "application/x-ndjson")
                    return answer.lines
                }
                let whole = await read([])
                #expect(whole.first?["type"] == "start")
                #expect(whole.last?["type"] == "end")
                #expect(whole.last?["complete"] == true)
                let items = Array(whole.dropFirst().dropLast())
                #expect(items.count == count, "\(what)")
                #expect(Set(items.compactMap { $0["cursor"]?.stringValue }).count == count)
                for index in [0, 1, count / 2, count - 2, count - 1] {
                    let rest = await read([("cursor", items[index]["cursor"]?.stringValue ?? "")])
                    #expect(
                        Array(rest.dropFirst().dropLast()) == Array(items[(index + 1)...]),
                        "\(what) from \(index)")
                }
                let cut = await read([("limit", "10")])
                #expect(Array(cut.dropFirst().dropLast()) == Array(items.prefix(10)))
                #expect(cut.last?["complete"] == false)
                let wrong = await worker.ask(
                    .get, path(account, what),
                    Query("group_id=club&post_id=1&cursor=\(what == "members" ? "m5" : "o5")"))
                #expect(wrong.status == 422)
            }
        }
    }

    @Test func `reads no further than the times it is given`() async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let account = try await run.connected(11, office.telegram)
            let (since, until) = (
                Timestamp(seconds: 1_700_000_000 + 50 * 60), Timestamp(seconds: 1_700_000_000 + 150 * 60)
            )
            let answer = await run.worker(for: 1).get(
                path(account, "messages"),
                ["group_id": "club", "since": since.description, "until": until.description])
            let numbers = answer.lines.compactMap { $0["number"]?.intValue }
            #expect(numbers == (50...150).reversed().map { Int64($0) })
        }
    }

    @Test func `says in the last line why it had to stop, and goes on from there`() async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let worker = run.worker(for: 1)
            let account = try await run.connected(11, office.telegram)
            _ = await worker.get(path(account, "members"), ["group_id": "club", "limit": "1"])
            office.telegram.refuseLater(
                "getSupergroupMembers", after: 1, (429, "Too Many Requests: retry after 30"))
            let broken = await worker.get(path(account, "members"), ["group_id": "club"])
            let last = try #require(broken.lines.last)
            #expect(last["type"] == "error")
            #expect(last["error"] == "flood_wait")
            #expect(last["retry_after"] == 30)
            #expect(last["cursor"] == "o200")
            let rest = await worker.get(path(account, "members"), ["group_id": "club", "cursor": "o200"])
            #expect(rest.lines.count == 252)
            // What fails at once is a problem.
            office.telegram.refuse("getSupergroupMembers", (400, "Member list is inaccessible"))
            let refused = await worker.get(path(account, "members"), ["group_id": "club"])
            #expect(refused.status == 403)
            #expect(refused["error"] == "group_restriction")
        }
    }

    @Test func `finds communities one can work with`() async throws {
        let telegram = telegram()
        telegram.add(.init(id: 600, name: "news", title: "Club news", isChannel: true, posts: 20))
        let office = try await Office(.sqlite, telegram)
        try await office.open { run in
            let account = try await run.connected(11, office.telegram)
            let answer = await run.worker(for: 1).get(path(account, "search"), ["q": "Club"])
            let found = answer.lines.filter { $0["type"] == "community" }
            #expect(found.map { $0["username"]?.stringValue } == ["club", "news"])
            #expect(found[0]["has_comments"] == nil)
            #expect(found[1]["has_comments"] == true)
        }
    }

    @Test func `is for services alone, and for the accounts of the user they act for`() async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let account = try await run.connected(11, office.telegram)
            let members = path(account, "members")
            #expect(await run.user(1).get(members, ["group_id": "club"]).status == 404)
            #expect(await run.worker(for: 2).get(members, ["group_id": "club"]).status == 404)
            #expect(await run.worker(for: nil).get(members, ["group_id": "club"]).status == 401)
            #expect(await run.nobody.get(members, ["group_id": "club"]).status == 401)
            #expect(await run.user(1).get("/internal/active-accounts").status == 404)
            let all = await run.worker(for: nil).get("/internal/active-accounts")
            #expect(all.json.arrayValue?.map { $0["id"] } == [.string(account)])
            #expect(await run.worker(for: 2).get("/internal/active-accounts").json == [])
        }
    }

    /// Over a socket: the reader takes what comes, and the service is killed while it comes.
    @Test func `goes on at each reader's own cursor after the service was killed`() async throws {
        let office = try await Office(.sqlite, telegram(members: 900))
        let first = try await office.started()
        let account = try await first.connected(11, office.telegram)
        let readers = 100
        var settings = HTTPClient.Settings()
        // All at once: who waits for a turn may wait longer than for an answer.
        settings.limits.perHost = readers
        let client = HTTPClient(settings)

        /// Whole lines only: what was cut off in the middle was not received.
        func read(_ run: Office.Run, _ port: Int, from cursor: String?, upTo most: Int?) async throws
            -> [JSONValue]
        {
            let token = run.tokens.service(
                "parsing-service", onBehalfOf: UserIdentity(id: 1, email: "u1@example.com", tokenID: ""),
                now: run.time.now)
            let query = "group_id=club" + (cursor.map { "&cursor=\($0)" } ?? "")
            let response = try await client.send(
                ClientRequest(
                    .get, "http://127.0.0.1:\(port)\(path(account, "members"))?\(query)",
                    headers: ["Authorization": "Bearer \(token.expose())"], deadline: .seconds(120)))
            #expect(response.status == 200)
            var buffer = Bytes()
            var lines: [JSONValue] = []
            do {
                for try await chunk in response.body {
                    buffer += chunk
                    while let end = buffer.firstIndex(of: UInt8(ascii: "\n")) {
                        lines.append(try JSONValue(parsing: Bytes(buffer[..<end])))
                        buffer.removeSubrange(...end)
                    }
                    if let most, lines.count > most { break }
                }
            } catch  where error is ClientError {
                // Killed in the middle of it.
            }
            return lines.filter { $0["type"] == "member" }
        }

        let server = HTTPServer(ServerSettings(port: 0), first.service.router)
        try server.bind()
        let serving = Task { try await server.run() }
        let port = server.port
        let parts = try await withThrowingTaskGroup(of: (Int, [JSONValue]).self) { group in
            for reader in 0..<readers {
                // Each stops somewhere else, as a kill would catch them.
                group.addTask { (reader, try await read(first, port, from: nil, upTo: 5 + reader * 8)) }
            }
            return try await group.reduce(into: [Int: [JSONValue]]()) { $0[$1.0] = $1.1 }
        }
        await first.kill()
        serving.cancel()
        _ = await serving.result

        let second = try await office.started()
        let next = HTTPServer(ServerSettings(port: 0), second.service.router)
        try next.bind()
        let nextServing = Task { try await next.run() }
        let nextPort = next.port
        let wholes = try await withThrowingTaskGroup(of: [Int64].self) { group in
            for reader in 0..<readers {
                let part = parts[reader] ?? []
                group.addTask {
                    let rest = try await read(
                        second, nextPort, from: part.last?["cursor"]?.stringValue, upTo: nil)
                    return (part + rest).compactMap { $0["user"]?["user_id"]?.intValue }
                }
            }
            return try await group.reduce(into: [[Int64]]()) { $0.append($1) }
        }
        #expect(wholes.count == readers)
        #expect(wholes.allSatisfy { $0 == (1000..<1900).map { Int64($0) } })
        nextServing.cancel()
        _ = await nextServing.result
        await client.shutdown()
        await second.stop()
    }
}
