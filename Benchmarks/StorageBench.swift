import Core
import LocalServers
import Storage

#if canImport(Glibc)
    import Glibc
#endif

extension Benchmark {
    /// Our driver beside PostgreSQL's own clients, over the same server, table and statement.
    static let sql = Benchmark(name: "sql", summary: "one-row updates by 16 callers, against pgbench") {
        report in
        let folder = try await TemporaryFolder(named: "convoke-bench-sql")
        let server = try await LocalPostgres(directory: folder.path + "/server").started()
        let database = DatabaseLocation.postgres(Secret(server.url)).open(
            "bench", PoolSettings(connections: 16))
        try await database.run("CREATE TABLE account (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL)")
        try await database.transaction {
            try $0.copy(
                into: "account", columns: ["id", "balance"],
                rows: (1...rows).map { [.integer(Int64($0)), .integer(0)] })
        }
        let script = folder.path + "/update.sql"
        try write(
            "\\set id random(1, \(rows))\nUPDATE account SET balance = balance + 1 WHERE id = :id;\n",
            to: script)
        let random = SeededRandom(seed: 1)
        let update: @Sendable (Int) async throws -> Void = { _ in
            let id = random.int(in: 1...rows)
            try await database.run("UPDATE account SET balance = balance + 1 WHERE id = \(id)")
        }
        let pgbench: @Sendable () async throws -> Double = {
            let output = folder.path + "/pgbench.txt"
            let arguments = [
                "-n", "-c", "16", "-j", "2", "-M", "prepared", "-T", "2", "-f", script, server.url,
            ]
            try await client("pgbench", arguments, output: output)
            return figure(after: "tps = ", in: read(output))
        }
        // As pgbench has it: two threads, each with half of the callers and their connections.
        let loops = (0..<2).map { EventLoop(name: "callers-\($0)") }
        try await report.ratio(
            "one-row UPDATE, 16 callers on two loops", unit: "a second", target: 0.8,
            ours: {
                try await report.callsPerSecond(callers: 16, for: .seconds(2), on: loops, update)
            }, limit: pgbench, limitName: "pgbench -c 16 -j 2 -M prepared")
        try await report.ratio(
            "one-row UPDATE, 16 callers in Swift's pool", unit: "a second", target: 0.8,
            ours: { try await report.callsPerSecond(callers: 16, for: .seconds(2), update) },
            limit: pgbench, limitName: "pgbench -c 16 -j 2 -M prepared")
        await database.close()
        try await server.stop()
    }

    static let copy = Benchmark(name: "copy", summary: "COPY of a million rows, against psql \\copy") {
        report in
        let folder = try await TemporaryFolder(named: "convoke-bench-copy")
        let server = try await LocalPostgres(directory: folder.path + "/server").started()
        let database = DatabaseLocation.postgres(Secret(server.url)).open(
            "bench", PoolSettings(connections: 1, statementTimeout: .minutes(5)))
        try await database.run(
            "CREATE TABLE member (id BIGINT, name TEXT, note TEXT, seen BIGINT, active BOOLEAN)")
        let count = 1_000_000
        let file = folder.path + "/rows.txt"
        try write((0..<count).map { line($0) }.joined(), to: file)
        let time = SystemTime()
        try await report.ratio(
            "COPY of \(count) rows", unit: "rows a second", target: 0.7, rounds: 3,
            ours: {
                try await database.run("TRUNCATE member")
                let start = time.uptime
                let written = try await database.copy(
                    into: "member", columns: ["id", "name", "note", "seen", "active"],
                    rows: Chunks(count: count, size: 1000))
                precondition(written == count, "all rows are written")
                return Double(count) / (time.uptime - start).inSeconds
            },
            limit: {
                try await database.run("TRUNCATE member")
                let start = time.uptime
                let command = "\\copy member (id, name, note, seen, active) from '\(file)'"
                try await client(
                    "psql", ["-X", "-q", "-d", server.url, "-c", command], output: folder.path + "/psql.txt")
                return Double(count) / (time.uptime - start).inSeconds
            }, limitName: "psql \\copy of the same rows")
        await database.close()
        try await server.stop()
    }

    private static let rows = 10_000
}

/// The rows as they would come from a parser: made while they are written.
private struct Chunks: AsyncSequence, AsyncIteratorProtocol {
    let count: Int
    let size: Int
    var position = 0

    init(count: Int, size: Int) {
        self.count = count
        self.size = size
    }

    func makeAsyncIterator() -> Chunks { self }

    mutating func next() async -> [[SQLValue]]? {
        guard position < count else { return nil }
        let range = position..<Swift.min(position + size, count)
        position = range.upperBound
        return range.map { number -> [SQLValue] in
            let seen = Int64(1_756_000_000_000 + number)
            return [
                .integer(Int64(number)), .text("member_\(number)"), .text("path\\to\tnowhere"),
                .integer(seen),
                .bool(number % 2 == 0),
            ]
        }
    }
}

private func line(_ number: Int) -> String {
    let seen = String(1_756_000_000_000 + number)
    let active = number % 2 == 0 ? "t" : "f"
    return "\(number)\tmember_\(number)\tpath\\\\to\\tnowhere\t\(seen)\t\(active)\n"
}

private struct ClientFailed: Error {
    let output: String
}

private func client(_ name: String, _ arguments: [String], output: String) async throws {
    // Output is appended, and the first figure in it is the one that is read.
    unlink(output)
    let status = try await ChildProcess.run(
        Command(
            "/usr/bin/\(name)", arguments, environment: ["PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"],
            output: .file(output)))
    guard status.code == 0 else { throw ClientFailed(output: read(output)) }
}

/// The number that follows `mark`.
private func figure(after mark: String, in text: String) -> Double {
    for line in text.split(separator: "\n") where line.hasPrefix(mark) {
        return Double(line.dropFirst(mark.count).prefix { $0 != " " }) ?? 0
    }
    return 0
}

private func write(_ text: String, to path: String) throws {
    guard let file = fopen(path, "w") else { throw ClientFailed(output: "\(path) cannot be written") }
    defer { fclose(file) }
    fputs(text, file)
}

private func read(_ path: String) -> String {
    guard let file = fopen(path, "r") else { return "" }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 65_536)
    let count = fread(&bytes, 1, bytes.count, file)
    return String(decoding: bytes[..<count], as: UTF8.self)
}
