import Accounts
import Core
import Storage
import TestServers
import Testing

/// The engines that the stores are asked on.
enum Engine: String, CaseIterable, CustomTestStringConvertible {
    case sqlite = "SQLite"
    case postgres = "PostgreSQL"

    static var available: [Engine] { allCases.filter { $0 != .postgres || TestServers.areAvailable } }

    var testDescription: String { rawValue }

    /// A store over a fresh database with accounts 1 to `accounts` of user 1.
    func withStore(
        accounts: Int = 1, rampUp: RampUp = .none,
        _ test: (SQLAccountStore, any Database) async throws -> Void
    ) async throws {
        let location: DatabaseLocation =
            switch self {
            case .sqlite: .sqlite(try await TestServers.directory() + "/accounts.db")
            case .postgres: .postgres(Secret(try await TestServers.postgres()))
            }
        let database = location.open("accounts", PoolSettings(connections: 8, waiting: .minutes(2)))
        do {
            try await database.migrate(Migration.accounts, scope: "accounts", at: noon)
            let store = SQLAccountStore(database, rampUp: rampUp)
            for index in 1...max(accounts, 1) {
                try await store.connect(account(index), user: 1, phone: "", at: noon - .days(100))
            }
            try await test(store, database)
        } catch {
            await database.close()
            throw error
        }
        await database.close()
    }
}
