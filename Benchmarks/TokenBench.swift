import CSodium
import Core
import HTTP
import Security

extension Benchmark {
    static let jwt = Benchmark(
        name: "jwt", summary: "checking a user's token, beside the bare HMAC of its bytes"
    ) { report in
        let key = TokenKey(Secret([UInt8](repeating: 0x2A, count: 32)))
        let keys = TokenKeys(current: key)
        let issuer = TokenIssuer(keys: keys, issuer: "convoke")
        let verifier = TokenVerifier(keys: keys, issuer: "convoke")
        let now = SystemTime().now
        let token = issuer.issue(
            to: .user(id: 123_456, email: "someone.else@example.org"),
            id: "6f1c1a52-3b0e-4f5a-9d2c-0123456789ab", for: .minutes(15), now: now
        ).token.expose()
        let signed = Array(token.utf8.prefix(token.utf8.count - 44))
        let hmac = BareHMAC(key: [UInt8](repeating: 0x2A, count: 32))
        let person = UserIdentity(id: 123_456, email: "someone.else@example.org", tokenID: "6f1c1a52")
        await report.note("a token of \(token.utf8.count) bytes, one thread")
        try await report.ratio(
            "verify", unit: "tokens/s",
            ours: { perSecond { (try? verifier.verify(token, now: now)) != nil } },
            limit: { perSecond { hmac.code(of: signed) != 0 } },
            limitName: "libsodium's HMAC-SHA256 alone")
        try await report.ratio(
            "make a service's token", unit: "tokens/s",
            ours: {
                perSecond {
                    issuer.issue(
                        to: .service(name: "gateway", onBehalfOf: person), id: "a", for: .seconds(30),
                        now: now
                    ).claims.id == "a"
                }
            },
            limit: { perSecond { hmac.code(of: signed) != 0 } },
            limitName: "libsodium's HMAC-SHA256 alone")
    }
}

/// What libsodium needs at the least: one code, written to the same place every time.
private struct BareHMAC {
    let key: [UInt8]

    func code(of message: [UInt8]) -> UInt8 {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 32) { code in
            guard let place = code.baseAddress else { return 0 }
            crypto_auth_hmacsha256(place, message, UInt64(message.count), key)
            return code[0] | 1
        }
    }
}

/// How often a second `work` succeeds.
private func perSecond(_ work: () -> Bool) -> Double {
    let time = SystemTime()
    let start = time.uptime
    var passed = Duration.zero
    var count = 0
    while passed < .milliseconds(200) {
        for _ in 0..<100 where work() { count += 1 }
        passed = time.uptime - start
    }
    return Double(count) / passed.inSeconds
}
