public import Broker
public import Cache
import Core
public import HTTP
public import Security
public import Storage

// What a client may see of a driver's trouble. Servers that are away are 503 and worth another try; what is a
// bug of ours stays a 500 and goes to the log. The words of the servers never leave the log.

extension StorageError: ProblemConvertible {
    public var problem: Problem {
        switch self {
        case .unavailable, .poolExhausted, .timedOut, .contended: .tryAgain
        // Two callers were at it at once, or what this one built on has just been deleted.
        case .uniqueViolation, .foreignKeyViolation:
            Problem(
                409, "conflict",
                .init(
                    "Somebody has changed this at the same time; look and try again",
                    "Это только что изменил кто-то другой; проверьте и повторите"))
        case .unsupportedValue:
            Problem(
                422, "unsupported_value",
                .init(
                    "A text holds a character that cannot be stored",
                    "В тексте есть символ, который нельзя сохранить"))
        case .checkViolation, .notNullViolation, .statement, .unexpectedColumn, .migration: .internalError
        }
    }
}

extension CacheError: ProblemConvertible {
    public var problem: Problem {
        switch self {
        case .unavailable, .denied, .full: .tryAgain
        case .wrongType, .notAnInteger, .tooLarge, .command, .unexpectedReply: .internalError
        }
    }
}

extension BrokerError: ProblemConvertible {
    public var problem: Problem {
        switch self {
        case .unavailable, .timedOut, .refused, .closed: .tryAgain
        case .unroutable, .declaration, .invalid: .internalError
        }
    }
}

extension PasswordError: ProblemConvertible {
    public var problem: Problem {
        switch self {
        case .busy, .outOfMemory: .tryAgain
        case .tooLong:
            Problem(
                422, "password_too_long", .init("The password is too long", "Пароль слишком длинный"))
        case .malformedHash: .internalError
        }
    }
}

extension Problem {
    static let tryAgain = Problem.unavailable(
        .init(
            "Something this service needs does not answer; try again shortly",
            "Не отвечает то, что нужно этой службе; повторите чуть позже")
    ).with(header: "Retry-After", "2")
}
