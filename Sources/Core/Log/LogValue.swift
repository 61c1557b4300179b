/// What a log field may hold. Text is cleaned of phone numbers, tokens and secrets on its way in, so a
/// careless call cannot leak what a careful one would not.
public struct LogValue: Sendable, Equatable {
    enum Content: Sendable, Equatable {
        case text(String)
        case integer(Int64)
        case number(Double)
        case flag(Bool)
    }
    let content: Content

    /// Free text from anywhere.
    public static func text(_ text: some StringProtocol) -> LogValue {
        LogValue(content: .text(Redaction.clean(String(text))))
    }

    /// An identifier that the platform made itself, such as a request id: it is shown whole.
    public static func id(_ id: some CustomStringConvertible) -> LogValue {
        LogValue(content: .text(id.description))
    }

    /// An error, with all it says of itself.
    public static func error(_ error: any Error) -> LogValue { .text(String(reflecting: error)) }

    public static func int(_ value: some BinaryInteger) -> LogValue {
        LogValue(content: .integer(Int64(clamping: value)))
    }
    public static func number(_ value: Double) -> LogValue { LogValue(content: .number(value)) }
    public static func flag(_ value: Bool) -> LogValue { LogValue(content: .flag(value)) }
    public static func time(_ value: Timestamp) -> LogValue { LogValue(content: .text(value.description)) }
    /// Milliseconds, to the microsecond.
    public static func duration(_ value: Duration) -> LogValue {
        LogValue(content: .number((value.inSeconds * 1_000_000).rounded() / 1000))
    }
    public static func secret<Value>(_: Secret<Value>) -> LogValue { LogValue(content: .text("<secret>")) }
}

extension LogValue: ExpressibleByStringLiteral, ExpressibleByStringInterpolation, ExpressibleByIntegerLiteral,
    ExpressibleByBooleanLiteral
{
    public init(stringLiteral value: String) { self = .text(value) }
    public init(integerLiteral value: Int64) { self = .int(value) }
    public init(booleanLiteral value: Bool) { self = .flag(value) }
}
