/// Redis' pattern language: `*`, `?`, `[abc]`, `[^a]`, `[a-z]`, and `\` before what is meant literally.
///
/// Goes back only to the last `*`, so that no pattern takes more than pattern times text steps.
func matches(_ text: [UInt8], pattern: [UInt8]) -> Bool {
    var (at, textAt) = (0, 0)
    var retry: (pattern: Int, text: Int)?
    while textAt < text.count {
        if at < pattern.count, pattern[at] == UInt8(ascii: "*") {
            at += 1
            retry = (at, textAt)
            continue
        }
        if at < pattern.count, let next = step(pattern, at, text[textAt]) {
            at = next
            textAt += 1
            continue
        }
        guard let last = retry else { return false }
        retry = (last.pattern, last.text + 1)
        (at, textAt) = (last.pattern, last.text + 1)
    }
    while at < pattern.count, pattern[at] == UInt8(ascii: "*") { at += 1 }
    return at == pattern.count
}

/// Where the pattern goes on when the element at `at` takes `byte`.
private func step(_ pattern: [UInt8], _ at: Int, _ byte: UInt8) -> Int? {
    switch pattern[at] {
    case UInt8(ascii: "?"): return at + 1
    case UInt8(ascii: "["): return classStep(pattern, at + 1, byte)
    case UInt8(ascii: "\\") where at + 1 < pattern.count: return pattern[at + 1] == byte ? at + 2 : nil
    case let literal: return literal == byte ? at + 1 : nil
    }
}

private func classStep(_ pattern: [UInt8], _ start: Int, _ byte: UInt8) -> Int? {
    var at = start
    let isNegated = at < pattern.count && pattern[at] == UInt8(ascii: "^")
    if isNegated { at += 1 }
    var isMember = false
    // A class that is never closed ends with the pattern.
    while at < pattern.count, pattern[at] != UInt8(ascii: "]") {
        if pattern[at] == UInt8(ascii: "\\"), at + 1 < pattern.count {
            isMember = isMember || pattern[at + 1] == byte
            at += 2
        } else if at + 2 < pattern.count, pattern[at + 1] == UInt8(ascii: "-") {
            let (low, high) = (min(pattern[at], pattern[at + 2]), max(pattern[at], pattern[at + 2]))
            isMember = isMember || (low...high).contains(byte)
            at += 3
        } else {
            isMember = isMember || pattern[at] == byte
            at += 1
        }
    }
    return isMember != isNegated ? min(at + 1, pattern.count) : nil
}
