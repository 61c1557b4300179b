import Core
import HTTP
import Testing

@Suite struct `Header fields` {
    @Test func `compare names without regard to case`() {
        var headers: Headers = ["Content-Type": "a", "SET-COOKIE": "1"]
        headers.add("set-cookie", "2")
        #expect(headers["content-type"] == "a")
        #expect(headers.all("Set-Cookie") == ["1", "2"])
        headers["CONTENT-TYPE"] = nil
        #expect(headers["content-type"] == nil)
        #expect(!sameName("a[", "a{"))
    }

    @Test func `know what a list names`() {
        let headers: Headers = ["Accept-Encoding": "br;q=1.0, GZIP ; q=0.5", "accept-encoding": "deflate"]
        #expect(headers.lists("gzip", in: "accept-encoding"))
        #expect(headers.lists("deflate", in: "accept-encoding"))
        #expect(!headers.lists("zip", in: "accept-encoding"))
    }
}

@Suite struct `A query` {
    @Test func `is decoded`() {
        let query = Query("q=%D1%8F+1&empty=&flag&a=1&a=2&%zz=1&nul=%00")
        #expect(query["q"] == "я 1")
        #expect(query["empty"] == "")
        #expect(query["flag"] == "")
        #expect(query["a"] == "1")
        #expect(query["nul"] == nil)
        #expect(query.items.count == 5)
        #expect(!query.isWellFormed)
    }

    @Test func `is written so that it reads back`() {
        #expect(Query(["q": "a&b=c я", "x": ""])["q"] == "a&b=c я")
    }

    @Test func `holds no more items than a person would send`() {
        let query = Query(String(repeating: "a=1&", count: 10_000))
        #expect(query.items.count == 200)
        #expect(!query.isWellFormed)
        #expect(Query(String(repeating: "a=1&", count: 200)).isWellFormed)
    }
}

@Suite struct `A language of ours` {
    @Test(arguments: [
        (nil, Language.english), ("", .english), ("ru", .russian), ("ru-RU,ru;q=0.9,en;q=0.8", .russian),
        ("en;q=0.1, ru;q=0.2", .russian), ("ru;q=0, en", .english), ("de, fr", .english), ("*", .english),
        ("ru;q=nonsense", .english), ("RU", .russian), ("de, *;q=0.5, ru;q=0.6", .russian),
    ])
    func `is negotiated`(header: String?, expected: Language) {
        #expect(Language(accepting: header) == expected)
    }
}

@Suite struct `A trace` {
    let random = SeededRandom(seed: 1)

    @Test func `is taken over and goes on with a step of its own`() throws {
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        let trace = try #require(TraceContext(header))
        #expect(trace.header == header)
        let child = trace.child(random)
        #expect(child.traceID == trace.traceID)
        #expect(child.spanID != trace.spanID)
        #expect(TraceContext(child.header ?? "") == child)
        #expect(TraceContext.none.header == nil)
    }

    @Test(arguments: [
        "", "00", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        "00-é-b7ad6b7169203331-01",
    ])
    func `is not taken over from anything else`(header: String) {
        #expect(TraceContext(header) == nil)
    }
}

@Suite struct `A server-sent event` {
    @Test func `cannot be made to say more than it should`() {
        let event = ServerSentEvent(id: "1\nevent: x", name: "progress\r\n", data: "a\nb\r\nc")
        #expect(event.text == "id: 1event: x\nevent: progress\ndata: a\ndata: b\ndata: c\n\n")
        #expect(ServerSentEvent(data: "").text == "data: \n\n")
    }

    @Test func `is followed by heartbeats while nothing happens`() async throws {
        let time = ManualTime(.epoch)
        let response = Response.events(heartbeat: .seconds(15), time) { events in
            try await events.send(ServerSentEvent(id: "1", data: "one"))
            await time.waitForSleepers(1)
            time.advance(by: .seconds(15))
            await time.waitForSleepers(1)
            try await events.send(ServerSentEvent(id: "2", data: "two"))
        }
        #expect(response.headers["content-type"] == "text/event-stream; charset=utf-8")
        let text = String(decoding: try await response.collect(), as: UTF8.self)
        #expect(text.hasPrefix("id: 1\ndata: one\n\n"))
        #expect(text.contains(": still here\n\n"))
    }
}
