import Core
import Foundation
import HTTP
import HTTPClient
import HTTPServer
import Synchronization
import TestServers
import Testing

/// A certificate that vouches for itself, and its key.
private struct SelfSigned {
    let path: String
    let tls: ServerSettings.TLS

    init() async throws {
        let folder = try await TestServers.directory()
        path = folder + "/certificate.pem"
        let openssl = Process()
        openssl.executableURL = URL(filePath: "/usr/bin/openssl")
        openssl.arguments = [
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-out", path, "-keyout",
            folder + "/key.pem",
        ]
        openssl.standardError = FileHandle.nullDevice
        try openssl.run()
        openssl.waitUntilExit()
        tls = ServerSettings.TLS(
            certificate: try String(contentsOfFile: path, encoding: .utf8),
            key: Secret(try String(contentsOfFile: folder + "/key.pem", encoding: .utf8)))
    }
}

@Suite struct `A server over TLS` {
    private static var routes: Router {
        var router = Router()
        router.quick("GET", "/quick") { _ in .text("at once") }
        router.on("POST", "/echo") { request in
            Response(200, content: .bytes(try await request.body.collect(upTo: 8 << 20)))
        }
        router.on("GET", "/stream") { _ in
            .stream(type: "text/plain") { writer in
                for number in 0..<100 {
                    try await writer.write("\(number) " + String(repeating: "x", count: 5000))
                }
            }
        }
        return router
    }

    private func serving(
        _ handlers: ServerSettings.Handlers,
        _ body: @Sendable (_ port: Int, _ certificate: String) async throws -> Void
    ) async throws {
        let signed = try await SelfSigned()
        let server = HTTPServer(ServerSettings(port: 0, handlers: handlers, tls: signed.tls), Self.routes)
        try server.bind()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await server.run() }
            defer { group.cancelAll() }
            try await body(server.port, signed.path)
            group.cancelAll()
            try await group.waitForAll()
        }
    }

    @Test(arguments: [ServerSettings.Handlers.onPool, .onLoop])
    func `answers, takes bodies and streams like any other`(handlers: ServerSettings.Handlers) async throws {
        try await serving(handlers) { port, certificate in
            var settings = HTTPClient.Settings.patient
            settings.certificateAuthorities = certificate
            let client = HTTPClient(settings)
            let url = "https://127.0.0.1:\(port)"
            for _ in 0..<3 {
                let answer = try await text(client, ask(.get, url + "/quick"))
                #expect(answer == "at once")
            }
            // More than one record of TLS, so that what is unpacked already is not forgotten in it.
            for size in [0, 1, 20_000, 3 << 20] {
                let sent = Bytes((0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) })
                let answer = try await client.send(ask(.post, url + "/echo", body: Body(sent)))
                #expect(try await answer.body.collect(upTo: 8 << 20) == sent, "\(size)")
            }
            let streamed = try await text(client, ask(.get, url + "/stream"))
            #expect(streamed.utf8.count == 100 * 5000 + 290)
            await client.shutdown()
        }
    }

    @Test func `is not believed by a client that does not know its certificate`() async throws {
        try await serving(.onPool) { port, _ in
            let client = HTTPClient(.patient)
            #expect(await kind(client, ask(.get, "https://127.0.0.1:\(port)/quick")) == .notSent)
            await client.shutdown()
        }
    }

    @Test func `says nothing to who does not speak TLS, and serves the next`() async throws {
        try await serving(.onPool) { port, certificate in
            let plain = HTTPClient(.patient)
            let told = await kind(plain, ask(.get, "http://127.0.0.1:\(port)/quick"))
            #expect(told == .inDoubt || told == .badAnswer)
            await plain.shutdown()
            var settings = HTTPClient.Settings.patient
            settings.certificateAuthorities = certificate
            let client = HTTPClient(settings)
            #expect(await kind(client, ask(.get, "https://127.0.0.1:\(port)/quick")) == nil)
            await client.shutdown()
        }
    }
}
