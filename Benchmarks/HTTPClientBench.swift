import CCurl
import Core
import HTTP
import HTTPClient
import LocalServers

extension Benchmark {
    static let httpClient = Benchmark(
        name: "client", summary: "requests a second to a private nginx, beside a bare loop of libcurl's"
    ) { report in
        let body = "Hello, world!"
        let folder = try await TemporaryFolder(named: "convoke-client")
        let nginx = try await LocalNginx(
            directory: folder.path,
            server: "location / { default_type text/plain; return 200 \"\(body)\"; }"
        ).started()
        let url = nginx.url + "/"
        let client = HTTPClient()
        for (callers, target) in [(1, nil), (64, 0.7)] as [(Int, Double?)] {
            try await report.ratio(
                "GET by \(callers) at once", unit: "requests/s", target: target,
                ours: {
                    try await report.callsPerSecond(callers: callers) { _ in
                        let answer = try await client.send(ClientRequest(.get, url))
                        let bytes = try await answer.body.collect(upTo: 1024)
                        guard answer.status == 200, bytes.count == body.utf8.count else {
                            throw BenchmarkBroken(reason: "status \(answer.status), \(bytes.count) bytes")
                        }
                    }
                },
                limit: { try await bareRequestsPerSecond(url, handles: callers, bytes: body.utf8.count) },
                limitName: "libcurl's multi interface alone")
        }
        await client.shutdown()
        try await nginx.stop()
    }
}

/// What libcurl reaches on one thread when nobody has to be told: each handle begins anew as it ends.
private func bareRequestsPerSecond(_ url: String, handles: Int, bytes: Int) async throws -> Double {
    try await withCheckedThrowingContinuation { done in
        startThread(name: "bare-curl") {
            done.resume(with: Result { try BareLoop(url, handles: handles).requestsPerSecond(bytes: bytes) })
        }
    }
}

private final class BareLoop {
    private let multi: UnsafeMutableRawPointer
    private var handles: [UnsafeMutableRawPointer] = []
    private var received = 0

    init(_ url: String, handles count: Int) throws {
        guard let multi = curl_multi_init() else { throw BenchmarkBroken(reason: "no multi handle") }
        self.multi = multi
        for _ in 0..<count {
            guard let easy = curl_easy_init() else { throw BenchmarkBroken(reason: "no easy handle") }
            handles.append(easy)
            convoke_curl_set_text(easy, CURLOPT_URL, url)
            convoke_curl_set_number(easy, CURLOPT_NOSIGNAL, 1)
            convoke_curl_set_transfer_callbacks(
                easy, Unmanaged.passUnretained(self).toOpaque(), onHeadLine, onBody, nil, nil, nil)
        }
    }

    deinit {
        for easy in handles { curl_easy_cleanup(easy) }
        curl_multi_cleanup(multi)
    }

    func requestsPerSecond(bytes: Int) throws -> Double {
        let time = SystemTime()
        let start = time.uptime
        var count = 0
        var running: Int32 = 0
        for easy in handles { curl_multi_add_handle(multi, easy) }
        defer { for easy in handles { curl_multi_remove_handle(multi, easy) } }
        while time.uptime - start < .seconds(1) {
            curl_multi_perform(multi, &running)
            var code = CURLE_OK
            var hasMore = false
            while let easy = convoke_curl_next_ended(multi, &code) {
                guard code == CURLE_OK else {
                    throw BenchmarkBroken(reason: String(cString: curl_easy_strerror(code)))
                }
                count += 1
                curl_multi_remove_handle(multi, easy)
                curl_multi_add_handle(multi, easy)
                hasMore = true
            }
            if !hasMore { curl_multi_poll(multi, nil, 0, 1000, nil) }
        }
        guard received >= count * bytes else { throw BenchmarkBroken(reason: "bodies are missing") }
        return Double(count) / (time.uptime - start).inSeconds
    }

    fileprivate func take(_ count: Int) { received += count }
}

private let onHeadLine: convoke_curl_bytes = { _, size, count, _ in size * count }

private let onBody: convoke_curl_bytes = { _, size, count, owner in
    guard let owner else { return 0 }
    Unmanaged<BareLoop>.fromOpaque(owner).takeUnretainedValue().take(size * count)
    return size * count
}
