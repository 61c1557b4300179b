import Core

#if canImport(Glibc)
    import Glibc
#endif

/// `./convoke bench [name]`: all benchmarks, or those whose name starts with `name`.
@main
struct Bench {
    /// In the order of the layers; one file each.
    static let all: [Benchmark] = [
        .json,
        .jwt,
        .http,
        .httpClient,
        .gateway,
        .gatewayStreams,
        .sql,
        .copy,
        .cache,
        .broker,
        .brokerEmbedded,
        .brokerOutage,
        .accounts,
        .integration,
        .invites,
        .imports,
        .parsing,
    ]

    static func main() async throws {
        let wanted = CommandLine.arguments.dropFirst().first
        let chosen = all.filter { wanted == nil || $0.name.hasPrefix(wanted ?? "") }
        guard !chosen.isEmpty else {
            print(
                "No benchmark is called \(wanted ?? ""). There are: \(all.map(\.name).joined(separator: ", "))"
            )
            endProcess(ExitCode.usage)
        }
        var missed = 0
        for benchmark in chosen {
            print("\(benchmark.name): \(benchmark.summary)")
            let report = Report()
            try await benchmark.run(report)
            missed += await report.missed
        }
        if missed > 0 { print("\(missed) target(s) missed") }
        // `endProcess` runs no exit handlers, so what a pipe has not been given yet would be lost.
        fflush(nil)
        endProcess(missed == 0 ? ExitCode.ok : ExitCode.failure)
    }
}
