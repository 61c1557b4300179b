import Core
import HTTP
import Integration
import ServiceKit
import Storage

/// The integration log as its owner reads it: what was done at Telegram, from here, and what became of the
/// accounts, from account-manager, by time in one list.
struct LogBook: Sendable {
    /// A page that begins behind so many entries is found by time instead of by counting through both logs.
    private static let shallow = 200

    let store: LogStore
    let peers: Peers
    let time: any TimeSource
    let log: Log

    enum Source: String, Sendable, CaseIterable {
        case own = "integration-service"
        case accounts = "account-manager"
    }

    enum Status: String, Sendable, CaseIterable { case success, warning, error, started }

    /// An action of either log.
    enum Action: Sendable {
        case own(Integration.Action)
        case decision(AccountDecision)

        init?(_ text: String) {
            if let action = Integration.Action(rawValue: text.lowercased()) {
                self = .own(action)
            } else if let decision = AccountDecision(rawValue: text.lowercased()) {
                self = .decision(decision)
            } else {
                return nil
            }
        }
    }

    struct Wish: Sendable {
        var action: Action?
        var status: Status?
        var source: Source?
        var accountID: UniqueID?
        var from: Timestamp?
        var to: Timestamp?

        /// Nil where nothing of our own is meant.
        var ownFilter: LogFilter? {
            guard source != .accounts else { return nil }
            var filter = LogFilter(accountID: accountID, from: from, to: to)
            switch action {
            case .own(let action)?: filter.action = action
            case .decision?: return nil
            case nil: break
            }
            if let status {
                guard let own = LogEntry.Status(rawValue: status.rawValue) else { return nil }
                filter.status = own
            }
            return filter
        }

        /// The query to account-manager; nil where nothing of its log is meant.
        var decisionQuery: [(String, String)]? {
            guard source != .own, status != .started else { return nil }
            var query: [(String, String)] = []
            switch action {
            case .own?: return nil
            case .decision(let decision)?: query.append(("action", decision.rawValue))
            case nil: break
            }
            if let status { query.append(("status", status.rawValue)) }
            if let accountID { query.append(("account_id", accountID.description)) }
            if let from { query.append(("from", from.description)) }
            if let to { query.append(("to", to.description)) }
            return query
        }
    }

    struct Found: Sendable {
        let items: [JSONValue]
        let total: Int
        /// Whose part could not be had.
        let missing: [String]
    }

    private struct Line: Sendable {
        let at: Timestamp
        let json: JSONValue
    }

    func page(
        of user: UserIdentity, _ wish: Wish, offset: Int, size: Int, _ language: Language
    ) async throws -> Found {
        do {
            return try await wholePage(of: user, wish, offset, size, language)
        } catch let error as Unanswered {
            log.warning("log.half", ["error": .error(error)])
            return Found(
                items: try await lines(own: wish, user, offset, size, language).map(\.json),
                total: try await total(own: wish, user), missing: [Source.accounts.rawValue])
        }
    }

    private func wholePage(
        of user: UserIdentity, _ wish: Wish, _ offset: Int, _ size: Int, _ language: Language
    ) async throws -> Found {
        let own = try await total(own: wish, user)
        let total = own + (try await self.total(decisions: wish, user))
        func found(_ lines: some Sequence<Line>) -> Found {
            Found(items: lines.map(\.json), total: total, missing: [])
        }
        guard own > 0 else { return found(try await lines(decisions: wish, user, offset, size, language)) }
        guard own < total else { return found(try await lines(own: wish, user, offset, size, language)) }
        var (wish, skip) = (wish, offset)
        if offset > Self.shallow {
            let (moment, newer) = try await moment(behind: offset, wish, user)
            wish.to = moment
            skip = offset - newer
        }
        let ours = try await lines(own: wish, user, 0, skip + size, language)
        let theirs = try await lines(decisions: wish, user, 0, skip + size, language)
        return found(merged(ours, theirs).dropFirst(skip).prefix(size))
    }

    /// The newest first; of two in one moment ours, for the decision followed from it.
    private func merged(_ ours: [Line], _ theirs: [Line]) -> [Line] {
        var (result, left, right) = ([Line](), ours[...], theirs[...])
        while let first = left.first, let second = right.first {
            result.append(first.at >= second.at ? left.removeFirst() : right.removeFirst())
        }
        return result + left + right
    }

    /// The earliest moment with at most `count` entries since, and how many those are.
    private func moment(behind count: Int, _ wish: Wish, _ user: UserIdentity) async throws -> (
        Timestamp, Int
    ) {
        // Nothing is older than Telegram, or newer than the clocks of two services may differ.
        var low = wish.from?.milliseconds ?? 1_375_000_000_000
        var high = wish.to?.milliseconds ?? (time.now + .hours(1)).milliseconds
        var known = 0
        while low < high {
            let middle = low + (high - low) / 2
            var later = wish
            later.from = Timestamp(milliseconds: middle)
            let newer = try await total(own: later, user) + total(decisions: later, user)
            if newer <= count {
                high = middle
                known = newer
            } else {
                low = middle + 1
            }
        }
        return (Timestamp(milliseconds: high), known)
    }

    // MARK: - Ours

    private func total(own wish: Wish, _ user: UserIdentity) async throws -> Int {
        guard let filter = wish.ownFilter else { return 0 }
        return try await store.count(of: user.id, filter)
    }

    private func lines(
        own wish: Wish, _ user: UserIdentity, _ offset: Int, _ limit: Int, _ language: Language
    ) async throws -> [Line] {
        guard let filter = wish.ownFilter else { return [] }
        return try await store.entries(of: user.id, filter, offset: offset, limit: limit).items.map {
            Line(at: $0.at, json: $0.json(in: language))
        }
    }

    // MARK: - account-manager's

    /// Its part cannot be had just now.
    private struct Unanswered: Error { let reason: String }

    private func ask(_ query: [(String, String)], page: Int, size: Int, _ user: UserIdentity) async throws
        -> (items: [JSONValue], total: Int)
    {
        let pairs = query + [("page", String(page)), ("page_size", String(size))]
        let text = pairs.map { "\($0.0)=\(percentEncoded($0.1))" }.joined(separator: "&")
        do {
            let answer = try await peers.ask(
                "account-manager", .get, "/api/v1/account-manager/logs?\(text)", onBehalfOf: user,
                deadline: .seconds(15))
            let json = try await answer.json(limit: 4 << 20)
            // An account it does not know has nothing written of it.
            if answer.status == 404 { return ([], 0) }
            guard answer.status == 200, let items = json["items"]?.arrayValue,
                let total = json["total"]?.intValue
            else { throw Unanswered(reason: "status \(answer.status)") }
            return (items, Int(total))
        } catch  where !(error is Unanswered) && !(error is CancellationError) {
            throw Unanswered(reason: "\(error)")
        }
    }

    private func total(decisions wish: Wish, _ user: UserIdentity) async throws -> Int {
        guard let query = wish.decisionQuery else { return 0 }
        return try await ask(query, page: 1, size: 1, user).total
    }

    private func lines(
        decisions wish: Wish, _ user: UserIdentity, _ offset: Int, _ limit: Int, _ language: Language
    ) async throws -> [Line] {
        guard let query = wish.decisionQuery else { return [] }
        let size = 100
        var lines: [Line] = []
        for page in (offset / size + 1)...((offset + limit - 1) / size + 1) {
            let found = try await ask(query, page: page, size: size, user)
            lines += found.items.compactMap { line($0, language) }
            if page * size >= found.total { break }
        }
        return Array(lines.dropFirst(offset % size).prefix(limit))
    }

    private func line(_ item: JSONValue, _ language: Language) -> Line? {
        guard let at = item["at"]?.stringValue.flatMap({ Timestamp($0) }),
            let action = item["action"]?.stringValue
        else { return nil }
        let details = item["details"] ?? [:]
        let title = AccountDecision(rawValue: action).map { $0.title(language) } ?? action
        return Line(
            at: at,
            json: [
                "id": .string("account-manager/\(item["id"]?.intValue ?? 0)"),
                "source": .string(Source.accounts.rawValue), "account_id": item["account_id"] ?? .null,
                "action": .string(action), "title": .string(title), "status": item["status"] ?? "success",
                "error_code": details["error_type"] ?? .null, "details": details, "request_id": "",
                "duration_ms": 0, "created_at": at.json,
            ])
    }
}
