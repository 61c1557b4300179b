import Core

#if canImport(Glibc)
    import Glibc
#endif

/// Makes `path` and what is missing above it; gives the last folder to `account`.
func makeFolder(_ path: String, for account: Account? = nil) throws {
    try FileSystem.makeFolder(path, mode: 0o755)
    if let account { try give(path, to: account) }
}

func give(_ path: String, to account: Account) throws {
    guard chown(path, account.user, account.group) == 0 else {
        throw FileError(path: path)
    }
}

/// Writes a whole small file, readable by its owner alone.
func writeFile(_ path: String, _ text: String, for account: Account? = nil) throws {
    let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard file >= 0 else { throw FileError(path: path) }
    defer { close(file) }
    var text = text
    let written = text.withUTF8 { Glibc.write(file, $0.baseAddress, $0.count) }
    guard written == text.utf8.count else { throw FileError(path: path) }
    if let account { try give(path, to: account) }
}

/// The text of a file, or its last `limit` bytes.
func readFile(_ path: String, last limit: Int = 1 << 20) -> String? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    let size = Int(lseek(file, 0, SEEK_END))
    lseek(file, size > limit ? off_t(size - limit) : 0, SEEK_SET)
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16_384)
    while true {
        let count = read(file, &buffer, buffer.count)
        guard count > 0 else { break }
        bytes += buffer[..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
}

func moveFile(_ path: String, to place: String) throws {
    guard rename(path, place) == 0 else { throw FileError(path: place) }
}

func removeFile(_ path: String) { unlink(path) }

func fileExists(_ path: String) -> Bool { access(path, F_OK) == 0 }

/// `path` as seen from the root, so that it stays true for a process in another folder.
func absolute(_ path: String) -> String {
    guard !path.hasPrefix("/") else { return path }
    var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
    guard getcwd(&buffer, buffer.count) != nil else { return path }
    let here = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return "\(here)/\(path)"
}
