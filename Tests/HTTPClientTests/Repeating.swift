import Core
import HTTP
import HTTPClient
import Synchronization
import Testing

/// Answers from a list, and keeps what it was asked.
private final class Listed: HTTPSending {
    private let state: Mutex<(answers: [Result<ClientResponse, any Error>], asked: [ClientRequest])>
    var asked: [ClientRequest] { state.withLock { $0.asked } }

    init(_ answers: [Result<ClientResponse, any Error>]) { state = Mutex((answers, [])) }

    func send(_ request: ClientRequest) async throws -> ClientResponse {
        let next = state.withLock { state in
            state.asked.append(request)
            return state.answers.isEmpty
                ? .failure(ClientError.badAnswer(reason: "asked too often")) : state.answers.removeFirst()
        }
        return try next.get()
    }
}

private func status(_ status: Int, _ headers: Headers = [:]) -> Result<ClientResponse, any Error> {
    .success(ClientResponse(status: status, headers: headers, body: .empty))
}
private let noPause = Backoff(first: .zero, jitter: 0)
private let url = "http://host/a"

/// Takes its time, by a clock that nobody else moves.
private struct Slowed: HTTPSending {
    let next: any HTTPSending
    let time: ManualTime
    let each: Duration

    func send(_ request: ClientRequest) async throws -> ClientResponse {
        time.advance(by: each)
        return try await next.send(request)
    }
}

@Suite struct `A retrying sender` {
    @Test(arguments: [Method.post, .get])
    func `sends again what was not sent`(method: Method) async throws {
        for error in [ClientError.notSent(reason: ""), .timedOut(mayHaveArrived: false)] {
            let server = Listed([.failure(error), .failure(error), status(200)])
            #expect(
                try await Retrying(server, backoff: noPause).send(ask(method, url)).status == 200)
            #expect(server.asked.count == 3)
        }
    }

    @Test(arguments: [Method.get, .head, .put, .delete, .options])
    func `sends again in doubt what may be done twice`(method: Method) async throws {
        for first in [
            .failure(ClientError.inDoubt(reason: "")), .failure(ClientError.timedOut(mayHaveArrived: true)),
            status(503),
        ] {
            let server = Listed([first, status(200)])
            #expect(
                try await Retrying(server, backoff: noPause).send(ask(method, url)).status == 200)
        }
    }

    @Test(arguments: [Method.post, .patch, "PURGE"])
    func `does not send again in doubt what might be done twice`(method: Method) async throws {
        for first in [
            .failure(ClientError.inDoubt(reason: "")), .failure(ClientError.timedOut(mayHaveArrived: true)),
            status(503),
        ] {
            let server = Listed([first, status(200)])
            let answer = try? await Retrying(server, backoff: noPause).send(ask(method, url))
            #expect(answer?.status != 200)
            #expect(server.asked.count == 1)
        }
    }

    @Test func `gives up after so many attempts, with the last error or answer`() async throws {
        let failing = Listed(Array(repeating: .failure(ClientError.notSent(reason: "x")), count: 9))
        await #expect(throws: ClientError.notSent(reason: "x")) {
            try await Retrying(failing, attempts: 4, backoff: noPause).send(ask(.get, url))
        }
        #expect(failing.asked.count == 4)
        let away = Listed(Array(repeating: status(502), count: 9))
        #expect(
            try await Retrying(away, attempts: 2, backoff: noPause).send(ask(.get, url)).status
                == 502)
        #expect(away.asked.count == 2)
    }

    @Test func `never repeats what no repetition cures`() async throws {
        let errors: [any Error] = [
            ClientError.invalidURL, ClientError.invalidRequest(reason: ""), ClientError.badAnswer(reason: ""),
            CancellationError(),
        ]
        for error in errors {
            let server = Listed([.failure(error), status(200)])
            await #expect(throws: (any Error).self) {
                try await Retrying(server, backoff: noPause).send(ask(.get, url))
            }
            #expect(server.asked.count == 1)
        }
    }

    @Test func `does not send a stream again, which is gone`() async throws {
        let server = Listed([.failure(ClientError.notSent(reason: "")), status(200)])
        await #expect(throws: ClientError.self) {
            try await Retrying(server, backoff: noPause).send(
                ask(.put, url, body: Body(pull: { nil })))
        }
        #expect(server.asked.count == 1)
    }

    @Test func `keeps to the deadline over all attempts, and to the wish of the other side`() async throws {
        let time = ManualTime(.epoch)
        let server = Listed([
            status(503, ["Retry-After": "7"]), status(503, ["Retry-After": "7"]), status(200),
        ])
        let sender = Retrying(server, backoff: noPause, time: time)
        async let answer = sender.send(ask(.get, url, deadline: .seconds(10)))
        await time.waitForSleepers(1)
        time.advance(by: .seconds(7))
        #expect(try await answer.status == 503)
        #expect(server.asked.map(\.deadline) == [.seconds(10), .seconds(3)])
    }

    @Test func `ends with its task`() async throws {
        let time = ManualTime(.epoch)
        let server = Listed([.failure(ClientError.notSent(reason: "")), status(200)])
        let task = Task { try await Retrying(server, time: time).send(ask(.get, url)) }
        await time.waitForSleepers(1)
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(server.asked.count == 1)
    }

    @Test func `reaches a server that is away at first`() async throws {
        let away = ScriptedServer { _ in }
        away.stop()
        let server = ScriptedServer { connection in
            if connection.number < 3 { return connection.reset() }
            _ = try connection.readHead()
            try connection.answer("at last")
        }
        defer { server.stop() }
        let client = HTTPClient(.patient)
        let answer = try await text(Retrying(client, backoff: noPause), ask(.get, server.url))
        #expect(answer == "at last")
        await client.shutdown()
    }
}

@Suite struct `A redirect` {
    private static let there: ScriptedServer.Script = { connection in
        while true {
            let head = try connection.readHead()
            let path = head.line.split(separator: " ")[1]
            guard let hops = Int(path.dropFirst()), hops > 0 else { return try connection.answer("arrived") }
            try connection.answer("", status: "302 Found", extra: "Location: /\(hops - 1)\r\n")
        }
    }

    @Test func `is an answer like any other unless it is asked to be followed`() async throws {
        try await withServer(Self.there) { server, client in
            let answer = try await client.send(ask(.get, server.url + "/1"))
            #expect(answer.status == 302)
            #expect(answer.headers["Location"] == "/0")
        }
    }

    @Test func `is followed at home, so many times`() async throws {
        try await withServer(Self.there) { server, client in
            let follower = FollowingRedirects(client, limit: 3)
            let near = try await text(follower, ask(.get, server.url + "/3"))
            #expect(near == "arrived")
            #expect(try await follower.send(ask(.get, server.url + "/4")).status == 302)
        }
    }

    @Test func `takes its steps within the one deadline`() async throws {
        let time = ManualTime(.epoch)
        let moved = status(302, ["Location": "/next"])
        let server = Listed([moved, moved, moved, status(200)])
        let slow = Slowed(next: server, time: time, each: .seconds(4))
        let answer = try await FollowingRedirects(slow, time: time).send(
            ask(.get, url, deadline: .seconds(10)))
        #expect(answer.status == 302, "there was no time left for the fourth")
        #expect(server.asked.map(\.deadline) == [.seconds(10), .seconds(6), .seconds(2)])
    }

    @Test(arguments: [301, 302, 303, 307, 308])
    func `to another host, port or scheme is not followed`(status: Int) async throws {
        let other = ScriptedServer { _ in Issue.record("another server was asked") }
        defer { other.stop() }
        for location in [
            other.url, "//localhost:\(other.port)/", "https://127.0.0.1:\(other.port)/",
            "http://127.0.0.1:\(other.port)",
        ] {
            try await withServer({ connection in
                _ = try connection.readHead()
                try connection.answer("", status: "\(status) Elsewhere", extra: "Location: \(location)\r\n")
            }) { server, client in
                let request = ask(.get, server.url, headers: ["Authorization": "Bearer token"])
                let answer = try await FollowingRedirects(client).send(request)
                #expect(answer.status == status)
                #expect(server.accepted == 1)
            }
        }
        #expect(other.accepted == 0)
    }

    @Test func `is not followed with what might be done twice`() async throws {
        try await withServer(Self.there) { server, client in
            let answer = try await FollowingRedirects(client).send(ask(.post, server.url + "/1"))
            #expect(answer.status == 302)
        }
    }
}
