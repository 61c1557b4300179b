import ServiceKit
import TelegramSandboxWiring

@main
struct TelegramSandboxMain {
    static func main() async {
        await runProcess("telegram-sandbox", [.telegramSandbox])
    }
}
