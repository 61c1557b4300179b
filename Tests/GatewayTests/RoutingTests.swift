import Testing

@testable import GatewayWiring

@Suite struct `A path from outside` {
    @Test(arguments: [
        ("/api/parsing/tasks", "/api/parsing/tasks"),
        ("/api/parsing/tasks/", "/api/parsing/tasks"),
        ("//api///parsing//tasks", "/api/parsing/tasks"),
        ("/api/./parsing/x/../tasks", "/api/parsing/tasks"),
        ("/%61pi/p%61rsing", "/api/parsing"),
        ("/api/x/%2e%2e/parsing", "/api/parsing"),
        ("/api/parsing/%2E", "/api/parsing"),
        ("/api/parsing/a%20b", "/api/parsing/a%20b"),
        ("/api/parsing/%d0%bf", "/api/parsing/%D0%BF"),
        ("/", "/"), ("/.", "/"), ("/...", "/..."),
    ]) func `has one spelling`(raw: String, spelling: String) {
        #expect(RoutePath(raw)?.text == spelling)
    }

    @Test(arguments: [
        "", "api", "*", "/..", "/a/../..", "/%2e%2e/x", "/api%2Fauth", "/api/%2f", "/a%5Cb", "/a\\b",
        "/a%00b",
        "/a%0d%0ab", "/a%7F", "/a%", "/a%2", "/a%zz", "/a\u{7F}", "/a b", "/ä", "/a<b", "/a#b", "/a?b",
        "/a|b",
        "/" + String(repeating: "a", count: 9000),
    ]) func `is refused when it could be read in two ways`(raw: String) {
        #expect(RoutePath(raw) == nil)
    }

    @Test func `is the same after it was normalised`() {
        for raw in ["//a/./b/../%63/%2E%2e/d%20", "/a//", "/%41%42/..//x"] {
            let once = RoutePath(raw)?.text ?? ""
            #expect(RoutePath(once)?.text == once)
        }
    }
}

@Suite struct `A route` {
    private func route(_ raw: String) throws -> Route? { RouteTable.route(try #require(RoutePath(raw))) }

    @Test(arguments: [
        ("/api/auth/me", "user-service", "/auth/me"),
        ("/api/integrations/telegram/accounts", "integration-service", "/api/v1/telegram/accounts"),
        ("/api/account-manager/plan", "account-manager", "/api/v1/account-manager/plan"),
        ("/api/parsing/tasks/7", "parsing-service", "/api/v1/tasks/7"),
        ("/api/invite/tasks", "invite-service", "/api/v1/tasks"),
        ("/api/professional-report/start", "report-service", "/api/professional-report/start"),
        ("/api/cron/retry-missing-data", "report-service", "/api/cron/retry-missing-data"),
    ]) func `leads to a service and its own path`(raw: String, service: String, path: String) throws {
        let route = try #require(try route(raw))
        #expect(route.service == service)
        #expect(route.path == path)
        #expect(route.access == .signedIn)
    }

    @Test(arguments: [
        "/api", "/api/unknown", "/api/authx", "/api/parsingtasks", "/internal/users/by-email", "/metrics",
        "/api/auth/../../internal/x", "/API/auth/me", "/parsing",
    ]) func `is not there for anything else`(raw: String) throws {
        #expect(try route(raw) == nil)
    }

    @Test func `keeps internal paths of a service out of reach`() throws {
        for raw in [
            "/api/auth/../internal/users", "/api/parsing/../../internal/x",
            "/api/auth/%2e%2e/%2e%2e/internal/x",
        ] {
            let route = RoutePath(raw).flatMap { RouteTable.route($0) }
            #expect(route == nil)
        }
    }

    @Test(arguments: [("login", 20), ("register", 10), ("claim", 10), ("refresh", 30)])
    func `into the house stands open so often a minute`(name: String, limit: Int64) throws {
        #expect(try route("/api/auth/\(name)")?.access == .anyone(limit: limit, name: name))
    }

    @Test func `names the account whose shard it leads to`() throws {
        let id = "3F2A9C1B-0000-4000-8000-000000000001"
        #expect(try route("/api/integrations/telegram/accounts/\(id)")?.shard == id.lowercased())
        #expect(
            try route("/api/integrations/telegram/invites/accounts/\(id)/invite")?.shard == id.lowercased())
        #expect(try route("/api/integrations/telegram/accounts")?.shard == nil)
        #expect(try route("/api/invite/accounts/\(id)")?.shard == nil)
    }
}

@Suite struct `A client's address` {
    private let behindProxies = ClientAddresses(
        trusted: [Network("10.0.0.0/8"), Network("::1")].compactMap { $0 })

    @Test func `is the connection's, whatever it claims`() {
        let alone = ClientAddresses(trusted: [])
        #expect(alone.address(connection: "203.0.113.5", forwarded: ["198.51.100.1"]) == "203.0.113.5")
        #expect(
            behindProxies.address(connection: "203.0.113.5", forwarded: ["198.51.100.1"]) == "203.0.113.5")
    }

    @Test func `is what the last proxy of ours saw`() {
        let address = { behindProxies.address(connection: "10.1.2.3", forwarded: $0) }
        #expect(address(["198.51.100.1"]) == "198.51.100.1")
        #expect(
            address(["6.6.6.6, 198.51.100.1, 10.9.9.9"]) == "198.51.100.1",
            "what it claimed itself stands first")
        #expect(address(["6.6.6.6", "198.51.100.1"]) == "198.51.100.1")
        #expect(address(["198.51.100.1, nonsense"]) == "10.1.2.3")
        #expect(address([]) == "10.1.2.3")
    }

    @Test func `counts as a whole network with IPv6, and as itself with IPv4`() {
        #expect(
            ClientAddresses.countedAs("2001:db8:1:2::1") == ClientAddresses.countedAs("2001:db8:1:2:ffff::9"))
        #expect(ClientAddresses.countedAs("2001:db8:1:2::1") != ClientAddresses.countedAs("2001:db8:1:3::1"))
        #expect(ClientAddresses.countedAs("::ffff:198.51.100.1") == "198.51.100.1")
        #expect(ClientAddresses.countedAs("198.51.100.1") != ClientAddresses.countedAs("198.51.100.2"))
    }

    @Test(arguments: [
        "", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.x", "01.2.3.0004", ":::", "1::2::3", "1:2:3:4:5:6:7",
        "g::1",
        "12345::", "1:2:3:4:5:6:7:8:9", "::1.2.3",
    ]) func `is no address when it is written wrong`(text: String) {
        #expect(IPAddress(text) == nil)
    }

    @Test func `is the same in every spelling`() {
        #expect(IPAddress("::1") == IPAddress("0:0:0:0:0:0:0:1"))
        #expect(IPAddress("2001:DB8::") == IPAddress("2001:db8:0::0"))
        #expect(IPAddress("::ffff:1.2.3.4") == IPAddress("1.2.3.4"))
        #expect(Network("10.0.0.0/33") == nil)
        #expect(Network("10.0.0.0/x") == nil)
    }
}

@Suite struct `A range` {
    @Test(
        arguments: [
            ("bytes=0-4", .part(0..<5)), ("bytes=5-", .part(5..<10)), ("bytes=-3", .part(7..<10)),
            ("bytes=0-999", .part(0..<10)), ("bytes=-99", .part(0..<10)), ("bytes=10-", .impossible),
            ("bytes=-0", .impossible), ("bytes=4-2", .everything), ("bytes=0-1,3-4", .everything),
            ("lines=1-2", .everything),
            ("bytes=a-b", .everything), ("bytes=-", .everything),
            ("bytes=99999999999999999999-", .everything),
        ] as [(String, ByteRange)]) func `of ten bytes is what the standard says`(
            field: String, wanted: ByteRange
        )
    {
        #expect(ByteRange.wanted(field, of: 10) == wanted)
    }
}

@Suite struct `A file's name` {
    @Test(arguments: [
        "/assets/app-3F2A9C1B.js", "/app.3f2a9c1b.css", "/chunk-ABCDEFGH.js", "/a/b.0123456789abcdef.woff2",
    ])
    func `holds its hash`(name: String) { #expect(WebPages.isHashed(name)) }

    @Test(arguments: [
        "/index.html", "/app.js", "/app-settings.js", "/logo.min.js", "/3F2A9C1B.js", "/app-3F2A.js",
    ])
    func `holds none`(name: String) { #expect(!WebPages.isHashed(name)) }
}
