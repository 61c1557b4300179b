import InviteServiceWiring
import ServiceKit

@main
struct InviteServiceMain {
    static func main() async {
        await runProcess("invite-service", [.inviteService])
    }
}
