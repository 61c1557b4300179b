/// What the operator asked for. Unknown words are refused with a sentence, never guessed at.
enum Order: Equatable {
    case up(UpOptions)
    case demo(DemoOptions)
    case verifyLimits(VerifyOptions)
    case version
    case help(String?)

    struct Refusal: Error, Equatable {
        let sentence: String
    }

    init(_ arguments: [String]) throws(Refusal) {
        guard let name = arguments.first else {
            self = .help(nil)
            return
        }
        let rest = Array(arguments.dropFirst())
        switch name {
        case "up":
            if rest.contains("--help") || rest.contains("-h") {
                self = .help("up")
            } else {
                self = .up(try UpOptions(rest))
            }
        case "demo":
            if rest.contains("--help") || rest.contains("-h") {
                self = .help("demo")
            } else {
                self = .demo(try DemoOptions(rest))
            }
        case "verify-limits":
            if rest.contains("--help") || rest.contains("-h") {
                self = .help("verify-limits")
            } else {
                self = .verifyLimits(try VerifyOptions(rest))
            }
        case "version", "--version": self = .version
        case "help", "--help", "-h": self = .help(rest.first)
        default: throw Refusal(sentence: "there is no command \(name)")
        }
    }
}

struct UpOptions: Equatable {
    var dataFolder = "data"
    var seed: UInt64 = 1
    var isReal = false

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
            case "--real": isReal = true
            default: throw Order.Refusal(sentence: "up does not know \(option)")
            }
        }
    }
}

struct VerifyOptions: Equatable {
    var dataFolder = "data"
    /// RFC 3339; the whole ledger when nothing is said.
    var from: String?

    init(_ arguments: [String]) throws(Order.Refusal) {
        var rest = arguments[...]
        while let option = rest.popFirst() {
            switch option {
            case "--data":
                guard let folder = rest.popFirst(), !folder.hasPrefix("--") else {
                    throw Order.Refusal(sentence: "--data wants a folder")
                }
                dataFolder = folder
            case "--from":
                guard let moment = rest.popFirst(), !moment.hasPrefix("--") else {
                    throw Order.Refusal(sentence: "--from wants a time such as 2025-08-24T10:00:00Z")
                }
                from = moment
            default: throw Order.Refusal(sentence: "verify-limits does not know \(option)")
            }
        }
    }
}

let helpText = """
    convoke: community invitations on Telegram, within every limit

      convoke up [--data DIR] [--seed N] [--real]   run the platform
      convoke demo [--data DIR] [--seed N]          show the main job on a simulated Telegram
      convoke verify-limits [--data DIR] [--from T] check every limit after the fact
      convoke version                               print the version
      convoke help [COMMAND]                        explain a command

    """

let upHelp = """
    convoke up: run all services until Ctrl-C

      --data DIR   where everything is kept (default: data)
      --seed N     the sandbox world's seed (default: 1)
      --real       start private PostgreSQL, Redis and RabbitMQ in the data folder
                   and one process per service; without it, one process does all

    CONVOKE_PORT_BASE moves port 8000 and its neighbours together.

    """

let verifyHelp = """
    convoke verify-limits: count every limit in the ledger, apart from the code that keeps them

      --data DIR   where everything is kept (default: data), unless DATABASE_URL or
                   POSTGRES_SERVER says where the database is
      --from T     judge what was done from then on (default: everything)

    Exit code 0 when every limit was kept, 1 when one was broken, 69 when the ledger cannot be read.

    """
