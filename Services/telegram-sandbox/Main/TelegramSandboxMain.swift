import TelegramSandboxWiring
import ServiceKit

@main
struct TelegramSandboxMain {
    static func main() async {
        await runProcess("telegram-sandbox", [.telegramSandbox])
    }
}
