import Core
public import HTTP
import ServiceKit

/// Another service gave no answer that could be acted on.
public enum PeerError: Error, Equatable, Sendable {
    /// It cannot be reached, or says that it cannot work now. Whether it has done what it was asked is not
    /// known where `mayHaveActed`.
    case unavailable(service: String, mayHaveActed: Bool)
    /// It refuses for a reason that the caller did not foresee: what was asked is wrong.
    case refused(service: String, status: Int, code: String, detail: String)
    /// Its answer is not what its contract promises.
    case unreadable(service: String)
}

extension PeerError: ProblemConvertible {
    public var problem: Problem {
        switch self {
        case .unavailable(let service, _):
            Problem(
                503, "service_down",
                .init(
                    "\(service) does not answer just now; try again shortly",
                    "\(service) сейчас не отвечает; повторите чуть позже")
            ).with(header: "Retry-After", "2").with(["service": .string(service)])
        case .refused(let service, _, let code, let detail):
            Problem(
                502, "refused_by_service",
                .init("\(service) refused: \(detail)", "\(service) отказал: \(detail)")
            ).with(["service": .string(service), "service_code": .string(code)])
        case .unreadable(let service):
            Problem(
                502, "unreadable_answer",
                .init("\(service) gave an answer nobody understands", "\(service) ответил непонятно"))
        }
    }
}

/// An answer that is here whole.
struct PeerAnswer: Sendable {
    let status: Int
    let json: JSONValue

    var code: String { json["code"]?.stringValue ?? "" }
    func text(_ name: String) -> String? { json[name]?.stringValue }
    func moment(_ name: String) -> Timestamp? { json[name]?.stringValue.flatMap { Timestamp($0) } }
}

/// One of our services, asked on behalf of users.
struct PeerService: Sendable {
    let peers: Peers
    let name: String

    /// The service's word whatever its status; throws `PeerError` where it has none. A 5xx that does not say
    /// what failed may have come after the work was done.
    func ask(
        _ method: Method, _ path: String, for user: Int64?, _ body: JSONValue? = nil,
        deadline: Duration = .seconds(10)
    ) async throws -> PeerAnswer {
        let response: ClientResponse
        do {
            response = try await peers.ask(
                name, method, path, onBehalfOf: user.map { .acting(for: $0) }, body: body, deadline: deadline)
        } catch let error as ClientError {
            throw PeerError.unavailable(service: name, mayHaveActed: !error.isSafeToRepeat)
        }
        let json: JSONValue
        do {
            json = try await response.json(limit: 8 << 20)
        } catch  where error is ClientError || error is BodyTooLarge {
            throw PeerError.unavailable(service: name, mayHaveActed: true)
        } catch  where !(error is CancellationError) {
            json = .null
        }
        let answer = PeerAnswer(status: response.status, json: json)
        if answer.status >= 500, answer.json["error"] == nil {
            throw PeerError.unavailable(service: name, mayHaveActed: true)
        }
        if answer.status == 429, answer.json["error"] == nil {
            throw PeerError.unavailable(service: name, mayHaveActed: false)
        }
        return answer
    }

    func refusal(_ answer: PeerAnswer) -> PeerError {
        .refused(
            service: name, status: answer.status, code: answer.code,
            detail: String((answer.text("detail") ?? "status \(answer.status)").prefix(500)))
    }

    func unreadable() -> PeerError { .unreadable(service: name) }
}

extension UserIdentity {
    /// A user in whose name a service works when the user is not there to ask.
    public static func acting(for user: Int64) -> UserIdentity {
        UserIdentity(id: user, email: "user-\(user)@localhost", tokenID: "")
    }
}
