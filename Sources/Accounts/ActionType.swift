public import Core

/// What an account does to other people, and what its limits therefore count.
public enum ActionType: String, Sendable, CaseIterable, Hashable {
    case invite
    case message
    case addContact = "add_contact"

    /// Reads a name a client may use; `contact_add` is the older word for `add_contact`.
    public init?(_ name: some StringProtocol) {
        switch name.lowercased() {
        case "contact_add": self = .addContact
        case let known:
            guard let found = ActionType(rawValue: known) else { return nil }
            self = found
        }
    }

    public var name: LocalizedText {
        switch self {
        case .invite: LocalizedText("invitation", "приглашение")
        case .message: LocalizedText("message", "сообщение")
        case .addContact: LocalizedText("adding a contact", "добавление контакта")
        }
    }
}

/// What an account is asked for, and so which limits have to have room.
public enum Purpose: String, Sendable, CaseIterable {
    case inviteCampaign = "invite_campaign"
    case parsing
    case messaging
    case contacts
    case maintenance

    /// The action this purpose spends; reading and upkeep spend none.
    public var action: ActionType? {
        switch self {
        case .inviteCampaign: .invite
        case .messaging: .message
        case .contacts: .addContact
        case .parsing, .maintenance: nil
        }
    }
}
