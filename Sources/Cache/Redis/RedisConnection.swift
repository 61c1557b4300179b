import CRedis
import Core

#if canImport(Glibc)
    import Glibc
#endif

/// The thread that talks to one Redis, and how calls get to it. The thread ends with the last handle.
final class RedisConnection: Sendable {
    let metrics: CacheMetrics
    private let outbox = RedisOutbox()

    init(_ location: RedisLocation, limit: Duration, log: Log, metrics: CacheMetrics) {
        self.metrics = metrics
        startThread(name: "redis:\(location.port)") { [outbox] in
            let talk = RedisConversation(location, limit: limit, outbox: outbox, log: log, metrics: metrics)
            talk.run()
        }
    }

    deinit { outbox.close() }

    func submit(_ call: RedisCall, _ waiter: UnsafeContinuation<CacheReply, any Error>) {
        guard call.begin(waiter) else { return }
        if let error = outbox.add(call) { call.fail(error) }
    }

    func close() async {
        outbox.close()
        await outbox.waitForEnd()
    }
}

/// What the thread does: connect, exchange batches, come back after a loss.
private final class RedisConversation {
    /// A batch ends here, so that one caller's gigabyte does not hold up what came after.
    private static let batchBytes = 4 << 20

    private let location: RedisLocation
    private let limit: Duration
    private let outbox: RedisOutbox
    private let log: Log
    private let metrics: CacheMetrics
    private let time = SystemTime()
    private let backoff = Backoff(first: .milliseconds(50), ceiling: .seconds(2))

    private var output: [UInt8] = []
    /// What the answers belong to, in order; `nil` for what we asked ourselves.
    private var expected: [RedisCall?] = []
    private var answered = 0
    private var database = 0

    init(_ location: RedisLocation, limit: Duration, outbox: RedisOutbox, log: Log, metrics: CacheMetrics) {
        self.location = location
        self.limit = limit
        self.outbox = outbox
        self.log = log.with(["host": .text(location.host), "port": .int(location.port)])
        self.metrics = metrics
    }

    func run() {
        var attempt = 0
        var isConnected = false
        while !outbox.isClosed {
            do {
                let socket = try connect()
                if attempt > 0 { log.info("cache.reconnected", ["attempts": .int(attempt)]) }
                attempt = 0
                outbox.setFailure(nil)
                isConnected = true
                metrics.connected.set(1)
                try serve(socket)
            } catch RedisFailure.closing {
                break
            } catch {
                let wasConnected = isConnected
                isConnected = false
                metrics.connected.set(0)
                abandon()
                log.error("cache.lost", ["reason": .text("\(error)"), "attempt": .int(attempt)])
                metrics.losses.increment()
                attempt += 1
                // The first try after a loss is made at once, and callers may wait for it.
                if wasConnected { continue }
                let isDenied =
                    if case RedisFailure.refused(let text) = error {
                        CacheError(reply: text) == .denied
                    } else { false }
                outbox.setFailure(isDenied ? .denied : .unavailable(mayHaveRun: false))
                sleep(backoff.delay(after: attempt, SystemRandom()))
            }
        }
        metrics.connected.set(0)
        outbox.end()
    }

    /// Waits, unless the cache is closed meanwhile.
    private func sleep(_ duration: Duration) {
        let end = time.uptime + duration
        while !outbox.isClosed {
            let left = (end - time.uptime).milliseconds
            guard left > 0 else { return }
            var wait = pollfd(fd: outbox.signal, events: Int16(POLLIN), revents: 0)
            if poll(&wait, 1, Int32(clamping: left)) > 0 { outbox.drainSignal() }
        }
    }

    private func connect() throws -> RedisSocket {
        let socket = try RedisSocket(
            // hiredis waits for this in one piece, and no caller's time ends meanwhile: so it is short.
            host: location.host, port: location.port, limit: min(limit, .seconds(1)),
            largestReply: CacheCommand.largestValue + (1 << 20))
        var commands: [[UInt8]] = []
        if let password = location.password {
            let name = location.user.map { [CacheBytes($0)] } ?? []
            commands.append(encode("AUTH", name + [CacheBytes(password.expose())]))
        }
        // Also tells whether this is a Redis that lets us in at all.
        commands.append(encode("SELECT", [CacheBytes(location.base)]))
        database = location.base
        let end = time.uptime + limit
        func onTick() throws {
            if outbox.isClosed { throw RedisFailure.closing }
            if time.uptime > end { throw RedisFailure.silent }
            outbox.expire(at: time.uptime)
        }
        try socket.send(Array(commands.joined())) { _ in try onTick() }
        var missing = commands.count
        while missing > 0 {
            try socket.receive(
                { result in
                    missing -= 1
                    if case .failure(let error as RedisErrorReply) = result {
                        throw RedisFailure.refused(error.text)
                    }
                }, onTick: onTick)
        }
        return socket
    }

    private func serve(_ socket: RedisSocket) throws {
        while true {
            let calls = outbox.take(orPark: true)
            guard !calls.isEmpty else {
                if outbox.isClosed { throw RedisFailure.closing }
                try socket.idle(until: outbox.signal)
                outbox.drainSignal()
                continue
            }
            var rest = grouped(calls)[...]
            do {
                while !rest.isEmpty { try exchange(&rest, socket) }
            } catch {
                // Not sent yet, so there is no doubt about these.
                for call in rest { call.fail(.unavailable(mayHaveRun: false)) }
                throw error
            }
        }
    }

    /// Calls of one database side by side, so that it has to be selected once a batch; otherwise as they came.
    private func grouped(_ calls: [RedisCall]) -> [RedisCall] {
        guard let first = calls.first, calls.contains(where: { $0.database != first.database }) else {
            return calls
        }
        var groups: [Int: [RedisCall]] = [:]
        for call in calls { groups[call.database, default: []].append(call) }
        // The selected one first.
        return groups.keys.sorted { ($0 != database ? 1 : 0, $0) < ($1 != database ? 1 : 0, $1) }
            .flatMap { groups[$0] ?? [] }
    }

    /// Sends one batch off the front of `calls` and hands the answers out.
    private func exchange(_ calls: inout ArraySlice<RedisCall>, _ socket: RedisSocket) throws {
        let start = time.uptime
        output.removeAll(keepingCapacity: output.capacity <= Self.batchBytes)
        expected.removeAll(keepingCapacity: true)
        answered = 0
        while let call = calls.first, output.count < Self.batchBytes {
            calls.removeFirst()
            guard call.isWaiting else { continue }
            guard call.deadline > start else {
                call.fail(.unavailable(mayHaveRun: false))
                continue
            }
            if call.database != database {
                output += encode("SELECT", [CacheBytes(call.database)])
                expected.append(nil)
                database = call.database
            }
            output += call.bytes
            expected.append(call)
        }
        guard !expected.isEmpty else { return }
        var lastSign = start
        var mustReconnect = false
        func onTick(_ progressed: Bool) throws {
            let now = time.uptime
            if progressed { lastSign = now }
            for case let call? in expected[answered...] where call.deadline <= now {
                call.fail(.unavailable(mayHaveRun: true))
            }
            outbox.expire(at: now)
            if now - lastSign > limit { throw RedisFailure.silent }
        }
        try socket.send(output, onTick: onTick)
        while answered < expected.count {
            var progressed = false
            try socket.receive(
                { result in
                    progressed = true
                    guard answered < expected.count else {
                        throw RedisFailure.protocolBroken("an answer too many")
                    }
                    let call = expected[answered]
                    answered += 1
                    if let call {
                        call.finish(result)
                        if case .failure(let error as RedisErrorReply) = result {
                            metrics.errors.increment()
                            // This server has become a replica: the name may lead to the new one by now.
                            if error.text.hasPrefix("READONLY") { mustReconnect = true }
                        }
                    } else if case .failure(let error as RedisErrorReply) = result {
                        // Without its database nothing behind it may count: it went to the one before.
                        throw RedisFailure.refused(error.text)
                    }
                }, onTick: { try onTick(false) })
            if progressed { lastSign = time.uptime }
        }
        metrics.commands.increment(by: expected.count)
        metrics.batch.observe(Double(expected.count))
        metrics.seconds.observe(time.uptime - start)
        if mustReconnect { throw RedisFailure.refused("READONLY") }
    }

    /// Tells the callers of the batch under way that there will be no answer.
    private func abandon() {
        for case let call? in expected[min(answered, expected.count)...] {
            call.fail(.unavailable(mayHaveRun: true))
        }
        expected = []
        answered = 0
    }
}

/// The figures of one Redis connection.
struct CacheMetrics: Sendable {
    let commands: Counter
    let errors: Counter
    let losses: Counter
    let scriptsLoaded: Counter
    let connected: Gauge
    let batch: Histogram
    let seconds: Histogram

    init(_ metrics: Metrics) {
        commands = metrics.counter("cache_commands_total", "Commands answered by Redis")
        errors = metrics.counter("cache_error_replies_total", "Commands Redis answered with an error")
        losses = metrics.counter("cache_losses_total", "Connections lost and attempts that failed")
        scriptsLoaded = metrics.counter(
            "cache_scripts_loaded_total", "Scripts sent whole, Redis not knowing them")
        connected = metrics.gauge("cache_connected", "1 while the connection to Redis stands")
        batch = metrics.histogram(
            "cache_batch_commands", "Commands in one write",
            buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256, 1024])
        seconds = metrics.histogram("cache_batch_seconds", "From a batch's write to its last answer")
    }
}
