import Core
import Security
import Storage
import Testing

@testable import Integration

@Suite struct `The integration log` {
    private func entry(
        _ action: Action, _ status: LogEntry.Status = .success, of user: Int64 = 1, account: UniqueID? = nil,
        code: String? = nil, at moment: Timestamp
    ) -> LogEntry {
        LogEntry(
            id: UniqueID(at: moment, random), userID: user, accountID: account, action: action,
            status: status,
            errorCode: code, details: ["group": "name"], requestID: "r1", duration: .milliseconds(12),
            at: moment)
    }

    @Test(arguments: Engine.available)
    func `is filtered by everything it may be asked for, the newest first`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            let store = LogStore(database)
            let account = newID()
            let entries = [
                entry(.groupInvite, account: account, at: noon),
                entry(.groupInvite, .error, account: account, code: "peer_flood", at: noon + .seconds(1)),
                entry(.connect, at: noon + .seconds(2)), entry(.connect, of: 2, at: noon + .seconds(3)),
            ]
            for entry in entries { try await store.write(entry) }
            func found(_ filter: LogFilter, of user: Int64 = 1) async throws -> [LogEntry] {
                try await store.entries(of: user, filter, offset: 0, limit: 10).items
            }
            #expect(try await found(LogFilter()) == [entries[2], entries[1], entries[0]])
            #expect(try await found(LogFilter(action: .groupInvite)) == [entries[1], entries[0]])
            #expect(try await found(LogFilter(status: .error)) == [entries[1]])
            #expect(try await found(LogFilter(accountID: account)) == [entries[1], entries[0]])
            #expect(try await found(LogFilter(accountID: newID())).isEmpty)
            #expect(
                try await found(LogFilter(from: noon + .seconds(1), to: noon + .seconds(2))) == [entries[1]])
            #expect(try await found(LogFilter(), of: 2) == [entries[3]])
            let page = try await store.entries(of: 1, LogFilter(), offset: 1, limit: 1)
            #expect(page.items == [entries[1]])
            #expect(page.total == 3)
        }
    }

    @Test(arguments: Engine.available)
    func `counts errors by action and code, of one user alone`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            let store = LogStore(database)
            for second in 0..<3 {
                try await store.write(
                    entry(.groupInvite, .error, code: "flood_wait", at: noon + .seconds(Int64(second))))
            }
            try await store.write(entry(.verify, .error, code: "code_invalid", at: noon))
            try await store.write(entry(.verify, .error, of: 2, code: "code_invalid", at: noon))
            try await store.write(entry(.verify, at: noon))
            let errors = try await store.errors(of: 1, LogFilter())
            #expect(errors.map(\.code) == ["flood_wait", "code_invalid"])
            #expect(errors.map(\.count) == [3, 1])
            #expect(errors.first?.last == noon + .seconds(2))
            #expect(try await store.count(of: 1, LogFilter()) == 5)
            try await store.tidy(before: noon + .seconds(1))
            #expect(try await store.count(of: 1, LogFilter()) == 2)
        }
    }

    @Test(arguments: Action.allCases) func `names every action in both languages`(action: Action) {
        #expect(action.title.russian.unicodeScalars.contains { ("а"..."я").contains($0) })
        #expect(!action.title.english.isEmpty)
    }
}

@Suite struct `Bots and channels` {
    @Test(arguments: Engine.available)
    func `are added, changed and removed by their own user alone`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            let (bots, channels) = (BotStore(database), ChannelStore(database))
            let profile = BotProfile(telegramUserID: 42, username: "helper_bot", name: "Helper")
            let bot = try await bots.add(newID(), of: 1, profile, description: "", sealedToken: "s", at: noon)
            await #expect(throws: IntegrationError.botTaken) {
                try await bots.add(newID(), of: 1, profile, description: "", sealedToken: "s", at: noon)
            }
            _ = try await bots.add(newID(), of: 2, profile, description: "", sealedToken: "s", at: noon)
            let changed = try await bots.change(bot.id, of: 1, description: "new", at: noon + .seconds(1))
            #expect(changed.description == "new")
            #expect(changed.isActive && changed.checkedAt == noon && changed.profile == profile)
            #expect(try await bots.change(bot.id, of: 1, isActive: false, at: noon).isActive == false)
            await #expect(throws: IntegrationError.unknownBot) { try await bots.bot(bot.id, of: 2) }
            await #expect(throws: IntegrationError.unknownBot) {
                try await bots.change(bot.id, of: 2, at: noon)
            }
            await #expect(throws: IntegrationError.unknownBot) { try await bots.remove(bot.id, of: 2) }
            try await bots.remove(bot.id, of: 1)
            #expect(try await bots.bots(of: 1, offset: 0, limit: 5).total == 0)

            let facts = ChannelFacts(
                chatID: -1_000_000_000_123, kind: "supergroup", title: "Group", memberCount: 12)
            let channel = try await channels.add(
                newID(), of: 1, facts, link: "t.me/group", note: "", account: nil, at: noon)
            await #expect(throws: IntegrationError.channelTaken) {
                try await channels.add(
                    newID(), of: 1, facts, link: "@group", note: "", account: nil, at: noon)
            }
            var grown = facts
            grown.memberCount = 13
            grown.mayInvite = true
            let account = newID()
            let refreshed = try await channels.refresh(
                channel.id, of: 1, grown, account: account, at: noon + .hours(1))
            #expect(refreshed.facts == grown)
            #expect(refreshed.accountID == account)
            #expect(try await channels.annotate(channel.id, of: 1, note: "ours", at: noon).note == "ours")
            await #expect(throws: IntegrationError.unknownChannel) {
                try await channels.channel(channel.id, of: 2)
            }
            await #expect(throws: IntegrationError.unknownChannel) {
                try await channels.remove(channel.id, of: 2)
            }
            try await channels.remove(channel.id, of: 1)
            #expect(try await channels.channels(of: 1, offset: 0, limit: 5).items.isEmpty)
        }
    }

    @Test func `take only what looks like a token`() {
        #expect(BotToken("123456:AAF_abcdefghijklmnopqrstuvwxyz-0123")?.botID == 123_456)
        for wrong in [
            "", "123456", "123456:", "abc:AAFabcdefghijklmnopqrstuvwxyz", "1:2:3",
            "-5:AAFabcdefghijklmnopqrstuvwx",
            "123456:short", "123456:AAFabcdefghijklmnopqrst/../x", "١٢٣:AAFabcdefghijklmnopqrstuvwxyz",
        ] {
            #expect(BotToken(wrong) == nil, "\(wrong)")
        }
    }
}

@Suite struct `A session's seal` {
    private let keys = SealingKeys(current: SealingKey(version: 1, Secret([UInt8](repeating: 7, count: 32))))

    @Test func `opens for its own session alone`() throws {
        let seals = SessionSeals(keys)
        let (session, other) = (newID(), newID())
        let (key, sealed) = seals.newKey(for: session)
        #expect(key.expose().count == 32)
        #expect(try seals.open(sealed, of: session).expose() == key.expose())
        #expect(throws: SealingError.forged) { try seals.open(sealed, of: other) }
        #expect(seals.newKey(for: session).sealed != sealed)
    }

    @Test func `holds a bot's token to its bot`() throws {
        let seals = SessionSeals(keys)
        let token = try #require(BotToken("123456:AAF_abcdefghijklmnopqrstuvwxyz-0123"))
        let bot = newID()
        let sealed = seals.seal(token, of: bot)
        #expect(!sealed.contains("AAF_"))
        #expect(try seals.openToken(sealed, of: bot).expose() == token.secret.expose())
        #expect(throws: SealingError.forged) { try seals.openToken(sealed, of: newID()) }
    }
}

@Suite struct `A read cursor` {
    @Test(arguments: [
        ReadCursor.members(0), .members(400), .messages(before: 7 << 20), .comments(before: 3 << 20),
    ])
    func `is read back as it was written`(cursor: ReadCursor) { #expect(ReadCursor(cursor.text) == cursor) }

    @Test(arguments: ["", "o", "x5", "o-1", "o1.5", "o99999999999999999999", "m 1", "о5"])
    func `is nothing else`(text: String) { #expect(ReadCursor(text) == nil) }
}
