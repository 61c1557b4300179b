/// What the operator asked for. Unknown words are refused with a sentence, never guessed at.
enum Order: Equatable {
    case up(UpOptions)
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

let helpText = """
    convoke: community invitations on Telegram, within every limit

      convoke up [--data DIR] [--seed N] [--real]   run the platform
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
