import ServiceKit
import UserServiceWiring

@main
struct UserServiceMain {
    static func main() async {
        await runProcess("user-service", [.userService])
    }
}
