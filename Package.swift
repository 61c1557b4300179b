// swift-tools-version: 6.2
import PackageDescription

/// Every target of ours is built this way; a warning is a failed build from the first day.
let strict: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .treatAllWarnings(as: .error),
]
/// Drivers call C on every other line; everywhere else a pointer must be announced with `unsafe`.
let pointerFree = strict + [.strictMemorySafety()]

/// A C library of Debian's: `Sources/<name>` holds its module map and a shim, nothing else.
///
/// No `pkgConfig`: Debian's headers stand where the compiler looks, and some `.pc` files carry flags that
/// the package manager warns about.
func system(_ name: String, apt: String) -> Target {
    .systemLibrary(name: name, path: "Sources/\(name)", providers: [.apt([apt])])
}

/// A library that sees no C: rules, values, protocols.
func library(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: pointerFree)
}

/// A library that may import C modules.
func driver(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: "\(name)Tests", dependencies: dependencies, swiftSettings: strict)
}

let package = Package(
    name: "convoke",
    targets: [
        // C libraries
        system("CPostgres", apt: "libpq-dev"),
        system("CSQLite", apt: "libsqlite3-dev"),
        system("CRedis", apt: "libhiredis-dev"),
        system("CRabbitMQ", apt: "librabbitmq-dev"),
        system("CCurl", apt: "libcurl4-openssl-dev"),
        system("CMicroHTTPD", apt: "libmicrohttpd-dev"),
        system("CSodium", apt: "libsodium-dev"),

        // 1. Values and the ground under everything
        .systemLibrary(name: "CSystem", path: "Sources/CSystem"),
        library("Core", ["CSystem"]),
        library("HTTP", ["Core"]),

        // 2. Drivers
        driver("HTTPServer", ["Core", "HTTP", "CMicroHTTPD"]),
        driver("HTTPClient", ["Core", "HTTP", "CCurl"]),
        driver("Storage", ["Core", "CPostgres", "CSQLite"]),
        driver("Cache", ["Core", "CRedis"]),
        driver("Broker", ["Core", "Storage", "CRabbitMQ"]),
        driver("Security", ["Core", "HTTP", "CSodium"]),
        /// Real servers, started privately on this machine: for `up --real`, tests and benchmarks.
        driver("LocalServers", ["Core"]),

        /// Virtual time, seeded order, faults: for tests alone.
        library("Simulation", ["Core"]),

        // 5. The domains
        library("Accounts", ["Core", "Storage"]),

        .executableTarget(
            name: "Bench",
            dependencies: [
                "Core", "HTTP", "HTTPServer", "HTTPClient", "Storage", "Cache", "Broker", "Security", "LocalServers",
                "Accounts",
            ],
            path: "Benchmarks", swiftSettings: strict),

        // Tests, beside each library
        tests("Core", ["Core"]),
        tests("HTTP", ["Core", "HTTP"]),
        tests("HTTPServer", ["Core", "HTTP", "HTTPServer", "TestServers"]),
        tests("HTTPClient", ["Core", "HTTP", "HTTPClient", "HTTPServer", "TestServers"]),
        tests("Storage", ["Core", "Storage", "TestServers"]),
        tests("Cache", ["Core", "Cache", "TestServers"]),
        tests("Broker", ["Core", "Storage", "Broker", "TestServers"]),
        tests("Security", ["Core", "HTTP", "HTTPClient", "Security", "TestServers"]),
        tests("Simulation", ["Core", "Simulation"]),
        tests("Accounts", ["Core", "Storage", "Accounts", "Simulation", "TestServers"]),
        tests("LocalServers", ["Core", "LocalServers"]),
        .target(name: "TestServers", dependencies: ["Core", "LocalServers"], path: "Tests/TestServers", swiftSettings: strict),
    ],
    swiftLanguageModes: [.v6]
)
