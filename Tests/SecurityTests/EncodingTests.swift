import Core
import Foundation
import Security
import Testing

@Suite struct `Text encodings` {
    /// RFC 4648, section 10.
    static let vectors: [(plain: String, base64: String, hex: String)] = [
        ("", "", ""), ("f", "Zg==", "66"), ("fo", "Zm8=", "666f"), ("foo", "Zm9v", "666f6f"),
        ("foob", "Zm9vYg==", "666f6f62"), ("fooba", "Zm9vYmE=", "666f6f6261"),
        ("foobar", "Zm9vYmFy", "666f6f626172"),
    ]

    @Test(arguments: vectors)
    func `give the answers of RFC 4648`(vector: (plain: String, base64: String, hex: String)) {
        let bytes = Array(vector.plain.utf8)
        #expect(Base64.encode(bytes) == vector.base64)
        #expect(Base64.decode(vector.base64) == bytes)
        let unpadded = vector.base64.replacingOccurrences(of: "=", with: "")
        #expect(Base64URL.encode(bytes) == unpadded)
        #expect(Base64URL.decode(unpadded) == bytes)
        #expect(Hex.encode(bytes) == vector.hex)
        #expect(Hex.decode(vector.hex.uppercased()) == bytes)
    }

    @Test func `agree with Foundation on random bytes of every length`() {
        let random = SeededRandom(seed: 1)
        for length in 0..<300 {
            let bytes = random.bytes(length)
            let expected = Data(bytes).base64EncodedString()
            #expect(Base64.encode(bytes) == expected)
            #expect(Base64.decode(expected) == bytes)
            #expect(Base64URL.decode(Base64URL.encode(bytes)) == bytes)
            #expect(Hex.decode(Hex.encode(bytes)) == bytes)
        }
    }

    @Test(arguments: [
        "Z", "Zg", "Zg=", "Zg===", "=", "====", "Zm8", "Zm9=", "Zh==", "Zm9v=", "Zm9v====", " Zm9v", "Zm9v\n",
        "Zm9-", "Zm9_", "Zm\u{0}v", "Zg==Zg==", "Zmé=", "Z===",
    ])
    func `refuse any other spelling of base64`(text: String) {
        #expect(Base64.decode(text) == nil)
    }

    @Test(arguments: ["Z", "Zg==", "Zh", "Zm9", "Zm8=", "Zm9+", "Zm9/", "Zm9v.", " ", "Zm9v\n", "Zm9vé"])
    func `refuse any other spelling of base64url`(text: String) {
        #expect(Base64URL.decode(text) == nil)
    }

    @Test(arguments: ["6", "6g", "0x66", " 66", "66 ", "6\u{0}", "٦٦"])
    func `refuse any other spelling of hex`(text: String) {
        #expect(Hex.decode(text) == nil)
    }
}
