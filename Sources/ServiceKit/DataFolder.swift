import Core

#if canImport(Glibc)
    import Glibc
#endif

/// Where embedded services keep what they have; made on the first start, for its owner alone.
enum DataFolder {
    static func prepare(_ path: String) throws {
        var made = path.hasPrefix("/") ? "" : "."
        for part in path.split(separator: "/") {
            made += "/\(part)"
            guard unsafe mkdir(made, 0o700) == 0 || errno == EEXIST else {
                throw ConfigurationError(mistakes: ["DATA_DIR: \(path) cannot be made"])
            }
        }
        guard unsafe access(path, W_OK) == 0 else {
            throw ConfigurationError(mistakes: ["DATA_DIR: \(path) cannot be written to"])
        }
    }
}
