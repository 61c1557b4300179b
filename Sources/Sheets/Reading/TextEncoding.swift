/// The encodings that lists come in, from Excel and from others.
public enum ListEncoding: String, Sendable, CaseIterable {
    case utf8 = "utf-8"
    case utf16LittleEndian = "utf-16le"
    case utf16BigEndian = "utf-16be"
    case windows1251 = "windows-1251"
}

/// Finds out an encoding while the file goes by. The whole file counts: the first letter that is not ASCII
/// may stand in its last line.
struct EncodingSniffer {
    static let sampleSize = 64 << 10
    /// The beginning of the file.
    private(set) var sample: [UInt8] = []
    private var check = UTF8Check()

    mutating func look(at bytes: UnsafeBufferPointer<UInt8>) {
        if sample.count < Self.sampleSize {
            sample.append(contentsOf: bytes.prefix(Self.sampleSize - sample.count))
        }
        check.look(at: bytes)
    }

    /// Whether each byte is where UTF-8 wants it, up to the end.
    var isSoundUTF8: Bool { check.broken == 0 && !check.isInside }

    /// The encoding, and how many bytes its mark takes at the beginning.
    func verdict() -> (encoding: ListEncoding, mark: Int) {
        if sample.starts(with: [0xEF, 0xBB, 0xBF]) { return (.utf8, 3) }
        if sample.starts(with: [0xFF, 0xFE]) { return (.utf16LittleEndian, 2) }
        if sample.starts(with: [0xFE, 0xFF]) { return (.utf16BigEndian, 2) }
        if let unmarked = unmarkedUTF16() { return (unmarked, 0) }
        // A few broken bytes among many sound letters: UTF-8 that somebody has damaged. Windows-1251 read as
        // UTF-8 is broken nearly everywhere.
        if isSoundUTF8 || check.sound > 4 * check.broken { return (.utf8, 0) }
        return (.windows1251, 0)
    }

    /// In UTF-16 nearly every second byte says which alphabet: 0 for Latin, 4 for Cyrillic.
    private func unmarkedUTF16() -> ListEncoding? {
        let pairs = sample.count / 2
        guard pairs >= 4 else { return nil }
        var even = 0
        var odd = 0
        var zeros = 0
        for pair in 0..<pairs {
            if sample[2 * pair] == 0 || sample[2 * pair] == 4 { even += 1 }
            if sample[2 * pair + 1] == 0 || sample[2 * pair + 1] == 4 { odd += 1 }
            if sample[2 * pair] == 0 || sample[2 * pair + 1] == 0 { zeros += 1 }
        }
        guard zeros > 0 else { return nil }
        if odd * 10 >= pairs * 9, even * 10 < pairs * 3 { return .utf16LittleEndian }
        if even * 10 >= pairs * 9, odd * 10 < pairs * 3 { return .utf16BigEndian }
        return nil
    }
}

/// Counts sound and broken characters of UTF-8 over any number of pieces.
struct UTF8Check {
    /// Characters beyond ASCII that are complete.
    private(set) var sound = 0
    private(set) var broken = 0
    private var missing = 0
    private var lowest: UInt8 = 0x80
    private var highest: UInt8 = 0xBF

    var isInside: Bool { missing > 0 }

    mutating func look(at bytes: UnsafeBufferPointer<UInt8>) {
        let raw = UnsafeRawBufferPointer(bytes)
        var index = 0
        while index < bytes.count {
            if missing == 0 {
                while raw.count - index >= 8,
                    raw.loadUnaligned(fromByteOffset: index, as: UInt64.self) & 0x8080_8080_8080_8080 == 0
                {
                    index += 8
                }
                guard index < bytes.count else { return }
            }
            step(bytes[index])
            index += 1
        }
    }

    @inline(__always) private mutating func step(_ byte: UInt8) {
        if missing > 0 {
            if byte >= lowest, byte <= highest {
                missing -= 1
                if missing == 0 { sound += 1 }
                lowest = 0x80
                highest = 0xBF
                return
            }
            broken += 1
            missing = 0
        }
        lowest = 0x80
        highest = 0xBF
        switch byte {
        case 0...0x7F: return
        case 0xC2...0xDF: missing = 1
        case 0xE0:
            missing = 2
            lowest = 0xA0
        case 0xED:
            missing = 2
            highest = 0x9F
        case 0xE1...0xEF: missing = 2
        case 0xF0:
            missing = 3
            lowest = 0x90
        case 0xF4:
            missing = 3
            highest = 0x8F
        case 0xF1...0xF3: missing = 3
        default: broken += 1
        }
    }
}

/// Turns pieces of any of the encodings into sound UTF-8. A character cut in two waits for its other half;
/// what is no character becomes U+FFFD.
struct TextDecoder {
    let encoding: ListEncoding
    /// Whether UTF-8 has been found sound already, so that it passes as it is.
    let isSound: Bool
    private var left: [UInt8] = []
    private var highSurrogate: UInt16?

    init(_ encoding: ListEncoding, isSound: Bool) {
        self.encoding = encoding
        self.isSound = isSound
    }

    mutating func decode(_ bytes: [UInt8], isLast: Bool) -> [UInt8] {
        switch encoding {
        case .utf8: isSound ? bytes : repaired(bytes, isLast: isLast)
        case .windows1251: fromWindows1251(bytes)
        case .utf16LittleEndian: fromUTF16(bytes, high: 1, isLast: isLast)
        case .utf16BigEndian: fromUTF16(bytes, high: 0, isLast: isLast)
        }
    }

    private mutating func repaired(_ bytes: [UInt8], isLast: Bool) -> [UInt8] {
        var all = left + bytes
        left = []
        if !isLast {
            // The last character may go on in the next piece.
            let tail = all.suffix(3)
            if let start = tail.lastIndex(where: { $0 >= 0xC0 }) {
                let length = all[start] >= 0xF0 ? 4 : all[start] >= 0xE0 ? 3 : 2
                if all.count - start < length {
                    left = Array(all[start...])
                    all.removeSubrange(start...)
                }
            }
        }
        return Array(String(decoding: all, as: UTF8.self).utf8)
    }

    private func fromWindows1251(_ bytes: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count * 2)
        for byte in bytes {
            if byte < 0x80 { result.append(byte) } else { append(Self.windows1251(byte), to: &result) }
        }
        return result
    }

    private mutating func fromUTF16(_ bytes: [UInt8], high: Int, isLast: Bool) -> [UInt8] {
        let all = left.isEmpty ? bytes : left + bytes
        left = all.count % 2 == 1 ? [all[all.count - 1]] : []
        var result: [UInt8] = []
        result.reserveCapacity(all.count)
        for index in stride(from: 0, to: all.count - 1, by: 2) {
            let unit = UInt16(all[index + high]) << 8 | UInt16(all[index + 1 - high])
            if let first = highSurrogate {
                highSurrogate = nil
                if 0xDC00...0xDFFF ~= unit {
                    append(0x10000 + (UInt32(first) - 0xD800) << 10 + (UInt32(unit) - 0xDC00), to: &result)
                    continue
                }
                append(0xFFFD, to: &result)
            }
            switch unit {
            case 0..<0x80: result.append(UInt8(unit))
            case 0xD800...0xDBFF: highSurrogate = unit
            case 0xDC00...0xDFFF: append(0xFFFD, to: &result)
            default: append(UInt32(unit), to: &result)
            }
        }
        if isLast, highSurrogate != nil || !left.isEmpty { append(0xFFFD, to: &result) }
        return result
    }

    @inline(__always) private func append(_ code: UInt32, to result: inout [UInt8]) {
        guard let scalar = Unicode.Scalar(code), let bytes = UTF8.encode(scalar) else {
            return result.append(contentsOf: UTF8.encodedReplacementCharacter)
        }
        result.append(contentsOf: bytes)
    }

    static func windows1251(_ byte: UInt8) -> UInt32 {
        switch byte {
        case 0xC0...0xFF: 0x410 + UInt32(byte) - 0xC0
        case 0x80...0xBF: UInt32(upperHalf[Int(byte) - 0x80])
        default: UInt32(byte)
        }
    }

    /// 0x80 to 0xBF; from 0xC0 on the alphabet stands in order.
    private static let upperHalf: [UInt16] = [
        0x0402, 0x0403, 0x201A, 0x0453, 0x201E, 0x2026, 0x2020, 0x2021,
        0x20AC, 0x2030, 0x0409, 0x2039, 0x040A, 0x040C, 0x040B, 0x040F,
        0x0452, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
        0xFFFD, 0x2122, 0x0459, 0x203A, 0x045A, 0x045C, 0x045B, 0x045F,
        0x00A0, 0x040E, 0x045E, 0x0408, 0x00A4, 0x0490, 0x00A6, 0x00A7,
        0x0401, 0x00A9, 0x0404, 0x00AB, 0x00AC, 0x00AD, 0x00AE, 0x0407,
        0x00B0, 0x00B1, 0x0406, 0x0456, 0x0491, 0x00B5, 0x00B6, 0x00B7,
        0x0451, 0x2116, 0x0454, 0x00BB, 0x0458, 0x0405, 0x0455, 0x0457,
    ]
}

/// A file's text in UTF-8, piece by piece.
struct TextStream {
    static let pieceSize = 64 << 10
    private let file: ScratchFile
    private var decoder: TextDecoder
    private(set) var offset: Int

    init(_ file: ScratchFile, _ encoding: ListEncoding, isSound: Bool, skipping mark: Int) {
        self.file = file
        decoder = TextDecoder(encoding, isSound: isSound)
        offset = mark
    }

    /// `nil` at the end.
    mutating func next() throws(SheetError) -> [UInt8]? {
        guard offset < file.count else { return nil }
        let bytes = try file.read(at: offset, upTo: Self.pieceSize)
        guard !bytes.isEmpty else { return nil }
        offset += bytes.count
        return decoder.decode(bytes, isLast: offset >= file.count)
    }
}
