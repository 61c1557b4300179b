import AccountManagerWiring
import ServiceKit

@main
struct AccountManagerMain {
    /// `account-manager` answers and, unless `ACCOUNT_MANAGER_WORKER=false`, does the periodic work too;
    /// `account-manager worker` does the work alone. Any number of either may run.
    static func main() async {
        if CommandLine.arguments.dropFirst().first == "worker" {
            await runProcess("account-manager-worker", [.accountManagerWorker])
        } else {
            await runProcess("account-manager", [.accountManager])
        }
    }
}
