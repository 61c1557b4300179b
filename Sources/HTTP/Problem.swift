public import Core

/// A refusal or failure as a client sees it: RFC 9457 problem details.
public struct Problem: Error, Sendable, Equatable {
    public var status: Int
    /// One word for a program; it never changes.
    public var code: String
    /// One sentence for a person.
    public var detail: LocalizedText
    public var errors: [FieldError] = []
    public var headers: Headers = [:]
    /// Further members, such as `retry_at`. One that has the name of a problem's own is not shown.
    public var members: [JSONMember] = []

    public init(_ status: Int, _ code: String, _ detail: LocalizedText) {
        self.status = status
        self.code = code
        self.detail = detail
    }

    public func with(header name: String, _ value: String) -> Problem {
        var problem = self
        problem.headers[name] = value
        return problem
    }

    public func with(_ members: KeyValuePairs<String, JSONValue>) -> Problem {
        var problem = self
        problem.members += members.map { JSONMember($0, $1) }
        return problem
    }

    public func response(requestID: String, language: Language) -> Response {
        var object: [JSONMember] = [
            JSONMember("type", .string("urn:convoke:problem:\(code)")),
            JSONMember("title", .string(reasonPhrase(status))),
            JSONMember("status", .int(Int64(status))),
            JSONMember("detail", .string(detail(language))),
            JSONMember("code", .string(code)),
            JSONMember("request_id", .string(requestID)),
        ]
        if !errors.isEmpty {
            object.append(
                JSONMember(
                    "errors",
                    .array(
                        errors.map {
                            [
                                "field": .string($0.field), "code": .string($0.code),
                                "message": .string($0.message(language)),
                            ]
                        })))
        }
        for member in members where !object.contains(where: { $0.name == member.name }) {
            object.append(member)
        }
        var headers = headers
        headers["Content-Type"] = "application/problem+json"
        headers["Content-Language"] = language.rawValue
        return Response(status, headers: headers, content: .bytes(JSONValue.object(object).bytes))
    }
}

/// An error of a domain that knows what a client may see of it. Its switch has no `default`, so a new case
/// does not build until someone decides.
public protocol ProblemConvertible: Error {
    var problem: Problem { get }
}

extension Problem: ProblemConvertible { public var problem: Problem { self } }

extension Problem {
    public static let notFound = Problem(404, "not_found", .init("There is nothing here", "Здесь ничего нет"))
    public static let badPath = Problem(
        400, "bad_path", .init("The address is not written correctly", "Адрес записан неверно"))
    public static let badQuery = Problem(
        400, "bad_query",
        .init(
            "What stands behind the question mark is not written correctly",
            "То, что стоит после вопросительного знака, записано неверно"))
    public static let unauthorized = Problem(
        401, "unauthorized", .init("Sign in first", "Сначала войдите")
    ).with(header: "WWW-Authenticate", "Bearer")
    public static let forbidden = Problem(403, "forbidden", .init("This is not allowed", "Это не разрешено"))
    public static let internalError = Problem(
        500, "internal",
        .init("Something went wrong here; it has been noted", "Внутренняя ошибка; она записана"))
    public static let deadline = Problem(
        504, "too_slow", .init("The answer took too long", "Ответ занял слишком много времени"))

    public static func methodNotAllowed(_ allowed: [Method]) -> Problem {
        Problem(
            405, "method_not_allowed",
            .init("This method is not possible here", "Этот метод здесь невозможен")
        )
        .with(header: "Allow", allowed.map(\.rawValue).sorted().joined(separator: ", "))
    }

    public static func bodyTooLarge(_ limit: Int) -> Problem {
        Problem(
            413, "body_too_large",
            .init("The body may have \(limit) bytes at most", "Тело запроса не может превышать \(limit) байт")
        ).with(["limit_bytes": .int(Int64(limit))])
    }

    public static func wrongContentType(_ expected: String) -> Problem {
        Problem(
            415, "wrong_content_type",
            .init("The body must be sent as \(expected)", "Тело запроса должно быть типа \(expected)"))
    }

    public static func unavailable(_ what: LocalizedText) -> Problem { Problem(503, "unavailable", what) }

    public static func tooFast(retryAfter: Duration) -> Problem {
        let seconds = max(retryAfter.wholeSecondsUp, 1)
        return Problem(
            429, "too_fast",
            .init(
                "Too many requests; try again in \(seconds) s",
                "Слишком много запросов; повторите через \(seconds) с")
        ).with(header: "Retry-After", String(seconds))
    }

    /// What any error means to a client; `nil` for one that nobody foresaw.
    public static func describing(_ error: any Error) -> Problem? {
        switch error {
        case let error as any ProblemConvertible: return error.problem
        case let error as ValidationError:
            var problem = Problem(
                422, "validation_failed",
                .init("Some fields are missing or wrong", "Некоторые поля не заполнены или неверны"))
            problem.errors = error.errors
            return problem
        case let error as JSONSyntaxError:
            return Problem(
                400, "malformed_json",
                .init(
                    "The body is not valid JSON: \(error)",
                    "Тело запроса не является корректным JSON: \(error)"))
        case let error as BodyTooLarge: return .bodyTooLarge(error.limit)
        case is DeadlineExceeded: return .deadline
        default: return nil
        }
    }
}

public func reasonPhrase(_ status: Int) -> String {
    switch status {
    case 400: "Bad Request"
    case 401: "Unauthorized"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 408: "Request Timeout"
    case 409: "Conflict"
    case 410: "Gone"
    case 412: "Precondition Failed"
    case 413: "Content Too Large"
    case 415: "Unsupported Media Type"
    case 416: "Range Not Satisfiable"
    case 422: "Unprocessable Content"
    case 428: "Precondition Required"
    case 429: "Too Many Requests"
    case 431: "Request Header Fields Too Large"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 502: "Bad Gateway"
    case 503: "Service Unavailable"
    case 504: "Gateway Timeout"
    default: status < 400 ? "OK" : status < 500 ? "Client Error" : "Server Error"
    }
}
