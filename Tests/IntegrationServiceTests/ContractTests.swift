import Core
import HTTP
import ServiceKit
import Testing

@Suite struct `The contract of integration-service` {
    @Test func `describes its routes, all of them and no others`() async throws {
        let office = try await Office(.sqlite)
        try await office.open { run in
            let served = await run.nobody.get("/openapi.json")
            #expect(served.json.operations == run.service.router.operations)
        }
    }
}
