public import Core

/// How fast a parse may ask Telegram. What is documented is what goes out: a page of so many items, so long
/// apart, and so many requests a minute.
public enum Speed: String, Sendable, CaseIterable {
    case safe, medium, fast

    public struct Figures: Equatable, Sendable {
        /// Between two requests for messages.
        public let betweenMessages: Duration
        /// Between two requests for people.
        public let betweenUsers: Duration
        /// Items one request asks for.
        public let batch: Int
        public let requestsPerMinute: Int

        public init(betweenMessages: Duration, betweenUsers: Duration, batch: Int, requestsPerMinute: Int) {
            self.betweenMessages = betweenMessages
            self.betweenUsers = betweenUsers
            self.batch = batch
            self.requestsPerMinute = requestsPerMinute
        }
    }

    public var figures: Figures {
        switch self {
        case .safe:
            Figures(
                betweenMessages: .seconds(2), betweenUsers: .seconds(3), batch: 10, requestsPerMinute: 20)
        case .medium:
            Figures(
                betweenMessages: .milliseconds(800), betweenUsers: .milliseconds(1500), batch: 25,
                requestsPerMinute: 40)
        case .fast:
            Figures(
                betweenMessages: .milliseconds(200), betweenUsers: .milliseconds(500), batch: 50,
                requestsPerMinute: 90)
        }
    }

    public var name: LocalizedText {
        switch self {
        case .safe: .init("Safe", "Безопасный")
        case .medium: .init("Medium (recommended)", "Средний (рекомендуемый)")
        case .fast: .init("Fast (risky)", "Быстрый (опасный)")
        }
    }

    /// How long reading so many items takes at least.
    public func duration(of items: Int64, asking what: Pace.Asking) -> Duration {
        let figures = figures
        let requests = (max(items, 0) + Int64(figures.batch) - 1) / Int64(figures.batch)
        let minute = Duration.seconds(60) / figures.requestsPerMinute
        return max(what == .users ? figures.betweenUsers : figures.betweenMessages, minute) * Int(requests)
    }

    public func json(_ language: Language, estimated: Duration?) -> JSONValue {
        let figures = figures
        return .object(present: [
            "name": .string(name(language)), "speed": .string(rawValue),
            "message_delay_seconds": .double(figures.betweenMessages.inSeconds),
            "user_delay_seconds": .double(figures.betweenUsers.inSeconds),
            "batch_size": JSONValue(figures.batch),
            "requests_per_minute": JSONValue(figures.requestsPerMinute),
            "estimated_seconds": estimated.map { .int($0.wholeSecondsUp) },
        ])
    }
}

/// Decides when an account may ask Telegram again. It is told the time and answers at once.
///
/// It belongs to the account, not to the task: two tasks that use an account one after the other keep one pace.
public struct Pace: Equatable, Sendable {
    public enum Asking: Sendable { case messages, users }
    private static let window: Duration = .seconds(60)

    /// When this account asked within the last minute, the oldest first.
    public private(set) var requests: [Timestamp]

    public init(requests: [Timestamp] = []) { self.requests = requests.sorted() }

    /// The first moment at which `count` requests may go out together; never before `now`.
    public func next(
        _ asking: Asking, _ figures: Speed.Figures, count: Int = 1, at now: Timestamp
    ) -> Timestamp {
        var moment = now
        if let last = requests.last {
            let pause = asking == .users ? figures.betweenUsers : figures.betweenMessages
            // A clock that was set back must not make anybody wait longer than the pause.
            moment = max(moment, min(last, now) + pause)
        }
        let recent = requests.filter { $0 + Self.window > now && $0 <= now }
        let surplus = recent.count + min(count, figures.requestsPerMinute) - figures.requestsPerMinute
        if surplus > 0 { moment = max(moment, recent[surplus - 1] + Self.window) }
        return moment
    }

    /// Notes what goes out now.
    public mutating func note(_ count: Int = 1, at now: Timestamp) {
        requests.removeAll { $0 + Self.window <= now || $0 > now }
        requests += Array(repeating: now, count: count)
    }

    /// As it is kept with the account.
    var stored: String { requests.map { String($0.milliseconds) }.joined(separator: " ") }

    init(stored: String) {
        self.init(
            requests: stored.split(separator: " ").compactMap { Int64($0) }.map {
                Timestamp(milliseconds: $0)
            })
    }
}
