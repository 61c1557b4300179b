public import Core

/// The platforms there are.
public enum Platform: String, Sendable, CaseIterable { case telegram }

/// A platform that can be read. What is special about one ends here: a parse knows people, messages and pages.
public protocol PlatformAdapter: Sendable {
    var platform: Platform { get }

    /// The community a text leads to; nil where it leads to none.
    func community(_ written: String) -> CommunityLink?

    /// Reads one page. What was read before a failure comes with it.
    func read(_ request: ReadingRequest, with lease: AccountLease, for user: Int64) async throws
        -> ReadingPage

    /// How many requests to the platform a page costs.
    func cost(of request: ReadingRequest) -> Int
}

/// What is asked of a platform in one go.
public struct ReadingRequest: Equatable, Sendable {
    public enum What: Equatable, Sendable {
        /// The community itself and its newest message.
        case look
        case members
        case messages
        case comments(post: String)
    }
    public var what: What
    public var community: CommunityLink
    /// Where the page before ended; nil is the start.
    public var cursor: String?
    public var size: Int
    public var pages: Int
    public var since: Timestamp?
    public var until: Timestamp?

    public init(
        _ what: What, of community: CommunityLink, from cursor: String? = nil, size: Int, pages: Int = 1,
        since: Timestamp? = nil, until: Timestamp? = nil
    ) {
        self.what = what
        self.community = community
        self.cursor = cursor
        self.size = size
        self.pages = pages
        self.since = since
        self.until = until
    }
}

/// What one request brought.
public struct ReadingPage: Equatable, Sendable {
    public var community: CommunityRecord?
    /// The platform's own count of what is read.
    public var total: Int64?
    public var people: [PersonRecord] = []
    /// Members that are no people: communities, or what nobody could read.
    public var others = 0
    public var messages: [MessageRecord] = []
    public var cursor: String?
    public var isEnd = false
    public var failure: ReadingFailure?

    public init() {}
}

/// Why a page could not be read, and so what to do.
public enum ReadingFailure: Error, Equatable, Sendable {
    /// The platform asks this account to wait; another may go on.
    case mustWait(Duration)
    /// This account cannot go on, now or ever: to be told to the one who keeps the accounts.
    case accountTrouble(type: String, message: String)
    /// Somebody else has the account now.
    case leaseLost
    /// This account has no way into the community; another may.
    case noAccess(message: String)
    /// The community does not let itself be read by anybody.
    case refused(code: String, message: String)
    /// There are no comments under this post, or not any more.
    case nothingThere
    /// Something of ours or theirs does not answer just now.
    case unreachable(message: String)
}
