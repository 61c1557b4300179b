import Core
public import HTTP

/// The switchboard of a simulated Telegram: what a person or a test may do to it from outside.
public struct ControlRoutes: Sendable {
    let world: SandboxWorld

    public init(_ world: SandboxWorld) { self.world = world }

    public func register(on router: inout Router) {
        router.on("GET", "/", page)
        router.on("GET", "/world", report)
        router.on("POST", "/world", reset)
        router.on("GET", "/world/people", people)
        router.on("GET", "/world/accounts", accounts)
        router.on("GET", "/ledger", ledger)
        router.on("GET", "/ledger/violations", violations)
        router.on("GET", "/faults", faults)
        router.on("POST", "/faults", addFault)
        router.on("DELETE", "/faults", removeFaults)
        router.on("DELETE", "/faults/{id}", removeFault)
        router.on("POST", "/accounts/{phone}/scan", scan)
        router.on("GET", "/accounts/{phone}/code", code)
        router.on("POST", "/accounts/{phone}/ban") { try act($0) { try world.ban($0) } }
        router.on("POST", "/accounts/{phone}/revoke") { try act($0) { try world.revoke($0) } }
        router.on("POST", "/accounts/{phone}/freeze") { try act($0) { try world.freeze($0) } }
        router.on("POST", "/accounts/{phone}/unfreeze") { try act($0) { try world.freeze($0, false) } }
        router.on("POST", "/accounts/{phone}/limit") { try act($0) { try world.limit($0) } }
        router.on("POST", "/accounts/{phone}/unlimit") { try act($0) { try world.limit($0, false) } }
        router.on("POST", "/communities/{chat_id}/hide-members") { try hide($0, true) }
        router.on("POST", "/communities/{chat_id}/show-members") { try hide($0, false) }
    }

    private func page(_: Request) async throws -> Response {
        let options = world.options
        return .text(
            """
            <!doctype html><html lang="en"><meta charset="utf-8"><title>Simulated Telegram</title>
            <body style="font:16px/1.5 sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem">
            <h1>This is a simulation</h1>
            <p>Not Telegram, and not connected to it. Nobody here is real: every account, person, group and message
            is made from the seed <b>\(options.seed)</b>. Nothing that is sent here reaches anybody.</p>
            <p><b>Это имитация.</b> Не Telegram и не связано с ним: все аккаунты, люди, группы и сообщения созданы из
            числа \(options.seed), и ничто отправленное отсюда никому не приходит.</p>
            <ul><li><a href="/world">The world</a>: accounts, communities, people</li>
            <li><a href="/ledger">The ledger</a>: every effect (NDJSON)</li>
            <li><a href="/ledger/violations">Violations</a>, judged from the ledger alone</li>
            <li><a href="/faults">Faults</a> that were ordered</li></ul></body></html>
            """, type: "text/html; charset=utf-8")
    }

    private func report(_: Request) async throws -> Response { .json(world.report) }

    private func reset(_ request: Request) async throws -> Response {
        world.reset(try await request.decode(WorldOptions.self))
        return .json(world.report)
    }

    private func people(_ request: Request) async throws -> Response {
        var wish = QueryNumbers(request.query)
        let temper = request.query["temper"].map { Temper(rawValue: $0) } ?? .open
        if temper == nil { wish.fail("temper", Temper.allCases.map(\.rawValue).joined(separator: ", ")) }
        let chat = wish.number("not_in", in: .min ... .max)
        let limit = wish.number("limit", in: 0...10_000) ?? 100
        try wish.finish()
        return .json(JSONValue(world.people(temper ?? .open, notIn: chat, limit: Int(limit))))
    }

    private func accounts(_ request: Request) async throws -> Response {
        var wish = QueryNumbers(request.query)
        let first = wish.number("from", in: 0...1_000_000) ?? 0
        let limit = wish.number("limit", in: 0...10_000) ?? 100
        try wish.finish()
        return .json(JSONValue(world.accounts(from: Int(first), limit: Int(limit))))
    }

    /// As many lines as there are now; `?after=N` goes on behind entry N.
    private func ledger(_ request: Request) async throws -> Response {
        var wish = QueryNumbers(request.query)
        let start = Int(wish.number("after", in: 0 ... .max) ?? 0)
        try wish.finish()
        let end = world.ledger.count
        return .stream(type: "application/x-ndjson") { [world] writer in
            var next = start
            while next < end {
                let part = world.ledger(after: next, limit: min(1000, end - next))
                guard !part.isEmpty else { return }
                var bytes: [UInt8] = []
                for entry in part { bytes += entry.json.bytes + [0x0A] }
                try await writer.write(bytes)
                next += part.count
            }
        }
    }

    private func violations(_ request: Request) async throws -> Response {
        var wish = QueryNumbers(request.query)
        let seconds = wish.number("tolerance_seconds", in: 0...3600) ?? 5
        try wish.finish()
        let found = world.violations(tolerance: .seconds(seconds))
        return .json(["count": JSONValue(found.count), "violations": JSONValue(found)] as JSONValue)
    }

    private func faults(_: Request) async throws -> Response { .json(JSONValue(world.faults)) }

    private func addFault(_ request: Request) async throws -> Response {
        .json(world.add(try await request.decode(Fault.self)), status: 201)
    }

    private func removeFaults(_: Request) async throws -> Response {
        world.removeFaults()
        return .noContent
    }

    private func removeFault(_ request: Request) async throws -> Response {
        guard world.removeFaults(Int(try request.intParameter("id"))) else { throw Problem.notFound }
        return .noContent
    }

    private struct Scan: JSONDecodable {
        let link: String
        init(from fields: inout Fields) { link = fields.string("qr_link") }
    }

    private func scan(_ request: Request) async throws -> Response {
        let link = try await request.decode(Scan.self).link
        return try act(request) { try world.scan(link, with: $0) }
    }

    private func code(_ request: Request) async throws -> Response {
        .json(["code": .string(try world.code(of: request.parameter("phone")))] as JSONValue)
    }

    private func hide(_ request: Request, _ isHidden: Bool) throws -> Response {
        try world.hideMembers(ofGroup: try chat(request), isHidden)
        return .json(["done": true] as JSONValue)
    }

    private func chat(_ request: Request) throws -> Int64 {
        guard let chat = Int64(request.parameter("chat_id")) else { throw ControlError.noSuchGroup }
        return chat
    }

    private func act(_ request: Request, _ action: (String) throws -> Void) throws -> Response {
        try action(request.parameter("phone"))
        return .json(["done": true] as JSONValue)
    }
}

extension ControlError: ProblemConvertible {
    public var problem: Problem {
        switch self {
        case .noSuchAccount:
            Problem(
                404, "no_such_account",
                .init("The sandbox has no such account", "В песочнице нет такого аккаунта"))
        case .noSuchGroup:
            Problem(
                404, "no_such_group",
                .init("The sandbox has no such group", "В песочнице нет такой группы"))
        case .noSuchLink:
            Problem(
                404, "no_such_link",
                .init(
                    "Nobody waits for this link; it may have been renewed",
                    "Эту ссылку никто не ждёт; возможно, она обновилась"))
        case .noCode:
            Problem(404, "no_code", .init("No code was asked for", "Код не запрашивали"))
        }
    }
}

/// Reads a query's numbers and gathers all mistakes: a number that cannot be read is never taken for none.
private struct QueryNumbers {
    let query: Query
    private var errors: [FieldError] = []

    init(_ query: Query) { self.query = query }

    mutating func number(_ name: String, in range: ClosedRange<Int64>) -> Int64? {
        guard let text = query[name], !text.isEmpty else { return nil }
        guard let number = Int64(text), range.contains(number) else {
            fail(name, "\(range.lowerBound)...\(range.upperBound)")
            return nil
        }
        return number
    }

    mutating func fail(_ name: String, _ expected: String) {
        errors.append(
            FieldError(name, "wrong_value", .init("Expected: \(expected)", "Ожидается: \(expected)")))
    }

    consuming func finish() throws(ValidationError) {
        guard errors.isEmpty else { throw ValidationError(errors) }
    }
}
