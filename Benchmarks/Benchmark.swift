import Core

#if canImport(Glibc)
    import Glibc
#endif

/// One hot path, measured beside a limit or a peer in the same run.
struct Benchmark: Sendable {
    let name: String
    let summary: String
    let run: @Sendable (Report) async throws -> Void
}

/// Collects what a benchmark measured and prints it as ratios: the machines are shared and noisy, so a bare
/// time says nothing.
actor Report {
    private let time = SystemTime()
    private(set) var missed = 0

    /// At once, also into a file: a benchmark takes minutes, and may be ended before its end.
    private func say(_ line: String) {
        print(line)
        fflush(nil)
    }

    /// Measures `ours` and `limit` in turn, `rounds` times each after one warm-up, and prints the ratio of
    /// the medians. Both return a rate: the more the better.
    func ratio(
        _ what: String, unit: String, target: Double? = nil, rounds: Int = 5,
        ours: @Sendable () async throws -> Double, limit: @Sendable () async throws -> Double,
        limitName: String
    ) async throws {
        _ = try await ours()
        _ = try await limit()
        var oursRates: [Double] = []
        var limitRates: [Double] = []
        for _ in 0..<rounds {
            oursRates.append(try await ours())
            limitRates.append(try await limit())
        }
        let (ourRate, limitRate) = (median(oursRates), median(limitRates))
        let ratio = ourRate / limitRate
        let verdict = target.map { ratio >= $0 ? "  (at least \($0): yes)" : "  (at least \($0): NO)" } ?? ""
        if let target, ratio < target { missed += 1 }
        say("  \(what): \(rounded(ratio)) of \(limitName)\(verdict)")
        say("      \(rate(ourRate)) against \(rate(limitRate)) \(unit), medians of \(rounds)")
    }

    /// What must be so, beside the ratios.
    func hold(_ what: String, _ isSo: Bool) {
        if !isSo { missed += 1 }
        say("  \(what)\(isSo ? "" : "  NO")")
    }

    func note(_ line: String) { say("      \(line)") }

    /// Calls of `work` a second by `callers` tasks at once, for `duration`; they live on `loops` in turn, or in
    /// Swift's pool.
    nonisolated func callsPerSecond(
        callers: Int, for duration: Duration = .seconds(1), on loops: [EventLoop] = [],
        _ work: @escaping @Sendable (Int) async throws -> Void
    ) async throws -> Double {
        let time = SystemTime()
        let start = time.uptime
        let total = try await withThrowingTaskGroup(of: Int.self) { group in
            for caller in 0..<callers {
                let loop = loops.isEmpty ? nil : loops[caller % loops.count]
                group.addTask(executorPreference: loop) {
                    var count = 0
                    while time.uptime - start < duration {
                        try await work(caller)
                        count += 1
                    }
                    return count
                }
            }
            return try await group.reduce(0, +)
        }
        return Double(total) / (time.uptime - start).inSeconds
    }
}

func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

func rounded(_ value: Double) -> String { String((value * 100).rounded() / 100) }

func rate(_ value: Double) -> String { value >= 100 ? String(Int(value)) : rounded(value) }
