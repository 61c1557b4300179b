import AccountManagerWiring
import Broker
import Core
import GatewayWiring
import HTTP
import IntegrationServiceWiring
import InviteServiceWiring
import ParsingServiceWiring
import ReportServiceWiring
public import ServiceKit
import TelegramSandboxWiring
import TestServers
public import Testing
import UserServiceWiring

extension ServiceDefinition: CustomTestStringConvertible { public var testDescription: String { name } }

/// Each service as it is wired, short of a socket and of its workers.
@Suite struct `The contract of` {
    static let services: [ServiceDefinition] = [
        .telegramSandbox, .userService, .accountManager, .integrationService, .parsingService, .inviteService,
        .reportService, .gateway,
    ]

    private func assembled(_ service: ServiceDefinition) async throws -> AssembledService {
        let environment = Environment(["DATA_DIR": try await TestServers.directory(), "LOG_LEVEL": "error"])
        let resources = try await ProcessResources.open(environment, log: .silent)
        return try await assemble(service, resources, broker: service.queues.isEmpty ? nil : NoBroker())
    }

    private func contract(_ service: ServiceDefinition) throws -> JSONValue {
        try parseYAML(String(decoding: service.contract, as: UTF8.self))
    }

    @Test(arguments: services)
    func `a service describes its routes, all of them and no others`(service: ServiceDefinition) async throws
    {
        let described = try contract(service).operations
        let assembled = try await assembled(service)
        let routed = assembled.router.operations
        // The gateway passes on what other services answer; its contract tells a client of that too.
        let passedOn = service.name == "gateway" ? described.filter { $0.contains(" /api/") } : []
        // The documents write some paths without their beginning; the contract names them once.
        let undescribed = routed.filter {
            !described.contains($0)
                && !described.contains($0.replacing(" /", with: " /api/v1/", maxReplacements: 1))
        }
        #expect(undescribed == [], "routed and not described")
        #expect(
            described.filter { !routed.contains($0) && !passedOn.contains($0) } == [],
            "described and not routed")
    }

    @Test(arguments: services)
    func `a service holds together`(service: ServiceDefinition) throws {
        let contract = try contract(service)
        #expect(contract["info"]?["title"]?.stringValue == service.name)
        #expect(contract["info"]?["version"]?.stringValue == platformVersion)
        #expect(ContractCheck(contract).danglingReferences == [])
        var names: Set<String> = []
        for path in contract["paths"]?.objectValue ?? [] {
            for (method, operation) in (path.value.objectValue ?? []).map({ ($0.name, $0.value) }) {
                // Beside its methods a path may name what they have in common.
                if ["parameters", "summary", "description"].contains(method) { continue }
                let place = "\(method) \(path.name)"
                let name = operation["operationId"]?.stringValue
                #expect(name.map { names.insert($0).inserted } == true, "\(place) needs a name of its own")
                #expect(operation["summary"]?.stringValue?.isEmpty == false, "\(place) says nothing")
                #expect(operation["responses"]?.objectValue?.isEmpty == false, "\(place) promises nothing")
            }
        }
    }
}

/// Where nothing is published or consumed.
private struct NoBroker: Broker {
    func publish(_: Message, to _: String, after _: Duration) async throws { throw BrokerError.closed }
    func consume(
        _: [String], _: ConsumerOptions, _: @escaping @Sendable (Delivery) async throws -> Verdict
    ) async throws { throw BrokerError.closed }
    func depth(of _: String) async throws -> Int { 0 }
    func ping() async throws {}
    func close() async {}
}
