import Core
import HTTP
import ServiceKit
import Users

/// The public door to one's own account, under `/auth`.
struct AuthRoutes: Sendable {
    let signIn: SignIn
    let settings: UserServiceSettings
    let time: any TimeSource
    let counts: SignInMetrics
    let forgetAnswers: @Sendable (Int64) async throws -> Void

    /// Reached without signing in.
    static let publicPaths: Set<String> = ["/auth/register", "/auth/login", "/auth/refresh", "/auth/claim"]

    func register(on router: inout Router) {
        router.on("POST", "/auth/register", register)
        router.on("POST", "/auth/claim", claim)
        router.on("POST", "/auth/login", logIn)
        router.on("POST", "/auth/refresh", refresh)
        router.on("POST", "/auth/logout", logOut)
        router.on("GET", "/auth/me", me)
        router.on("PUT", "/auth/me", rename)
        router.on("DELETE", "/auth/me", delete)
        router.on("PUT", "/auth/password", changePassword)
        router.on("GET", "/auth/sessions", sessions)
        router.on("DELETE", "/auth/sessions/{id}", endSession)
    }

    func register(_ request: Request) async throws -> Response {
        guard settings.registration == .open else { throw UserError.registrationClosed }
        let form = try await request.decode(RegistrationForm.self)
        let user = try await signIn.register(form.registration)
        request.log.info("user.registered", ["user_id": .int(user.id)])
        return .json(user, status: 201)
    }

    func claim(_ request: Request) async throws -> Response {
        let form = try await request.decode(ClaimForm.self)
        let user = try await signIn.claim(Secret(form.token), form.registration)
        request.log.info("user.claimed", ["user_id": .int(user.id)])
        return .json(user, status: 201)
    }

    func logIn(_ request: Request) async throws -> Response {
        let form = try await LoginForm(request)
        do {
            let grant = try await signIn.logIn(form.login, Secret(form.password), from: origin(request))
            counts.logins["success"].increment()
            return answer(grant)
        } catch let error as UserError {
            counts.logins["refused"].increment()
            throw timed(error)
        }
    }

    func refresh(_ request: Request) async throws -> Response {
        let form = try await request.decode(RefreshForm.self)
        return answer(try await signIn.refresh(Secret(form.token)))
    }

    func logOut(_ request: Request) async throws -> Response {
        let (user, session) = try currentSession(request)
        try await signIn.logOut(session: session, of: user)
        return .noContent
    }

    func me(_ request: Request) async throws -> Response {
        guard let user = try await signIn.store.user(id: request.requireUser()) else {
            throw UserError.unknownUser
        }
        return .json(user)
    }

    func rename(_ request: Request) async throws -> Response {
        let id = try request.requireUser()
        let form = try await request.decode(ProfileForm.self)
        return .json(try await signIn.rename(id, to: form.username))
    }

    func delete(_ request: Request) async throws -> Response {
        let id = try request.requireUser()
        try await forgetAnswers(id)
        try await signIn.delete(id)
        request.log.info("user.deleted", ["user_id": .int(id)])
        return .noContent
    }

    func changePassword(_ request: Request) async throws -> Response {
        let id = try request.requireUser()
        let form = try await request.decode(PasswordForm.self)
        do {
            try await signIn.changePassword(
                of: id, from: Secret(form.current), to: Secret(form.new), origin(request))
        } catch let error as UserError {
            throw timed(error)
        }
        request.log.info("user.password-changed", ["user_id": .int(id)])
        return .noContent
    }

    func sessions(_ request: Request) async throws -> Response {
        let id = try request.requireUser()
        let current = request.tokenID.map { Tokens.session(of: $0) }
        let page = try PageRequest(request.query)
        let now = time.now
        let sessions = try await signIn.store.sessions(of: id, at: now, limit: page.size, offset: page.offset)
        let total = try await signIn.store.sessionCount(of: id, at: now)
        return .json(Page(sessions.map { $0.json(isCurrent: $0.id == current) }, total: total, page))
    }

    func endSession(_ request: Request) async throws -> Response {
        try await signIn.end(session: request.parameter("id"), of: request.requireUser())
        return .noContent
    }

    private func currentSession(_ request: Request) throws -> (user: Int64, session: String) {
        guard let token = request.tokenID else { throw Problem.unauthorized }
        return (try request.requireUser(), Tokens.session(of: token))
    }

    /// With `Retry-After`, which is counted from now.
    private func timed(_ error: UserError) -> any Error {
        guard case .tooManyFailures(let until) = error else { return error }
        return error.problem.with(header: "Retry-After", String(max(1, (until - time.now).wholeSecondsUp)))
    }

    private func origin(_ request: Request) -> SignIn.Origin {
        SignIn.Origin(address: request.clientAddress, device: request.headers["user-agent"] ?? "")
    }

    private func answer(_ grant: Grant) -> Response {
        var response = Response.json(
            [
                "access_token": .string(grant.accessToken.expose()),
                "refresh_token": .string(grant.refreshToken.expose()), "token_type": "bearer",
                "expires_in": JSONValue(grant.lifetime.wholeSecondsUp),
            ] as JSONValue)
        response.headers["Cache-Control"] = "no-store"
        return response
    }
}

struct SignInMetrics: Sendable {
    let logins: Labeled<Counter>

    init(_ metrics: Metrics) {
        logins = metrics.counters("logins_total", "Sign-ins tried", labels: ["outcome"])
    }
}

/// What other services ask about users.
struct InternalUserRoutes: Sendable {
    let store: UserStore
    let time: any TimeSource

    func register(on router: inout Router) {
        router.on("GET", "/internal/users/by-email") { request in
            _ = try request.requireService()
            guard let email = request.query["email"].flatMap(EmailAddress.init) else {
                throw UserError.invalidEmail
            }
            guard let user = try await store.user(email: email) else { throw UserError.unknownUser }
            return .json(["id": .int(user.id), "email": .string(user.email)] as JSONValue)
        }
        router.on("GET", "/internal/ended-sessions/{id}") { request in
            _ = try request.requireService()
            let hasEnded = try await store.hasEnded(session: request.parameter("id"))
            return .json(["ended": .bool(hasEnded)] as JSONValue)
        }
    }
}
