import Core

/// What a list turned out to be.
public struct SheetShape: Sendable, Equatable {
    public let format: SheetFormat
    /// Of text; a workbook has its own.
    public let encoding: ListEncoding?
    public let delimiter: Character?
    public let hasHeader: Bool
    public let columns: [String]
    public let roles: PeopleColumns
    /// Of a workbook: the sheet that is read, and how many are not.
    public let sheet: String?
    public let otherSheets: Int
}

/// Reads a list that somebody has uploaded, in constant memory, whatever they call it and however it is
/// written.
///
/// ```swift
/// let reader = try SheetReader()
/// for try await bytes in upload { try await reader.append(bytes) }
/// let shape = try await reader.open()
/// while let rows = try await reader.next() { for row in rows { … } }
/// ```
///
/// The bytes go to a file without a name first: a workbook can be read in no other way, and a slow sender
/// holds nothing else up meanwhile. Parsing runs on a thread of its own.
public actor SheetReader {
    private let thread = ThreadExecutor(name: "sheet-reader")
    public nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    private let limits: SheetLimits
    private let scratchFolder: String
    private let file: ScratchFile
    private var sniffer = EncodingSniffer()

    private var source: (any RowSource)?
    private var gatherer: RowGatherer
    private var upcoming: SheetRows?
    private var columns: [String] = []
    private var roles = PeopleColumns()

    public init(limits: SheetLimits = .standard, scratchFolder: String = "/tmp") throws(SheetError) {
        self.limits = limits
        self.scratchFolder = scratchFolder
        file = try ScratchFile(in: scratchFolder)
        gatherer = RowGatherer(limits)
    }

    public var byteCount: Int { file.count }

    /// How much of the list has been read, 0 to 1.
    public var progress: Double { source?.progress ?? 0 }

    /// More of the file.
    public func append(_ bytes: [UInt8]) throws {
        guard file.count + bytes.count <= limits.fileBytes else {
            throw SheetError.tooLarge(limit: limits.fileBytes)
        }
        try bytes.withUnsafeBytes { try file.append($0) }
        bytes.withUnsafeBufferPointer { sniffer.look(at: $0) }
    }

    /// Finds out what the file is, and reads its first rows.
    @discardableResult
    public func open() throws -> SheetShape {
        let sample = sniffer.sample
        guard file.count > 0 else { throw SheetError.empty }
        if sample.starts(with: [0xD0, 0xCF, 0x11, 0xE0]) { throw SheetError.oldOrEncryptedExcel }
        if sample.starts(with: [0x50, 0x4B]) {
            let workbook = try XLSXSource(file, limits: limits, scratchFolder: scratchFolder)
            return try begin(
                workbook, .xlsx, sheet: workbook.sheetName, otherSheets: workbook.otherSheets)
        }
        let (encoding, mark) = sniffer.verdict()
        guard !Self.isBinary(sample, encoding) else { throw SheetError.unknownFormat }
        var decoder = TextDecoder(encoding, isSound: false)
        let text = decoder.decode(Array(sample.dropFirst(mark)), isLast: false)
        func stream(skipping bytes: Int) -> TextStream {
            TextStream(file, encoding, isSound: sniffer.isSoundUTF8, skipping: bytes)
        }
        if let shape = JSONSource.Shape(text) {
            let json = JSONSource(stream(skipping: mark), length: file.count, shape: shape, limits: limits)
            let format = if case .array = shape { SheetFormat.json } else { SheetFormat.ndjson }
            return try begin(json, format, encoding: encoding)
        }
        let dialect = CSVDialect.detect(in: text)
        let unit = encoding == .utf16BigEndian || encoding == .utf16LittleEndian ? 2 : 1
        let csv = CSVSource(
            stream(skipping: mark + dialect.skip * unit), length: file.count, dialect: dialect, limits: limits
        )
        return try begin(
            csv, .csv, encoding: encoding, delimiter: Character(Unicode.Scalar(dialect.delimiter)))
    }

    /// A picture or a program is no list in an odd encoding.
    private static func isBinary(_ sample: [UInt8], _ encoding: ListEncoding) -> Bool {
        guard encoding == .utf8 || encoding == .windows1251 else { return false }
        let start = sample.prefix(4096)
        let controls = start.count { $0 < 0x20 && !isBlank($0) }
        return controls * 20 > start.count || start.starts(with: "%PDF-".utf8)
    }

    private func begin(
        _ source: any RowSource, _ format: SheetFormat, encoding: ListEncoding? = nil,
        delimiter: Character? = nil, sheet: String? = nil, otherSheets: Int = 0
    ) throws -> SheetShape {
        self.source = source
        var hasHeader = true
        var first = try gather()
        if let names = source.names {
            columns = names
            roles = PeopleColumns(names: names).withoutCounters(first.map { Array($0) } ?? [])
        } else if let row = first?.first, row.defect == nil, PeopleColumns.isHeader(row.texts) {
            columns = row.texts
            roles = PeopleColumns(names: columns)
            first = first.map { rows in
                SheetRows(
                    storage: rows.storage, range: rows.startIndex + 1..<rows.endIndex, columns: columns,
                    roles: roles)
            }
            roles = roles.withoutCounters(first.map { Array($0) } ?? [])
        } else {
            hasHeader = false
            roles = PeopleColumns(guessedFrom: (first.map { Array($0.prefix(200)) }) ?? [])
        }
        upcoming = first.map {
            SheetRows(storage: $0.storage, range: $0.range, columns: columns, roles: roles)
        }
        return SheetShape(
            format: format, encoding: encoding, delimiter: delimiter, hasHeader: hasHeader, columns: columns,
            roles: roles, sheet: sheet, otherSheets: otherSheets)
    }

    /// The next rows; `nil` after the last.
    public func next() throws -> SheetRows? {
        precondition(source != nil, "a list is opened before it is read")
        if let rows = upcoming {
            upcoming = nil
            if !rows.isEmpty { return rows }
        }
        return try gather()
    }

    private func gather() throws -> SheetRows? {
        guard let source else { return nil }
        while try source.gather(into: &gatherer) { if gatherer.isFull { break } }
        guard !gatherer.isEmpty else { return nil }
        if let names = source.names, names.count != columns.count {
            columns = names
            roles = PeopleColumns(names: names)
            let storage = gatherer.take()
            let rows = SheetRows(
                storage: storage, range: 0..<storage.marks.count, columns: names, roles: roles)
            roles = roles.withoutCounters(rows)
            return SheetRows(storage: storage, range: rows.range, columns: names, roles: roles)
        }
        let storage = gatherer.take()
        return SheetRows(
            storage: storage, range: 0..<storage.marks.count, columns: columns, roles: roles)
    }
}
