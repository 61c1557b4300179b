public import Core

/// The text is not in the subset of YAML that our contracts are written in.
public struct YAMLError: Error, Equatable, CustomStringConvertible {
    public let line: Int
    public let reason: String
    public var description: String { "line \(line): \(reason)" }
}

/// Reads the block style that `docs/openapi/*.yaml` is written in: maps, lists, plain and quoted scalars,
/// flow lists and maps on one line, literal and folded blocks, comments. No anchors, tags or documents.
///
/// So the contract is one readable file, and the same file is what the service serves as JSON.
public func parseYAML(_ text: String) throws(YAMLError) -> JSONValue {
    var reader = YAMLReader(text)
    return try reader.document()
}

private struct YAMLReader {
    private struct Line {
        let number: Int
        let indent: Int
        let text: String
    }
    private let raw: [Substring]
    private var lines: [Line]
    private var index = 0

    init(_ text: String) {
        raw = text.split(separator: "\n", omittingEmptySubsequences: false)
        lines = raw.enumerated().compactMap { number, line in
            let indent = line.prefix { $0 == " " }.count
            let content = withoutComment(line.dropFirst(indent))
            return content.isEmpty ? nil : Line(number: number + 1, indent: indent, text: content)
        }
    }

    mutating func document() throws(YAMLError) -> JSONValue {
        guard let first = lines.first else { return .null }
        let value = try block(indent: first.indent)
        if index < lines.count { throw failure("unexpected indentation") }
        return value
    }

    private func failure(_ reason: String) -> YAMLError {
        YAMLError(line: index < lines.count ? lines[index].number : raw.count, reason: reason)
    }

    private mutating func block(indent: Int) throws(YAMLError) -> JSONValue {
        guard index < lines.count else { return .null }
        return lines[index].text == "-" || lines[index].text.hasPrefix("- ")
            ? try list(indent: indent) : try map(indent: indent)
    }

    private mutating func list(indent: Int) throws(YAMLError) -> JSONValue {
        var values: [JSONValue] = []
        while index < lines.count, lines[index].indent == indent,
            lines[index].text == "-" || lines[index].text.hasPrefix("- ")
        {
            let line = lines[index]
            let rest = line.text.dropFirst().drop { $0 == " " }
            if rest.isEmpty {
                index += 1
                values.append(try nested(deeperThan: indent))
            } else if keyEnd(rest) != nil {
                // A map that begins on the dash's own line: its keys align with the first one.
                let inner = line.indent + (line.text.count - rest.count)
                lines[index] = Line(number: line.number, indent: inner, text: String(rest))
                values.append(try map(indent: inner))
            } else {
                values.append(try scalar(rest, indent: indent))
            }
        }
        return .array(values)
    }

    private mutating func map(indent: Int) throws(YAMLError) -> JSONValue {
        var members: [JSONMember] = []
        while index < lines.count, lines[index].indent == indent {
            let text = lines[index].text
            guard let colon = keyEnd(text[...]) else { throw failure("a key is expected") }
            let name = try key(text[..<colon])
            guard !members.contains(where: { $0.name == name }) else { throw failure("\(name) stands twice") }
            let rest = text[text.index(after: colon)...].drop { $0 == " " }
            if rest.isEmpty {
                index += 1
                // A list may stand at the same indentation as its key.
                if index < lines.count, lines[index].indent == indent, lines[index].text.hasPrefix("- ") {
                    members.append(JSONMember(name, try list(indent: indent)))
                } else {
                    members.append(JSONMember(name, try nested(deeperThan: indent)))
                }
            } else {
                members.append(JSONMember(name, try scalar(rest, indent: indent)))
            }
        }
        if index < lines.count, lines[index].indent > indent { throw failure("unexpected indentation") }
        return .object(members)
    }

    private mutating func nested(deeperThan indent: Int) throws(YAMLError) -> JSONValue {
        guard index < lines.count, lines[index].indent > indent else { return .null }
        return try block(indent: lines[index].indent)
    }

    private func key(_ text: Substring) throws(YAMLError) -> String {
        text.first == "\"" || text.first == "'" ? try quoted(text) : String(text)
    }

    private mutating func scalar(_ text: Substring, indent: Int) throws(YAMLError) -> JSONValue {
        if text == "|" || text == ">" || text == "|-" || text == ">-" {
            return try literal(text, indent: indent)
        }
        defer { index += 1 }
        if text.first == "[" || text.first == "{" {
            var flow = FlowReader(text)
            guard let value = flow.document() else {
                throw failure("a list or map on one line is not closed")
            }
            return value
        }
        return try plain(text)
    }

    private func plain(_ text: Substring) throws(YAMLError) -> JSONValue {
        guard text.first == "\"" || text.first == "'" else { return plainScalar(text) }
        return .string(try quoted(text))
    }

    private func quoted(_ text: Substring) throws(YAMLError) -> String {
        guard let value = unquoted(text) else { throw failure("a quote is not closed") }
        return value
    }

    /// `|` keeps the lines, `>` joins them with blanks.
    private mutating func literal(_ mark: Substring, indent: Int) throws(YAMLError) -> JSONValue {
        let start = lines[index].number
        var kept: [Substring] = []
        var width: Int?
        var next = start
        while next < raw.count {
            let line = raw[next]
            let depth = line.prefix { $0 == " " }.count
            let isBlank = depth == line.count
            if !isBlank, depth <= indent { break }
            if !isBlank, width == nil { width = depth }
            kept.append(isBlank ? "" : line.dropFirst(width ?? 0))
            next += 1
        }
        while kept.last?.isEmpty == true { kept.removeLast() }
        while index < lines.count, lines[index].number <= next { index += 1 }
        let joined = kept.joined(separator: mark.first == "|" ? "\n" : " ")
        return .string(mark.hasSuffix("-") ? joined : joined + "\n")
    }
}

/// Lists and maps within one line.
private struct FlowReader {
    private var rest: Substring
    init(_ text: Substring) { rest = text }

    mutating func document() -> JSONValue? {
        let value = value()
        skipBlanks()
        return rest.isEmpty ? value : nil
    }

    private mutating func skipBlanks() { rest = rest.drop { $0 == " " } }

    private mutating func takes(_ character: Character) -> Bool {
        skipBlanks()
        guard rest.first == character else { return false }
        rest.removeFirst()
        return true
    }

    private mutating func value() -> JSONValue? {
        if takes("[") {
            var values: [JSONValue] = []
            while !takes("]") {
                guard let value = value() else { return nil }
                values.append(value)
                guard takes(",") || rest.first == "]" else { return nil }
            }
            return .array(values)
        }
        if takes("{") {
            var members: [JSONMember] = []
            while !takes("}") {
                guard let name = word(until: ":,}"), takes(":"), let value = value() else { return nil }
                members.append(JSONMember(name.stringValue ?? name.text, value))
                guard takes(",") || rest.first == "}" else { return nil }
            }
            return .object(members)
        }
        return word(until: ",]}")
    }

    private mutating func word(until stops: String) -> JSONValue? {
        skipBlanks()
        if let quote = rest.first, quote == "\"" || quote == "'" {
            var end = rest.index(after: rest.startIndex)
            while end < rest.endIndex, rest[end] != quote {
                if quote == "\"", rest[end] == "\\" { end = rest.index(after: end) }
                guard end < rest.endIndex else { return nil }
                end = rest.index(after: end)
            }
            guard end < rest.endIndex else { return nil }
            let text = rest[...end]
            rest = rest[rest.index(after: end)...]
            return unquoted(text).map(JSONValue.string)
        }
        let word = rest.prefix { !stops.contains($0) }
        guard !word.isEmpty else { return nil }
        rest = rest[word.endIndex...]
        return plainScalar(trimmingEnd(word))
    }
}

private func trimmingEnd(_ text: Substring) -> Substring {
    var text = text
    while text.last == " " || text.last == "\r" { text.removeLast() }
    return text
}

/// A comment begins with `#` at the start or behind a blank, outside quotes.
private func withoutComment(_ line: Substring) -> String {
    var quote: Character?
    var previous: Character = " "
    for index in line.indices {
        let character = line[index]
        if let open = quote {
            if character == open, previous != "\\" || open == "'" { quote = nil }
        } else if (character == "\"" || character == "'") && " [{,:".contains(previous) {
            quote = character
        } else if character == "#", previous == " " {
            return String(trimmingEnd(line[..<index]))
        }
        previous = character
    }
    return String(trimmingEnd(line))
}

/// Where the colon behind a key stands: one followed by a blank or the end, outside quotes and brackets.
private func keyEnd(_ text: Substring) -> Substring.Index? {
    guard text.first != "[", text.first != "{" else { return nil }
    var quote: Character?
    for index in text.indices {
        let character = text[index]
        if let open = quote {
            if character == open { quote = nil }
            continue
        }
        if index == text.startIndex, character == "\"" || character == "'" {
            quote = character
            continue
        }
        guard character == ":" else { continue }
        let next = text.index(after: index)
        if next == text.endIndex || text[next] == " " { return index }
    }
    return nil
}

private func plainScalar(_ text: Substring) -> JSONValue {
    switch text {
    case "null", "~": return .null
    case "true": return .bool(true)
    case "false": return .bool(false)
    default: break
    }
    if let number = Int64(text) { return .int(number) }
    if text.first?.isNumber == true || text.first == "-", let number = Double(text) { return .double(number) }
    return .string(String(text))
}

private func unquoted(_ text: Substring) -> String? {
    guard text.count >= 2, let quote = text.first, text.last == quote else { return nil }
    let inner = text.dropFirst().dropLast()
    if quote == "'" {
        return inner.split(separator: "''", omittingEmptySubsequences: false).joined(separator: "'")
    }
    return (try? JSONValue(parsing: "\"\(inner)\""))?.stringValue
}
