import CPostgres

extension PostgresResult {
    /// The server ends the connection: an administrator, a shutdown, or a crash of another process of its.
    var isFarewell: Bool { field(Int32(UInt8(ascii: "C")))?.hasPrefix("57P") == true }

    var reason: String { field(Int32(UInt8(ascii: "M"))) ?? "the server gave no reason" }

    /// The server's error as the pool or a caller understands it. `wasCancelled` says whether we asked the
    /// server to stop: it uses one code for that and for its own time limit.
    func failure(wasCancelled: Bool) -> any Error {
        let code = field(Int32(UInt8(ascii: "C"))) ?? ""
        let constraint = field(Int32(UInt8(ascii: "n"))) ?? ""
        switch code {
        case "40001", "40P01": return ConnectionSignal.conflict
        case "55P03": return ConnectionSignal.conflict
        case "57014": return wasCancelled ? ConnectionSignal.interrupted : StorageError.timedOut
        case "26000": return ConnectionSignal.stalePlan
        case "0A000" where reason.contains("cached plan"): return ConnectionSignal.stalePlan
        case "23505": return StorageError.uniqueViolation(constraint: columns ?? constraint)
        case "23503": return StorageError.foreignKeyViolation(constraint: constraint)
        case "23514", "23P01": return StorageError.checkViolation(constraint: constraint)
        case "23502":
            let column = [field(Int32(UInt8(ascii: "t"))), field(Int32(UInt8(ascii: "c")))].compactMap { $0 }
            return StorageError.notNullViolation(column: column.joined(separator: "."))
        case "22021", "22P05": return StorageError.unsupportedValue(reason: reason)
        default: return StorageError.statement(reason: reason, code: code)
        }
    }

    /// `account.owner, account.name`, as SQLite says it, out of `Key (owner, name)=(1, x) already exists.`
    private var columns: String? {
        guard let table = field(Int32(UInt8(ascii: "t"))), let detail = field(Int32(UInt8(ascii: "D"))),
            let start = detail.firstIndex(of: "(")
        else { return nil }
        let rest = Array(detail[detail.index(after: start)...])
        guard let end = rest.indices.first(where: { rest[$0...].starts(with: ")=(") }) else { return nil }
        return String(rest[..<end]).split(separator: ",").map { "\(table).\($0.drop { $0 == " " })" }
            .joined(separator: ", ")
    }
}
