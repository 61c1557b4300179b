public import Core
import Storage

// What a page leaves behind, and the place behind it.
extension ParseStore {
    /// Writes what a page held together with the place behind it: both or neither. Throws `claimLost`, and has
    /// changed nothing, where somebody else works on the task or it was stopped.
    ///
    /// How often people wrote is counted from the rows of what they wrote, all that are new at once. Until then
    /// those rows are marked as not counted, in the same transaction that writes them.
    public func save(
        _ harvest: Course.Harvest, _ course: Course, of task: ParseTask, knowing known: KnownPeople = .nobody,
        counting isCounting: Bool = true, active: Duration, at now: Timestamp
    ) async throws -> ParseTask {
        let counts = task.counts
        let isIncremental = task.config.isIncremental
        let sightings = harvest.people.sightings
        let strangers = sightings.filter { !known.holds($0.person.platformID) }
        let limit: Duration? = isCounting ? .minutes(2) : nil
        return try await database.transaction(isolation: .readCommitted, timeout: limit) { transaction in
            if transaction.dialect == .postgres {
                // What a power cut takes is read again, rows and checkpoint together: no need to wait for the disk.
                try transaction.run("SELECT set_config('synchronous_commit', 'off', true)")
            }
            try transaction.hold(task)
            var course = course
            var new: [Merging.Sighting] = []
            if !strangers.isEmpty {
                let met = try transaction.met(strangers.map(\.person.platformID), in: task.number)
                new = strangers.filter { !met.contains($0.person.platformID) }
                // Who wrote is new by what they wrote; who is merely a member is new only once.
                let listed = new.filter { $0.messages == 0 }.map(\.person.platformID)
                if isIncremental, !listed.isEmpty {
                    let old = try transaction.known(listed, in: try transaction.earlierRuns(of: task))
                    course.noteKnown(Int64(old.count))
                    new.removeAll { old.contains($0.person.platformID) && $0.messages == 0 }
                }
            }
            let unmet = Set(new.map(\.person.platformID))
            try transaction.seeAgain(
                sightings.filter { $0.isToldOf && !unmet.contains($0.person.platformID) }, in: task.number)
            try transaction.insert(new, of: task.number, behind: counts.lastPerson)
            try transaction.insert(harvest.messages, of: task.number, behind: counts.lastMessage)
            let lastMessage = counts.lastMessage + Int64(harvest.messages.count)
            if isCounting {
                try transaction.countMessages(of: task.number, from: counts.countedMessage, to: lastMessage)
            }
            let rows = try transaction.run(
                """
                UPDATE parse_tasks SET course = \(course.stored), messages = messages + \(harvest.counts.messages),
                    media = media + \(harvest.counts.media), users = users + \(harvest.counts.users),
                    filtered = filtered + \(harvest.counts.filtered), results = results + \(new.count),
                    stored_messages = stored_messages + \(harvest.messages.count),
                    last_person = last_person + \(new.count), last_message = \(lastMessage),
                    counted_message = \(isCounting ? lastMessage : counts.countedMessage),
                    active_ms = active_ms + \(active.milliseconds), updated_at = \(now),
                    claimed_until = \(now + Self.claimDuration), revision = revision + 1
                WHERE no = \(task.number) RETURNING *
                """)
            return try ParseTask(rows[0])
        }
    }
}

extension Transaction {
    fileprivate func insert(_ people: [Merging.Sighting], of task: Int64, behind: Int64) throws {
        guard !people.isEmpty else { return }
        var place = behind
        let rows = people.map { sighting -> [SQLValue] in
            place += 1
            let person = sighting.person
            return [
                .integer(task), .integer(place), .text(person.platformID), value(person.username),
                .text(person.displayName), .text(person.firstName), .text(person.lastName),
                value(person.phone), value(sighting.first), value(sighting.last),
                // Counted from the rows of what they wrote, together with all others.
                .integer(0), .integer(PersonFlags(person).rawValue), .text(person.presence),
                .text(person.languageCode),
            ]
        }
        try copy(
            into: "parse_people",
            columns: [
                "task_no", "position", "platform_id", "username", "display_name", "first_name", "last_name",
                "phone", "first_seen", "last_seen", "message_count", "flags", "presence", "language_code",
            ], rows: rows)
    }

    fileprivate func insert(_ messages: [MessageRecord], of task: Int64, behind: Int64) throws {
        guard !messages.isEmpty else { return }
        var place = behind
        let rows = messages.map { message -> [SQLValue] in
            place += 1
            let author = message.author
            return [
                .integer(task), .integer(place), .text(message.platformID), .text(message.chatID),
                value(message.post), value(author?.platformID ?? message.authorChatID),
                value(author?.username), .text(author?.displayName ?? message.signature ?? ""),
                .integer(message.sentAt.milliseconds), value(message.editedAt), .text(message.content),
                value(message.media), value(message.fileID), .integer(message.views),
                .integer(message.forwards), .integer(message.reactions),
                message.replies.map { .integer($0) } ?? .null, value(message.replyTo),
                value(message.forwardedFrom),
            ]
        }
        try copy(
            into: "parse_messages",
            columns: [
                "task_no", "position", "platform_id", "chat_id", "post_id", "author_id", "author_username",
                "author_name", "sent_at", "edited_at", "content", "media", "file_id", "views", "forwards",
                "reactions", "replies", "reply_to", "forwarded_from",
            ], rows: rows)
    }
}

private func value(_ text: String?) -> SQLValue { text.map { .text($0) } ?? .null }
private func value(_ moment: Timestamp?) -> SQLValue { moment.map { .integer($0.milliseconds) } ?? .null }

/// What is yes or no of a person, in one number.
struct PersonFlags: OptionSet {
    let rawValue: Int64
    static let bot = PersonFlags(rawValue: 1)
    static let deleted = PersonFlags(rawValue: 2)
    static let premium = PersonFlags(rawValue: 4)
    static let contact = PersonFlags(rawValue: 8)
    static let scam = PersonFlags(rawValue: 16)
    static let admin = PersonFlags(rawValue: 32)

    init(rawValue: Int64) { self.rawValue = rawValue }

    init(_ person: PersonRecord) {
        var flags: PersonFlags = []
        if person.isBot { flags.insert(.bot) }
        if person.isDeleted { flags.insert(.deleted) }
        if person.isPremium { flags.insert(.premium) }
        if person.isContact { flags.insert(.contact) }
        if person.isScam { flags.insert(.scam) }
        if person.isAdmin { flags.insert(.admin) }
        self = flags
    }
}
