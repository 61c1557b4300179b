import Contracts
import Core
import HTTP
import Invites
import ServiceKit

/// Everything of the service that has to do with lists and with forgetting: imports, the stop-list, erasure,
/// reports as files.
struct ListParts: Sendable {
    /// What answering needs beside itself.
    let services: [any Service]
    /// What one process of all has to do.
    let workers: [any Service]
    let register: @Sendable (inout Router) -> Void
    let eraseUser: @Sendable (Int64) async throws -> Void

    init(_ context: ServiceContext, _ store: InviteStore) throws {
        let settings = try ListSettings(from: context.environment)
        let (time, random, log) = (context.time, context.random, context.log)
        let imports = ImportStore(context.database, digests: store.digests)
        let suppressions = SuppressionStore(context.database, digests: store.digests, random: random)
        let erasures = ErasureStore(context.database, digests: store.digests, random: random)
        let errands = Errands("list-imports", capacity: settings.atOnce)
        let background = BackgroundWork(capacity: settings.atOnce)
        let desk = ImportDesk(
            store: imports, tasks: store, parsing: ParsingResults(peers: context.peers), errands: errands,
            background: background, settings: settings, metrics: ImportMetrics(context.metrics), time: time,
            log: log)
        let eraser = ErasureDesk(
            store: erasures, peers: context.peers,
            forgetAnswers: { try await context.forgetAnswers(for: $0) }, time: time, random: random, log: log)
        // Receiving is cheap beside reading.
        let slots = UploadSlots(most: 2 * settings.atOnce)
        services = [errands, background]
        workers = [
            ListUpkeep(
                imports: imports, erasures: erasures, desk: eraser, settings: settings,
                readiness: context.readiness, time: time, log: log)
        ]
        eraseUser = { user in try await imports.erase(user: user) }
        register = { router in
            ImportRoutes(desk: desk, store: imports, slots: slots).register(on: &router)
            SuppressionRoutes(store: suppressions, settings: settings, slots: slots, time: time).register(
                on: &router)
            PrivacyRoutes(desk: eraser, store: erasures).register(on: &router)
            ReportRoutes(store: store, settings: settings, time: time).register(on: &router)
        }
    }
}
