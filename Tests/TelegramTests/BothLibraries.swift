import Core
import Sandbox
import Testing

@testable import Telegram

/// What can be asked of both without a network, asked of both: the sandbox has the real library's words.
@Suite(.enabled(if: RealLibrary.isThere, "Telegram's library is not installed"), .serialized)
struct `The sandbox and the real library` {
    private static let refusals: [JSONValue] = [
        [:], ["@type": "noSuchMethod"], ["@type": "getMe"], ["@type": "logOut"],
        ["@type": "searchPublicChat", "username": 5], ["@type": "searchPublicChat", "username": []],
        ["@type": "getChat", "chat_id": "x"], ["@type": "getChat", "chat_id": true],
        ["@type": "getChat", "chat_id": []],
        ["@type": "addChatMembers", "user_ids": [:]],
        ["@type": "joinChatByInviteLink", "invite_link": false],
        ["@type": "setTdlibParameters"], ["@type": "setTdlibParameters", "api_id": 1],
        ["@type": "setTdlibParameters", "api_id": 1, "api_hash": "x"],
        ["@type": "setTdlibParameters", "api_id": 1, "api_hash": "x", "system_language_code": "en"],
        [
            "@type": "setTdlibParameters", "api_id": 1, "api_hash": "x", "system_language_code": "en",
            "device_model": "x",
        ],
        ["@type": "checkAuthenticationCode", "code": "1"],
    ]

    @Test(arguments: refusals)
    func `refuse in the same words before they are configured`(request: JSONValue) async throws {
        let real = try await answer(try RealLibrary.transport(), request)
        let world = SandboxWorld(.tests, time: SystemTime())
        let simulated = try await answer(SandboxTransport(world), request)
        // The sandbox reads a field when it needs it, so a wrong type may come to light behind a wrong moment.
        guard !real.isComplaint || simulated.isComplaint else { return }
        #expect(simulated == real)
    }

    @Test func `go through the same states, each before the answer that led to it`() async throws {
        let real = try await RealLibrary.inFolder { folder in
            try await states(try RealLibrary.transport(), folder: folder)
        }
        let world = SandboxWorld(.tests, time: SystemTime())
        #expect(try await states(SandboxTransport(world), folder: "/sandbox/1") == real)
        #expect(
            real == [
                "authorizationStateWaitTdlibParameters", "authorizationStateWaitPhoneNumber",
                "authorizationStateClosing",
                "authorizationStateClosed",
            ])
    }

    private func answer(_ transport: any TelegramTransport, _ request: JSONValue) async throws -> JSONValue {
        let client = BareClient(transport)
        client.send(["@type": "getAuthorizationState"])
        await client.wait(for: "authorizationStateWaitTdlibParameters")
        let answer = await client.ask(request)
        client.send(["@type": "close"])
        await client.wait(for: "authorizationStateClosed")
        return .object((answer.objectValue ?? []).filter { !["@extra", "@client_id"].contains($0.name) })
    }

    private func states(_ transport: any TelegramTransport, folder: String) async throws -> [String] {
        let client = BareClient(transport)
        client.send(["@type": "getAuthorizationState"])
        await client.wait(for: "authorizationStateWaitTdlibParameters")
        let answer = await client.ask(TelegramRequest.setTdlibParameters(.sample(folder), .offline).json())
        #expect(answer.type == "ok")
        #expect(client.seenStates.last == "authorizationStateWaitPhoneNumber")
        client.send(["@type": "close"])
        await client.wait(for: "authorizationStateClosed")
        return client.seenStates
    }
}
