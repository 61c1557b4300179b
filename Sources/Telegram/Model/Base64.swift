/// Standard base64 with padding, which is how TDLib wants bytes.
func base64(_ bytes: [UInt8]) -> String {
    let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    var text: [UInt8] = []
    text.reserveCapacity((bytes.count + 2) / 3 * 4)
    for start in stride(from: 0, to: bytes.count, by: 3) {
        let part = bytes[start..<min(start + 3, bytes.count)]
        var word: UInt32 = 0
        for offset in 0..<3 { word = word << 8 | (offset < part.count ? UInt32(part[start + offset]) : 0) }
        for digit in 0..<4 {
            text.append(
                digit <= part.count ? digits[Int(word >> UInt32(18 - 6 * digit)) & 63] : UInt8(ascii: "="))
        }
    }
    return String(decoding: text, as: UTF8.self)
}
