public import Core

extension Language {
    /// The best of our languages for an `Accept-Language`; English where none is asked for.
    public init(accepting header: String?) {
        var best: (language: Language, weight: Double)?
        for part in (header ?? "").split(separator: ",").prefix(20) {
            let pieces = part.split(separator: ";").map { trimmingBlanks($0) }
            guard let range = pieces.first?.lowercased() else { continue }
            let weight =
                pieces.dropFirst().first { $0.hasPrefix("q=") }.map { Double($0.dropFirst(2)) ?? 0 } ?? 1
            let primary = range.split(separator: "-").first.map(String.init) ?? range
            let language: Language? = primary == "*" ? .english : Language(rawValue: primary)
            guard let language, weight > 0, weight > best?.weight ?? 0 else { continue }
            best = (language, weight)
        }
        self = best?.language ?? .english
    }
}
