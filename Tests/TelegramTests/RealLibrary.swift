import Core
import Foundation
import Synchronization

@testable import Telegram

/// Telegram's own library, where this machine has it.
enum RealLibrary {
    static let path: String? = {
        if let path = ProcessInfo.processInfo.environment["TDJSON_PATH"] { return path }
        let project = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let folder = project.appending(path: ".build/tools/tdjson.libs")
        let files = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return files.first { $0.hasPrefix("libtdjson") }.map { folder.appending(path: $0).path }
    }()
    static var isThere: Bool { path != nil }

    static func transport() throws -> TDLibTransport { try TDLibTransport(path: path ?? "") }

    /// A folder that is gone afterwards.
    static func inFolder<Result>(_ body: (String) async throws -> Result) async throws -> Result {
        let folder = FileManager.default.temporaryDirectory.appending(path: "tdlib-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        return try await body(folder.path)
    }
}

/// A client of the library without ours around it: what is sent is what the test says, and all that comes back
/// is kept.
final class BareClient: Sendable {
    private struct State {
        var answers: [Int64: JSONValue] = [:]
        var waiters: [Int64: CheckedContinuation<JSONValue, Never>] = [:]
        var states: [String] = []
        var stateWaiters: [(String, CheckedContinuation<Void, Never>)] = []
        var next: Int64 = 1
    }
    private let state = Mutex(State())
    private let transport: any TelegramTransport
    private let id: ClientID

    init(_ transport: any TelegramTransport) {
        self.transport = transport
        let relay = Relay()
        transport.start { relay.hand($0) }
        id = transport.makeClient()
        relay.connect { [weak self] in self?.receive($0) }
    }

    private final class Relay: Sendable {
        private let receive = Mutex<(@Sendable (JSONValue) -> Void)?>(nil)
        func connect(_ receive: @escaping @Sendable (JSONValue) -> Void) {
            self.receive.withLock { $0 = receive }
        }
        func hand(_ event: TransportEvent) {
            if case .message(let message) = event { receive.withLock { $0 }?(message) }
        }
    }

    private func receive(_ message: JSONValue) {
        if let number = message["@extra"]?.intValue {
            let waiter = state.withLock { state in
                state.answers[number] = message
                return state.waiters.removeValue(forKey: number)
            }
            waiter?.resume(returning: message)
        } else if message.type == "updateAuthorizationState" {
            let name = message["authorization_state"]?.type ?? ""
            let woken = state.withLock { state in
                state.states.append(name)
                defer { state.stateWaiters.removeAll { $0.0 == name } }
                return state.stateWaiters.filter { $0.0 == name }
            }
            for (_, waiter) in woken { waiter.resume() }
        }
    }

    /// Sends a request and returns its answer, error or not.
    func ask(_ request: JSONValue) async -> JSONValue {
        let number = send(request)
        return await withCheckedContinuation { waiter in
            let known = state.withLock { state in
                if let answer = state.answers[number] { return answer as JSONValue? }
                state.waiters[number] = waiter
                return nil
            }
            if let known { waiter.resume(returning: known) }
        }
    }

    @discardableResult
    func send(_ request: JSONValue) -> Int64 {
        let number = state.withLock { state in
            defer { state.next += 1 }
            return state.next
        }
        var members = request.objectValue ?? []
        members.append(JSONMember("@extra", .int(number)))
        transport.send(.object(members), to: id)
        return number
    }

    func wait(for name: String) async {
        await withCheckedContinuation { waiter in
            let isThere = state.withLock { state in
                if state.states.contains(name) { return true }
                state.stateWaiters.append((name, waiter))
                return false
            }
            if isThere { waiter.resume() }
        }
    }

    var seenStates: [String] { state.withLock { $0.states } }
}
