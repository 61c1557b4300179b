#if canImport(Glibc)
    import Glibc
#endif

/// A file or folder could not be made, read or written.
public struct FileError: Error, CustomStringConvertible {
    public let path: String
    public let reason: String
    public var description: String { "\(path): \(reason)" }

    public init(path: String, reason: String) {
        self.path = path
        self.reason = reason
    }

    /// With the system's own words for what just failed.
    public init(path: String) {
        self.init(path: path, reason: unsafe strerror(errno).map { unsafe String(cString: $0) } ?? "failed")
    }
}

/// The few things the platform does with files, straight from the system: Foundation for this alone would be
/// a tenth of every program.
public enum FileSystem {
    /// What a file holds; one that holds more than `limit` bytes is refused.
    public static func read(_ path: String, limit: Int = 64 << 20) throws(FileError) -> [UInt8] {
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw FileError(path: path) }
        defer { close(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16_384)
        while true {
            let count = unsafe buffer.withUnsafeMutableBytes {
                unsafe Glibc.read(file, $0.baseAddress, $0.count)
            }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw FileError(path: path) }
            guard count > 0 else { return bytes }
            guard bytes.count + count <= limit else {
                throw FileError(path: path, reason: "more than \(limit) bytes")
            }
            bytes += buffer[..<count]
        }
    }

    /// Makes the folder and what is missing above it.
    public static func makeFolder(_ path: String, mode: UInt32) throws(FileError) {
        var made = path.hasPrefix("/") ? "" : "."
        for part in path.split(separator: "/") {
            made += "/\(part)"
            guard unsafe mkdir(made, mode) == 0 || errno == EEXIST else { throw FileError(path: path) }
        }
    }

    /// Removes a file, or a folder with all that is in it; links are removed and not followed. What is not
    /// there is removed already.
    public static func remove(_ path: String) throws(FileError) {
        if unsafe unlink(path) == 0 || errno == ENOENT { return }
        guard errno == EISDIR || errno == EPERM else { throw FileError(path: path) }
        for name in try entries(of: path) { try remove("\(path)/\(name)") }
        guard unsafe rmdir(path) == 0 || errno == ENOENT else { throw FileError(path: path) }
    }

    /// The names in a folder, in order.
    public static func entries(of path: String) throws(FileError) -> [String] {
        guard let folder = unsafe opendir(path) else { throw FileError(path: path) }
        defer { unsafe closedir(folder) }
        var names: [String] = []
        while let entry = unsafe readdir(folder) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { name in
                unsafe name.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// The ordinary files in a folder and below it, as paths from there. Links are none, wherever they lead.
    public static func files(under folder: String) throws(FileError) -> [String] {
        var files: [String] = []
        for name in try entries(of: folder) {
            switch kind(of: "\(folder)/\(name)") {
            case .file: files.append(name)
            case .folder: files += try self.files(under: "\(folder)/\(name)").map { "\(name)/\($0)" }
            case .other, nil: break
            }
        }
        return files
    }

    public enum Kind { case file, folder, other }

    /// Nil where there is nothing.
    public static func kind(of path: String) -> Kind? {
        var status = stat()
        guard unsafe lstat(path, &status) == 0 else { return nil }
        return switch status.st_mode & S_IFMT {
        case S_IFREG: .file
        case S_IFDIR: .folder
        default: .other
        }
    }

    /// The length of an ordinary file.
    public static func size(of path: String) -> Int? {
        var status = stat()
        guard unsafe lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        return Int(status.st_size)
    }

    /// The folder in which the running program lies.
    public static var programFolder: String? {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = unsafe readlink("/proc/self/exe", &buffer, buffer.count)
        guard count > 0, count < buffer.count else { return nil }
        let program = String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return program.lastIndex(of: "/").map { String(program[..<$0]) }
    }
}
