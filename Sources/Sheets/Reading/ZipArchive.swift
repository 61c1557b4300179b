import CZip

#if canImport(Glibc)
    import Glibc
#endif

/// A packed file, opened for reading. What comes out is counted while it comes: what the archive says about
/// its own sizes is a stranger's word.
final class ZipArchive {
    private let archive: OpaquePointer
    private let limits: SheetLimits
    private let packedBytes: Int
    private var unpackedBytes = 0
    static let entryLimit: Int64 = 10_000

    init(_ file: ScratchFile, limits: SheetLimits) throws(SheetError) {
        let descriptor = dup(file.descriptor)
        var code: Int32 = 0
        guard descriptor >= 0, let archive = zip_fdopen(descriptor, 0, &code) else {
            if descriptor >= 0 { close(descriptor) }
            throw .brokenArchive
        }
        self.archive = archive
        self.limits = limits
        packedBytes = file.count
        guard zip_get_num_entries(archive, 0) <= Self.entryLimit else { throw .unpacksTooFar }
    }

    // Nothing was changed, so there is nothing to write when it closes.
    deinit { zip_discard(archive) }

    func open(_ name: String) -> ZipEntry? {
        let index = zip_name_locate(archive, name, UInt32(ZIP_FL_NOCASE))
        guard index >= 0, let entry = zip_fopen_index(archive, UInt64(index), 0) else { return nil }
        var status = zip_stat_t()
        zip_stat_init(&status)
        let isKnown = zip_stat_index(archive, UInt64(index), 0, &status) == 0
        return ZipEntry(entry, of: self, saidToHold: isKnown ? Int(clamping: status.size) : 0)
    }

    fileprivate func count(_ bytes: Int) throws(SheetError) {
        unpackedBytes += bytes
        guard unpackedBytes <= limits.unpackedBytes,
            unpackedBytes <= max(SheetLimits.harmlessBytes, packedBytes * limits.unpackedRatio)
        else { throw .unpacksTooFar }
    }
}

/// One entry of an archive, unpacked piece by piece.
final class ZipEntry {
    private let file: OpaquePointer
    private let archive: ZipArchive

    /// What the archive says, good enough for showing progress.
    private let saidToHold: Int
    private var taken = 0
    var progress: Double { saidToHold == 0 ? 0 : min(1, Double(taken) / Double(saidToHold)) }

    init(_ file: OpaquePointer, of archive: ZipArchive, saidToHold: Int) {
        self.file = file
        self.saidToHold = saidToHold
        self.archive = archive
    }

    deinit { zip_fclose(file) }

    /// Empty at the end.
    func read(upTo limit: Int) throws(SheetError) -> [UInt8] {
        var isBroken = false
        let bytes = [UInt8](unsafeUninitializedCapacity: limit) { room, count in
            let result = room.baseAddress.map { Int(zip_fread(file, $0, UInt64(limit))) } ?? -1
            isBroken = result < 0
            count = max(result, 0)
        }
        guard !isBroken else { throw .brokenArchive }
        taken += bytes.count
        try archive.count(bytes.count)
        return bytes
    }
}
