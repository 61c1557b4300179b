import Core
import Foundation
import Testing

@testable import Telegram

/// What can be seen of the real library without a network: that it understands us, and that it opens and closes.
@Suite(.enabled(if: RealLibrary.isThere, "Telegram's library is not installed"), .serialized)
struct `The real library` {
    @Test func `is sent a sample of every method the client knows`() {
        let sampled = Set(RequestSamples.all.map(\.method))
        #expect(sampled == Set(TelegramMethod.allCases))
    }

    /// Most requests are refused, as nobody is signed in; none may be refused for how it is written.
    @Test func `understands every request the client can make`() async throws {
        try await unconfigured { client in
            for request in RequestSamples.all where !request.isSilentBeforeParameters && !request.endsClient {
                let answer = await client.ask(request.json())
                #expect(!answer.isComplaint, "\(request.method): \(answer.text)")
            }
        }
        // The others: those that wait in silence until there is a database, and those that end a client.
        try await RealLibrary.inFolder { folder in
            let telegram = Telegram(try RealLibrary.transport(), application: .offline, time: SystemTime())
            let client = try await telegram.open(.sample("\(folder)/1"))
            client.setNetwork(isOn: false)
            for request in RequestSamples.all where request.isSilentBeforeParameters {
                do {
                    _ = try await client.ask(request)
                } catch let failure as TelegramFailure {
                    #expect(!failure.message.hasPrefix("Failed to parse"), "\(failure)")
                }
            }
            await client.destroy()
            try await telegram.open(.sample("\(folder)/2")).logOut()
            try await telegram.open(.sample("\(folder)/3")).close()
            #expect(telegram.openClients.isEmpty)
        }
    }

    /// An unknown field is ignored in silence, so being understood proves nothing for a misspelt name. A value
    /// of the wrong type is complained about, and only where the library knows the field.
    @Test func `knows every field the client sends, by its type`() async throws {
        try await unconfigured { client in
            for request in RequestSamples.all {
                for spoiled in request.json().spoiled() {
                    let answer = await client.ask(spoiled.request)
                    #expect(answer.isComplaint, "\(request.method) \(spoiled.field): \(answer.text)")
                }
            }
        }
    }

    @Test func `complains about what is no request, so that the two above can fail`() async throws {
        try await unconfigured { client in
            let unknown = await client.ask(["@type": "noSuchMethod"])
            #expect(unknown.isComplaint)
            let spoiled = await client.ask(["@type": "getChat", "chat_id": []])
            #expect(spoiled.isComplaint)
            let ignored = await client.ask(["@type": "getChat", "no_such_field": []])
            #expect(!ignored.isComplaint)
        }
    }

    @Test func `holds fifty accounts, each sealed, and closes them all`() async throws {
        let transport = try RealLibrary.transport()
        try await RealLibrary.inFolder { folder in
            let before = residentKilobytes()
            let telegram = Telegram(transport, application: .offline, time: SystemTime())
            let clients = try await withThrowingTaskGroup(of: TelegramClient.self) { group in
                for number in 1...50 {
                    group.addTask { try await telegram.open(.sample("\(folder)/\(number)")) }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            for client in clients { client.setNetwork(isOn: false) }
            #expect(clients.map(\.authorization) == Array(repeating: .waitPhoneNumber, count: 50))
            let after = residentKilobytes()
            print(
                "TDLib: 50 idle accounts take \((after - before) / 50) KB each (\(before) KB -> \(after) KB)")
            await telegram.closeAll()
            #expect(clients.map(\.authorization) == Array(repeating: .closed, count: 50))
            #expect(telegram.openClients.isEmpty)
        }
    }

    @Test func `refuses a stored session with another key, and opens it with its own`() async throws {
        let transport = try RealLibrary.transport()
        try await RealLibrary.inFolder { folder in
            let telegram = Telegram(transport, application: .offline, time: SystemTime())
            let session = SessionParameters.sample("\(folder)/account")
            try await telegram.open(session).close()
            var wrong = session
            wrong.encryptionKey = Secret(Array(repeating: 9, count: 32))
            let failure = await #expect(throws: TelegramFailure.self) { try await telegram.open(wrong) }
            #expect(failure?.reason == .wrongDatabaseKey)
            let again = try await telegram.open(session)
            #expect(again.authorization == .waitPhoneNumber)
            await telegram.closeAll()
        }
    }

    @Test func `is not given one folder twice`() async throws {
        try await RealLibrary.inFolder { folder in
            let first = Telegram(try RealLibrary.transport(), application: .offline, time: SystemTime())
            let second = Telegram(try RealLibrary.transport(), application: .offline, time: SystemTime())
            let session = SessionParameters.sample("\(folder)/account")
            let client = try await first.open(session)
            // The same program knows by itself; another one is told by the library's lock.
            let own = await #expect(throws: TelegramFailure.self) { try await first.open(session) }
            #expect(own?.reason == .databaseInUse)
            let other = await #expect(throws: TelegramFailure.self) { try await second.open(session) }
            #expect(other?.reason == .databaseInUse)
            #expect(client.authorization == .waitPhoneNumber)
            await first.closeAll()
            await second.closeAll()
        }
    }

    @Test func `says no in the words we know`() async throws {
        let transport = try RealLibrary.transport()
        try await RealLibrary.inFolder { folder in
            let telegram = Telegram(transport, application: .offline, time: SystemTime())
            let client = try await telegram.open(.sample("\(folder)/account"))
            client.setNetwork(isOn: false)
            func reason(_ ask: () async throws -> Void) async -> FailureReason? {
                do {
                    try await ask()
                    return nil
                } catch {
                    return (error as? TelegramFailure)?.reason
                }
            }
            #expect(await reason { _ = try await client.me() } == .unauthorized)
            #expect(await reason { _ = try await client.submit(code: Secret("11111")) } == .unexpectedStep)
            #expect(await reason { _ = try await client.submit(password: Secret("x")) } == .unexpectedStep)
            #expect(await reason { _ = try await client.submit(phone: "") } == .phoneInvalid)
            await client.logOut()
            #expect(client.authorization == .closed)
            #expect(client.sessionLoss == nil)
            #expect(await reason { _ = try await client.me() } == .aborted)
            await telegram.closeAll()
        }
    }

    @Test func `ends a login that waits for the network when it is logged out`() async throws {
        let transport = try RealLibrary.transport()
        try await RealLibrary.inFolder { folder in
            let telegram = Telegram(transport, application: .offline, time: SystemTime())
            let client = try await telegram.open(.sample("\(folder)/account"))
            client.setNetwork(isOn: false)
            try await withThrowingTaskGroup(of: FailureReason?.self) { group in
                group.addTask {
                    let failure = await #expect(throws: TelegramFailure.self) {
                        try await client.submit(phone: "+9996610001")
                    }
                    return failure?.reason
                }
                await client.logOut()
                let reason = try await group.next() ?? nil
                // Which of the two depends on which step the library was at.
                #expect([.overtakenByOtherStep, .unexpectedStep, .aborted, .unauthorized].contains(reason))
            }
            #expect(client.authorization == .closed)
            await telegram.closeAll()
        }
    }

    @Test func `is refused where the file is no such library`() {
        #expect(throws: TDLibUnavailable.self) { _ = try TDLibLibrary(path: "/nowhere/libtdjson.so") }
    }

    /// A client that waits for its parameters: it answers at once and needs no network.
    private func unconfigured(_ body: (BareClient) async throws -> Void) async throws {
        let client = BareClient(try RealLibrary.transport())
        client.send(["@type": "getAuthorizationState"])
        await client.wait(for: "authorizationStateWaitTdlibParameters")
        try await body(client)
        client.send(["@type": "close"])
        await client.wait(for: "authorizationStateClosed")
    }
}

extension TelegramApplication {
    /// A key of the right form that is nobody's: it never reaches a server.
    static let offline = TelegramApplication(apiID: 1, apiHash: Secret(String(repeating: "0", count: 32)))
}

extension SessionParameters {
    static func sample(_ directory: String) -> SessionParameters {
        SessionParameters(directory: directory, encryptionKey: Secret(Array(repeating: 7, count: 32)))
    }
}

extension TelegramRequest {
    /// Before the parameters are set these wait in silence, so an answer to a sample of them never comes.
    var isSilentBeforeParameters: Bool {
        [.getOption, .setOption, .setNetworkType, .getInternalLinkType].contains(method)
    }

    /// Sending these would end the client the test asks with; their words have no fields to be misspelt.
    var endsClient: Bool { [.close, .destroy, .logOut, .setTdlibParameters].contains(method) }
}

extension JSONValue {
    /// The library cannot read this: the one kind of refusal that is our fault for sure.
    var isComplaint: Bool { type == "error" && text("message").hasPrefix("Failed to parse") }

    /// The same request again and again, each time with one field of a type that is wrong for it, at any depth.
    func spoiled(path: String = "") -> [(field: String, request: JSONValue)] {
        guard let members = objectValue else { return [] }
        var result: [(field: String, request: JSONValue)] = []
        for (index, member) in members.enumerated() where member.name != "@type" {
            func with(_ value: JSONValue) -> JSONValue {
                var changed = members
                changed[index] = JSONMember(member.name, value)
                return .object(changed)
            }
            let name = path + member.name
            // An array is wrong for everything but an array.
            result.append((name, with(member.value.arrayValue == nil ? [] : [:])))
            for (field, inner) in member.value.spoiled(path: name + ".") {
                result.append((field, with(inner)))
            }
            if let elements = member.value.arrayValue, let first = elements.first {
                for (field, inner) in first.spoiled(path: name + "[].") {
                    result.append((field, with(.array([inner]))))
                }
            }
        }
        return result
    }
}

/// The memory this process holds.
func residentKilobytes() -> Int {
    let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
    let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") } ?? ""
    return line.split(separator: " ").compactMap { Int($0) }.first ?? 0
}
