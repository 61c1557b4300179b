import Core
import Invites
import ServiceKit

/// Forgets what is past its time, ends what a process that is gone left behind, and carries erasures through.
struct ListUpkeep: Service {
    static let interval: Duration = .minutes(5)
    /// An import that has shown no sign of life for so long has no process any more.
    static let silence: Duration = .hours(1)
    static let erasureRetry: Duration = .minutes(1)

    let name = "list-upkeep"
    let imports: ImportStore
    let erasures: ErasureStore
    let desk: ErasureDesk
    let settings: ListSettings
    let readiness: Readiness
    let time: any TimeSource
    let log: Log

    func run() async throws {
        try await readiness.repeating(every: Self.interval, time, log, failure: "lists.not-tidied") {
            try await tidy()
        }
    }

    func tidy() async throws {
        let now = time.now
        let abandoned = try await imports.abandon(silentSince: now - Self.silence, at: now)
        if abandoned > 0 { log.warning("imports.abandoned", ["count": .int(abandoned)]) }
        try await imports.forget(
            rejectsBefore: now - settings.rejectRetention, importsBefore: now - settings.importRetention)
        let forgotten = try await erasures.forgetPeople(
            endedBefore: now - settings.peopleRetention, at: now)
        if forgotten > 0 { log.info("people.forgotten", ["count": .int(forgotten)]) }
        for open in try await erasures.open(silentSince: now - Self.erasureRetry) {
            _ = try await desk.carryOut(open.wish, open.receipt, of: open.user)
        }
    }
}
