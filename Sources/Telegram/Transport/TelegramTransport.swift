public import Core

/// The number TDLib knows one account's client by, within one process.
public typealias ClientID = Int32

/// TDLib's JSON interface as it is: numbered clients, requests in, everything that comes out in one stream.
///
/// The real library, the sandbox in this process and the sandbox over the network stand behind it; the client
/// cannot tell which.
public protocol TelegramTransport: Sendable {
    /// A number for one more client. It comes to life with the first request sent to it.
    func makeClient() -> ClientID

    /// Everything that comes, one event after the other in the order of each client. Called once, before
    /// anything is sent; `receive` returns quickly.
    func start(_ receive: @escaping @Sendable (TransportEvent) -> Void)

    /// Hands over one request. Never waits; requests of one client arrive in the order they were sent.
    func send(_ request: JSONValue, to client: ClientID)

    /// What has to run while the transport is used, until it is cancelled.
    func run() async throws
}

/// What comes out of Telegram's library.
public enum TransportEvent: Sendable, Equatable {
    /// An answer or an update; which client it belongs to stands in its `@client_id`.
    case message(JSONValue)
    /// A line of the library's log. The reason why a session was lost is told nowhere else.
    case log(String)
    /// The other end forgot all our clients, as when a sandbox is started anew.
    case connectionReset
}
