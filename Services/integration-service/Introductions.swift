import Core
import Integration
import Synchronization
import Telegram

/// Where somebody was met who is known by a number.
struct Origin: Equatable, Sendable {
    /// However it is written.
    let community: String
    /// What they are called there.
    let name: String?
}

/// Makes people who are known by a number alone known to an account's client. The library lets an account act only
/// on whom its own client has been shown: so the client reads, slowly and a little at a time, where they were met.
final class Introductions: Sendable {
    /// Of one account, whoever it reads for: the slowest pace of reading there is.
    static let perMinute = 20
    /// For one person at a time: a send has a permit that runs out.
    static let atOnce = 6
    /// How far back in what was written there.
    static let mostMessagePages = 30
    /// For so long a community that was read to its end is believed to hold nobody else.
    static let lasts = Duration.hours(12)
    private static let most = 10_000

    private struct Place: Hashable {
        let client: ClientID
        let community: String
    }
    private enum Progress {
        case members(of: ChatID, from: Int)
        case messages(in: ChatID, before: MessageID, page: Int)
        case read(until: Timestamp)
    }
    private struct Memory {
        var progress: [Place: Progress] = [:]
        var requests: [ClientID: [Timestamp]] = [:]
    }
    private let memory = Mutex(Memory())
    private let time: any TimeSource

    init(_ time: any TimeSource) { self.time = time }

    /// The person, known to the client from now on. Throws `SendFailure`: `personUnseen` with a time where reading has
    /// to go on later, and without one where this account finds them nowhere.
    func introduce(
        _ id: UserID, from origin: Origin?, to client: TelegramClient,
        _ chat: (String) async throws -> ChatID
    ) async throws -> Person {
        guard let origin else { throw SendFailure.unseen }
        let place = Place(client: client.id, community: origin.community)
        var turn = Turn(client: client.id)
        do {
            var progress = try await progress(in: place, &turn, client, chat)
            if case .members(let group, _) = progress, let name = origin.name, !name.isEmpty {
                try take(&turn)
                do {
                    _ = try await client.members(of: group, .search(name), limit: 50)
                } catch let failure as TelegramFailure where failure.isOfTheGroup {}
                if let person = try await known(id, to: client) { return person }
            }
            while true {
                if case .read = progress { throw SendFailure.unseen }
                try take(&turn)
                progress = try await next(after: progress, client)
                note(progress, in: place)
                if let person = try await known(id, to: client) { return person }
            }
        } catch let failure as TelegramFailure where failure.isOfTheGroup {
            note(.read(until: time.now + Self.lasts), in: place)
        } catch let failure as SendFailure where failure.code == .groupRestriction {
            note(.read(until: time.now + Self.lasts), in: place)
        }
        throw SendFailure.unseen
    }

    private func progress(
        in place: Place, _ turn: inout Turn, _ client: TelegramClient,
        _ chat: (String) async throws -> ChatID
    ) async throws -> Progress {
        switch memory.withLock({ $0.progress[place] }) {
        case .read(let end)? where end <= time.now: break
        case let found?: return found
        case nil: break
        }
        let progress = try await start(in: place, &turn, client, chat)
        note(progress, in: place)
        return progress
    }

    /// Where to read: nowhere, where nobody has written below a channel's posts.
    private func start(
        in place: Place, _ turn: inout Turn, _ client: TelegramClient,
        _ chat: (String) async throws -> ChatID
    ) async throws -> Progress {
        try take(&turn)
        let found = try await client.community(chat(place.community))
        var group = found.upgradedTo ?? found.chat
        if found.kind == .channel {
            // Who is met in a channel has written below its posts.
            try take(&turn)
            let posts = try await client.history(of: group, limit: 30).messages
            guard let post = posts.first(where: { ($0.comments ?? 0) > 0 }) else {
                return .read(until: time.now + Self.lasts)
            }
            try take(&turn)
            group = try await client.thread(of: post.id, in: group).chat
        }
        return .members(of: group, from: 0)
    }

    /// Reads one page more.
    private func next(after progress: Progress, _ client: TelegramClient) async throws -> Progress {
        switch progress {
        case .members(let group, let offset):
            do {
                let page = try await client.members(of: group, from: offset)
                if let next = page.next { return .members(of: group, from: next) }
            } catch let failure as TelegramFailure where failure.isOfTheGroup {
                // Hidden, or shown to administrators alone: then by what they have written.
            }
            return .messages(in: group, before: 0, page: 0)
        case .messages(let group, let before, let page):
            let found = try await client.history(of: group, before: before)
            guard let next = found.next, page + 1 < Self.mostMessagePages else {
                return .read(until: time.now + Self.lasts)
            }
            return .messages(in: group, before: next, page: page + 1)
        case .read: return progress
        }
    }

    /// From the client's own memory.
    private func known(_ id: UserID, to client: TelegramClient) async throws -> Person? {
        do {
            return try await client.person(id)
        } catch let failure as TelegramFailure where failure.reason == .unknownPerson {
            return nil
        }
    }

    private func note(_ progress: Progress, in place: Place) {
        memory.withLock { memory in
            if memory.progress.count >= Self.most { memory.progress = [:] }
            memory.progress[place] = progress
        }
    }

    // MARK: - Pace

    private struct Turn {
        let client: ClientID
        var requests = 0
    }

    private func take(_ turn: inout Turn) throws(SendFailure) {
        let now = time.now
        let wait = memory.withLock { memory -> Duration? in
            if memory.requests.count >= Self.most { memory.requests = [:] }
            let recent = memory.requests[turn.client, default: []].filter {
                $0 <= now && now - $0 < .minutes(1)
            }
            memory.requests[turn.client] = recent
            if recent.count >= Self.perMinute, let first = recent.first { return first + .minutes(1) - now }
            // Others are to have their turn in between.
            if turn.requests >= Self.atOnce { return .minutes(1) / (Self.perMinute / Self.atOnce) }
            memory.requests[turn.client, default: []].append(now)
            return nil
        }
        turn.requests += 1
        if let wait {
            throw SendFailure(
                .personUnseen, original: "User not found", retryAfter: max(1, wait.wholeSecondsUp))
        }
    }
}

extension SendFailure {
    /// The client's own word; Telegram was asked nothing.
    static let unseen = SendFailure(.personUnseen, original: "User not found")
}

extension TelegramFailure {
    /// It is about the place, not about the account that looked.
    fileprivate var isOfTheGroup: Bool {
        switch blame {
        case .group, .accountInGroup, .ourData, .target: true
        case .account, .ours, .passing, .unknown: false
        }
    }
}
