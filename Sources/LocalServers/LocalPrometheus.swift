import Core

/// A private Prometheus that reads the metrics of the ports it is told, every few seconds.
public struct LocalPrometheus: LocalServer {
    public let process: ServerProcess
    public let port: Int

    /// `targets` are the ports by the names that shall stand in the label `service`.
    public init(directory: String, port: Int? = nil, targets: [String: Int]) throws {
        let folder = ServerFolder(directory, accountName: "prometheus")
        let port = try port ?? Loopback.freePort()
        self.port = port
        let jobs = targets.sorted { $0.key < $1.key }.map { name, port in
            "      - targets: [\"127.0.0.1:\(port)\"]\n        labels: { service: \(name) }"
        }
        let configuration = """
            global:
              scrape_interval: 5s
            scrape_configs:
              - job_name: convoke
                static_configs:
            \(jobs.joined(separator: "\n"))

            """
        process = ServerProcess(
            ServerRecipe(
                name: "prometheus", folder: folder, port: port,
                prepare: { try folder.write("prometheus.yml", configuration) },
                command: folder.command(
                    Self.binary,
                    [
                        "--config.file=\(folder("prometheus.yml"))", "--storage.tsdb.path=\(folder("data"))",
                        "--storage.tsdb.retention.time=7d", "--web.listen-address=127.0.0.1:\(port)",
                    ],
                    // It writes down what it has in memory.
                    endSignal: .terminate),
                answers: { _ in
                    Loopback.ask(port, "GET /-/ready HTTP/1.0\r\n\r\n", untilEnd: true)?.contains(" 200 ")
                        ?? false
                }))
    }

    public var url: String { "http://127.0.0.1:\(port)" }

    public static var isInstalled: Bool { fileExists(binary) }

    private static let binary = "/usr/bin/prometheus"
}
