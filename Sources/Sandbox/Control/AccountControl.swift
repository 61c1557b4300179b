public import Core

/// Why something cannot be done to an account.
public enum ControlError: Error, Equatable, Sendable {
    case noSuchAccount
    case noSuchGroup
    /// Nobody waits for this link; it may have been renewed.
    case noSuchLink
    /// No code was asked for.
    case noCode
}

// What happens outside of the library: on the owner's telephone, and at Telegram.
extension SandboxWorld {
    private func number(_ phone: String, _ world: World) throws -> Int {
        guard let number = Account.number(ofPhone: phone), world.accounts.indices.contains(number) else {
            throw ControlError.noSuchAccount
        }
        return number
    }

    /// The owner scans the QR code with their telephone.
    public func scan(_ link: String, with phone: String) throws {
        try change { world in
            let number = try number(phone, world)
            guard let mark = link.firstRange(of: "token=") else { throw ControlError.noSuchLink }
            let token = String(link[mark.upperBound...])
            guard let client = world.clients.values.first(where: { $0.stage == .waitScan(token: token) })
            else {
                throw ControlError.noSuchLink
            }
            world.signIn(client, number)
        }
    }

    /// The code the owner finds in their other session.
    public func code(of phone: String) throws -> String {
        try change { world in
            guard let code = world.accounts[try number(phone, world)].code else { throw ControlError.noCode }
            return code
        }
    }

    /// Telegram bans an account: all its sessions end, and it can never sign in again.
    public func ban(_ phone: String) throws { try end(phone, "USER_DEACTIVATED_BAN", isBanned: true) }

    /// The owner ends the session in their telephone's list of devices.
    public func revoke(_ phone: String) throws { try end(phone, "SESSION_REVOKED", isBanned: false) }

    private func end(_ phone: String, _ reason: String, isBanned: Bool) throws {
        try change { world in
            let number = try number(phone, world)
            if isBanned {
                let account = world.accounts[number]
                world.make(
                    .account(
                        number: number, isFrozen: account.isFrozen, isBanned: true,
                        isLimited: account.isLimited))
            }
            for client in world.clients(of: number) { world.loseSession(client, reason) }
            for (directory, session) in world.sessions where session.account == number {
                world.sessions[directory]?.lost = reason
            }
        }
    }

    /// Telegram freezes an account, or lifts it.
    public func freeze(_ phone: String, _ isFrozen: Bool = true) throws {
        try change { world in
            let number = try number(phone, world)
            let account = world.accounts[number]
            world.make(
                .account(
                    number: number, isFrozen: isFrozen, isBanned: account.isBanned,
                    isLimited: account.isLimited))
            for client in world.clients(of: number) { world.emit(client, world.freezeUpdate(isFrozen)) }
        }
    }

    /// Telegram's anti-spam limits an account, or lets it go.
    public func limit(_ phone: String, _ isLimited: Bool = true) throws {
        try change { world in
            let number = try number(phone, world)
            let account = world.accounts[number]
            world.make(
                .account(
                    number: number, isFrozen: account.isFrozen, isBanned: account.isBanned,
                    isLimited: isLimited))
            world.accounts[number].patience = Patience()
        }
    }

    /// Changes somebody's standing in a group: takes a right away, bans, lets in.
    public func setStanding(
        of user: Int64, inGroup chat: Int64, to kind: String, mayInvite: Bool = false
    ) {
        change { world in
            guard let group = world.group(ofChat: chat), let kind = Standing.Kind(rawValue: kind) else {
                return
            }
            world.make(
                .standing(
                    group: group.id, user: user, kind: kind, mayInvite: mayInvite, inviter: 0, at: world.now))
            guard let number = world.account(withID: user), let changed = world.groups[group.id] else {
                return
            }
            for client in world.clients(of: number) { world.tellGroup(changed, to: client) }
        }
    }

    /// A group's administrators hide its members, or show them again.
    public func hideMembers(ofGroup chat: Int64, _ isHidden: Bool = true) throws {
        try change { world in
            guard let group = world.group(ofChat: chat) else { throw ControlError.noSuchGroup }
            world.make(.membersHidden(group: group.id, isHidden: isHidden))
        }
    }

    /// Sends an update to all clients of an account, whatever it is.
    public func tell(_ phone: String, _ update: JSONValue) throws {
        try change { world in
            for client in world.clients(of: try number(phone, world)) { world.emit(client, update) }
        }
    }
}
