import CZlib

/// Just enough of PNG to write an image of one bit a point.
enum PNG {
    /// Stands before a row whose bytes are the points as they are.
    static let unfiltered: UInt8 = 0

    /// `rows`: for each row its filter and its points, the first in the highest bit; 1 is white.
    static func blackAndWhite(width: Int, height: Int, rows: [UInt8]) -> [UInt8] {
        let header = word(width) + word(height) + [1, 0, 0, 0, 0]
        return [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A] + chunk("IHDR", header)
            + chunk("IDAT", deflated(rows)) + chunk("IEND", [])
    }

    private static func chunk(_ type: String, _ data: [UInt8]) -> [UInt8] {
        let checked = Array(type.utf8) + data
        return word(data.count) + checked + word(Int(crc32(0, checked, uInt(checked.count))))
    }

    private static func word(_ value: Int) -> [UInt8] {
        withUnsafeBytes(of: UInt32(truncatingIfNeeded: value).bigEndian) { Array($0) }
    }

    private static func deflated(_ bytes: [UInt8]) -> [UInt8] {
        var length = compressBound(uLong(bytes.count))
        var result = [UInt8](repeating: 0, count: Int(length))
        let status = compress2(&result, &length, bytes, uLong(bytes.count), Z_BEST_COMPRESSION)
        // The buffer is as large as zlib itself says it has to be.
        precondition(status == Z_OK, "zlib has no memory")
        return Array(result.prefix(Int(length)))
    }
}
