import Cache
import Core
import LocalServers

#if canImport(Glibc)
    import Glibc
#endif

extension Benchmark {
    static let cache = Benchmark(
        name: "cache", summary: "Redis through the driver, against redis-benchmark on the same server"
    ) { report in
        let folder = try await TemporaryFolder(named: "convoke-bench-cache")
        let server = try await LocalRedis(directory: "\(folder.path)/redis", durability: .throwaway).started()
        let port = server.port
        let cache = RedisCache(RedisLocation(host: "127.0.0.1", port: port))
        try await cache.set("bench:value", to: "0123456789abcdef", for: .hours(1))
        try await report.ratio(
            "GET, 64 callers", unit: "calls/s", target: 0.25,
            ours: {
                try await report.callsPerSecond(callers: 64) { _ in _ = try await cache.get("bench:value") }
            },
            limit: { try redisBenchmark(port, "-P 32 -c 64 -n 1000000 GET bench:value") },
            limitName: "redis-benchmark -P 32 -c 64")

        let script = CacheScript.fixedWindow
        _ = try await cache.takeFromFixedWindow("bench:limit", limit: 1, window: .hours(1))
        try await report.ratio(
            "limit script, 16 callers", unit: "calls/s", target: 0.8,
            ours: {
                try await report.callsPerSecond(callers: 16) { _ in
                    _ = try await cache.takeFromFixedWindow(
                        "bench:limit", limit: 1_000_000_000, window: .hours(1))
                }
            },
            limit: {
                try redisBenchmark(
                    port, "-c 16 -n 60000 EVALSHA \(script.digest) 1 bench:limit 1000000000 3600000 1")
            },
            limitName: "redis-benchmark -c 16 of the same EVALSHA")
        await cache.close()
        try await server.stop()
    }
}

/// The requests a second that `redis-benchmark` reaches.
private func redisBenchmark(_ port: Int, _ arguments: String) throws -> Double {
    guard let pipe = popen("redis-benchmark -p \(port) --csv \(arguments)", "r") else {
        throw BenchmarkFailure(reason: "redis-benchmark does not start")
    }
    defer { pclose(pipe) }
    var last = ""
    var line = [CChar](repeating: 0, count: 4096)
    while fgets(&line, Int32(line.count), pipe) != nil {
        last = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    // "name","rps",…
    let fields = last.split(separator: "\"", omittingEmptySubsequences: true).filter {
        $0 != "," && $0 != "\n"
    }
    guard fields.count > 1, let rate = Double(fields[1]) else {
        throw BenchmarkFailure(reason: "redis-benchmark says \(last)")
    }
    return rate
}

private struct BenchmarkFailure: Error {
    let reason: String
}
