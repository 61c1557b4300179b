import CCSV

/// Where rows come from, whatever the format. Used on one thread.
protocol RowSource: AnyObject {
    /// Adds rows until the gatherer is full; false when there are no more.
    func gather(into rows: inout RowGatherer) throws -> Bool
    /// What the file itself says the columns are called, as far as it has been read.
    var names: [String]? { get }
    /// How much of the file has been read, 0 to 1.
    var progress: Double { get }
}

/// CSV through libcsv, line by line, so that a row knows where it stands.
final class CSVSource: RowSource {
    private var text: TextStream
    private let length: Int
    private let limits: SheetLimits
    private let parser: UnsafeMutablePointer<csv_parser>
    private var rows: RowGatherer
    /// The line that is being read, and the one on which the row began.
    private var line = 1
    private var rowLine = 1
    private let lineEnd: UInt8
    private var hasEnded = false

    let names: [String]? = nil
    var progress: Double { length == 0 ? 1 : Double(text.offset) / Double(length) }

    init(_ text: TextStream, length: Int, dialect: CSVDialect, limits: SheetLimits) {
        self.text = text
        self.length = length
        self.limits = limits
        rows = RowGatherer(limits)
        lineEnd = dialect.lineEnd
        parser = .allocate(capacity: 1)
        csv_init(parser, 0)
        csv_set_delim(parser, dialect.delimiter)
        // The default doubles nothing: it grows by 128 bytes, which is slow for long fields.
        csv_set_blk_size(parser, 4096)
    }

    deinit {
        csv_free(parser)
        parser.deallocate()
    }

    func gather(into result: inout RowGatherer) throws -> Bool {
        guard !hasEnded else { return false }
        // The C callbacks reach the rows through `self`.
        swap(&rows, &result)
        defer { swap(&rows, &result) }
        while !rows.isFull {
            guard let piece = try text.next() else {
                hasEnded = true
                // `CSV_STRICT_FINI` would say so only together with a strictness that refuses honest files.
                guard parser.pointee.pstate != Self.insideField || parser.pointee.quoted == 0 else {
                    throw SheetError.unclosedQuote(line: rowLine)
                }
                let context = Unmanaged.passUnretained(self).toOpaque()
                csv_fini(parser, Self.onField, Self.onRow, context)
                return true
            }
            try parse(piece)
        }
        return true
    }

    private func parse(_ piece: [UInt8]) throws {
        let context = Unmanaged.passUnretained(self).toOpaque()
        try piece.withUnsafeBufferPointer { bytes in
            var start = 0
            while start < bytes.count {
                let end = bytes[start...].firstIndex(of: lineEnd).map { $0 + 1 } ?? bytes.count
                let isWhole = bytes[end - 1] == lineEnd
                let read = csv_parse(
                    parser, bytes.baseAddress.map { $0 + start }, end - start, Self.onField, Self.onRow,
                    context)
                guard read == end - start else { throw SheetError.endlessField(line: rowLine) }
                // libcsv keeps a field that has not ended in one buffer, however long it grows.
                guard parser.pointee.entry_pos <= limits.rowBytes else {
                    throw SheetError.endlessField(line: rowLine)
                }
                if isWhole {
                    line += 1
                    if parser.pointee.pstate == Self.betweenRows { rowLine = line }
                }
                start = end
            }
        }
    }

    /// libcsv's own numbers for where it stands, which its header keeps to itself.
    private static let betweenRows: Int32 = 0
    private static let insideField: Int32 = 2

    private func took(_ field: UnsafeBufferPointer<UInt8>) { rows.add(undefused(field)) }
    private func ended() { rows.endRow(line: rowLine) }

    private static let onField:
        @convention(c) (UnsafeMutableRawPointer?, Int, UnsafeMutableRawPointer?) -> Void = {
            field, count, context in
            guard let context else { return }
            let source = Unmanaged<CSVSource>.fromOpaque(context).takeUnretainedValue()
            let start = field.map { UnsafePointer($0.assumingMemoryBound(to: UInt8.self)) }
            source.took(UnsafeBufferPointer(start: start, count: count))
        }

    private static let onRow: @convention(c) (Int32, UnsafeMutableRawPointer?) -> Void = { _, context in
        guard let context else { return }
        Unmanaged<CSVSource>.fromOpaque(context).takeUnretainedValue().ended()
    }
}

/// Takes off the apostrophe that keeps a spreadsheet from taking a text for a formula, as our own writer and
/// others put it there.
func undefused(_ field: UnsafeBufferPointer<UInt8>) -> UnsafeBufferPointer<UInt8> {
    guard field.count >= 2, field[0] == UInt8(ascii: "'"), isFormulaStart(field[1]) else { return field }
    return UnsafeBufferPointer(rebasing: field[1...])
}

func isFormulaStart(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "="), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "@"), 0x09, 0x0D: true
    default: false
    }
}

/// How this CSV is written.
struct CSVDialect: Equatable {
    var delimiter: UInt8
    var lineEnd: UInt8
    /// Bytes of a first line that speaks to Excel alone (`sep=;`).
    var skip = 0

    /// Judged by the beginning of the file: the delimiter that cuts most rows into the same number of fields.
    static func detect(in sample: [UInt8]) -> CSVDialect {
        let lineEnd: UInt8 = sample.contains(0x0A) || !sample.contains(0x0D) ? 0x0A : 0x0D
        if let dialect = told(by: sample, lineEnd: lineEnd) { return dialect }
        var best = CSVDialect(delimiter: UInt8(ascii: ","), lineEnd: lineEnd)
        var bestScore = 0.0
        for delimiter in [UInt8(ascii: ","), UInt8(ascii: ";"), 0x09, UInt8(ascii: "|")] {
            let counts = fieldCounts(in: sample, delimiter: delimiter, lineEnd: lineEnd)
            var tally: [Int: Int] = [:]
            for count in counts where count > 1 { tally[count, default: 0] += 1 }
            guard let (fields, rows) = tally.max(by: { ($0.value, $0.key) < ($1.value, $1.key) }) else {
                continue
            }
            // Agreement first; among delimiters that agree as well, the one that finds more fields.
            let score = Double(rows) / Double(max(counts.count, 1)) + Double(min(fields, 100)) / 1000
            if score > bestScore {
                bestScore = score
                best.delimiter = delimiter
            }
        }
        return best
    }

    private static func told(by sample: [UInt8], lineEnd: UInt8) -> CSVDialect? {
        guard sample.count >= 5, sample.starts(with: "sep=".utf8),
            let end = sample.prefix(8).firstIndex(of: lineEnd), end >= 5
        else { return nil }
        return CSVDialect(delimiter: sample[4], lineEnd: lineEnd, skip: end + 1)
    }

    /// Fields in each of the first rows; what is quoted does not count.
    private static func fieldCounts(in sample: [UInt8], delimiter: UInt8, lineEnd: UInt8) -> [Int] {
        var counts: [Int] = []
        var fields = 1
        var isQuoted = false
        var isEmpty = true
        for byte in sample {
            if byte == UInt8(ascii: "\"") {
                isQuoted.toggle()
                isEmpty = false
            } else if byte == lineEnd, !isQuoted {
                if !isEmpty { counts.append(fields) }
                fields = 1
                isEmpty = true
                if counts.count == 200 { return counts }
            } else if byte == delimiter, !isQuoted {
                fields += 1
                isEmpty = false
            } else if byte != 0x0D {
                isEmpty = false
            }
        }
        // The last row may have been cut by the end of the sample; alone it has to do.
        if !isEmpty, counts.isEmpty || sample.count < EncodingSniffer.sampleSize { counts.append(fields) }
        return counts
    }
}
