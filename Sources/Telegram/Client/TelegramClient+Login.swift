public import Core

// Signing in. Each step returns the state it led to; a refused step leaves the state as it was.
extension TelegramClient {
    /// Asks for a link to be shown as a QR code. Telegram replaces it by itself: follow `updates()`.
    @discardableResult
    public func requestQRCode() async throws -> AuthorizationState { try await step(.requestQRCode) }

    /// `phone` in the international form.
    @discardableResult
    public func submit(phone: String) async throws -> AuthorizationState {
        try await step(.setPhoneNumber(phone))
    }

    @discardableResult
    public func submit(code: Secret<String>) async throws -> AuthorizationState {
        try await step(.checkCode(code.expose()))
    }

    @discardableResult
    public func resendCode() async throws -> AuthorizationState { try await step(.resendCode) }

    @discardableResult
    public func submit(password: Secret<String>) async throws -> AuthorizationState {
        try await step(.checkPassword(password.expose()))
    }

    @discardableResult
    public func submit(emailAddress: String) async throws -> AuthorizationState {
        try await step(.setEmailAddress(emailAddress))
    }

    @discardableResult
    public func submit(emailCode: Secret<String>) async throws -> AuthorizationState {
        try await step(.checkEmailCode(emailCode.expose()))
    }

    /// TDLib sends the new state before it answers, so the state is the step's own when the answer is here.
    private func step(_ request: TelegramRequest) async throws -> AuthorizationState {
        _ = try await ask(request)
        return authorization
    }

    /// Ends the session at Telegram, wipes it here, and closes the client. Also the way out of a login that
    /// was begun.
    public func logOut() async { await end(.logOut) }

    /// Closes the client in order; the session stays and can be opened again.
    public func close() async { await end(.close) }

    /// Closes the client and deletes its local data without telling Telegram: for a session that is lost.
    public func destroy() async { await end(.destroy) }

    /// Stops or resumes all traffic of this account.
    public func setNetwork(isOn: Bool) { tell(.setNetworkType(isOn: isOn)) }

    /// The account itself.
    public func me() async throws -> Person { Person(try await ask(.getMe)) }
}
