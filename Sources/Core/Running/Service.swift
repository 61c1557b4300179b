/// Something that runs until its task is cancelled: a listener, a worker, a scheduler.
public protocol Service: Sendable {
    /// What it is called in the log.
    var name: String { get }

    /// Returns once it is cancelled and has finished what it had begun. Returning earlier, or throwing,
    /// ends the process: nothing in a service stops silently.
    func run() async throws
}

/// A service made of a closure.
public struct ClosureService: Service {
    public let name: String
    private let body: @Sendable () async throws -> Void

    public init(_ name: String, _ body: @escaping @Sendable () async throws -> Void) {
        self.name = name
        self.body = body
    }

    public func run() async throws { try await body() }
}

/// A service ended although nobody had asked it to.
public struct ServiceEnded: Error, CustomStringConvertible {
    public let name: String
    public var description: String { "\(name) ended by itself" }
}

/// Runs all until one fails or the task is cancelled. The services stop in the reverse order of the list,
/// one after another, so that a listener stops before the connections it uses.
public func runAll(_ services: [any Service], log: Log) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
        var stops: [Task<Void, any Error>] = []
        for service in services {
            // Each is a task of its own, not a child, so that they can be cancelled one by one, in order.
            stops.append(Task.detached { try await service.run() })
        }
        let running = Array(zip(services, stops))
        for (service, task) in running {
            group.addTask {
                try await task.value
                if !Task.isCancelled { throw ServiceEnded(name: service.name) }
            }
        }
        let failure: (any Error)? = await withTaskCancellationHandler {
            await first(of: &group)
        } onCancel: {
            running.last?.1.cancel()
        }
        group.cancelAll()
        for (service, task) in running.reversed() {
            task.cancel()
            switch await task.result {
            case .success: log.debug("service.stopped", ["name": .id(service.name)])
            case .failure(let error) where error is CancellationError: break
            case .failure(let error):
                log.error("service.failed", ["name": .id(service.name), "error": .error(error)])
            }
        }
        if let failure, !(failure is CancellationError), !Task.isCancelled { throw failure }
    }
}

private func first(of group: inout ThrowingTaskGroup<Void, any Error>) async -> (any Error)? {
    do {
        _ = try await group.next()
        return nil
    } catch {
        return error
    }
}
