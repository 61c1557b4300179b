import Core

// What a task can fail with, apart from what its course refuses.
extension TaskFailure {
    static let noAdapter = TaskFailure(
        "unknown_platform", .init("This platform cannot be read here", "Эту платформу здесь читать нельзя"))
    static let broken = TaskFailure(
        "internal", .init("Something went wrong here; it has been noted", "Внутренняя ошибка; она записана"))

    static func noAccess(_ message: String) -> TaskFailure {
        TaskFailure(
            "no_access",
            .init(
                "None of the accounts is in this community; let one join it first",
                "Ни один аккаунт не состоит в этом сообществе; сначала вступите в него"), original: message)
    }

    static func refused(_ code: String, _ message: String) -> TaskFailure {
        TaskFailure(
            code,
            .init(
                "The community cannot be read: there is none under this link, or it is closed",
                "Сообщество нельзя прочитать: по этой ссылке его нет или оно закрыто"), original: message)
    }
}
