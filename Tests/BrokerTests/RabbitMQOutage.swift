import Core
import Synchronization
import TestServers
import Testing

@testable import Broker

#if canImport(Glibc)
    import Glibc
#endif

@Suite(.enabled(if: TestServers.areAvailable), .timeLimit(.minutes(5)))
struct `A RabbitMQ broker whose server goes away` {
    private func broker(
        _ address: AMQPAddress, _ queues: [Queue] = [Queue("work")], deadline: Duration = .minutes(5),
        log: Log = .testing, metrics: Metrics = Metrics()
    ) -> RabbitMQBroker {
        var settings = RabbitMQSettings.patient
        settings.publishDeadline = deadline
        settings.backoff = Backoff(first: .milliseconds(50), ceiling: .milliseconds(500))
        return RabbitMQBroker(
            address, queues: queues, settings: settings, metrics: BrokerMetrics(metrics), time: SystemTime(),
            log: log)
    }

    @Test func `says so at once when nobody listens`() async throws {
        let sink = MemorySink()
        let address = try #require(AMQPAddress("amqp://guest:s3cret@127.0.0.1:1"))
        let broker = broker(address, deadline: .hours(1), log: Log(service: "test", to: sink))
        // The deadline of a publish is not what ends these.
        for _ in 1...3 {
            await #expect {
                try await broker.publish(.named("m-1"), to: "work")
            } throws: { error in
                guard case BrokerError.unavailable(_, mayHaveRun: false) = error else { return false }
                return true
            }
        }
        await #expect(throws: BrokerError.self) { try await broker.ping() }
        #expect(sink.lines.contains { $0.contains("broker.unreachable") })
        #expect(!sink.lines.contains { $0.contains("s3cret") })
        await broker.close()
    }

    @Test func `keeps the deadline when somebody listens and says nothing`() async throws {
        let listener = try SilentListener()
        let address = try #require(AMQPAddress("amqp://127.0.0.1:\(listener.port)"))
        let broker = broker(address, deadline: .milliseconds(300))
        await #expect(throws: BrokerError.timedOut) { try await broker.publish(.named("m-1"), to: "work") }
        // Ends the connection, and with it the wait for an answer.
        listener.close()
        await broker.close()
    }

    @Test func `refuses a queue that exists in another form`() async throws {
        let address = try #require(AMQPAddress(try await TestServers.rabbitmq()))
        let foreign = try AMQPConnection(address, name: "foreign", heartbeat: 10, timeout: .minutes(5))
        try foreign.openChannel(1)
        try foreign.declareQueue("work", [("x-queue-type", .text("classic"))], on: 1)
        let broker = broker(address)
        await #expect {
            try await broker.consume(["work"]) { _ in .ack }
        } throws: { error in
            guard case BrokerError.declaration = error else { return false }
            return true
        }
        await #expect(throws: BrokerError.self) { try await broker.publish(.named("m-1"), to: "work") }
        await broker.close()
    }

    /// The whole of it: everything that was confirmed is handled, by consumers that came back by themselves.
    @Test func `loses nothing that was confirmed when the server is killed under load`() async throws {
        let directory = try await TestServers.directory()
        let server = try await LocalRabbitMQ(directory: directory).started()
        let address = try #require(AMQPAddress(server.url))
        let metrics = Metrics()
        let broker = broker(address, metrics: metrics)
        let confirmed = Names()
        let failures = Names()
        let gate = Gate()
        let seen = Collector()
        let handled = Names()
        let consumer = Task {
            try await broker.consume(["work"], ConsumerOptions(concurrency: 8, prefetch: 32)) { delivery in
                // One is in the middle of its work when the server dies.
                if delivery.message.id == "held" && delivery.attempt == 1 { await gate.pass() }
                handled.add(delivery.message.id)
                seen.add(delivery)
                return .ack
            }
        }
        try await broker.publish(.named("held"), to: "work")
        try await broker.publish(.named("first"), to: "work")
        try await seen.wait(for: 1)
        try await eventually { knowsItsQueues(directory) }
        try await eventually { Resources.connections(to: server.port) == 2 }

        let publishers = Task {
            await withTaskGroup(of: Void.self) { group in
                for number in 0..<16 {
                    group.addTask {
                        var count = 0
                        while !Task.isCancelled {
                            let id = "\(number)-\(count)"
                            count += 1
                            do {
                                try await broker.publish(.named(id), to: "work")
                                confirmed.add(id)
                            } catch {
                                failures.add(id)
                                try? await SystemTime().sleep(for: .milliseconds(50))
                            }
                        }
                    }
                }
            }
        }
        let target = confirmed.all.count + 300
        try await eventually { confirmed.all.count >= target }
        await server.kill()
        // While it is away, callers are told.
        let told = failures.all.count + 1
        try await eventually { failures.all.count >= told }
        try await server.start()
        let again = confirmed.all.count + 100
        try await eventually { confirmed.all.count >= again }
        publishers.cancel()
        await publishers.value
        // Unacknowledged, it came again.
        try await eventually { seen.deliveries.contains { $0.message.id == "held" && $0.attempt == 2 } }
        gate.open()
        try await eventually { confirmed.all.isSubset(of: handled.all) }
        try await eventually { try await broker.depth(of: "work") == 0 }
        #expect(try await broker.depth(of: "work.dead") == 0)
        // Two connections: the publisher's and the consumer's.
        #expect(metrics.counter("broker_reconnects_total", "").value >= 2)

        // Nothing is left of the connections that died, and at the end nothing at all.
        try await eventually { Resources.connections(to: server.port) == 2 }
        consumer.cancel()
        try await consumer.value
        await broker.close()
        try await eventually { Resources.connections(to: server.port) == 0 }
        try await server.stop()
    }

    @Test func `lets go of its threads and descriptors`() async throws {
        let address = try #require(AMQPAddress(try await TestServers.rabbitmq()))
        for _ in 0..<5 {
            let broker = broker(address)
            let consumer = Task { try await broker.consume(["work"]) { _ in .ack } }
            try await broker.publish(.named("m-1"), to: "work")
            consumer.cancel()
            try await consumer.value
            await broker.close()
        }
        let forgotten = Resources.threads(named: "amqp-")
        do {
            // Dropped without a word.
            let broker = broker(address)
            try await broker.publish(.named("m-1"), to: "work")
        }
        try await eventually { Resources.threads(named: "amqp-") <= forgotten }
    }
}

/// RabbitMQ 3.10 writes down which log belongs to which quorum queue half a second after it was declared.
/// Killed before that, it comes back with an empty queue that never elects a leader: nothing a client can
/// mend, and not what is to be shown here.
private func knowsItsQueues(_ directory: String) -> Bool {
    let path = directory + "/data/convoke@localhost/quorum/convoke@localhost/names.dets"
    guard let file = fopen(path, "r") else { return false }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 65_536)
    let count = fread(&bytes, 1, bytes.count, file)
    // The name is followed by the binary that is the log's name; with `.dead` by that.
    return String(decoding: bytes.prefix(count), as: UTF8.self).contains("%2F_workm")
}

/// What this machine still holds. Other suites run in the same process, so each is asked for by name.
enum Resources {
    /// Sockets on the client's side of a server, half-closed ones included.
    static func connections(to port: Int) -> Int {
        guard let file = fopen("/proc/self/net/tcp", "r") else { return -1 }
        defer { fclose(file) }
        let digits = String(port, radix: 16, uppercase: true)
        let ending = ":" + String(repeating: "0", count: 4 - digits.count) + digits
        var line = [CChar](repeating: 0, count: 512)
        var count = 0
        while fgets(&line, Int32(line.count), file) != nil {
            let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            let fields = text.split(separator: " ")
            // 06 is TIME_WAIT: the kernel's, not ours.
            if fields.count > 3, fields[2].hasSuffix(ending), fields[3] != "06" { count += 1 }
        }
        return count
    }

    static func threads(named prefix: String) -> Int {
        entries("/proc/self/task").count { id in
            guard let file = fopen("/proc/self/task/\(id)/comm", "r") else { return false }
            defer { fclose(file) }
            var line = [CChar](repeating: 0, count: 32)
            guard fgets(&line, 32, file) != nil else { return false }
            return String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
                .hasPrefix(prefix)
        }
    }

    private static func entries(_ path: String) -> [String] {
        guard let folder = opendir(path) else { return [] }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names
    }
}

/// Accepts connections, in the kernel's backlog, and never says a word.
final class SilentListener: Sendable {
    private let file: Int32
    private let isClosed = Mutex(false)
    let port: Int

    init() throws {
        file = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let file = file
        let isBound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(file, $0, size) == 0 && listen(file, 8) == 0 && getsockname(file, $0, &size) == 0
            }
        }
        guard isBound else { throw NeverHappened() }
        port = Int(UInt16(bigEndian: address.sin_port))
    }

    func close() {
        isClosed.withLock { isClosed in
            if !isClosed { Glibc.close(file) }
            isClosed = true
        }
    }

    deinit { close() }
}
