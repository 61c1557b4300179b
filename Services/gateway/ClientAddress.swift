/// An IP address as bits, so that networks can be told apart.
struct IPAddress: Equatable, Sendable {
    /// 4 bytes or 16.
    let bytes: [UInt8]

    init?(_ text: String) {
        let text = text.prefix { $0 != "%" }
        guard let bytes = text.contains(":") ? Self.version6(text) : Self.version4(text) else { return nil }
        // What a socket for both versions calls an IPv4 address.
        let mapped: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]
        self.bytes = bytes.starts(with: mapped) && bytes.count == 16 ? Array(bytes[12...]) : bytes
    }

    private static func version4(_ text: Substring) -> [UInt8]? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        let bytes = parts.compactMap { part in
            part.count <= 3 && part.utf8.allSatisfy { (0x30...0x39).contains($0) } ? UInt8(part) : nil
        }
        return parts.count == 4 && bytes.count == 4 ? bytes : nil
    }

    private static func version6(_ text: Substring) -> [UInt8]? {
        guard text.utf8.count <= 45 else { return nil }
        // `::` stands for as many zero groups as are missing, once.
        var halves: [[UInt8]] = []
        var rest = text
        while let gap = rest.firstRange(of: "::") {
            guard halves.isEmpty, let half = groups(rest[..<gap.lowerBound]) else { return nil }
            halves.append(half)
            rest = rest[gap.upperBound...]
        }
        guard let last = groups(rest) else { return nil }
        guard let first = halves.first else { return last.count == 16 ? last : nil }
        guard first.count + last.count <= 14 else { return nil }
        return first + Array(repeating: 0, count: 16 - first.count - last.count) + last
    }

    private static func groups(_ text: Substring) -> [UInt8]? {
        if text.isEmpty { return [] }
        var bytes: [UInt8] = []
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        for (index, part) in parts.enumerated() {
            if part.contains("."), index == parts.count - 1, let tail = version4(part) {
                bytes += tail
            } else {
                guard (1...4).contains(part.utf8.count), let group = UInt16(part, radix: 16) else {
                    return nil
                }
                bytes += [UInt8(group >> 8), UInt8(group & 0xFF)]
            }
        }
        return bytes.count <= 16 ? bytes : nil
    }
}

/// Addresses that begin alike: `10.0.0.0/8`, or a single one.
struct Network: Equatable, Sendable {
    private let address: IPAddress
    private let prefix: Int

    init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let address = IPAddress(String(parts[0])) else { return nil }
        let width = address.bytes.count * 8
        guard let prefix = parts.count == 2 ? Int(parts[1]) : width, (0...width).contains(prefix) else {
            return nil
        }
        self.address = address
        self.prefix = prefix
    }

    func contains(_ other: IPAddress) -> Bool {
        guard other.bytes.count == address.bytes.count else { return false }
        return (0..<prefix).allSatisfy { bit in
            let mask = UInt8(0x80) >> UInt8(bit % 8)
            return other.bytes[bit / 8] & mask == address.bytes[bit / 8] & mask
        }
    }
}

/// Finds out where a client is when proxies of ours stand in front: each adds the address it saw, and only
/// what ours have added is believed.
struct ClientAddresses: Sendable {
    let trusted: [Network]

    func address(connection: String, forwarded: [String]) -> String {
        guard !trusted.isEmpty, isTrusted(connection) else { return connection }
        var claims = forwarded.joined(separator: ",").split(separator: ",")
            .map { claim in String(claim.filter { $0 != " " && $0 != "\t" }) }
        var address = connection
        while let claim = claims.popLast() {
            // What is no address was not written by a proxy of ours.
            guard IPAddress(claim) != nil else { return address }
            address = claim
            guard isTrusted(address) else { return address }
        }
        return address
    }

    private func isTrusted(_ text: String) -> Bool {
        guard let address = IPAddress(text) else { return false }
        return trusted.contains { $0.contains(address) }
    }

    /// What limits count by. A household or a rented server has a whole /64 of IPv6 addresses.
    static func countedAs(_ text: String) -> String {
        guard let bytes = IPAddress(text)?.bytes else { return text }
        guard bytes.count == 16 else { return bytes.map { String($0) }.joined(separator: ".") }
        return bytes.prefix(8).map { String($0, radix: 16) }.joined(separator: ".") + "/64"
    }
}
