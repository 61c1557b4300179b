import Contracts
import Core
import HTTP
import Invites
import ServiceKit
import Storage

/// Forgets a person in every service, and goes on trying where one is away.
struct ErasureDesk: Sendable {
    let store: ErasureStore
    let peers: Peers
    /// Answers kept for repeated requests may name the person too.
    let forgetAnswers: @Sendable (Int64) async throws -> Void
    let time: any TimeSource
    let random: any RandomSource
    let log: Log

    static let own = "invite-service"
    /// Who else keeps people, or may do so one day.
    static let others = ["integration-service", "parsing-service", "report-service"]
    /// One service may know the person by another number, which the next has to hear of.
    static let rounds = 3

    func erase(_ identity: PersonIdentity, of user: Int64) async throws -> ErasureReceipt {
        let now = time.now
        let receipt = ErasureReceipt(
            id: UniqueID(at: now, random).description,
            lines: ([Self.own] + Self.others).map { .init($0, .pending) }, createdAt: now)
        let wish = ErasureWish(identity)
        // Written down first: whatever happens now, it will be done.
        try await store.begin(wish, receipt, of: user)
        return try await carryOut(wish, receipt, of: user)
    }

    /// Does what is still to be done, and says how far it has come.
    func carryOut(_ wish: ErasureWish, _ receipt: ErasureReceipt, of user: Int64) async throws
        -> ErasureReceipt
    {
        var wish = wish
        var receipt = receipt
        for _ in 0..<Self.rounds {
            let before = wish
            for index in receipt.lines.indices {
                let (line, known) = await ask(receipt.lines[index].service, wish, of: user)
                receipt.lines[index].outcome = line.outcome
                receipt.lines[index].erased.merge(line.erased) { $0 + $1 }
                wish.formUnion(known)
            }
            if wish == before { break }
        }
        // A list that is on its way was perhaps read before the stop-list was written.
        if try await store.hasOpenImports(of: user, before: time.now), receipt.isComplete {
            receipt.lines[0].outcome = .pending
        }
        if receipt.isComplete { receipt.completedAt = time.now }
        try await store.note(wish, receipt, at: time.now)
        log.info(
            "erasure.carried-out",
            ["receipt": .id(receipt.id), "is_complete": .flag(receipt.completedAt != nil)])
        return receipt
    }

    private func ask(_ service: String, _ wish: ErasureWish, of user: Int64) async
        -> (ErasureReceipt.Line, ErasureWish)
    {
        do {
            guard service != Self.own else {
                let (erased, known) = try await store.erase(wish, of: user, at: time.now)
                try await forgetAnswers(user)
                return (ErasureReceipt.Line(service, .done, erased), known)
            }
            let answer = try await peers.ask(
                service, .post, "/internal/privacy/erase", onBehalfOf: .acting(for: user), body: wish.json,
                deadline: .seconds(60))
            let json = (try? await answer.json(limit: 1 << 20)) ?? .null
            switch answer.status {
            case 200:
                let erased = (json["erased"]?.objectValue ?? []).map {
                    ($0.name, Int($0.value.intValue ?? 0))
                }
                return (
                    ErasureReceipt.Line(
                        service, .done, Dictionary(erased, uniquingKeysWith: { first, _ in first })),
                    json["known"].map { ErasureWish(json: $0) } ?? ErasureWish()
                )
            // A service without this order keeps nobody; one too old to know it is updated with us.
            case 404, 405: return (ErasureReceipt.Line(service, .nothingKept), ErasureWish())
            default: return (ErasureReceipt.Line(service, .pending), ErasureWish())
            }
        } catch {
            log.warning("erasure.not-reached", ["service": .text(service), "error": .error(error)])
            return (ErasureReceipt.Line(service, .pending), ErasureWish())
        }
    }
}

/// `/privacy`: a person's right to be forgotten.
struct PrivacyRoutes: Sendable {
    let desk: ErasureDesk
    let store: ErasureStore

    func register(on router: inout Router) {
        router.on("POST", "/api/v1/privacy/erase", erase)
        router.on("GET", "/api/v1/privacy/erasures/{id}", receipt)
    }

    func erase(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let form = try await request.decode(ErasureForm.self)
        let receipt = try await desk.erase(form.identity, of: user)
        return .json(receipt.json, status: receipt.completedAt == nil ? 202 : 200)
    }

    func receipt(_ request: Request) async throws -> Response {
        guard
            let receipt = try await store.receipt(request.parameter("id"), of: request.requireUser())
        else { throw Problem.notFound }
        return .json(receipt.json)
    }
}

/// Whom, in any of the ways a person is known.
struct ErasureForm: JSONDecodable {
    let identity: PersonIdentity

    init(from fields: inout Fields) {
        identity = SuppressionForm(from: &fields).entry.identity
    }
}
