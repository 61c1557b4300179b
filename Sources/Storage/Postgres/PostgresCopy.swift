import CPostgres

#if canImport(Glibc)
    import Glibc
#endif

extension PostgresConnection {
    func copy(_ rows: [[SQLValue]], into target: CopyTarget, limit: Duration, _ ticket: Ticket) throws -> Int
    {
        try beginCopy(target, limit: limit, ticket)
        do {
            let text = CopyText()
            for row in rows {
                try text.append(row, for: target)
                if text.isFull {
                    try send(text)
                    text.removeAll()
                }
            }
            try send(text)
            try endCopy(nil)
        } catch StorageError.unsupportedValue(let reason) {
            _ = try? endCopy("given up")
            throw StorageError.unsupportedValue(reason: reason)
        }
        return rows.count
    }

    func copy(_ text: CopyText, into target: CopyTarget, limit: Duration, _ ticket: Ticket) throws {
        try beginCopy(target, limit: limit, ticket)
        try send(text)
        try endCopy(nil)
    }

    private func beginCopy(_ target: CopyTarget, limit: Duration, _ ticket: Ticket) throws {
        try script("COPY \(target.table) (\(target.columnList)) FROM STDIN", limit: limit, ticket)
    }

    /// With a reason the server drops what it was sent, and says so in an error.
    private func endCopy(_ reason: String?) throws {
        while true {
            let state = PQputCopyEnd(pointer, reason)
            if state == 1 { break }
            guard state == 0, waitToWrite() else { throw broken(mayHaveRun: false) }
        }
        try finish(mayHaveRun: false)
    }

    private func send(_ text: CopyText) throws {
        let isSent = text.withSlices(of: 64 * 1024) { start, count in
            while true {
                let state = PQputCopyData(pointer, start, Int32(count))
                if state == 1 { break }
                guard state == 0, waitToWrite() else { return false }
            }
            // Not blocking means that libpq gathers what the socket does not take: wait here, or memory grows.
            while true {
                let state = PQflush(pointer)
                if state == 0 { return true }
                guard state == 1, waitToWrite() else { return false }
            }
        }
        guard isSent else { throw broken(mayHaveRun: false) }
    }

    private func waitToWrite() -> Bool {
        var socket = pollfd(fd: PQsocket(pointer), events: Int16(POLLIN) | Int16(POLLOUT), revents: 0)
        while poll(&socket, 1, -1) < 0 { guard errno == EINTR else { return false } }
        // The server says something only when it has given up; it is read when the copy ends.
        if socket.revents & Int16(POLLIN) != 0 { return PQconsumeInput(pointer) == 1 }
        return true
    }
}

/// Rows in COPY's text format, gathered until they are worth their way.
///
/// In memory of its own, because a byte that an array appends costs several times what it costs to write it.
// Safe: one task fills it and hands it over to the connection's thread, and never touches it again.
final class CopyText: CopyPiece, @unchecked Sendable {
    /// A few of these are on the way for each copy that runs.
    private static let full = 512 * 1024

    private var start: UnsafeMutablePointer<UInt8>
    private var capacity: Int
    private var length = 0
    private var count = 0

    init() {
        capacity = 16 * 1024
        start = .allocate(capacity: capacity)
    }

    deinit { start.deallocate() }

    var isEmpty: Bool { count == 0 }
    var isFull: Bool { length >= Self.full }

    func removeAll() { (length, count) = (0, 0) }

    func append(_ row: [SQLValue], for target: CopyTarget) throws {
        try target.check(row)
        let before = length
        do {
            for (index, value) in row.enumerated() {
                if index > 0 { put(UInt8(ascii: "\t")) }
                try append(value)
            }
        } catch {
            length = before
            throw error
        }
        put(UInt8(ascii: "\n"))
        count += 1
    }

    /// Hands out all of it in slices of at most `size` bytes, as long as `body` returns true.
    func withSlices(of size: Int, _ body: (UnsafePointer<CChar>, Int) -> Bool) -> Bool {
        var position = 0
        while position < length {
            let slice = UnsafeRawPointer(start + position).assumingMemoryBound(to: CChar.self)
            let count = min(size, length - position)
            guard body(slice, count) else { return false }
            position += count
        }
        return true
    }

    // MARK: - Values

    private func append(_ value: SQLValue) throws {
        switch value {
        case .null:
            put(UInt8(ascii: "\\"))
            put(UInt8(ascii: "N"))
        case .integer(let number): append(number)
        case .double(let number):
            try value.checkStorable()
            var text = postgresText(number)
            text.withUTF8 { put($0) }
        case .bool(let value): put(UInt8(ascii: value ? "t" : "f"))
        case .text(let text):
            // Without a copy of the string, which every one of ours that is not foreign allows.
            if let isFine = text.utf8.withContiguousStorageIfAvailable({ escape($0) }) {
                guard isFine else { throw StorageError.holdsNullByte }
            } else {
                guard Array(text.utf8).withUnsafeBufferPointer({ escape($0) }) else {
                    throw StorageError.holdsNullByte
                }
            }
        case .bytes(let bytes):
            reserve(3 + 2 * bytes.count)
            put(UInt8(ascii: "\\"))
            put(UInt8(ascii: "\\"))
            put(UInt8(ascii: "x"))
            for byte in bytes {
                start[length] = hexDigits[Int(byte >> 4)]
                start[length + 1] = hexDigits[Int(byte & 15)]
                length += 2
            }
        }
    }

    private func append(_ value: Int64) {
        reserve(20)
        var magnitude = value.magnitude
        if value < 0 { put(UInt8(ascii: "-")) }
        // Backwards from where the last digit will stand.
        var digits = 1
        var power = magnitude / 10
        while power > 0 {
            digits += 1
            power /= 10
        }
        var position = length + digits
        length = position
        repeat {
            position -= 1
            start[position] = UInt8(truncatingIfNeeded: 0x30 + magnitude % 10)
            magnitude /= 10
        } while magnitude > 0
    }

    /// False when there is a null byte among them.
    private func escape(_ source: UnsafeBufferPointer<UInt8>) -> Bool {
        reserve(2 * source.count)
        guard let from = source.baseAddress else { return true }
        let raw = UnsafeRawPointer(from)
        var position = 0
        while position < source.count {
            // Mostly nothing needs a backslash: then eight bytes go at once.
            if position + 8 <= source.count {
                let word = raw.loadUnaligned(fromByteOffset: position, as: UInt64.self)
                if !word.hasControlOrBackslash {
                    UnsafeMutableRawPointer(start + length).storeBytes(of: word, as: UInt64.self)
                    length += 8
                    position += 8
                    continue
                }
            }
            let end = min(position + 8, source.count)
            while position < end {
                let byte = from[position]
                position += 1
                let escaped: UInt8
                switch byte {
                case 0: return false
                case UInt8(ascii: "\\"): escaped = byte
                case UInt8(ascii: "\t"): escaped = UInt8(ascii: "t")
                case UInt8(ascii: "\n"): escaped = UInt8(ascii: "n")
                case UInt8(ascii: "\r"): escaped = UInt8(ascii: "r")
                default:
                    start[length] = byte
                    length += 1
                    continue
                }
                start[length] = UInt8(ascii: "\\")
                start[length + 1] = escaped
                length += 2
            }
        }
        return true
    }

    // MARK: - Memory

    private func put(_ byte: UInt8) {
        reserve(1)
        start[length] = byte
        length += 1
    }

    private func put(_ bytes: UnsafeBufferPointer<UInt8>) {
        guard let from = bytes.baseAddress else { return }
        reserve(bytes.count)
        (start + length).initialize(from: from, count: bytes.count)
        length += bytes.count
    }

    private func reserve(_ more: Int) {
        guard length + more > capacity else { return }
        let wider = max(2 * capacity, length + more)
        let next = UnsafeMutablePointer<UInt8>.allocate(capacity: wider)
        next.moveInitialize(from: start, count: length)
        start.deallocate()
        (start, capacity) = (next, wider)
    }
}

extension UInt64 {
    /// Whether one of its eight bytes is below a space or a backslash; it may say so of a byte behind one.
    fileprivate var hasControlOrBackslash: Bool {
        let high: UInt64 = 0x8080_8080_8080_8080
        let below = (self &- 0x2020_2020_2020_2020) & ~self
        let difference = self ^ 0x5C5C_5C5C_5C5C_5C5C
        let equal = (difference &- 0x0101_0101_0101_0101) & ~difference
        return (below | equal) & high != 0
    }
}

extension StorageError {
    fileprivate static var holdsNullByte: StorageError {
        .unsupportedValue(reason: "text holds a null byte")
    }
}
