public import Core

/// Somebody on Telegram, as this account sees them.
public struct Person: Equatable, Sendable {
    public enum Kind: String, Sendable { case person, bot, deleted, unknown }
    /// When they were last there, as far as they let it be seen.
    public enum LastSeen: Equatable, Sendable {
        case online
        case at(Timestamp)
        case recently, lastWeek, lastMonth
        case hidden
    }

    public let id: UserID
    public let firstName: String
    public let lastName: String
    /// The active ones, the main one first.
    public let usernames: [String]
    /// Empty where it is hidden; without a plus.
    public let phone: String
    public let kind: Kind
    public let isPremium: Bool
    public let isContact: Bool
    public let isMutualContact: Bool
    public let isScam: Bool
    /// Only contacts and Premium users may write first.
    public let restrictsNewChats: Bool
    /// What a message to them costs; we never pay.
    public let messageStars: Int64
    public let languageCode: String
    public let lastSeen: LastSeen
    /// False where only the id is known: nothing can be done with them.
    public let isAccessible: Bool

    public var username: String? { usernames.first }
    public var name: String {
        lastName.isEmpty ? firstName : firstName.isEmpty ? lastName : "\(firstName) \(lastName)"
    }
    public var chat: ChatID { ChatID(person: id) }
}

extension Person {
    init(_ json: JSONValue) {
        id = json.int("id")
        firstName = json.text("first_name")
        lastName = json.text("last_name")
        usernames = activeUsernames(json["usernames"])
        phone = json.text("phone_number")
        kind =
            switch json["type"]?.type {
            case "userTypeRegular": .person
            case "userTypeBot": .bot
            case "userTypeDeleted": .deleted
            default: .unknown
            }
        isPremium = json.flag("is_premium")
        isContact = json.flag("is_contact")
        isMutualContact = json.flag("is_mutual_contact")
        let verification = json["verification_status"] ?? .null
        isScam = verification.flag("is_scam") || verification.flag("is_fake")
        restrictsNewChats = json.flag("restricts_new_chats")
        messageStars = json.int("paid_message_star_count")
        languageCode = json.text("language_code")
        lastSeen = LastSeen(json["status"] ?? .null)
        isAccessible = json.flag("have_access")
    }
}

extension Person.LastSeen {
    init(_ json: JSONValue) {
        switch json.type {
        case "userStatusOnline": self = .online
        case "userStatusOffline": self = .at(Timestamp(seconds: json.int("was_online")))
        case "userStatusRecently": self = .recently
        case "userStatusLastWeek": self = .lastWeek
        case "userStatusLastMonth": self = .lastMonth
        default: self = .hidden
        }
    }
}

func activeUsernames(_ json: JSONValue?) -> [String] {
    guard let json else { return [] }
    var names = json.list("active_usernames").compactMap(\.stringValue)
    let main = json.text("editable_username")
    if let place = names.firstIndex(of: main), place > 0 { names.swapAt(0, place) }
    return names
}

/// Somebody to be put into the account's address book.
public struct NewContact: Equatable, Sendable {
    public let phone: String
    public let firstName: String
    public let lastName: String

    public init(phone: String, firstName: String, lastName: String = "") {
        self.phone = phone
        self.firstName = firstName
        self.lastName = lastName
    }
}

/// Whether this account may write to a person.
public enum WritePermission: Equatable, Sendable {
    case yes
    case costsStars(Int64)
    case deleted
    /// Only contacts and Premium users may write first.
    case restrictsNewChats
    case unknown
}
