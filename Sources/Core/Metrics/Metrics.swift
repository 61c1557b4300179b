import Synchronization

/// The figures of one service, written in Prometheus' text format.
///
/// Ask once for a metric and keep it: a counter is one atomic addition afterwards. Labels are given in the
/// order of their names; more than `seriesLimit` combinations fall into one series named `other`, so that
/// nothing from outside can fill the memory.
public final class Metrics: Sendable {
    public static let seriesLimit = 1000

    private let families = Mutex<[String: any MetricFamily]>([:])
    private let collectors = Mutex<[@Sendable () -> Void]>([])

    /// Stands at every series of this registry, so that they differ from another's where both are read as one.
    private let mark: String

    public init() { mark = "" }

    public init(label: String, _ value: String) {
        precondition(isMetricName(label), "\(label) is no label name")
        mark = "\(label)=\"\(escaped(value, quotes: true))\""
    }

    public func counter(_ name: String, _ help: String) -> Counter { counters(name, help, labels: [])[] }
    public func gauge(_ name: String, _ help: String) -> Gauge { gauges(name, help, labels: [])[] }
    public func histogram(_ name: String, _ help: String, buckets: [Double] = Histogram.seconds) -> Histogram
    {
        histograms(name, help, labels: [], buckets: buckets)[]
    }

    public func counters(_ name: String, _ help: String, labels: [String]) -> Labeled<Counter> {
        family(name, help, labels) { Counter() }
    }
    public func gauges(_ name: String, _ help: String, labels: [String]) -> Labeled<Gauge> {
        family(name, help, labels) { Gauge() }
    }
    public func histograms(
        _ name: String, _ help: String, labels: [String], buckets: [Double] = Histogram.seconds
    ) -> Labeled<Histogram> {
        family(name, help, labels) { Histogram(buckets: buckets) }
    }

    /// Called before every reading: where gauges that are looked up rather than counted get their value.
    public func beforeReading(_ update: @escaping @Sendable () -> Void) {
        collectors.withLock { $0.append(update) }
    }

    /// The whole registry as Prometheus reads it.
    public var text: String { Self.text(of: [self]) }

    /// Several registries as one: what two of them have under one name stands under one head, as Prometheus
    /// demands. At most one of them goes unmarked.
    public static func text(of registries: [Metrics]) -> String {
        var heads: [String: String] = [:]
        var samples: [String: String] = [:]
        for registry in registries {
            for update in registry.collectors.withLock({ $0 }) { update() }
            for (name, family) in registry.families.withLock({ $0 }) {
                if heads[name] == nil { heads[name] = family.head }
                samples[name, default: ""] += family.samples(mark: registry.mark)
            }
        }
        return heads.keys.sorted().map { (heads[$0] ?? "") + (samples[$0] ?? "") }.joined()
    }

    private func family<Metric: MetricValue>(
        _ name: String, _ help: String, _ labels: [String], _ make: @escaping @Sendable () -> Metric
    ) -> Labeled<Metric> {
        precondition(isMetricName(name) && labels.allSatisfy(isMetricName), "\(name) is no metric name")
        return families.withLock { families in
            if let found = families[name] {
                guard let found = found as? Labeled<Metric>, found.labels == labels else {
                    preconditionFailure("\(name) is another kind of metric already")
                }
                return found
            }
            let made = Labeled<Metric>(name: name, help: help, labels: labels, make: make)
            families[name] = made
            return made
        }
    }
}

private func isMetricName(_ name: String) -> Bool {
    guard let first = name.utf8.first, first < 0x30 || first > 0x39 else { return false }
    return name.utf8.allSatisfy {
        ($0 | 0x20) >= 0x61 && ($0 | 0x20) <= 0x7A || ($0 >= 0x30 && $0 <= 0x39) || $0 == UInt8(ascii: "_")
    }
}

/// Counter, gauge or histogram.
public protocol MetricValue: AnyObject, Sendable {
    static var kind: StaticString { get }
    func lines(name: String, labels: String) -> String
}

protocol MetricFamily: Sendable {
    var head: String { get }
    /// `mark` is a label that all get beside their own, or nothing.
    func samples(mark: String) -> String
}

/// A metric with labels: one value for every combination that was met.
public final class Labeled<Metric: MetricValue>: MetricFamily {
    let name: String
    let help: String
    let labels: [String]
    private let make: @Sendable () -> Metric
    private let series: Mutex<[[String]: Metric]> = Mutex([:])

    init(name: String, help: String, labels: [String], make: @escaping @Sendable () -> Metric) {
        self.name = name
        self.help = help
        self.labels = labels
        self.make = make
    }

    /// The series of these label values, in the order of the names.
    public subscript(values: String...) -> Metric {
        precondition(values.count == labels.count, "\(name) has the labels \(labels)")
        return series.withLock { series in
            if let found = series[values] { return found }
            let key = series.count < Metrics.seriesLimit ? values : values.map { _ in "other" }
            if let found = series[key] { return found }
            let made = make()
            series[key] = made
            return made
        }
    }

    /// Forgets all series: for gauges that are set anew from a list.
    public func reset() { series.withLock { $0 = [:] } }

    var head: String { "# HELP \(name) \(escaped(help, quotes: false))\n# TYPE \(name) \(kind)\n" }

    /// Prometheus keeps `_total` for counters. A gauge that has to bear such a name, because clients were promised
    /// it, shows no type rather than a wrong one.
    private var kind: String {
        Metric.self == Gauge.self && name.hasSuffix("_total") ? "untyped" : "\(Metric.kind)"
    }

    func samples(mark: String) -> String {
        let series = series.withLock { $0 }
        var text = ""
        for (values, metric) in series.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            let pairs = zip(labels, values).map { "\($0)=\"\(escaped($1, quotes: true))\"" }
            let all = mark.isEmpty ? pairs : pairs + [mark]
            text += metric.lines(name: name, labels: all.joined(separator: ","))
        }
        return text
    }
}

private func escaped(_ text: String, quotes: Bool) -> String {
    var result = ""
    for character in text.unicodeScalars {
        switch character {
        case "\\": result += "\\\\"
        case "\n": result += "\\n"
        case "\"" where quotes: result += "\\\""
        default: result.unicodeScalars.append(character)
        }
    }
    return result
}

private func number(_ value: Double) -> String {
    if let whole = Int64(exactly: value) { return String(whole) }
    return value.isNaN ? "NaN" : value.isInfinite ? (value > 0 ? "+Inf" : "-Inf") : value.description
}

/// Only grows.
public final class Counter: MetricValue {
    public static let kind: StaticString = "counter"
    private let count = Atomic<UInt64>(0)

    public func increment(by amount: Int = 1) {
        precondition(amount >= 0, "a counter only grows")
        count.wrappingAdd(UInt64(amount), ordering: .relaxed)
    }

    public var value: Int { Int(clamping: count.load(ordering: .relaxed)) }

    public func lines(name: String, labels: String) -> String {
        "\(name)\(labels.isEmpty ? "" : "{\(labels)}") \(value)\n"
    }
}

/// Goes up and down.
public final class Gauge: MetricValue {
    public static let kind: StaticString = "gauge"
    private let bits = Atomic<UInt64>(0)

    public func set(_ value: Double) { bits.store(value.bitPattern, ordering: .relaxed) }
    public func set(_ value: some BinaryInteger) { set(Double(value)) }

    public func add(_ amount: Double) {
        var old = bits.load(ordering: .relaxed)
        while true {
            let new = (Double(bitPattern: old) + amount).bitPattern
            let (done, seen) = bits.weakCompareExchange(expected: old, desired: new, ordering: .relaxed)
            if done { return }
            old = seen
        }
    }

    public var value: Double { Double(bitPattern: bits.load(ordering: .relaxed)) }

    public func lines(name: String, labels: String) -> String {
        "\(name)\(labels.isEmpty ? "" : "{\(labels)}") \(number(value))\n"
    }
}

/// How observed values spread over fixed buckets.
public final class Histogram: MetricValue {
    public static let kind: StaticString = "histogram"
    /// From half a millisecond to ten seconds: for the duration of requests.
    public static let seconds: [Double] = [
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
    ]

    private let buckets: [Double]
    private struct State {
        var counts: [UInt64]
        var sum = 0.0
    }
    private let state: Mutex<State>

    init(buckets: [Double]) {
        precondition(!buckets.isEmpty && buckets == buckets.sorted(), "buckets ascend")
        self.buckets = buckets
        state = Mutex(State(counts: Array(repeating: 0, count: buckets.count + 1)))
    }

    public func observe(_ value: Double) {
        let index = buckets.firstIndex { value <= $0 } ?? buckets.count
        state.withLock { state in
            state.counts[index] += 1
            state.sum += value
        }
    }

    public func observe(_ duration: Duration) { observe(duration.inSeconds) }

    public func lines(name: String, labels: String) -> String {
        let state = state.withLock { $0 }
        let comma = labels.isEmpty ? "" : ","
        let braces = labels.isEmpty ? "" : "{\(labels)}"
        var total: UInt64 = 0
        var text = ""
        for (bound, count) in zip(buckets.map(number) + ["+Inf"], state.counts) {
            total += count
            text += "\(name)_bucket{\(labels)\(comma)le=\"\(bound)\"} \(total)\n"
        }
        return text + "\(name)_sum\(braces) \(number(state.sum))\n\(name)_count\(braces) \(total)\n"
    }
}
