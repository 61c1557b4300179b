/// Which service a public path belongs to, and how it is called there.
struct Route: Equatable {
    /// The public path it is found under.
    let prefix: String
    let service: String
    /// The path at the service.
    let path: String
    /// What several requests have to have in common to meet the same replica.
    let shard: String?
    let access: Access
}

/// Who may take a route, and how often.
enum Access: Equatable {
    case signedIn
    /// Reached without signing in; so often a minute from one address.
    case anyone(limit: Int64, name: String)
}

/// The public paths of the platform. What is not here does not exist outside: `/internal/*` and `/metrics` of
/// any service have no public name.
enum RouteTable {
    private struct Entry {
        let prefix: String
        let service: String
        let target: String
    }

    private static let entries = [
        Entry(prefix: "/api/auth", service: "user-service", target: "/auth"),
        Entry(
            prefix: "/api/integrations/telegram", service: "integration-service", target: "/api/v1/telegram"),
        Entry(
            prefix: "/api/account-manager", service: "account-manager", target: "/api/v1/account-manager"),
        Entry(prefix: "/api/parsing", service: "parsing-service", target: "/api/v1"),
        Entry(prefix: "/api/invite", service: "invite-service", target: "/api/v1"),
        Entry(
            prefix: "/api/professional-report", service: "report-service", target: "/api/professional-report"),
        Entry(prefix: "/api/cron", service: "report-service", target: "/api/cron"),
    ]

    /// The doors that stand open, with what an address may do there in a minute.
    private static let open: [String: Access] = [
        "/api/auth/login": .anyone(limit: 20, name: "login"),
        "/api/auth/register": .anyone(limit: 10, name: "register"),
        "/api/auth/claim": .anyone(limit: 10, name: "claim"),
        "/api/auth/refresh": .anyone(limit: 30, name: "refresh"),
    ]

    static let services = [
        "user-service", "integration-service", "account-manager", "parsing-service", "invite-service",
        "report-service",
    ]

    static func route(_ path: RoutePath) -> Route? {
        for entry in entries where path.text == entry.prefix || path.text.hasPrefix(entry.prefix + "/") {
            let rest = path.text.dropFirst(entry.prefix.count)
            return Route(
                prefix: entry.prefix, service: entry.service, path: entry.target + rest,
                shard: entry.service == "integration-service" ? accountID(in: rest) : nil,
                access: open[path.text] ?? .signedIn)
        }
        return nil
    }

    /// What is no page either: it does not exist, whatever files there are.
    static func isReserved(_ path: RoutePath) -> Bool {
        ["/api", "/internal", "/metrics"].contains { path.text == $0 || path.text.hasPrefix($0 + "/") }
    }

    /// An account's session lives on one shard, and being used from two places would destroy it: what
    /// concerns an account goes where the account is. Its id is the part behind `accounts`.
    private static func accountID(in path: Substring) -> String? {
        let parts = path.split(separator: "/")
        guard let index = parts.firstIndex(of: "accounts"), index + 1 < parts.endIndex else { return nil }
        return String(parts[index + 1]).lowercased()
    }
}
