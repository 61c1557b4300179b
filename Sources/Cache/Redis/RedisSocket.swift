import CRedis
import Core

#if canImport(Glibc)
    import Glibc
#endif

/// Why a connection is of no use any more.
enum RedisFailure: Error {
    case cannotConnect(String)
    case refused(String)
    case lost(String)
    case silent
    case protocolBroken(String)
    case replyTooLarge
    case closing
}

/// An open connection. Lives on the connection's thread alone.
final class RedisSocket {
    /// How often a wait is interrupted to see whose time is over.
    static let tick = timeval(tv_sec: 0, tv_usec: 20_000)

    private let context: UnsafeMutablePointer<redisContext>
    private let reader: ReplyReader
    private var input = [UInt8](repeating: 0, count: 64 << 10)
    /// The answer that is being read may take this much; the largest value there can be, and its frame.
    private let largestReply: Int
    private var bytesOfReply = 0

    private var descriptor: Int32 { context.pointee.fd }

    init(host: String, port: Int, limit: Duration, largestReply: Int) throws {
        let wait = timeval(
            tv_sec: Int(limit.milliseconds / 1000), tv_usec: Int(max(limit.milliseconds % 1000, 1)) * 1000)
        guard let context = redisConnectWithTimeout(host, Int32(port), wait) else {
            throw RedisFailure.cannotConnect("out of memory")
        }
        guard context.pointee.err == 0, let reader = ReplyReader() else {
            let reason = withUnsafeBytes(of: context.pointee.errstr) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            redisFree(context)
            throw RedisFailure.cannotConnect(reason)
        }
        self.context = context
        self.reader = reader
        self.largestReply = largestReply
        // hiredis leaves the descriptor open for child processes.
        _ = fcntl(context.pointee.fd, F_SETFD, FD_CLOEXEC)
        _ = redisSetTimeout(context, Self.tick)
        _ = redisEnableKeepAlive(context)
    }

    deinit { redisFree(context) }

    /// Sends everything; `onTick` is called while the server does not take it, and throws to give up.
    func send(_ bytes: [UInt8], onTick: (_ progressed: Bool) throws -> Void) throws {
        var sent = 0
        var progressed = false
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { buffer in
                Glibc.send(
                    descriptor, buffer.baseAddress?.advanced(by: sent), buffer.count - sent,
                    Int32(MSG_NOSIGNAL))
            }
            if count > 0 {
                sent += count
                progressed = true
            } else if errno == EAGAIN || errno == EWOULDBLOCK {
                try onTick(progressed)
                progressed = false
            } else if errno != EINTR {
                throw RedisFailure.lost(String(cString: strerror(errno)))
            }
        }
    }

    /// Waits for bytes and hands out the answers that are complete with them.
    func receive(_ body: (Result<CacheReply, any Error>) throws -> Void, onTick: () throws -> Void) throws {
        let count = recv(descriptor, &input, input.count, 0)
        if count == 0 { throw RedisFailure.lost("the server closed the connection") }
        if count < 0 {
            if errno == EINTR { return }
            guard errno == EAGAIN || errno == EWOULDBLOCK else {
                throw RedisFailure.lost(String(cString: strerror(errno)))
            }
            return try onTick()
        }
        bytesOfReply += count
        try reader.feed(input, count)
        while let reply = try reader.next() {
            bytesOfReply = 0
            try body(reply)
        }
        if bytesOfReply > largestReply { throw RedisFailure.replyTooLarge }
    }

    /// Sleeps until `signal` is raised. The server has nothing to say meanwhile: if it does, or hangs up, the
    /// connection is given up before a command is lost on it.
    func idle(until signal: Int32) throws {
        var waits = [
            pollfd(fd: signal, events: Int16(POLLIN), revents: 0),
            pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
        ]
        _ = poll(&waits, 2, -1)
        if waits[1].revents != 0 {
            let count = recv(descriptor, &input, input.count, Int32(MSG_DONTWAIT))
            if count == 0 { throw RedisFailure.lost("the server closed the connection") }
            if count > 0 { throw RedisFailure.protocolBroken("an answer to no question") }
            if errno != EAGAIN && errno != EINTR { throw RedisFailure.lost(String(cString: strerror(errno))) }
        }
    }
}

/// hiredis' parser, making replies of ours.
final class ReplyReader {
    private struct Frame {
        var missing: Int
        var elements: [CacheReply]
    }
    private let reader: UnsafeMutablePointer<redisReader>
    private let sink: UnsafeMutablePointer<convoke_redis_sink>
    private var frames: [Frame] = []
    private var root: CacheReply?
    private var error: RedisErrorReply?

    init?() {
        sink = .allocate(capacity: 1)
        guard let made = convoke_redis_reader(sink) else {
            sink.deallocate()
            return nil
        }
        reader = made
        sink.initialize(to: convoke_redis_sink())
        sink.pointee.owner = Unmanaged.passUnretained(self).toOpaque()
        sink.pointee.bytes = { owner, type, start, length in
            ReplyReader.of(owner)?.add(type: type, UnsafeRawBufferPointer(start: start, count: length))
        }
        sink.pointee.array = { owner, count in ReplyReader.of(owner)?.open(Int(count)) }
        sink.pointee.integer = { owner, value in ReplyReader.of(owner)?.add(.integer(value)) }
        sink.pointee.null = { owner in ReplyReader.of(owner)?.add(.null) }
    }

    deinit {
        redisReaderFree(reader)
        sink.deallocate()
    }

    private static func of(_ owner: UnsafeMutableRawPointer?) -> ReplyReader? {
        owner.map { Unmanaged<ReplyReader>.fromOpaque($0).takeUnretainedValue() }
    }

    func feed(_ bytes: [UInt8], _ count: Int) throws {
        let result = bytes.withUnsafeBytes { buffer in
            redisReaderFeed(reader, buffer.baseAddress?.assumingMemoryBound(to: CChar.self), count)
        }
        if result != REDIS_OK { throw broken }
    }

    /// The next complete reply.
    func next() throws -> Result<CacheReply, any Error>? {
        var object: UnsafeMutableRawPointer?
        guard redisReaderGetReply(reader, &object) == REDIS_OK else { throw broken }
        guard object != nil, let root else { return nil }
        defer { (self.root, error) = (nil, nil) }
        return error.map { .failure($0) } ?? .success(root)
    }

    private var broken: RedisFailure {
        let text = withUnsafeBytes(of: reader.pointee.errstr) {
            String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
        return .protocolBroken(text)
    }

    private func add(type: Int32, _ bytes: UnsafeRawBufferPointer) {
        switch type {
        case REDIS_REPLY_ERROR:
            // One within an array fails the whole: no script of ours answers that.
            error = error ?? RedisErrorReply(text: String(decoding: bytes, as: UTF8.self))
            add(.null)
        case REDIS_REPLY_STATUS where bytes.elementsEqual("OK".utf8) || bytes.elementsEqual("PONG".utf8):
            add(.ok)
        default: add(.bytes(CacheBytes([UInt8](bytes))))
        }
    }

    private func open(_ count: Int) {
        guard count > 0 else { return add(.array([])) }
        var elements: [CacheReply] = []
        // What is claimed is not yet there.
        elements.reserveCapacity(min(count, 1024))
        frames.append(Frame(missing: count, elements: elements))
    }

    private func add(_ reply: CacheReply) {
        var reply = reply
        while let top = frames.indices.last {
            frames[top].elements.append(reply)
            frames[top].missing -= 1
            guard frames[top].missing == 0 else { return }
            reply = .array(frames.removeLast().elements)
        }
        root = reply
    }
}
