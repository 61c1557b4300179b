import Core

#if canImport(Glibc)
    public import Glibc
#endif

/// An account of this machine.
public struct Account: Sendable, Equatable {
    public let user: uid_t
    public let group: gid_t

    /// The account a server runs as: the one its Debian package made when we are root, whom several servers
    /// refuse; ourselves otherwise.
    public static func forServer(_ name: String) -> Account? {
        guard geteuid() == 0 else { return nil }
        var entry = passwd()
        var found: UnsafeMutablePointer<passwd>?
        var buffer = [CChar](repeating: 0, count: 16_384)
        guard getpwnam_r(name, &entry, &buffer, buffer.count, &found) == 0, found != nil else { return nil }
        return Account(user: entry.pw_uid, group: entry.pw_gid)
    }
}
