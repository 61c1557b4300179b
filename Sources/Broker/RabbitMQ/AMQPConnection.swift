import CRabbitMQ
import Core
import Glibc

/// One connection to a RabbitMQ server. Blocking, and confined to the thread that opened it; whatever it
/// throws, it is dead afterwards.
///
/// Channel errors end the whole connection on purpose: they mean that the queues are not what we declared,
/// and connecting anew declares them again.
final class AMQPConnection {
    private let state: amqp_connection_state_t
    /// Memory for one call's strings and tables.
    private var pool = amqp_pool_t()
    let socket: Int32
    let heartbeat: Int

    enum Event {
        case confirmed(tag: UInt64, isMultiple: Bool)
        case refused(tag: UInt64, isMultiple: Bool)
        case returned(id: String, routingKey: String)
        case blocked
        case unblocked
        case other
    }

    init(_ address: AMQPAddress, name: String, heartbeat: Int, timeout: Duration) throws(BrokerError) {
        guard let state = amqp_new_connection() else {
            throw .unavailable(reason: "out of memory", mayHaveRun: false)
        }
        self.state = state
        self.heartbeat = heartbeat
        let limit = Int32(clamping: timeout.milliseconds)
        guard let socket = address.isEncrypted ? amqp_ssl_socket_new(state) : amqp_tcp_socket_new(state)
        else {
            amqp_destroy_connection(state)
            throw .unavailable(reason: "out of memory", mayHaveRun: false)
        }
        if address.isEncrypted {
            amqp_ssl_socket_set_cacert(socket, "/etc/ssl/certs/ca-certificates.crt")
            amqp_ssl_socket_set_verify_peer(socket, 1)
            amqp_ssl_socket_set_verify_hostname(socket, 1)
        }
        let status = convoke_amqp_open(socket, address.host, Int32(address.port), limit)
        guard status == AMQP_STATUS_OK.rawValue else {
            amqp_destroy_connection(state)
            throw .unavailable(reason: "\(address): \(describe(status))", mayHaveRun: false)
        }
        self.socket = amqp_get_sockfd(state)
        _ = fcntl(self.socket, F_SETFD, FD_CLOEXEC)
        convoke_set_user_timeout(self.socket, UInt32(heartbeat) * 2000)
        init_amqp_pool(&pool, 4096)
        // From here on `deinit` closes it, whatever is thrown.
        convoke_amqp_limit_calls(state, limit)
        var capability = [entry("connection.blocked", true)]
        let capabilities = capability.withUnsafeMutableBufferPointer {
            table($0)
        }
        var properties = [
            entry("product", "convoke"), entry("connection_name", name), entry("capabilities", capabilities),
        ]
        let reply = properties.withUnsafeMutableBufferPointer { entries in
            var properties = table(entries)
            return address.password.expose().withCString { password in
                convoke_amqp_login(
                    state, address.virtualHost, Int32(heartbeat), &properties, address.user, password)
            }
        }
        recycle_amqp_pool(&pool)
        try check(reply, "login to \(address)")
    }

    deinit {
        amqp_destroy_connection(state)
        empty_amqp_pool(&pool)
    }

    /// Says goodbye, so that the server need not wonder; never waits longer than the call's time-out.
    func close() { _ = amqp_connection_close(state, AMQP_REPLY_SUCCESS) }

    // MARK: - Declaring

    func openChannel(_ channel: UInt16) throws(BrokerError) {
        amqp_channel_open(state, channel)
        try check(amqp_get_rpc_reply(state), "opening a channel")
    }

    func selectConfirms(_ channel: UInt16) throws(BrokerError) {
        amqp_confirm_select(state, channel)
        try check(amqp_get_rpc_reply(state), "asking for confirms")
    }

    enum Argument {
        case text(String)
        case number(Int64)
    }

    func declareExchange(_ name: String, type: String, on channel: UInt16) throws(BrokerError) {
        amqp_exchange_declare(state, channel, bytes(name), bytes(type), 0, 1, 0, 0, amqp_empty_table)
        recycle_amqp_pool(&pool)
        try check(amqp_get_rpc_reply(state), "declaring \(name)")
    }

    func declareQueue(
        _ name: String, _ arguments: [(String, Argument)], on channel: UInt16
    ) throws(BrokerError) {
        var entries = arguments.map { name, argument in
            switch argument {
            case .text(let text): entry(name, text)
            case .number(let number): entry(name, number)
            }
        }
        entries.withUnsafeMutableBufferPointer { entries in
            _ = amqp_queue_declare(state, channel, bytes(name), 0, 1, 0, 0, table(entries))
        }
        recycle_amqp_pool(&pool)
        try check(amqp_get_rpc_reply(state), "declaring \(name)")
    }

    func bind(_ queue: String, to exchange: String, key: String, on channel: UInt16) throws(BrokerError) {
        amqp_queue_bind(state, channel, bytes(queue), bytes(exchange), bytes(key), amqp_empty_table)
        recycle_amqp_pool(&pool)
        try check(amqp_get_rpc_reply(state), "binding \(queue)")
    }

    /// The messages of a queue that are ready.
    func depth(of queue: String, on channel: UInt16) throws(BrokerError) -> Int {
        let answer = amqp_queue_declare(state, channel, bytes(queue), 1, 1, 0, 0, amqp_empty_table)
        let depth = answer.map { Int($0.pointee.message_count) }
        recycle_amqp_pool(&pool)
        try check(amqp_get_rpc_reply(state), "looking at \(queue)")
        return depth ?? 0
    }

    // MARK: - Publishing

    /// Sends one message, persistent and mandatory; the confirm comes later, as an event.
    func publish(_ outgoing: Outgoing, on channel: UInt16) throws(BrokerError) {
        defer { recycle_amqp_pool(&pool) }
        let message = outgoing.message
        var properties = amqp_basic_properties_t()
        properties._flags = amqp_flags_t(
            AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG
                | AMQP_BASIC_HEADERS_FLAG)
        properties.content_type = bytes(message.contentType)
        properties.delivery_mode = UInt8(AMQP_DELIVERY_PERSISTENT.rawValue)
        properties.message_id = bytes(message.id)
        let status = withUnsafeTemporaryAllocation(of: amqp_table_entry_t.self, capacity: 5) { headers in
            var count = 0
            func add(_ made: amqp_table_entry_t) {
                headers.initializeElement(at: count, to: made)
                count += 1
            }
            add(entry(Header.attempt, Int64(outgoing.attempt)))
            if let trace = message.traceparent { add(entry(Header.traceparent, trace)) }
            if let id = message.requestID { add(entry(Header.requestID, id)) }
            if let moment = outgoing.notBefore { add(entry(Header.notBefore, moment.milliseconds)) }
            if let reason = outgoing.reason { add(entry(Header.reason, String(reason.prefix(500)))) }
            properties.headers = amqp_table_t(num_entries: Int32(count), entries: headers.baseAddress)
            return message.body.withUnsafeBytes { body in
                amqp_basic_publish(
                    state, channel, bytes(outgoing.exchange), bytes(outgoing.routingKey), 1, 0, &properties,
                    amqp_bytes_t(
                        len: body.count, bytes: UnsafeMutableRawPointer(mutating: body.baseAddress)))
            }
        }
        try check(status, "publishing")
    }

    // MARK: - Consuming

    func limitUnacknowledged(to count: Int, on channel: UInt16) throws(BrokerError) {
        amqp_basic_qos(state, channel, 0, UInt16(clamping: count), 0)
        try check(amqp_get_rpc_reply(state), "setting the prefetch")
    }

    func subscribe(to queue: String, tag: String, on channel: UInt16) throws(BrokerError) {
        amqp_basic_consume(state, channel, bytes(queue), bytes(tag), 0, 0, 0, amqp_empty_table)
        recycle_amqp_pool(&pool)
        try check(amqp_get_rpc_reply(state), "subscribing to \(queue)")
    }

    func unsubscribe(_ tag: String, on channel: UInt16) throws(BrokerError) {
        amqp_basic_cancel(state, channel, bytes(tag))
        recycle_amqp_pool(&pool)
        try check(amqp_get_rpc_reply(state), "unsubscribing")
    }

    func acknowledge(_ tag: UInt64, multiple: Bool, on channel: UInt16) throws(BrokerError) {
        try check(amqp_basic_ack(state, channel, tag, multiple ? 1 : 0), "acknowledging")
    }

    func giveBack(_ tag: UInt64, on channel: UInt16) throws(BrokerError) {
        try check(amqp_basic_nack(state, channel, tag, 0, 1), "giving back")
    }

    // MARK: - Reading

    /// Blocks until the server has something to say, `wakeUp` is raised, or `limit` has passed.
    ///
    /// Both `next…` functions read until nothing is left, so what librabbitmq has buffered is never asleep here.
    func wait(_ wakeUp: WakeUp, limit: Duration) {
        var files = [
            pollfd(fd: socket, events: Int16(POLLIN), revents: 0),
            pollfd(fd: wakeUp.file, events: Int16(POLLIN), revents: 0),
        ]
        _ = poll(&files, 2, Int32(clamping: max(limit.milliseconds, 0)))
        if files[1].revents != 0 { wakeUp.lower() }
    }

    /// What has come on a connection that publishes; `nil` when nothing has. Also keeps the heartbeat going.
    func nextEvent() throws(BrokerError) -> Event? {
        amqp_maybe_release_buffers(state)
        var frame = amqp_frame_t()
        let status = convoke_amqp_frame_now(state, &frame)
        if status == AMQP_STATUS_TIMEOUT.rawValue { return nil }
        try check(status, "reading")
        guard frame.frame_type == AMQP_FRAME_METHOD else { return .other }
        return try event(frame)
    }

    /// A message that has come on a connection that consumes; `nil` when none has. Also keeps the heartbeat
    /// going.
    func nextMessage() throws(BrokerError) -> Incoming? {
        while true {
            amqp_maybe_release_buffers(state)
            var envelope = amqp_envelope_t()
            let reply = convoke_amqp_message_now(state, &envelope)
            if reply.reply_type == AMQP_RESPONSE_NORMAL {
                defer { amqp_destroy_envelope(&envelope) }
                return incoming(envelope)
            }
            if reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION {
                if reply.library_error == AMQP_STATUS_TIMEOUT.rawValue { return nil }
                if reply.library_error == AMQP_STATUS_UNEXPECTED_STATE.rawValue {
                    // Something else than a message: the frame is still there to be read.
                    guard let event = try nextEvent() else { return nil }
                    _ = event
                    continue
                }
            }
            try check(reply, "reading")
        }
    }

    private func event(_ frame: amqp_frame_t) throws(BrokerError) -> Event {
        let method = frame.payload.method
        switch method.id {
        case convoke_basic_ack:
            let ack = method.decoded.assumingMemoryBound(to: amqp_basic_ack_t.self).pointee
            return .confirmed(tag: ack.delivery_tag, isMultiple: ack.multiple != 0)
        case convoke_basic_nack:
            let nack = method.decoded.assumingMemoryBound(to: amqp_basic_nack_t.self).pointee
            return .refused(tag: nack.delivery_tag, isMultiple: nack.multiple != 0)
        case convoke_basic_return:
            let returned = method.decoded.assumingMemoryBound(to: amqp_basic_return_t.self).pointee
            let key = string(returned.routing_key)
            var message = amqp_message_t()
            try check(amqp_read_message(state, frame.channel, &message, 0), "reading a returned message")
            defer { amqp_destroy_message(&message) }
            return .returned(id: string(message.properties.message_id), routingKey: key)
        case convoke_connection_blocked: return .blocked
        case convoke_connection_unblocked: return .unblocked
        case convoke_basic_cancel:
            throw .unavailable(reason: "the server ended a subscription", mayHaveRun: true)
        case convoke_channel_close, convoke_connection_close: throw closed(method)
        default: return .other
        }
    }

    private func incoming(_ envelope: amqp_envelope_t) -> Incoming {
        let properties = envelope.message.properties
        let flags = Int32(bitPattern: properties._flags)
        var numbers: [String: Int64] = [:]
        var texts: [String: String] = [:]
        if flags & AMQP_BASIC_HEADERS_FLAG != 0 {
            for index in 0..<Int(properties.headers.num_entries) {
                let header = properties.headers.entries[index]
                let value = header.value
                switch amqp_field_value_kind_t(rawValue: UInt32(value.kind)) {
                case AMQP_FIELD_KIND_I64: numbers[string(header.key)] = value.value.i64
                case AMQP_FIELD_KIND_I32: numbers[string(header.key)] = Int64(value.value.i32)
                case AMQP_FIELD_KIND_UTF8: texts[string(header.key)] = string(value.value.bytes)
                default: break
                }
            }
        }
        let body = envelope.message.body
        let message = Message(
            id: flags & AMQP_BASIC_MESSAGE_ID_FLAG != 0 ? string(properties.message_id) : "",
            body: Array(UnsafeRawBufferPointer(start: body.bytes, count: body.len)),
            contentType: flags & AMQP_BASIC_CONTENT_TYPE_FLAG != 0
                ? string(properties.content_type) : "application/octet-stream",
            traceparent: texts[Header.traceparent], requestID: texts[Header.requestID])
        return Incoming(
            channel: envelope.channel, tag: envelope.delivery_tag, message: message,
            attempt: max(1, Int(clamping: numbers[Header.attempt] ?? 1)),
            returns: max(0, Int(clamping: numbers[Header.deliveryCount] ?? 0)),
            isRedelivered: envelope.redelivered != 0,
            notBefore: numbers[Header.notBefore].map { Timestamp(milliseconds: $0) },
            reason: texts[Header.reason])
    }

    // MARK: - C's forms

    private func bytes(_ text: String) -> amqp_bytes_t {
        var result = amqp_bytes_t()
        var text = text
        text.withUTF8 { utf8 in
            guard let source = utf8.baseAddress, utf8.count > 0 else { return }
            amqp_pool_alloc_bytes(&pool, utf8.count, &result)
            result.bytes?.copyMemory(from: source, byteCount: utf8.count)
        }
        return result
    }

    private func entry(_ name: String, _ text: String) -> amqp_table_entry_t {
        var entry = amqp_table_entry_t(key: bytes(name), value: amqp_field_value_t())
        entry.value.kind = UInt8(AMQP_FIELD_KIND_UTF8.rawValue)
        entry.value.value.bytes = bytes(text)
        return entry
    }

    private func entry(_ name: String, _ number: Int64) -> amqp_table_entry_t {
        var entry = amqp_table_entry_t(key: bytes(name), value: amqp_field_value_t())
        entry.value.kind = UInt8(AMQP_FIELD_KIND_I64.rawValue)
        entry.value.value.i64 = number
        return entry
    }

    private func entry(_ name: String, _ flag: Bool) -> amqp_table_entry_t {
        var entry = amqp_table_entry_t(key: bytes(name), value: amqp_field_value_t())
        entry.value.kind = UInt8(AMQP_FIELD_KIND_BOOLEAN.rawValue)
        entry.value.value.boolean = flag ? 1 : 0
        return entry
    }

    private func entry(_ name: String, _ table: amqp_table_t) -> amqp_table_entry_t {
        var entry = amqp_table_entry_t(key: bytes(name), value: amqp_field_value_t())
        entry.value.kind = UInt8(AMQP_FIELD_KIND_TABLE.rawValue)
        entry.value.value.table = table
        return entry
    }

    /// The entries move into the pool, so the table lives as long as the call's other memory.
    private func table(_ entries: UnsafeMutableBufferPointer<amqp_table_entry_t>) -> amqp_table_t {
        guard entries.count > 0,
            let memory = amqp_pool_alloc(&pool, entries.count * MemoryLayout<amqp_table_entry_t>.stride)
        else { return amqp_empty_table }
        let copy = memory.bindMemory(to: amqp_table_entry_t.self, capacity: entries.count)
        for (index, entry) in entries.enumerated() { copy[index] = entry }
        return amqp_table_t(num_entries: Int32(entries.count), entries: copy)
    }

    private func check(_ status: Int32, _ what: @autoclosure () -> String) throws(BrokerError) {
        guard status == AMQP_STATUS_OK.rawValue else {
            throw .unavailable(reason: "\(what()): \(describe(status))", mayHaveRun: true)
        }
    }

    private func check(_ reply: amqp_rpc_reply_t, _ what: @autoclosure () -> String) throws(BrokerError) {
        switch reply.reply_type {
        case AMQP_RESPONSE_NORMAL: return
        case AMQP_RESPONSE_SERVER_EXCEPTION: throw closed(reply.reply)
        case AMQP_RESPONSE_LIBRARY_EXCEPTION: try check(reply.library_error, what())
        default: throw .unavailable(reason: "\(what()): the connection ended", mayHaveRun: true)
        }
    }

    private func closed(_ method: amqp_method_t) -> BrokerError {
        guard let decoded = method.decoded else {
            return .unavailable(reason: "the server closed", mayHaveRun: true)
        }
        let code: UInt16
        let text: String
        switch method.id {
        case convoke_channel_close:
            let close = decoded.assumingMemoryBound(to: amqp_channel_close_t.self).pointee
            (code, text) = (close.reply_code, string(close.reply_text))
        case convoke_connection_close:
            let close = decoded.assumingMemoryBound(to: amqp_connection_close_t.self).pointee
            (code, text) = (close.reply_code, string(close.reply_text))
        default: return .unavailable(reason: "the server refused", mayHaveRun: true)
        }
        // 406 while declaring: there is such a queue already, of another kind.
        if Int32(code) == AMQP_PRECONDITION_FAILED && text.contains("inequivalent arg") {
            return .declaration(reason: text)
        }
        return .unavailable(reason: "\(code) \(text)", mayHaveRun: true)
    }
}

private func describe(_ status: Int32) -> String {
    amqp_error_string2(status).map { String(cString: $0) } ?? "status \(status)"
}

private func string(_ bytes: amqp_bytes_t) -> String {
    String(decoding: UnsafeRawBufferPointer(start: bytes.bytes, count: bytes.len), as: UTF8.self)
}

/// Wakes a thread that waits for its socket.
final class WakeUp: Sendable {
    let file: Int32

    init() {
        file = eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC))
        precondition(file >= 0, "the system refuses another descriptor")
    }

    deinit { Glibc.close(file) }

    func raise() { eventfd_write(file, 1) }

    func lower() {
        var count: eventfd_t = 0
        eventfd_read(file, &count)
    }

    /// Blocks until raised or `limit` has passed.
    func wait(limit: Duration?) {
        var entry = pollfd(fd: file, events: Int16(POLLIN), revents: 0)
        _ = poll(&entry, 1, limit.map { Int32(clamping: max($0.milliseconds, 0)) } ?? -1)
        if entry.revents != 0 { lower() }
    }
}
