import Core
import Glibc
import HTTP
import HTTPClient
import Synchronization
import Testing

private let megabyte = 1 << 20
private let size = 256 * megabyte
/// What such a stream may take: a quarter of it, and far more than it does.
private let allowedMegabytes = 64

/// Processes of their own, so that nobody else's memory, descriptors and threads are counted.
///
/// One after the other: while such a process runs, swift-testing 6.3 reads its output on a thread of the pool
/// (found in `pipe_read`), and two of them would stop all other tests on a machine with two processors.
@Suite(.serialized) struct `A client alone in its process` {
    @Test func `needs no memory for a large answer`() async {
        await #expect(processExitsWith: .success) {
            let before = residentMegabytes()
            try await withServer({ connection in
                _ = try connection.readHead()
                try connection.write("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
                let block = Bytes(repeating: 7, count: megabyte)
                for _ in 0..<(size / megabyte) { try connection.write(block) }
            }) { server, client in
                let answer = try await client.send(ask(.get, server.url))
                var read = 0
                var most = 0
                for try await chunk in answer.body {
                    read += chunk.count
                    if read % (16 * megabyte) < chunk.count { most = max(most, residentMegabytes()) }
                }
                #expect(read == size)
                #expect(most - before < allowedMegabytes)
            }
        }
    }

    @Test func `needs no memory for a large request`() async {
        await #expect(processExitsWith: .success) {
            let before = residentMegabytes()
            try await withServer({ connection in
                _ = try connection.readHead()
                var count = 0
                while count < size { count += try connection.read(megabyte).count }
                try connection.answer("\(count)")
            }) { server, client in
                let made = Mutex((bytes: 0, most: 0))
                let block = Bytes(repeating: 7, count: 64 << 10)
                let body = Body(length: size) {
                    made.withLock { made in
                        guard made.bytes < size else { return nil }
                        made.bytes += block.count
                        if made.bytes % (16 * megabyte) == 0 {
                            made.most = max(made.most, residentMegabytes())
                        }
                        return block
                    }
                }
                let answer = try await text(client, ask(.put, server.url, body: body))
                #expect(answer == "\(size)")
                #expect(made.withLock { $0.most } - before < allowedMegabytes)
            }
        }
    }

    @Test func `leaves no descriptor and no thread behind, at whatever phase a task is cancelled`() async {
        await #expect(processExitsWith: .success) {
            func cancelEverywhere(times: Int) async throws {
                let server = ScriptedServer(stuck)
                let client = HTTPClient(.patient)
                for phase in Phase.allCases {
                    for _ in 0..<times {
                        let told = try await cancel(at: phase, server, client)
                        guard told == .cancelled else { exit(2) }
                    }
                }
                await client.shutdown()
                try await eventually("the server has noticed") { server.openCount == 0 }
                server.stop()
            }
            // The runtime opens descriptors of its own when something is first used, and may close them.
            try await cancelEverywhere(times: 1)
            try await standsStill(openDescriptors)
            let before = openDescriptors()
            try await cancelEverywhere(times: 8)
            let end = SystemTime().uptime + .seconds(30)
            while openDescriptors() > before || clientThreads() > 0 {
                guard SystemTime().uptime < end else { exit(Int32(10 + openDescriptors() - before)) }
                try await SystemTime().sleep(for: .milliseconds(5))
            }
            exit(0)
        }
    }

    @Test func `ends its thread when it is merely dropped`() async {
        await #expect(processExitsWith: .success) {
            let server = ScriptedServer(stuck)
            do {
                let client = HTTPClient(.patient)
                let task = Task { await kind(client, ask(.get, server.url)) }
                try await eventually("it is under way") { server.openCount == 1 }
                task.cancel()
                _ = await task.value
            }
            try await eventually("its thread has ended") { clientThreads() == 0 }
            exit(clientThreads() == 0 ? 0 : 3)
        }
    }
}
