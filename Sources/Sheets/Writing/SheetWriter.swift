import Core

/// Writes a list as a stream of bytes, in constant memory, in any of the formats.
///
/// ```swift
/// Response.stream(type: format.contentType) { body in
///     let writer = try SheetWriter(format, columns: ["username", "messages"])
///     try await database.stream(query) { rows in
///         try await writer.write(rows.map { [.text(…), .number(…)] }) { try await body.write($0) }
///     }
///     try await writer.finish { try await body.write($0) }
/// }
/// ```
///
/// CSV begins with a mark that tells Excel it is UTF-8, and nothing in it can become a formula. CSV and JSON
/// leave as they come; a workbook is packed at the end, so its first byte comes with its last row.
/// For one task at a time. What it writes for a workbook lies in files without a name, gone with the writer.
public actor SheetWriter {
    private let thread = ThreadExecutor(name: "sheet-writer")
    public nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    private enum Output {
        case csv(CSVText)
        case json(JSONText)
        case workbook(Workbook)
    }
    private var output: Output

    /// `columns` are the first row, and the members' names in JSON.
    public init(_ format: SheetFormat, columns: [String], scratchFolder: String = "/tmp") throws(SheetError) {
        output =
            switch format {
            case .csv: .csv(CSVText(columns))
            case .json: .json(JSONText(columns, isArray: true))
            case .ndjson: .json(JSONText(columns, isArray: false))
            case .xlsx: .workbook(try Workbook(columns, scratchFolder: scratchFolder))
            }
    }

    /// Writes rows and hands on what is ready. A row may be shorter than the columns.
    public nonisolated func write(
        _ rows: [[SheetValue]], to send: ([UInt8]) async throws -> Void
    ) async throws {
        let bytes = try await taken(rows)
        if !bytes.isEmpty { try await send(bytes) }
    }

    /// Hands on what is left. Nothing may be written afterwards.
    public nonisolated func finish(to send: ([UInt8]) async throws -> Void) async throws {
        var bytes = try await ended()
        while !bytes.isEmpty {
            try await send(bytes)
            bytes = try await rest()
        }
    }

    private func taken(_ rows: [[SheetValue]]) throws -> [UInt8] {
        switch output {
        case .csv(var text):
            output = .csv(CSVText.nothing)
            for row in rows { text.append(row) }
            defer { output = .csv(text) }
            return text.take()
        case .json(var text):
            output = .json(JSONText.nothing)
            for row in rows { text.append(row) }
            defer { output = .json(text) }
            return text.take()
        case .workbook(let workbook):
            for row in rows { try workbook.append(row) }
            return []
        }
    }

    private func ended() throws -> [UInt8] {
        switch output {
        case .csv(var text): return text.take()
        case .json(var text):
            text.end()
            return text.take()
        case .workbook(let workbook):
            try workbook.end()
            return try workbook.next()
        }
    }

    private func rest() throws -> [UInt8] {
        if case .workbook(let workbook) = output { try workbook.next() } else { [] }
    }
}
