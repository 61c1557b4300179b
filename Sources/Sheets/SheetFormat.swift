/// The forms in which people keep lists.
public enum SheetFormat: String, Sendable, CaseIterable {
    case csv, json, ndjson, xlsx

    public var contentType: String {
        switch self {
        case .csv: "text/csv; charset=utf-8"
        case .json: "application/json"
        case .ndjson: "application/x-ndjson"
        case .xlsx: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
        }
    }

    public var fileExtension: String { rawValue }
}

/// How much of a stranger's file is believed.
public struct SheetLimits: Sendable, Equatable {
    /// The file as it is uploaded.
    public var fileBytes: Int
    public var fieldBytes: Int
    /// All fields of one row together.
    public var rowBytes: Int
    public var columns: Int
    /// What a packed file may become; a spreadsheet of text packs to about a tenth.
    public var unpackedBytes: Int
    /// How many times larger than the file, once it has become larger than `harmlessBytes`.
    public var unpackedRatio: Int
    public static let harmlessBytes = 64 << 20

    public init(
        fileBytes: Int = 1 << 30, fieldBytes: Int = 64 << 10, rowBytes: Int = 1 << 20, columns: Int = 256,
        unpackedBytes: Int = 8 << 30, unpackedRatio: Int = 200
    ) {
        self.fileBytes = fileBytes
        self.fieldBytes = fieldBytes
        self.rowBytes = rowBytes
        self.columns = columns
        self.unpackedBytes = unpackedBytes
        self.unpackedRatio = unpackedRatio
    }

    public static let standard = SheetLimits()
}

/// Why a file as a whole cannot be read. What is wrong with one row is a `RowDefect`.
public enum SheetError: Error, Equatable, Sendable {
    case tooLarge(limit: Int)
    case empty
    /// Excel before 2007, or a workbook with a password: both are the same kind of container.
    case oldOrEncryptedExcel
    case unknownFormat
    /// A field, or a quote that nobody closes, runs on beyond every limit.
    case endlessField(line: Int)
    case unclosedQuote(line: Int)
    case endsEarly(line: Int)
    case brokenJSON(line: Int)
    case brokenArchive
    case brokenXML(line: Int)
    case noSheet
    /// It unpacks to far more than a list would.
    case unpacksTooFar
    /// The scratch folder refuses: full, or not writable.
    case noScratchSpace(code: Int32)
}

/// Why one row says nothing, while its neighbours do.
public enum RowDefect: Sendable, Equatable {
    case tooManyColumns
    case fieldTooLong
    case rowTooLong
    case brokenJSON
    /// An element that is neither an object nor a text nor a number.
    case notARow
}
