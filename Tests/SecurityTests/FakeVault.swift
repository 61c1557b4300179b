import Core
import Security
import Synchronization

/// A Vault in memory: AppRole, tokens that end, KV version 2, and the ways in which it may fail.
final class FakeVault: VaultTransport {
    struct State {
        var roleSecret = "role-secret"
        var fields: [String: String]? = [:]
        var lifetime: Int64 = 60
        var isRenewable = true
        /// No renewal moves a token's end past this age.
        var longest: Int64 = 3600
        var isDown = false
        var isSealed = false
        /// Token and the moments (of uptime) it was made and ends.
        var tokens: [String: (made: Duration, end: Duration)] = [:]
        var asked: [String] = []
    }

    let state: Mutex<State>
    private let time: ManualTime

    init(_ time: ManualTime, fields: [String: String]? = [:]) {
        self.time = time
        var state = State()
        state.fields = fields
        self.state = Mutex(state)
    }

    func change(_ body: (inout sending State) -> Void) { state.withLock { body(&$0) } }
    var asked: [String] { state.withLock { $0.asked } }
    var logins: Int { asked.count { $0.hasSuffix("/login") } }
    var renewals: Int { asked.count { $0.hasSuffix("/renew-self") } }

    struct NoAnswer: Error {}

    func send(_ request: VaultRequest) async throws -> VaultResponse {
        let now = time.uptime
        return try state.withLock { state in
            state.asked.append(request.path)
            if state.isDown { throw NoAnswer() }
            if state.isSealed { return VaultResponse(status: 503, body: ["errors": ["Vault is sealed"]]) }
            if request.path == "/v1/auth/approle/login" {
                let body = request.body?.expose()
                guard body?["secret_id"]?.stringValue == state.roleSecret else {
                    return VaultResponse(status: 400, body: ["errors": ["invalid role or secret ID"]])
                }
                let token = "token-\(state.asked.count)"
                state.tokens[token] = (now, now + .seconds(state.lifetime))
                return VaultResponse(status: 200, body: Self.auth(token, state.lifetime, state.isRenewable))
            }
            guard let token = request.token?.expose(), let life = state.tokens[token], now < life.end else {
                return VaultResponse(status: 403, body: ["errors": ["permission denied"]])
            }
            switch request.path {
            case "/v1/auth/token/renew-self":
                let end = min(now + .seconds(state.lifetime), life.made + .seconds(state.longest))
                state.tokens[token] = (life.made, end)
                return VaultResponse(
                    status: 200, body: Self.auth(token, (end - now).components.seconds, true))
            case "/v1/auth/token/lookup-self":
                let data: JSONValue = [
                    "ttl": .int((life.end - now).components.seconds), "renewable": .bool(state.isRenewable),
                ]
                return VaultResponse(status: 200, body: ["data": data])
            case "/v1/secret/data/convoke":
                guard let fields = state.fields else {
                    return VaultResponse(status: 404, body: ["errors": []])
                }
                let data = fields.map { JSONMember($0.key, .string($0.value)) }
                return VaultResponse(status: 200, body: ["data": ["data": .object(data)]])
            default:
                return VaultResponse(status: 404, body: ["errors": []])
            }
        }
    }

    private static func auth(_ token: String, _ seconds: Int64, _ isRenewable: Bool) -> JSONValue {
        let auth: JSONValue = [
            "client_token": .string(token), "lease_duration": .int(seconds), "renewable": .bool(isRenewable),
        ]
        return ["auth": auth]
    }
}
