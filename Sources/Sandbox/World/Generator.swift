import Core

extension World {
    static func kind(ofAccount number: Int) -> AccountKind {
        switch number {
        case 0: .warmed
        case 1: .twoFactor
        case 2: .fresh
        case 3: .premium
        case 4: .limited
        case 5: .frozen
        case 6: .banned
        case 7: .needsEmail
        case 8: .needsPremium
        case 9: .unregistered
        default: number % 5 == 4 ? .twoFactor : number % 7 == 6 ? .fresh : .warmed
        }
    }

    /// The communities every world has, under names that tests and demonstrations know, and then more.
    func generate() {
        accounts = (0..<options.accounts).map { Account(number: $0, kind: Self.kind(ofAccount: $0)) }

        add(
            Group(
                .supergroup, id: 1001, title: "Sandbox club", username: "sandbox_club",
                about: "Everybody's club", founders: some(of: 1200, 1), historyCount: 3000), owner: 0,
            admins: true)
        add(
            Group(
                .supergroup, id: 1002, title: "Sandbox talk", username: "sandbox_talk",
                about: "Somebody else's group", founders: some(of: 3000, 2), historyCount: 8000))
        let news = Group(
            .channel, id: 1003, title: "Sandbox news", username: "sandbox_news",
            about: "A channel with comments", founders: some(of: 5000, 3), historyCount: 400)
        news.linked = 1004
        let discussion = Group(
            .supergroup, id: 1004, title: "Sandbox news chat", username: "sandbox_news_chat",
            about: "Comments on the news", founders: some(of: 900, 4),
            // The last post has comments too.
            historyCount: 401 * Self.threadSpan - 1)
        discussion.linked = 1003
        add(news, owner: 0, admins: true)
        add(discussion)
        add(
            Group(
                .channel, id: 1005, title: "Sandbox quiet", username: "sandbox_quiet",
                about: "A channel without comments", founders: some(of: 2000, 5), historyCount: 250))
        let hidden = Group(
            .supergroup, id: 1006, title: "Sandbox hidden", username: "sandbox_hidden",
            about: "Members are hidden", founders: some(of: 3000, 6), historyCount: 500)
        hidden.hidesMembers = true
        add(hidden)
        add(
            Group(
                .supergroup, id: 1007, title: "Sandbox big", username: "sandbox_big",
                about: "More members than are shown", founders: some(of: 15_000, 7), historyCount: 2000))
        add(
            Group(
                .supergroup, id: 1008, title: "Sandbox private", username: nil, about: "By invitation",
                founders: some(of: 150, 8), historyCount: 300), owner: 0, admins: true)
        add(
            Group(
                .basicGroup, id: 2001, title: "Sandbox basics", username: nil, founders: some(of: 60, 9),
                historyCount: 80), owner: 0, admins: true)
        add(
            Group(
                .channel, id: 1009, title: "Sandbox small channel", username: "sandbox_small",
                founders: some(of: 120, 10), historyCount: 40), owner: 0, admins: true)
        let full = Group(
            .supergroup, id: 1010, title: "Sandbox full", username: "sandbox_full",
            founders: some(of: 500, 11), historyCount: 20)
        full.isFull = true
        add(full, owner: 0, admins: true)
        let old = Group(
            .basicGroup, id: 2002, title: "Sandbox old", username: nil, founders: [], historyCount: 0)
        old.upgradedTo = 1002
        add(old, owner: 0, admins: true)
        let approval = Group(
            .supergroup, id: 1011, title: "Sandbox gate", username: "sandbox_gate", about: "Ask to come in",
            founders: some(of: 400, 12), historyCount: 100)
        approval.joinByRequest = true
        add(approval)
        let paid = Group(
            .supergroup, id: 1012, title: "Sandbox paid", username: "sandbox_paid",
            founders: some(of: 100, 13), historyCount: 20)
        paid.isPaid = true
        add(paid)
        let silent = Group(
            .supergroup, id: 1013, title: "Sandbox silent", username: "sandbox_silent",
            about: "Only administrators write", founders: some(of: 300, 14), historyCount: 50)
        silent.membersMayWrite = false
        add(silent)

        for number in 0..<options.communities {
            let place = Int64(number)
            let draw = luck(seed, 3, place)
            let isChannel = draw.perMille(350)
            let topic = luck(seed, 4, place).pick(Words.topics)
            let town = luck(seed, 5, place).pick(Words.places)
            add(
                Group(
                    isChannel ? .channel : .supergroup, id: 5000 + place, title: "\(topic) \(town)",
                    username: "\(isChannel ? "ch" : "grp")_\(number)_world", about: "\(topic), \(town)",
                    founders: some(of: 50 + luck(seed, 6, place).below(2000), 100 + place),
                    historyCount: 50 + Int64(luck(seed, 7, place).below(1500))))
        }
        groups[1008]?.links["SandboxPrivate01"] = Group.Link(
            hash: "SandboxPrivate01", creator: Account.firstID, name: "", expires: 0, memberLimit: 0,
            asksFirst: false,
            created: options.start)
    }

    private func add(_ group: Group, owner: Int? = nil, admins: Bool = false) {
        if admins {
            for account in accounts {
                group.set(
                    Standing(
                        account.number == owner ? .creator : .administrator, mayInvite: true,
                        since: options.start),
                    for: account.id)
            }
        } else if let first = group.founders.first {
            group.set(Standing(.creator, since: options.start), for: first)
            for bot in group.founders.prefix(40).dropFirst().prefix(3) {
                group.set(Standing(.administrator, mayInvite: true, since: options.start), for: bot)
            }
        }
        groups[group.id] = group
        if let username = group.username { usernames[username] = group.chatID }
    }

    /// So many people, spread over all, in order.
    private func some(of count: Int, _ place: Int64) -> [Int64] {
        let people = Int64(options.people)
        let wanted = min(Int64(count), people)
        guard wanted > 0 else { return [] }
        let offset = Int64(luck(seed, 8, place).below(Int(people)))
        return (0..<wanted).map { Human.firstID + (offset + $0 * people / wanted) % people }.sorted()
    }
}
