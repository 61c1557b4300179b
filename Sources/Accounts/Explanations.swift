public import Core

extension LimitCheck {
    /// Why this limit says no, in a sentence.
    public func text(_ action: ActionType, status: AccountStatus) -> LocalizedText {
        let what = action.name
        let (used, limit) = (used ?? 0, limit ?? 0)
        let english: String
        let russian: String
        switch name {
        case .status:
            let word = status.text
            (english, russian) = ("The account is \(word(.english))", "Аккаунт \(word(.russian))")
        case .daily:
            english = "Today's limit is used up (\(what(.english)): \(used) of \(limit))"
            russian = "Исчерпан дневной лимит (\(what(.russian)): \(used) из \(limit))"
        case .hourly:
            english = "The limit of an hour is used up (\(what(.english)): \(used) of \(limit))"
            russian = "Исчерпан часовой лимит (\(what(.russian)): \(used) из \(limit))"
        case .cooldown:
            english = "The pause since the last action is not over (\(what(.english)))"
            russian = "Не закончилась пауза после прошлого действия (\(what(.russian)))"
        case .burst:
            english = "Too many actions in quick succession (\(what(.english)): \(used) of \(limit))"
            russian = "Слишком много действий подряд (\(what(.russian)): \(used) из \(limit))"
        case .perChannel:
            english = "Today's limit for this channel is used up (\(used) of \(limit))"
            russian = "Исчерпан дневной лимит для этого канала (\(used) из \(limit))"
        case .perChannelTotal:
            english = "This account has given this channel all it may, for ever (\(used) of \(limit))"
            russian = "Этот аккаунт навсегда исчерпал лимит для этого канала (\(used) из \(limit))"
        }
        switch refusal {
        case nil: return LocalizedText("Allowed", "Разрешено")
        case .at(let end): return LocalizedText("\(english), until \(end).", "\(russian), до \(end).")
        case .never: return LocalizedText("\(english).", "\(russian).")
        }
    }
}

extension Verdict {
    /// Why the action is allowed or not, in a sentence.
    public var text: LocalizedText {
        guard let binding else { return LocalizedText("Allowed now.", "Сейчас разрешено.") }
        return binding.text(action, status: status)
    }

    /// What the API answers; `permit_id` is the caller's to add.
    public var json: JSONValue {
        .object(present: [
            "allowed": .bool(allowed), "reason": reason.map { .string($0.rawValue) },
            "retry_at": retryAt.map { .string($0.description) },
            "checks": .object(
                checks.map { check in
                    JSONMember(check.name.rawValue, check.json(status: status))
                }),
        ])
    }
}

extension LimitCheck {
    fileprivate func json(status: AccountStatus) -> JSONValue {
        let end = until.map { JSONValue.string($0.description) }
        switch name {
        case .status:
            return .object(present: ["ok": .bool(isAllowed), "value": .string(status.rawValue), "until": end])
        case .cooldown: return .object(present: ["active": .bool(!isAllowed), "until": end])
        default:
            return .object(present: [
                "used": JSONValue(used), "limit": JSONValue(limit), "remaining": JSONValue(remaining),
                "until": end,
            ])
        }
    }
}

extension AccountStatus {
    public var text: LocalizedText {
        switch self {
        case .active: LocalizedText("active", "активен")
        case .floodWait: LocalizedText("told by Telegram to wait", "ждёт по требованию Telegram")
        case .blocked: LocalizedText("blocked for a while", "временно заблокирован")
        case .frozen: LocalizedText("frozen by Telegram", "заморожен Telegram")
        case .disabled: LocalizedText("disabled", "отключён")
        }
    }
}

extension ErrorOutcome {
    /// What was done, for the person who reads the answer.
    public var text: LocalizedText {
        let back = recoveryAt.map { ($0.description, $0.description) }
        switch action {
        case .waitedOut:
            return LocalizedText(
                "Telegram asks this account to wait; it works again at \(back?.0 ?? "an unknown time").",
                "Telegram просит этот аккаунт подождать; он снова заработает в \(back?.1 ?? "неизвестное время")."
            )
        case .blocked:
            return LocalizedText(
                "The account rests and works again at \(back?.0 ?? "an unknown time").",
                "Аккаунт отдыхает и снова заработает в \(back?.1 ?? "неизвестное время").")
        case .disabled:
            return error == .authKeyError
                ? LocalizedText(
                    "The login of this account is gone; connect it again.",
                    "Вход этого аккаунта утерян; подключите его заново.")
                : LocalizedText(
                    "Telegram has closed this account; only an operator can turn it on again.",
                    "Telegram закрыл этот аккаунт; включить его может только оператор.")
        case .frozen:
            return LocalizedText(
                "Telegram has frozen this account; it stays off until the freeze is lifted.",
                "Telegram заморозил этот аккаунт; он отключён до снятия заморозки.")
        case .counted:
            return LocalizedText(
                "The error was counted; after \(Standing.errorsInARow) in a row the account rests for an hour.",
                "Ошибка учтена; после \(Standing.errorsInARow) подряд аккаунт отдыхает час.")
        }
    }
}
