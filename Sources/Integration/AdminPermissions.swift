/// An administrator's rights by the names our API uses: the documents' where they have one, Telegram's without
/// `can_` for the others.
public struct AdminPermissions: Equatable, Sendable {
    /// Sorted.
    public let names: [String]

    /// What the documents call differently.
    private static let documented = [
        "restrict_members": "ban_users", "promote_members": "add_admins",
    ]

    /// `can_invite_users` and so on, as Telegram's library names them.
    public init(_ rights: some Sequence<String>) { names = Set(rights.map(Self.name)).sorted() }

    public func hold(_ required: [String]) -> Bool { required.allSatisfy { names.contains(Self.name($0)) } }

    private static func name(_ right: String) -> String {
        let plain = right.hasPrefix("can_") ? String(right.dropFirst(4)) : right
        return documented[plain] ?? plain
    }
}
