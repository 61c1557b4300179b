/// How much an operator should care.
public enum LogLevel: String, Sendable, CaseIterable, Comparable {
    case debug, info, warning, error

    private var rank: Int {
        switch self {
        case .debug: 0
        case .info: 1
        case .warning: 2
        case .error: 3
        }
    }
    public static func < (left: LogLevel, right: LogLevel) -> Bool { left.rank < right.rank }
}

/// A structured log: a constant event and fields, one JSON object a line.
///
/// `log.info("lease.granted", ["account": .id(lease.account)])`: the event is a `StaticString`, so it greps,
/// counts and alerts. A request's log is made once with its id and travels with the request.
public struct Log: Sendable {
    public let level: LogLevel
    private let sink: any LogSink
    private let time: any TimeSource
    /// The fields every line of this log carries, already encoded.
    private let prefix: String

    public init(
        service: String, level: LogLevel = .info, time: any TimeSource = SystemTime(),
        to sink: any LogSink = StandardErrorSink.shared
    ) {
        self.level = level
        self.sink = sink
        self.time = time
        var text = ""
        appendField("service", .id(service), to: &text)
        prefix = text
    }

    private init(_ parent: Log, adding fields: KeyValuePairs<StaticString, LogValue>) {
        level = parent.level
        sink = parent.sink
        time = parent.time
        var text = parent.prefix
        for (name, value) in fields { appendField(name.description, value, to: &text) }
        prefix = text
    }

    /// A log whose every line also carries `fields`.
    public func with(_ fields: KeyValuePairs<StaticString, LogValue>) -> Log { Log(self, adding: fields) }

    public func debug(_ event: StaticString, _ fields: KeyValuePairs<StaticString, LogValue> = [:]) {
        write(.debug, event, fields)
    }
    public func info(_ event: StaticString, _ fields: KeyValuePairs<StaticString, LogValue> = [:]) {
        write(.info, event, fields)
    }
    public func warning(_ event: StaticString, _ fields: KeyValuePairs<StaticString, LogValue> = [:]) {
        write(.warning, event, fields)
    }
    public func error(_ event: StaticString, _ fields: KeyValuePairs<StaticString, LogValue> = [:]) {
        write(.error, event, fields)
    }

    public func write(
        _ level: LogLevel, _ event: StaticString, _ fields: KeyValuePairs<StaticString, LogValue> = [:]
    ) {
        guard level >= self.level else { return }
        var line = "{\"time\":\"\(time.now)\",\"level\":\"\(level.rawValue)\",\"event\":\"\(event)\""
        line.reserveCapacity(320)
        line += prefix
        for (name, value) in fields { appendField(name.description, value, to: &line) }
        line += "}\n"
        sink.write(line)
    }

    /// Drops everything; for tests that do not look.
    public static let silent = Log(service: "silent", to: DiscardingSink())
}

private func appendField(_ name: String, _ value: LogValue, to line: inout String) {
    line += ",\""
    line += name
    line += "\":"
    if Redaction.isSensitive(field: name) {
        line += "\"\(Redaction.mark)\""
        return
    }
    switch value.content {
    case .text(let text): JSONWriter.append(text, to: &line)
    case .integer(let number): line += String(number)
    case .number(let number): line += number.isFinite ? String(number) : "null"
    case .flag(let flag): line += flag ? "true" : "false"
    }
}
