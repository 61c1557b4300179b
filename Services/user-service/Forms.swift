import Core
import HTTP
import Users

struct RegistrationForm: JSONDecodable {
    let registration: SignIn.Registration

    init(from fields: inout Fields) {
        registration = readRegistration(&fields)
    }
}

/// The domain judges the texts; it is asked at once for each that is there, so that a person hears of a weak
/// password together with the missing address.
private func readRegistration(_ fields: inout Fields) -> SignIn.Registration {
    let registration = SignIn.Registration(
        email: fields.string("email", length: 1...1000),
        username: fields.optionalString("username", length: 1...100),
        password: Secret(fields.string("password", length: 1...1000)))
    let wrong = Set(fields.errors.map(\.field))
    for error in registration.mistakes.flatMap(\.problem.errors) where !wrong.contains(error.field) {
        fields.fail(error.field, error.code, error.message)
    }
    return registration
}

struct ClaimForm: JSONDecodable {
    let token: String
    let registration: SignIn.Registration

    init(from fields: inout Fields) {
        token = fields.string("token", length: 1...200)
        registration = readRegistration(&fields)
    }
}

struct RefreshForm: JSONDecodable {
    let token: String

    init(from fields: inout Fields) { token = fields.string("refresh_token", length: 1...1000) }
}

struct ProfileForm: JSONDecodable {
    let username: String?

    init(from fields: inout Fields) { username = fields.optionalString("username", length: 1...100) }
}

struct PasswordForm: JSONDecodable {
    let current: String
    let new: String

    init(from fields: inout Fields) {
        current = fields.string("current_password", length: 1...1000)
        new = fields.string("new_password", length: 1...1000)
    }
}

/// Sign-in data as JSON, or as the form that OAuth 2 clients send (`username`, `password`).
struct LoginForm: JSONDecodable {
    let login: String
    let password: String

    init(from fields: inout Fields) {
        let email = fields.optionalString("email", length: 1...1000)
        let username = fields.optionalString("username", length: 1...1000)
        if email == nil, username == nil, fields.errors.isEmpty {
            fields.fail(
                "email", "missing",
                .init("An e-mail address or a username is required", "Нужен адрес почты или имя пользователя")
            )
        }
        login = email ?? username ?? ""
        password = fields.string("password", length: 1...1000)
    }

    init(_ request: Request) async throws {
        guard MediaType(request.headers["content-type"] ?? "").essence == "application/x-www-form-urlencoded"
        else {
            self = try await request.decode(LoginForm.self, limit: 16 << 10)
            return
        }
        let form = Query(String(decoding: try await request.body.collect(upTo: 16 << 10), as: UTF8.self))
        self = try Fields.decode(
            from: .object(present: [
                "email": form["email"].map(JSONValue.string),
                "username": form["username"].map(JSONValue.string),
                "password": form["password"].map(JSONValue.string),
            ]))
    }
}
