import Core

#if canImport(Glibc)
    import Glibc
#endif

/// A private RabbitMQ without plugins. It takes seconds to start, so tests share one and take a virtual
/// host each.
public struct LocalRabbitMQ: LocalServer {
    public let process: ServerProcess
    public let port: Int
    private let folder: ServerFolder
    private let password: String
    private let time: any TimeSource = SystemTime()

    /// `password` is that of the one user, `guest`.
    public init(directory: String, port: Int? = nil, password: String = "guest") throws {
        let folder = ServerFolder(directory, accountName: "rabbitmq")
        let port = try port ?? Loopback.freePort()
        let distributionPort = try Loopback.freePort()
        let mapperPort = try Loopback.freePort()
        let node = "convoke@localhost"
        self.folder = folder
        self.port = port
        self.password = password
        let environment = [
            "RABBITMQ_CONFIG_FILE": folder("rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": folder("plugins"),
            "RABBITMQ_MNESIA_BASE": folder("data"),
            "RABBITMQ_LOG_BASE": folder.path,
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_NODENAME": node,
            "RABBITMQ_DIST_PORT": String(distributionPort),
            // Keeps Erlang's shell on standard input: `createVirtualHost` types there what `rabbitmqctl`
            // would need two seconds and a virtual machine of its own for. It also makes the start script
            // become the server instead of standing beside it.
            "RABBITMQ_ALLOW_INPUT": "1",
            // The node listens on a port told here, so Erlang's port mapper (`epmd`, a daemon shared by the
            // whole machine, which would stay behind) is never started. It is looked for nevertheless, so its
            // port must be one where nobody is: anybody else would be waited for, for ten seconds.
            "ERL_EPMD_PORT": String(mapperPort),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": [
                "-sname \(node) -start_epmd false -erl_epmd_port \(distributionPort)",
                "-kernel inet_dist_use_interface {127,0,0,1}",
                "-kernel inet_dist_listen_min \(distributionPort) inet_dist_listen_max \(distributionPort)",
                // Its schedulers spin while idle; the machine has other work.
                "+sbwt none +sbwtdcpu none +sbwtdio none",
            ].joined(separator: " "),
        ]
        let configuration = """
            listeners.tcp.1 = 127.0.0.1:\(port)
            default_user = guest
            default_pass = \(password)
            log.console.level = info

            """
        process = ServerProcess(
            ServerRecipe(
                name: "rabbitmq", folder: folder, port: port,
                prepare: {
                    try folder.write("rabbitmq.conf", configuration)
                    try folder.write("plugins", "[].\n")
                },
                command: folder.command(
                    "/usr/lib/rabbitmq/bin/rabbitmq-server", [], environment: environment, hasInput: true),
                answers: { _ in Loopback.ask(port, "AMQP\u{0}\u{0}\u{9}\u{1}")?.hasPrefix("\u{1}") ?? false },
                // In order, and then at once: after SIGTERM it stops as fast, but Erlang's shell, which has its
                // standard input, takes another second to go.
                stop: .typed("rabbit:stop(), erlang:halt(0, [{flush, false}]).")))
    }

    /// The default virtual host, `/`.
    public var url: String { url(virtualHost: "%2F") }

    public func url(virtualHost: String) -> String {
        "amqp://guest:\(password)@127.0.0.1:\(port)/\(virtualHost)"
    }

    /// Makes a virtual host that `guest` may use. `name` is letters, digits and dashes.
    public func createVirtualHost(_ name: String) async throws {
        _ = try await evaluate(
            """
            rabbit_vhost:add(<<"\(name)">>, <<"convoke">>), \
            rabbit_auth_backend_internal:set_permissions(\
            <<"guest">>, <<"\(name)">>, <<".*">>, <<".*">>, <<".*">>, <<"convoke">>)
            """)
    }

    /// The names of all virtual hosts.
    public func virtualHosts() async throws -> [String] {
        let answer = try await evaluate("lists:join(<<\" \">>, rabbit_vhost:list_names())")
        return answer.split(separator: " ").map(String.init)
    }

    /// Has the server's Erlang shell evaluate an expression; `ok` or a text comes back through a file.
    private func evaluate(_ expression: String) async throws -> String {
        let answer = folder("answer-\(SystemRandom().next())")
        defer { removeFile(answer) }
        // Renamed when complete, so that half an answer is never read.
        await process.write(
            """
            file:write_file("\(answer).part", \
            case begin \(expression) end of ok -> <<"ok">>; Text -> Text end), \
            file:rename("\(answer).part", "\(answer)").
            """)
        let start = time.uptime
        while true {
            if let text = readFile(answer) { return text }
            guard time.uptime - start < .seconds(30) else {
                throw ServerFailed(
                    server: "rabbitmq", reason: "did not obey \(expression)", logTail: folder.logTail)
            }
            try await time.sleep(for: .milliseconds(10))
        }
    }
}
