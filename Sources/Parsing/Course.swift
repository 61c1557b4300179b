public import Core

/// What a parse reads, step by step, and where it stands: the checkpoint. It is told what came and says what
/// comes next; it reads and waits for nothing itself.
public struct Course: Equatable, Sendable {
    public enum Step: String, Sendable, CaseIterable { case members, messages, comments }

    /// Why these steps were chosen, in one word.
    public enum Choice: String, Sendable, CaseIterable {
        case asked
        case membersListed = "members_listed"
        case membersHidden = "members_hidden"
        case membersCapped = "members_capped"
        case channelWithComments = "channel_with_comments"
        case channelWithoutComments = "channel_without_comments"

        public var sentence: LocalizedText {
            switch self {
            case .asked: .init("As asked for", "Как запрошено")
            case .membersListed:
                .init("The group lists its members", "Группа показывает список участников")
            case .membersHidden:
                .init(
                    "The group hides its members, so those who write are read as well",
                    "Группа скрывает участников, поэтому читаются и авторы сообщений")
            case .membersCapped:
                .init(
                    "The group has more members than Telegram lists, so those who write are read as well",
                    "Участников больше, чем показывает Telegram, поэтому читаются и авторы сообщений")
            case .channelWithComments:
                .init(
                    "A channel shows its members to nobody, but has comments: their authors are read",
                    "Канал не показывает подписчиков, но есть комментарии: читаются их авторы")
            case .channelWithoutComments:
                .init(
                    "A channel without comments: there are posts to read and no people",
                    "Канал без комментариев: есть посты, но нет людей")
            }
        }
    }

    /// How complete one step is.
    public struct Coverage: Equatable, Sendable {
        public var read: Int64 = 0
        /// What Telegram says there is.
        public var reported: Int64?
        /// Telegram shows no more than so many.
        public var cappedAt: Int64?
        /// The community keeps them from being seen.
        public var isHidden = false
        /// A limit of the task ended it.
        public var isLimited = false
        public var isFinished = false

        /// Those that are there and were not shown.
        public var hidden: Int64 {
            guard isFinished, !isLimited, isHidden || cappedAt != nil, let reported else { return 0 }
            return max(0, reported - read)
        }
    }

    struct Post: Equatable, Sendable {
        let id: String
        let comments: Int64
    }

    public internal(set) var community: CommunityRecord?
    public internal(set) var steps: [Step] = []
    public internal(set) var choice = Choice.asked
    var index = 0
    var cursor: String?
    /// Posts whose comments are still to be read, the next one first.
    var posts: [Post] = []
    var threadCursor: String?
    var thread: Int64 = 0
    var postsCursor: String?
    var isLastPost = false
    var coverage: [Step: Coverage] = [:]
    /// The newest of a step's messages: behind it the next incremental run begins.
    var newest: [Step: Int64] = [:]
    var floor: [Step: Int64] = [:]
    /// When reading began.
    var begun: Timestamp?
    /// How many messages there are, by the number of the newest; and the number reached.
    var newestOrdinal: Int64?
    var reachedOrdinal: Int64?
    var newestDate: Timestamp?
    var reachedDate: Timestamp?
    /// Rows of this run that were known from an earlier one.
    var known: Int64 = 0

    public init() {}

    /// Told before the first page is taken in; what is told later changes nothing.
    mutating func begin(at now: Timestamp) { begun = begun ?? now }

    public var isFinished: Bool { community != nil && index >= steps.count }
    public var step: Step? { index < steps.count ? steps[index] : nil }

    /// Items of the steps that count: members, messages or comments.
    public var itemsRead: Int64 { coverage.values.reduce(0) { $0 + $1.read } }

    // MARK: - What comes next

    /// What to ask for now; nil at the end.
    public func next(_ link: CommunityLink, _ config: ParseConfig, size: Int, pages: Int) -> ReadingRequest? {
        guard community != nil else { return ReadingRequest(.look, of: link, size: 1) }
        guard let step else { return nil }
        func request(_ what: ReadingRequest.What, _ cursor: String?) -> ReadingRequest {
            ReadingRequest(
                what, of: link, from: cursor, size: size, pages: pages,
                since: step == .members ? nil : config.since, until: step == .members ? nil : config.until)
        }
        switch step {
        case .members: return request(.members, cursor)
        case .messages: return request(.messages, cursor)
        case .comments:
            guard let post = posts.first else { return request(.messages, postsCursor) }
            return request(.comments(post: post.id), threadCursor)
        }
    }

    /// What a page held that is to be kept.
    public struct Harvest: Equatable, Sendable {
        public var people = Merging()
        public var messages: [MessageRecord] = []
        public var counts = TaskCounts()
    }

    /// Takes in a page and moves on. Throws where this community cannot be read in the way that was asked for.
    public mutating func take(
        _ page: ReadingPage, of request: ReadingRequest, _ type: TaskType, _ config: ParseConfig
    ) throws(CourseError) -> Harvest {
        var harvest = Harvest()
        if let found = page.community {
            if community == nil || community?.memberCount != found.memberCount { community = found }
        }
        if request.what == .look {
            guard community != nil else { throw .nothingToldOfCommunity }
            try choose(type, config, newest: page.messages.first)
            return harvest
        }
        guard let step else { return harvest }
        // A page that leads nowhere is the end, or it would be read for ever.
        let isEnd =
            page.failure == nil
            && (page.isEnd || page.cursor == nil || (page.cursor == request.cursor && request.cursor != nil))
        switch request.what {
        case .look: break
        case .members: takeMembers(page, isEnd, config, &harvest)
        case .messages where step == .messages: takeMessages(page, isEnd, config, &harvest)
        case .messages: takePosts(page, isEnd)
        case .comments: takeComments(page, isEnd, config, &harvest)
        }
        return harvest
    }

    /// A post's comments are not there any more.
    public mutating func skipThread() {
        if !posts.isEmpty { posts.removeFirst() }
        threadCursor = nil
        thread = 0
        endCommentsIfDone()
    }

    /// Those found to be known from an earlier run.
    mutating func noteKnown(_ count: Int64) { known += count }

    /// Where the run before ended, for one that reads only what is new.
    mutating func goOn(from previous: Course) {
        floor = previous.newest.merging(previous.floor) { max($0, $1) }
    }

    // MARK: - Choosing

    private mutating func choose(
        _ type: TaskType, _ config: ParseConfig, newest message: MessageRecord?
    ) throws(CourseError) {
        guard let community else { return }
        let isChannel = community.kind == .channel
        let isCapped = (community.memberListCap ?? .max) < (community.memberCount ?? 0)
        switch type {
        case .members:
            guard !isChannel || community.canListMembers || community.isAdmin else {
                throw .membersOfChannel
            }
            steps = [.members]
        case .messages: steps = [.messages]
        case .comments:
            guard isChannel else { throw .commentsOfGroup }
            guard community.hasDiscussion else { throw .noComments }
            steps = [.comments]
        case .parse where isChannel && community.isAdmin && community.canListMembers:
            steps = community.hasDiscussion ? [.members, .comments] : [.members]
            choice = .membersListed
        case .parse where isChannel:
            steps = [community.hasDiscussion ? .comments : .messages]
            choice = community.hasDiscussion ? .channelWithComments : .channelWithoutComments
        case .parse:
            let isHidden = community.hidesMembers && !community.isAdmin
            choice = isHidden ? .membersHidden : isCapped ? .membersCapped : .membersListed
            steps = isHidden || isCapped ? [.members, .messages] : [.members]
        }
        for step in steps { coverage[step] = Coverage() }
        if steps.contains(.members) {
            coverage[.members]?.reported = community.memberCount
            coverage[.members]?.isHidden = community.hidesMembers && !community.isAdmin
            if isCapped { coverage[.members]?.cappedAt = community.memberListCap }
        }
        newestOrdinal = message?.ordinal
        newestDate = message?.sentAt
        if steps.contains(.messages) { coverage[.messages]?.reported = message == nil ? 0 : message?.ordinal }
        if steps.contains(.comments) { coverage[.comments]?.reported = 0 }
    }

    // MARK: - Taking in

    private mutating func takeMembers(
        _ page: ReadingPage, _ isEnd: Bool, _ config: ParseConfig, _ harvest: inout Harvest
    ) {
        let before = coverage[.members]?.read ?? 0
        let room = config.memberLimit.map { max(0, $0 - before) } ?? .max
        let people = page.people.prefix(Int(clamping: room))
        harvest.counts.users = Int64(people.count)
        for person in people {
            guard config.filters.keeps(person) else {
                harvest.counts.filtered += 1
                continue
            }
            harvest.people.see(person, first: person.joinedAt, last: person.lastThere)
        }
        coverage[.members]?.read = before + Int64(people.count) + Int64(page.others)
        cursor = page.cursor ?? cursor
        let isCut = people.count < page.people.count || (room == Int64(people.count) && !isEnd)
        if isCut { coverage[.members]?.isLimited = true }
        if isEnd || isCut { finishStep() }
    }

    private mutating func takeMessages(
        _ page: ReadingPage, _ isEnd: Bool, _ config: ParseConfig, _ harvest: inout Harvest
    ) {
        let (messages, isCut) = usable(page.messages, .messages, config, behind: cursorOrder)
        take(messages, .messages, config, &harvest)
        cursor = page.cursor ?? cursor
        if let last = page.messages.last {
            reachedOrdinal = last.ordinal
            reachedDate = last.sentAt
            cursorOrder = last.order
        }
        if isEnd || isCut { finishStep() }
    }

    private mutating func takePosts(_ page: ReadingPage, _ isEnd: Bool) {
        var reported = coverage[.comments]?.reported ?? 0
        for post in page.messages where post.order < (postOrder ?? .max) {
            postOrder = post.order
            if let comments = post.replies, comments > 0 {
                posts.append(Post(id: post.platformID, comments: comments))
                reported += comments
            }
        }
        coverage[.comments]?.reported = reported
        if let last = page.messages.last { reachedOrdinal = last.ordinal }
        postsCursor = page.cursor ?? postsCursor
        if isEnd { isLastPost = true }
        endCommentsIfDone()
    }

    private mutating func takeComments(
        _ page: ReadingPage, _ isEnd: Bool, _ config: ParseConfig, _ harvest: inout Harvest
    ) {
        let (messages, isCut) = usable(page.messages, .comments, config, behind: cursorOrder)
        take(messages, .comments, config, &harvest)
        thread += Int64(messages.count)
        threadCursor = page.cursor ?? threadCursor
        cursorOrder = page.messages.last?.order ?? cursorOrder
        if coverage[.comments]?.isLimited == true { return finishStep() }
        if isEnd || isCut {
            if !posts.isEmpty { posts.removeFirst() }
            threadCursor = nil
            cursorOrder = nil
            thread = 0
            endCommentsIfDone()
        }
    }

    private mutating func endCommentsIfDone() {
        guard posts.isEmpty, isLastPost, step == .comments else { return }
        finishStep()
    }

    /// The messages that are new to us and within the limits, and whether that is where reading ends. Each is
    /// older than the one before; what is not has been taken in already.
    private mutating func usable(
        _ messages: [MessageRecord], _ step: Step, _ config: ParseConfig, behind: Int64?
    ) -> (ArraySlice<MessageRecord>, isCut: Bool) {
        var fresh = messages[...]
        if let behind { fresh = messages.filter { $0.order < behind }[...] }
        var isCut = false
        if let floor = floor[step], let end = fresh.firstIndex(where: { $0.order <= floor }) {
            fresh = fresh[..<end]
            isCut = true
        }
        if let limit = config.messageLimit {
            let room = Int(clamping: max(0, limit - (coverage[step]?.read ?? 0)))
            if fresh.count >= room {
                // Whether more would have come is not known; that it was cut is said only when it was.
                if fresh.count > room || !isCut { coverage[step]?.isLimited = true }
                fresh = fresh.prefix(room)
                isCut = true
            }
        }
        return (fresh, isCut)
    }

    private mutating func take(
        _ messages: ArraySlice<MessageRecord>, _ step: Step, _ config: ParseConfig,
        _ harvest: inout Harvest
    ) {
        for message in messages {
            note(message, step)
            harvest.counts.messages += 1
            if message.media != nil { harvest.counts.media += 1 }
            guard config.filters.keeps(message) else {
                harvest.counts.filtered += 1
                continue
            }
            if let author = message.author {
                harvest.counts.users += 1
                if config.filters.keeps(author) {
                    harvest.people.see(
                        author, first: message.sentAt, last: message.sentAt,
                        messages: message.isEvent ? 0 : 1)
                } else {
                    harvest.counts.filtered += 1
                    continue
                }
            }
            guard !message.isEvent else { continue }
            var kept = message
            if !config.includesMedia {
                kept.media = nil
                kept.fileID = nil
            }
            harvest.messages.append(kept)
        }
        coverage[step]?.read += Int64(messages.count)
    }

    /// Comments are written while others are read, under posts that have been read already too. So the next run
    /// goes back to when this one began, and not to the newest that this one happened to see.
    private mutating func note(_ message: MessageRecord, _ step: Step) {
        if step == .comments, let begun, message.sentAt.seconds >= begun.seconds { return }
        newest[step] = max(newest[step] ?? .min, message.order)
    }

    private mutating func finishStep() {
        if let step { coverage[step]?.isFinished = true }
        index += 1
        cursor = nil
        cursorOrder = nil
    }

    /// The order of the last message taken in, and of the last post.
    var cursorOrder: Int64?
    var postOrder: Int64?
}
