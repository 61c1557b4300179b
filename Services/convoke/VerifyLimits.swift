import AccountManagerWiring
import Core
import LimitAudit
import ServiceKit
import Storage

extension Convoke {
    /// The second opinion on the limits, for an operator who wants to know. Changes nothing.
    static func verifyLimits(_ options: VerifyOptions) async -> Never {
        var from = Timestamp.epoch
        if let text = options.from {
            guard let moment = Timestamp(text) else {
                printLine("convoke: --from wants a time such as 2025-08-24T10:00:00Z")
                endProcess(ExitCode.usage)
            }
            from = moment
        }
        do {
            let location = try ServiceDefinition.accountManager.databaseLocation(
                in: Environment.process.setting(["DATA_DIR": options.dataFolder]),
                dataFolder: options.dataFolder)
            guard let location else { endProcess(ExitCode.usage) }
            let database = location.open("verify-limits", PoolSettings(connections: 1, readers: 1))
            let report = try await LimitAudit(database).run(from: from)
            await database.close()
            for breach in report.breaches { print(breach) }
            printLine(
                "\(report.entries) entries of \(report.accounts) accounts: "
                    + (report.breaches.isEmpty ? "every limit was kept" : "\(report.breaches.count) breaches")
            )
            endProcess(report.breaches.isEmpty ? ExitCode.ok : ExitCode.failure)
        } catch {
            printLine("convoke: the ledger cannot be read: \(error)")
            endProcess(69)
        }
    }
}
