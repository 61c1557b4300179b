import Core

/// A person or bot. Worthless by itself: an account can only act on whom it has seen.
public typealias UserID = Int64
/// A message within its chat.
public typealias MessageID = Int64

/// A chat as TDLib numbers it; which kind of chat it is shows in the number.
public struct ChatID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible,
    ExpressibleByIntegerLiteral
{
    public enum Kind: Equatable, Sendable {
        case person(UserID)
        case basicGroup(Int64)
        /// A supergroup or a broadcast channel.
        case supergroup(Int64)
    }
    private static let supergroupBase: Int64 = -1_000_000_000_000

    public let rawValue: Int64

    public init(rawValue: Int64) { self.rawValue = rawValue }
    public init(integerLiteral value: Int64) { rawValue = value }
    public init(person: UserID) { rawValue = person }
    public init(supergroup: Int64) { rawValue = Self.supergroupBase - supergroup }
    public init(basicGroup: Int64) { rawValue = -basicGroup }

    public var kind: Kind {
        if rawValue > 0 { return .person(rawValue) }
        if rawValue < Self.supergroupBase { return .supergroup(Self.supergroupBase - rawValue) }
        return .basicGroup(-rawValue)
    }

    public var description: String { String(rawValue) }
    public static func < (left: ChatID, right: ChatID) -> Bool { left.rawValue < right.rawValue }
    var json: JSONValue { .int(rawValue) }
}

/// Who wrote a message: a person, or a chat in whose name an administrator or channel speaks.
public enum MessageSender: Hashable, Sendable {
    case person(UserID)
    case chat(ChatID)

    init?(_ json: JSONValue?) {
        switch json?.type {
        case "messageSenderUser": self = .person(json?.int("user_id") ?? 0)
        case "messageSenderChat": self = .chat(ChatID(rawValue: json?.int("chat_id") ?? 0))
        default: return nil
        }
    }
}
