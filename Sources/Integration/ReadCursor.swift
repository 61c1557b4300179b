/// Where a reader stands behind an item: whoever shows it gets what comes next, from any process, with nothing
/// twice and nothing left out.
public enum ReadCursor: Equatable, Sendable {
    /// So many members of the list have been read.
    case members(Int64)
    /// Everything newer than this message, and itself, has been read; 0 is the start.
    case messages(before: Int64)
    /// Within the comments of one post.
    case comments(before: Int64)

    public init?(_ text: String) {
        guard let kind = text.first, let number = Int64(text.dropFirst()), number >= 0 else { return nil }
        switch kind {
        case "o": self = .members(number)
        case "m": self = .messages(before: number)
        case "c": self = .comments(before: number)
        default: return nil
        }
    }

    /// As it stands in every line of a stream.
    public var text: String {
        switch self {
        case .members(let offset): "o\(offset)"
        case .messages(let id): "m\(id)"
        case .comments(let id): "c\(id)"
        }
    }
}
