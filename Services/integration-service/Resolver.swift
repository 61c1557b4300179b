import Core
import Integration
import Synchronization
import Telegram

/// Finds people and groups for an account, and remembers what it found: Telegram lets an account look up about
/// two hundred names a day. What one client has found is worth nothing to another, not even to the same
/// account's next client.
final class Resolver: Sendable {
    private struct Key: Hashable {
        let client: ClientID
        let reference: TelegramReference
    }
    private struct Memory {
        var people: [Key: UserID] = [:]
        var chats: [Key: ChatID] = [:]
    }
    private static let most = 100_000
    private let memory = Mutex(Memory())
    private let introductions: Introductions

    init(_ time: any TimeSource) { introductions = Introductions(time) }

    /// The chat that a group's name, link or id leads to. Throws `SendFailure`.
    func chat(_ text: String, for client: TelegramClient) async throws -> ChatID {
        guard let reference = TelegramReference(text) else {
            throw SendFailure(.groupRestriction, original: "not a group: a name, a link or an id is expected")
        }
        let key = Key(client: client.id, reference: reference)
        if let known = memory.withLock({ $0.chats[key] }) { return known }
        let chat = try await look(up: reference, with: client)
        memory.withLock { memory in
            if memory.chats.count >= Self.most { memory.chats = [:] }
            memory.chats[key] = chat
        }
        return chat
    }

    private func look(up reference: TelegramReference, with client: TelegramClient) async throws -> ChatID {
        do {
            switch try await client.resolve(reference) {
            case .community(let community): return community.upgradedTo ?? community.chat
            case .invitation(let preview, _):
                if let chat = preview.chat { return chat }
                throw SendFailure(.groupRestriction, original: "this account is not in the group of the link")
            case .person: throw SendFailure(.groupRestriction, original: "this is a person, not a group")
            }
        } catch let failure as TelegramFailure where failure.blame == .target {
            // What is said of names is said of people; here it is a group that does not exist.
            throw SendFailure(.groupRestriction, original: failure.message)
        }
    }

    /// The person a target names. An id the account has seen costs nothing, a name costs little, a number most; an id
    /// it has not seen is looked for where the person was met. Throws `SendFailure`.
    func person(_ target: Target, for client: TelegramClient) async throws -> UserID {
        var refusal: SendFailure?
        for reference in try target.references() {
            let key = Key(client: client.id, reference: reference)
            if let known = memory.withLock({ $0.people[key] }) { return known }
            do {
                guard case .person(let person) = try await client.resolve(reference) else {
                    throw SendFailure(.invalidUsername, original: "this is a group, not a person")
                }
                if person.kind == .deleted {
                    throw SendFailure(.userNotFound, original: "the account is deleted")
                }
                return remember(person, as: key)
            } catch let failure as TelegramFailure where failure.blame == .target || failure.blame == .ourData
            {
                // Another way to name the same person may lead to them.
                refusal = SendFailure(failure)
            }
        }
        guard let id = target.userID else { throw refusal ?? SendFailure(.userNotFound) }
        do {
            let person = try await introductions.introduce(id, from: target.origin, to: client) {
                try await chat($0, for: client)
            }
            guard person.kind != .deleted else {
                throw SendFailure(.userNotFound, original: "the account is deleted")
            }
            return remember(person, as: Key(client: client.id, reference: .person(id)))
        } catch let failure as SendFailure where failure.code == .personUnseen && failure.retryAfter == nil {
            // What Telegram said of their name weighs more.
            throw refusal ?? failure
        }
    }

    private func remember(_ person: Person, as key: Key) -> UserID {
        memory.withLock { memory in
            if memory.people.count >= Self.most { memory.people = [:] }
            memory.people[key] = person.id
        }
        return person.id
    }

    /// Forgets a person however they were named; how many places that were.
    func forget(_ references: Set<TelegramReference>) -> Int {
        memory.withLock { memory in
            let people = Set(memory.people.filter { references.contains($0.key.reference) }.values)
                .union(references.compactMap { if case .person(let id) = $0 { id } else { nil } })
            let before = memory.people.count
            memory.people = memory.people.filter {
                !references.contains($0.key.reference) && !people.contains($0.value)
            }
            return before - memory.people.count
        }
    }

    func forget(_ client: ClientID) {
        memory.withLock { memory in
            memory.people = memory.people.filter { $0.key.client != client }
            memory.chats = memory.chats.filter { $0.key.client != client }
        }
    }
}

/// Whom a send is for, as its caller knows them.
struct Target: Equatable, Sendable {
    var username: String?
    var phone: String?
    var userID: Int64?
    /// Where they were met.
    var origin: Origin?

    /// For a person who reads an answer.
    var name: String { username ?? phone ?? userID.map(String.init) ?? "" }

    /// The cheapest first.
    func references() throws(SendFailure) -> [TelegramReference] {
        var references: [TelegramReference] = []
        if let userID { references.append(.person(userID)) }
        if let username {
            guard
                let reference = TelegramReference(username.hasPrefix("@") ? username : Self.plain(username)),
                case .username = reference
            else { throw SendFailure(.invalidUsername, original: "USERNAME_INVALID") }
            references.append(reference)
        }
        if let phone {
            guard let reference = TelegramReference(phone.hasPrefix("+") ? phone : "+\(phone)"),
                case .phone = reference
            else { throw SendFailure(.invalidUsername, original: "Phone number is invalid") }
            references.append(reference)
        }
        return references
    }

    /// A bare name that is all digits is no id here: it was given as a name.
    private static func plain(_ text: String) -> String {
        text.contains("/") || text.contains(":") ? text : "@\(text)"
    }
}
