public import Core
import Glibc

/// A folder of secrets that were made on the first start, one file each, for us alone: the folder has mode
/// 0700, a file 0600. Anything wider, or of another owner, is refused instead of used.
public struct SecretFolder: Sendable {
    private static let largest = 64 * 1024
    private let path: String
    private let random: any RandomSource

    public init(_ path: String, random: any RandomSource = SystemRandom()) {
        self.path = path
        self.random = random
    }

    /// The secret in the file `name`, or nil where there is none.
    public func read(_ name: String) throws(SecretError) -> Secret<String>? {
        guard let folder = try openFolder(creating: false) else { return nil }
        defer { close(folder) }
        return try read(name, in: folder)
    }

    /// The secret in the file `name`; where there is none, the one `make` makes. Of several processes that
    /// start at once one writes it and all read the same.
    public func read(
        _ name: String, orMake make: () -> Secret<String>
    ) throws(SecretError) -> Secret<String> {
        guard let folder = try openFolder(creating: true) else { throw failure("cannot be opened", path) }
        defer { close(folder) }
        if let found = try read(name, in: folder) { return found }
        try write(make(), to: name, in: folder)
        // Perhaps another's: whichever was there first.
        guard let written = try read(name, in: folder) else { throw failure("vanished", file(name)) }
        return written
    }

    private func file(_ name: String) -> String { "\(path)/\(name)" }

    private func failure(_ what: String, _ path: String) -> SecretError {
        .unusableFile(path: path, reason: what)
    }

    private func failure(errno code: Int32, _ what: String, _ path: String) -> SecretError {
        failure("\(what): \(String(cString: strerror(code)))", path)
    }

    private func openFolder(creating: Bool) throws(SecretError) -> Int32? {
        if creating, mkdir(path, 0o700) != 0, errno != EEXIST {
            throw failure(errno: errno, "cannot be created", path)
        }
        let folder = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard folder >= 0 else {
            if errno == ENOENT, !creating { return nil }
            throw failure(errno: errno, "cannot be opened", path)
        }
        do throws(SecretError) {
            _ = try status(of: folder, path, allowed: "0700")
            return folder
        } catch {
            close(folder)
            throw error
        }
    }

    /// What stands behind an open descriptor, after making sure that nobody else can get at it.
    private func status(of file: Int32, _ path: String, allowed: String) throws(SecretError) -> stat {
        var status = stat()
        guard fstat(file, &status) == 0 else { throw failure(errno: errno, "cannot be read", path) }
        guard status.st_uid == geteuid() else { throw failure("belongs to another user", path) }
        let mode = status.st_mode & 0o7777
        guard mode & 0o077 == 0 else {
            let octal = String(mode, radix: 8)
            throw failure("has mode 0\(octal), and others could read it: it must be \(allowed) (chmod)", path)
        }
        return status
    }

    private func read(_ name: String, in folder: Int32) throws(SecretError) -> Secret<String>? {
        precondition(!name.isEmpty && !name.contains("/") && !name.hasPrefix("."), "a plain file name")
        // Not blocking, should someone have put a pipe there.
        let file = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)
        guard file >= 0 else {
            if errno == ENOENT { return nil }
            throw failure(errno: errno, "cannot be opened", self.file(name))
        }
        defer { close(file) }
        let status = try status(of: file, self.file(name), allowed: "0600")
        guard status.st_mode & S_IFMT == S_IFREG else { throw failure("is no plain file", self.file(name)) }
        guard status.st_size <= Self.largest else { throw failure("is too large", self.file(name)) }
        var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
        var filled = 0
        while filled < bytes.count {
            let count = bytes.withUnsafeMutableBytes { rest in
                Glibc.read(file, rest.baseAddress?.advanced(by: filled), rest.count - filled)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw failure("cannot be read to its end", self.file(name)) }
            filled += count
        }
        guard let text = String(validating: bytes, as: UTF8.self),
            let line = text.split(separator: "\n").first
        else { throw failure("holds no text", self.file(name)) }
        return Secret(String(line))
    }

    /// Writes a whole file under a name of its own and links it to `name`, which fails where another process
    /// was faster: nobody ever sees half a secret, and none is overwritten.
    private func write(_ secret: Secret<String>, to name: String, in folder: Int32) throws(SecretError) {
        let own = ".\(name).\(Hex.encode(random.bytes(8)))"
        let file = openat(folder, own, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw failure(errno: errno, "cannot be created", self.file(name)) }
        defer {
            close(file)
            unlinkat(folder, own, 0)
        }
        // A tighter umask than we need would lock us out ourselves.
        guard fchmod(file, 0o600) == 0 else {
            throw failure(errno: errno, "cannot be protected", self.file(name))
        }
        let bytes = Array((secret.expose() + "\n").utf8)
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes { rest in
                Glibc.write(file, rest.baseAddress?.advanced(by: written), rest.count - written)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw failure(errno: errno, "cannot be written", self.file(name)) }
            written += count
        }
        guard fsync(file) == 0 else { throw failure(errno: errno, "cannot be written", self.file(name)) }
        guard linkat(folder, own, folder, name, 0) == 0 || errno == EEXIST else {
            throw failure(errno: errno, "cannot be created", self.file(name))
        }
        guard fsync(folder) == 0 else { throw failure(errno: errno, "cannot be written", path) }
    }
}
