public import Accounts
import Core
public import HTTP

extension AccountStoreError: ProblemConvertible {
    public var problem: Problem {
        switch self {
        case .unknownAccount:
            Problem(404, "account_not_found", .init("There is no such account", "Такого аккаунта нет"))
        }
    }
}

extension LeaseError: ProblemConvertible {
    public var problem: Problem {
        switch self {
        case .notHeld: Problem(409, "lease_not_held", text)
        case .leased(let until): Problem(409, "account_leased", text).with(["retry_at": until.json])
        case .durationOutOfRange: Problem(422, "duration_out_of_range", text)
        }
    }
}

extension NoAccountAvailable: ProblemConvertible {
    public var problem: Problem {
        Problem(409, "no_account_available", text).with([
            "reasons": .object(
                RefusalReason.allCases.filter { counts[$0, default: 0] > 0 }
                    .map { JSONMember($0.rawValue, JSONValue(counts[$0])) }),
            "retry_at": JSONValue(retryAt),
        ])
    }
}

extension LimitsError: ProblemConvertible {
    public var problem: Problem {
        var problem = Problem(
            422, "above_ceiling",
            .init(
                "Limits can only be tightened: \(text.english)",
                "Лимиты можно только ужесточить: \(text.russian)"))
        problem.errors = violations.map { FieldError("limits.\($0.setting.name)", "out_of_range", $0.text) }
        return problem
    }
}
