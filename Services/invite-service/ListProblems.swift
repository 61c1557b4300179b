import Core
public import HTTP
public import Invites
public import Sheets

extension SheetError: ProblemConvertible {
    public var problem: Problem {
        switch self {
        case .tooLarge(let limit):
            Problem(
                413, "list_too_large",
                .init("The file may have \(limit) bytes at most", "Файл не может превышать \(limit) байт")
            ).with(["limit_bytes": .int(Int64(limit))])
        case .empty: unreadable("empty_list", .init("The file is empty", "Файл пуст"))
        case .oldOrEncryptedExcel:
            unreadable(
                "old_excel",
                .init(
                    "This is an old or password-protected Excel file; save it as .xlsx without a password",
                    "Это старый или защищённый паролем файл Excel; сохраните его как .xlsx без пароля"))
        case .unknownFormat:
            unreadable(
                "unknown_format",
                .init(
                    "This is neither CSV nor XLSX nor JSON", "Это не CSV, не XLSX и не JSON"))
        case .endlessField(let line):
            unreadable(
                "endless_field",
                .init(
                    "A field that begins in line \(line) does not end; a quote may be missing",
                    "Поле, начатое в строке \(line), не заканчивается; возможно, не хватает кавычки"), line)
        case .unclosedQuote(let line):
            unreadable(
                "unclosed_quote",
                .init(
                    "A quote opened in line \(line) is never closed",
                    "Кавычка, открытая в строке \(line), не закрыта"), line)
        case .endsEarly(let line):
            unreadable(
                "ends_early",
                .init(
                    "The file breaks off in line \(line); upload it again",
                    "Файл обрывается в строке \(line); загрузите его ещё раз"), line)
        case .brokenJSON(let line):
            unreadable(
                "broken_json", .init("Line \(line) is not valid JSON", "Строка \(line) — некорректный JSON"),
                line)
        case .brokenArchive:
            unreadable(
                "broken_workbook",
                .init("The workbook is damaged or cut off", "Файл Excel повреждён или обрезан"))
        case .brokenXML(let line):
            unreadable(
                "broken_workbook",
                .init("The workbook is damaged inside", "Файл Excel повреждён внутри"), line)
        case .noSheet:
            unreadable("no_sheet", .init("The workbook has no sheet", "В файле Excel нет листов"))
        case .unpacksTooFar:
            unreadable(
                "unpacks_too_far",
                .init(
                    "The workbook unpacks to more than a list would",
                    "Файл Excel распаковывается в слишком большой объём"))
        case .noScratchSpace:
            Problem(
                503, "no_scratch_space",
                .init(
                    "There is no room for the file just now; try again later",
                    "Сейчас нет места для файла; повторите позже")
            ).with(header: "Retry-After", "60")
        }
    }

    private func unreadable(_ code: String, _ detail: LocalizedText, _ line: Int? = nil) -> Problem {
        let problem = Problem(422, code, detail)
        return line.map { problem.with(["line": .int(Int64($0))]) } ?? problem
    }
}

extension ImportError: ProblemConvertible {
    public var problem: Problem {
        switch self {
        case .unknownImport: .notFound
        case .interrupted: Problem(503, "interrupted", text)
        }
    }
}

extension SuppressionError: ProblemConvertible {
    public var problem: Problem {
        switch self {
        case .unknown: .notFound
        case .personsOwnNo(let reason):
            Problem(
                409, "persons_own_no",
                .init(
                    "This person said no themselves; state the consent_basis on which that is over",
                    "Человек отказался сам; укажите consent_basis, на основании которого отказ снят")
            ).with(["reason": .string(reason.rawValue)])
        }
    }
}

extension RowReject {
    init(_ defect: RowDefect) {
        self =
            switch defect {
            case .tooManyColumns: .tooManyColumns
            case .fieldTooLong: .fieldTooLong
            case .rowTooLong: .rowTooLong
            case .brokenJSON: .brokenJSON
            case .notARow: .notARow
            }
    }
}
