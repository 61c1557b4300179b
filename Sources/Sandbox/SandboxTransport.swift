public import Core
import Synchronization
public import Telegram

/// The sandbox in this process, as the client sees Telegram's library.
public final class SandboxTransport: TelegramTransport {
    private let world: SandboxWorld
    private let sink = CallbackSink()
    private let link: Int
    private let lastClient = Mutex<ClientID>(0)

    public init(_ world: SandboxWorld) {
        self.world = world
        link = world.connect(sink)
    }

    deinit { world.disconnect(link) }

    public func makeClient() -> ClientID {
        lastClient.withLock { last in
            last += 1
            return last
        }
    }

    public func start(_ receive: @escaping @Sendable (TransportEvent) -> Void) { sink.start(receive) }

    public func send(_ request: JSONValue, to client: ClientID) {
        world.accept(request, link: link, client: client)
    }

    /// Nothing: the world itself is run by whoever made it.
    public func run() async throws {
        let (stream, continuation) = AsyncStream<Never>.makeStream()
        defer { continuation.finish() }
        for await _ in stream {}
    }
}

/// Hands events to a closure, one at a time and in order, whichever threads bring them; a closure that causes
/// further events is not entered twice.
final class CallbackSink: EventSink {
    private struct State {
        var queue: [SandboxEvent] = []
        var isHandingOut = false
        var receive: (@Sendable (TransportEvent) -> Void)?
    }
    private let state = Mutex(State())

    func start(_ receive: @escaping @Sendable (TransportEvent) -> Void) {
        state.withLock { $0.receive = receive }
    }

    func put(_ event: SandboxEvent) { state.withLock { $0.queue.append(event) } }

    func flush() {
        while true {
            let part = state.withLock { state -> ([SandboxEvent], @Sendable (TransportEvent) -> Void)? in
                guard !state.isHandingOut, !state.queue.isEmpty, let receive = state.receive else {
                    return nil
                }
                state.isHandingOut = true
                defer { state.queue = [] }
                return (state.queue, receive)
            }
            guard let (events, receive) = part else { return }
            for event in events { receive(TransportEvent(event)) }
            state.withLock { $0.isHandingOut = false }
        }
    }
}

extension TransportEvent {
    init(_ event: SandboxEvent) {
        self =
            switch event {
            case .message(let message): .message(message)
            case .log(let line): .log(line)
            case .reset: .connectionReset
            }
    }
}
