import Core

/// How somebody of the sandbox meets those who want to add or write to them.
public enum Temper: String, Sendable, CaseIterable {
    /// Can be added and written to.
    case open
    /// Privacy settings forbid strangers to add them.
    case closed
    /// Only Premium accounts may add them.
    case premiumAddsOnly = "premium_adds_only"
    /// Neither added nor written to without Premium.
    case premiumOnly = "premium_only"
    /// In as many groups as Telegram allows.
    case inTooManyGroups = "in_too_many_groups"
    case deleted
    case bot
    /// A bot whose owner has switched groups off for it.
    case groupShyBot = "group_shy_bot"
    /// Charges for a message.
    case paid
    /// Blocks whoever writes to them.
    case blocks
    /// Telegram says yes to adding them, and they are not in afterwards.
    case vanishes
}

/// Somebody who is not an account: made from the seed whenever asked for, not stored.
struct Human: Sendable {
    static let firstID: Int64 = 1_000_000_000

    let id: Int64
    let seed: UInt64

    var index: Int64 { id - Self.firstID }
    private func luck(_ place: Int64) -> UInt64 { Sandbox.luck(seed, 1, id, place) }

    var temper: Temper {
        switch luck(1).below(1000) {
        case 0..<640: .open
        case 640..<800: .closed
        case 800..<830: .premiumAddsOnly
        case 830..<860: .premiumOnly
        case 860..<890: .inTooManyGroups
        case 890..<920: .deleted
        case 920..<940: .bot
        case 940..<950: .groupShyBot
        case 950..<960: .paid
        case 960..<980: .blocks
        default: .vanishes
        }
    }

    var isBot: Bool { temper == .bot || temper == .groupShyBot }
    var firstName: String { temper == .deleted ? "" : luck(2).pick(Words.firstNames) }
    var lastName: String {
        temper == .deleted || luck(3).perMille(300) ? "" : luck(4).pick(Words.lastNames)
    }
    var username: String? {
        guard temper != .deleted else { return nil }
        if isBot { return "helper_\(index)_bot" }
        return luck(5).perMille(700) ? "\(luck(6).pick(Words.nicks))_\(index)" : nil
    }
    /// A number of the range that is nobody's.
    var phone: String { "1555" + String(1_000_000 + index) }
    var showsPhone: Bool { luck(7).perMille(100) }
    /// Cannot be found by their number.
    var hidesFromPhone: Bool { temper == .deleted || isBot || luck(8).perMille(250) }
    var isPremium: Bool { temper != .deleted && luck(9).perMille(80) }
    var lastSeen: Int { luck(10).below(5) }
    var stars: Int64 { temper == .paid ? 10 : 0 }

    /// Whether they were in a group once and left it by themselves.
    func hasLeft(_ group: Int64) -> Bool { Sandbox.luck(seed, 2, id, group).perMille(25) }

    static func id(ofPhone phone: String) -> Int64? {
        guard phone.hasPrefix("1555"), let number = Int64(phone.dropFirst(4)),
            (1_000_000..<1_000_000_000_000).contains(number)
        else { return nil }
        return firstID + number - 1_000_000
    }
}

enum Words {
    static let firstNames = [
        "Анна", "Иван", "Мария", "Олег", "Дарья", "Павел", "Ольга", "Никита", "Alice", "Bruno", "Chen",
        "Daria", "Emil",
        "Fatima", "Greta", "Hugo", "Ines", "Jonas", "Kaito", "Lena",
    ]
    static let lastNames = [
        "Абрикосова", "Березин", "Воронцов", "Гранатова", "Дождев", "Ясный", "Appleby", "Birch", "Cloud",
        "Dune", "Elm",
        "Field", "Grove", "Hill",
    ]
    static let nicks = ["sun", "river", "stone", "cloud", "maple", "north", "pixel", "tea", "wolf", "zebra"]
    static let topics = [
        "Gardening", "Chess", "Cycling", "Astronomy", "Книги", "Кино", "Путешествия", "Рыбалка",
        "Photography",
        "Cooking", "Running", "Музыка",
    ]
    static let places = ["Lisbon", "Riga", "Almaty", "Berlin", "Москва", "Казань", "Oslo", "Porto"]
    static let sentences = [
        "Кто сегодня идёт на встречу?", "Good morning everyone", "Спасибо, очень помогло!",
        "Does anybody have the link?",
        "Согласен полностью", "See you on Saturday", "А где посмотреть запись?", "Great photo!",
        "Вопрос к знатокам",
        "I would try it the other way round", "Подскажите хороший магазин", "That is a long story", "👍",
        "Ура!",
    ]
}
