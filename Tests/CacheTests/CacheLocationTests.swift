import Cache
import Core
import Testing

@Suite struct `The cache's location` {
    private func read(_ values: [String: String]) throws -> CacheLocation {
        var environment = Environment(values)
        let location = CacheLocation(from: &environment)
        try environment.finish()
        return location
    }

    @Test func `is this process's memory when nothing is set`() throws {
        #expect(try read([:]) == .memory)
    }

    @Test func `is read from one URL`() throws {
        #expect(try read(["REDIS_URL": "redis://cache"]) == .redis(RedisLocation(host: "cache")))
        let whole = RedisLocation(host: "::1", port: 7000, base: 5, user: "anna", password: Secret("p@ss:/"))
        #expect(try read(["REDIS_URL": "redis://anna:p%40ss%3A%2F@[::1]:7000/5"]) == .redis(whole))
        #expect(
            try read(["REDIS_URL": "redis://cache:1/", "REDIS_PASSWORD": "p"])
                == .redis(RedisLocation(host: "cache", port: 1, password: Secret("p"))))
    }

    @Test func `is read from single settings`() throws {
        let values = ["REDIS_HOST": "cache", "REDIS_PORT": "7000", "REDIS_DB": "4", "REDIS_PASSWORD": "p"]
        #expect(
            try read(values)
                == .redis(RedisLocation(host: "cache", port: 7000, base: 4, password: Secret("p"))))
    }

    @Test(arguments: [
        "http://cache", "redis://", "redis://:0", "redis://cache:0", "redis://cache:70000", "redis://cache/x",
        "redis://cache/-1", "redis://cache/1/2", "redis://a:%zz@cache", "redis://[::1", "redis://cache?db=1",
        "cache",
    ])
    func `is refused when it is no Redis URL`(url: String) {
        #expect(throws: ConfigurationError.self) { try read(["REDIS_URL": url]) }
    }

    @Test func `never shows its password`() throws {
        let location = try read(["REDIS_URL": "redis://:very-secret@cache"])
        #expect(!String(reflecting: location).contains("very-secret"))
    }
}
