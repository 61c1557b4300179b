import Core
public import HTTP
public import Parsing

extension ParseError: ProblemConvertible {
    public var problem: Problem {
        switch self {
        case .unknownTask:
            Problem(404, "unknown_task", .init("There is no such task", "Такой задачи нет"))
        case .wrongState(let status, let order):
            Problem(
                409, "wrong_state",
                .init(
                    "A task that is \(status.rawValue) cannot \(order.rawValue)",
                    "Задача в состоянии \(status.rawValue) не принимает \(order.rawValue)")
            ).with(["status_now": .string(status.rawValue)])
        case .claimLost, .overtaken:
            Problem(
                409, "conflict",
                .init(
                    "Somebody has changed this at the same time; look and try again",
                    "Это только что изменил кто-то другой; проверьте и повторите"))
        case .tooManyTasks(let limit):
            Problem(
                409, "too_many_tasks",
                .init(
                    "You have \(limit) unfinished tasks at most; finish or delete some",
                    "Незавершённых задач не больше \(limit); завершите или удалите часть"))
        }
    }
}

extension NoAccount: ProblemConvertible {
    public var problem: Problem {
        let sentence: LocalizedText =
            reasons.objectValue?.isEmpty == true
            ? .init(
                "You have no account to read with: connect one first",
                "У вас нет аккаунта, которым можно читать: сначала подключите его")
            : .init(
                "None of your accounts can read just now", "Ни один из ваших аккаунтов сейчас не может читать"
            )
        var problem = Problem(409, "no_account_available", sentence).with([
            "reasons": reasons, "retry_at": JSONValue(retryAt),
        ])
        if let retryAt { problem.members.append(JSONMember("free_at", retryAt.json)) }
        return problem
    }
}

extension ReadingFailure: ProblemConvertible {
    public var problem: Problem {
        switch self {
        case .mustWait(let duration):
            Problem(
                429, "flood_wait",
                .init(
                    "Telegram asks to wait before the next search",
                    "Telegram просит подождать перед следующим поиском")
            ).with(header: "Retry-After", String(max(1, duration.wholeSecondsUp)))
        case .accountTrouble, .leaseLost:
            Problem(
                503, "account_trouble",
                .init(
                    "The account that was to search cannot; try again with another",
                    "Аккаунт, которым шёл поиск, не может продолжать; повторите с другим")
            ).with(header: "Retry-After", "2")
        case .noAccess, .refused, .nothingThere:
            Problem(
                422, "not_searchable", .init("Telegram refuses this search", "Telegram отклоняет этот поиск"))
        case .unreachable:
            Problem(
                503, "unavailable", .init("Telegram does not answer just now", "Telegram сейчас не отвечает")
            )
            .with(header: "Retry-After", "5")
        }
    }
}
