public import Core

/// W3C trace context: which chain of calls a request belongs to.
public struct TraceContext: Sendable, Equatable {
    /// 32 lower-case hex digits.
    public let traceID: String
    /// 16 lower-case hex digits: this party's own step.
    public let spanID: String
    public let flags: String

    /// No trace; nothing is passed on.
    public static let none = TraceContext(traceID: "", spanID: "", flags: "")

    private init(traceID: String, spanID: String, flags: String) {
        self.traceID = traceID
        self.spanID = spanID
        self.flags = flags
    }

    /// A new chain.
    public init(_ random: some RandomSource) {
        self.init(
            traceID: hex(random.next()) + hex(random.next()), spanID: hex(random.next()), flags: "01")
    }

    /// Reads a `traceparent`; `nil` for anything that is not exactly one.
    public init?(_ header: String) {
        let parts = header.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count >= 4, parts[0].count == 2, parts[0] != "ff", parts[0] != "00" || parts.count == 4,
            isHex(parts[0]), isHex(parts[1]), parts[1].utf8.count == 32, isHex(parts[2]),
            parts[2].utf8.count == 16,
            isHex(parts[3]), parts[3].utf8.count == 2, parts[1].contains(where: { $0 != "0" }),
            parts[2].contains(where: { $0 != "0" })
        else { return nil }
        self.init(traceID: String(parts[1]), spanID: String(parts[2]), flags: String(parts[3]))
    }

    /// The next step of the same chain.
    public func child(_ random: some RandomSource) -> TraceContext {
        traceID.isEmpty
            ? TraceContext(random)
            : TraceContext(traceID: traceID, spanID: hex(random.next()), flags: flags)
    }

    /// What is handed on as `traceparent`.
    public var header: String? { traceID.isEmpty ? nil : "00-\(traceID)-\(spanID)-\(flags)" }
}

private func isHex(_ text: Substring) -> Bool {
    text.utf8.allSatisfy { ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x66) }
}

private func hex(_ word: UInt64) -> String {
    unsafe String(unsafeUninitializedCapacity: 16) { digits in
        for place in 0..<16 {
            let digit = UInt8(truncatingIfNeeded: word >> UInt64(60 - 4 * place)) & 15
            unsafe digits[place] = digit < 10 ? 0x30 + digit : 0x57 + digit
        }
        return 16
    }
}
