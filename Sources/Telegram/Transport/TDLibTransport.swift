public import Core
import Synchronization

/// The real library. One in a process: TDLib aborts when two threads receive at once, so all who ask for it
/// share one thread that receives for all accounts.
public final class TDLibTransport: TelegramTransport {
    private struct State {
        var receivers: [ClientID: @Sendable (TransportEvent) -> Void] = [:]
    }
    /// One process-wide library with its receiving thread.
    private final class Loaded: Sendable {
        let library: TDLibLibrary
        let path: String
        private let state = Mutex(State())

        init(path: String) throws(TDLibUnavailable) {
            library = try TDLibLibrary(path: path)
            self.path = path
            TDLibLog.shared.listen { [weak self] line in self?.route(log: line) }
            library.quietLog()
        }

        func route(to client: ClientID, _ receive: @escaping @Sendable (TransportEvent) -> Void) {
            state.withLock { $0.receivers[client] = receive }
        }

        /// Runs for as long as the process: an event nobody takes would stay in TDLib's memory.
        func receiveForEver() {
            while true {
                guard let text = library.receive(timeout: 60), let event = try? JSONValue(parsing: text),
                    let number = event["@client_id"]?.intValue, let client = ClientID(exactly: number)
                else { continue }
                let receive = state.withLock { state in
                    event.isClosedState
                        ? state.receivers.removeValue(forKey: client) : state.receivers[client]
                }
                receive?(.message(event))
            }
        }

        private func route(log line: String) {
            guard let client = SessionLossLine.client(of: line) else { return }
            state.withLock { $0.receivers[client] }?(.log(line))
        }
    }
    private static let process = Mutex<Loaded?>(nil)

    private let loaded: Loaded
    private let receiver = Mutex<(@Sendable (TransportEvent) -> Void)?>(nil)

    /// Loads the library at `path`, or shares it with whoever did so before.
    public init(path: String) throws(TDLibUnavailable) {
        let result = Self.process.withLock { process -> Result<Loaded, TDLibUnavailable> in
            if let loaded = process {
                guard loaded.path == path else {
                    return .failure(
                        TDLibUnavailable(description: "another TDLib is loaded already: \(loaded.path)"))
                }
                return .success(loaded)
            }
            do throws(TDLibUnavailable) {
                let loaded = try Loaded(path: path)
                process = loaded
                startThread(name: "tdlib-receive") { loaded.receiveForEver() }
                return .success(loaded)
            } catch {
                return .failure(error)
            }
        }
        loaded = try result.get()
    }

    /// What the library says of itself, such as `1.8.69`.
    public var version: String? {
        loaded.library.execute(["@type": "getOption", "name": "version"])?["value"]?.stringValue
    }

    public func makeClient() -> ClientID {
        let client = loaded.library.createClient()
        if let receive = receiver.withLock({ $0 }) { loaded.route(to: client, receive) }
        return client
    }

    public func start(_ receive: @escaping @Sendable (TransportEvent) -> Void) {
        receiver.withLock { $0 = receive }
    }

    public func send(_ request: JSONValue, to client: ClientID) {
        loaded.library.send(request.text, to: client)
    }

    /// Nothing: the receiving thread has run since the library was loaded.
    public func run() async throws {
        let (stream, continuation) = AsyncStream<Never>.makeStream()
        defer { continuation.finish() }
        for await _ in stream {}
    }
}

extension JSONValue {
    var isClosedState: Bool {
        self["@type"]?.stringValue == "updateAuthorizationState"
            && self["authorization_state"]?["@type"]?.stringValue == "authorizationStateClosed"
    }
}

/// The one line of TDLib's log that matters: it names the reason why a session was lost, which no update does.
///
/// `[ 2][t 8][1758000000.1][AuthManager.cpp:943][#3][!AuthManager]<TAB>Lost authorization because of SESSION_REVOKED`
enum SessionLossLine {
    static func client(of line: String) -> ClientID? {
        guard let mark = line.firstRange(of: "[#") else { return nil }
        return ClientID(line[mark.upperBound...].prefix { $0.isNumber })
    }

    static func reason(of line: String) -> String? {
        guard let mark = line.firstRange(of: "Lost authorization because of ") else { return nil }
        let reason = line[mark.upperBound...].prefix { $0 == "_" || $0.isLetter || $0.isNumber }
        return reason.isEmpty ? nil : String(reason)
    }
}
