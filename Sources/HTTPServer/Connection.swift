import CMicroHTTPD
import Core
import Glibc
import HTTP
import Synchronization

/// One connection, and the request on it.
///
/// libmicrohttpd gives every connection to one thread for good, so what is not atomic here is touched by
/// that thread alone. The gatekeeper's thread looks at the atomic parts and at the exchange.
// Safe: see above; `exchangeSlot` is the one shared part that is not atomic, and it has a lock.
final class Connection: @unchecked Sendable {
    enum Phase: UInt8, AtomicRepresentable {
        /// Nothing has come yet.
        case fresh
        /// Between two requests.
        case waiting
        case head
        case body
        /// A handler works on it; the client has nothing to do but wait.
        case handling
        case answering
    }

    struct LastLook {
        var phase = Phase.fresh
        var start: Int64 = 0
        var bytes: Int64 = 0
    }

    /// How far a connection has come.
    struct Progress: Equatable {
        let phase: Phase
        let since: Int64
        let bytes: Int
        let count: Int
    }

    /// What becomes of the request after its head.
    private enum Work {
        case none
        /// A short body, or none, is read whole before the handler starts.
        case gathering(Request, Bytes)
        case exchange(Exchange)
        /// The answer is known; the rest of a short body is read first, because an answer to a client that
        /// still sends would be lost with the connection.
        case draining(Response)
        /// The answer went out while the client still sends; what still comes is dropped.
        case discarding(left: Int)
        case done
    }

    /// A declared body of up to this many bytes is at hand before its handler starts.
    static let gathered = 16 << 10
    /// An unread body of up to this many bytes is read and dropped, so that the connection can be kept.
    static let drained = 256 << 10
    /// What is read and dropped at most from a client that goes on sending after its answer.
    static let discarded = 16 << 20

    let socket: Int32
    let address: String
    let key: AddressKey
    private let server: ServerCore
    let daemon: Daemon
    // Safe: used on the daemon's thread alone, which lets go of it as the last thing.
    let handle: Unchecked<OpaquePointer>

    let phase = Atomic<Phase>(.fresh)
    /// When the phase began.
    let since: Atomic<Int64>
    let bytesIn = Atomic<Int>(0)
    let requests = Atomic<Int>(0)
    private let exchangeSlot = Mutex<Exchange?>(nil)
    /// The exchange, as other threads may see it.
    var exchange: Exchange? { exchangeSlot.withLock { $0 } }

    /// What the gatekeeper remembers from its last look; only its thread touches it.
    var lastLook = LastLook()
    var lastProgress: Progress?

    /// What the daemon remembers from its last look.
    var bytesAtLook: Int?

    private var work = Work.none
    private var target: RequestTarget?
    private var targetStart: UnsafePointer<CChar>?
    private var targetLength = 0
    private var received = 0
    private var dropped = 0
    private var isHead = false
    private var isBodyStarted = false

    init(
        socket: Int32, address: String, key: AddressKey, server: ServerCore, daemon: Daemon,
        handle: OpaquePointer
    ) {
        self.socket = socket
        self.address = address
        self.key = key
        self.server = server
        self.daemon = daemon
        self.handle = Unchecked(value: handle)
        since = Atomic(server.clock.load(ordering: .relaxed))
    }

    var progress: Progress {
        Progress(
            phase: phase.load(ordering: .relaxed), since: since.load(ordering: .relaxed),
            bytes: bytesIn.load(ordering: .relaxed), count: requests.load(ordering: .relaxed))
    }

    /// Whether nothing goes on before the client has sent more.
    var awaitsBytes: Bool {
        switch phase.load(ordering: .relaxed) {
        case .fresh, .waiting, .head: true
        case .body: !(exchange?.isSuspended ?? false)
        case .handling, .answering: false
        }
    }

    /// Whether the rest of a body is to be read now.
    var awaitsBody: Bool {
        phase.load(ordering: .relaxed) == .body && !(exchange?.isSuspended ?? false)
    }

    private func enter(_ next: Phase) {
        since.store(server.clock.load(ordering: .relaxed), ordering: .relaxed)
        phase.store(next, ordering: .relaxed)
    }

    // MARK: - Called by libmicrohttpd

    /// The request line has come.
    func begin(target text: UnsafePointer<CChar>) {
        enter(.head)
        requests.wrappingAdd(1, ordering: .relaxed)
        targetStart = text
        targetLength = strlen(text)
        target = text.withMemoryRebound(to: UInt8.self, capacity: targetLength) {
            RequestTarget(UnsafeBufferPointer(start: $0, count: targetLength))
        }
    }

    /// A request is over, whether answered or broken off.
    func end() {
        let ended = exchangeSlot.withLock { exchange in
            defer { exchange = nil }
            return exchange
        }
        ended?.close()
        work = .none
        target = nil
        targetStart = nil
        received = 0
        dropped = 0
        bytesAtLook = nil
        isBodyStarted = false
        enter(.waiting)
    }

    /// libmicrohttpd asks what to do: after the head, for each piece of the body, after the body, and again
    /// after each time the connection was suspended. False closes the connection.
    func proceed(
        _ connection: OpaquePointer, _ method: UnsafePointer<CChar>, _ version: UnsafePointer<CChar>,
        _ upload: UnsafePointer<CChar>?, _ uploadSize: inout Int
    ) -> Bool {
        switch work {
        case .none:
            return start(connection, method, version)
        case .gathering(let request, var bytes):
            guard uploadSize == 0 else {
                guard let upload else { return false }
                work = .none
                upload.withMemoryRebound(to: UInt8.self, capacity: uploadSize) {
                    bytes.append(contentsOf: UnsafeBufferPointer(start: $0, count: uploadSize))
                }
                bytesIn.wrappingAdd(uploadSize, ordering: .relaxed)
                uploadSize = 0
                work = .gathering(request, bytes)
                return true
            }
            var request = request
            request.body = bytes.isEmpty ? .empty : Body(bytes)
            let exchange = Exchange(connection, daemon)
            begin(exchange, request)
            isBodyStarted = true
            enter(.handling)
            return act(exchange.waitForAnswer(), connection)
        case .exchange(let exchange):
            return goOn(exchange, connection, upload, &uploadSize)
        case .draining(let response):
            guard uploadSize == 0 else {
                bytesIn.wrappingAdd(uploadSize, ordering: .relaxed)
                uploadSize = 0
                return true
            }
            return answer(response, connection, nil)
        case .discarding(let left):
            guard uploadSize > 0, uploadSize <= left else { return false }
            work = .discarding(left: left - uploadSize)
            bytesIn.wrappingAdd(uploadSize, ordering: .relaxed)
            uploadSize = 0
            return true
        case .done:
            uploadSize = 0
            return true
        }
    }

    // MARK: - A request

    private func start(
        _ connection: OpaquePointer, _ method: UnsafePointer<CChar>, _ version: UnsafePointer<CChar>
    ) -> Bool {
        let request: Request
        let head: RequestHead
        do {
            (request, head) = try readHead(connection, method, version)
        } catch {
            return refuse(error.problem, connection)
        }
        isHead = request.method == .head
        if let length = head.contentLength, length > server.limits.bodyBytes {
            let refusal = Problem.bodyTooLarge(server.limits.bodyBytes).response(
                requestID: "", language: .english)
            if !head.expectsContinue, answerWhileReceiving(refusal) { return true }
            return answer(refusal, connection, nil, closes: true)
        }
        let length = head.isChunked ? nil : head.contentLength ?? 0
        if let response = server.responder.answerAtOnce(request) {
            guard let length, length <= Self.drained, !head.expectsContinue || length == 0 else {
                return answer(response, connection, nil, closes: true)
            }
            // Even without a body: libmicrohttpd closes a connection that is answered before its last call.
            work = .draining(response)
            if length > 0 { enter(.body) }
            return true
        }
        if length != 0 { enter(.body) }
        if let length, length <= Self.gathered {
            var bytes = Bytes()
            bytes.reserveCapacity(length)
            work = .gathering(request, bytes)
            return true
        }
        let exchange = Exchange(connection, daemon)
        var streamed = request
        streamed.body = Body(length: head.contentLength) { try await exchange.pull() }
        isBodyStarted = !head.expectsContinue
        begin(exchange, streamed)
        return head.expectsContinue ? act(exchange.waitBeforeBody(), connection) : true
    }

    private func begin(_ exchange: Exchange, _ request: Request) {
        work = .exchange(exchange)
        exchangeSlot.withLock { $0 = exchange }
        exchange.run(request, server.responder)
        // What needs no waiting is answered when this returns, and the connection need not be suspended.
        daemon.executor?.runWaiting()
    }

    private func goOn(
        _ exchange: Exchange, _ connection: OpaquePointer, _ upload: UnsafePointer<CChar>?,
        _ uploadSize: inout Int
    ) -> Bool {
        if uploadSize > 0, let upload {
            isBodyStarted = true
            if let response = exchange.earlyAnswer {
                dropped += uploadSize
                bytesIn.wrappingAdd(uploadSize, ordering: .relaxed)
                uploadSize = 0
                // The rest of a short body is dropped, so that the connection can be kept.
                return dropped <= Self.drained || answerWhileReceiving(response)
            }
            guard received + uploadSize <= server.limits.bodyBytes else {
                exchange.refuseBody(BodyTooLarge(limit: server.limits.bodyBytes))
                return true
            }
            let size = uploadSize
            let isTaken = upload.withMemoryRebound(to: UInt8.self, capacity: size) {
                exchange.receive(UnsafeBufferPointer(start: $0, count: size))
            }
            if isTaken {
                received += size
                bytesIn.wrappingAdd(size, ordering: .relaxed)
                uploadSize = 0
            }
            return true
        }
        if !isBodyStarted {
            // Still before the body, which waits for `100 Continue`.
            let step = exchange.waitBeforeBody()
            if case .goOn = step, !exchange.isSuspended { isBodyStarted = true }
            return act(step, connection)
        }
        enter(.handling)
        return act(exchange.waitForAnswer(), connection)
    }

    private func act(_ step: Exchange.Step, _ connection: OpaquePointer) -> Bool {
        switch step {
        case .goOn: return true
        case .close: return false
        case .answer(let response):
            guard case .exchange(let exchange) = work else { return false }
            return answer(response, connection, exchange)
        }
    }

    private func answer(
        _ response: Response, _ connection: OpaquePointer, _ exchange: Exchange?, closes: Bool = false
    ) -> Bool {
        enter(.answering)
        if exchange == nil { work = .done }
        return Answering.queue(
            response, on: connection, exchange: exchange, isHead: isHead, closes: closes || server.isStopping)
    }

    /// Answers a client that is still sending. libmicrohttpd can only answer after the body, or close with
    /// the rest of it unread, upon which the client's system throws the answer away.
    private func answerWhileReceiving(_ response: Response) -> Bool {
        guard !server.isTLS, let text = RawAnswer(response) else { return false }
        text.send(to: socket)
        shutdown(socket, Int32(SHUT_WR))
        work = .discarding(left: Self.discarded)
        enter(.body)
        return true
    }

    /// An answer to what is no request of ours, after which nothing on the connection can be trusted.
    private func refuse(_ problem: Problem, _ connection: OpaquePointer) -> Bool {
        server.refused.increment()
        return answer(problem.response(requestID: "", language: .english), connection, nil, closes: true)
    }

    private func readHead(
        _ connection: OpaquePointer, _ method: UnsafePointer<CChar>, _ version: UnsafePointer<CChar>
    ) throws(HeadMistake) -> (Request, RequestHead) {
        let methodLength = strlen(method)
        // The parts of the request line, each one byte behind the other: no further blanks, no NUL.
        guard let target, let targetStart, methodLength > 0, methodLength <= 32,
            method + methodLength + 1 == targetStart, targetStart + targetLength + 1 == version,
            version[8] == 0, version[9] == 0
        else { throw .malformed }
        let start = method.distance(to: version) + 10
        let size = convoke_head_size(connection) - start
        guard size >= 2 else { throw .malformed }
        guard start + size <= server.limits.headBytes else { throw .tooLong }
        let isHTTP11 = version[5] == 0x31 && version[7] != 0x30
        let lines = UnsafeRawPointer(version + 10).assumingMemoryBound(to: UInt8.self)
        let head = try RequestHead(
            UnsafeBufferPointer(start: lines, count: size), maximumCount: server.limits.headerCount,
            isHTTP11: isHTTP11)
        if let authority = target.authority, !sameName(authority, head.headers["host"] ?? authority) {
            throw .badHost
        }
        let methodBytes = UnsafeRawBufferPointer(start: method, count: methodLength)
        guard methodBytes.allSatisfy(isTokenByte) else { throw .malformed }
        let request = Request(
            Method(rawValue: String(decoding: methodBytes, as: UTF8.self)), target.path,
            query: target.query.isEmpty ? Query() : Query(target.query), headers: head.headers,
            remoteAddress: address)
        return (request, head)
    }
}

extension HeadMistake {
    var problem: Problem {
        switch self {
        case .malformed:
            Problem(400, "malformed_request", .init("The request is malformed", "Запрос составлен неверно"))
        case .tooLong:
            Problem(431, "head_too_large", .init("The header is too long", "Заголовок слишком длинный"))
        case .tooManyFields:
            Problem(
                431, "too_many_headers", .init("There are too many header fields", "Слишком много заголовков")
            )
        case .badLength:
            Problem(
                400, "bad_length", .init("The length of the body is unclear", "Длина тела запроса неясна"))
        case .badTransferEncoding:
            Problem(
                400, "bad_transfer_encoding",
                .init("The transfer coding is not possible here", "Такая кодировка передачи невозможна"))
        case .badHost:
            Problem(
                400, "bad_host",
                .init("The host is missing or unclear", "Узел не указан или указан неоднозначно"))
        }
    }
}
