import Core
import HTTP
import Integration
import QRCode
import Security
import ServiceKit
import Storage
import Telegram

/// Connecting an account: by code, or by QR code.
struct LoginRoutes: Sendable {
    let desk: LoginDesk
    let journal: Journal

    func register(on router: inout Router) {
        router.on("POST", "/api/v1/telegram/connect", connect)
        router.on("POST", "/api/v1/telegram/verify", verify)
        router.on("POST", "/api/v1/telegram/resend-code", resend)
        router.on("GET", "/api/v1/telegram/qr-code", qrCode)
        router.on("POST", "/api/v1/telegram/qr-check", qrCheck)
    }

    // MARK: - By code

    func connect(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let form = try await request.decode(ConnectForm.self)
        let login = try await journal.noting(.connect, Journal.Subject(request)) {
            try await desk.beginCode(user: user, phone: form.phone)
        }
        return codeSent(login)
    }

    func resend(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let form = try await request.decode(ResendForm.self)
        let login = try await journal.noting(.resendCode, Journal.Subject(request)) {
            let found = try await find(form.login, user)
            guard found.login.stage == .code else { throw wrongStage(found) }
            return try await desk.resend(found.login.id, user: user)
        }
        return codeSent(login)
    }

    private func codeSent(_ known: LoginDesk.Live) -> Response {
        // Telegram may ask for the password at once, where the code was confirmed elsewhere.
        guard known.login.stage == .code, let code = known.code else { return .json(status(known)) }
        return .json(
            [
                "status": "code_sent", "connection_id": known.login.id.json,
                "code_type": .string(code.way.rawValue),
                "code_length": .int(Int64(code.length)), "next_code_type": JSONValue(code.nextWay?.rawValue),
                "timeout": .int(code.resendAfter.wholeSecondsUp), "expires_at": known.login.expiresAt.json,
            ] as JSONValue)
    }

    func verify(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let form = try await request.decode(VerifyForm.self)
        return try await journal.noting(.verify, Journal.Subject(request)) {
            let found = try await find(form.login, user)
            guard [.code, .password].contains(found.login.stage) else {
                if found.login.stage == .done { return try await success(found) }
                throw wrongStage(found)
            }
            do {
                let known = try await desk.submit(
                    found.login.id, user: user, code: form.code.map { Secret($0) },
                    password: form.password.map { Secret($0) })
                return try await answer(known)
            } catch let failure as LoginFailure where failure == .passwordWrong {
                let known = try await desk.find(found.login.id, user: user)
                return .json(status(known, failure, request.language))
            }
        }
    }

    // MARK: - By QR code

    func qrCode(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let known = try await journal.noting(.qrCode, Journal.Subject(request)) {
            try await desk.beginQR(user: user)
        }
        guard let link = known.link else { throw LoginFailure.unreachable }
        let code = try image(of: link)
        var response = Response.json(
            [
                "connection_id": known.login.id.json, "qr_link": .string(link), "qr_svg": .string(code.svg),
                "qr_png_base64": .string(Base64.encode(code.png())), "expires_at": known.login.expiresAt.json,
            ] as JSONValue)
        // Whoever has the link can make the account theirs.
        response.headers["Cache-Control"] = "no-store"
        return response
    }

    /// Asked again and again by a page that shows the code. A wrong password is an answer like any other: the
    /// login goes on.
    func qrCheck(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let form =
            request.body.length == 0
            ? try Fields.decode(QRCheckForm.self, from: [:]) : try await request.decode(QRCheckForm.self)
        let found: LoginDesk.Live
        if let id = form.id {
            found = try await desk.find(id, user: user)
        } else {
            found = try await desk.newest(.qr, user: user)
        }
        guard let password = form.password, found.login.stage == .password else {
            return try await checked(found, request.language)
        }
        return try await journal.noting(.qrCheck, Journal.Subject(request)) {
            do {
                let known = try await desk.submit(found.login.id, user: user, password: Secret(password))
                return try await checked(known, request.language)
            } catch let failure as LoginFailure {
                let known = try await desk.find(found.login.id, user: user)
                return .json(status(known, failure, request.language))
            }
        }
    }

    private func checked(_ known: LoginDesk.Live, _ language: Language) async throws -> Response {
        if known.login.stage == .done { return try await success(known) }
        var answer = status(known, known.login.failure, language).objectValue ?? []
        if known.login.stage == .scan, let link = known.link {
            answer.append(JSONMember("qr_link", .string(link)))
            answer.append(JSONMember("qr_svg", .string(try image(of: link).svg)))
        }
        var response = Response.json(JSONValue.object(answer))
        response.headers["Cache-Control"] = "no-store"
        return response
    }

    // MARK: - Answers

    private func find(_ login: LoginReference, _ user: Int64) async throws -> LoginDesk.Live {
        if let id = login.id { return try await desk.find(id, user: user) }
        return try await desk.newest(.code, phone: login.phone, user: user)
    }

    private func answer(_ known: LoginDesk.Live) async throws -> Response {
        known.login.stage == .done ? try await success(known) : .json(status(known))
    }

    private func success(_ known: LoginDesk.Live) async throws -> Response {
        guard let account = try await desk.account(of: known.login) else {
            throw IntegrationError.unknownAccount
        }
        return .json(
            ["status": "success", "connection_id": known.login.id.json, "account": account.json] as JSONValue)
    }

    private func status(
        _ known: LoginDesk.Live, _ failure: LoginFailure? = nil, _ language: Language = .english
    ) -> JSONValue {
        var seconds: Int64?
        if case .floodWait(let wait)? = failure { seconds = wait }
        return .object(present: [
            "status": .string(known.login.status.description), "connection_id": known.login.id.json,
            "expires_at": known.login.expiresAt.json,
            "password_hint": known.login.stage == .password ? .string(known.passwordHint) : nil,
            "error": failure.map { .string($0.code) },
            "message": failure.map { .string($0.explanation(language)) },
            "retry_after": seconds.map { .int($0) },
        ])
    }

    private func wrongStage(_ known: LoginDesk.Live) -> any Error {
        if known.login.stage == .expired {
            return Problem(
                409, "login_expired",
                .init(
                    "This connection was not finished in time; start again",
                    "Подключение не завершено вовремя; начните заново"))
        }
        if let failure = known.login.failure { return failure }
        return Problem(
            409, "login_not_waiting",
            .init("This connection does not wait for a code", "Это подключение не ожидает кода"))
    }

    private func image(of link: String) throws -> QRCode {
        do { return try QRCode(link) } catch { throw LoginFailure.other("no QR code can be drawn") }
    }
}
