public import Core

/// Time for tests of whole services: the clock on the wall and every wait of a second or more are the test's,
/// the short pauses of drivers pass by themselves, so that a retry of theirs needs no help.
public final class SteeredTime: TimeSource {
    private let manual: ManualTime
    private let system = SystemTime()

    public init(_ start: Timestamp = Timestamp(seconds: 1_756_036_800)) { manual = ManualTime(start) }

    public var now: Timestamp { manual.now }
    public var uptime: Duration { system.uptime }

    // It is the time source itself; nothing here waits instead of looking.
    public func sleep(for duration: Duration) async throws {  // rule: tests-do-not-sleep
        try await duration < .seconds(1) ? system.sleep(for: duration) : manual.sleep(for: duration)
    }

    public func advance(by duration: Duration) { manual.advance(by: duration) }
}
