import Core

/// Why a community cannot be read in the way that was asked for.
public enum CourseError: Error, Equatable, Sendable {
    case membersOfChannel, commentsOfGroup, noComments, nothingToldOfCommunity

    public var failure: TaskFailure {
        switch self {
        case .membersOfChannel:
            TaskFailure(
                "members_not_listable",
                .init(
                    "Only administrators of a channel see its members; read its comments instead",
                    "Подписчиков канала видят только его администраторы; читайте комментарии"))
        case .commentsOfGroup:
            TaskFailure(
                "not_a_channel",
                .init(
                    "This is a group: it has messages, comments belong to channels",
                    "Это группа: в ней сообщения, а комментарии бывают у каналов"))
        case .noComments:
            TaskFailure(
                "no_comments",
                .init("This channel has no comments", "У этого канала нет комментариев"))
        case .nothingToldOfCommunity:
            TaskFailure(
                "unreadable",
                .init("Telegram tells nothing of this community", "Telegram ничего не сообщает о сообществе"))
        }
    }
}
