import Broker
import CRabbitMQ
import Core
import LocalServers
import Storage
import Synchronization

extension Benchmark {
    /// Our driver beside a loop that does nothing but call librabbitmq, over the same durable server and
    /// quorum queue, with messages of the same size and headers.
    static let broker = Benchmark(
        name: "broker", summary: "publish with confirm, consume with ack, against a bare librabbitmq loop"
    ) { report in
        let folder = try await TemporaryFolder(named: "convoke-bench-broker")
        let server = try await LocalRabbitMQ(directory: folder.path + "/server").started()
        guard let address = AMQPAddress(server.url) else { throw BareFailure(step: "address") }
        let queues = [Queue("bench")]
        let metrics = BrokerMetrics(Metrics())
        let broker = RabbitMQBroker(
            address, queues: queues, metrics: metrics, time: SystemTime(), log: .silent)
        try await broker.ping()
        let port = server.port

        try await report.ratio(
            "publish with confirm, 64 callers", unit: "a second", target: 0.5,
            ours: {
                try await bare(port) { try $0.purge() }
                return try await publishRate(broker, report)
            },
            limit: {
                // The better of two ways to keep 64 in flight: one for each that is confirmed, or all at once.
                var best = 0.0
                for open in [63, 0] as [UInt64] {
                    best = max(
                        best,
                        try await bare(port) { loop in
                            try loop.purge()
                            return try loop.publishRate(leaving: open)
                        })
                }
                return best
            }, limitName: "librabbitmq, 64 in flight")
        // What the kind of queue costs, by which deliveries are counted and nothing confirmed is lost.
        let classic = try await bare(port) { loop in
            try loop.declareClassic("classic")
            return try loop.publishRate(leaving: 0)
        }
        await report.note("librabbitmq to a durable classic queue: \(rate(classic)) a second")

        let count = 20_000
        try await report.ratio(
            "consume with ack, prefetch 100", unit: "a second", target: 0.5,
            ours: {
                try await bare(port) { try $0.fill(count) }
                return try await consumeRate(broker, count, ConsumerOptions(concurrency: 100, prefetch: 100))
            },
            limit: {
                try await bare(port) { loop in
                    try loop.fill(count)
                    let time = SystemTime()
                    let start = time.uptime
                    try loop.consume(count, prefetch: 100, ackEvery: 50)
                    return Double(count) / (time.uptime - start).inSeconds
                }
            }, limitName: "librabbitmq, one ack for 50")
        await broker.close()
        try await server.stop()
    }

    /// Without a peer: what one gets who runs no server. Each message is on the disk before it is confirmed.
    static let brokerEmbedded = Benchmark(name: "broker-embedded", summary: "the same on SQLite") { report in
        let folder = try await TemporaryFolder(named: "convoke-bench-embedded")
        let database = DatabaseLocation.sqlite(folder.path + "/broker.db").open()
        var settings = SQLBrokerSettings()
        settings.isExclusive = true
        let embedded = SQLBroker(
            database, queues: [Queue("bench")], settings: settings, metrics: BrokerMetrics(Metrics()),
            time: SystemTime(), log: .silent)
        let published = try await publishRate(embedded, report)
        let waiting = try await embedded.depth(of: "bench")
        let consumed = try await consumeRate(embedded, waiting, ConsumerOptions(concurrency: 100))
        await report.note("\(rate(published)) published and \(rate(consumed)) consumed a second")
        await database.close()
    }
}

private let body = [UInt8](repeating: UInt8(ascii: "x"), count: 200)

private func publishRate(_ broker: any Broker, _ report: Report) async throws -> Double {
    let next = Atomic(0)
    return try await report.callsPerSecond(callers: 64) { _ in
        let number = next.wrappingAdd(1, ordering: .relaxed).newValue
        try await broker.publish(Message(id: "m-\(number)", body: body), to: "bench")
    }
}

private func consumeRate(_ broker: any Broker, _ count: Int, _ options: ConsumerOptions) async throws
    -> Double
{
    let time = SystemTime()
    let start = time.uptime
    let handled = Atomic(0)
    let (all, done) = AsyncStream<Void>.makeStream()
    let consumer = Task.detached {
        try await broker.consume(["bench"], options) { _ in
            if handled.wrappingAdd(1, ordering: .relaxed).newValue == count { done.finish() }
            return .ack
        }
    }
    for await _ in all {}
    let passed = time.uptime - start
    consumer.cancel()
    try await consumer.value
    return Double(count) / passed.inSeconds
}

private struct BareFailure: Error {
    let step: String
}

/// Runs a blocking loop on a thread of its own.
private func bare<Result: Sendable>(
    _ port: Int, _ work: @escaping @Sendable (BareLoop) throws -> Result
) async throws -> Result {
    try await withCheckedThrowingContinuation { continuation in
        startThread(name: "bare") {
            continuation.resume(with: Swift.Result { try work(try BareLoop(port: port)) })
        }
    }
}

/// As little as librabbitmq lets one do. The queue exists already; the connection ends with the loop.
private final class BareLoop {
    private let state: amqp_connection_state_t

    init(port: Int) throws {
        guard let state = amqp_new_connection() else { throw BareFailure(step: "memory") }
        self.state = state
        guard let socket = amqp_tcp_socket_new(state), amqp_socket_open(socket, "127.0.0.1", Int32(port)) == 0
        else { throw BareFailure(step: "connecting") }
        var none = amqp_table_t(num_entries: 0, entries: nil)
        try check(convoke_amqp_login(state, "/", 0, &none, "guest", "guest"), "login")
        amqp_channel_open(state, 1)
        try check(amqp_get_rpc_reply(state), "channel")
        amqp_confirm_select(state, 1)
        try check(amqp_get_rpc_reply(state), "confirms")
    }

    deinit { amqp_destroy_connection(state) }

    func purge() throws {
        amqp_queue_purge(state, 1, amqp_cstring_bytes("bench"))
        try check(amqp_get_rpc_reply(state), "purge")
    }

    func fill(_ count: Int) throws {
        try purge()
        while published < count { try publish(min(200, count - Int(published)), leaving: 100) }
        try publish(0, leaving: 0)
    }

    func declareClassic(_ name: StaticString) throws {
        queue = name
        amqp_queue_declare(state, 1, bytes(name), 0, 1, 0, 0, amqp_table_t(num_entries: 0, entries: nil))
        try check(amqp_get_rpc_reply(state), "declaring")
    }

    /// For a second: up to 64 in flight, filled up whenever no more than `open` are left.
    func publishRate(leaving open: UInt64) throws -> Double {
        let time = SystemTime()
        let start = time.uptime
        while time.uptime - start < .seconds(1) {
            try publish(64 - Int(published - confirmed), leaving: open)
        }
        try publish(0, leaving: 0)
        return Double(published) / (time.uptime - start).inSeconds
    }

    /// Publishes so many, and waits until no more than `open` are unconfirmed.
    private func publish(_ batch: Int, leaving open: UInt64) throws {
        for number in published..<published + UInt64(batch) {
            try "m-\(number)".withCString { id in
                try "convoke-attempt".withCString { name in
                    var header = amqp_table_entry_t(
                        key: amqp_cstring_bytes(name), value: amqp_field_value_t())
                    header.value.kind = UInt8(AMQP_FIELD_KIND_I64.rawValue)
                    header.value.value.i64 = 1
                    try withUnsafeMutablePointer(to: &header) { header in
                        var properties = amqp_basic_properties_t()
                        properties._flags = amqp_flags_t(
                            AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG
                                | AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_HEADERS_FLAG)
                        properties.content_type = amqp_cstring_bytes("application/json")
                        properties.delivery_mode = 2
                        properties.message_id = amqp_cstring_bytes(id)
                        properties.headers = amqp_table_t(num_entries: 1, entries: header)
                        let status = body.withUnsafeBytes { content in
                            amqp_basic_publish(
                                state, 1, amqp_empty_bytes, bytes(queue), 1, 0, &properties,
                                amqp_bytes_t(
                                    len: content.count,
                                    bytes: UnsafeMutableRawPointer(mutating: content.baseAddress)))
                        }
                        guard status == 0 else { throw BareFailure(step: "publishing") }
                    }
                }
            }
        }
        published += UInt64(batch)
        while published - confirmed > open {
            amqp_maybe_release_buffers(state)
            var frame = amqp_frame_t()
            guard amqp_simple_wait_frame(state, &frame) == 0, frame.payload.method.id == convoke_basic_ack
            else {
                throw BareFailure(step: "confirm")
            }
            let ack = frame.payload.method.decoded.assumingMemoryBound(to: amqp_basic_ack_t.self).pointee
            // Single ones may come out of order.
            if ack.multiple != 0 {
                confirmed = max(confirmed, ack.delivery_tag)
            } else {
                early.insert(ack.delivery_tag)
            }
            while early.remove(confirmed + 1) != nil { confirmed += 1 }
        }
        early = early.filter { $0 > confirmed }
    }
    private var queue: StaticString = "bench"
    private var published: UInt64 = 0
    private var confirmed: UInt64 = 0
    private var early: Set<UInt64> = []

    func consume(_ count: Int, prefetch: UInt16, ackEvery batch: Int) throws {
        amqp_basic_qos(state, 1, 0, prefetch, 0)
        try check(amqp_get_rpc_reply(state), "prefetch")
        amqp_basic_consume(
            state, 1, amqp_cstring_bytes("bench"), amqp_empty_bytes, 0, 0, 0, amqp_empty_table)
        try check(amqp_get_rpc_reply(state), "subscribing")
        for number in 1...count {
            amqp_maybe_release_buffers(state)
            var envelope = amqp_envelope_t()
            try check(amqp_consume_message(state, &envelope, nil, 0), "reading")
            let tag = envelope.delivery_tag
            amqp_destroy_envelope(&envelope)
            if number % batch == 0 || number == count {
                guard amqp_basic_ack(state, 1, tag, 1) == 0 else { throw BareFailure(step: "ack") }
            }
        }
    }

    /// A static string outlives every call.
    private func bytes(_ text: StaticString) -> amqp_bytes_t {
        amqp_bytes_t(len: text.utf8CodeUnitCount, bytes: UnsafeMutableRawPointer(mutating: text.utf8Start))
    }

    private func check(_ reply: amqp_rpc_reply_t, _ step: String) throws {
        guard reply.reply_type == AMQP_RESPONSE_NORMAL else { throw BareFailure(step: step) }
    }
}
