public import Core

/// One effect, or attempt at one, as the sandbox saw it: the other side of the platform's own accounting, and
/// written without any of it.
public struct LedgerEntry: Sendable, Equatable {
    public enum Kind: String, Sendable, CaseIterable {
        case addMember = "add_member"
        case message
        case groupMessage = "group_message"
        case contact
        case join
        case leave
        case linkCreated = "link_created"
        case joinRequest = "join_request"
        case joinedByLink = "joined_by_link"
    }

    public let number: Int
    public let time: Timestamp
    /// The phone number of the account that acted; empty for what people did by themselves.
    public let account: String
    public let kind: Kind
    public let target: Int64
    public let group: Int64
    /// `member`, `accepted`, `already`, `sent`, or why not.
    public let outcome: String
    /// Whether Telegram took it.
    public let isAccepted: Bool
    /// Whether the account held the right to invite there at that moment.
    public let hadRight: Bool
    /// Tells messages of the same words apart from others.
    public let words: Int64
}

extension LedgerEntry: JSONEncodable {
    public var json: JSONValue {
        [
            "number": JSONValue(number), "time": time.json, "account": .string(account),
            "kind": .string(kind.rawValue),
            "target": .int(target), "group": .int(group), "outcome": .string(outcome),
            "accepted": .bool(isAccepted),
            "had_right": .bool(hadRight), "words": .int(words),
        ]
    }

    init?(_ json: JSONValue) {
        guard let number = json["number"]?.intValue,
            let time = json["time"]?.stringValue.flatMap({ Timestamp($0) }),
            let kind = json["kind"]?.stringValue.flatMap({ Kind(rawValue: $0) })
        else { return nil }
        self.init(
            number: Int(number), time: time, account: json["account"]?.stringValue ?? "", kind: kind,
            target: json["target"]?.intValue ?? 0, group: json["group"]?.intValue ?? 0,
            outcome: json["outcome"]?.stringValue ?? "", isAccepted: json["accepted"]?.boolValue ?? false,
            hadRight: json["had_right"]?.boolValue ?? false, words: json["words"]?.intValue ?? 0)
    }
}
