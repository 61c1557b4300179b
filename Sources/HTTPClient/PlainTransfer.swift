import Core
import Glibc
import HTTP

/// One exchange on its way over a connection without TLS: writes the request, reads the answer. Only the
/// loop's thread touches it.
final class PlainTransfer {
    let exchange: Exchange
    private unowned let thread: PlainThread
    var connection: PlainConnection?
    private(set) var head: AnswerHead
    /// How often its sending has begun: none means that the other side cannot have seen it.
    private(set) var sendings = 0
    /// When it is given up if nothing happens.
    var due: Duration
    private(set) var isDelivered = false
    /// Nobody waits for it any longer.
    var isOver = false

    // The request.
    private enum Source: Equatable {
        case nothing
        /// So many bytes are still to come.
        case counted(Int)
        case chunked
    }
    private var source = Source.nothing
    private var outgoing = Bytes()
    private var written = 0
    private var isPumping = false

    // The answer.
    private enum Stage: Equatable {
        case head
        case counted(Int)
        case chunkSize
        case chunk(Int)
        case chunkEnd
        case trailers
        case untilClosed
        case done
    }
    private var stage = Stage.head
    /// The beginning of a line whose end has not come yet.
    private var line = Bytes()
    /// What has been read and the reader has no room for.
    private var held = Bytes()
    private(set) var isReaderBehind = false

    /// Up to this size a body goes out in one packet with the head.
    private static let smallBody = 32 << 10
    private static let longestChunkLine = 4096

    init(_ exchange: Exchange, _ thread: PlainThread) {
        self.exchange = exchange
        self.thread = thread
        head = AnswerHead(limit: thread.core.settings.limits.head)
        due = exchange.due
    }

    // MARK: - The request

    /// Begins on a connection that is open.
    func begin(on connection: PlainConnection) {
        self.connection = connection
        due = exchange.due
        let request = exchange.request
        outgoing.removeAll(keepingCapacity: true)
        written = 0
        source = .nothing
        RequestHead.write(request, exchange.target, to: &outgoing)
        switch request.body.length {
        case 0: break
        case let length?:
            if let bytes = request.body.bytesAtHand, length <= Self.smallBody {
                outgoing += bytes
            } else {
                source = .counted(length)
            }
        case nil: source = .chunked
        }
        if source != .nothing, !isPumping {
            isPumping = true
            exchange.startPump()
        }
        write()
    }

    /// Whether the request has gone out whole.
    private var isSent: Bool { source == .nothing && written == outgoing.count }

    /// Writes what there is, until the connection takes no more or the producer has to make some.
    func write() {
        guard let connection, !isOver, connection.isOpen else { return }
        if sendings == 0 || connection.isUntouched { sendings += 1 }
        while connection.isWritable {
            if written < outgoing.count {
                guard connection.write(outgoing, &written) else { return }
                continue
            }
            outgoing.removeAll(keepingCapacity: outgoing.capacity <= 128 << 10)
            written = 0
            guard source != .nothing, produce() else { return }
        }
    }

    /// Fetches the next piece of the body; false where there is none at the moment.
    private func produce() -> Bool {
        // A refusal that comes early makes the rest of no interest.
        if head.isComplete, head.status >= 300 { return false }
        let space = UnsafeMutableRawBufferPointer(thread.buffer)
        switch exchange.take(into: space) {
        case .pause: return false
        case .failed(let error):
            thread.fail(self, error)
            return false
        case .bytes(let count):
            if isDelivered { due = thread.now + exchange.request.idle }
            let piece = UnsafeRawBufferPointer(rebasing: space[..<count])
            if case .counted(let left) = source {
                outgoing.append(contentsOf: piece)
                source = left == count ? .nothing : .counted(left - count)
            } else {
                outgoing.append(contentsOf: String(count, radix: 16).utf8)
                outgoing.append(contentsOf: [0x0D, 0x0A])
                outgoing.append(contentsOf: piece)
                outgoing.append(contentsOf: [0x0D, 0x0A])
            }
            return true
        case .end:
            if source == .chunked { outgoing.append(contentsOf: "0\r\n\r\n".utf8) }
            source = .nothing
            return true
        }
    }

    /// Whether it may go out anew after its connection broke: nothing has come, the connection was an old one,
    /// twice does no more than once, and the body is still there.
    var mayRepeat: Bool {
        guard let connection, connection.isReused, head.isUntouched, line.isEmpty, !isOver else {
            return false
        }
        return exchange.request.method.isIdempotent && exchange.rewind()
    }

    func prepareRepetition() {
        connection = nil
        head = AnswerHead(limit: thread.core.settings.limits.head)
    }

    // MARK: - The answer

    /// Takes what has been read. False when no more may be read now: it is over, or the reader has to catch up.
    func take(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        var rest = bytes[...]
        do throws(ClientError) {
            while !rest.isEmpty {
                guard stage != .done else { break }
                guard try step(&rest) else {
                    held = Bytes(rest)
                    isReaderBehind = true
                    return false
                }
            }
        } catch {
            thread.end(self, .failed(error))
            return false
        }
        if stage == .done {
            thread.end(self, .complete, keepsConnection: rest.isEmpty && isSent && !head.isLast)
        }
        return stage != .done
    }

    /// Takes one line, or one piece of the body; false where the reader has no room for it.
    private func step(_ rest: inout Slice<UnsafeBufferPointer<UInt8>>) throws(ClientError) -> Bool {
        switch stage {
        case .head, .trailers:
            try takeLine(&rest, limit: thread.core.settings.limits.head) {
                (line: UnsafeBufferPointer<UInt8>) throws(ClientError) in
                let isEmpty = line.count <= 2 && (line[0] == 0x0A || line[0] == 0x0D)
                try head.take(line)
                if stage == .trailers {
                    if isEmpty { stage = .done }
                } else if head.isComplete {
                    beginBody()
                }
            }
        case .counted(let left):
            let count = min(left, rest.count)
            guard hand(over: count, of: &rest) else { return false }
            stage = left == count ? .done : .counted(left - count)
        case .chunk(let left):
            let count = min(left, rest.count)
            guard hand(over: count, of: &rest) else { return false }
            stage = left == count ? .chunkEnd : .chunk(left - count)
        case .untilClosed: return hand(over: rest.count, of: &rest)
        case .chunkSize:
            try takeLine(&rest, limit: Self.longestChunkLine) {
                (line: UnsafeBufferPointer<UInt8>) throws(ClientError) in
                let size = try chunkSize(line)
                stage = size == 0 ? .trailers : .chunk(size)
            }
        case .chunkEnd:
            try takeLine(&rest, limit: 2) { (line: UnsafeBufferPointer<UInt8>) throws(ClientError) in
                guard line.count == 2, line[0] == 0x0D else {
                    throw .badAnswer(reason: "a chunk is longer than it said")
                }
                stage = .chunkSize
            }
        case .done: break
        }
        return true
    }

    private func beginBody() {
        if let length = head.bodyLength(of: exchange.request.method) {
            stage = length == 0 ? .done : .counted(length)
        } else {
            stage = head.isChunked ? .chunkSize : .untilClosed
        }
    }

    private func hand(over count: Int, of rest: inout Slice<UnsafeBufferPointer<UInt8>>) -> Bool {
        guard exchange.receive(UnsafeBufferPointer(rebasing: rest.prefix(count))) else { return false }
        if isDelivered { due = thread.now + exchange.request.idle }
        rest = rest.dropFirst(count)
        return true
    }

    /// Calls `use` with the next line and its break once it is there whole.
    private func takeLine(
        _ rest: inout Slice<UnsafeBufferPointer<UInt8>>, limit: Int,
        _ use: (UnsafeBufferPointer<UInt8>) throws(ClientError) -> Void
    ) throws(ClientError) {
        guard let end = lineEnd(in: rest) else {
            line.append(contentsOf: rest)
            rest = rest.suffix(0)
            guard line.count <= limit else {
                throw .badAnswer(reason: "a line is longer than \(limit) bytes")
            }
            return
        }
        let piece = rest[...end]
        rest = rest[(end + 1)...]
        if line.isEmpty { return try use(UnsafeBufferPointer(rebasing: piece)) }
        line.append(contentsOf: piece)
        let whole = line
        line.removeAll(keepingCapacity: true)
        let outcome = whole.withUnsafeBufferPointer { whole -> Result<Void, ClientError> in
            do throws(ClientError) {
                return .success(try use(whole))
            } catch {
                return .failure(error)
            }
        }
        try outcome.get()
    }

    private func lineEnd(in bytes: Slice<UnsafeBufferPointer<UInt8>>) -> Int? {
        let piece = UnsafeBufferPointer(rebasing: bytes)
        guard let start = piece.baseAddress, let found = memchr(start, 0x0A, piece.count) else { return nil }
        return bytes.startIndex + (UnsafeRawPointer(found) - UnsafeRawPointer(start))
    }

    private func chunkSize(_ line: UnsafeBufferPointer<UInt8>) throws(ClientError) -> Int {
        var size = 0
        var digits = 0
        for byte in line {
            let digit: Int
            switch byte {
            case 0x30...0x39: digit = Int(byte) - 0x30
            case 0x41...0x46: digit = Int(byte) - 0x37
            case 0x61...0x66: digit = Int(byte) - 0x57
            // What stands behind a semicolon is for nobody.
            case 0x0D, 0x3B, 0x20, 0x09:
                guard digits > 0, line.count >= 2, line[line.count - 2] == 0x0D else {
                    throw .badAnswer(reason: "a chunk has no size")
                }
                return size
            default: throw .badAnswer(reason: "a chunk's size is no number")
            }
            digits += 1
            guard digits <= 15 else { throw .badAnswer(reason: "a chunk is too large") }
            size = size << 4 | digit
        }
        throw .badAnswer(reason: "a chunk has no size")
    }

    /// Tells the caller and the reader what one reading of the socket has brought.
    func tell() {
        guard !isOver else { return }
        if head.isComplete, !isDelivered {
            isDelivered = true
            thread.isDelivered(self)
            exchange.deliver(head)
        }
        exchange.wakeReader()
    }

    /// The reader has caught up.
    func readOn() {
        guard isReaderBehind else { return }
        isReaderBehind = false
        let bytes = held
        held = []
        let goesOn = bytes.withUnsafeBufferPointer { take($0) }
        tell()
        if goesOn { connection?.read() }
    }

    /// The other side has closed the connection, or it broke: `reason` says how.
    func closed(_ reason: String?) {
        if stage == .untilClosed, reason == nil { return thread.end(self, .complete) }
        let error: ClientError
        if head.isComplete {
            error = .badAnswer(reason: reason ?? "the answer broke off")
        } else if sendings == 0 {
            error = .notSent(reason: reason ?? "the connection was closed")
        } else {
            error = .inDoubt(reason: reason ?? "the connection was closed before an answer")
        }
        thread.broke(self, error)
    }
}

/// The head of a request, as it goes out.
enum RequestHead {
    static func write(_ request: ClientRequest, _ target: Target, to bytes: inout Bytes) {
        bytes.reserveCapacity(1024)
        bytes.append(contentsOf: request.method.rawValue.utf8)
        bytes.append(0x20)
        var path = target.url.utf8.dropFirst(target.pathStart)
        if let fragment = path.firstIndex(of: UInt8(ascii: "#")) { path = path[..<fragment] }
        if path.first != UInt8(ascii: "/") { bytes.append(UInt8(ascii: "/")) }
        bytes.append(contentsOf: path)
        bytes.append(contentsOf: " HTTP/1.1\r\n".utf8)
        var (hasHost, hasAccept) = (false, false)
        for field in request.headers where !isFraming(field.name) {
            switch field.name.utf8.count {
            case 4 where sameName(field.name, "host"): hasHost = true
            case 6 where sameName(field.name, "accept"): hasAccept = true
            default: break
            }
            add(field.name, field.value, to: &bytes)
        }
        if !hasHost { add("Host", target.authority, to: &bytes) }
        if !hasAccept { add("Accept", "*/*", to: &bytes) }
        switch request.body.length {
        case 0:
            // These say that they have no body; for the others its absence says it.
            if [.post, .put, .patch].contains(request.method) { add("Content-Length", "0", to: &bytes) }
        case let length?: add("Content-Length", String(length), to: &bytes)
        case nil: add("Transfer-Encoding", "chunked", to: &bytes)
        }
        bytes.append(0x0D)
        bytes.append(0x0A)
    }

    private static func add(_ name: String, _ value: String, to bytes: inout Bytes) {
        bytes.append(contentsOf: name.utf8)
        bytes.append(0x3A)
        if !value.utf8.isEmpty {
            bytes.append(0x20)
            bytes.append(contentsOf: value.utf8)
        }
        bytes.append(0x0D)
        bytes.append(0x0A)
    }
}
