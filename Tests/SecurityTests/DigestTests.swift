import Core
import Testing

@testable import Security

@Suite struct `Digests and derived keys` {
    @Test func `know SHA-256's answers`() {
        #expect(
            Hex.encode(sha256(Array("abc".utf8)))
                == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(
            TokenDigest.of(Secret(""))
                == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    }

    /// RFC 4231, test cases 1, 2 and 6 (a key longer than a block).
    @Test func `know HMAC-SHA256's answers`() {
        func code(_ key: [UInt8], _ message: String) -> String {
            Hex.encode(HMACKey(key).code(for: Array(message.utf8)))
        }
        #expect(
            code([UInt8](repeating: 0x0B, count: 20), "Hi There")
                == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
        #expect(
            code(Array("Jefe".utf8), "what do ya want for nothing?")
                == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        #expect(
            code(
                [UInt8](repeating: 0xAA, count: 131), "Test Using Larger Than Block-Size Key - Hash Key First"
            )
                == "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
    }

    /// RFC 5869, test cases 1 and 3.
    @Test func `know HKDF's answers`() throws {
        let master = Secret([UInt8](repeating: 0x0B, count: 22))
        let salted = KeyDerivation(master: master, salt: Array(0...12))
        #expect(
            Hex.encode(salted.key(for: Array(0xF0...0xF9), bytes: 42).expose())
                == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
        #expect(
            Hex.encode(KeyDerivation(master: master).key(for: "", bytes: 42).expose())
                == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8")
    }

    /// Python's `hashlib.blake2b(b"someone", key=bytes(range(64)), digest_size=32)`.
    @Test func `know keyed BLAKE2b's answer`() {
        #expect(
            KeyedHash(key: Secret(Array(0...63))).digest("someone")
                == "c229c3bfa85022b5813373fa63c5fec42574ebb7f2eb40e0737a0c9312b371c3")
    }

    @Test func `hash under a key differently from every other key`() {
        let one = KeyedHash(key: Secret([UInt8](repeating: 1, count: 32)))
        let other = KeyedHash(key: Secret([UInt8](repeating: 2, count: 32)))
        #expect(one.digest("someone") == one.digest("someone"))
        #expect(one.digest("someone") != other.digest("someone"))
        #expect(one.digest("someone").utf8.count == 64)
    }

    @Test func `give every purpose a key of its own`() {
        let keys = KeyDerivation(master: Secret([UInt8](repeating: 7, count: 32)))
        #expect(keys.key(for: "a").expose() != keys.key(for: "b").expose())
        #expect(keys.key(for: "a").expose() == keys.key(for: "a").expose())
    }

    @Test func `make tokens that differ and have 256 bits`() {
        let tokens = Set((0..<200).map { _ in RandomToken.make().expose() })
        #expect(tokens.count == 200)
        #expect(tokens.allSatisfy { Base64URL.decode($0)?.count == 32 })
    }

    @Test func `compare by content`() {
        #expect(equalInConstantTime([1, 2, 3], [1, 2, 3]))
        #expect(!equalInConstantTime([1, 2, 3], [1, 2, 4]))
        #expect(!equalInConstantTime([1, 2, 3], [1, 2]))
        #expect(equalInConstantTime([], []))
        #expect(equalInConstantTime(Secret("one"), Secret("one")))
    }
}
