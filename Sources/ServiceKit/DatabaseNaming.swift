import Core
import HTTP
import Storage

extension DatabaseLocation {
    /// The database `name` on the server that this location names without one.
    func naming(_ name: String) -> DatabaseLocation {
        guard case .postgres(let url) = self else { return self }
        let text = url.expose()
        let parts = text.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        var base = String(parts.first ?? "")
        guard let scheme = base.firstRange(of: "://") else { return self }
        let rest = base[scheme.upperBound...]
        if let slash = rest.firstIndex(of: "/") {
            guard rest[rest.index(after: slash)...].isEmpty else { return self }
            base += name
        } else {
            base += "/" + name
        }
        return .postgres(Secret(parts.count == 2 ? "\(base)?\(parts[1])" : base))
    }
}

func percentEncodedUser(_ text: String) -> String { percentEncoded(text) }
