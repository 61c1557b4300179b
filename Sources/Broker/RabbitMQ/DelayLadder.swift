import Core

/// How a message is kept back without a plugin: it climbs down a ladder of queues whose messages all live
/// equally long, and is dead-lettered back to where it belongs.
///
/// One queue with a time to live per *message* would not do: RabbitMQ expires only at a queue's head, so a
/// message of a second would wait behind one of an hour. One queue per distinct delay would not do either:
/// a backoff with jitter makes a new one each time. So the delays are a fixed ladder. The longest rung that
/// fits comes first; who is delivered before its time goes down to the next. The rungs are made when first
/// needed.
enum DelayLadder {
    static let rungs: [Duration] = [
        .milliseconds(100), .milliseconds(500), .seconds(2), .seconds(5), .seconds(15), .minutes(1),
        .minutes(5), .minutes(15), .hours(1), .hours(4), .days(1),
    ]

    /// The rung for a message that has `remaining` to wait; `nil` when its time has come.
    ///
    /// May overshoot by a twentieth, which saves the last hops of a long wait, and never undershoots.
    static func rung(for remaining: Duration) -> Duration? {
        guard remaining > .zero else { return nil }
        guard let next = rungs.first(where: { $0 >= remaining }) else { return rungs.last }
        if next == rungs.first || next <= remaining * 1.05 { return next }
        return rungs.last { $0 <= remaining }
    }

    /// Exchange and queue of a rung have the same name.
    static func name(_ rung: Duration) -> String { "convoke.delay.\(rung.milliseconds)ms" }
}
