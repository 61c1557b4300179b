public import Core

/// One line of a list, as far as it is understood.
public struct ListedPerson: Equatable, Sendable {
    public var identity: PersonIdentity
    public var email: String?
    public var fullName: String?
    public var consentBasis: String?
    /// The community they were met in.
    public var seenIn: String?

    public init(
        _ identity: PersonIdentity, email: String? = nil, fullName: String? = nil,
        consentBasis: String? = nil,
        seenIn: String? = nil
    ) {
        self.identity = identity
        self.email = email
        self.fullName = fullName
        self.consentBasis = consentBasis
        self.seenIn = seenIn
    }
}

/// Why a line of a list is not taken.
public enum RowReject: String, Error, Equatable, Sendable, CaseIterable {
    /// Nothing in it says who it is.
    case nothing = "missing"
    case username = "not_a_username"
    case phone = "not_a_phone"
    case platformID = "not_an_id"
    case contact = "not_a_contact"
    case suppressed = "suppressed"
    case tooManyColumns = "too_many_columns"
    case fieldTooLong = "field_too_long"
    case rowTooLong = "row_too_long"
    case brokenJSON = "broken_json"
    case notARow = "not_a_row"

    public var text: LocalizedText {
        switch self {
        case .nothing:
            .init(
                "No username, phone number or id in this row",
                "В строке нет ни имени пользователя, ни телефона, ни идентификатора")
        case .username: PersonIdentityError.username.text
        case .phone: PersonIdentityError.phone.text
        case .platformID: PersonIdentityError.platformID.text
        case .contact:
            .init(
                "This is neither a username, nor a link, nor a phone number, nor an id",
                "Это не имя пользователя, не ссылка, не телефон и не идентификатор")
        case .suppressed: TargetReason.suppressed.text
        case .tooManyColumns: .init("The row has too many columns", "В строке слишком много столбцов")
        case .fieldTooLong: .init("A field of the row is too long", "Поле строки слишком длинное")
        case .rowTooLong: .init("The row is too long", "Строка слишком длинная")
        case .brokenJSON: .init("This is not valid JSON", "Это некорректный JSON")
        case .notARow:
            .init("An object or a text is expected", "Ожидается объект или строка")
        }
    }
}

/// The fields of a line as they were written, before they are believed. Empty texts are absent ones.
public struct WrittenPerson: Sendable {
    public var username = ""
    public var phone = ""
    public var platformID = ""
    /// Any of the three, as the writer liked.
    public var contact = ""
    public var fullName = ""
    public var firstName = ""
    public var lastName = ""
    public var email = ""
    public var consentBasis = ""
    /// A community, as a name, link or id.
    public var seenIn = ""

    public init() {}

    /// The one form of it all. A field that is filled and wrong refuses the line, since nobody can say which
    /// of two contradicting fields is the person; what people write for "none" counts as empty.
    public func person() throws(RowReject) -> ListedPerson {
        var username: String?
        var phone: String?
        var platformID: Int64?
        if let written = Self.filled(self.username) {
            if let plain = Self.plainUsername(written) ?? PersonIdentity.username(written) {
                username = plain
            } else if let other = Self.contact(written) {
                // A number in the column of usernames is still somebody.
                phone = other.phone
                platformID = other.platformID
            } else {
                throw .username
            }
        }
        if let written = Self.filled(self.phone) {
            guard let read = Self.plainPhone(written) ?? PersonIdentity.phone(written) else { throw .phone }
            phone = read
        }
        if let written = Self.filled(self.platformID) {
            guard let read = PersonIdentity.platformID(written) else { throw .platformID }
            platformID = read
        }
        if let written = Self.filled(contact) {
            guard let read = Self.contact(written) else { throw .contact }
            username = username ?? read.username
            phone = phone ?? read.phone
            platformID = platformID ?? read.platformID
        }
        guard username != nil || phone != nil || platformID != nil else { throw .nothing }
        return ListedPerson(
            PersonIdentity(username: username, phone: phone, platformID: platformID),
            email: Self.email(email), fullName: name, consentBasis: Self.cleaned(consentBasis, most: 500),
            seenIn: platformID == nil || seenIn.isEmpty ? nil : CommunityKey(seenIn)?.address)
    }

    private var name: String? {
        if lastName.isEmpty && firstName.isEmpty { return Self.cleaned(fullName, most: 255) }
        // Beside a column of last names, a column called "name" holds the first ones.
        let first = firstName.isEmpty ? fullName : firstName
        let parts = [Self.cleaned(first, most: 127), Self.cleaned(lastName, most: 127)].compactMap { $0 }
        return parts.isEmpty ? Self.cleaned(fullName, most: 255) : parts.joined(separator: " ")
    }

    // MARK: - Forms

    /// Digits alone: up to ten are an id, more are a phone number, as `docs/sheets.md` promises.
    public static func contact(_ text: String) -> PersonIdentity? {
        if text.utf8.count > 10, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) {
            return PersonIdentity.phone(text).map {
                PersonIdentity(username: nil, phone: $0, platformID: nil)
            }
        }
        return PersonIdentity(written: text)
    }

    /// The forms that nearly all lines have, without the detours of the rare ones.
    private static func plainUsername(_ text: String) -> String? {
        let bytes = text.utf8
        guard (5...32).contains(bytes.count), let first = bytes.first, first | 0x20 >= 0x61,
            first | 0x20 <= 0x7A
        else { return nil }
        var hasCapital = false
        for byte in bytes {
            guard byte.isNameByte else { return nil }
            if byte >= 0x41, byte <= 0x5A { hasCapital = true }
        }
        return hasCapital ? text.lowercased() : text
    }

    private static func plainPhone(_ text: String) -> String? {
        let bytes = text.utf8
        guard (8...16).contains(bytes.count), bytes.first == UInt8(ascii: "+") else { return nil }
        var isFirstDigit = true
        for byte in bytes.dropFirst() {
            guard byte >= 0x30, byte <= 0x39, !isFirstDigit || byte != 0x30 else { return nil }
            isFirstDigit = false
        }
        return text
    }

    private static let nobodies: Set<String> = [
        "-", "--", "—", "–", ".", "?", "0", "null", "none", "nil", "nan", "n/a", "na", "#n/a", "undefined",
        "unknown", "нет", "не указан", "не указано", "отсутствует", "нет данных", "б/н",
    ]

    /// Without blanks at its edges; nil for what says nothing.
    private static func filled(_ text: String) -> String? {
        guard !text.isEmpty else { return nil }
        // Longer than any form, so that nobody folds a novel.
        guard text.utf8.count <= 12 else {
            let trimmed = trim(text)
            return trimmed.isEmpty ? nil : trimmed
        }
        let trimmed = trim(text)
        return trimmed.isEmpty || nobodies.contains(trimmed.lowercased()) ? nil : trimmed
    }

    private static func trim(_ text: String) -> String {
        // Most have nothing to trim; letters of ASCII are seen without decoding.
        if let first = text.utf8.first, let last = text.utf8.last, first > 0x20, first < 0x7F, last > 0x20,
            last < 0x7F
        {
            return text
        }
        var rest = Substring(text)
        while let first = rest.unicodeScalars.first, isBlank(first) { rest.unicodeScalars.removeFirst() }
        while let last = rest.unicodeScalars.last, isBlank(last) { rest.unicodeScalars.removeLast() }
        return String(rest)
    }

    private static func isBlank(_ scalar: Unicode.Scalar) -> Bool {
        scalar.properties.isWhitespace || scalar.value == 0xFEFF || scalar.value == 0x200B
            || scalar.value == 0x200E || scalar.value == 0x200F || scalar.value < 0x20
    }

    /// A text for people: one line, no control characters, no longer than `most`.
    static func cleaned(_ text: String, most: Int) -> String? {
        guard !text.isEmpty else { return nil }
        if text.utf8.count <= most, text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) {
            let trimmed = trim(text)
            return trimmed.isEmpty ? nil : trimmed
        }
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars.prefix(most) {
            result.append(scalar.value < 0x20 || scalar.value == 0x7F ? " " : scalar)
        }
        let trimmed = trim(String(result))
        return trimmed.isEmpty ? nil : trimmed
    }

    /// An address is an extra: one that is none is left out and harms nobody.
    private static func email(_ text: String) -> String? {
        guard let text = cleaned(text, most: 254), let at = text.firstIndex(of: "@"), at != text.startIndex,
            text[at...].dropFirst().contains("."), !text.contains(" ")
        else { return nil }
        return text
    }
}

/// One result of a parse task, read by the precedence that the documents settled on: the result's own fields
/// before the platform's before the author's.
public struct ParseResultPerson: Sendable {
    /// Nil where nothing in the result could be invited.
    public let person: ListedPerson?

    public init(_ result: JSONValue) {
        // A message's own number is nobody's: of one, the author alone counts.
        let isMessage = result["kind"]?.stringValue == "message"
        let own: JSONValue = isMessage ? [:] : result
        let platform = isMessage ? [:] : Self.object(result["platform_specific_data"])
        func first(_ values: JSONValue?...) -> [String] { values.compactMap(Self.text) }
        func read<Value>(_ texts: [String], _ parse: (String) -> Value?) -> Value? {
            // A field that holds something else does not hide the next one.
            for text in texts { if let value = parse(text) { return value } }
            return nil
        }
        let username = read(first(own["username"], platform["username"], result["author_username"])) {
            PersonIdentity.username($0)
        }
        let phone = read(first(platform["phone"], result["author_phone"])) { PersonIdentity.phone($0) }
        let id = read(first(own["platform_id"], platform["user_id"], result["author_id"])) {
            PersonIdentity.platformID($0)
        }
        guard username != nil || phone != nil || id != nil else {
            person = nil
            return
        }
        let parts = [Self.text(platform["first_name"]), Self.text(platform["last_name"])].compactMap { $0 }
        let names =
            first(own["display_name"]) + (parts.isEmpty ? [] : [parts.joined(separator: " ")])
            + first(result["author_name"])
        person = ListedPerson(
            PersonIdentity(username: username, phone: phone, platformID: id),
            fullName: names.lazy.compactMap { WrittenPerson.cleaned($0, most: 255) }.first,
            seenIn: id == nil ? nil : Self.text(result["seen_in"]).flatMap { CommunityKey($0)?.address })
    }

    private static func text(_ value: JSONValue?) -> String? {
        switch value {
        case .string(let text)?: text.isEmpty ? nil : text
        case .int(let number)?: "\(number)"
        default: nil
        }
    }

    /// The platform's own data, which some exports write as a text.
    private static func object(_ value: JSONValue?) -> JSONValue {
        if let text = value?.stringValue { return (try? JSONValue(parsing: text)) ?? [:] }
        return value ?? [:]
    }
}
