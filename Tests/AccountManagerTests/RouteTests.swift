import Accounts
import Cache
import Core
import HTTP
import Security
import Storage
import Testing

@testable import AccountManagerWiring
@testable import ServiceKit

private let allocation: JSONValue = [
    "user_id": 1, "purpose": "invite_campaign", "service_name": "test-service",
]

@Suite struct `Handing out accounts` {
    @Test(arguments: Ground.available)
    func `refuses with a count per reason and the first moment that helps`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let none = try await desk.post("/allocate", allocation)
            #expect(none.status == 409)
            #expect(none["code"] == "no_account_available")
            #expect(none["retry_at"]?.isNull == true)

            try await desk.connect(1)
            try await desk.connect(2)
            let first = try await desk.post("/allocate", allocation)
            _ = try await desk.post(
                "/handle-error/\(accountName(first["account_id"]?.stringValue == accountName(1) ? 2 : 1))",
                ["error_type": "peer_flood"])
            let refused = try await desk.post("/allocate", allocation, ["Accept-Language": "ru"])
            #expect(refused.status == 409)
            #expect(refused["reasons"] == ["leased": 1, "blocked": 1])
            #expect(refused["retry_at"] == "2025-08-24T12:30:00Z")
            #expect(refused["detail"]?.stringValue?.contains("Нет свободного аккаунта") == true)
        }
    }

    @Test(arguments: Ground.available)
    func `shows the lease in Redis as documented, until it is given back`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let account = try await desk.connect()
            let lease = try await desk.post("/allocate", allocation)
            let key = CacheBytes("account_lock:\(account)")
            let locks = desk.resources.cache.database(1)
            let id = try #require(lease["lease_id"]?.stringValue)
            let value = try await locks.get(key)
            #expect(value?.text == "test-service:\(noon.milliseconds):\(id)")
            guard case .remaining(let left) = try await locks.timeToLive(key) else {
                Issue.record("the lease has no end")
                return
            }
            #expect(left <= .minutes(30))
            let extended = try await desk.post(
                "/extend/\(account)",
                ["service_name": "test-service", "lease_id": .string(id), "timeout_minutes": 60])
            #expect(extended["expires_at"] == "2025-08-24T13:00:00Z")
            let wrong = try await desk.post("/release/\(account)", ["service_name": "somebody-else"])
            #expect(wrong.status == 409)
            #expect(wrong["code"] == "lease_not_held")
            for _ in 1...2 {
                let released = try await desk.post(
                    "/release/\(account)", ["service_name": "test-service", "lease_id": .string(id)])
                #expect(released.status == 200)
            }
            let after = try await locks.get(key)
            #expect(after == nil)
            let late = try await desk.post(
                "/extend/\(account)", ["service_name": "test-service", "lease_id": .string(id)])
            #expect(late.status == 409)
        }
    }

    @Test(arguments: Ground.available)
    func `answers a repeated request once more and does nothing twice`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            try await desk.connect(1)
            try await desk.connect(2)
            let key: Headers = ["Idempotency-Key": "one"]
            let first = try await desk.post("/allocate", allocation, key)
            let again = try await desk.post("/allocate", allocation, key)
            #expect(first.json == again.json)
            #expect(again.headers["idempotency-replayed"] == "true")
            var other = allocation.objectValue ?? []
            other.append(JSONMember("timeout_minutes", 5))
            let reused = try await desk.post("/allocate", .object(other), key)
            #expect(reused.status == 422)
            #expect(reused["code"] == "idempotency_key_reused")
            let next = try await desk.post("/allocate", allocation, ["Idempotency-Key": "two"])
            #expect(next["account_id"] != first["account_id"])
        }
    }

    @Test(arguments: Ground.available)
    func `counts what was recorded one by one and reported in sum only once`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let account = try await desk.connect()
            let lease = try await desk.post("/allocate", allocation)
            let id = lease["lease_id"] ?? .null
            for minutes in [0, 16] as [Int64] {
                desk.clock.advance(by: .minutes(minutes))
                _ = try await desk.post(
                    "/rate-limit/record/\(account)",
                    [
                        "action_type": "invite", "target_channel_id": "@a_channel", "success": true,
                        "lease_id": id,
                    ])
            }
            let released = try await desk.post(
                "/release/\(account)",
                [
                    "service_name": "test-service", "lease_id": id,
                    "usage_stats": ["invites_sent": 2, "channels_used": ["a_channel"], "success": true],
                ])
            #expect(released.status == 200)
            let ledger = try await desk.get("/ledger?account_id=\(account)")
            #expect(ledger["total"] == 2)
        }
    }
}

@Suite struct `The limits over HTTP` {
    @Test(arguments: Ground.available)
    func `name every limit, the one that binds, and when it ends`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let account = try await desk.connect()
            _ = try await desk.post(
                "/rate-limit/record/\(account)",
                ["action_type": "invite", "success": false, "error_type": "x"])
            let check = try await desk.post(
                "/rate-limit/check/\(account)",
                ["action_type": "invite", "target_channel_id": "https://t.me/Name"])
            #expect(check["allowed"] == false)
            #expect(check["reason"] == "cooldown")
            #expect(check["retry_at"] == "2025-08-24T12:15:00Z")
            let checks = check["checks"]?.objectValue?.map(\.name).sorted()
            #expect(
                checks == [
                    "burst", "cooldown", "daily", "hourly", "per_channel", "per_channel_total", "status",
                ])
            // A failed attempt counts against the day, never against the channel.
            #expect(check["checks"]?["daily"]?["used"] == 1)
            #expect(check["checks"]?["per_channel"]?["used"] == 0)
            let contact = try await desk.post("/rate-limit/check/\(account)", ["action_type": "contact_add"])
            #expect(contact["allowed"] == true)
            #expect(contact["checks"]?["daily"]?["limit"] == 15)
        }
    }

    @Test(arguments: Ground.available)
    func `give the last place to one of many that reserve at once`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let account = try await desk.connect()
            let permits = try await withThrowingTaskGroup(of: String?.self) { group in
                for _ in 1...16 {
                    group.addTask {
                        try await desk.post(
                            "/rate-limit/check/\(account)", ["action_type": "message", "reserve": true])[
                                "permit_id"]?
                            .stringValue
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            let permit = try #require(permits.compactMap { $0 }.first)
            #expect(permits.compactMap { $0 }.count == 1)
            for expected in [false, true] {
                let recorded = try await desk.post(
                    "/rate-limit/record/\(account)",
                    ["action_type": "message", "success": true, "permit_id": .string(permit)])
                #expect(recorded["already_recorded"]?.boolValue == expected)
            }
            let ledger = try await desk.get("/ledger?account_id=\(account)")
            #expect(ledger["total"] == 1)
        }
    }

    @Test(arguments: Ground.available)
    func `take a permit back that was not used`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let account = try await desk.connect()
            let check: JSONValue = ["action_type": "message", "reserve": true]
            let first = try await desk.post("/rate-limit/check/\(account)", check)
            let second = try await desk.post("/rate-limit/check/\(account)", check)
            #expect(second["allowed"] == false)
            let permit: JSONValue = ["permit_id": first["permit_id"] ?? .null]
            let released = try await desk.post("/rate-limit/release/\(account)", permit)
            #expect(released["released"] == true)
            let twice = try await desk.post("/rate-limit/release/\(account)", permit)
            #expect(twice["released"] == false)
            let third = try await desk.post("/rate-limit/check/\(account)", check)
            #expect(third["allowed"] == true)
        }
    }

    @Test(arguments: Ground.available)
    func `answer the same after the cache was emptied`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let account = try await desk.connect()
            let record: JSONValue = ["action_type": "invite", "target_channel_id": "@name", "success": true]
            _ = try await desk.post("/rate-limit/record/\(account)", record)
            let body: JSONValue = ["action_type": "invite", "target_channel_id": "name"]
            let before = try await desk.post("/rate-limit/check/\(account)", body)
            let windows = desk.resources.cache.database(3)
            let keys = try await windows.keys(matching: "*\(account)*").map(\.text)
            #expect(keys.contains("cooldown:\(account):invite"))
            #expect(keys.contains("burst:\(account):invite"))
            #expect(keys.contains("hourly:\(account):invite"))
            for index in 1...4 { try await desk.resources.cache.database(index).flush() }
            let after = try await desk.post("/rate-limit/check/\(account)", body)
            #expect(before.json == after.json)
        }
    }

    @Test(arguments: Ground.available)
    func `leave every key a time to live but the queue`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let account = try await desk.connect()
            _ = try await desk.post("/allocate", allocation)
            _ = try await desk.post(
                "/rate-limit/record/\(account)", ["action_type": "message", "success": true])
            _ = try await desk.post(
                "/handle-error/\(account)", ["error_type": "flood_wait", "context": ["seconds": 60]])
            for index in 1...4 {
                let cache = desk.resources.cache.database(index)
                for key in try await cache.keys(matching: "*") where key != "account_recovery_queue" {
                    let left = try await cache.timeToLive(key)
                    #expect(left != .forever, "\(key)")
                }
            }
        }
    }

    @Test(arguments: Ground.available)
    func `are tightened for an account, a user and everybody, never loosened`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let account = try await desk.connect()
            func daily() async throws -> JSONValue? {
                try await desk.post("/rate-limit/check/\(account)", ["action_type": "invite"])["checks"]?[
                    "daily"]?["limit"]
            }
            var limit = try await daily()
            #expect(limit == 30)
            let steps: [(String, Int64)] = [("global", 25), ("users/1", 20), ("accounts/\(account)", 10)]
            for (scope, value) in steps {
                let answer = try await desk.put("/limits/\(scope)", ["limits": ["invite.daily": .int(value)]])
                #expect(answer.status == 200)
                limit = try await daily()
                #expect(limit == .int(value))
            }
            let above = try await desk.put(
                "/limits/accounts/\(account)", ["limits": ["invite.daily": 31, "invite.pause_seconds": 899]])
            #expect(above.status == 422)
            #expect(above["code"] == "above_ceiling")
            #expect(
                above["errors"]?.arrayValue?.compactMap { $0["field"]?.stringValue }.sorted() == [
                    "limits.invite.daily", "limits.invite.pause_seconds",
                ])
            let overview = try await desk.get("/limits?account_id=\(account)")
            #expect(overview["effective"]?["invite.daily"] == 10)
            #expect(overview["ceilings"]?["invite.daily"] == 30)
            #expect(overview["global"] == ["invite.daily": 25])
            _ = try await desk.put("/limits/accounts/\(account)", ["limits": [:]])
            limit = try await daily()
            #expect(limit == 20)
        }
    }

    @Test func `are tightened by settings, and refuse settings above the ceiling`() async throws {
        let tight = try AccountManagerSettings(
            from: Environment(["ACCOUNT_LIMITS": "invite.daily=20, message.pause_seconds=120"]))
        #expect(tight.limits.values.count == 2)
        #expect(throws: ConfigurationError.self) {
            try AccountManagerSettings(from: Environment(["ACCOUNT_LIMITS": "invite.daily=31"]))
        }
        #expect(throws: ConfigurationError.self) {
            try AccountManagerSettings(
                from: Environment(["ACCOUNT_LIMITS": "invite.weekly=3,message.daily=x"]))
        }
        try await Desk.open(settings: ["ACCOUNT_RAMP_UP": "0:20,3:50,7:100"]) { desk in
            let account = try await desk.connect()
            let young = try await desk.post("/rate-limit/check/\(account)", ["action_type": "invite"])
            #expect(young["checks"]?["daily"]?["limit"] == 6)
            desk.clock.advance(by: .days(7))
            let grown = try await desk.post("/rate-limit/check/\(account)", ["action_type": "invite"])
            #expect(grown["checks"]?["daily"]?["limit"] == 30)
        }
    }
}

@Suite struct `What clients send` {
    @Test(arguments: Ground.available)
    func `never makes the service fail`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let account = try await desk.connect()
            let bodies: [String] = [
                "", "{", "[]", "null", "\"x\"", "1e999", "{}", #"{"user_id": -1}"#, #"{"user_id": "1"}"#,
                #"{"user_id": 1, "purpose": "x", "service_name": ""}"#,
                #"{"user_id": 1e300, "purpose": [], "service_name": {}}"#,
                #"{"action_type": "invite\u0000", "success": "yes"}"#,
                #"{"action_type": "invite", "target_channel_id": "'; DROP TABLE account_ledger; --", "success": true}"#,
                #"{"action_type": "invite", "target_channel_id": "t.me/+abcdef", "success": true}"#,
                #"{"error_type": 5}"#, #"{"error_type": "x", "context": "y"}"#,
                #"{"limits": {"invite.daily": 1e400}}"#, #"{"limits": {"\u0000": 1}}"#,
                #"{"service_name": "\u0007", "lease_id": ""}"#,
                String(repeating: "[", count: 100_000),
                #"{"a":"\#(String(repeating: "x", count: 100_000))"}"#,
            ]
            let paths = [
                "/allocate", "/release/\(account)", "/extend/\(account)", "/rate-limit/check/\(account)",
                "/rate-limit/record/\(account)", "/rate-limit/release/\(account)", "/handle-error/\(account)",
                "/plan",
            ]
            for path in paths {
                for body in bodies {
                    let answer = try await desk.ask("POST", path, Bytes(body.utf8))
                    #expect(
                        (200..<500).contains(answer.status), "\(path) \(body.prefix(60)): \(answer.status)")
                    if answer.status >= 400 {
                        #expect(answer["code"]?.stringValue != nil)
                        #expect(answer["request_id"]?.stringValue != nil)
                    }
                }
            }
            let queries = [
                "/accounts/health?page=0", "/accounts/health?page_size=101", "/accounts/health?status=x",
                "/explain?purpose=x", "/explain?target_channel_id=%2B%2B", "/explain?user_id=abc",
                "/ledger", "/ledger?account_id=x", "/ledger?account_id=\(account)&from=yesterday",
                "/logs?page=x",
                "/health/x", "/health/%00", "/rate-limit/status/..%2F..", "/limits?account_id=%27",
            ]
            for query in queries {
                let answer = try await desk.get(query)
                #expect((400..<500).contains(answer.status), "\(query): \(answer.status)")
            }
            let ledger = try await desk.get("/ledger?account_id=\(account)")
            #expect(ledger.status == 200)
        }
    }

    @Test func `is refused with its own word for each mistake`() async throws {
        try await Desk.open { desk in
            let account = try await desk.connect()
            let malformed = try await desk.ask("POST", "/allocate", Bytes("{".utf8))
            #expect(malformed.status == 400)
            let missing = try await desk.post("/allocate", ["timeout_minutes": 500])
            #expect(missing.status == 422)
            #expect(
                missing["errors"]?.arrayValue?.compactMap { $0["field"]?.stringValue }.sorted() == [
                    "purpose", "service_name", "timeout_minutes", "user_id",
                ])
            let large = Bytes(#"{"user_id":1,"x":"\#(String(repeating: "y", count: 2 << 20))"}"#.utf8)
            let oversized = try await desk.ask("POST", "/allocate", large)
            #expect(oversized.status == 413)
            let text = try await desk.ask(
                "POST", "/allocate", Bytes("{}".utf8), ["Content-Type": "text/plain"])
            #expect(text.status == 415)
            let method = try await desk.get("/allocate")
            #expect(method.status == 405)
            #expect(method.headers["allow"] == "POST")
            let unknown = try await desk.get("/nothing")
            #expect(unknown.status == 404)
            let nobody = try await desk.post(
                "/rate-limit/check/\(accountName(99))", ["action_type": "invite"])
            #expect(nobody.status == 404)
            #expect(nobody["code"] == "account_not_found")
            let link = try await desk.post(
                "/rate-limit/check/\(account)",
                ["action_type": "invite", "target_channel_id": "https://t.me/+hash"],
                ["Accept-Language": "ru"])
            #expect(link["errors"]?[0]?["code"] == "unknown_channel")
            #expect(link["errors"]?[0]?["message"]?.stringValue?.contains("Приватную") == true)
        }
    }

    @Test(arguments: Ground.available)
    func `about somebody else's account finds nothing`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let account = try await desk.connect(1, user: 1)
            let stranger = desk.token(service: "gateway", for: 2)
            let check: JSONValue = ["action_type": "invite"]
            // Once from SQL and once from a view that the owner has left in the cache.
            for _ in 1...2 {
                let posts: [(String, JSONValue)] = [
                    ("/rate-limit/check/\(account)", check),
                    ("/rate-limit/check/\(account)", ["action_type": "invite", "reserve": true]),
                    ("/rate-limit/record/\(account)", ["action_type": "invite", "success": true]),
                    ("/rate-limit/release/\(account)", ["permit_id": "x"]),
                    ("/handle-error/\(account)", ["error_type": "peer_flood"]), ("/recover/\(account)", [:]),
                    ("/release/\(account)", ["service_name": "test-service"]),
                    ("/extend/\(account)", ["service_name": "test-service", "lease_id": "x"]),
                    ("/allocate", allocation),
                    ("/plan", ["user_id": 1, "target_channel_id": "@name", "invites": 5]),
                ]
                for (path, body) in posts {
                    let answer = try await desk.post(path, body, stranger)
                    #expect(answer.status == 404, "\(path)")
                }
                for path in [
                    "/health/\(account)", "/rate-limit/status/\(account)", "/ledger?account_id=\(account)",
                    "/explain?user_id=1", "/accounts/health?user_id=1", "/limits?account_id=\(account)",
                    "/logs?user_id=1",
                ] {
                    let answer = try await desk.get(path, stranger)
                    #expect(answer.status == 404, "\(path)")
                }
                let tightened = try await desk.put(
                    "/limits/accounts/\(account)", ["limits": ["invite.daily": 1]], stranger)
                #expect(tightened.status == 404)
                let mine = try await desk.get("/accounts/health", stranger)
                #expect(mine["total"] == 0)
                _ = try await desk.post("/rate-limit/check/\(account)", check)
            }
            let ledger = try await desk.get("/ledger?account_id=\(account)")
            #expect(ledger["total"] == 0)
        }
    }

    @Test func `needs a token where it is not a laptop`() async throws {
        try await Desk.open(settings: ["AUTH_MODE": "strict"]) { desk in
            let account = try await desk.connect()
            let anonymous = try await desk.get("/health/\(account)")
            #expect(anonymous.status == 401)
            let owner = try await desk.get("/health/\(account)", desk.token(service: "gateway", for: 1))
            #expect(owner.status == 200)
            let service = try await desk.get("/health/\(account)", desk.token(service: "invite-service"))
            #expect(service.status == 200)
            // Everybody's limits are no user's to change.
            let user = try await desk.put(
                "/limits/global", ["limits": ["invite.daily": 1]], desk.token(service: "gateway", for: 1))
            #expect(user.status == 404)
            // Neither are the reports, which are about all accounts; what a service asks for itself is.
            let reader = try await desk.get("/reports/health", desk.token(service: "gateway", for: 1))
            #expect(reader.status == 404)
            let operating = try await desk.get("/reports/health", desk.token(service: "report-service"))
            #expect(operating.status == 200)
            let intruder = try await desk.post(
                "/internal/accounts", ["account_id": .string(accountName(5)), "user_id": 1])
            #expect(intruder.status == 401)
        }
    }
}

@Suite struct `What is done by hand` {
    @Test(arguments: Ground.available)
    func `is done to the caller's own accounts`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let mine = try await desk.connect(1, user: 1)
            let foreign = try await desk.connect(2, user: 2)
            for (account, user) in [(mine, 1), (foreign, 2)] {
                let wish: JSONValue = [
                    "user_id": JSONValue(user), "purpose": "parsing", "service_name": "a",
                    "timeout_minutes": 1,
                ]
                _ = try await desk.post("/allocate", wish)
                let record: JSONValue = [
                    "user_id": JSONValue(user), "action_type": "message", "success": true,
                ]
                for _ in 1...2 { _ = try await desk.post("/rate-limit/record/\(account)", record) }
            }
            func caller() -> Headers { desk.token(service: "gateway", for: 1) }
            let verified = try await desk.post("/maintenance/verify-limits", nil, caller())
            #expect(verified["accounts"] == 1)
            #expect(verified["stopped_accounts"] == [.string(mine)])
            desk.clock.advance(by: .days(1))
            let tidied = try await desk.post("/maintenance/cleanup-rate-limits", nil, caller())
            #expect(tidied["cleaned_leases"] == 1)
            let reset = try await desk.post("/maintenance/reset-daily-limits", nil, caller())
            #expect(reset["reset_accounts"] == 1)
            // What a service does for nobody in particular, it does for all.
            let service = desk.token(service: "report-service")
            let rest = try await desk.post("/maintenance/cleanup-rate-limits", nil, service)
            #expect(rest["cleaned_leases"] == 1)
            let others = try await desk.post("/maintenance/verify-limits", nil, service)
            #expect(others["stopped_accounts"] == [.string(foreign)])
        }
    }
}

@Suite struct `An account's life over HTTP` {
    @Test(arguments: Ground.available)
    func `goes through errors and comes back when due`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let account = try await desk.connect()
            let flood = try await desk.post(
                "/handle-error/\(account)", ["error_type": "flood_wait", "context": ["seconds": 300]])
            #expect(flood["action_taken"]?.stringValue != nil)
            let waiting = try await desk.get("/health/\(account)")
            #expect(waiting["is_healthy"] == false)
            #expect(waiting["recovery_eta"] == "2025-08-24T12:06:00Z")
            let early = try await desk.post("/recover/\(account)")
            #expect(early["status"] == "flood_wait")
            desk.clock.advance(by: .seconds(360))
            // Over is over, whether or not the recovery ran.
            let over = try await desk.get("/health/\(account)")
            #expect(over["is_healthy"] == true)
            let done = try await desk.post("/maintenance/process-recoveries")
            #expect(done["recovered"] == 1)
            let queue = try await desk.resources.cache.database(2).sortedCount("account_recovery_queue")
            #expect(queue == 0)

            _ = try await desk.post("/handle-error/\(account)", ["error_type": "auth_key_error"])
            let off = try await desk.get("/health/\(account)")
            #expect(off["status"] == "disabled")
            #expect(off["recovery_eta"]?.isNull == true)
            try await desk.connect()
            let on = try await desk.get("/health/\(account)")
            #expect(on["status"] == "active")

            let logs = try await desk.get("/logs?account_id=\(account)&action=account_error")
            #expect(logs["total"] == 2)
            #expect(logs["items"]?[1]?["details"]?["error_type"] == "flood_wait")
            let metrics = try await desk.get("/metrics")
            #expect(metrics.status == 200)
        }
    }

    @Test(arguments: Ground.available)
    func `ends with its user`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let account = try await desk.connect(1, user: 7)
            let other = try await desk.connect(2, user: 8)
            let owner = desk.token(service: "gateway", for: 7)
            _ = try await desk.post(
                "/rate-limit/record/\(account)", ["action_type": "message", "success": true], owner)
            let manager = AccountManagerParts(
                desk.service.context, try AccountManagerSettings(from: Environment())
            ).manager
            try await manager.erase(user: 7)
            let gone = try await desk.get("/health/\(account)", owner)
            #expect(gone.status == 404)
            let stays = try await desk.get("/health/\(other)", desk.token(service: "gateway", for: 8))
            #expect(stays.status == 200)
            for table in [
                "SELECT count(*) AS n FROM account_ledger",
                "SELECT count(*) AS n FROM account_events WHERE user_id = 7",
            ] as [SQL] {
                let count = try await desk.service.context.database.run(table).first?.int("n")
                #expect(count == 0)
            }
        }
    }

    @Test(arguments: Ground.available)
    func `keeps what it gave a channel when it is connected anew`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let account = try await desk.connect()
            let record: JSONValue = ["action_type": "invite", "target_channel_id": "@name", "success": true]
            _ = try await desk.post("/rate-limit/record/\(account)", record)
            let removed = try await desk.ask(
                "DELETE", "/internal/accounts/\(account)", nil, desk.token(service: "integration-service"))
            #expect(removed.status == 204)
            let refused = try await desk.post("/allocate", allocation)
            #expect(refused["reasons"] == [:])
            let check = try await desk.post("/rate-limit/check/\(account)", ["action_type": "invite"])
            #expect(check["reason"] == "status")
            try await desk.connect()
            let again = try await desk.post(
                "/rate-limit/check/\(account)", ["action_type": "invite", "target_channel_id": "name"])
            #expect(again["checks"]?["per_channel_total"]?["used"] == 1)
        }
    }
}

@Suite struct `Questions about a campaign` {
    @Test(arguments: Ground.available)
    func `are explained account by account`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            for index in 1...3 { try await desk.connect(index) }
            _ = try await desk.post("/handle-error/\(accountName(2))", ["error_type": "peer_flood"])
            _ = try await desk.post(
                "/rate-limit/record/\(accountName(3))",
                ["action_type": "invite", "target_channel_id": "@name", "success": true])
            let answer = try await desk.get(
                "/explain?user_id=1&purpose=invite_campaign&target_channel_id=t.me/name")
            #expect(answer["total"] == 3)
            #expect(answer["eligible_on_this_page"] == 1)
            let reasons = answer["items"]?.arrayValue?.map { $0["reason"]?.stringValue }
            #expect(reasons == [nil, "blocked", "cooldown"])
            #expect(answer["items"]?[2]?["checks"]?["per_channel_total"]?["used"] == 1)
            #expect(answer["items"]?[1]?["retry_at"] == "2025-08-25T12:00:00Z")
        }
    }

    @Test(arguments: Ground.available)
    func `are planned with the user's real accounts`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            for index in 1...20 { try await desk.connect(index) }
            let impossible = try await desk.post(
                "/plan", ["user_id": 1, "target_channel_id": "@name", "invites": 10_000])
            #expect(impossible["possible"] == false)
            #expect(impossible["possible_invites"] == 4000)
            #expect(impossible["accounts_needed"] == 50)
            let enough = try await desk.post(
                "/plan",
                ["user_id": 1, "target_channel_id": "@name", "invites": 10_000, "accounts_added": 30])
            #expect(enough["possible"] == true)
            #expect(enough["invites_per_day"] == 750)
        }
    }
}

/// Two calls that always follow each other, made as one.
@Suite struct `A lease with its first permit, and a record with the end of its lease` {
    private static let wish: JSONValue = [
        "user_id": 1, "purpose": "invite_campaign", "service_name": "test-service",
        "target_channel_id": "@club", "reserve": true,
    ]

    private func record(_ lease: Desk.Answer, _ more: [JSONMember]) -> JSONValue {
        .object(
            [
                JSONMember("action_type", "invite"), JSONMember("target_channel_id", "club"),
                JSONMember("success", true), JSONMember("service_name", "test-service"),
                JSONMember("lease_id", lease["lease_id"] ?? .null),
                JSONMember("permit_id", lease["permit_id"] ?? .null),
            ] + more)
    }

    @Test(arguments: Ground.available)
    func `hold the place that a check with reserve would hold`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let account = try await desk.connect()
            let lease = try await desk.post("/allocate", Self.wish)
            #expect(lease.status == 200, "\(lease.json)")
            #expect(lease["permit_id"]?.stringValue != nil)
            #expect(lease["permit_expires_at"] == "2025-08-24T12:02:00Z")
            // Nobody else gets it, by either way of asking.
            let check: JSONValue = ["action_type": "invite", "target_channel_id": "club", "reserve": true]
            let second = try await desk.post("/rate-limit/check/\(account)", check)
            #expect(second["allowed"] == false)
            #expect(try await desk.post("/allocate", Self.wish).status == 409)
            // Given back, it is free again.
            let back = try await desk.post(
                "/rate-limit/release/\(account)", ["permit_id": lease["permit_id"] ?? .null])
            #expect(back["released"] == true)
            #expect(try await desk.post("/rate-limit/check/\(account)", check)["allowed"] == true)
        }
    }

    @Test(arguments: Ground.available)
    func `run out like any permit`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let account = try await desk.connect()
            _ = try await desk.post("/allocate", Self.wish)
            desk.clock.advance(by: .seconds(121))
            let check: JSONValue = ["action_type": "invite", "target_channel_id": "club", "reserve": true]
            #expect(try await desk.post("/rate-limit/check/\(account)", check)["allowed"] == true)
        }
    }

    @Test(arguments: Ground.available)
    func `take none where nothing is counted`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            try await desk.connect()
            let lease = try await desk.post(
                "/allocate",
                ["user_id": 1, "purpose": "parsing", "service_name": "test-service", "reserve": true])
            #expect(lease.status == 200)
            #expect(lease["permit_id"] == nil)
        }
    }

    @Test(arguments: Ground.available)
    func `give an account back that has to rest, once it stands in the ledger`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let account = try await desk.connect()
            let lease = try await desk.post("/allocate", Self.wish)
            let told = record(lease, [JSONMember("lease", "release_when_resting")])
            let recorded = try await desk.post("/rate-limit/record/\(account)", told)
            #expect(recorded["allowed"] == false)
            #expect(recorded["released"] == true)
            let rows = try await desk.post(
                "/allocate", ["user_id": 1, "purpose": "parsing", "service_name": "next"])
            #expect(rows.status == 200, "somebody else has it now: \(rows.json)")
            // Told once more, it counts once, and the next holder keeps the account.
            let again = try await desk.post("/rate-limit/record/\(account)", told)
            #expect(again["already_recorded"] == true)
            let mine = try await desk.post(
                "/extend/\(account)", ["service_name": "next", "lease_id": rows["lease_id"] ?? .null])
            #expect(mine.status == 200, "\(mine.json)")
            #expect(
                try await desk.get("/rate-limit/status/\(account)?user_id=1")["daily_limits"]?["invite"]?[
                    "used"]
                    == 1)
        }
    }

    @Test(arguments: Ground.available)
    func `keep an account that may go on, unless its end is asked for`(ground: Ground) async throws {
        try await Desk.open(ground) { desk in
            let account = try await desk.connect()
            let wish: JSONValue = [
                "user_id": 1, "purpose": "contacts", "service_name": "test-service", "reserve": true,
            ]
            let lease = try await desk.post("/allocate", wish)
            func record(_ lease: JSONValue?, _ permit: JSONValue?, _ after: JSONValue) async throws
                -> Desk.Answer
            {
                try await desk.post(
                    "/rate-limit/record/\(account)",
                    .object(present: [
                        "action_type": "add_contact", "success": true, "service_name": "test-service",
                        "lease_id": lease, "permit_id": permit, "lease": after,
                    ]))
            }
            let kept = try await record(lease["lease_id"], lease["permit_id"], "keep")
            #expect(kept["released"] == false)
            desk.clock.advance(by: .minutes(11))
            let ended = try await record(lease["lease_id"], nil, "release")
            #expect(ended["released"] == true)
            #expect(try await desk.post("/allocate", wish).status == 409, "it rests")
            desk.clock.advance(by: .hours(2))
            #expect(try await desk.post("/allocate", wish).status == 200)
        }
    }

    @Test func `refuse what makes no sense`() async throws {
        try await Desk.open { desk in
            let account = try await desk.connect()
            let nameless = try await desk.post(
                "/rate-limit/record/\(account)",
                ["action_type": "invite", "success": true, "lease": "release"])
            #expect(nameless.status == 422)
            #expect(nameless["errors"]?[0]?["field"] == "lease_id")
            let unknown = try await desk.post(
                "/rate-limit/record/\(account)",
                ["action_type": "invite", "success": true, "lease_id": "x", "lease": "burn"])
            #expect(unknown.status == 422)
            let wrong = try await desk.post(
                "/allocate",
                ["user_id": 1, "purpose": "parsing", "service_name": "s", "reserve": "perhaps"])
            #expect(wrong.status == 422)
        }
    }
}
