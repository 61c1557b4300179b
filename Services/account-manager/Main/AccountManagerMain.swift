import AccountManagerWiring
import ServiceKit

@main
struct AccountManagerMain {
    static func main() async {
        await runProcess("account-manager", [.accountManager])
    }
}
