import Core

#if canImport(Glibc)
    import Glibc
#endif

/// Where embedded services keep what they have; made on the first start, for its owner alone.
enum DataFolder {
    static func prepare(_ path: String) throws {
        do {
            try FileSystem.makeFolder(path, mode: 0o700)
        } catch {
            throw ConfigurationError(mistakes: ["DATA_DIR: \(path) cannot be made"])
        }
        guard unsafe access(path, W_OK) == 0 else {
            throw ConfigurationError(mistakes: ["DATA_DIR: \(path) cannot be written to"])
        }
    }
}
