/// Some rows of a list, one behind the other in one piece of memory: a million rows are not a million arrays
/// of texts.
public struct SheetRows: RandomAccessCollection, Sendable {
    struct Mark: Sendable {
        let line: Int
        let firstField: Int
        let fieldCount: Int
        let defect: RowDefect?
    }

    final class Storage: Sendable {
        let text: [UInt8]
        /// Where each field ends in `text`; it begins where the one before ended.
        let ends: [Int]
        let marks: [Mark]

        init(text: [UInt8], ends: [Int], marks: [Mark]) {
            self.text = text
            self.ends = ends
            self.marks = marks
        }
    }

    let storage: Storage
    let range: Range<Int>
    /// What the columns are called. In JSON new ones may turn up in later rows.
    public let columns: [String]
    /// What the columns mean.
    public let roles: PeopleColumns

    public var startIndex: Int { range.lowerBound }
    public var endIndex: Int { range.upperBound }
    public subscript(position: Int) -> SheetRow {
        precondition(range.contains(position), "there is no such row")
        return SheetRow(storage: storage, mark: storage.marks[position])
    }
}

/// One row as it was written.
public struct SheetRow: Sendable {
    let storage: SheetRows.Storage
    let mark: SheetRows.Mark

    /// Where it begins in the file, counted from 1; in a workbook the number of the row.
    public var line: Int { mark.line }
    public var count: Int { mark.fieldCount }
    public var defect: RowDefect? { mark.defect }

    /// The text of a field; a short row's missing fields are empty.
    public subscript(column: Int) -> String { withBytes(column) { String(decoding: $0, as: UTF8.self) } }

    public var texts: [String] { (0..<count).map { self[$0] } }

    /// The bytes of a field, in UTF-8, valid while `body` runs.
    public func withBytes<Result>(
        _ column: Int, _ body: (UnsafeBufferPointer<UInt8>) throws -> Result
    ) rethrows -> Result {
        guard column >= 0, column < mark.fieldCount else {
            return try body(UnsafeBufferPointer(start: nil, count: 0))
        }
        let field = mark.firstField + column
        let start = field == 0 ? 0 : storage.ends[field - 1]
        return try storage.text.withUnsafeBufferPointer {
            try body(UnsafeBufferPointer(rebasing: $0[start..<storage.ends[field]]))
        }
    }
}

/// Gathers rows until they are worth handing on.
struct RowGatherer {
    static let rowsAtOnce = 2000
    static let bytesAtOnce = 512 << 10

    let limits: SheetLimits
    private var text: [UInt8] = []
    private var ends: [Int] = []
    private var marks: [SheetRows.Mark] = []
    private var rowStart = 0
    private var firstField = 0
    private var defect: RowDefect?

    init(_ limits: SheetLimits) { self.limits = limits }

    var isFull: Bool { marks.count >= Self.rowsAtOnce || text.count >= Self.bytesAtOnce }
    var isEmpty: Bool { marks.isEmpty }

    /// One more field of the row. What is too much is left out and marks the row.
    mutating func add(_ field: UnsafeBufferPointer<UInt8>) {
        guard ends.count - firstField < limits.columns else {
            // Empty cells to the right of everything are a habit of spreadsheets.
            if !field.isEmpty { defect = defect ?? .tooManyColumns }
            return
        }
        if field.count > limits.fieldBytes {
            defect = defect ?? .fieldTooLong
        } else if text.count - rowStart + field.count > limits.rowBytes {
            defect = defect ?? .rowTooLong
        } else {
            text.append(contentsOf: field)
        }
        ends.append(text.count)
    }

    mutating func note(_ defect: RowDefect) { self.defect = self.defect ?? defect }

    /// Ends the row; one without any text is no row.
    mutating func endRow(line: Int) {
        if text.count > rowStart || defect != nil {
            marks.append(
                SheetRows.Mark(
                    line: line, firstField: firstField, fieldCount: ends.count - firstField, defect: defect))
            firstField = ends.count
            rowStart = text.count
        } else {
            ends.removeSubrange(firstField...)
        }
        defect = nil
    }

    /// The rows that are complete. One that has only begun stays.
    mutating func take() -> SheetRows.Storage {
        let storage = SheetRows.Storage(
            text: Array(text[..<rowStart]), ends: Array(ends[..<firstField]), marks: marks)
        let begun = (text: Array(text[rowStart...]), ends: ends[firstField...].map { $0 - rowStart })
        marks = []
        text = begun.text
        ends = begun.ends
        rowStart = 0
        firstField = 0
        return storage
    }
}
