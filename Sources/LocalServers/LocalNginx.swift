import Core

/// A private nginx with one `server` on one port.
public struct LocalNginx: LocalServer {
    public let process: ServerProcess
    public let port: Int

    /// `server` is what stands in the `server { … }` block, `http` what stands beside it.
    public init(
        directory: String, port: Int? = nil, workers: Int = 2,
        server: String = "location / { return 200 ok; }",
        http: String = ""
    ) throws {
        let folder = ServerFolder(directory, accountName: "www-data")
        let port = try port ?? Loopback.freePort()
        self.port = port
        // Without these it wants Debian's own folders, which belong to another instance.
        let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        let folders = kinds.map { "\($0)_temp_path \(folder($0));" }.joined(separator: " ")
        let configuration = """
            daemon off;
            worker_processes \(workers);
            pid \(folder("nginx.pid"));
            events { worker_connections 4096; }
            http {
                access_log off;
                keepalive_requests 1000000000;
                \(folders)
                \(http)
                server {
                    listen 127.0.0.1:\(port);
                    \(server)
                }
            }
            """
        process = ServerProcess(
            ServerRecipe(
                name: "nginx", folder: folder, port: port,
                prepare: { try folder.write("nginx.conf", configuration) },
                command: folder.command(
                    "/usr/sbin/nginx", ["-p", folder.path, "-e", "stderr", "-c", folder("nginx.conf")],
                    // Killed, it would leave its workers serving.
                    endSignal: .terminate),
                answers: { _ in Loopback.ask(port, "GET / HTTP/1.0\r\n\r\n")?.hasPrefix("HTTP/") ?? false }))
    }

    public var url: String { "http://127.0.0.1:\(port)" }

    public static var isInstalled: Bool { fileExists("/usr/sbin/nginx") }

    /// A `server` that hands everything on to a port of this machine, streams included.
    public static func proxy(to port: Int) -> String {
        """
        client_max_body_size 0;
        location / {
            proxy_pass http://127.0.0.1:\(port);
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_buffering off;
            proxy_request_buffering off;
            proxy_read_timeout 1h;
        }
        """
    }
}
