/// A workbook's shared texts, by number. A few are kept in memory; a million go to a scratch file, and are
/// read back in blocks, because sheets ask for them nearly in order.
final class SharedTexts {
    static let keptInMemory = 4 << 20

    let fieldBytes: Int
    private let scratchFolder: String
    private var text = Spill()
    /// Where each text ends, eight bytes a piece.
    private var ends = Spill()
    private(set) var count = 0

    init(limits: SheetLimits, scratchFolder: String) {
        fieldBytes = limits.fieldBytes
        self.scratchFolder = scratchFolder
    }

    func add(_ bytes: [UInt8]) throws(SheetError) {
        try text.append(bytes, keeping: Self.keptInMemory, in: scratchFolder)
        let end = UInt64(text.count)
        try ends.append(
            (0..<8).map { UInt8(truncatingIfNeeded: end >> (8 * $0)) }, keeping: Self.keptInMemory,
            in: scratchFolder)
        count += 1
    }

    /// A number that names no text gives none.
    func append(_ number: Int, to result: inout [UInt8]) throws(SheetError) {
        guard number >= 0, number < count else { return }
        let start = number == 0 ? 0 : try end(number - 1)
        let end = try end(number)
        guard end >= start, end <= text.count else { return }
        try text.read(start..<end, into: &result)
    }

    private func end(_ number: Int) throws(SheetError) -> Int {
        var bytes: [UInt8] = []
        try ends.read(8 * number..<8 * number + 8, into: &bytes)
        return bytes.reversed().reduce(0) { $0 << 8 | Int($1) }
    }
}

/// Bytes in memory up to a size, and in a scratch file beyond it.
struct Spill {
    private static let blockSize = 64 << 10
    private static let blockCount = 16

    private var memory: [UInt8] = []
    private var file: ScratchFile?
    private var blocks: [(number: Int, bytes: [UInt8])] = []
    private(set) var count = 0

    mutating func append(_ bytes: [UInt8], keeping limit: Int, in folder: String) throws(SheetError) {
        memory.append(contentsOf: bytes)
        count += bytes.count
        guard memory.count > (file == nil ? limit : Self.blockSize) else { return }
        if file == nil { file = try ScratchFile(in: folder) }
        if let file { try flush(to: file) }
    }

    private mutating func flush(to file: ScratchFile) throws(SheetError) {
        let bytes = memory
        memory.removeAll(keepingCapacity: false)
        var failure: SheetError?
        bytes.withUnsafeBytes { raw in
            do throws(SheetError) { try file.append(raw) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    mutating func read(_ range: Range<Int>, into result: inout [UInt8]) throws(SheetError) {
        guard let file else { return result.append(contentsOf: memory[range]) }
        if !memory.isEmpty { try flush(to: file) }
        if blocks.isEmpty { blocks = Array(repeating: (-1, []), count: Self.blockCount) }
        var position = range.lowerBound
        while position < range.upperBound {
            let number = position / Self.blockSize
            let slot = number % Self.blockCount
            if blocks[slot].number != number {
                blocks[slot] = (number, try file.read(at: number * Self.blockSize, upTo: Self.blockSize))
            }
            let start = position - number * Self.blockSize
            let end = min(range.upperBound - number * Self.blockSize, blocks[slot].bytes.count)
            guard end > start else { return }
            result.append(contentsOf: blocks[slot].bytes[start..<end])
            position += end - start
        }
    }
}
