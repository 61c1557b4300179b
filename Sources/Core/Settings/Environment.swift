#if canImport(Glibc)
    import Glibc
#endif

/// What is wrong with the settings, all of it at once.
public struct ConfigurationError: Error, Equatable, CustomStringConvertible {
    public let mistakes: [String]
    public init(mistakes: [String]) { self.mistakes = mistakes }
    public var description: String { mistakes.joined(separator: "; ") }
}

/// The environment a service reads its settings from: once, at start, gathering every mistake.
///
/// A secret `X` may also be given as `X_FILE`, the path of a file that holds it, as container platforms do.
public struct Environment: Sendable {
    private let values: [String: String]
    public private(set) var mistakes: [String] = []

    public init(_ values: [String: String] = [:]) { self.values = values }

    /// The process's own environment. Nothing else in the program reads it.
    public static var process: Environment {
        var values: [String: String] = [:]
        var cursor = unsafe environ
        while let entry = unsafe cursor.pointee {
            let text = unsafe String(cString: entry)
            if let equals = text.firstIndex(of: "=") {
                values[String(text[..<equals])] = String(text[text.index(after: equals)...])
            }
            unsafe cursor += 1
        }
        return Environment(values)
    }

    /// Whether a value is set and not empty.
    public func has(_ name: String) -> Bool { value(name) != nil }

    public func value(_ name: String) -> String? {
        guard let value = values[name], !value.isEmpty else { return nil }
        return value
    }

    public func string(_ name: String, default fallback: String) -> String { value(name) ?? fallback }

    public mutating func int(_ name: String, default fallback: Int, in range: ClosedRange<Int>) -> Int {
        guard let text = value(name) else { return fallback }
        guard let number = Int(text), range.contains(number) else {
            mistake("\(name) must be a whole number from \(range.lowerBound) to \(range.upperBound)")
            return fallback
        }
        return number
    }

    public mutating func double(
        _ name: String, default fallback: Double, in range: ClosedRange<Double>
    ) -> Double {
        guard let text = value(name) else { return fallback }
        guard let number = Double(text), range.contains(number) else {
            mistake("\(name) must be a number from \(range.lowerBound) to \(range.upperBound)")
            return fallback
        }
        return number
    }

    public mutating func bool(_ name: String, default fallback: Bool) -> Bool {
        switch value(name)?.lowercased() {
        case nil: return fallback
        case "1", "true", "yes", "on": return true
        case "0", "false", "no", "off": return false
        default:
            mistake("\(name) must be true or false")
            return fallback
        }
    }

    public mutating func seconds(
        _ name: String, default fallback: Int, in range: ClosedRange<Int>
    ) -> Duration {
        .seconds(int(name, default: fallback, in: range))
    }

    /// A value of a closed set, such as `strict` or `dev`.
    public mutating func choice<Choice: RawRepresentable<String> & CaseIterable>(
        _ name: String, default fallback: Choice
    ) -> Choice {
        guard let text = value(name) else { return fallback }
        guard let choice = Choice(rawValue: text.lowercased()) else {
            let known = Choice.allCases.map(\.rawValue).joined(separator: ", ")
            mistake("\(name) must be one of: \(known)")
            return fallback
        }
        return choice
    }

    /// Any type that can be made from text; `nil` from `parse` is a mistake.
    public mutating func parsed<Value>(
        _ name: String, default fallback: Value, expects form: String, _ parse: (String) -> Value?
    ) -> Value {
        guard let text = value(name) else { return fallback }
        guard let value = parse(text) else {
            mistake("\(name) must be \(form)")
            return fallback
        }
        return value
    }

    /// Comma-separated, blanks around entries dropped.
    public func list(_ name: String) -> [String] {
        (value(name) ?? "").split(separator: ",").map { trimmed($0) }.filter { !$0.isEmpty }
    }

    public mutating func secret(_ name: String) -> Secret<String>? {
        if let text = value(name) { return Secret(text) }
        guard let path = value(name + "_FILE") else { return nil }
        guard let bytes = try? FileSystem.read(path, limit: 65_536),
            let text = String(validating: bytes, as: UTF8.self)
        else {
            mistake("\(name)_FILE names a file that cannot be read")
            return nil
        }
        return Secret(trimmed(text[...]))
    }

    public mutating func mistake(_ sentence: String) { mistakes.append(sentence) }

    /// Ends the reading: throws when anything was wrong.
    public consuming func finish() throws(ConfigurationError) {
        guard mistakes.isEmpty else { throw ConfigurationError(mistakes: mistakes) }
    }
}

private func trimmed(_ text: Substring) -> String {
    var text = text
    while let first = text.first, first.isWhitespace { text.removeFirst() }
    while let last = text.last, last.isWhitespace { text.removeLast() }
    return String(text)
}

extension Environment {
    /// Everything, for a process that is started.
    public var all: [String: String] { values }

    /// The same environment with some values set.
    public func setting(_ changes: [String: String]) -> Environment {
        Environment(values.merging(changes) { _, new in new })
    }
}

/// Shows what has been printed so far also where standard output is a file or a pipe.
public func flushStandardOutput() { _ = fflush(nil) }
