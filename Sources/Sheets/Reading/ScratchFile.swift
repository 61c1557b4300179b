#if canImport(Glibc)
    import Glibc
#endif

/// A file without a name: gone when it is closed, however the process ends, so that no list of people stays
/// behind on a disk.
final class ScratchFile {
    let descriptor: Int32
    private(set) var count = 0

    init(in folder: String) throws(SheetError) {
        var template = Array("\(folder)/convoke-XXXXXX".utf8CString)
        descriptor = mkstemp(&template)
        guard descriptor >= 0 else { throw .noScratchSpace(code: errno) }
        // A program we start must not get hold of it.
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        unlink(template)
    }

    deinit { close(descriptor) }

    func append(_ bytes: UnsafeRawBufferPointer) throws(SheetError) {
        var written = 0
        while written < bytes.count {
            let result = pwrite(
                descriptor, bytes.baseAddress.map { $0 + written }, bytes.count - written, off_t(count))
            guard result > 0 else {
                if result < 0, errno == EINTR { continue }
                throw .noScratchSpace(code: errno)
            }
            written += result
            count += result
        }
    }

    /// The bytes from `offset` on, at most `limit`; empty at the end.
    func read(at offset: Int, upTo limit: Int) throws(SheetError) -> [UInt8] {
        var failure: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: limit) { room, count in
            while true {
                let result = pread(descriptor, room.baseAddress, limit, off_t(offset))
                if result < 0, errno == EINTR { continue }
                if result < 0 { failure = errno }
                count = max(result, 0)
                return
            }
        }
        guard failure == 0 else { throw .noScratchSpace(code: failure) }
        return bytes
    }

    /// How long it is now, where somebody else has written it.
    func measure() {
        var status = stat()
        if fstat(descriptor, &status) == 0 { count = Int(status.st_size) }
    }

    /// A path under which a library that wants one can open it.
    var path: String { "/proc/self/fd/\(descriptor)" }
}
