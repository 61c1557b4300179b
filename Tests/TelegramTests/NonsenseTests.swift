import Core
import Sandbox
import Testing

@testable import Telegram

@Suite struct `The sandbox` {
    /// Every request the client can make, each time with one value at an extreme, from a signed-in account. An
    /// overflow anywhere would end this process.
    @Test func `answers every request with any value in it`() async throws {
        try await Stage.run { stage in
            let client = try await stage.account()
            let talk = try await client.group("sandbox_talk")
            let person = try await stage.person(.open, client)
            let chats: [JSONValue] = [
                .int(talk.chat.rawValue), .int(Stage.club.rawValue), .int(person.id), .int(1001), .int(2002),
            ]
            let numbers: [JSONValue] =
                chats + [.int(.min), .int(.min + 1), .int(-1), 0, 1, .int(1 << 62), .int(.max)]
            let texts: [JSONValue] = [
                "", "\u{0}", "💥", "https://t.me/+", "https://t.me/c/9223372036854775807/9223372036854775807",
                "https://t.me/sandbox_talk/9223372036854775807", "15559223372036854775807",
                "account_9223372036854775807", .string(String(repeating: "9", count: 5000)),
            ]
            var count = 0
            for sample in RequestSamples.all where !sample.endsClient && sample.method != .setNetworkType {
                var request = sample.json()
                // The groups and people of the samples are nobody's: these are there.
                request = request.replacing(.int(-1_000_000_000_005), with: chats[1])
                request = request.replacing(.int(5), with: chats[3]).replacing(.int(1), with: chats[2])
                for changed in request.extremes(numbers, texts) {
                    client.tellAnything(changed)
                    count += 1
                }
            }
            #expect(count > 1000)
            // They are answered in order, so all before were survived.
            #expect(try await client.me().phone == stage.phone(.warmed))
        }
    }
}

extension JSONValue {
    fileprivate func replacing(_ old: JSONValue, with new: JSONValue) -> JSONValue {
        if self == old { return new }
        if let members = objectValue {
            return .object(members.map { JSONMember($0.name, $0.value.replacing(old, with: new)) })
        }
        if let values = arrayValue { return .array(values.map { $0.replacing(old, with: new) }) }
        return self
    }

    /// The same again and again, with one number or text each time another, at any depth.
    fileprivate func extremes(_ numbers: [JSONValue], _ texts: [JSONValue]) -> [JSONValue] {
        if let members = objectValue {
            return members.indices.filter { members[$0].name != "@type" }.flatMap { index in
                members[index].value.extremes(numbers, texts).map { changed in
                    var copy = members
                    copy[index] = JSONMember(members[index].name, changed)
                    return .object(copy)
                }
            }
        }
        if let values = arrayValue { return values.first?.extremes(numbers, texts).map { [$0] } ?? [] }
        if intValue != nil { return numbers }
        return stringValue == nil
            ? [] : texts + numbers.compactMap { $0.intValue.map { .string(String($0)) } }
    }
}

extension TelegramClient {
    fileprivate func tellAnything(_ request: JSONValue) { transport.send(request, to: id) }
}
