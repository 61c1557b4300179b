import Core
import HTTP
import Security
import Synchronization

/// The operator of the demonstration: knows the public door and nothing behind it.
final class DemoOperator: Sendable {
    private let client: any HTTPSending
    private let door: String
    private let person: JSONValue
    private let token: Mutex<Secret<String>>

    /// Signs up and in.
    init(_ client: any HTTPSending, door: String, random: any RandomSource) async throws {
        self.client = client
        self.door = door
        person = ["email": "operator@example.org", "password": .string(Base64.encode(random.bytes(18)))]
        _ = try await client.call(.post, "\(door)/api/auth/register", person)
        token = Mutex(try await Self.signedIn(client, door, person))
    }

    private static func signedIn(_ client: any HTTPSending, _ door: String, _ person: JSONValue) async throws
        -> Secret<String>
    {
        Secret(try await client.call(.post, "\(door)/api/auth/login", person).text("access_token"))
    }

    func get(_ path: String) async throws -> JSONValue { try await send(.get, path, nil) }
    func post(_ path: String, _ body: JSONValue = [:]) async throws -> JSONValue {
        try await send(.post, path, body)
    }

    /// Sends a list as a form's file, as a browser does.
    func upload(_ path: String, file name: String, _ text: String) async throws -> JSONValue {
        let border = "convoke-demonstration"
        let form = """
            --\(border)\r\nContent-Disposition: form-data; name="file"; filename="\(name)"\r\n\
            Content-Type: text/csv\r\n\r\n\(text)\r\n--\(border)--\r\n
            """
        return try await authorized { headers in
            try await client.call(
                .post, door + path, bytes: [UInt8](form.utf8),
                type: "multipart/form-data; boundary=\(border)", headers: headers)
        }
    }

    private func send(_ method: HTTP.Method, _ path: String, _ body: JSONValue?) async throws -> JSONValue {
        try await authorized { try await client.call(method, door + path, body, headers: $0) }
    }

    /// Days pass in a minute here, and access lasts a quarter of an hour: then the operator signs in again.
    private func authorized(_ call: (Headers) async throws -> JSONValue) async throws -> JSONValue {
        func headers() -> Headers { ["Authorization": "Bearer \(token.withLock { $0 }.expose())"] }
        do {
            return try await call(headers())
        } catch let failure as DemoFailure where failure.status == 401 {
            let fresh = try await Self.signedIn(client, door, person)
            token.withLock { $0 = fresh }
            return try await call(headers())
        }
    }
}

/// A call that did not end as the story needs it.
struct DemoFailure: Error, CustomStringConvertible {
    let description: String
    let status: Int?

    init(_ description: String, status: Int? = nil) {
        self.description = description
        self.status = status
    }
}

extension HTTPSending {
    func call(_ method: HTTP.Method, _ url: String, _ body: JSONValue? = nil, headers: Headers = [:])
        async throws -> JSONValue
    {
        try await call(method, url, bytes: body?.bytes, type: "application/json", headers: headers)
    }

    func call(_ method: HTTP.Method, _ url: String, bytes: [UInt8]?, type: String, headers: Headers)
        async throws -> JSONValue
    {
        var headers = headers
        if bytes != nil { headers["Content-Type"] = type }
        let answer = try await send(
            ClientRequest(method, url, headers: headers, body: bytes.map { Body($0) } ?? .empty))
        let body = try await answer.body.collect(upTo: 16 << 20)
        let json = body.isEmpty ? JSONValue.null : try JSONValue(parsing: body)
        guard (200..<300).contains(answer.status) else {
            let reason = json["detail"]?.stringValue ?? json["message"]?.stringValue ?? "no reason given"
            throw DemoFailure("\(method) \(url): \(answer.status), \(reason)", status: answer.status)
        }
        return json
    }

    /// The lines of an answer that has one JSON value on each.
    func lines(_ url: String) async throws -> [JSONValue] {
        let answer = try await send(ClientRequest(.get, url))
        return try await answer.body.collect(upTo: 64 << 20).split(separator: UInt8(ascii: "\n")).map {
            try JSONValue(parsing: Array($0))
        }
    }
}

extension JSONValue {
    /// A field the story cannot go on without.
    func text(_ name: String) throws -> String {
        guard let text = self[name]?.stringValue else { throw DemoFailure("an answer has no \(name)") }
        return text
    }

    func number(_ name: String) throws -> Int64 {
        guard let number = self[name]?.intValue else { throw DemoFailure("an answer has no \(name)") }
        return number
    }
}
