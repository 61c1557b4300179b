import Core
import Glibc
import Synchronization

/// Why the library could not be loaded.
public struct TDLibUnavailable: Error, Equatable, CustomStringConvertible {
    public let description: String
}

/// `libtdjson`, loaded while the program runs, so that the platform builds and starts without it.
struct TDLibLibrary: Sendable {
    private typealias CreateClient = @convention(c) () -> Int32
    private typealias Send = @convention(c) (Int32, UnsafePointer<CChar>) -> Void
    private typealias Receive = @convention(c) (Double) -> UnsafePointer<CChar>?
    private typealias Execute = @convention(c) (UnsafePointer<CChar>) -> UnsafePointer<CChar>?
    private typealias LogCallback = @convention(c) (Int32, UnsafePointer<CChar>?) -> Void
    private typealias SetLogCallback = @convention(c) (Int32, LogCallback?) -> Void

    private let createClientFunction: CreateClient
    private let sendFunction: Send
    private let receiveFunction: Receive
    private let executeFunction: Execute
    private let setLogCallbackFunction: SetLogCallback

    init(path: String) throws(TDLibUnavailable) {
        // Never unloaded: its threads live as long as the process.
        guard let handle = dlopen(path, RTLD_NOW | RTLD_LOCAL) else {
            throw TDLibUnavailable(
                description: dlerror().map { String(cString: $0) } ?? "cannot load \(path)")
        }
        func find<Function>(_ name: String, _ type: Function.Type) throws(TDLibUnavailable) -> Function {
            guard let symbol = dlsym(handle, name) else {
                throw TDLibUnavailable(description: "\(path) has no \(name): it is not TDLib's JSON library")
            }
            return unsafeBitCast(symbol, to: type)
        }
        createClientFunction = try find("td_create_client_id", CreateClient.self)
        sendFunction = try find("td_send", Send.self)
        receiveFunction = try find("td_receive", Receive.self)
        executeFunction = try find("td_execute", Execute.self)
        setLogCallbackFunction = try find("td_set_log_message_callback", SetLogCallback.self)
    }

    func createClient() -> ClientID { createClientFunction() }

    func send(_ request: String, to client: ClientID) { sendFunction(client, request) }

    /// The next event of all clients, copied: TDLib's own text lives until the next call only.
    func receive(timeout: Double) -> String? { receiveFunction(timeout).map { String(cString: $0) } }

    func execute(_ request: JSONValue) -> JSONValue? {
        executeFunction(request.text).flatMap { try? JSONValue(parsing: String(cString: $0)) }
    }

    /// Lines of level 2 and below go to `TDLibLog`, nothing to standard error.
    func quietLog() {
        _ = execute(["@type": "setLogStream", "log_stream": ["@type": "logStreamEmpty"]])
        _ = execute(["@type": "setLogVerbosityLevel", "new_verbosity_level": 2])
        setLogCallbackFunction(2) { _, text in
            guard let text else { return }
            TDLibLog.shared.hand(String(cString: text))
        }
    }
}

/// Where the C callback, which can carry nothing with it, finds whom to tell.
final class TDLibLog: Sendable {
    static let shared = TDLibLog()
    private let listener = Mutex<(@Sendable (String) -> Void)?>(nil)

    func listen(_ listener: @escaping @Sendable (String) -> Void) { self.listener.withLock { $0 = listener } }

    func hand(_ line: String) { listener.withLock { $0 }?(line) }
}
