import UserServiceWiring
import ServiceKit

@main
struct UserServiceMain {
    static func main() async {
        await runProcess("user-service", [.userService])
    }
}
