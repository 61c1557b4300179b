public import Core

/// One event of a `text/event-stream`.
public struct ServerSentEvent: Sendable, Equatable {
    public var id: String?
    public var name: String?
    public var data: String

    public init(id: String? = nil, name: String? = nil, data: String) {
        self.id = id
        self.name = name
        self.data = data
    }

    /// Line breaks within the data become further `data:` lines; elsewhere they are dropped, because they
    /// would begin another field.
    public var text: String {
        var text = ""
        if let id { text += "id: \(oneLine(id))\n" }
        if let name { text += "event: \(oneLine(name))\n" }
        for line in data.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline) {
            text += "data: \(line)\n"
        }
        return text + "\n"
    }
}

extension ServerSentEvent {
    /// As it goes out.
    public var encoded: EncodedEvent { EncodedEvent(bytes: Bytes(text.utf8)) }
}

/// An event as it goes out, made once for however many are sent it.
public struct EncodedEvent: Sendable, Equatable { let bytes: Bytes }

private func oneLine(_ text: String) -> String {
    String(text.filter { !$0.isNewline && $0 != "\0" })
}

/// Where events are sent.
public struct EventWriter: Sendable {
    let writer: any BodyWriter
    public func send(_ event: ServerSentEvent) async throws { try await send(event.encoded) }
    public func send(_ event: EncodedEvent) async throws { try await writer.write(event.bytes) }
}

extension Response {
    /// A stream of events. A comment line every `heartbeat` keeps proxies from closing a quiet stream and
    /// lets us notice that the client has gone. It ends when `body` returns.
    public static func events(
        heartbeat: Duration = .seconds(15), _ time: any TimeSource,
        _ body: @escaping @Sendable (EventWriter) async throws -> Void
    ) -> Response {
        var response = Response.stream(type: "text/event-stream; charset=utf-8") { writer in
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    while true {
                        try await time.sleep(for: heartbeat)
                        try await writer.write(": still here\n\n")
                    }
                }
                group.addTask { try await body(EventWriter(writer: writer)) }
                defer { group.cancelAll() }
                try await group.next()
            }
        }
        response.headers["Cache-Control"] = "no-store"
        // nginx would otherwise gather the events into larger pieces.
        response.headers["X-Accel-Buffering"] = "no"
        return response
    }
}

extension Request {
    /// The last event a client has seen before its connection was lost.
    public var lastEventID: String? { headers["last-event-id"] ?? query["last_event_id"] }
}
