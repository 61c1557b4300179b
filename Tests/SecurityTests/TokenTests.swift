import Core
import HTTP
import Testing

@testable import Security

private let noon = Timestamp(seconds: 1_756_036_800)
private let key = TokenKey(Secret([UInt8](repeating: 0x2A, count: 32)))
private let oldKey = TokenKey(Secret([UInt8](repeating: 0x17, count: 32)))
private let issuer = TokenIssuer(keys: TokenKeys(current: key), issuer: "convoke", audience: ["convoke"])
private let verifier = TokenVerifier(keys: TokenKeys(current: key), issuer: "convoke", audience: "convoke")
private let anna = TokenClaims.Subject.user(id: 7, email: "anna@example.org")

/// A token with any header and payload, signed rightly with `signer`.
private func forge(
    header: String? = nil, _ payload: String, signer: TokenKey = key
) -> String {
    let header = header.map { Array(Base64URL.encode(Array($0.utf8)).utf8) } ?? signer.header
    return signed(header: header, payload: Array(Base64URL.encode(Array(payload.utf8)).utf8), with: signer)
}

private let fine =
    #"{"iss":"convoke","aud":"convoke","sub":"anna@example.org","uid":7,"jti":"a","iat":1756036800,"exp":1756037700}"#

private func with(_ change: (String, String)) -> String {
    precondition(fine.contains(change.0))
    return fine.split(separator: change.0, omittingEmptySubsequences: false).joined(separator: change.1)
}

@Suite struct `A token` {
    @Test func `says of a user what was put into it`() throws {
        let (token, claims) = issuer.issue(
            to: anna, id: "t1", for: .minutes(15), now: noon + .milliseconds(900))
        let read = try verifier.verify(token, now: noon + .minutes(14))
        #expect(read == claims)
        #expect(read.subject == anna)
        #expect(read.id == "t1")
        #expect(read.userID == 7)
        #expect(read.identity == .user(UserIdentity(id: 7, email: "anna@example.org", tokenID: "t1")))
        #expect(read.expiresAt == noon + .minutes(15))
    }

    @Test(arguments: [nil, UserIdentity(id: 7, email: "anna@example.org", tokenID: "t1")])
    func `says of a service whom it acts for`(person: UserIdentity?) throws {
        let caller = TokenClaims.Subject.service(name: "gateway", onBehalfOf: person)
        let token = issuer.issue(to: caller, id: "t2", for: .seconds(30), now: noon).token
        let read = try verifier.verify(token, now: noon)
        #expect(read.subject == caller)
        #expect(read.serviceName == "gateway")
        #expect(read.userID == person?.id)
        #expect(read.identity == .service(name: "gateway", onBehalfOf: person))
    }

    /// RFC 7515, A.1: the one signature the standard shows for HS256.
    @Test func `has the signature that RFC 7515 shows`() throws {
        let secret = try #require(
            Base64URL.decode(
                "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"))
        let header = Array("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9".utf8)
        let payload = Array(
            "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
                .utf8)
        let example = TokenKey(Secret(secret))
        let token = signed(header: header, payload: payload, with: example)
        #expect(token.hasSuffix(".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"))
        // Its signature and header pass; its claims are not ours.
        let theirs = TokenVerifier(keys: TokenKeys(current: example), issuer: "joe")
        #expect(throws: TokenError.malformed) {
            try theirs.verify(token, now: Timestamp(seconds: 1_300_000_000))
        }
    }

    @Test func `made elsewhere with our key and any order of claims is read`() throws {
        let payload =
            #"{ "exp":1756037700, "iat":1756036800,"jti":"a","role":{"x":[1]},"uid":7,"sub":"anna@example.org","aud":["x","convoke"],"iss":"convoke" }"#
        for header in [
            #"{"alg":"HS256"}"#, #"{"typ":"jwt","alg":"HS256"}"#, #"{"kid":"\#(key.id)","alg":"HS256"}"#,
            #" { "alg" : "HS\u0032\u0035\u0036" } "#,
        ] {
            #expect(try verifier.verify(forge(header: header, payload), now: noon).userID == 7)
        }
    }

    // MARK: - Refusals

    static let headers: [(String, TokenError)] = [
        (#"{"alg":"none"}"#, .wrongAlgorithm), (#"{"alg":"None","typ":"JWT"}"#, .wrongAlgorithm),
        (#"{"alg":"nOnE"}"#, .wrongAlgorithm), (#"{"alg":""}"#, .wrongAlgorithm),
        (#"{"alg":"HS512"}"#, .wrongAlgorithm), (#"{"alg":"HS384"}"#, .wrongAlgorithm),
        (#"{"alg":"RS256"}"#, .wrongAlgorithm), (#"{"alg":"ES256"}"#, .wrongAlgorithm),
        (#"{"alg":"hs256"}"#, .wrongAlgorithm), (#"{"alg":"HS256 "}"#, .wrongAlgorithm),
        (#"{"alg":"HS256\u0000"}"#, .wrongAlgorithm), (#"{"alg":["HS256"]}"#, .wrongAlgorithm),
        (#"{"alg":null}"#, .wrongAlgorithm), (#"{"typ":"JWT"}"#, .wrongAlgorithm), ("{}", .wrongAlgorithm),
        (#"{"ALG":"HS256"}"#, .wrongAlgorithm), (#"{"alg":"none","alg":"HS256"}"#, .wrongAlgorithm),
        (#"{"alg":"HS256","alg":"none"}"#, .wrongAlgorithm),
        (#"{"alg":"HS256","alg":"HS256"}"#, .wrongAlgorithm),
        (#"{"alg":"HS256","typ":"JWE"}"#, .malformed), (#"{"alg":"HS256","typ":1}"#, .malformed),
        (#"{"alg":"HS256","crit":["exp"]}"#, .malformed), (#"{"alg":"HS256","zip":"DEF"}"#, .malformed),
        (#"{"alg":"HS256","jku":"https://example.org/keys"}"#, .malformed),
        (#"{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"}}"#, .malformed),
        (#"{"alg":"HS256","x5u":"https://example.org"}"#, .malformed),
        (#"{"alg":"HS256","kid":"another"}"#, .badSignature), (#"{"alg":"HS256","kid":7}"#, .badSignature),
        (#"{"alg":"HS256","kid":"../../dev/null"}"#, .badSignature),
        (#"{"alg":"HS256","kid":"a","kid":"b"}"#, .malformed),
        ("[]", .malformed), ("\"HS256\"", .malformed), ("", .malformed), ("{", .malformed),
        (#"{"alg":"HS256"} {}"#, .malformed), (#"{'alg':'HS256'}"#, .malformed),
    ]

    @Test(arguments: headers)
    func `is refused for its header although the signature is right`(header: String, error: TokenError) {
        let token = forge(header: header, fine)
        #expect(throws: error, "\(header)") { try verifier.verify(token, now: noon) }
    }

    @Test func `without a signature is refused whatever its header claims`() {
        for header in [#"{"alg":"none"}"#, #"{"alg":"HS256"}"#] {
            let parts = [header, fine].map { Base64URL.encode(Array($0.utf8)) }.joined(separator: ".")
            #expect(throws: TokenError.self) { try verifier.verify(parts, now: noon) }
            #expect(throws: TokenError.self) { try verifier.verify(parts + ".", now: noon) }
        }
    }

    static let payloads: [(String, TokenError)] = [
        (with(("1756037700", "1756036800")), .expired), (with(("1756037700", "0")), .expired),
        (with(("\"iat\":1756036800", "\"iat\":1756036806")), .notYetValid),
        (with(("\"jti\"", "\"nbf\":1756036806,\"jti\"")), .notYetValid),
        (with(("\"convoke\",\"aud\"", "\"other\",\"aud\"")), .wrongIssuer),
        (with(("\"convoke\",\"aud\"", "\"Convoke\",\"aud\"")), .wrongIssuer),
        (with(("\"aud\":\"convoke\"", "\"aud\":\"other\"")), .wrongAudience),
        (with(("\"aud\":\"convoke\",", "")), .wrongAudience),
        (with(("\"aud\":\"convoke\"", "\"aud\":[]")), .wrongAudience),
        (with(("\"aud\":\"convoke\"", "\"aud\":[1,\"convoke\"]")), .malformed),
        (with(("\"iss\":\"convoke\",", "")), .malformed), (with((",\"exp\":1756037700", "")), .malformed),
        (with((",\"iat\":1756036800", "")), .malformed), (with((",\"jti\":\"a\"", "")), .malformed),
        (with((",\"uid\":7", "")), .malformed), (with(("\"sub\":\"anna@example.org\",", "")), .malformed),
        (with(("\"anna@example.org\"", "\"\"")), .malformed),
        (with(("\"anna@example.org\"", "7")), .malformed),
        (with(("\"uid\":7", "\"uid\":\"7\"")), .malformed), (with(("\"uid\":7", "\"uid\":0")), .malformed),
        (with(("\"uid\":7", "\"uid\":-1")), .malformed), (with(("\"uid\":7", "\"uid\":7.0")), .malformed),
        (with(("\"uid\":7", "\"uid\":7,\"uid\":8")), .malformed),
        (with(("\"uid\":7", "\"uid\":7,\"service\":\"gateway\"")), .malformed),
        (with(("\"uid\":7", "\"uid\":7,\"on_behalf_of\":8")), .malformed),
        (with(("1756037700", "\"1756037700\"")), .malformed), (with(("1756037700", "1e300")), .malformed),
        (with(("1756037700", "9223372036854775807")), .malformed), (with(("1756037700", "-1")), .malformed),
        (with(("1756037700", "null")), .malformed), (with(("1756037700", "1756037700.5")), .malformed),
        ("{}", .malformed), ("[]", .malformed), ("null", .malformed), ("", .malformed),
        (fine + fine, .malformed), (String(fine.dropLast()), .malformed),
        (
            #"{"iss":"convoke","aud":"convoke","service":"","jti":"a","iat":1756036800,"exp":1756037700}"#,
            .malformed
        ),
    ]

    @Test(arguments: payloads)
    func `is refused for its claims although the signature is right`(payload: String, error: TokenError) {
        let token = forge(payload)
        #expect(throws: error, "\(payload)") { try verifier.verify(token, now: noon) }
    }

    @Test func `holds to the last millisecond and not one longer`() throws {
        let token = forge(fine)
        #expect(throws: Never.self) {
            try verifier.verify(token, now: Timestamp(milliseconds: 1_756_037_699_999))
        }
        #expect(throws: TokenError.expired) {
            try verifier.verify(token, now: Timestamp(milliseconds: 1_756_037_700_000))
        }
    }

    @Test func `of an issuer whose clock is a little ahead holds at once`() throws {
        let token = forge(fine)
        #expect(throws: Never.self) { try verifier.verify(token, now: noon - .seconds(5)) }
        #expect(throws: TokenError.notYetValid) {
            try verifier.verify(token, now: noon - .milliseconds(5001))
        }
    }

    @Test(arguments: [
        "", ".", "..", "...", "a", "a.b", "a.b.c", "a.b.c.d", "e30.e30", "e30.e30.e30.e30", " ",
        "Bearer x.y.z",
        "é.é.é", "\u{0}.\u{0}.\u{0}",
    ])
    func `with missing or surplus parts is malformed`(token: String) {
        #expect(throws: TokenError.self) { try verifier.verify(token, now: noon) }
    }

    @Test func `loses its validity with any part missing, swapped or repeated`() {
        let parts = forge(fine).split(separator: ".").map(String.init)
        let (header, payload, signature) = (parts[0], parts[1], parts[2])
        for wrong in [
            "\(header).\(payload)", "\(payload).\(signature)", "\(header)..\(signature)",
            ".\(payload).\(signature)",
            "\(header).\(payload).", "\(header).\(payload).\(signature).",
            "\(header).\(signature).\(payload)",
            "\(header).\(payload).\(signature)=", "\(header).\(payload).\(signature)A",
            "\(header).\(payload).\(signature.dropLast())", "\(header).\(payload) .\(signature)",
            " \(header).\(payload).\(signature)", "\(header).\(payload).\(signature)\n",
            "\(header).\(payload)=.\(signature)", "\(header).\(payload).\(header).\(signature)",
        ] {
            #expect(throws: TokenError.self, "\(wrong)") { try verifier.verify(wrong, now: noon) }
        }
    }

    @Test func `with a changed payload and the old signature is refused`() {
        let parts = forge(fine).split(separator: ".")
        let other = Base64URL.encode(Array(with(("\"uid\":7", "\"uid\":1")).utf8))
        #expect(throws: TokenError.badSignature) {
            try verifier.verify("\(parts[0]).\(other).\(parts[2])", now: noon)
        }
    }

    @Test func `that is huge is refused before anything is computed`() {
        let padding = String(repeating: "x", count: 5500)
        #expect(throws: Never.self) {
            try verifier.verify(
                forge(with(("\"jti\":\"a\"", "\"jti\":\"a\",\"pad\":\"\(padding)\""))), now: noon)
        }
        #expect(throws: TokenError.tooLarge) {
            try verifier.verify(forge(with(("\"jti\":\"a\"", "\"jti\":\"\(padding)\(padding)\""))), now: noon)
        }
        #expect(throws: TokenError.tooLarge) {
            try verifier.verify(String(repeating: ".", count: 1 << 20), now: noon)
        }
        // Nested as deep as fits: refused by the parser's own limit, long before the stack ends.
        let deep = String(repeating: "[", count: 3000)
        #expect(throws: TokenError.malformed) {
            try verifier.verify(forge(with(("\"uid\":7", "\"uid\":7,\"x\":\(deep)"))), now: noon)
        }
    }

    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func `never verifies with a bit flipped anywhere`(seed: UInt64) {
        let random = SeededRandom(seed: seed)
        let token = issuer.issue(
            to: .user(id: Int64(random.int(in: 1...1_000_000)), email: "a\(seed)@example.org"),
            id: Base64URL.encode(random.bytes(16)), for: .minutes(15), now: noon
        ).token.expose()
        let bytes = Array(token.utf8)
        for position in bytes.indices {
            var changed = bytes
            changed[position] ^= 1 << UInt8(random.int(in: 0...7))
            let text = String(decoding: changed, as: UTF8.self)
            #expect(throws: TokenError.self, "seed \(seed), byte \(position)") {
                try verifier.verify(text, now: noon)
            }
        }
    }

    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `of random bytes never verifies and never crashes`(seed: UInt64) {
        let random = SeededRandom(seed: seed)
        let alphabet = Array("abcXYZ019-_....={}\"".utf8)
        for _ in 0..<2000 {
            let bytes = random.bytes(random.int(in: 0...120))
            let isText = random.int(in: 0...1) == 0
            let text = String(
                decoding: isText ? bytes.map { alphabet[Int($0) % alphabet.count] } : bytes, as: UTF8.self)
            #expect(throws: TokenError.self) { try verifier.verify(text, now: noon) }
        }
    }
}

@Suite struct `Changing the token key` {
    private let before = TokenIssuer(keys: TokenKeys(current: oldKey), issuer: "convoke")

    @Test func `leaves tokens of the old key valid while it is kept, and no longer`() throws {
        let token = before.issue(to: anna, id: "t", for: .minutes(15), now: noon).token
        let during = TokenVerifier(keys: TokenKeys(current: key, previous: [oldKey]), issuer: "convoke")
        let after = TokenVerifier(keys: TokenKeys(current: key), issuer: "convoke")
        #expect(try during.verify(token, now: noon).subject == anna)
        #expect(throws: TokenError.badSignature) { try after.verify(token, now: noon) }
    }

    @Test func `does not let one key's tokens pass under the other's name`() throws {
        let during = TokenVerifier(keys: TokenKeys(current: key, previous: [oldKey]), issuer: "convoke")
        let token = signed(
            header: key.header, payload: Array(Base64URL.encode(Array(fine.utf8)).utf8), with: oldKey)
        #expect(throws: TokenError.badSignature) { try during.verify(token, now: noon) }
    }

    @Test func `gives every key its own name, the same in every process`() {
        #expect(key.id != oldKey.id)
        #expect(TokenKey(Secret([UInt8](repeating: 0x2A, count: 32))).id == key.id)
    }

    @Test func `refuses a key that is too short`() {
        #expect(TokenKey(text: Secret("short")) == nil)
        #expect(TokenKey(text: Secret(String(repeating: "k", count: 32))) != nil)
    }
}
