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

/// Relocations in a form that is a fortieth of the size, since all of them are read at every start, and one copy of
/// functions that are the same: a service holds one and a half of its 24 megabytes less.
let small: [LinkerSetting] = [
    .unsafeFlags(
        ["-use-ld=lld", "-Xlinker", "-z", "-Xlinker", "pack-relative-relocs", "-Xlinker", "--icf=safe"],
        .when(configuration: .release))
]

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

/// A service: its wiring as a library, so that `convoke` and the tests can build it too, and an executable
/// that runs it alone.
func service(
    _ name: String, _ module: String, _ dependencies: [Target.Dependency] = [],
    excluding excluded: [String] = []
) -> [Target] {
    [
        .target(
            name: "\(module)Wiring", dependencies: ["Core", "HTTP", "ServiceKit"] + dependencies,
            path: "Services/\(name)", exclude: ["Main"] + excluded, resources: [.embedInCode("openapi.yaml")],
            swiftSettings: pointerFree),
        .executableTarget(
            name: name, dependencies: ["ServiceKit", .byName(name: "\(module)Wiring")],
            path: "Services/\(name)/Main", swiftSettings: pointerFree, linkerSettings: small),
    ]
}

let services: [Target] = [
    service("gateway", "Gateway", ["Cache", "Compression", "HTTPClient", "Security"], excluding: ["web"]),
    service(
        "integration-service", "IntegrationService",
        ["Broker", "Contracts", "Integration", "QRCode", "Security", "Storage", "Telegram"]),
    service(
        "invite-service", "InviteService",
        ["Broker", "Cache", "Contracts", "Invites", "Security", "Sheets", "Storage"]),
    service(
        "parsing-service", "ParsingService", ["Broker", "Cache", "Contracts", "Parsing", "Sheets", "Storage"]),
    service(
        "account-manager", "AccountManager",
        ["Accounts", "Broker", "Cache", "LimitAudit", "Security", "Storage"]),
    service("user-service", "UserService", ["Broker", "Cache", "Security", "Storage", "Users"]),
    service("report-service", "ReportService"),
    service("telegram-sandbox", "TelegramSandbox", ["Sandbox"]),
].flatMap { $0 }

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
        system("CQRCode", apt: "libqrencode-dev"),
        system("CZlib", apt: "zlib1g-dev"),
        system("CZip", apt: "libzip-dev"),
        system("CExpat", apt: "libexpat1-dev"),
        system("CCSV", apt: "libcsv-dev"),
        system("CXLSXWriter", apt: "libxlsxwriter-dev"),

        // 1. Values and the ground under everything
        .systemLibrary(name: "CSystem", path: "Sources/CSystem"),
        library("Core", ["CSystem"]),
        library("HTTP", ["Core"]),

        // 2. Drivers
        driver("HTTPServer", ["Core", "HTTP", "CMicroHTTPD"]),
        driver("HTTPClient", ["Core", "HTTP", "CCurl"]),
        driver("Compression", ["HTTP", "CZlib"]),
        driver("Storage", ["Core", "CPostgres", "CSQLite"]),
        driver("Cache", ["Core", "CRedis"]),
        driver("Broker", ["Core", "Storage", "CRabbitMQ"]),
        driver("Security", ["Core", "HTTP", "CSodium"]),
        driver("QRCode", ["CQRCode", "CZlib"]),
        /// Lists as people keep them: CSV, XLSX, JSON; read and written as streams.
        driver("Sheets", ["Core", "CCSV", "CExpat", "CXLSXWriter", "CZip"]),
        /// Real servers, started privately on this machine: for `up --real`, tests and benchmarks.
        driver("LocalServers", ["Core", "CSystem"]),

        // 3. What every service shares
        library(
            "ServiceKit",
            ["Core", "HTTP", "HTTPServer", "HTTPClient", "Storage", "Cache", "Broker", "Security"]),

        // 4. What crosses between services, and who asks for it
        library("Contracts", ["Core", "HTTP", "ServiceKit"]),

        // 5. The domains; none imports another
        library("Users", ["Core", "Storage", "Security"]),

        // All services in one process, and the operator's command line.
        .executableTarget(
            name: "convoke",
            dependencies: [
                "Core", "HTTP", "HTTPClient", "Security", "ServiceKit", "LocalServers", "LimitAudit",
                "Storage",
                "GatewayWiring",
                "IntegrationServiceWiring",
                "InviteServiceWiring", "ParsingServiceWiring", "AccountManagerWiring", "UserServiceWiring",
                "ReportServiceWiring", "TelegramSandboxWiring",
            ],
            path: "Services/convoke", swiftSettings: pointerFree),
        /// Virtual time, seeded order, faults: for tests alone.
        library("Simulation", ["Core"]),

        // 5. The domains
        library("Accounts", ["Core", "Storage", "Cache"]),
        /// Checks every limit after the fact, from the ledger alone; shares nothing with the rules.
        library("LimitAudit", ["Core", "Storage"]),
        library("Integration", ["Core", "Security", "Storage"]),
        library("Invites", ["Contracts", "Core", "HTTP", "Security", "Storage"]),
        library("Parsing", ["Contracts", "Core", "HTTP", "Storage"]),
        /// One client over TDLib's JSON interface. A driver: it loads the real library while it runs.
        driver("Telegram", ["Core", "HTTP"]),
        /// A simulated Telegram. Of `Telegram` it knows the transport alone, so that it can stand in for one.
        library("Sandbox", ["Core", "HTTP", "Storage", "Telegram"]),

        .executableTarget(
            name: "Bench",
            dependencies: [
                "Core", "HTTP", "HTTPServer", "HTTPClient", "Storage", "Cache", "Broker", "Security",
                "LocalServers",
                // The bare libraries that some benchmarks compare with.
                "AccountManagerWiring", "Accounts", "CCurl", "CRabbitMQ", "CSodium", "GatewayWiring",
                "IntegrationServiceWiring", "InviteServiceWiring", "Invites", "Parsing",
                "ParsingServiceWiring",
                "Sandbox", "ServiceKit", "Telegram",
            ],
            path: "Benchmarks", swiftSettings: strict),

        // Tests, beside each library
        tests("Core", ["Core"]),
        tests("HTTP", ["Core", "HTTP"]),
        tests("HTTPServer", ["Core", "HTTP", "HTTPServer", "TestServers"]),
        tests("HTTPClient", ["CSystem", "Core", "HTTP", "HTTPClient", "HTTPServer", "TestServers"]),
        tests("Compression", ["Core", "HTTP", "Compression", "CZlib"]),
        tests("Storage", ["Core", "Storage", "TestServers"]),
        tests("Cache", ["Core", "Cache", "TestServers"]),
        tests("Broker", ["Core", "Storage", "Broker", "TestServers"]),
        tests("Security", ["Core", "HTTP", "HTTPClient", "Security", "TestServers"]),
        tests("Users", ["Core", "Storage", "Security", "Users", "TestServers"]),
        tests(
            "Gateway",
            [
                "Broker", "Core", "HTTP", "HTTPServer", "HTTPClient", "Cache", "Security", "ServiceKit",
                "Storage", "GatewayWiring", "UserServiceWiring", "TestServers",
            ]),
        tests("LocalServers", ["Core", "LocalServers", "TestServers"]),
        .testTarget(
            name: "SystemTests", dependencies: ["Core", "TestServers"], path: "Tests/SystemTests",
            swiftSettings: strict),
        tests("Simulation", ["Core", "Simulation"]),
        tests(
            "Accounts", ["Core", "Storage", "Cache", "Accounts", "LimitAudit", "Simulation", "TestServers"]),
        tests(
            "AccountManager",
            [
                "HTTPServer", "IntegrationServiceWiring",
                "Core", "HTTP", "HTTPClient", "Security", "Storage", "Cache", "Broker", "ServiceKit",
                "Accounts", "LimitAudit",
                "AccountManagerWiring", "TestServers",
            ]),
        tests("Sheets", ["Core", "Sheets"]),
        tests(
            "Invites", ["Contracts", "Core", "Invites", "Security", "Simulation", "Storage", "TestServers"]),
        tests(
            "InviteService",
            [
                "Broker", "Cache", "Contracts", "Core", "HTTP", "HTTPClient", "HTTPServer", "Invites",
                "InviteServiceWiring",
                "AccountManagerWiring", "IntegrationServiceWiring", "ParsingServiceWiring",
                "ReportServiceWiring", "Sandbox", "Security", "ServiceKit",
                "Sheets",
                "Storage", "Telegram", "TestServers",
            ]),
        tests("Parsing", ["Contracts", "Core", "Parsing", "Simulation", "Storage", "TestServers"]),
        tests(
            "ParsingService",
            [
                "Broker", "Contracts", "Core", "HTTP", "HTTPClient", "HTTPServer", "Parsing",
                "ParsingServiceWiring",
                "AccountManagerWiring", "IntegrationServiceWiring", "Sandbox", "Security", "ServiceKit",
                "Sheets",
                "Storage", "Telegram", "TestServers",
            ]),
        tests("QRCode", ["QRCode", "CZlib"]),
        tests(
            "IntegrationService",
            [
                "Broker", "Core", "HTTP", "HTTPClient", "HTTPServer", "Integration",
                "IntegrationServiceWiring", "Security",
                "Sandbox", "ServiceKit", "Storage", "Telegram", "TestServers",
            ]),
        tests("Integration", ["Core", "Integration", "Security", "Storage", "TestServers"]),
        tests(
            "ServiceKit",
            [
                "Core", "HTTP", "HTTPServer", "Storage", "Cache", "Broker", "Security", "ServiceKit",
                "TestServers",
            ]),
        tests(
            "UserService",
            [
                "Core", "HTTP", "HTTPClient", "HTTPServer", "Broker", "Cache", "Security", "Storage",
                "ServiceKit",
                "Users", "UserServiceWiring", "TestServers",
            ]),
        /// The running routes beside the contracts that people read.
        tests(
            "Contract",
            [
                "Broker", "Core", "HTTP", "ServiceKit", "GatewayWiring", "IntegrationServiceWiring",
                "InviteServiceWiring",
                "ParsingServiceWiring", "AccountManagerWiring", "UserServiceWiring", "ReportServiceWiring",
                "TelegramSandboxWiring", "TestServers",
            ]),
        tests("Telegram", ["Core", "HTTP", "HTTPClient", "HTTPServer", "Telegram", "Sandbox"]),
        tests("Sandbox", ["Core", "HTTP", "Telegram", "Sandbox"]),
        .target(
            name: "TestServers", dependencies: ["Core", "LocalServers"], path: "Tests/TestServers",
            swiftSettings: strict),
    ] + services,
    swiftLanguageModes: [.v6]
)
