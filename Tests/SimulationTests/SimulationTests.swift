import Core
import Simulation
import Synchronization
import Testing

/// Workers that take turns at an actor, with sleeps of equal length, so that only the order is uncertain.
private actor Board {
    private(set) var lines: [String] = []
    func write(_ line: String) { lines.append(line) }
}

private func order(seed: UInt64) throws -> [String] {
    try Simulation(seed: seed).run { world in
        let board = Board()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for worker in 1...4 {
                group.addTask {
                    for turn in 1...3 {
                        try await world.sleep(for: .seconds(1))
                        await board.write("\(worker).\(turn)")
                        world.note("\(worker).\(turn)")
                    }
                }
            }
            try await group.waitForAll()
        }
        return await board.lines + world.trace
    }
}

@Suite struct `A simulation` {
    @Test(arguments: [1, 2, 3, 99] as [UInt64])
    func `runs the same way again with the same seed`(seed: UInt64) throws {
        #expect(try order(seed: seed) == order(seed: seed))
    }

    @Test func `runs in another order with another seed`() throws {
        let orders = try Set((1...20).map { try order(seed: $0) })
        #expect(orders.count > 10)
    }

    @Test func `moves its clock from deadline to deadline, without waiting`() throws {
        let world = Simulation(seed: 1)
        let start = world.now
        let moments = try world.run { world in
            try await world.sleep(for: .days(400))
            let first = world.now
            try await world.sleep(for: .milliseconds(1))
            return [first, world.now]
        }
        #expect(moments == [start + .days(400), start + .days(400) + .milliseconds(1)])
    }

    @Test func `wakes sleepers in the order of their deadlines`() throws {
        let woken = try Simulation(seed: 7).run { world in
            let board = Board()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for seconds in [5, 1, 3, 2, 4] {
                    group.addTask {
                        try await world.sleep(for: .seconds(seconds))
                        await board.write("\(seconds)")
                    }
                }
                try await group.waitForAll()
            }
            return await board.lines
        }
        #expect(woken == ["1", "2", "3", "4", "5"])
    }

    @Test func `sets its wall clock without waking anybody`() throws {
        let world = Simulation(seed: 1)
        let start = world.now
        let (wall, uptime) = try world.run { world in
            async let slept: Void = world.sleep(for: .seconds(10))
            world.moveWallClock(by: .hours(-5))
            try await slept
            return (world.now, world.uptime)
        }
        #expect(wall == start + .hours(-5) + .seconds(10))
        #expect(uptime == .seconds(10))
    }

    @Test func `notices a deadlock`() {
        #expect(throws: Simulation.Stalled(seed: 5)) {
            try Simulation(seed: 5).run { _ in
                let (stream, _) = AsyncStream<Int>.makeStream()
                for await _ in stream {}
            }
        }
    }

    @Test func `notices work that never ends`() {
        #expect(throws: Simulation.Endless(seed: 5)) {
            try Simulation(seed: 5).run(steps: 1000) { world in
                while true { try await world.sleep(for: .seconds(1)) }
            }
        }
    }

    @Test func `wakes a sleeper that is cancelled`() throws {
        let world = Simulation(seed: 3)
        try world.run { world in
            await withTaskGroup(of: Void.self) { group in
                group.addTask { try? await world.sleep(for: .days(1)) }
                group.addTask { try? await world.sleep(for: .seconds(1)) }
                await group.next()
                group.cancelAll()
            }
        }
        #expect(world.uptime == .seconds(1))
    }

    @Test func `honours a deadline in virtual time`() throws {
        #expect(throws: DeadlineExceeded(limit: .seconds(30))) {
            try Simulation(seed: 4).run { world in
                try await withDeadline(.seconds(30), world) { try await world.sleep(for: .hours(1)) }
            }
        }
    }
}

@Suite struct `A simulated process` {
    @Test func `that crashes runs nothing after it, and is started anew`() throws {
        let world = Simulation(seed: 2)
        let lines = try world.run { world in
            let board = Board()
            await world.supervise("worker") { process in
                await board.write("start \(process.incarnation)")
                if process.incarnation < 3 { await process.crash() }
                await board.write("end \(process.incarnation)")
            }
            return await board.lines
        }
        #expect(lines == ["start 1", "start 2", "start 3", "end 3"])
        #expect(world.trace.count == 2)
    }

    @Test func `that crashes takes its sleeping children along`() throws {
        let lines = try Simulation(seed: 2).run { world in
            let board = Board()
            await world.supervise("worker") { process in
                guard process.incarnation == 1 else { return await board.write("anew") }
                await withTaskGroup(of: Void.self) { group in
                    group.addTask {
                        try? await process.sleep(for: .seconds(1))
                        await board.write("the child woke")
                    }
                    group.addTask { await process.crash() }
                }
            }
            try await world.sleep(for: .hours(1))
            return await board.lines
        }
        #expect(lines == ["anew"])
    }

    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func `sees every fault sooner or later, and counts what truly happened`(seed: UInt64) throws {
        let faults = Faults(lostRequest: 0.2, lostAnswer: 0.2, repeated: 0.2, crash: 0.05)
        let (done, answered, unanswered) = try Simulation(seed: seed).run { world in
            let board = Board()
            let answers = Board()
            let losses = Board()
            await world.supervise("caller") { process in
                for call in 1...100 {
                    do {
                        try await process.call(faults) { await board.write("\(call)") }
                        await answers.write("")
                    } catch { await losses.write("") }
                }
            }
            return await (board.lines.count, answers.lines.count, losses.lines.count)
        }
        #expect(answered >= 40)
        #expect(unanswered > 10)
        #expect(done > answered)
    }
}
