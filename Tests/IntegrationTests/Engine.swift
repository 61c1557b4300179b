import Core
import Security
import Storage
import TestServers
import Testing

@testable import Integration

/// The engines that the stores are asked on.
enum Engine: String, CaseIterable, CustomTestStringConvertible {
    case sqlite = "SQLite"
    case postgres = "PostgreSQL"

    static var available: [Engine] { allCases.filter { $0 != .postgres || TestServers.areAvailable } }

    var testDescription: String { rawValue }

    /// A fresh database with the schema, closed after the test.
    func withDatabase(_ test: (any Database) async throws -> Void) async throws {
        let location: DatabaseLocation =
            switch self {
            case .sqlite: .sqlite(try await TestServers.directory() + "/integration.db")
            case .postgres: .postgres(Secret(try await TestServers.postgres()))
            }
        let database = location.open("integration", PoolSettings(connections: 8))
        do {
            try await database.migrate(Migration.integration, scope: "integration-service", at: noon)
            try await test(database)
        } catch {
            await database.close()
            throw error
        }
        await database.close()
    }
}

let noon = Timestamp(seconds: 1_756_036_800)
let random = SeededRandom(seed: 4)

func newID() -> UniqueID { UniqueID(random) }

func qrLogin(of user: Int64 = 1, at now: Timestamp = noon) -> Login {
    Login(id: newID(), userID: user, method: .qr, sealedKey: "sealed", at: now)
}

func profile(_ number: Int64) -> AccountProfile {
    AccountProfile(
        telegramUserID: number, phone: "+1555000\(number)", username: "name\(number)", firstName: "N")
}

extension AccountStore {
    /// An account that was connected just now.
    func connected(_ number: Int64, of user: Int64 = 1, at now: Timestamp = noon) async throws
        -> LinkedAccount
    {
        let login = qrLogin(of: user, at: now)
        try await LoginStore(database).open(login)
        return try await connect(profile(number), through: login, at: now).account
    }
}
