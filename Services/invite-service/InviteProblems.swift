import Core
public import HTTP
public import Invites

extension InviteError: ProblemConvertible {
    public var problem: Problem {
        switch self {
        case .unknownTask, .unknownTarget: Problem.notFound
        case .changed(let version):
            Problem(
                412, "changed",
                .init(
                    "Somebody has changed this since you read it; look and try again",
                    "Это изменили после того, как вы его прочитали; проверьте и повторите")
            ).with(["version": .int(version)]).with(header: "ETag", "\"\(version)\"")
        case .transition(let error):
            Problem(409, "wrong_state", error.text).with(["status_now": .string(error.status.name)])
        case .targetInUse:
            Problem(
                409, "target_in_use",
                .init(
                    "This person is being invited or has been; nothing can be changed any more",
                    "Этого человека приглашают или уже пригласили; изменить ничего нельзя"))
        case .noTargets:
            Problem(
                409, "no_targets",
                .init(
                    "There is nobody to be invited in this task", "В этой задаче некого приглашать"))
        case .duplicateTarget:
            Problem(
                409, "duplicate_target",
                .init("This person stands in the task already", "Этот человек уже есть в задаче"))
        case .broadcastChannel:
            Problem(
                409, "broadcast_channel",
                .init(
                    "Nobody can be added directly to a channel with more than 200 members; use invite_type invite_link",
                    "В канал, где больше 200 участников, нельзя добавить напрямую; используйте invite_type invite_link"
                )
            ).with(["alternative": ["invite_type": "invite_link"]])
        case .running:
            Problem(
                409, "task_running",
                .init(
                    "Stop the task first; what is on its way has to come to its end",
                    "Сначала остановите задачу и дождитесь завершения отправленного"))
        }
    }
}

extension PersonIdentityErrors: ProblemConvertible {
    public var problem: Problem {
        var problem = Problem(
            422, "validation_failed",
            .init("Some fields are missing or wrong", "Некоторые поля не заполнены или неверны"))
        problem.errors = mistakes.map { FieldError($0.field, $0.code, $0.text) }
        return problem
    }
}
