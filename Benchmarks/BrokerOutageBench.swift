import Broker
import Core
import LocalServers
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

extension Benchmark {
    /// Here and not among the tests, because only a process that does nothing else can count what it holds.
    static let brokerOutage = Benchmark(
        name: "broker-outage", summary: "RabbitMQ killed again and again under load: what is lost, what leaks"
    ) { report in
        let time = SystemTime()
        let folder = try await TemporaryFolder(named: "convoke-bench-outage")
        let server = try await LocalRabbitMQ(directory: folder.path + "/server").started()
        guard let address = AMQPAddress(server.url) else { return }
        var settings = RabbitMQSettings()
        settings.backoff = Backoff(first: .milliseconds(50), ceiling: .milliseconds(500))
        let broker = RabbitMQBroker(
            address, queues: [Queue("outage")], settings: settings, metrics: BrokerMetrics(Metrics()),
            time: time,
            log: .silent)
        let ledger = Ledger()
        let consumer = Task.detached {
            try await broker.consume(["outage"], ConsumerOptions(concurrency: 8, prefetch: 32)) { delivery in
                ledger.handled(delivery.message.id)
                return .ack
            }
        }

        /// Load, a kill in the middle of it, load again, and then quiet.
        func round() async throws {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<16 { group.addTask { await publish(broker, ledger, time) } }
                defer { group.cancelAll() }
                try await ledger.reach(ledger.confirmedCount + 1000, time)
                // RabbitMQ 3.10 needs half a second to write down which queues are new.
                try await time.sleep(for: .seconds(1))
                await server.kill()
                try await time.sleep(for: .milliseconds(300))
                try await server.start()
                try await ledger.reach(ledger.confirmedCount + 1000, time)
            }
            let start = time.uptime
            while ledger.openCount > 0, time.uptime - start < .seconds(60) {
                try await time.sleep(for: .milliseconds(50))
            }
            // What ended with the last message is not counted as held.
            try await time.sleep(for: .milliseconds(500))
        }

        // The first rounds make what is made once.
        for _ in 1...2 { try await round() }
        let before = Holdings.now
        let kills = 5
        for _ in 1...kills { try await round() }
        let after = Holdings.now
        let lost = ledger.openCount
        await report.hold(
            "\(kills) kills: \(ledger.confirmedCount) confirmed, \(ledger.failedCount) told of an error, \(lost) lost",
            lost == 0)
        await report.hold(
            "descriptors \(before.descriptors) before and \(after.descriptors) after, threads \(before.threads)"
                + " and \(after.threads)",
            after.descriptors <= before.descriptors && after.threads <= before.threads)
        await report.hold(
            "resident \(rounded(before.megabytes)) MB before and \(rounded(after.megabytes)) MB after",
            after.megabytes < before.megabytes + 4)
        consumer.cancel()
        try await consumer.value
        await broker.close()
        try await server.stop()
    }
}

private func publish(_ broker: RabbitMQBroker, _ ledger: Ledger, _ time: SystemTime) async {
    while !Task.isCancelled {
        let id = ledger.nextID()
        do {
            try await broker.publish(Message(id: id, body: [UInt8](repeating: 7, count: 200)), to: "outage")
            ledger.confirmed(id)
        } catch {
            ledger.failed()
            try? await time.sleep(for: .milliseconds(20))
        }
    }
}

/// Who was confirmed and not handled, and the other way round: whichever comes first. What agrees is
/// forgotten, so that the ledger itself does not grow.
private final class Ledger: Sendable {
    private struct State {
        var next = 0
        var confirmed = 0
        var failed = 0
        var unhandled: Set<String> = []
        var unconfirmed: Set<String> = []
    }
    private let state = Mutex(State())

    var confirmedCount: Int { state.withLock { $0.confirmed } }
    var failedCount: Int { state.withLock { $0.failed } }
    var openCount: Int { state.withLock { $0.unhandled.count } }

    func nextID() -> String {
        state.withLock { state in
            state.next += 1
            return "m-\(state.next)"
        }
    }

    func confirmed(_ id: String) {
        state.withLock { state in
            state.confirmed += 1
            if state.unconfirmed.remove(id) == nil { state.unhandled.insert(id) }
        }
    }

    func handled(_ id: String) {
        state.withLock { state in
            if state.unhandled.remove(id) == nil { state.unconfirmed.insert(id) }
        }
    }

    func failed() { state.withLock { $0.failed += 1 } }

    func reach(_ count: Int, _ time: SystemTime) async throws {
        while confirmedCount < count { try await time.sleep(for: .milliseconds(20)) }
    }
}

/// What this process holds.
private struct Holdings {
    let descriptors: Int
    let threads: Int
    let megabytes: Double

    static var now: Holdings {
        Holdings(
            descriptors: entries("/proc/self/fd"), threads: entries("/proc/self/task"),
            megabytes: residentMegabytes)
    }

    private static func entries(_ path: String) -> Int {
        guard let folder = opendir(path) else { return 0 }
        defer { closedir(folder) }
        var count = 0
        while readdir(folder) != nil { count += 1 }
        return count
    }

    private static var residentMegabytes: Double {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 128)
        guard fgets(&line, 128, file) != nil else { return 0 }
        let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let pages = text.split(separator: " ").dropFirst().first.flatMap { Double($0) } ?? 0
        return pages * Double(sysconf(Int32(_SC_PAGESIZE))) / 1_048_576
    }
}
