/// What the columns of a list of people mean: by their names, in English and Russian, or by what stands in
/// them.
public struct PeopleColumns: Sendable, Equatable {
    public enum Role: String, Sendable, CaseIterable {
        case username, phone, userID, fullName, firstName, lastName, email, basis, seenIn
        /// Any of username, link, phone and id, each line as it likes.
        case contact
    }

    /// For each role the columns that hold it, the one that counts most first: the first that is not empty
    /// is the value.
    private var columns: [Role: [Int]] = [:]
    /// Columns that are called no more than "id": Telegram's, or somebody's own count of rows.
    private var bareIDs: [Int] = []

    public init() {}

    public subscript(role: Role) -> [Int] { columns[role] ?? [] }
    public var isEmpty: Bool { columns.isEmpty }
    /// Whether any column can say who somebody is.
    public var canIdentify: Bool {
        [.username, .phone, .userID, .contact].contains { columns[$0] != nil }
    }

    /// The name under which a list of bare values is kept.
    static let contactName = "contact"

    // MARK: - By name

    public init(names: [String]) {
        var ranked: [Role: [(rank: Int, column: Int)]] = [:]
        for (column, name) in names.enumerated() {
            guard let (role, rank) = Self.role(of: name) else { continue }
            ranked[role, default: []].append((rank, column))
        }
        columns = ranked.mapValues { $0.sorted { ($0.rank, $0.column) < ($1.rank, $1.column) }.map(\.column) }
        bareIDs = (ranked[.userID] ?? []).filter { $0.rank % 10 == Self.bareRank }.map(\.column)
    }

    private static let bareRank = 2

    /// The same without columns called "id" that count rows: inviting number 17 of a list as Telegram's user
    /// 17 would reach a stranger. Telegram's ids are neither small nor in order.
    func withoutCounters(_ rows: some Sequence<SheetRow>) -> PeopleColumns {
        var result = self
        for column in bareIDs {
            let values = rows.lazy.filter { $0.defect == nil }.prefix(200).compactMap { Int($0[column]) }
            let numbers = Array(values)
            guard let first = numbers.first, let last = numbers.last else { continue }
            let climbs = zip(numbers, numbers.dropFirst()).allSatisfy { $0 < $1 }
            let isCounter =
                numbers.count == 1 ? first < 100_000 : climbs && last - first <= 10 * numbers.count
            if isCounter { result.columns[.userID]?.removeAll { $0 == column } }
        }
        if result.columns[.userID]?.isEmpty == true { result.columns[.userID] = nil }
        return result
    }

    /// The role, and how much the column counts among those that have it. A nested name
    /// (`platform_specific_data.username`) counts less than a plain one.
    static func role(of name: String) -> (role: Role, rank: Int)? {
        if let known = headings[folded(name)] { return known }
        guard let point = name.lastIndex(of: "."),
            let (role, rank) = headings[folded(String(name[name.index(after: point)...]))]
        else { return nil }
        return (role, rank + 10)
    }

    /// Letters and digits alone, small: `Phone-Number` and `phone_number` are one.
    private static func folded(_ name: String) -> String {
        var result = ""
        for character in name.prefix(64).lowercased() where character.isLetter || character.isNumber {
            result.append(character == "ё" ? "е" : character)
        }
        return result
    }

    private static let headings: [String: (role: Role, rank: Int)] = {
        var result: [String: (Role, Int)] = [:]
        func add(_ role: Role, _ rank: Int, _ names: String) {
            for name in names.split(separator: " ") { result[String(name)] = (role, rank) }
        }
        add(
            .username, 0,
            """
            username user tgusername telegramusername usernametelegram nick nickname login handle screenname \
            ник никнейм юзернейм юзер логин имяпользователя имяпользователятелеграм targetusername
            """)
        add(.username, 1, "telegram tg телеграм телеграмм тг аккаунт account")
        add(.username, 20, "authorusername")
        add(
            .phone, 0,
            """
            phone phonenumber telephone tel mobile mobilephone cell cellphone msisdn phonee164 targetphone \
            телефон номертелефона номер тел мобильный мобильныйтелефон мобильныйномер сотовый \
            сотовыйтелефон контактныйтелефон
            """)
        add(.phone, 20, "authorphone")
        add(
            .userID, 0,
            "platformid useridplatform telegramid tgid telegramuserid tguserid targetuserid айдителеграм")
        add(.userID, 1, "userid идпользователя idпользователя айди uid")
        add(.userID, 2, "id ид идентификатор")
        add(.userID, 20, "authorid")
        add(.fullName, 0, "fullname displayname name fio фио имя полноеимя имяифамилия имяфамилия фамилияимя")
        add(.fullName, 20, "authorname")
        add(.firstName, 0, "firstname givenname forename")
        add(.lastName, 0, "lastname surname familyname фамилия")
        add(
            .email, 0,
            "email mail emailaddress почта электроннаяпочта емейл имейл эмейл емаил мейл адресэлектроннойпочты"
        )
        add(.seenIn, 0, "seenin metin сообщество гдевстречен")
        add(.basis, 0, "consentbasis consent basis основание согласие основаниеконтакта правовоеоснование")
        add(
            .contact, 0,
            """
            contact contacts target link url profile profilelink person identifier value member \
            контакт контакты цель ссылка профиль пользователь участник значение
            """)
        return result
    }()

    /// Whether a first row speaks about the others: something in it is a known name, and nothing in it could
    /// be a person's number or address.
    static func isHeader(_ cells: [String]) -> Bool {
        cells.contains { role(of: $0) != nil }
            && !cells.contains { cell in
                switch ContactForm(cell) {
                case .phone, .userID, .mention, .link, .email: true
                case .word, .handle, .words, .nothing: false
                }
            }
    }

    // MARK: - By content

    /// Judged by the first rows of a list that does not name its columns.
    init(guessedFrom rows: some Sequence<SheetRow>) {
        var tallies: [[ContactForm: Int]] = []
        for row in rows where row.defect == nil {
            for column in 0..<row.count {
                if tallies.count <= column { tallies.append([:]) }
                tallies[column][ContactForm(row[column]), default: 0] += 1
            }
        }
        for (column, tally) in tallies.enumerated() {
            let filled = tally.reduce(0) { $0 + ($1.key == .nothing ? 0 : $1.value) }
            guard filled > 0 else { continue }
            func share(_ forms: ContactForm...) -> Double {
                Double(forms.reduce(0) { $0 + (tally[$1] ?? 0) }) / Double(filled)
            }
            let role: Role? =
                if share(.phone) >= 0.8 {
                    .phone
                } else if share(.userID) >= 0.8 {
                    .userID
                } else if share(.email) >= 0.8 {
                    .email
                } else if share(.mention, .link) >= 0.8 {
                    .username
                } else if share(.phone, .userID, .mention, .link) >= 0.5 {
                    .contact
                } else if tallies.count == 1 {
                    .contact
                } else if share(.handle) >= 0.5, share(.word, .handle) >= 0.8, columns[.username] == nil {
                    // Words like `anna_88`. Plain ones may be given names or colours, and somebody is called
                    // so in Telegram; a column of mentions later on takes it back.
                    .username
                } else if share(.words, .word, .handle) >= 0.5, columns[.fullName] == nil {
                    .fullName
                } else {
                    nil
                }
            guard let role else { continue }
            if role == .username, share(.word, .handle) < 0.8, let earlier = columns[.username],
                earlier.allSatisfy({ (tallies[$0][.mention] ?? 0) + (tallies[$0][.link] ?? 0) == 0 })
            {
                columns[.fullName] = columns[.fullName] ?? earlier
                columns[.username] = [column]
            } else {
                columns[role, default: []].append(column)
            }
        }
    }
}

/// What a text looks like, before anybody says what it is.
enum ContactForm: Hashable {
    case nothing, phone, userID, mention, link, email, words
    /// One word of Latin letters, and one with digits or `_` among them.
    case word, handle

    /// Digits alone: up to ten are an id, more are a phone number. Telegram's ids have ten digits today, and
    /// a phone number with its country has eleven or more nearly everywhere.
    init(_ text: String) {
        var digits = 0
        var others = 0
        var hasPlus = false
        var isPlainWord = true
        var isFirst = true
        var hasUnderscore = false
        for byte in text.utf8 {
            if byte == UInt8(ascii: "_") { hasUnderscore = true }
            switch byte {
            case 0x30...0x39: digits += 1
            case UInt8(ascii: "+") where isFirst: hasPlus = true
            case UInt8(ascii: " "), UInt8(ascii: "-"), UInt8(ascii: "("), UInt8(ascii: ")"):
                isPlainWord = false
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "_"):
                others += 1
            default:
                others += 1
                isPlainWord = false
            }
            isFirst = false
        }
        if text.utf8.isEmpty {
            self = .nothing
        } else if others == 0, digits >= 7, hasPlus || digits > 10 || !isPlainWord {
            self = .phone
        } else if others == 0, digits >= 5, isPlainWord {
            self = .userID
        } else if text.utf8.first == UInt8(ascii: "@") {
            self = .mention
        } else if text.contains("t.me/") || text.contains("tg://") || text.contains("telegram.me/") {
            self = .link
        } else if !isPlainWord, let at = text.firstIndex(of: "@"), text[at...].contains("."),
            !text.contains(" ")
        {
            self = .email
        } else if isPlainWord, others > 0 {
            self = digits > 0 || hasUnderscore ? .handle : .word
        } else {
            self = .words
        }
    }
}
