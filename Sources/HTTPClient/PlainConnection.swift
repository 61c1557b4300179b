import CCurl
import Core
import Glibc
import HTTP
import Synchronization

/// A TCP connection to an origin, used by one exchange after another.
final class PlainConnection: LoopSocket {
    let origin: String
    private unowned let thread: PlainThread
    private var descriptor: Int32
    private var transfer: PlainTransfer?
    /// Where else the origin may be, until the connection is there.
    private var others: ArraySlice<SocketAddress>

    private(set) var isOpen = false
    private(set) var isReused = false
    /// Nothing has been written for the exchange it carries.
    private(set) var isUntouched = true
    /// As far as is known: until the system says that it would have to wait, and again once it tells.
    private(set) var isWritable = false
    private var isReadable = false
    /// The other side has closed it, as far as it told.
    private(set) var isBroken = false
    private var isWaitingToRead = false
    var idleEnd: Duration = .zero

    /// So often in a row one connection is read before the others have their turn.
    private static let readsInARow = 4

    /// Begins to connect; `nil` where the system refuses at once.
    init?(
        to address: SocketAddress, others: ArraySlice<SocketAddress>, _ transfer: PlainTransfer,
        _ thread: PlainThread
    ) {
        origin = transfer.exchange.target.origin
        self.thread = thread
        self.others = others
        descriptor = socket(
            address.family,
            Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        var yes: Int32 = 1
        let size = socklen_t(MemoryLayout<Int32>.size)
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &yes, size)
        setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &yes, size)
        guard address.connect(descriptor) else {
            let reason = errno
            Glibc.close(descriptor)
            descriptor = -1
            errno = reason
            return nil
        }
        self.transfer = transfer
        thread.core.connections.wrappingAdd(1, ordering: .relaxed)
    }

    func begin() {
        transfer?.connection = self
        guard !thread.events.watch(descriptor, for: self), let transfer else { return }
        thread.fail(transfer, ClientError.notSent(reason: "the system refuses to watch another connection"))
    }

    deinit { precondition(descriptor < 0, "a connection is closed before it is forgotten") }

    func close() {
        guard descriptor >= 0 else { return }
        thread.events.forget(descriptor)
        Glibc.close(descriptor)
        descriptor = -1
        isOpen = false
        transfer = nil
        thread.core.connections.wrappingSubtract(1, ordering: .relaxed)
    }

    /// Takes the next exchange.
    func carry(_ next: PlainTransfer) {
        transfer = next
        isReused = true
        isUntouched = true
        next.begin(on: self)
    }

    /// Its exchange is over.
    func drop() { transfer = nil }

    /// Whether a kept one can serve: the other side has neither closed it nor said anything, as far as anybody
    /// can know before asking.
    func isUsable(at now: Duration) -> Bool {
        guard isOpen, !isBroken, idleEnd > now else { return false }
        var byte: UInt8 = 0
        return recv(descriptor, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT)) < 0 && errno == EAGAIN
    }

    // MARK: - What the system tells

    func isReady(_ events: LoopEvents) {
        if events.contains(.writable) { isWritable = true }
        if !events.isDisjoint(with: [.readable, .closed]) { isReadable = true }
        if !events.isDisjoint(with: .closed) { isBroken = true }
        guard let transfer else { return thread.lostUnlessQuiet(self, events) }
        if !isOpen {
            guard isConnected(transfer) else { return }
            isOpen = true
            others = []
            transfer.begin(on: self)
        } else if isWritable {
            transfer.write()
        }
        read()
    }

    /// Whether connecting has come to its end, and a good one.
    private func isConnected(_ transfer: PlainTransfer) -> Bool {
        var code: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size)
        guard code != 0 else { return isWritable }
        let others = others
        close()
        transfer.connection = nil
        thread.connect(transfer, others, last: systemMessage(code))
        return false
    }

    /// Writes from `written` on; false where nothing more can be written.
    func write(_ bytes: Bytes, _ written: inout Int) -> Bool {
        isUntouched = false
        let count = bytes.withUnsafeBytes { all in
            send(descriptor, all.baseAddress?.advanced(by: written), all.count - written, Int32(MSG_NOSIGNAL))
        }
        if count >= 0 {
            written += count
            return true
        }
        if errno == EINTR { return true }
        isWritable = false
        // An answer may stand there all the same, such as a refusal: reading finds out.
        if errno != EAGAIN {
            isReadable = true
            isBroken = true
            readLater()
        }
        return false
    }

    private func readLater() {
        guard !isWaitingToRead else { return }
        isWaitingToRead = true
        thread.readMore(self)
    }

    /// Reads what has come, as far as the reader has room.
    func read() {
        isWaitingToRead = false
        var reads = 0
        while isReadable, isOpen, let transfer, !transfer.isReaderBehind, !transfer.isOver {
            guard reads < Self.readsInARow else {
                transfer.tell()
                return readLater()
            }
            reads += 1
            let count = recv(descriptor, thread.buffer.baseAddress, thread.buffer.count, 0)
            if count > 0 {
                // Less than there was room for is all there was; a change is told anew.
                if count < thread.buffer.count, !isBroken { isReadable = false }
                guard transfer.take(UnsafeBufferPointer(rebasing: thread.buffer[..<count])) else { break }
            } else if count == 0 {
                transfer.tell()
                return transfer.closed(nil)
            } else if errno == EAGAIN {
                isReadable = false
            } else if errno != EINTR {
                transfer.tell()
                return transfer.closed(systemMessage(errno))
            }
        }
        transfer?.tell()
    }
}

extension PlainThread {
    /// A kept connection was reported: that it can be written to is no news.
    func lostUnlessQuiet(_ connection: PlainConnection, _ events: LoopEvents) {
        if !events.isDisjoint(with: [.readable, .closed]) { lost(connection) }
    }
}

func systemMessage(_ code: Int32) -> String { strerror(code).map { String(cString: $0) } ?? "error \(code)" }
