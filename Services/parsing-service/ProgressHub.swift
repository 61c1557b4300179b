import Core
import HTTP
import Parsing
import ServiceKit
import Synchronization

/// Tells all who listen how far tasks are. The store is asked once for everybody, and each news is put into
/// words once, so that a thousand listeners cost a parse nothing.
final class ProgressHub: Service {
    static let interval: Duration = .milliseconds(500)

    /// How a task stands, as events that are ready to go out.
    struct News: Sendable {
        struct Events: Sendable {
            let progress: EncodedEvent
            let done: EncodedEvent
        }
        let revision: Int64
        let isLast: Bool
        private let events: [Events]

        init(_ task: ParseTask?, revision: Int64, at now: Timestamp) {
            self.revision = revision
            isLast = task?.status.isFinal ?? true
            events = Language.allCases.map { language in
                let data = task?.progressJSON(language, at: now).text ?? #"{"status":"deleted"}"#
                func event(_ name: String) -> EncodedEvent {
                    ServerSentEvent(id: String(revision), name: name, data: data).encoded
                }
                return Events(progress: event("progress"), done: event("done"))
            }
        }

        func events(_ language: Language) -> Events {
            events[Language.allCases.firstIndex(of: language) ?? 0]
        }
    }

    let name = "progress-hub"
    private let store: ParseStore
    private let readiness: Readiness
    private let time: any TimeSource
    private let log: Log

    private struct State {
        var next = 0
        var listeners: [Int64: [Int: AsyncStream<News>.Continuation]] = [:]
        var told: [Int64: Int64] = [:]
        var count = 0
    }
    private let state = Mutex(State())

    init(store: ParseStore, readiness: Readiness, time: any TimeSource, log: Log) {
        self.store = store
        self.readiness = readiness
        self.time = time
        self.log = log
    }

    var listenerCount: Int { state.withLock { $0.count } }

    /// The news of a task from now on; who is slow gets the newest.
    func listen(to task: Int64) -> AsyncStream<News> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: News.self, bufferingPolicy: .bufferingNewest(1))
        let number = state.withLock { state in
            state.next += 1
            state.count += 1
            state.listeners[task, default: [:]][state.next] = continuation
            return state.next
        }
        continuation.onTermination = { [weak self] _ in self?.leave(task, number) }
        return stream
    }

    private func leave(_ task: Int64, _ number: Int) {
        state.withLock { state in
            guard state.listeners[task]?.removeValue(forKey: number) != nil else { return }
            state.count -= 1
            if state.listeners[task]?.isEmpty == true {
                state.listeners[task] = nil
                state.told[task] = nil
            }
        }
    }

    func run() async throws {
        try await readiness.wait(time)
        while true {
            do { try await look() } catch  where !(error is CancellationError) {
                log.warning("progress.not-read", ["error": .error(error)])
            }
            try await time.sleep(for: Self.interval)
        }
    }

    func look() async throws {
        let watched = state.withLock { Array($0.listeners.keys) }
        guard !watched.isEmpty else { return }
        var start = 0
        while start < watched.count {
            let part = Array(watched[start..<min(start + 200, watched.count)])
            start += 200
            let tasks = try await store.tasks(numbered: part)
            for number in part {
                let task = tasks.first { $0.number == number }
                // A task that is gone is news as well.
                let revision = task?.revision ?? .max
                let isNews = state.withLock { state in
                    defer { state.told[number] = revision }
                    return state.told[number] != revision
                }
                guard isNews else { continue }
                let news = News(task, revision: revision, at: time.now)
                let listeners = state.withLock { Array(($0.listeners[number] ?? [:]).values) }
                for listener in listeners { listener.yield(news) }
            }
        }
    }
}
