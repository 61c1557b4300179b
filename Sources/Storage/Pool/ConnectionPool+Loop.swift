import Core
import Synchronization

/// What a loop calls when a lane's connection has something to read.
final class LaneSocket: LoopSocket {
    private unowned let lane: ConnectionPool.Lane
    private weak var pool: ConnectionPool?

    init(_ lane: ConnectionPool.Lane, _ pool: ConnectionPool) {
        self.lane = lane
        self.pool = pool
    }

    func isReady(_: LoopEvents) { pool?.isReady(lane) }
}

extension ConnectionPool {
    func drainOnLoop(_ lane: Lane, _ loop: EventLoop) {
        guard join(lane, loop) else { return onThread(lane) { self.drain(lane) } }
        while true {
            switch take(for: lane, onLoop: true) {
            case .nothing: return
            case .closed: return onThread(lane) { self.drain(lane) }
            case .jobs(let jobs):
                guard let connection = lane.watched, connection.isUsable, jobs.allSatisfy({ $0.isShort })
                else {
                    return onThread(lane) { if self.work(on: jobs, lane) { self.drain(lane) } }
                }
                context.metrics.inUse.add(1)
                lane.batch = Batch(jobs: jobs, started: context.time.uptime)
                connection.start(Self.statements(of: jobs)) { self.report($0, $1, lane) }
                guard connection.flushAtOnce() else { return finishOnThread(lane) }
                guard goOn(connection, lane) else { return }
            }
        }
    }

    /// Whether the batch is over and the lane still the loop's.
    private func goOn(_ connection: any WatchedConnection, _ lane: Lane) -> Bool {
        switch connection.goOn(waits: false, { self.report($0, $1, lane) }) {
        case .waiting: return false
        case .blocked:
            finishOnThread(lane)
            return false
        case .finished:
            endBatch(lane)
            context.metrics.inUse.add(-1)
            guard connection.isUsable else {
                onThread(lane) {
                    self.replaceIfBroken(lane)
                    self.drain(lane)
                }
                return false
            }
            return true
        }
    }

    func isReady(_ lane: Lane) {
        guard let connection = lane.watched else { return }
        if lane.batch != nil {
            // What cannot be read any more cannot be waited for either: going on finds out that it broke.
            guard connection.takeIn() else { return finishOnThread(lane) }
            if goOn(connection, lane), let loop = lane.loop { drainOnLoop(lane, loop) }
        } else if !connection.notice() {
            let isIdle = state.withLock { state in
                guard let index = state.idleOnLoop.firstIndex(where: { $0 === lane }) else { return false }
                state.idleOnLoop.remove(at: index)
                return true
            }
            // Else somebody has just picked it, and will see.
            guard isIdle else { return }
            onThread(lane) {
                self.replaceIfBroken(lane)
                self.drain(lane)
            }
        }
    }

    private func finishOnThread(_ lane: Lane) {
        onThread(lane) {
            if let connection = lane.watched {
                _ = connection.goOn(waits: true) { self.report($0, $1, lane) }
            }
            self.endBatch(lane)
            self.context.metrics.inUse.add(-1)
            self.replaceIfBroken(lane)
            self.drain(lane)
        }
    }

    /// The loop takes the lane, which no other has; false where it cannot.
    private func join(_ lane: Lane, _ loop: EventLoop) -> Bool {
        guard let connection = lane.watched else { return false }
        guard lane.loop == nil else { return true }
        let socket = LaneSocket(lane, self)
        // As long as there is something to read: libpq does not say whether it has read everything.
        guard loop.watch(connection.descriptor, for: socket, onlyReadable: true) else { return false }
        lane.loop = loop
        return true
    }

    /// The loop that has the lane gives it up, and the lane's thread goes on with it.
    func onThread(_ lane: Lane, _ work: @escaping @Sendable () -> Void) {
        leave(lane) { lane.thread.perform(work) }
    }

    /// `loop` goes on with the lane, whichever had it.
    func onLoop(_ loop: EventLoop, _ lane: Lane, _ work: @escaping @Sendable () -> Void) {
        let goOn: @Sendable () -> Void = { if loop.isCurrent { work() } else { loop.perform(work) } }
        if lane.loop === loop { goOn() } else { leave(lane, goOn) }
    }

    private func leave(_ lane: Lane, _ then: @escaping @Sendable () -> Void) {
        guard let loop = lane.loop else { return then() }
        let leave: @Sendable () -> Void = {
            if let connection = lane.watched { loop.forget(connection.descriptor) }
            lane.loop = nil
            then()
        }
        if loop.isCurrent { leave() } else { loop.perform(leave) }
    }
}

extension ConnectionPool.Job {
    /// Whether the server takes it at once; a longer one goes out on a thread, which may wait for that.
    fileprivate var isShort: Bool {
        guard case .statement(let sql, _) = work else { return false }
        var size = sql.text.utf8.count
        for argument in sql.arguments {
            switch argument {
            case .text(let text): size += text.utf8.count
            case .bytes(let bytes): size += bytes.count
            default: size += 8
            }
        }
        return size <= 16 << 10
    }
}
