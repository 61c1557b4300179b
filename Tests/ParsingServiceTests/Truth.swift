import Core
import Testing

@testable import Sandbox

/// What a group of the sandbox really holds.
struct Truth: Sendable {
    struct Message: Equatable, Sendable {
        let author: Int64?
        let date: Timestamp
        let text: String
        let media: String?
        let reactions: Int64
        let forwards: Int64
        let replyTo: String?
    }
    struct Author: Equatable, Sendable {
        var count: Int64 = 0
        var first: Timestamp
        var last: Timestamp
    }
    /// By id; events of the group's life left out.
    var messages: [String: Message] = [:]
    /// How many there are, events included.
    var total = 0
    /// By number; whoever is met only in events has written nothing.
    var authors: [String: Author] = [:]

    private static let media = [
        "messagePhoto": "photo", "messageVideo": "video", "messageDocument": "document",
        "messageVoiceNote": "voice_note", "messageSticker": "sticker", "messagePoll": "poll",
    ]

    mutating func add(_ written: World.Written) {
        total += 1
        let type = written.content["@type"]?.stringValue ?? ""
        let isEvent = type == "messageChatJoinByLink" || type == "messageChatAddMembers"
        // Telegram counts in whole seconds.
        let date = Timestamp(seconds: written.date.seconds)
        if written.sender > 0 {
            var author = authors[String(written.sender)] ?? Author(first: date, last: date)
            author.count += isEvent ? 0 : 1
            author.first = min(author.first, date)
            author.last = max(author.last, date)
            authors[String(written.sender)] = author
        }
        guard !isEvent else { return }
        messages[String(written.id)] = Message(
            author: written.sender, date: date,
            text: (written.content["text"] ?? written.content["caption"])?["text"]?.stringValue ?? "",
            media: Self.media[type], reactions: written.reactions, forwards: written.forwards,
            replyTo: written.replyTo.map { String($0 << 20) })
    }
}

extension Plant {
    /// All that was ever written in a group or channel.
    func truth(of username: String) -> Truth {
        world.change { world in
            var truth = Truth()
            guard let chat = world.usernames[username], let group = world.group(ofChat: chat) else {
                return truth
            }
            for number in 1...max(1, group.historyCount + Int64(group.messages.count)) {
                if let written = world.message(number, in: group) { truth.add(written) }
            }
            return truth
        }
    }

    /// The comments under a channel's posts.
    func comments(of username: String) -> Truth {
        world.change { world in
            var truth = Truth()
            guard let chat = world.usernames[username], let channel = world.group(ofChat: chat),
                let discussion = channel.linked.flatMap({ world.groups[$0] })
            else { return truth }
            for number in 1...max(1, discussion.historyCount) where number % World.threadSpan != 0 {
                if let written = world.message(number, in: discussion) { truth.add(written) }
            }
            return truth
        }
    }

    /// A group of a test's own.
    func addGroup(_ username: String, messages: Int64, members: Int, hidesMembers: Bool = false) {
        world.change { world in
            let id = Int64(9000 + world.groups.count)
            let founders = (0..<Int64(members)).map { Human.firstID + $0 }
            let group = Group(
                .supergroup, id: id, title: "Group \(username)", username: username, about: "A test's",
                founders: founders, historyCount: messages)
            group.hidesMembers = hidesMembers
            world.groups[id] = group
            world.usernames[username] = group.chatID
        }
    }
}

extension Plant {
    /// A channel of a test's own, with a discussion.
    func addChannel(_ username: String, posts: Int64) {
        world.change { world in
            let id = Int64(9500 + world.groups.count)
            let founders = (0..<60).map { Human.firstID + $0 }
            let channel = Group(
                .channel, id: id, title: "Channel \(username)", username: username, about: "A test's",
                founders: founders, historyCount: posts)
            channel.linked = id + 200
            let discussion = Group(
                .supergroup, id: id + 200, title: "Talk of \(username)", username: "\(username)_talk",
                founders: founders, historyCount: (posts + 1) * World.threadSpan - 1)
            discussion.linked = id
            for group in [channel, discussion] {
                world.groups[group.id] = group
                if let username = group.username { world.usernames[username] = group.chatID }
            }
        }
    }
}

/// What a task found, in the words of the truth.
struct Found: Sendable {
    var messages: [String: Truth.Message] = [:]
    var authors: [String: Truth.Author] = [:]
    /// Ids that stand there more than once.
    var repeated: [String] = []

    init(messages items: [JSONValue], people: [JSONValue]) {
        for item in items {
            guard let id = item["platform_id"]?.stringValue else { continue }
            if messages[id] != nil { repeated.append(id) }
            let data = item["platform_specific_data"]
            messages[id] = Truth.Message(
                author: item["author_id"]?.stringValue.flatMap { Int64($0) },
                date: item["first_seen"]?.stringValue.flatMap { Timestamp($0) } ?? .epoch,
                text: item["content"]?.stringValue ?? "", media: item["media"]?.stringValue,
                reactions: data?["reactions"]?.intValue ?? 0, forwards: data?["forwards"]?.intValue ?? 0,
                replyTo: data?["reply_to"]?.stringValue)
        }
        for item in people {
            guard let id = item["platform_id"]?.stringValue else { continue }
            if authors[id] != nil { repeated.append(id) }
            authors[id] = Truth.Author(
                count: item["message_count"]?.intValue ?? 0,
                first: item["first_seen"]?.stringValue.flatMap { Timestamp($0) } ?? .epoch,
                last: item["last_seen"]?.stringValue.flatMap { Timestamp($0) } ?? .epoch)
        }
    }

    /// Where it differs from the truth; nothing, where all is well.
    func differences(from truth: Truth) -> [String] {
        var differences: [String] = repeated.prefix(5).map { "\($0) twice" }
        for (id, message) in truth.messages where messages[id] != message {
            differences.append("message \(id): \(String(describing: messages[id])), not \(message)")
        }
        for id in messages.keys where truth.messages[id] == nil {
            differences.append("message \(id) is invented")
        }
        for (id, author) in truth.authors where authors[id] != author {
            differences.append("author \(id): \(String(describing: authors[id])), not \(author)")
        }
        for id in authors.keys where truth.authors[id] == nil {
            differences.append("author \(id) is invented")
        }
        return Array(differences.sorted().prefix(5))
    }
}

extension Plant.Run {
    func found(_ id: String) async throws -> Found {
        Found(
            messages: try await results(id, "&kind=messages"), people: try await results(id, "&kind=people"))
    }
}

extension Plant {
    func write(_ text: String, by author: Int64, in chat: Int64) {
        world.change { world in
            guard let group = world.group(ofChat: chat) else { return }
            world.make(.groupMessage(group: group.id, sender: author, text: text, thread: nil, at: world.now))
        }
    }

    /// Somebody who comes in now.
    func newcomer(in username: String) -> Int64? {
        world.change { world in
            guard let chat = world.usernames[username], let group = world.group(ofChat: chat) else {
                return nil
            }
            let members = Set(group.members)
            let id = (0..<Int64(world.options.people)).map { Human.firstID + $0 }.first {
                !members.contains($0)
            }
            guard let id else { return nil }
            world.make(
                .standing(
                    group: group.id, user: id, kind: .member, mayInvite: false, inviter: 0, at: world.now))
            return id
        }
    }
}
