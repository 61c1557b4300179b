import CCurl
import Core
import HTTP

/// One of libcurl's easy handles, and what it is doing at the moment. It is set up once and serves one
/// exchange after another; only the loop's thread touches it.
final class Transfer {
    let easy: UnsafeMutableRawPointer
    private(set) var exchange: Exchange?
    /// The loop's number for the exchange.
    private(set) var number = 0
    private(set) var head: AnswerHead
    /// How often libcurl began to send the request: none means that the other side cannot have seen it.
    private(set) var sendings = 0
    /// What we ourselves stopped it for; libcurl only says that a callback did.
    var failure: (any Error)?
    /// The sockets that were opened for it. None means that it used connections from the pool only.
    var opened: [curl_socket_t] = []
    /// When the exchange is given up if nothing happens.
    var due: Duration = .zero
    var isDelivered = false
    /// Whether this turn of the loop brought something that someone has yet to be told.
    var isTouched = false
    unowned let loop: LoopThread

    private let headLimit: Int
    private let errorText: UnsafeMutablePointer<CChar>
    private var fields = FieldList()
    private var shape = Shape.get
    /// Whether the rest of the request's body goes unsent because the answer is there already.
    private var isUploadOver = false
    private var isRepeated = false

    /// What libcurl has to be told about the method; options stay set, so only a change costs anything.
    fileprivate enum Shape: Equatable {
        case get
        case head
        case without(Method)
        case small(Method)
        case upload(Method)
    }
    /// Up to this size a body goes out in one packet with the head; libcurl keeps a copy of it.
    private static let smallBody = 32 << 10

    init?(loop: LoopThread, settings: HTTPClient.Settings) {
        guard let easy = curl_easy_init() else { return nil }
        self.easy = easy
        self.loop = loop
        headLimit = settings.limits.head
        head = AnswerHead(limit: headLimit)
        errorText = .allocate(capacity: Int(CURL_ERROR_SIZE))
        errorText.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
        convoke_curl_set_transfer_callbacks(
            easy, Unmanaged.passUnretained(self).toOpaque(), onHeadLine, onBody, onUpload, onRewind, onSending
        )
        // A connection outlives the transfer that opened it, so its end is the loop's to hear of.
        convoke_curl_set_socket_callbacks(
            easy, Unmanaged.passUnretained(self).toOpaque(), onOpen,
            Unmanaged.passUnretained(loop).toOpaque(), onClose)
        convoke_curl_set_pointer(easy, CURLOPT_ERRORBUFFER, errorText)
        for (option, number) in Self.constants { convoke_curl_set_number(easy, option, number) }
        convoke_curl_set_text(easy, CURLOPT_PROTOCOLS_STR, "http,https")
        // Empty, not absent: so that no `http_proxy` of the environment counts.
        convoke_curl_set_text(easy, CURLOPT_PROXY, "")
        convoke_curl_set_number(easy, CURLOPT_CONNECTTIMEOUT_MS, Int(settings.connectTimeout.milliseconds))
        convoke_curl_set_number(easy, CURLOPT_MAXAGE_CONN, Int(settings.keepAlive.wholeSecondsUp))
        if let path = settings.certificateAuthorities { convoke_curl_set_text(easy, CURLOPT_CAINFO, path) }
    }

    private static let constants: [(CURLoption, Int)] = [
        (CURLOPT_NOSIGNAL, 1),
        (CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_1_1)),
        (CURLOPT_FOLLOWLOCATION, 0),
        (CURLOPT_SSL_VERIFYPEER, 1),
        (CURLOPT_SSL_VERIFYHOST, 2),
        (CURLOPT_SSLVERSION, Int(CURL_SSLVERSION_TLSv1_2)),
        (CURLOPT_NETRC, Int(CURL_NETRC_IGNORED.rawValue)),
        (CURLOPT_DISALLOW_USERNAME_IN_URL, 1),
        // `/a/../b` is the caller's business; a gateway has to pass on what it checked.
        (CURLOPT_PATH_AS_IS, 1),
        (CURLOPT_TCP_KEEPALIVE, 1),
        // Without it, removing a transfer whose host name is being looked up waits for the resolver's
        // thread, and with it every other transfer (libcurl 7.88). The thread ends by itself.
        (CURLOPT_QUICK_EXIT, 1),
    ]

    deinit {
        curl_easy_cleanup(easy)
        errorText.deallocate()
    }

    // MARK: - Beginning and ending

    func begin(_ exchange: Exchange, number: Int) {
        self.exchange = exchange
        self.number = number
        due = exchange.due
        let request = exchange.request
        let new = shape(of: request)
        request.headers.write(to: &fields, for: new)
        convoke_curl_set_text(easy, CURLOPT_URL, exchange.target.url)
        convoke_curl_set_list(easy, fields.first)
        if new != shape { take(new) }
        switch new {
        case .small:
            let bytes = request.body.bytesAtHand ?? []
            convoke_curl_set_size(easy, CURLOPT_POSTFIELDSIZE_LARGE, Int64(bytes.count))
            _ = bytes.withUnsafeBytes {
                // An empty array has no address, and libcurl takes none for "read it by callback".
                convoke_curl_set_pointer(
                    easy, CURLOPT_COPYPOSTFIELDS,
                    UnsafeMutableRawPointer(mutating: $0.baseAddress ?? UnsafeRawPointer(easy)))
            }
        case .upload:
            convoke_curl_set_size(easy, CURLOPT_INFILESIZE_LARGE, Int64(request.body.length ?? -1))
            exchange.startPump()
        case .get, .head, .without: break
        }
    }

    private func shape(of request: ClientRequest) -> Shape {
        switch request.body.length {
        case 0:
            switch request.method {
            case .get: .get
            case .head: .head
            // These say that they have no body; for the others its absence says it.
            case .post, .put, .patch: .small(request.method)
            default: .without(request.method)
            }
        case let length?:
            request.body.bytesAtHand != nil && length <= Self.smallBody
                ? .small(request.method) : .upload(request.method)
        case nil: .upload(request.method)
        }
    }

    private func take(_ new: Shape) {
        shape = new
        convoke_curl_set_pointer(easy, CURLOPT_COPYPOSTFIELDS, nil)
        convoke_curl_set_number(easy, CURLOPT_HTTPGET, 1)
        switch new {
        case .get: convoke_curl_set_text(easy, CURLOPT_CUSTOMREQUEST, nil)
        case .head:
            convoke_curl_set_text(easy, CURLOPT_CUSTOMREQUEST, nil)
            convoke_curl_set_number(easy, CURLOPT_NOBODY, 1)
        case .without(let method): convoke_curl_set_text(easy, CURLOPT_CUSTOMREQUEST, method.rawValue)
        case .small(let method):
            convoke_curl_set_number(easy, CURLOPT_POST, 1)
            convoke_curl_set_text(easy, CURLOPT_CUSTOMREQUEST, method.rawValue)
        case .upload(let method):
            convoke_curl_set_number(easy, CURLOPT_UPLOAD, 1)
            convoke_curl_set_text(easy, CURLOPT_CUSTOMREQUEST, method.rawValue)
        }
    }

    /// Whether the exchange failed because its pooled connection was closed meanwhile, and may go out anew;
    /// if so, it is ready to, on a connection of its own.
    ///
    /// libcurl 7.88 does the same, but not always: not when sending fails behind the head, and on one handle
    /// only five times in all its life.
    func mayRepeat(after code: CURLcode) -> Bool {
        guard code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING,
            failure == nil, sendings > 0, opened.isEmpty, head.isUntouched,
            let exchange, exchange.request.method.isIdempotent, exchange.rewind()
        else { return false }
        isRepeated = true
        errorText[0] = 0
        convoke_curl_set_number(easy, CURLOPT_FRESH_CONNECT, 1)
        return true
    }

    /// Makes it ready for another exchange.
    func end() {
        exchange = nil
        opened.removeAll(keepingCapacity: true)
        if isRepeated { convoke_curl_set_number(easy, CURLOPT_FRESH_CONNECT, 0) }
        isRepeated = false
        head = AnswerHead(limit: headLimit)
        sendings = 0
        failure = nil
        isDelivered = false
        isTouched = false
        isUploadOver = false
        errorText[0] = 0
    }

    // MARK: - What libcurl reports

    /// Called before each sending of the request, also when libcurl tries again by itself because a
    /// connection from its pool turned out to be closed. Twice is only right for what may be done twice.
    fileprivate func allowsSending() -> Bool {
        guard let exchange else { return false }
        if sendings > 0 {
            guard exchange.request.method.isIdempotent, exchange.rewind() else { return false }
        }
        sendings += 1
        return true
    }

    fileprivate func takeHeadLine(_ line: UnsafeBufferPointer<UInt8>) -> Bool {
        do {
            try head.take(line)
        } catch {
            failure = error
            return false
        }
        if head.isComplete, !isDelivered {
            loop.touch(self)
            // libcurl stops sending when a refusal comes early, but waits for a paused sender for ever.
            if head.status >= 300, case .upload = shape { isUploadOver = true }
        }
        return true
    }

    var mustWakeSender: Bool { isUploadOver }

    fileprivate func takeBody(_ bytes: UnsafeBufferPointer<UInt8>) -> Int {
        guard let exchange else { return bytes.count }
        loop.touch(self)
        guard exchange.receive(bytes) else { return CONVOKE_CURL_WRITE_PAUSE }
        if isDelivered { due = loop.now + exchange.request.idle }
        return bytes.count
    }

    fileprivate func fillUpload(_ space: UnsafeMutableRawBufferPointer) -> Int {
        guard let exchange else { return CONVOKE_CURL_READ_ABORT }
        switch exchange.take(into: space) {
        case .bytes(let count):
            if isDelivered { due = loop.now + exchange.request.idle }
            return count
        case .end: return 0
        case .pause: return CONVOKE_CURL_READ_PAUSE
        case .failed(let error):
            failure = error
            return CONVOKE_CURL_READ_ABORT
        }
    }

    fileprivate func rewind() -> Bool { exchange?.rewind() ?? false }

    /// The truth about a transfer that libcurl ended with `code`.
    func failure(for code: CURLcode) -> any Error {
        if let failure { return failure }
        let wasSent = sendings > 0
        let detail = String(cString: errorText)
        let reason = detail.isEmpty ? String(cString: curl_easy_strerror(code)) : detail
        switch code {
        case CURLE_OPERATION_TIMEDOUT: return ClientError.timedOut(mayHaveArrived: wasSent)
        case CURLE_URL_MALFORMAT where !wasSent: return ClientError.invalidURL
        case _ where !wasSent: return ClientError.notSent(reason: reason)
        case CURLE_ABORTED_BY_CALLBACK:
            return ClientError.inDoubt(reason: "the connection was closed before an answer")
        case CURLE_UNSUPPORTED_PROTOCOL, CURLE_WEIRD_SERVER_REPLY, CURLE_PARTIAL_FILE,
            CURLE_BAD_CONTENT_ENCODING, CURLE_FILESIZE_EXCEEDED, CURLE_OUT_OF_MEMORY:
            return ClientError.badAnswer(reason: reason)
        // libcurl 7.88 has one code for a broken connection and for nonsense between two chunks.
        case CURLE_RECV_ERROR where head.isComplete: return ClientError.badAnswer(reason: reason)
        default: return ClientError.inDoubt(reason: reason)
        }
    }
}

extension Headers {
    fileprivate func write(to list: inout FieldList, for shape: Transfer.Shape) {
        list.removeAll()
        var hasType = false
        for field in self where !isFraming(field.name) {
            if field.name.utf8.count == 12, sameName(field.name, "content-type") { hasType = true }
            list.append(field.name, field.value)
        }
        // What libcurl would add by itself.
        switch shape {
        case .small: if !hasType { list.remove("Content-Type") }
        case .upload: list.remove("Expect")
        case .get, .head, .without: break
        }
        list.link()
    }
}

/// Header fields as libcurl wants them, in memory that is used again for the next request.
private struct FieldList: ~Copyable {
    private var text: [CChar] = []
    private var starts: [Int] = []
    private var nodes: UnsafeMutablePointer<curl_slist> = .allocate(capacity: 8)
    private var bytes: UnsafeMutablePointer<CChar> = .allocate(capacity: 512)
    private var nodeCapacity = 8
    private var byteCapacity = 512

    deinit {
        nodes.deallocate()
        bytes.deallocate()
    }

    var first: UnsafeMutablePointer<curl_slist>? { starts.isEmpty ? nil : nodes }

    mutating func removeAll() {
        text.removeAll(keepingCapacity: true)
        starts.removeAll(keepingCapacity: true)
    }

    mutating func append(_ name: String, _ value: String) {
        starts.append(text.count)
        for byte in name.utf8 { text.append(CChar(bitPattern: byte)) }
        if value.isEmpty {
            text.append(CChar(bitPattern: UInt8(ascii: ";")))  // libcurl's way to write an empty field
        } else {
            text.append(CChar(bitPattern: UInt8(ascii: ":")))
            text.append(CChar(bitPattern: UInt8(ascii: " ")))
            for byte in value.utf8 { text.append(CChar(bitPattern: byte)) }
        }
        text.append(0)
    }

    mutating func remove(_ name: StaticString) {
        starts.append(text.count)
        name.withUTF8Buffer { for byte in $0 { text.append(CChar(bitPattern: byte)) } }
        text.append(CChar(bitPattern: UInt8(ascii: ":")))
        text.append(0)
    }

    /// Addresses are taken last, when nothing moves any longer.
    mutating func link() {
        if text.count > byteCapacity {
            bytes.deallocate()
            byteCapacity = text.count * 2
            bytes = .allocate(capacity: byteCapacity)
        }
        if starts.count > nodeCapacity {
            nodes.deallocate()
            nodeCapacity = starts.count * 2
            nodes = .allocate(capacity: nodeCapacity)
        }
        let bytes = bytes
        text.withUnsafeBufferPointer {
            if let from = $0.baseAddress { bytes.update(from: from, count: $0.count) }
        }
        for (index, start) in starts.enumerated() {
            let next = index + 1 < starts.count ? nodes + (index + 1) : nil
            (nodes + index).initialize(to: curl_slist(data: bytes + start, next: next))
        }
    }
}

// MARK: - Callbacks

private func transfer(_ owner: UnsafeMutableRawPointer?) -> Transfer? {
    owner.map { Unmanaged<Transfer>.fromOpaque($0).takeUnretainedValue() }
}

private func buffer(_ bytes: UnsafeMutablePointer<CChar>?, _ count: Int) -> UnsafeBufferPointer<UInt8> {
    UnsafeRawBufferPointer(start: bytes, count: count).assumingMemoryBound(to: UInt8.self)
}

private let onHeadLine: convoke_curl_bytes = { bytes, size, count, owner in
    transfer(owner)?.takeHeadLine(buffer(bytes, size * count)) == true ? size * count : 0
}

private let onBody: convoke_curl_bytes = { bytes, size, count, owner in
    transfer(owner)?.takeBody(buffer(bytes, size * count)) ?? 0
}

private let onUpload: convoke_curl_bytes = { bytes, size, count, owner in
    transfer(owner)?.fillUpload(UnsafeMutableRawBufferPointer(start: bytes, count: size * count))
        ?? CONVOKE_CURL_READ_ABORT
}

private let onRewind: @convention(c) (UnsafeMutableRawPointer?, curl_off_t, CInt) -> CInt = {
    owner, offset, origin in
    offset == 0 && origin == 0 && transfer(owner)?.rewind() == true ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL
}

private let onSending:
    @convention(c) (
        UnsafeMutableRawPointer?, UnsafeMutablePointer<CChar>?, UnsafeMutablePointer<CChar>?, CInt, CInt
    ) -> CInt = { owner, _, _, _, _ in
        transfer(owner)?.allowsSending() == true ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT
    }

private let onOpen:
    @convention(c) (UnsafeMutableRawPointer?, curlsocktype, UnsafeMutablePointer<curl_sockaddr>?) ->
        curl_socket_t = {
            owner, _, address in
            guard let transfer = transfer(owner), let address else { return -1 }
            return transfer.loop.open(address.pointee, for: transfer)
        }

private let onClose: @convention(c) (UnsafeMutableRawPointer?, curl_socket_t) -> CInt = { owner, socket in
    guard let owner else { return 1 }
    return Unmanaged<LoopThread>.fromOpaque(owner).takeUnretainedValue().close(socket)
}
