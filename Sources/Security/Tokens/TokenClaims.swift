public import Core
public import HTTP

/// What a verified token says: who calls, and from when to when that holds.
public struct TokenClaims: Equatable, Sendable {
    /// A person, or one of our services, perhaps acting for a person. Never both.
    public enum Subject: Equatable, Sendable {
        case user(id: Int64, email: String)
        case service(name: String, onBehalfOf: UserIdentity?)
    }

    public let subject: Subject
    /// The token's own id (`jti`): what logout blocks.
    public let id: String
    public let issuer: String
    public let audience: [String]
    public let issuedAt: Timestamp
    public let expiresAt: Timestamp
    public let notBefore: Timestamp?

    public init(
        subject: Subject, id: String, issuer: String, audience: [String] = [], issuedAt: Timestamp,
        expiresAt: Timestamp, notBefore: Timestamp? = nil
    ) {
        self.subject = subject
        self.id = id
        self.issuer = issuer
        self.audience = audience
        self.issuedAt = issuedAt
        self.expiresAt = expiresAt
        self.notBefore = notBefore
    }

    /// The person this is about: the caller, or whom the calling service acts for.
    public var userID: Int64? {
        switch subject {
        case .user(let id, _): id
        case .service(_, let user): user?.id
        }
    }

    /// As a request carries it once it has been checked.
    public var identity: Identity {
        switch subject {
        case .user(let id, let email): .user(UserIdentity(id: id, email: email, tokenID: self.id))
        case .service(let name, let user): .service(name: name, onBehalfOf: user)
        }
    }

    public var serviceName: String? {
        if case .service(let name, _) = subject { name } else { nil }
    }
}

extension TokenClaims: JSONEncodable {
    public var json: JSONValue {
        var email: JSONValue?
        var user: JSONValue?
        var service: JSONValue?
        var person: UserIdentity?
        switch subject {
        case .user(let id, let address):
            email = .string(address)
            user = .int(id)
        case .service(let name, let user):
            service = .string(name)
            person = user
        }
        let audience: JSONValue? =
            switch self.audience.count {
            case 0: nil
            case 1: .string(self.audience[0])
            default: JSONValue(self.audience)
            }
        return .object(present: [
            "iss": .string(issuer), "aud": audience, "sub": email, "uid": user, "service": service,
            "on_behalf_of": person.map { .int($0.id) },
            "on_behalf_of_email": person.map { .string($0.email) },
            "on_behalf_of_jti": person.map { .string($0.tokenID) }, "jti": .string(id),
            "iat": .int(issuedAt.seconds),
            "nbf": notBefore.map { .int($0.seconds) }, "exp": .int(expiresAt.seconds),
        ])
    }

    /// Nil unless every claim we know is there once, with the right type and a sensible value. Claims we do
    /// not know are passed over.
    init?(_ json: JSONValue) {
        guard case .object(let members) = json else { return nil }
        var known = KnownClaims()
        for member in members {
            guard known.take(member.name, member.value) else { return nil }
        }
        guard let subject = known.subject, let id = known.jti, let issuer = known.iss,
            let issuedAt = known.iat, let expiresAt = known.exp
        else { return nil }
        self.init(
            subject: subject, id: id, issuer: issuer, audience: known.aud ?? [], issuedAt: issuedAt,
            expiresAt: expiresAt, notBefore: known.nbf)
    }
}

/// The claims as they are met. One that stands twice is refused: two readers could take it two ways.
private struct KnownClaims {
    var iss: String?
    var aud: [String]?
    var sub: String?
    var uid: Int64?
    var service: String?
    var onBehalfOf: Int64?
    var onBehalfOfEmail: String?
    var onBehalfOfToken: String?
    var jti: String?
    var iat: Timestamp?
    var nbf: Timestamp?
    var exp: Timestamp?

    mutating func take(_ name: String, _ value: JSONValue) -> Bool {
        switch name {
        case "iss": Self.set(&iss, value.stringValue)
        case "aud": Self.set(&aud, Self.audience(value))
        case "sub": Self.set(&sub, value.stringValue)
        case "uid": Self.set(&uid, Self.user(value))
        case "service": Self.set(&service, value.stringValue)
        case "on_behalf_of": Self.set(&onBehalfOf, Self.user(value))
        case "on_behalf_of_email": Self.set(&onBehalfOfEmail, value.stringValue)
        case "on_behalf_of_jti": Self.set(&onBehalfOfToken, value.stringValue)
        case "jti": Self.set(&jti, value.stringValue)
        case "iat": Self.set(&iat, Self.moment(value))
        case "nbf": Self.set(&nbf, Self.moment(value))
        case "exp": Self.set(&exp, Self.moment(value))
        default: true
        }
    }

    var subject: TokenClaims.Subject? {
        switch (sub, uid, service, onBehalfOf, onBehalfOfEmail, onBehalfOfToken) {
        case (let email?, let id?, nil, nil, nil, nil) where !email.isEmpty: .user(id: id, email: email)
        case (nil, nil, let name?, nil, nil, nil) where !name.isEmpty: .service(name: name, onBehalfOf: nil)
        case (nil, nil, let name?, let id?, let email?, let token?) where !name.isEmpty && !email.isEmpty:
            .service(name: name, onBehalfOf: UserIdentity(id: id, email: email, tokenID: token))
        default: nil
        }
    }

    private static func set<Value>(_ place: inout Value?, _ value: Value?) -> Bool {
        guard place == nil, let value else { return false }
        place = value
        return true
    }

    /// Whole seconds up to the year 9999, so that no arithmetic with them overflows.
    private static func moment(_ value: JSONValue) -> Timestamp? {
        guard case .int(let seconds) = value, (0...253_402_300_799).contains(seconds) else { return nil }
        return Timestamp(seconds: seconds)
    }

    private static func user(_ value: JSONValue) -> Int64? {
        guard case .int(let id) = value, id > 0 else { return nil }
        return id
    }

    private static func audience(_ value: JSONValue) -> [String]? {
        switch value {
        case .string(let one): return [one]
        case .array(let values):
            let names = values.compactMap(\.stringValue)
            return names.count == values.count ? names : nil
        default: return nil
        }
    }
}
