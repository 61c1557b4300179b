import Core

#if canImport(Glibc)
    import Glibc
#endif

/// Holds the folder of sessions for this process; the system lets go of it when the process ends, however it
/// ends.
struct FolderLock: Sendable {
    private let file: Int32

    /// Nil where another process holds it.
    init?(_ folder: String) throws(ConfigurationError) {
        do {
            try FileSystem.makeFolder(folder, mode: 0o700)
        } catch {
            throw ConfigurationError(mistakes: ["TELEGRAM_SESSIONS_DIR: \(folder) cannot be made"])
        }
        file = unsafe open("\(folder)/.lock", O_CREAT | O_RDWR | O_CLOEXEC, 0o600)
        guard file >= 0 else {
            throw ConfigurationError(mistakes: ["TELEGRAM_SESSIONS_DIR: \(folder) cannot be written to"])
        }
        guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
            close(file)
            return nil
        }
    }

    func release() { close(file) }
}
