import Core
import HTTP
import Sheets
import Synchronization

/// A list that has been received: the file on disk, and the fields beside it.
struct ListUpload: Sendable {
    let reader: SheetReader
    let fileName: String
    let fields: [String: String]

    static let fieldLimit = 4096

    /// Reads a form with one file while it arrives.
    init(_ request: Request, _ settings: ListSettings) async throws {
        let form = try MultipartReader(request)
        var reader: SheetReader?
        var fileName = ""
        var fields: [String: String] = [:]
        while let part = try await form.next() {
            if part.filename != nil || part.name == "file" {
                guard reader == nil else { throw Self.wrong("file", "one_file", .oneFile) }
                let fresh = try SheetReader(limits: settings.limits, scratchFolder: settings.scratchFolder)
                for try await bytes in part.body { try await fresh.append(bytes) }
                reader = fresh
                fileName = Self.tidied(part.filename ?? "")
            } else {
                let text = String(
                    validating: try await part.body.collect(upTo: Self.fieldLimit), as: UTF8.self)
                guard let text, !text.utf8.contains(0) else {
                    throw Self.wrong(String(part.name.prefix(100)), "not_text", .notText)
                }
                fields[part.name] = text
            }
        }
        guard let reader else { throw Self.wrong("file", "missing", .missing) }
        self.reader = reader
        self.fileName = fileName
        self.fields = fields
    }

    static func wrong(_ field: String, _ code: String, _ text: LocalizedText) -> ValidationError {
        ValidationError([FieldError(field, code, text)])
    }

    /// The name alone, for people to read.
    private static func tidied(_ name: String) -> String {
        let last = name.split(whereSeparator: { $0 == "/" || $0 == "\\" }).last ?? ""
        let kept = last.unicodeScalars.filter { $0.value >= 0x20 && $0.value != 0x7F }.prefix(200)
        return kept.isEmpty ? "list" : String(String.UnicodeScalarView(kept))
    }
}

/// How many files may be on their way at once: each lies on the disk until it is read.
final class UploadSlots: Sendable {
    private let most: Int
    private let taken = Mutex(0)

    init(most: Int) { self.most = most }

    func receive(_ request: Request, _ settings: ListSettings) async throws -> ListUpload {
        let isFree = taken.withLock { taken in
            guard taken < most else { return false }
            taken += 1
            return true
        }
        guard isFree else { throw Problem.busyWithLists }
        defer { taken.withLock { $0 -= 1 } }
        return try await ListUpload(request, settings)
    }
}

extension LocalizedText {
    static let missing = LocalizedText("This field is required", "Это поле обязательно")
    static let oneFile = LocalizedText("One file at a time", "Один файл за раз")
    static let notText = LocalizedText("A text is expected", "Ожидается строка")
    static let positive = LocalizedText("A positive number is expected", "Ожидается положительное число")
}
