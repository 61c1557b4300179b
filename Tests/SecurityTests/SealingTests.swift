import Core
import Synchronization
import Testing

@testable import Security

private func key(_ version: UInt32, fill: UInt8? = nil) -> SealingKey {
    SealingKey(version: version, Secret([UInt8](repeating: fill ?? UInt8(version), count: 32)))
}

private let place = SealBinding("telegram_sessions", "6f1c", "session")

@Suite struct `A sealed value` {
    private let keys = SealingKeys(current: key(1))

    @Test(arguments: [
        "", "x", "a session of some length, перевод", String(repeating: "long ", count: 20_000),
    ])
    func `opens to what was sealed`(text: String) throws {
        let sealed = keys.seal(Secret(text), for: place)
        #expect(try keys.open(sealed, for: place).expose() == text)
        #expect(text.count < 8 || !sealed.contains(text))
    }

    /// draft-irtf-cfrg-xchacha-03, A.3.1, laid out as we store it: same key, nonce and text give its
    /// ciphertext, since the associated data only goes into the tag.
    @Test func `is the XChaCha20 of the standard's example`() throws {
        let plain =
            "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it."
        let master = SealingKey(version: 1, Secret(Array(0x80...0x9F)))
        let sealed = SealingKeys(current: master, random: ListedRandom(bytes: Array(0x40...0x57)))
            .seal(Secret(Array(plain.utf8)), for: SealBinding())
        #expect(Array(sealed[5..<29]) == Array(0x40...0x57))
        #expect(
            Hex.encode(Array(sealed[29..<61]))
                == "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb")
    }

    @Test func `is another one every time`() {
        #expect(keys.seal(Secret("same"), for: place) != keys.seal(Secret("same"), for: place))
    }

    @Test func `does not open in another row, column or table`() {
        let sealed = keys.seal(Secret("text"), for: SealBinding("ab", "c"))
        for wrong in [
            SealBinding("a", "bc"), SealBinding("ab", "c", ""), SealBinding("ab"), SealBinding("abc"),
            SealBinding("c", "ab"), SealBinding(),
        ] {
            #expect(throws: SealingError.forged) { try keys.open(sealed, for: wrong) }
        }
    }

    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `never opens with a bit flipped anywhere`(seed: UInt64) {
        let random = SeededRandom(seed: seed)
        let sealed = keys.seal(Secret(random.bytes(random.int(in: 0...60))), for: place)
        for position in sealed.indices {
            for bit in 0..<8 as Range<UInt8> {
                var changed = sealed
                changed[position] ^= 1 << bit
                #expect(throws: SealingError.self, "seed \(seed), byte \(position), bit \(bit)") {
                    try keys.open(changed, for: place)
                }
            }
        }
    }

    @Test func `never opens cut short or prolonged`() {
        let sealed = keys.seal(Secret([1, 2, 3, 4]), for: place)
        for length in 0..<sealed.count {
            #expect(throws: SealingError.self) { try keys.open(Array(sealed[..<length]), for: place) }
        }
        #expect(throws: SealingError.forged) { try keys.open(sealed + [0], for: place) }
    }

    @Test(arguments: ["", "AQ==", "no base64", "AQAAAAE"])
    func `of another form is malformed`(text: String) {
        #expect(throws: SealingError.malformed) { try keys.open(text, for: place) }
    }
}

@Suite struct `Changing the sealing key` {
    @Test func `opens what was sealed before and seals it anew`() throws {
        let old = SealingKeys(current: key(1))
        let both = SealingKeys(current: key(2), previous: [key(1)])
        let new = SealingKeys(current: key(2))
        let sealed = old.seal(Secret("session"), for: place)
        #expect(try both.open(sealed, for: place).expose() == "session")
        let resealed = try #require(try both.reseal(sealed, for: place))
        #expect(try new.open(resealed, for: place).expose() == "session")
        #expect(try both.reseal(resealed, for: place) == nil)
        #expect(throws: SealingError.unknownKey(version: 1)) { try new.open(sealed, for: place) }
    }

    @Test func `cannot be played by writing another version in front`() throws {
        let both = SealingKeys(current: key(2, fill: 9), previous: [key(1, fill: 9)])
        var sealed = both.seal(Secret([1, 2, 3]), for: place)
        sealed[4] = 1
        #expect(throws: SealingError.forged) { try both.open(sealed, for: place) }
    }

    @Test func `keeps the keys of each account apart`() throws {
        let keys = SealingKeys(current: key(2), previous: [key(1)])
        let sealed = keys.keys(for: "account/a").seal(Secret("session"), for: place)
        #expect(try keys.keys(for: "account/a").open(sealed, for: place).expose() == "session")
        #expect(throws: SealingError.forged) { try keys.keys(for: "account/b").open(sealed, for: place) }
        #expect(throws: SealingError.forged) { try keys.open(sealed, for: place) }
    }
}

/// Gives the listed bytes, for an example with a known nonce.
private struct ListedRandom: RandomSource {
    private let source: ListedWords
    init(bytes: [UInt8]) { source = ListedWords(bytes) }
    func next() -> UInt64 { source.next() }
}

private final class ListedWords: Sendable {
    private let words: Mutex<[UInt64]>

    init(_ bytes: [UInt8]) {
        words = Mutex(
            stride(from: 0, to: bytes.count, by: 8).map { start in
                bytes[start..<start + 8].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            })
    }

    func next() -> UInt64 { words.withLock { $0.removeFirst() } }
}
