import HTTP
import Testing

@testable import HTTPClient

@Suite struct `A URL` {
    @Test(arguments: [
        ("http://example.org", "http://example.org:80"), ("HTTP://Example.ORG/x", "http://example.org:80"),
        ("https://example.org?x", "https://example.org:443"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("https://[::1]:8443/a", "https://[::1]:8443"), ("http://a_b-c.d:1#f", "http://a_b-c.d:1"),
    ])
    func `belongs to an origin`(url: String, origin: String) throws {
        #expect(try Target(url).origin == origin)
    }

    @Test(arguments: [
        "", "/path", "example.org", "ftp://example.org", "file:///etc/passwd", "http://", "http:///x",
        "http://:80",
        "http://user@example.org", "http://user:secret@example.org/", "http://good.org\\@evil.org/",
        "http://example.org:0", "http://example.org:65536", "http://example.org:80x", "http://example.org:",
        "http://example.org/a b", "http://example.org/a\r\nX: y", "http://example.org/\0",
        "http://exämple.org",
        "http://[::1", "http://[::1]x/", "http://[fe80::1%25eth0]/", "http://exa%6Dple.org/",
        "http://h/" + String(repeating: "x", count: 40_000),
    ])
    func `that could mean something else is refused`(url: String) {
        #expect(throws: ClientError.invalidURL) { try Target(url) }
    }

    @Test(arguments: [
        ("/b?c", "http://h.org:8080/b?c"), ("?c", "http://h.org:8080/x/y?c"), ("z", "http://h.org:8080/x/z"),
        ("//h.org:8080/b", "http://h.org:8080/b"), ("http://H.org:8080/b", "http://H.org:8080/b"),
    ])
    func `leads on to its own origin`(location: String, expected: String) throws {
        #expect(try Target("http://h.org:8080/x/y?q#f").resolve(location)?.url == expected)
    }

    @Test(arguments: [
        "http://h.org/b", "//evil.org/b", "http://evil.org:8080/", "https://h.org:8080/",
        "http://h.org:8080@evil.org/",
        "ftp://h.org:8080/", "javascript:alert(1)", "http://h.org:8080\\@evil.org", "/a b", "/\r\nX: y",
    ])
    func `does not lead elsewhere`(location: String) throws {
        #expect(try Target("http://h.org:8080/x/y?q").resolve(location) == nil)
    }
}

@Suite struct `The queue of a host` {
    private final class Caller {}

    /// The queue behind a reference, so that an expectation can call what changes it.
    private final class Queue {
        private var queue: HostQueue<Caller>
        init(limit: Int, queueLimit: Int) { queue = HostQueue(limit: limit, queueLimit: queueLimit) }
        var waitingCount: Int { queue.waitingCount }
        func enter(_ caller: Caller, origin: String, due: Duration) -> HostQueue<Caller>.Verdict {
            queue.enter(caller, origin: origin, due: due)
        }
        func leave(origin: String) -> Caller? { queue.leave(origin: origin) }
        func withdraw(_ caller: Caller, origin: String) -> Bool { queue.withdraw(caller, origin: origin) }
        func expire(now: Duration) -> (expired: [Caller], next: Duration?) { queue.expire(now: now) }
    }

    @Test func `lets so many go and the others wait in their order`() {
        let queue = Queue(limit: 2, queueLimit: 100)
        let callers = (0..<80).map { _ in Caller() }
        for (index, caller) in callers.enumerated() {
            #expect(queue.enter(caller, origin: "a", due: .seconds(9)) == (index < 2 ? .go : .wait))
        }
        for caller in callers.dropFirst(2) { #expect(queue.leave(origin: "a") === caller) }
        #expect(queue.leave(origin: "a") == nil)
        #expect(queue.leave(origin: "a") == nil)
        #expect(queue.enter(callers[0], origin: "a", due: .seconds(9)) == .go)
    }

    @Test func `does not hold up another host`() {
        let queue = Queue(limit: 1, queueLimit: 1)
        #expect(queue.enter(Caller(), origin: "a", due: .zero) == .go)
        #expect(queue.enter(Caller(), origin: "a", due: .zero) == .wait)
        #expect(queue.enter(Caller(), origin: "b", due: .zero) == .go)
        #expect(queue.enter(Caller(), origin: "b", due: .zero) == .refuse)
    }

    @Test func `gives up who has waited too long, and says when the next one has`() {
        let queue = Queue(limit: 1, queueLimit: 10)
        let callers = (0..<4).map { _ in Caller() }
        _ = queue.enter(Caller(), origin: "a", due: .zero)
        for (caller, due) in zip(callers, [3, 1, 2, 9]) {
            _ = queue.enter(caller, origin: "a", due: .seconds(due))
        }
        let (expired, next) = queue.expire(now: .seconds(2))
        #expect(expired.map(ObjectIdentifier.init) == [callers[1], callers[2]].map(ObjectIdentifier.init))
        #expect(next == .seconds(3))
        #expect(queue.waitingCount == 2)
        #expect(queue.leave(origin: "a") === callers[0])
        #expect(queue.leave(origin: "a") === callers[3])
    }

    @Test func `forgets who withdraws`() {
        let queue = Queue(limit: 1, queueLimit: 10)
        let (first, second, third) = (Caller(), Caller(), Caller())
        for caller in [first, second, third] { _ = queue.enter(caller, origin: "a", due: .seconds(1)) }
        #expect(queue.withdraw(second, origin: "a"))
        #expect(!queue.withdraw(second, origin: "a"))
        #expect(!queue.withdraw(first, origin: "a"))
        #expect(queue.leave(origin: "a") === third)
        #expect(queue.waitingCount == 0)
    }
}
