import Broker
import Core
import HTTP
import InviteServiceWiring
import Invites
import LocalServers
import ServiceKit
import Storage
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

extension Benchmark {
    /// A list on its way through the whole service, from the upload to the written people, beside psql's own
    /// `\copy` of the same columns into a table with the same indexes. `\copy` trusts every row; we understand
    /// each, drop duplicates, ask the stop-list, and write all or nothing.
    static let imports = Benchmark(
        name: "import", summary: "a million CSV rows into a campaign, against psql \\copy"
    ) { report in
        let count = 1_000_000
        let folder = try await TemporaryFolder(named: "convoke-bench-import")
        let server = try await LocalPostgres(directory: folder.path + "/server").started()
        let service = try await ImportingService(server.url, folder: folder.path + "/data")
        let database = service.database
        try await twins(of: database)
        let lists = ImportLists(folder: folder.path)
        try lists.write(count, named: "list")
        try lists.write(count / 10, named: "short")
        try lists.writeCopy(count, named: "twin")

        // Memory first, while nothing else has stretched it.
        _ = try await service.importList(lists.form("short"))
        let few = try await service.importList(lists.form("short"))
        let many = try await service.importList(lists.form("list"))
        precondition(many.written == count, "all rows are written: \(many.written)")
        await report.hold(
            "memory while importing: \(many.peak >> 20) MB with \(count) rows, \(few.peak >> 20) MB with \(count / 10)",
            many.peak < few.peak + (48 << 20))

        let time = SystemTime()
        @Sendable func copy(_ table: String) async throws -> Double {
            try await database.run("TRUNCATE import_twin")
            try await database.run("TRUNCATE import_bare")
            let start = time.uptime
            let command =
                "\\copy \(table) (task_id, user_id, username, phone, platform_id, full_name, source, created_at, updated_at) from '\(lists.path("twin"))'"
            let status = try await ChildProcess.run(
                Command(
                    "/usr/bin/psql", ["-X", "-q", "-d", server.url, "-c", command],
                    environment: ["PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"],
                    output: .file(folder.path + "/psql.txt")))
            precondition(status.code == 0, "psql copies")
            return Double(count) / (time.uptime - start).inSeconds
        }
        try await report.ratio(
            "import of \(count) rows", unit: "rows a second", target: 0.5, rounds: 3,
            ours: {
                let result = try await service.importList(lists.form("list"))
                precondition(result.written == count, "all rows are written")
                return Double(count) / result.took.inSeconds
            }, limit: { try await copy("import_twin") },
            limitName: "psql \\copy into a table with the same indexes")
        let bare = try await copy("import_bare")
        await report.note(
            "\(rate(bare)) rows a second by psql \\copy into a table without any index"
        )
        await service.close()
        try await server.stop()
    }

    private static func twins(of database: any Database) async throws {
        try await database.run("CREATE TABLE import_twin (LIKE invite_targets INCLUDING ALL)")
        try await database.run(
            "CREATE TABLE import_bare (LIKE invite_targets INCLUDING DEFAULTS INCLUDING IDENTITY)")
    }
}

/// The same people as an uploaded list and as rows for `\copy`.
private struct ImportLists: Sendable {
    let folder: String

    func path(_ name: String) -> String { "\(folder)/\(name).txt" }

    private func person(_ number: Int) -> (username: String, phone: String, id: String, name: String) {
        // Spread over the indexes as real people are.
        let spread = (number &* 2_654_435_761) % 1_000_000_000
        return (
            "user_\(String(spread, radix: 36))_\(number)", "+7\(9_000_000_000 + number)",
            "\(5_000_000_000 + spread * 10 + number % 10)", "Имя Фамилия \(number % 1000)"
        )
    }

    private func write(_ name: String, _ count: Int, _ head: String, _ line: (Int) -> String) throws {
        guard let file = fopen(path(name), "w") else { throw ClientError.invalidURL }
        defer { fclose(file) }
        fputs(head, file)
        for number in 0..<count { fputs(line(number), file) }
    }

    func write(_ count: Int, named name: String) throws {
        try write(name, count, "username,phone,telegram_id,name\n") { number in
            let person = person(number)
            return "\(person.username),\(person.phone),\(person.id),\(person.name)\n"
        }
    }

    func writeCopy(_ count: Int, named name: String) throws {
        try write(name, count, "") { number in
            let person = person(number)
            return
                "1\t1\t\(person.username)\t\(person.phone)\t\(person.id)\t\(person.name)\tFILE_UPLOAD\t1756000000000\t1756000000000\n"
        }
    }

    /// The list as a browser uploads it, read from the disk while it goes out.
    func form(_ name: String) -> Body {
        let file = open(path(name), O_RDONLY)
        let head = Bytes(
            "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"list.csv\"\r\n\r\n".utf8)
        let place = Mutex((sent: -1, ended: false))
        return Body {
            place.withLock { place in
                if place.sent < 0 {
                    place.sent = 0
                    return head
                }
                guard !place.ended else { return nil }
                let piece = Bytes(unsafeUninitializedCapacity: 64 << 10) { room, count in
                    count = max(pread(file, room.baseAddress, room.count, off_t(place.sent)), 0)
                }
                place.sent += piece.count
                guard piece.isEmpty else { return piece }
                place.ended = true
                close(file)
                return Bytes("\r\n--edge--\r\n".utf8)
            }
        }
    }
}

/// invite-service over a database of its own, asked without a socket.
private final class ImportingService: Sendable {
    private let service: AssembledService
    private let queues: any Database
    private let running: Task<Void, any Error>
    private let time = SystemTime()

    var database: any Database { service.context.database }

    init(_ url: String, folder: String) async throws {
        let environment = Environment([
            "DATA_DIR": folder, "DATABASE_URL": url, "LOG_LEVEL": "error", "INVITE_WORKER": "false",
            "JWT_SECRET": String(repeating: "k", count: 32), "SCRATCH_DIR": "/tmp",
        ])
        let definition = ServiceDefinition.inviteService
        let resources = try await ProcessResources.open(environment, log: .silent)
        queues = DatabaseLocation.sqlite(":memory:").open("queues")
        let broker = SQLBroker(
            queues, queues: definition.queues, settings: SQLBrokerSettings(),
            metrics: BrokerMetrics(Metrics()), time: SystemTime(), log: .silent)
        let service = try await assemble(definition, resources, broker: broker)
        self.service = service
        let services = service.services
        running = Task { try await runAll(services, log: .silent) }
        while !service.readiness.isReady { try await time.sleep(for: .milliseconds(10)) }
    }

    func close() async {
        running.cancel()
        _ = await running.result
        await database.close()
        await queues.close()
    }

    struct Result: Sendable {
        let written: Int
        let took: Duration
        /// The most memory at any moment, in bytes.
        let peak: Int
    }

    /// Into a fresh campaign; what earlier ones held is taken away first.
    func importList(_ body: Body) async throws -> Result {
        try await database.run("TRUNCATE invite_targets, invite_tasks, invite_imports, invite_import_people")
        let store = InviteStore(
            database, digests: SuppressionDigests(key: Secret(Bytes(repeating: 1, count: 32))),
            random: SystemRandom())
        let settings = try Fields.decode(TaskSettings.self, from: ["group_id": "@club"])
        let task = try await store.create(
            NewTask(name: "Bench", platform: "telegram", settings: settings), of: 1, at: time.now)
        let request = Request(
            .post, "/api/v1/import/file", query: Query("task_id=\(task.id)"),
            headers: ["Host": "localhost", "Content-Type": "multipart/form-data; boundary=edge"], body: body)
        let time = time
        let start = time.uptime
        let peak = Peak()
        let sampler = Task {
            while !Task.isCancelled {
                peak.sample()
                try? await time.sleep(for: .milliseconds(20))
            }
        }
        let answer = await service.router.answer(request)
        sampler.cancel()
        let took = time.uptime - start
        let json = try JSONValue(parsing: await answer.collect())
        return Result(
            written: Int(json["imported"]?.intValue ?? 0), took: took, peak: peak.bytes)
    }
}

private final class Peak: Sendable {
    private let most = Mutex(0)
    var bytes: Int { most.withLock { $0 } }
    func sample() { most.withLock { $0 = max($0, residentBytes()) } }
}

private func residentBytes() -> Int {
    guard let file = fopen("/proc/self/statm", "r") else { return 0 }
    defer { fclose(file) }
    var text = [CChar](repeating: 0, count: 128)
    guard fgets(&text, Int32(text.count), file) != nil else { return 0 }
    let words = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        .split(separator: " ")
    return words.count > 1 ? (Int(words[1]) ?? 0) * 4096 : 0
}
