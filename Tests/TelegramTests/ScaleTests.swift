import Core
import Sandbox
import Telegram
import Testing

@Suite struct `Many accounts` {
    /// The figures are printed, not judged: they depend on the machine and on what else runs on it.
    @Test func `two hundred at once sign in, send, and close`() async throws {
        var options = WorldOptions.tests
        options.accounts = 210
        let wanted = options
        try await Stage.run(.inProcess, wanted) { stage in
            let phones = stage.world.accounts().dropFirst(10).map(\.phone)
            let clients = try await withThrowingTaskGroup(of: TelegramClient.self) { group in
                for phone in phones { group.addTask { try await stage.account(phone) } }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(clients.count == 200)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for client in clients {
                    group.addTask {
                        let chat = try await client.group("sandbox_club").chat
                        _ = try await client.send("from \(client.id)", to: chat)
                    }
                }
                try await group.waitForAll()
            }
            #expect(stage.world.ledger.count == 200)
            await stage.telegram.closeAll()
            #expect(clients.allSatisfy { $0.authorization == .closed })
        }
    }
}
