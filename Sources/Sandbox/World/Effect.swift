import Core

/// A change of the world. All changes come as these, so that a world is its options and its journal, and one
/// that was stopped can go on.
enum Effect: Equatable {
    case sessionBegan(directory: String, key: String, account: Int, at: Timestamp)
    case sessionEnded(directory: String)
    case standing(
        group: Int64, user: Int64, kind: Standing.Kind, mayInvite: Bool, inviter: Int64, at: Timestamp)
    case groupMessage(group: Int64, sender: Int64, text: String, thread: Int64?, at: Timestamp)
    case privateMessage(account: Int, user: Int64, text: String, at: Timestamp)
    case link(
        group: Int64, hash: String, creator: Int64, name: String, expires: Int64, limit: Int, asks: Bool,
        at: Timestamp)
    case linkRevoked(group: Int64, hash: String)
    case joinedByLink(group: Int64, hash: String, user: Int64, approver: Int64, at: Timestamp)
    case joinAsked(group: Int64, hash: String, user: Int64, at: Timestamp)
    case joinAnswered(group: Int64, user: Int64)
    case contact(account: Int, user: Int64, isContact: Bool)
    case account(number: Int, isFrozen: Bool, isBanned: Bool, isLimited: Bool)
    case membersHidden(group: Int64, isHidden: Bool)
    case entry(LedgerEntry)

    var json: JSONValue {
        switch self {
        case .sessionBegan(let directory, let key, let account, let at):
            [
                "e": "session", "d": .string(directory), "k": .string(key), "a": JSONValue(account),
                "t": .int(at.milliseconds),
            ]
        case .sessionEnded(let directory): ["e": "session_end", "d": .string(directory)]
        case .standing(let group, let user, let kind, let mayInvite, let inviter, let at):
            [
                "e": "standing", "g": .int(group), "u": .int(user), "k": .string(kind.rawValue),
                "m": .bool(mayInvite),
                "i": .int(inviter), "t": .int(at.milliseconds),
            ]
        case .groupMessage(let group, let sender, let text, let thread, let at):
            [
                "e": "group_message", "g": .int(group), "u": .int(sender), "x": .string(text),
                "h": JSONValue(thread),
                "t": .int(at.milliseconds),
            ]
        case .privateMessage(let account, let user, let text, let at):
            [
                "e": "private_message", "a": JSONValue(account), "u": .int(user), "x": .string(text),
                "t": .int(at.milliseconds),
            ]
        case .link(let group, let hash, let creator, let name, let expires, let limit, let asks, let at):
            [
                "e": "link", "g": .int(group), "h": .string(hash), "u": .int(creator), "n": .string(name),
                "x": .int(expires), "l": JSONValue(limit), "q": .bool(asks), "t": .int(at.milliseconds),
            ]
        case .linkRevoked(let group, let hash): ["e": "link_revoked", "g": .int(group), "h": .string(hash)]
        case .joinedByLink(let group, let hash, let user, let approver, let at):
            [
                "e": "link_join", "g": .int(group), "h": .string(hash), "u": .int(user), "i": .int(approver),
                "t": .int(at.milliseconds),
            ]
        case .joinAsked(let group, let hash, let user, let at):
            [
                "e": "join_ask", "g": .int(group), "h": .string(hash), "u": .int(user),
                "t": .int(at.milliseconds),
            ]
        case .joinAnswered(let group, let user): ["e": "join_answer", "g": .int(group), "u": .int(user)]
        case .contact(let account, let user, let isContact):
            ["e": "contact", "a": JSONValue(account), "u": .int(user), "c": .bool(isContact)]
        case .account(let number, let isFrozen, let isBanned, let isLimited):
            [
                "e": "account", "a": JSONValue(number), "f": .bool(isFrozen), "b": .bool(isBanned),
                "l": .bool(isLimited),
            ]
        case .membersHidden(let group, let isHidden):
            ["e": "members_hidden", "g": .int(group), "h": .bool(isHidden)]
        case .entry(let entry): ["e": "entry", "entry": entry.json]
        }
    }

    init?(_ json: JSONValue) {
        func text(_ name: String) -> String { json[name]?.stringValue ?? "" }
        func int(_ name: String) -> Int64 { json[name]?.intValue ?? 0 }
        func flag(_ name: String) -> Bool { json[name]?.boolValue ?? false }
        let at = Timestamp(milliseconds: int("t"))
        switch text("e") {
        case "session":
            self = .sessionBegan(directory: text("d"), key: text("k"), account: Int(int("a")), at: at)
        case "session_end": self = .sessionEnded(directory: text("d"))
        case "standing":
            self = .standing(
                group: int("g"), user: int("u"), kind: Standing.Kind(rawValue: text("k")) ?? .left,
                mayInvite: flag("m"),
                inviter: int("i"), at: at)
        case "group_message":
            self = .groupMessage(
                group: int("g"), sender: int("u"), text: text("x"), thread: json["h"]?.intValue, at: at)
        case "private_message":
            self = .privateMessage(account: Int(int("a")), user: int("u"), text: text("x"), at: at)
        case "link":
            self = .link(
                group: int("g"), hash: text("h"), creator: int("u"), name: text("n"), expires: int("x"),
                limit: Int(int("l")), asks: flag("q"), at: at)
        case "link_revoked": self = .linkRevoked(group: int("g"), hash: text("h"))
        case "link_join":
            self = .joinedByLink(group: int("g"), hash: text("h"), user: int("u"), approver: int("i"), at: at)
        case "join_ask": self = .joinAsked(group: int("g"), hash: text("h"), user: int("u"), at: at)
        case "join_answer": self = .joinAnswered(group: int("g"), user: int("u"))
        case "contact": self = .contact(account: Int(int("a")), user: int("u"), isContact: flag("c"))
        case "account":
            self = .account(
                number: Int(int("a")), isFrozen: flag("f"), isBanned: flag("b"), isLimited: flag("l"))
        case "members_hidden": self = .membersHidden(group: int("g"), isHidden: flag("h"))
        case "entry":
            guard let entry = json["entry"].flatMap({ LedgerEntry($0) }) else { return nil }
            self = .entry(entry)
        default: return nil
        }
    }
}
