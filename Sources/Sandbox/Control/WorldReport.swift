public import Core

/// An account, as the control page shows it.
public struct AccountReport: Sendable, Equatable, JSONEncodable {
    public let phone: String
    public let userID: Int64
    public let kind: AccountKind
    public let isFrozen: Bool
    public let isBanned: Bool
    public let isLimited: Bool
    public let sessions: Int
    public let openClients: Int

    public var json: JSONValue {
        .object(present: [
            "phone": .string("+" + phone), "user_id": .int(userID), "kind": .string(kind.rawValue),
            "password": kind == .twoFactor ? .string(Account.password) : nil, "frozen": .bool(isFrozen),
            "banned": .bool(isBanned), "limited": .bool(isLimited), "sessions": JSONValue(sessions),
            "open_clients": JSONValue(openClients),
        ])
    }
}

public struct GroupReport: Sendable, Equatable, JSONEncodable {
    public let chatID: Int64
    public let kind: String
    public let title: String
    public let username: String?
    public let members: Int
    public let hidesMembers: Bool
    public let linkedChat: Int64?
    public let messages: Int64
    public let pendingRequests: Int
    public let links: [String]

    public var json: JSONValue {
        .object(present: [
            "chat_id": .int(chatID), "kind": .string(kind), "title": .string(title),
            "username": username.map { .string($0) },
            "members": JSONValue(members), "hides_members": .bool(hidesMembers),
            "linked_chat_id": linkedChat.map { .int($0) },
            "messages": .int(messages), "pending_requests": JSONValue(pendingRequests),
            "links": JSONValue(links),
        ])
    }
}

/// Somebody of the world, for choosing targets by how they behave.
public struct PersonReport: Sendable, Equatable, JSONEncodable {
    public let userID: Int64
    public let temper: Temper
    public let username: String?
    public let phone: String?

    public var json: JSONValue {
        .object(present: [
            "user_id": .int(userID), "temper": .string(temper.rawValue),
            "username": username.map { .string($0) },
            "phone": phone.map { .string("+" + $0) },
        ])
    }
}

extension SandboxWorld {
    public func accounts(from first: Int = 0, limit: Int = .max) -> [AccountReport] {
        change { world in
            world.accounts.dropFirst(first).prefix(limit).map { account in
                AccountReport(
                    phone: account.phone, userID: account.id, kind: account.kind, isFrozen: account.isFrozen,
                    isBanned: account.isBanned, isLimited: account.isLimited,
                    sessions: world.sessions.values.count { $0.account == account.number },
                    openClients: world.clients(of: account.number).count)
            }
        }
    }

    public func communities() -> [GroupReport] {
        change { world in
            world.groups.values.sorted { $0.id < $1.id }.map { group in
                GroupReport(
                    chatID: group.chatID, kind: group.kind.rawValue, title: group.title,
                    username: group.username,
                    members: group.memberCount, hidesMembers: group.hidesMembers,
                    linkedChat: group.linked.map { -1_000_000_000_000 - $0 },
                    messages: group.historyCount + Int64(group.messages.count),
                    pendingRequests: group.joinRequests.count,
                    links: group.links.values.map(\.address).sorted())
            }
        }
    }

    /// People of one temper who are not in a group and never were: whom a test or a demonstration can invite.
    public func people(_ temper: Temper, notIn chat: Int64? = nil, withUsername: Bool = true, limit: Int)
        -> [PersonReport]
    {
        change { world in
            let group = chat.flatMap { world.group(ofChat: $0) }
            var found: [PersonReport] = []
            for index in 0..<Int64(world.options.people) where found.count < limit {
                let human = Human(id: Human.firstID + index, seed: world.seed)
                guard human.temper == temper, !withUsername || human.username != nil || temper == .deleted
                else { continue }
                if let group, group.standing(of: human.id).isMember || human.hasLeft(group.id) { continue }
                found.append(
                    PersonReport(
                        userID: human.id, temper: temper, username: human.username,
                        phone: human.hidesFromPhone ? nil : human.phone))
            }
            return found
        }
    }

    /// The same for people who left a group by themselves.
    public func peopleWhoLeft(_ chat: Int64, limit: Int) -> [PersonReport] {
        change { world in
            guard let group = world.group(ofChat: chat) else { return [] }
            var found: [PersonReport] = []
            for index in 0..<Int64(world.options.people) where found.count < limit {
                let human = Human(id: Human.firstID + index, seed: world.seed)
                guard human.temper == .open, human.username != nil, human.hasLeft(group.id),
                    !group.standing(of: human.id).isMember
                else { continue }
                found.append(
                    PersonReport(
                        userID: human.id, temper: .open, username: human.username, phone: human.phone))
            }
            return found
        }
    }

    public var report: JSONValue {
        let options = options
        let entries = ledger.count
        return [
            "simulation": true, "time": time.now.json, "options": options.json,
            "accounts": JSONValue(accounts(limit: 100)), "communities": JSONValue(communities()),
            "people": .array(
                Temper.allCases.flatMap { temper in
                    people(temper, notIn: -1_000_000_001_001, limit: 5).map(\.json)
                }),
            "ledger_entries": JSONValue(entries), "faults": JSONValue(faults),
        ]
    }
}
