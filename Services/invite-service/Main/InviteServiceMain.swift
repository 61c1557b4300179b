import InviteServiceWiring
import ServiceKit

@main
struct InviteServiceMain {
    /// `invite-service` answers and, unless `INVITE_WORKER=false`, works on campaigns too;
    /// `invite-service worker` works alone. Any number of either may run.
    static func main() async {
        if CommandLine.arguments.dropFirst().first == "worker" {
            await runProcess("invite-service-worker", [.inviteServiceWorker])
        } else {
            await runProcess("invite-service", [.inviteService])
        }
    }
}
