/// A moment, in whole milliseconds since 1970-01-01T00:00:00Z.
///
/// The one form of time in the platform: passed to rules as an argument, stored as `BIGINT`, written as
/// RFC 3339 in UTC. It never asks a clock.
public struct Timestamp: Hashable, Comparable, Sendable {
    public let milliseconds: Int64

    public init(milliseconds: Int64) { self.milliseconds = milliseconds }
    public init(seconds: Int64) { milliseconds = seconds * 1000 }

    public static let epoch = Timestamp(milliseconds: 0)

    public var seconds: Int64 { floorDivide(milliseconds, 1000) }

    public static func < (left: Timestamp, right: Timestamp) -> Bool {
        left.milliseconds < right.milliseconds
    }
    public static func + (left: Timestamp, right: Duration) -> Timestamp {
        Timestamp(milliseconds: left.milliseconds + right.milliseconds)
    }
    public static func - (left: Timestamp, right: Duration) -> Timestamp {
        Timestamp(milliseconds: left.milliseconds - right.milliseconds)
    }
    public static func - (left: Timestamp, right: Timestamp) -> Duration {
        .milliseconds(left.milliseconds - right.milliseconds)
    }
    public static func += (left: inout Timestamp, right: Duration) { left = left + right }
}

/// A calendar day in UTC: what a daily limit belongs to.
public struct UTCDay: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// Days since 1970-01-01.
    public let number: Int64

    public init(number: Int64) { self.number = number }

    public var start: Timestamp { Timestamp(milliseconds: number * 86_400_000) }
    public var next: UTCDay { UTCDay(number: number + 1) }

    public static func < (left: UTCDay, right: UTCDay) -> Bool { left.number < right.number }

    /// `2025-08-24`
    public var description: String {
        let (year, month, day) = civil(fromDay: number)
        return "\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))"
    }

    public init?(_ text: some StringProtocol) {
        var reader = DigitReader(text)
        guard let number = reader.date(), reader.isAtEnd else { return nil }
        self.number = number
    }
}

extension Timestamp {
    public var day: UTCDay { UTCDay(number: floorDivide(milliseconds, 86_400_000)) }

    /// 1 is Monday, 7 is Sunday, as ISO 8601 counts.
    public var isoWeekday: Int { Int(floorModulo(day.number + 3, 7)) + 1 }
}

// MARK: - RFC 3339

extension Timestamp: CustomStringConvertible {
    /// `2025-08-24T10:15:30Z`, with `.123` before the `Z` where there are milliseconds.
    public var description: String {
        let (year, month, day) = civil(fromDay: self.day.number)
        let inDay = floorModulo(milliseconds, 86_400_000)
        let (hours, minutes, seconds, rest) =
            (inDay / 3_600_000, inDay / 60_000 % 60, inDay / 1000 % 60, inDay % 1000)
        var text = "\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))T"
        text += "\(padded(hours, 2)):\(padded(minutes, 2)):\(padded(seconds, 2))"
        if rest != 0 { text += ".\(padded(rest, 3))" }
        return text + "Z"
    }

    /// Reads RFC 3339 with any offset; a fraction is cut to milliseconds.
    public init?(_ text: some StringProtocol) {
        var reader = DigitReader(text)
        guard let dayNumber = reader.date(), reader.takes("T") || reader.takes("t") || reader.takes(" "),
            let hours = reader.number(2), hours < 24, reader.takes(":"),
            let minutes = reader.number(2), minutes < 60, reader.takes(":"),
            let seconds = reader.number(2), seconds < 61
        else { return nil }
        var fraction: Int64 = 0
        if reader.takes(".") {
            guard let read = reader.millisecondFraction() else { return nil }
            fraction = read
        }
        guard let offset = reader.offsetMinutes(), reader.isAtEnd else { return nil }
        let wall = dayNumber * 86_400 + hours * 3600 + minutes * 60 + min(seconds, 59) - offset * 60
        self.init(milliseconds: wall * 1000 + fraction)
    }
}

private func padded(_ value: Int64, _ width: Int) -> String {
    let digits = String(value)
    return digits.count >= width ? digits : String(repeating: "0", count: width - digits.count) + digits
}

private func floorDivide(_ value: Int64, _ by: Int64) -> Int64 {
    value >= 0 ? value / by : -((by - 1 - value) / by)
}
private func floorModulo(_ value: Int64, _ by: Int64) -> Int64 { value - floorDivide(value, by) * by }

/// Year, month and day of a day number, by Howard Hinnant's `civil_from_days`.
private func civil(fromDay number: Int64) -> (year: Int64, month: Int64, day: Int64) {
    let shifted = number + 719_468
    let era = floorDivide(shifted, 146_097)
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let part = (5 * dayOfYear + 2) / 153
    let month = part < 10 ? part + 3 : part - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * part + 2) / 5 + 1)
}

private func dayNumber(year: Int64, month: Int64, day: Int64) -> Int64 {
    let shifted = month <= 2 ? year - 1 : year
    let era = floorDivide(shifted, 400)
    let yearOfEra = shifted - era * 400
    let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
}

/// Walks over the fixed-width digits of a date without allocating.
private struct DigitReader {
    private var rest: ArraySlice<UInt8>

    init(_ text: some StringProtocol) { rest = Array(text.utf8)[...] }

    var isAtEnd: Bool { rest.isEmpty }

    mutating func takes(_ character: Unicode.Scalar) -> Bool {
        guard let first = rest.first, UInt32(first) == character.value else { return false }
        rest.removeFirst()
        return true
    }

    mutating func number(_ width: Int) -> Int64? {
        guard rest.count >= width else { return nil }
        var value: Int64 = 0
        for byte in rest.prefix(width) {
            guard byte >= 0x30, byte <= 0x39 else { return nil }
            value = value * 10 + Int64(byte - 0x30)
        }
        rest.removeFirst(width)
        return value
    }

    mutating func date() -> Int64? {
        guard let year = number(4), takes("-"), let month = number(2), (1...12).contains(month),
            takes("-"), let day = number(2), day >= 1
        else { return nil }
        let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
        let lengths: [Int64] = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        guard day <= lengths[Int(month) - 1] else { return nil }
        return dayNumber(year: year, month: month, day: day)
    }

    mutating func millisecondFraction() -> Int64? {
        var value: Int64 = 0
        var digits = 0
        while let byte = rest.first, byte >= 0x30, byte <= 0x39 {
            if digits < 3 { value = value * 10 + Int64(byte - 0x30) }
            digits += 1
            rest.removeFirst()
        }
        guard digits > 0 else { return nil }
        for _ in min(digits, 3)..<3 { value *= 10 }
        return value
    }

    mutating func offsetMinutes() -> Int64? {
        if takes("Z") || takes("z") { return 0 }
        let sign: Int64 = takes("-") ? -1 : takes("+") ? 1 : 0
        guard sign != 0, let hours = number(2), hours < 24, takes(":"), let minutes = number(2), minutes < 60
        else { return nil }
        return sign * (hours * 60 + minutes)
    }
}
