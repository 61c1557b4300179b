public import Core

/// What account-manager writes of its decisions, as the integration log shows it.
public enum AccountDecision: String, Sendable, CaseIterable {
    case connected = "account_connected"
    case disconnected = "account_disconnected"
    case allocated = "account_allocated"
    case released = "account_released"
    case error = "account_error"
    case recovered = "account_recovered"
    case stopped = "account_stopped"
    case limitsChanged = "limits_changed"

    public var title: LocalizedText {
        switch self {
        case .connected: .init("Account taken under management", "Аккаунт взят под управление")
        case .disconnected: .init("Account no longer managed", "Аккаунт больше не управляется")
        case .allocated: .init("Account handed out", "Аккаунт выдан")
        case .released: .init("Account given back", "Аккаунт возвращён")
        case .error: .init("Trouble with the account", "Неполадка с аккаунтом")
        case .recovered: .init("Account recovered", "Аккаунт восстановлен")
        case .stopped: .init("Account stopped", "Аккаунт остановлен")
        case .limitsChanged: .init("Limits changed", "Изменены пределы")
        }
    }
}
