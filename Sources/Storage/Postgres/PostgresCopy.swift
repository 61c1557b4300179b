import CPostgres

#if canImport(Glibc)
    import Glibc
#endif

extension PostgresConnection {
    func copy(_ rows: [[SQLValue]], into target: CopyTarget, limit: Duration, _ ticket: Ticket) throws -> Int
    {
        try script("COPY \(target.table) (\(target.columnList)) FROM STDIN", limit: limit, ticket)
        do {
            var text = CopyText()
            for row in rows {
                try target.check(row)
                try text.append(row)
                if text.isFull { try send(text.take()) }
            }
            try send(text.take())
            try endCopy(nil)
        } catch StorageError.unsupportedValue(let reason) {
            _ = try? endCopy("given up")
            throw StorageError.unsupportedValue(reason: reason)
        }
        return rows.count
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

    private func send(_ bytes: [UInt8]) throws {
        guard !bytes.isEmpty else { return }
        let isSent = bytes.withUnsafeBytes { buffer in
            let start = buffer.baseAddress?.assumingMemoryBound(to: CChar.self)
            while true {
                let state = PQputCopyData(pointer, start, Int32(buffer.count))
                if state == 1 { return true }
                guard state == 0, waitToWrite() else { return false }
            }
        }
        guard isSent else { throw broken(mayHaveRun: false) }
        // Not blocking means that libpq gathers what the socket does not take: wait here, or memory grows.
        while true {
            let state = PQflush(pointer)
            if state == 0 { return }
            guard state == 1, waitToWrite() else { throw broken(mayHaveRun: false) }
        }
    }

    private func waitToWrite() -> Bool {
        var socket = pollfd(fd: PQsocket(pointer), events: Int16(POLLIN) | Int16(POLLOUT), revents: 0)
        while poll(&socket, 1, -1) < 0 { guard errno == EINTR else { return false } }
        // The server says something only when it has given up; it is read when the copy ends.
        if socket.revents & Int16(POLLIN) != 0 { return PQconsumeInput(pointer) == 1 }
        return true
    }
}

/// Rows in COPY's text format, gathered until they are worth a system call.
struct CopyText {
    private var bytes: [UInt8] = []

    var isFull: Bool { bytes.count >= 128 * 1024 }

    mutating func take() -> [UInt8] {
        defer {
            bytes = []
            bytes.reserveCapacity(144 * 1024)
        }
        return bytes
    }

    mutating func append(_ row: [SQLValue]) throws {
        for (index, value) in row.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: "\t")) }
            switch value {
            case .null: bytes.append(contentsOf: [UInt8(ascii: "\\"), UInt8(ascii: "N")])
            case .integer(let value): appendDecimal(value, to: &bytes)
            case .double(let number):
                try value.checkStorable()
                bytes.append(contentsOf: postgresText(number).utf8)
            case .bool(let value): bytes.append(UInt8(ascii: value ? "t" : "f"))
            case .text(let text): try append(text)
            case .bytes(let value):
                bytes.append(contentsOf: [UInt8(ascii: "\\"), UInt8(ascii: "\\"), UInt8(ascii: "x")])
                for byte in value {
                    bytes.append(hexDigits[Int(byte >> 4)])
                    bytes.append(hexDigits[Int(byte & 15)])
                }
            }
        }
        bytes.append(UInt8(ascii: "\n"))
    }

    private mutating func append(_ text: String) throws {
        var text = text
        let hasNull = text.withUTF8 { source in
            // Mostly nothing needs a backslash: whole runs are copied.
            var start = 0
            for index in source.indices {
                let byte = source[index]
                guard byte < 0x20 || byte == UInt8(ascii: "\\") else { continue }
                let escape: UInt8
                switch byte {
                case 0: return true
                case UInt8(ascii: "\\"): escape = byte
                case UInt8(ascii: "\t"): escape = UInt8(ascii: "t")
                case UInt8(ascii: "\n"): escape = UInt8(ascii: "n")
                case UInt8(ascii: "\r"): escape = UInt8(ascii: "r")
                default: continue
                }
                bytes.append(contentsOf: UnsafeBufferPointer(rebasing: source[start..<index]))
                bytes.append(UInt8(ascii: "\\"))
                bytes.append(escape)
                start = index + 1
            }
            bytes.append(contentsOf: UnsafeBufferPointer(rebasing: source[start...]))
            return false
        }
        if hasNull { throw StorageError.unsupportedValue(reason: "text holds a null byte") }
    }
}
