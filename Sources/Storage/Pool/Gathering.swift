import Synchronization

/// Short statements of many callers, several in one transaction: while one is on its way, the next gathers. What
/// comes alone goes alone, so that nobody ever waits for company.
///
/// They stand and fall together, so where one fails each is run by itself, and its caller hears what became of it.
final class Gathering: Sendable {
    private static let most = 32

    private struct Waiting: Sendable {
        let sql: SQL
        let waiter: CheckedContinuation<Rows, any Error>
    }
    private struct State {
        var waiting: [Waiting] = []
        var isAtWork = false
    }
    private let alone: @Sendable (SQL) async throws -> Rows
    private let together: @Sendable ([SQL]) async throws -> [Rows]
    private let state = Mutex(State())

    init(
        alone: @escaping @Sendable (SQL) async throws -> Rows,
        together: @escaping @Sendable ([SQL]) async throws -> [Rows]
    ) {
        self.alone = alone
        self.together = together
    }

    func run(_ sql: SQL) async throws -> Rows {
        try Task.checkCancellation()
        return try await withCheckedThrowingContinuation { waiter in
            let isFirst = state.withLock { state in
                state.waiting.append(Waiting(sql: sql, waiter: waiter))
                defer { state.isAtWork = true }
                return !state.isAtWork
            }
            // A driver's edge: a caller who goes away must not take the others' statements along.
            if isFirst { Task.detached { await self.work() } }
        }
    }

    private func work() async {
        while let batch = next() {
            if batch.count > 1, await carryOut(batch) { continue }
            await withDiscardingTaskGroup { group in
                for one in batch { group.addTask { await self.carryOut(one) } }
            }
        }
    }

    private func next() -> [Waiting]? {
        state.withLock { state in
            guard !state.waiting.isEmpty else {
                state.isAtWork = false
                return nil
            }
            let batch = Array(state.waiting.prefix(Self.most))
            state.waiting.removeFirst(batch.count)
            return batch
        }
    }

    /// Whether they have had their answers.
    private func carryOut(_ batch: [Waiting]) async -> Bool {
        do {
            let rows = try await together(batch.map(\.sql))
            for (one, rows) in zip(batch, rows) { one.waiter.resume(returning: rows) }
            return true
        } catch StorageError.unavailable(let reason, let mayHaveRun) {
            for one in batch {
                one.waiter.resume(
                    throwing: StorageError.unavailable(reason: reason, mayHaveRun: mayHaveRun))
            }
            return true
        } catch {
            return false
        }
    }

    private func carryOut(_ one: Waiting) async {
        do {
            one.waiter.resume(returning: try await alone(one.sql))
        } catch {
            one.waiter.resume(throwing: error)
        }
    }
}
