import Core
import LocalServers

#if canImport(Glibc)
    import Glibc
#endif

struct DemoOptions: Equatable {
    /// Kept when the operator names it; else a folder that is gone afterwards.
    var dataFolder: String?
    var seed: UInt64 = 1

    init(_ arguments: [String]) throws(Order.Refusal) {
        var rest = arguments[...]
        while let option = rest.popFirst() {
            switch option {
            case "--data":
                guard let folder = rest.popFirst(), !folder.hasPrefix("--") else {
                    throw Order.Refusal(sentence: "--data wants a folder")
                }
                dataFolder = folder
            case "--seed":
                guard let number = rest.popFirst().flatMap({ UInt64($0) }) else {
                    throw Order.Refusal(sentence: "--seed wants a whole number")
                }
                seed = number
            default: throw Order.Refusal(sentence: "demo does not know \(option)")
            }
        }
    }
}

let demoHelp = """
    convoke demo: the main job from audience to report, in the terminal, in under a minute

      --data DIR   keep what it wrote in this folder, which must be new or empty
      --seed N     the sandbox world's seed (default: 1)

    Nobody real is involved: the platform is the real one, Telegram is simulated, and the hours of waiting that the
    limits demand are hurried through. Exit code 0 when all counts agree and no limit was broken, 1 otherwise.

    """

extension Convoke {
    static func runDemo(_ options: DemoOptions) async -> Never {
        await runService("convoke") { log in
            let temporary = options.dataFolder == nil ? try await TemporaryFolder(named: "convoke-demo") : nil
            let folder = options.dataFolder ?? temporary?.path ?? ""
            if let kept = options.dataFolder { try makeNew(kept) }
            let logFile = "\(folder)/convoke.log"
            try sendErrorsTo(logFile)
            do {
                try await DemoPlatform.run(in: folder, seed: options.seed, log: log) { platform in
                    try await DemoStory(platform).tell()
                }
            } catch is CancellationError {
                printLine("\nStopped.")
            } catch {
                printLine("\nThe demonstration failed: \(error)")
                if temporary == nil { printLine("What happened stands in \(logFile)") }
                endProcess(ExitCode.failure)
            }
            if temporary == nil { printLine("All it wrote is in \(folder)") }
            return []
        }
    }
}

/// What an earlier run wrote would be told as if it were of this one.
private func makeNew(_ folder: String) throws {
    // An empty one is made anew; the system removes no other.
    _ = unsafe rmdir(folder)
    guard unsafe mkdir(folder, 0o700) == 0 else {
        throw ConfigurationError(mistakes: ["--data: \(folder) must be a new or an empty folder"])
    }
}

/// The log is for those who look for something; the terminal is for the story.
private func sendErrorsTo(_ path: String) throws {
    let file = unsafe open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard file >= 0, dup2(file, 2) == 2 else {
        throw ConfigurationError(mistakes: ["\(path) cannot be written"])
    }
    close(file)
}
