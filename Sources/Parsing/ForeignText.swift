/// Texts of strangers, made fit to be kept: nothing they write may break a write, a line or a file.
enum ForeignText {
    /// The longest text that is kept of a message. Telegram's own limit is far below.
    static let longestContent = 32_768
    static let longestName = 512

    static func content(_ text: String) -> String { clean(text, longestContent) }
    static func name(_ text: String) -> String { clean(text, longestName) }
    static func name(_ text: String?) -> String? {
        guard let text else { return nil }
        let cleaned = clean(text, longestName)
        return cleaned.isEmpty ? nil : cleaned
    }

    /// Without null characters, which no database stores as text, and not longer than `most` bytes.
    private static func clean(_ text: String, _ most: Int) -> String {
        let count = text.utf8.count
        if count <= most, !text.utf8.contains(0) { return text }
        var result = ""
        result.unicodeScalars.reserveCapacity(min(count, most))
        var length = 0
        for scalar in text.unicodeScalars where scalar.value != 0 {
            length += UTF8.width(scalar)
            if length > most { break }
            result.unicodeScalars.append(scalar)
        }
        return result
    }
}
