public import Core

/// The clock on the wall where a campaign's people live: how far it is from UTC at a moment.
///
/// Read from the machine's own zone files: Foundation's named zones would bring ICU.
public struct CampaignTimeZone: Equatable, Sendable, CustomStringConvertible {
    /// `Europe/Moscow`, `UTC`, or `+03:00`.
    public let description: String
    private let transitions: [Transition]
    private let first: Int64

    private struct Transition: Equatable, Sendable {
        let at: Int64
        let offset: Int64
    }

    public static let utc = CampaignTimeZone(description: "UTC", transitions: [], first: 0)

    private init(description: String, transitions: [Transition], first: Int64) {
        self.description = description
        self.transitions = transitions
        self.first = first
    }

    /// Nil where nobody knows such a zone.
    public init?(_ name: String) {
        if ["UTC", "GMT", "Z"].contains(name.uppercased()) {
            self = .utc
        } else if let offset = Self.fixedOffset(name) {
            self.init(description: name, transitions: [], first: offset)
        } else {
            guard let bytes = Self.zoneFile(name), let zone = Self.parse(bytes) else { return nil }
            self.init(description: name, transitions: zone.transitions, first: zone.first)
        }
    }

    /// Seconds to be added to UTC.
    public func offset(at moment: Timestamp) -> Int64 {
        let seconds = moment.seconds
        var low = 0
        var high = transitions.count
        while low < high {
            let middle = (low + high) / 2
            if transitions[middle].at <= seconds { low = middle + 1 } else { high = middle }
        }
        return low == 0 ? first : transitions[low - 1].offset
    }

    /// The moment as the clock on the wall shows it, written as if it were UTC.
    public func wall(at moment: Timestamp) -> Timestamp { moment + .seconds(offset(at: moment)) }

    /// When the clock on the wall shows this; where it is turned back and shows it twice, the first time, and
    /// where it is turned forward over it, just after.
    public func moment(ofWall wall: Timestamp) -> Timestamp {
        let early = wall - .seconds(offset(at: wall - .days(1)))
        if self.wall(at: early) == wall { return early }
        return wall - .seconds(offset(at: wall + .days(1)))
    }

    /// `+3`, `+03:00`, `-0530`
    private static func fixedOffset(_ text: String) -> Int64? {
        guard let sign = text.first, sign == "+" || sign == "-" else { return nil }
        let digits = text.dropFirst().filter { $0 != ":" }
        guard (1...4).contains(digits.count), digits.allSatisfy({ $0.isASCII && $0.isNumber }),
            let number = Int64(digits)
        else { return nil }
        let (hours, minutes) = digits.count > 2 ? (number / 100, number % 100) : (number, 0)
        guard hours <= 14, minutes < 60 else { return nil }
        return (sign == "-" ? -1 : 1) * (hours * 3600 + minutes * 60)
    }

    private static func zoneFile(_ name: String) -> [UInt8]? {
        // A name, never a path elsewhere.
        guard (1...64).contains(name.utf8.count), name.first != "/",
            !name.split(separator: "/", omittingEmptySubsequences: false).contains(where: {
                $0.isEmpty || $0.hasPrefix(".")
            }),
            name.utf8.allSatisfy({ $0.isNameByte || "/-+".utf8.contains($0) })
        else { return nil }
        return try? FileSystem.read("/usr/share/zoneinfo/\(name)", limit: 1 << 20)
    }

    /// RFC 8536, the part with 64-bit moments.
    private static func parse(_ bytes: [UInt8]) -> (transitions: [Transition], first: Int64)? {
        func number(_ offset: Int, _ width: Int) -> Int64? {
            guard offset >= 0, offset + width <= bytes.count else { return nil }
            var value: UInt64 = 0
            for byte in bytes[offset..<offset + width] { value = value << 8 | UInt64(byte) }
            return width == 4
                ? Int64(Int32(truncatingIfNeeded: value)) : Int64(bitPattern: value)
        }
        func header(_ start: Int) -> [Int]? {
            guard start + 44 <= bytes.count, bytes[start..<start + 4].elementsEqual("TZif".utf8) else {
                return nil
            }
            let counts = (0..<6).compactMap { number(start + 20 + $0 * 4, 4).map(Int.init) }
            return counts.count == 6 && counts.allSatisfy({ $0 >= 0 && $0 < 1 << 20 }) ? counts : nil
        }
        // In the order of the file: UT flags, standard flags, leap seconds, moments, types, letters.
        guard let old = header(0), bytes.count > 4, bytes[4] >= UInt8(ascii: "2") else { return nil }
        let second = 44 + old[3] * 5 + old[4] * 6 + old[5] + old[2] * 8 + old[1] + old[0]
        guard let counts = header(second) else { return nil }
        let moments = second + 44
        let indexes = moments + counts[3] * 8
        let types = indexes + counts[3]
        guard counts[4] > 0, types + counts[4] * 6 <= bytes.count else { return nil }
        func offset(ofType index: Int) -> Int64? { index < counts[4] ? number(types + index * 6, 4) : nil }
        var transitions: [Transition] = []
        for index in 0..<counts[3] {
            guard let at = number(moments + index * 8, 8),
                let offset = offset(ofType: Int(bytes[indexes + index]))
            else { return nil }
            transitions.append(Transition(at: at, offset: offset))
        }
        guard let first = offset(ofType: 0) else { return nil }
        return (transitions, first)
    }
}
