import Broker
import Core
import Synchronization
import TestServers
import Testing

/// What every broker must do, asked of each one we ship.
@Suite(.timeLimit(.minutes(5))) struct `A broker` {
    @Test(arguments: Engine.available)
    func `hands a message over with everything it carries`(engine: Engine) async throws {
        let world = try await engine.world([Queue("work")])
        let broker = try await world.open()
        let message = Message(
            id: "m-1", body: [0, 1, 2, 255], contentType: "application/octet-stream",
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", requestID: "r-1")
        try await broker.publish(message, to: "work")
        let seen = Collector()
        let consumer = Task {
            try await broker.consume(["work"]) { delivery in
                seen.add(delivery)
                return .ack
            }
        }
        try await seen.wait(for: 1)
        consumer.cancel()
        try await consumer.value
        #expect(seen.deliveries == [Delivery(message: message, queue: "work", attempt: 1)])
        #expect(world.metrics.text.contains("broker_published_total{queue=\"work\"} 1"))
        #expect(world.metrics.text.contains("broker_consumed_total{queue=\"work\",verdict=\"ack\"} 1"))
        await broker.close()
    }

    @Test(arguments: Engine.available)
    func `refuses a queue that nobody declared`(engine: Engine) async throws {
        let world = try await engine.world([Queue("work")])
        let broker = try await world.open()
        let error = BrokerError.unroutable(queue: "wrok")
        await #expect(throws: error) { try await broker.publish(.named("m-1"), to: "wrok") }
        await #expect(throws: error) {
            try await broker.publish(.named("m-1"), to: "wrok", after: .seconds(1))
        }
        await #expect(throws: error) { try await broker.consume(["wrok"]) { _ in .ack } }
        await #expect(throws: error) { try await broker.depth(of: "wrok") }
        try await broker.publish(.named("m-2"), to: "work")
        await broker.close()
    }

    @Test(arguments: Engine.available)
    func `refuses a message that no broker could carry`(engine: Engine) async throws {
        let broker = try await engine.world([Queue("work")]).open()
        await #expect(throws: BrokerError.self) { try await broker.publish(.named(""), to: "work") }
        let long = String(repeating: "x", count: 256)
        await #expect(throws: BrokerError.self) { try await broker.publish(.named(long), to: "work") }
        let big = Message(id: "big", body: Array(repeating: 0, count: Message.maximumBody + 1))
        await #expect(throws: BrokerError.self) { try await broker.publish(big, to: "work") }
        try await broker.publish(
            Message(id: "largest", body: Array(repeating: 7, count: Message.maximumBody)), to: "work")
        await broker.close()
    }

    @Test(arguments: Engine.available)
    func `serves high before normal before low`(engine: Engine) async throws {
        let names = ["high", "normal", "low"]
        let world = try await engine.world(names.map { Queue($0) })
        let broker = try await world.open()
        try await broker.publish(.named("first"), to: "low")
        let seen = Collector()
        let gate = Gate()
        let consumer = Task {
            try await broker.consume(names, ConsumerOptions(concurrency: 1, prefetch: 10)) { delivery in
                seen.add(delivery)
                await gate.pass()
                return .ack
            }
        }
        try await seen.wait(for: 1)
        for name in names.reversed() {
            for number in 1...2 { try await broker.publish(.named("\(name)-\(number)"), to: name) }
        }
        if engine.takesAhead {
            for name in names {
                let waiting = "broker_prefetched{queue=\"\(name)\"} 2"
                try await eventually { world.metrics.text.contains(waiting) }
            }
        }
        gate.open()
        try await seen.wait(for: 7)
        consumer.cancel()
        try await consumer.value
        #expect(seen.ids == ["first", "high-1", "high-2", "normal-1", "normal-2", "low-1", "low-2"])
        await broker.close()
    }

    @Test(arguments: Engine.available)
    func `counts attempts, and makes a dead letter of what used them up`(engine: Engine) async throws {
        let queue = Queue("work", maximumAttempts: 3)
        let world = try await engine.world([queue])
        let broker = try await world.open()
        try await broker.publish(.named("m-1"), to: "work")
        let seen = Collector()
        let dead = Collector()
        let consumer = Task {
            try await broker.consume(["work"]) { delivery in
                seen.add(delivery)
                return .retry(after: .zero)
            }
        }
        let undertaker = Task {
            try await broker.consume([queue.deadLetters]) { delivery in
                dead.add(delivery)
                return .ack
            }
        }
        try await dead.wait(for: 1)
        consumer.cancel()
        undertaker.cancel()
        try await consumer.value
        try await undertaker.value
        #expect(seen.deliveries.map(\.attempt) == [1, 2, 3])
        #expect(dead.deliveries.map(\.message) == [.named("m-1")])
        #expect(dead.deliveries.map(\.attempt) == [3])
        #expect(dead.deliveries.first?.reason?.contains("3 attempts") == true)
        #expect(world.metrics.text.contains("broker_dead_total{queue=\"work\"} 1"))
        await broker.close()
    }

    @Test(arguments: Engine.available)
    func `tries again after an error, with the queue's backoff`(engine: Engine) async throws {
        let quick = Backoff(first: .milliseconds(20), ceiling: .milliseconds(20))
        let broker = try await engine.world([Queue("work", backoff: quick)]).open()
        try await broker.publish(.named("m-1"), to: "work")
        let seen = Collector()
        let consumer = Task {
            try await broker.consume(["work"]) { delivery in
                seen.add(delivery)
                if delivery.attempt < 3 { throw NeverHappened() }
                return .ack
            }
        }
        try await seen.wait(for: 3)
        consumer.cancel()
        try await consumer.value
        #expect(seen.deliveries.map(\.attempt) == [1, 2, 3])
        await broker.close()
    }

    @Test(arguments: Engine.available)
    func `makes a dead letter of what is rejected, at once and with the reason`(engine: Engine) async throws {
        let queue = Queue("work")
        let broker = try await engine.world([queue]).open()
        for number in 1...2 { try await broker.publish(.named("m-\(number)"), to: "work") }
        let seen = Collector()
        let consumer = Task {
            try await broker.consume(["work"]) { delivery in
                seen.add(delivery)
                return .reject(reason: "no such group")
            }
        }
        try await seen.wait(for: 2)
        consumer.cancel()
        try await consumer.value
        try await eventually { try await broker.depth(of: queue.deadLetters) == 2 }

        let dead = Collector()
        let undertaker = Task {
            try await broker.consume([queue.deadLetters]) { delivery in
                dead.add(delivery)
                // Among the dead letters nothing dies a second time.
                return .reject(reason: "seen")
            }
        }
        try await dead.wait(for: 2)
        undertaker.cancel()
        try await undertaker.value
        #expect(Set(dead.ids) == ["m-1", "m-2"])
        #expect(dead.deliveries.allSatisfy { $0.reason == "no such group" && $0.attempt == 1 })
        #expect(try await broker.depth(of: queue.deadLetters) == 0)
        await broker.close()
    }

    @Test(arguments: Engine.available)
    func `keeps a delayed message back, and not those behind it`(engine: Engine) async throws {
        let broker = try await engine.world([Queue("work")]).open()
        let time = SystemTime()
        try await broker.publish(.named("late"), to: "work", after: .hours(1))
        let soon = time.now + .milliseconds(150)
        try await broker.publish(.named("soon"), to: "work", after: .milliseconds(150))
        try await broker.publish(.named("now"), to: "work")
        let seen = Collector()
        let consumer = Task {
            try await broker.consume(["work"]) { delivery in
                if delivery.message.id == "soon" { #expect(time.now >= soon) }
                #expect(delivery.attempt == 1)
                seen.add(delivery)
                return .ack
            }
        }
        try await seen.wait(for: 2)
        consumer.cancel()
        try await consumer.value
        // Which of the two came first is the machine's affair: the delay may be over before both are sent.
        #expect(Set(seen.ids) == ["now", "soon"])
        await broker.close()
    }

    @Test(arguments: Engine.available)
    func `keeps a message back between two attempts`(engine: Engine) async throws {
        let broker = try await engine.world([Queue("work")]).open()
        try await broker.publish(.named("m-1"), to: "work")
        let time = SystemTime()
        let earliest = Mutex(time.now)
        let seen = Collector()
        let consumer = Task {
            try await broker.consume(["work"]) { delivery in
                #expect(time.now >= earliest.withLock { $0 })
                seen.add(delivery)
                earliest.withLock { $0 = time.now + .milliseconds(300) }
                return delivery.attempt == 1 ? .retry(after: .milliseconds(300)) : .ack
            }
        }
        try await seen.wait(for: 2)
        consumer.cancel()
        try await consumer.value
        #expect(seen.deliveries.map(\.attempt) == [1, 2])
        await broker.close()
    }

    @Test(arguments: Engine.available)
    func `gives what a crashed consumer held to another, as a further attempt`(engine: Engine) async throws {
        let world = try await engine.world([Queue("work")])
        let broker = try await world.open()
        try await broker.publish(.named("m-1"), to: "work")
        #expect(try await world.crash("work") == 1)
        let survivor = try await world.open()
        let seen = Collector()
        let consumer = Task {
            try await survivor.consume(["work"]) { delivery in
                seen.add(delivery)
                return .ack
            }
        }
        try await seen.wait(for: 1)
        consumer.cancel()
        try await consumer.value
        #expect(seen.deliveries == [Delivery(message: .named("m-1"), queue: "work", attempt: 2)])
        #expect(world.metrics.text.contains("broker_redelivered_total{queue=\"work\"} 1"))
        await survivor.close()
        await broker.close()
    }

    @Test(arguments: Engine.available)
    func `makes a dead letter of what kills every consumer`(engine: Engine) async throws {
        let queue = Queue("work", maximumAttempts: 2)
        let world = try await engine.world([queue])
        let broker = try await world.open()
        try await broker.publish(.named("poison"), to: "work")
        #expect(try await world.crash("work") == 1)
        #expect(try await world.crash("work") == 2)
        let survivor = try await world.open()
        let seen = Collector()
        let dead = Collector()
        let consumer = Task {
            try await survivor.consume(["work", queue.deadLetters]) { delivery in
                (delivery.queue == "work" ? seen : dead).add(delivery)
                return .ack
            }
        }
        try await dead.wait(for: 1)
        consumer.cancel()
        try await consumer.value
        #expect(seen.ids.isEmpty)
        #expect(dead.deliveries.map(\.attempt) == [2])
        await survivor.close()
        await broker.close()
    }

    @Test(arguments: Engine.available)
    func `stops by letting what runs finish, and leaving the rest untouched`(engine: Engine) async throws {
        let world = try await engine.world([Queue("work")])
        let broker = try await world.open()
        for number in 1...5 { try await broker.publish(.named("m-\(number)"), to: "work") }
        let first = Collector()
        let gate = Gate()
        let finished = Collector()
        let consumer = Task {
            try await broker.consume(["work"], ConsumerOptions(concurrency: 1, prefetch: 5)) { delivery in
                first.add(delivery)
                await gate.pass()
                // What runs is not cancelled: this would throw.
                try Task.checkCancellation()
                finished.add(delivery)
                return .ack
            }
        }
        try await first.wait(for: 1)
        consumer.cancel()
        gate.open()
        try await consumer.value
        #expect(first.ids == ["m-1"])
        #expect(finished.ids == ["m-1"])

        let second = Collector()
        let successor = Task {
            try await broker.consume(["work"]) { delivery in
                second.add(delivery)
                return .ack
            }
        }
        try await second.wait(for: 4)
        successor.cancel()
        try await successor.value
        #expect(Set(second.ids) == ["m-2", "m-3", "m-4", "m-5"])
        #expect(second.deliveries.allSatisfy { $0.attempt == 1 })
        #expect(try await broker.depth(of: "work") == 0)
        await broker.close()
    }

    @Test(arguments: Engine.available)
    func `waits for nobody when there is nothing to finish`(engine: Engine) async throws {
        let broker = try await engine.world([Queue("work")]).open()
        let consumer = Task { try await broker.consume(["work"]) { _ in .ack } }
        #expect(try await broker.depth(of: "work") == 0)
        consumer.cancel()
        try await consumer.value
        await broker.close()
    }

    @Test(arguments: Engine.available)
    func `loses nothing between many publishers and several consumers`(engine: Engine) async throws {
        let world = try await engine.world([Queue("work")])
        let publisher = try await world.open()
        let consumers = [try await world.open(), try await world.open()]
        let seen = Collector()
        let consuming = consumers.map { broker in
            Task {
                try await broker.consume(["work"], ConsumerOptions(concurrency: 8, prefetch: 20)) {
                    delivery in
                    seen.add(delivery)
                    return .ack
                }
            }
        }
        let (publishers, each) = (16, 20)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<publishers {
                group.addTask {
                    for count in 0..<each {
                        try await publisher.publish(.named("\(number)-\(count)"), to: "work")
                    }
                }
            }
            try await group.waitForAll()
        }
        try await seen.wait(for: publishers * each)
        for task in consuming { task.cancel() }
        for task in consuming { try await task.value }
        // No consumer died, so nothing came twice.
        #expect(seen.ids.count == publishers * each)
        #expect(Set(seen.ids).count == publishers * each)
        #expect(try await publisher.depth(of: "work") == 0)
        for broker in [publisher] + consumers { await broker.close() }
    }

    @Test(arguments: Engine.available)
    func `keeps what was confirmed when everyone leaves`(engine: Engine) async throws {
        let world = try await engine.world([Queue("work")])
        let first = try await world.open()
        for number in 1...3 { try await first.publish(.named("m-\(number)"), to: "work") }
        await first.close()
        let second = try await world.open()
        try await eventually { try await second.depth(of: "work") == 3 }
        await second.close()
    }

    @Test(arguments: Engine.available)
    func `says so when it is closed`(engine: Engine) async throws {
        let broker = try await engine.world([Queue("work")]).open()
        try await broker.publish(.named("m-1"), to: "work")
        await broker.close()
        await #expect(throws: BrokerError.closed) { try await broker.publish(.named("m-2"), to: "work") }
        await #expect(throws: BrokerError.closed) { try await broker.ping() }
    }
}
