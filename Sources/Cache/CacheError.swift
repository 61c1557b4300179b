/// What can go wrong, in the words a caller can act on. The server's own words are for the log.
public enum CacheError: Error, Equatable, Sendable {
    /// The cache cannot be reached or did not answer in time; it is being tried again. Nothing was changed,
    /// unless `mayHaveRun`.
    case unavailable(mayHaveRun: Bool)
    /// The server does not accept our name and password, or forbids the command.
    case denied
    /// The cache has no memory left for what was to be written.
    case full
    /// The key holds another kind of value.
    case wrongType
    /// The value is no whole number, or would leave the range of 64 bits.
    case notAnInteger
    /// Larger than the cache takes.
    case tooLarge
    /// The command or script itself is wrong; a bug of ours.
    case command(reason: String)
    /// The answer had another form than the command's; a bug of ours, or no Redis at the other end.
    case unexpectedReply
}

extension CacheError {
    /// From the text of an error reply: `CODE sentence`.
    init(reply: String) {
        switch reply.prefix(while: { $0 != " " }) {
        case "WRONGTYPE": self = .wrongType
        case "NOAUTH", "WRONGPASS", "NOPERM": self = .denied
        case "OOM": self = .full
        // It refused before doing anything, and will not for ever.
        case "LOADING", "BUSY", "READONLY", "MASTERDOWN", "MISCONF", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS":
            self = .unavailable(mayHaveRun: false)
        default:
            let isNumber =
                reply.contains("is not an integer") || reply.contains("increment or decrement would overflow")
            self = isNumber ? .notAnInteger : .command(reason: String(reply.prefix(300)))
        }
    }
}
