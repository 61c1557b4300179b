import Core
import HTTP
import Synchronization
import Testing

@Suite struct `A form with files` {
    private static let form = """
        a preamble that nobody reads\r
        --xYz\r
        Content-Disposition: form-data; name="task_id"\r
        \r
        7\r
        --xYz\r
        Content-Disposition: form-data; name="file"; filename="people; all.csv"\r
        Content-Type: text/csv\r
        \r
        username\r
        --xY\r
        anna\r
        \r
        --xYz--\r
        an epilogue
        """

    /// The form in pieces of `size` bytes, as a network might deliver it.
    private func request(_ text: String, size: Int, type: String = "multipart/form-data; boundary=xYz")
        -> Request
    {
        let pieces = stride(from: 0, to: text.utf8.count, by: size).map { start in
            Bytes(Bytes(text.utf8)[start..<min(start + size, text.utf8.count)])
        }
        let source = Mutex(pieces[...])
        return Request(
            "POST", "/", headers: ["Content-Type": type], body: Body { source.withLock { $0.popFirst() } })
    }

    @Test(arguments: [1, 2, 3, 7, 16, 64, 10_000])
    func `is read however it is cut up`(size: Int) async throws {
        let reader = try MultipartReader(request(Self.form, size: size))
        let id = try #require(try await reader.next())
        #expect(id.name == "task_id")
        #expect(try await id.body.collect(upTo: 100) == Bytes("7".utf8))
        let file = try #require(try await reader.next())
        #expect(file.contentType == "text/csv")
        #expect(
            String(decoding: try await file.body.collect(upTo: 100), as: UTF8.self)
                == "username\r\n--xY\r\nanna\r\n")
        #expect(try await reader.next() == nil)
        #expect(try await reader.next() == nil)
    }

    @Test(arguments: [1, 5, 10_000])
    func `may be read in part`(size: Int) async throws {
        let reader = try MultipartReader(request(Self.form, size: size))
        _ = try await reader.next()
        #expect(try await reader.next()?.name == "file")
        #expect(try await reader.next() == nil)
    }

    @Test(arguments: [
        "", "no delimiter at all", "--xYz\r\n",
        "--xYz\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\ncut off",
        "--xYz\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\nx\r\n--xYz--",
        "--xYz\r\nno colon\r\n\r\nx\r\n--xYz--",
        "--xYz\r\nX: " + String(repeating: "a", count: 40_000) + "\r\n\r\nx\r\n--xYz--",
    ])
    func `that is broken is refused`(text: String) async throws {
        let reader = try MultipartReader(request(text, size: 100))
        await #expect(throws: Problem.malformedForm) {
            while let part = try await reader.next() { _ = try await part.body.collect(upTo: 1000) }
        }
    }

    @Test(arguments: [
        "text/plain", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=x",
    ])
    func `of another type is refused`(type: String) {
        #expect(throws: Problem.self) { try MultipartReader(request("", size: 1, type: type)) }
    }
}
