import CZip
import Foundation
import Sheets

/// All rows of a list, as texts.
struct ReadList {
    var shape: SheetShape
    var rows: [[String]] = []
    var lines: [Int] = []
    var defects: [RowDefect?] = []
    var roles = PeopleColumns()
    var columns: [String] = []

    /// The first filled field of a role, by row.
    func values(_ role: PeopleColumns.Role) -> [String] {
        rows.map { row in
            roles[role].lazy.map { $0 < row.count ? row[$0] : "" }.first { !$0.isEmpty } ?? ""
        }
    }
}

func read(
    _ bytes: [UInt8], limits: SheetLimits = .standard, piece: Int = 7_919
) async throws -> ReadList {
    let reader = try SheetReader(limits: limits)
    var rest = bytes[...]
    while !rest.isEmpty {
        try await reader.append(Array(rest.prefix(piece)))
        rest = rest.dropFirst(piece)
    }
    var list = ReadList(shape: try await reader.open())
    list.roles = list.shape.roles
    while let rows = try await reader.next() {
        list.roles = rows.roles
        list.columns = rows.columns
        for row in rows {
            list.rows.append(row.texts)
            list.lines.append(row.line)
            list.defects.append(row.defect)
        }
    }
    return list
}

func read(_ text: String, limits: SheetLimits = .standard, piece: Int = 7_919) async throws -> ReadList {
    try await read(Array(text.utf8), limits: limits, piece: piece)
}

func written(
    _ format: SheetFormat, _ columns: [String], _ rows: [[SheetValue]]
) async throws -> [UInt8] {
    let writer = try SheetWriter(format, columns: columns)
    var bytes: [UInt8] = []
    for start in stride(from: 0, to: rows.count, by: 100) {
        try await writer.write(Array(rows[start..<min(start + 100, rows.count)])) { bytes += $0 }
    }
    try await writer.finish { bytes += $0 }
    return bytes
}

/// An archive made by hand, for files that no honest program writes.
func archive(_ entries: KeyValuePairs<String, [UInt8]>) throws -> [UInt8] {
    let folder = FileManager.default.temporaryDirectory
    let path = folder.appendingPathComponent("sheets-\(UUID().uuidString).zip").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    var code: Int32 = 0
    struct NoArchive: Error {}
    guard let zip = zip_open(path, ZIP_CREATE, &code) else { throw NoArchive() }
    // The sources point at these bytes until the archive is closed.
    var kept: [UnsafeMutableRawBufferPointer] = []
    defer { kept.forEach { $0.deallocate() } }
    for (name, bytes) in entries {
        let room = UnsafeMutableRawBufferPointer.allocate(byteCount: max(bytes.count, 1), alignment: 1)
        room.copyBytes(from: bytes)
        kept.append(room)
        guard let source = zip_source_buffer(zip, room.baseAddress, UInt64(bytes.count), 0),
            zip_file_add(zip, name, source, 0) >= 0
        else { throw NoArchive() }
    }
    guard zip_close(zip) == 0 else { throw NoArchive() }
    return [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
}

/// A workbook of one sheet whose XML is given.
func workbook(
    sheet: String, texts: String? = nil, workbook: String? = nil, relations: String? = nil
) throws -> [UInt8] {
    let standardWorkbook = """
        <?xml version="1.0" encoding="UTF-8"?><workbook xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets>\
        <sheet name="List" sheetId="1" r:id="rId1"/></sheets></workbook>
        """
    let standardRelations = """
        <?xml version="1.0"?><Relationships>\
        <Relationship Id="rId1" Type="x/worksheet" Target="worksheets/sheet1.xml"/>\
        <Relationship Id="rId2" Type="x/sharedStrings" Target="sharedStrings.xml"/></Relationships>
        """
    return try archive([
        "xl/workbook.xml": Array((workbook ?? standardWorkbook).utf8),
        "xl/_rels/workbook.xml.rels": Array((relations ?? standardRelations).utf8),
        "xl/worksheets/sheet1.xml": Array(sheet.utf8),
        "xl/sharedStrings.xml": Array((texts ?? "<sst/>").utf8),
    ])
}

func sheet(_ rows: String) -> String { "<worksheet><sheetData>\(rows)</sheetData></worksheet>" }
