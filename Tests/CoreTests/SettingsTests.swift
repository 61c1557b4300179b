import Core
import Testing

@Suite struct `The settings` {
    enum Mode: String, CaseIterable { case strict, dev }

    struct Sample: Equatable {
        var port: Int
        var tls: Bool
        var mode: Mode
        var origins: [String]

        init(port: Int, tls: Bool, mode: Mode, origins: [String]) {
            (self.port, self.tls, self.mode, self.origins) = (port, tls, mode, origins)
        }

        init(_ environment: Environment) throws(ConfigurationError) {
            var environment = environment
            port = environment.int("PORT", default: 8000, in: 1...65_535)
            tls = environment.bool("TLS", default: true)
            mode = environment.choice("AUTH_MODE", default: .dev)
            origins = environment.list("ORIGINS")
            _ = environment.secret("KEY")
            try environment.finish()
        }
    }

    @Test func `have defaults for what is absent or empty`() throws {
        let settings = try Sample(Environment(["PORT": ""]))
        #expect(settings == Sample(port: 8000, tls: true, mode: .dev, origins: []))
    }

    @Test func `are read`() throws {
        let settings = try Sample(
            Environment([
                "PORT": "80", "TLS": "off", "AUTH_MODE": "Strict", "ORIGINS": " a.example , ,b.example ",
            ]))
        #expect(settings == Sample(port: 80, tls: false, mode: .strict, origins: ["a.example", "b.example"]))
    }

    @Test func `name all their mistakes at once`() {
        let wrong = Environment([
            "PORT": "0", "TLS": "maybe", "AUTH_MODE": "open", "KEY_FILE": "/nowhere/at/all",
        ])
        let error = #expect(throws: ConfigurationError.self) { try Sample(wrong) }
        #expect(
            error?.mistakes == [
                "PORT must be a whole number from 1 to 65535", "TLS must be true or false",
                "AUTH_MODE must be one of: strict, dev",
                "KEY_FILE names a file that cannot be read",
            ])
    }

    @Test func `never show a secret`() {
        var environment = Environment(["JWT_SECRET": "swordfish"])
        let secret = environment.secret("JWT_SECRET")
        #expect(secret?.expose() == "swordfish")
        let holder = (secret, ["nested": secret])
        #expect(!"\(holder) \(String(reflecting: holder))".contains("swordfish"))
        var dumped = ""
        dump(holder, to: &dumped)
        #expect(!dumped.contains("swordfish"))
    }
}
