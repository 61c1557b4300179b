/// Judges a new password by its length and by a list of what everybody takes, not by classes of characters:
/// a long sentence is better than `P@ssw0rd`.
public enum PasswordPolicy {
    public static let shortest = 10
    public static let longest = 256

    public enum Weakness: Equatable, Sendable {
        case tooShort
        case tooLong
        case common
        /// It is the address or the name itself, or little more.
        case containsName
        case repetitive
    }

    public static func weakness(of password: String, email: String, username: String?) -> Weakness? {
        let length = password.unicodeScalars.count
        guard length >= shortest else { return .tooShort }
        guard length <= longest else { return .tooLong }
        let lower = password.lowercased()
        if Set(lower).count < 4 || isRun(lower) { return .repetitive }
        if CommonPasswords.contains(lower) { return .common }
        let names = [email, String(email.prefix { $0 != "@" }), username?.lowercased() ?? ""]
        for name in names where name.count >= 4 && lower.contains(name) && lower.count - name.count < 6 {
            return .containsName
        }
        return nil
    }

    /// `1234567890`, `abcdefghij`, `9876543210`: each character one further than the last.
    private static func isRun(_ text: String) -> Bool {
        let values = text.unicodeScalars.map { Int($0.value) }
        let steps = zip(values, values.dropFirst()).map { $1 - $0 }
        return steps.count(where: { $0 == 1 }) * 10 >= steps.count * 8
            || steps.count(where: { $0 == -1 }) * 10 >= steps.count * 8
    }
}

/// What attackers try first. Words are looked for at the core of a password: digits, marks and usual
/// replacements around and within them change nothing.
enum CommonPasswords {
    static func contains(_ password: String) -> Bool {
        let plain = unmasked(password)
        let core = String(trimmed(plain))
        if words.contains(core) || phrases.contains(password) || phrases.contains(plain) { return true }
        // A word repeated: `passwordpassword`.
        for word in words where word.count >= 4 && core.count % word.count == 0 {
            if core == String(repeating: word, count: core.count / word.count) { return true }
        }
        return false
    }

    private static func unmasked(_ password: String) -> String {
        let replacements: [Character: Character] = [
            "0": "o", "1": "l", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s", "!": "i",
        ]
        // Only inside the word: digits at its ends are taken off before.
        let inner = trimmed(password)
        return String(inner.map { replacements[$0] ?? $0 })
    }

    private static func trimmed(_ text: String) -> Substring {
        var text = text[...]
        while let first = text.first, !first.isLetter { text.removeFirst() }
        while let last = text.last, !last.isLetter { text.removeLast() }
        return text
    }

    private static let phrases: Set<String> = [
        "1q2w3e4r5t", "1qaz2wsx3edc", "qazwsxedcrfv", "zaq12wsxcde3", "correcthorsebatterystaple",
        "q1w2e3r4t5y6",
        "1234qwerasdf", "qwer1234asdf", "123qweasdzxc", "abc123abc123", "a1b2c3d4e5", "11223344556677",
        "123123123123", "1029384756", "0987654321", "147258369147", "12345qwert", "qwert12345",
        "asdf1234asdf",
        "1q2w3e4r5t6y", "zxcvbnm123", "йцукенгшщз", "я люблю тебя",
    ]

    private static let words: Set<String> = [
        "password", "passwort", "passord", "motdepasse", "contrasena", "parol", "parolparol", "пароль",
        "парольпароль",
        "qwerty", "qwertyuiop", "qwertyui", "qwertz", "azerty", "azertyuiop", "asdfgh", "asdfghjkl",
        "asdfghjk",
        "zxcvbn", "zxcvbnm", "йцукен", "йцукенг", "фывапролдж", "administrator", "administrator", "admin",
        "adminadmin", "root", "rootroot", "user", "useruser", "guest", "welcome", "welcomehome", "letmein",
        "letmeinnow",
        "login", "loginlogin", "changeme", "changemenow", "default", "secret", "topsecret", "superman",
        "batman",
        "spiderman", "starwars", "pokemon", "minecraft", "football", "baseball", "basketball", "liverpool",
        "barcelona", "realmadrid", "arsenal", "chelsea", "iloveyou", "iloveyousomuch", "loveyou", "lovelove",
        "sunshine", "princess", "princesa", "monkey", "monkeymonkey", "dragon", "dragondragon", "master",
        "masterkey",
        "michael", "jennifer", "jessica", "michelle", "charlie", "nicole", "daniel", "anthony", "alexander",
        "natasha", "nastya", "anastasia", "svetlana", "vladimir", "dmitriy", "sergey", "andrey", "ekaterina",
        "computer", "internet", "telegram", "telegramtelegram", "convoke", "convokeconvoke", "whatever",
        "trustno",
        "freedom", "forever", "summer", "winter", "spring", "autumn", "monday", "friday", "january",
        "december",
        "october", "november", "september", "russia", "moscow", "moskva", "россия", "москва", "любовь",
        "солнышко",
        "google", "facebook", "instagram", "twitter", "samsung", "iphone", "android", "microsoft", "windows",
        "testtest", "test", "testing", "testingtesting", "demo", "demodemo", "example", "temp", "temporary",
        "abcdefgh", "abcdefghij", "abcabcabc", "aaaaaaaaaa", "blahblah", "blablabla", "hello", "hellohello",
        "helloworld", "goodbye", "killer", "hunter", "shadow", "matrix", "phoenix", "mustang", "corvette",
        "ferrari",
        "mercedes", "porsche", "harley", "yamaha", "jordan", "ashley", "amanda", "thomas", "robert",
        "matthew",
        "jesus", "jesuschrist", "godisgood", "blessed", "angel", "angels", "babygirl", "butterfly",
        "chocolate",
        "cookie", "cheese", "orange", "banana", "purple", "yellow", "silver", "golden", "diamond", "crystal",
    ]
}
