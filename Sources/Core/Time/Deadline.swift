/// The work took longer than it was given.
public struct DeadlineExceeded: Error, Equatable {
    public let limit: Duration
    public init(limit: Duration) { self.limit = limit }
}

/// Runs `work` and cancels it when `limit` has passed; then throws `DeadlineExceeded`.
///
/// Waits for the cancelled work to end, so `work` has to honour cancellation.
public func withDeadline<Result: Sendable>(
    _ limit: Duration, _ time: any TimeSource,
    _ work: @escaping @Sendable () async throws -> Result
) async throws -> Result {
    try await withThrowingTaskGroup(of: Result?.self) { group in
        group.addTask { try await work() }
        group.addTask {
            try await time.sleep(for: limit)
            return nil
        }
        defer { group.cancelAll() }
        guard let first = try await group.next(), let result = first else {
            throw DeadlineExceeded(limit: limit)
        }
        return result
    }
}
