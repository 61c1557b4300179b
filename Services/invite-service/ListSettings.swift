import Core
import Sheets

/// What an administrator may choose about lists and how long people are remembered.
struct ListSettings: Sendable {
    let limits: SheetLimits
    /// More rows are no list for a campaign, and would fill the database.
    let mostRows: Int
    /// How many lists are read at once; the others are asked to wait.
    let atOnce: Int
    let scratchFolder: String
    /// After a campaign has ended, its people are forgotten; counts and reasons stay.
    let peopleRetention: Duration
    let rejectRetention: Duration
    let importRetention: Duration

    init(from environment: consuming Environment) throws(ConfigurationError) {
        limits = SheetLimits(
            fileBytes: environment.int("IMPORT_MAX_BYTES", default: 1 << 30, in: 1024...(64 << 30)))
        mostRows = environment.int("IMPORT_MAX_ROWS", default: 2_000_000, in: 1...50_000_000)
        atOnce = environment.int("IMPORT_CONCURRENCY", default: 8, in: 1...256)
        scratchFolder = environment.string("SCRATCH_DIR", default: "/tmp")
        peopleRetention = .days(Int64(environment.int("INVITE_PEOPLE_DAYS", default: 365, in: 1...3650)))
        rejectRetention = .days(Int64(environment.int("IMPORT_REJECT_DAYS", default: 7, in: 1...365)))
        importRetention = .days(Int64(environment.int("IMPORT_DAYS", default: 90, in: 1...3650)))
        try environment.finish()
    }
}
