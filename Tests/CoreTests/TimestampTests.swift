import Core
import Foundation
import Testing

@Suite struct `A timestamp` {
    @Test(arguments: [
        ("1970-01-01T00:00:00Z", 0), ("2025-08-24T10:15:30Z", 1_756_030_530_000),
        ("2025-08-24T10:15:30.250Z", 1_756_030_530_250), ("1969-12-31T23:59:59.999Z", -1),
        ("2000-02-29T12:00:00Z", 951_825_600_000), ("0001-01-01T00:00:00Z", -62_135_596_800_000),
        ("9999-12-31T23:59:59Z", 253_402_300_799_000),
    ])
    func `is written and read as RFC 3339`(text: String, milliseconds: Int64) {
        #expect(Timestamp(milliseconds: milliseconds).description == text)
        #expect(Timestamp(text)?.milliseconds == milliseconds)
    }

    @Test(arguments: [
        ("2025-08-24T13:15:30+03:00", "2025-08-24T10:15:30Z"),
        ("2025-08-24t10:15:30z", "2025-08-24T10:15:30Z"),
        ("2025-08-24 10:15:30Z", "2025-08-24T10:15:30Z"),
        ("2025-08-24T10:15:30.123456789Z", "2025-08-24T10:15:30.123Z"),
        ("2025-08-24T10:15:30.5-00:30", "2025-08-24T10:45:30.500Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
    ])
    func `is read with offsets, fractions and leap seconds`(text: String, expected: String) {
        #expect(Timestamp(text)?.description == expected)
    }

    @Test(arguments: [
        "", "2025", "2025-08-24", "2025-13-01T00:00:00Z", "2025-02-29T00:00:00Z", "2025-00-10T00:00:00Z",
        "2025-08-24T24:00:00Z", "2025-08-24T10:60:00Z", "2025-08-24T10:15:30", "2025-08-24T10:15:30.Z",
        "2025-08-24T10:15:30Zx", "2025-08-24T10:15:30+25:00", "٢٠٢٥-08-24T10:15:30Z", "-001-01-01T00:00:00Z",
    ])
    func `is not read from anything else`(text: String) {
        #expect(Timestamp(text) == nil)
    }

    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func `agrees with Foundation's calendar`(seed: UInt64) {
        let random = SeededRandom(seed: seed)
        let formatter = ISO8601DateFormatter()
        for _ in 0..<500 {
            let seconds = Int64(random.next() % 8_000_000_000) - 2_000_000_000
            let date = Date(timeIntervalSince1970: Double(seconds))
            let expected = formatter.string(from: date)
            #expect(Timestamp(seconds: seconds).description == expected, "seed \(seed)")
            #expect(Timestamp(expected) == Timestamp(seconds: seconds), "seed \(seed)")
        }
    }

    @Test func `knows its UTC day and weekday`() throws {
        let last = try #require(Timestamp("2025-08-24T23:59:59.999Z"))
        #expect(last.day.description == "2025-08-24")
        #expect((last + .milliseconds(1)).day == last.day.next)
        #expect(last.day.next.start.description == "2025-08-25T00:00:00Z")
        #expect(last.isoWeekday == 7)
        #expect(Timestamp.epoch.isoWeekday == 4)
        #expect(Timestamp(milliseconds: -1).day.description == "1969-12-31")
        #expect(UTCDay("2025-08-24") == last.day)
        #expect(UTCDay("2025-8-24") == nil)
    }
}

@Suite struct `A duration` {
    @Test func `is cut to milliseconds and rounded up to seconds`() {
        #expect(Duration.microseconds(1999).milliseconds == 1)
        #expect(Duration.milliseconds(1).wholeSecondsUp == 1)
        #expect(Duration.seconds(2).wholeSecondsUp == 2)
        #expect(Duration.milliseconds(2500).inSeconds == 2.5)
    }
}
