import Core
import Testing

@Suite struct `The log` {
    let sink = MemorySink()
    var log: Log { Log(service: "test", level: .info, time: ManualTime(Timestamp(seconds: 0)), to: sink) }

    @Test func `writes one JSON object a line`() throws {
        log.with(["request_id": .id("r1")]).info(
            "lease.granted",
            ["account": .id(7), "wait": .duration(.microseconds(1500)), "free": true, "n": 3])
        #expect(
            sink.lines == [
                """
                {"time":"1970-01-01T00:00:00Z","level":"info","event":"lease.granted","service":"test",\
                "request_id":"r1","account":"7","wait":1.5,"free":true,"n":3}

                """
            ])
        #expect(try JSONValue(parsing: sink.lines[0])["event"] == "lease.granted")
    }

    @Test func `escapes what would break out of its line`() throws {
        log.info("odd", ["text": .text("a\"b\\c\nd\u{0}e\u{1F600}")])
        #expect(try JSONValue(parsing: sink.lines[0])["text"] == "a\"b\\c\nd\u{0}e\u{1F600}")
        #expect(sink.lines[0].filter(\.isNewline).count == 1)
    }

    @Test func `leaves out what is below its level`() {
        log.debug("quiet")
        #expect(sink.lines.isEmpty)
    }

    @Test func `never shows a field with a secret's name`() {
        log.info(
            "careless",
            [
                "password": "hunter2hunter2", "phone": "12", "refresh_token": .int(99),
                "phone_number": .id("55"),
                "status_code": 200,
            ])
        #expect(!sink.lines[0].contains("hunter2"))
        #expect(!sink.lines[0].contains("99"))
        #expect(sink.lines[0].contains("\"phone\":\"<redacted>\""))
        #expect(sink.lines[0].contains("\"status_code\":200"))
    }

    @Test func `hides secrets inside an error's text`() {
        struct Leaky: Error { let reason = "login with password=hunter2 for +7 900 123-45-67 failed" }
        log.error("failed", ["error": .error(Leaky())])
        #expect(!sink.lines[0].contains("hunter2"))
        #expect(!sink.lines[0].contains("123-45"))
        #expect(sink.lines[0].contains("failed"))
    }
}
