import Core
public import HTTP
public import Users

extension UserError: ProblemConvertible {
    public var problem: Problem {
        switch self {
        case .invalidEmail:
            invalid(
                "email", "invalid_email",
                .init("This is not an e-mail address", "Это не адрес электронной почты"))
        case .invalidUsername:
            invalid(
                "username", "invalid_username",
                .init(
                    "3 to 32 Latin letters, digits, dots, dashes or underscores are expected",
                    "Ожидается от 3 до 32 латинских букв, цифр, точек, дефисов или подчёркиваний"))
        case .weakPassword(let weakness): invalid("password", "weak_password", sentence(weakness))
        case .weakNewPassword(let weakness): invalid("new_password", "weak_password", sentence(weakness))
        case .emailTaken:
            Problem(
                409, "email_taken",
                .init("This address is registered already", "Этот адрес уже зарегистрирован"))
        case .usernameTaken:
            Problem(409, "username_taken", .init("This name is taken", "Это имя уже занято"))
        case .wrongCredentials:
            Problem(
                401, "wrong_credentials",
                .init("The address, name or password is wrong", "Неверный адрес, имя или пароль")
            ).with(header: "WWW-Authenticate", "Bearer")
        case .wrongPassword:
            invalid(
                "current_password", "wrong_password",
                .init("The current password is wrong", "Текущий пароль неверен"))
        case .tooManyFailures(let until):
            Problem(
                429, "too_many_failures",
                .init(
                    "Too many wrong passwords; try again after \(until)",
                    "Слишком много неверных паролей; повторите после \(until)")
            ).with(["retry_at": until.json])
        case .invalidRefreshToken:
            Problem(
                401, "invalid_refresh_token",
                .init("This session is over; sign in again", "Сеанс завершён; войдите снова")
            ).with(header: "WWW-Authenticate", "Bearer")
        case .registrationClosed:
            Problem(
                403, "registration_closed",
                .init("Registration is closed here", "Регистрация здесь закрыта"))
        case .invalidClaim:
            Problem(
                404, "invalid_claim",
                .init(
                    "This link is used up or replaced by a newer one",
                    "Ссылка уже использована или заменена новой"))
        case .unknownSession, .unknownUser: Problem.notFound
        }
    }

    private func invalid(_ field: String, _ code: String, _ message: LocalizedText) -> Problem {
        var problem = Problem(422, code, message)
        problem.errors = [FieldError(field, code, message)]
        return problem
    }

    private func sentence(_ weakness: PasswordPolicy.Weakness) -> LocalizedText {
        switch weakness {
        case .tooShort:
            .init(
                "A password has at least \(PasswordPolicy.shortest) characters",
                "В пароле не меньше \(PasswordPolicy.shortest) символов")
        case .tooLong:
            .init(
                "A password has at most \(PasswordPolicy.longest) characters",
                "В пароле не больше \(PasswordPolicy.longest) символов")
        case .common:
            .init("This password is one of the first to be guessed", "Этот пароль угадывают одним из первых")
        case .containsName:
            .init("The password is little more than your name", "Пароль почти совпадает с вашим именем")
        case .repetitive: .init("The password is a simple sequence", "Пароль — простая последовательность")
        }
    }
}

extension Problem {
    /// The cache, through which every replica hears at once, was away; SQL knows, and the cache is told again
    /// within seconds.
    static let notEverywhereYet = Problem(
        503, "not_everywhere_yet",
        .init(
            "It is done, but some servers may honour the old sign-ins for up to half a minute",
            "Готово, но часть серверов может ещё полминуты принимать прежние входы")
    ).with(header: "Retry-After", "30")
}
