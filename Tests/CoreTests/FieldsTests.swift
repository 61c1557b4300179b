import Core
import Testing

private enum Speed: String, CaseIterable { case safe, medium, fast }

private struct Target: JSONDecodable, Equatable {
    let username: String
    let age: Int64?

    init(from fields: inout Fields) {
        username = fields.string("username", length: 3...10)
        age = fields.optionalInt("age", in: 0...150)
    }
}

private struct Order: JSONDecodable {
    let name: String
    let count: Int64
    let speed: Speed
    let start: Timestamp?
    let ratio: Double?
    let isUrgent: Bool
    let first: Target?
    let targets: [Target]
    let tags: [String]

    init(from fields: inout Fields) {
        name = fields.string("name", length: 1...20)
        count = fields.int("count", in: 1...100, default: 10)
        speed = fields.choice("speed", default: .safe)
        start = fields.optionalTimestamp("start")
        ratio = fields.optionalDouble("ratio", in: 0...1)
        isUrgent = fields.bool("is_urgent", default: false)
        first = fields.object("first")
        targets = fields.array("targets", count: 0...1000)
        tags = fields.strings("tags", length: 1...5)
    }
}

@Suite struct `The fields of a request` {
    private func mistakes(_ json: JSONValue) -> [String] {
        do {
            _ = try Fields.decode(Order.self, from: json)
            return []
        } catch {
            return error.errors.map { "\($0.field) \($0.code)" }
        }
    }

    @Test func `are read`() throws {
        let order = try Fields.decode(
            Order.self,
            from: [
                "name": "Привет", "count": 5, "speed": "FAST", "start": "2025-08-24T10:00:00Z", "ratio": 1,
                "is_urgent": true, "first": ["username": "anna"],
                "targets": [["username": "boris", "age": 30]],
                "tags": ["a", "b"], "unknown": [1, 2],
            ])
        #expect(order.name == "Привет" && order.count == 5 && order.speed == .fast && order.ratio == 1)
        #expect(order.start == Timestamp("2025-08-24T10:00:00Z") && order.isUrgent)
        #expect(
            order.first?.username == "anna" && order.targets.first?.age == 30 && order.tags == ["a", "b"])
    }

    @Test func `may be absent or null where they have a default`() throws {
        let order = try Fields.decode(
            Order.self, from: ["name": "x", "count": nil, "speed": nil, "targets": nil, "is_urgent": nil])
        #expect(order.count == 10 && order.speed == .safe && order.targets.isEmpty && !order.isUrgent)
    }

    @Test func `tell all their mistakes at once, and where each is`() {
        #expect(
            mistakes([
                "name": "", "count": 101, "speed": "warp", "start": "yesterday", "ratio": 1.5,
                "is_urgent": "yes",
                "first": [1], "targets": [["username": "ok?"], ["username": 7, "age": -1], 3, ["age": "x"]],
                "tags": ["a", 1, "toolong"],
            ]) == [
                "name too_short", "count out_of_range", "speed unknown_value", "start wrong_type",
                "ratio out_of_range", "is_urgent wrong_type", "first not_an_object",
                "targets[1].username wrong_type", "targets[1].age out_of_range", "targets[2] not_an_object",
                "targets[3].username missing", "targets[3].age wrong_type", "tags[1] wrong_type",
                "tags[2] too_long",
            ])
    }

    @Test(arguments: [[], "x", 1, nil, true] as [JSONValue])
    func `have to be an object`(json: JSONValue) {
        #expect(mistakes(json) == [" not_an_object"])
    }

    @Test func `that are required are missing when null`() {
        #expect(mistakes([:]) == ["name missing"])
        #expect(mistakes(["name": nil]) == ["name missing"])
    }

    @Test func `hold no null character, also not in a list`() {
        #expect(mistakes(["name": "a\u{0}b"]) == ["name forbidden_character"])
        #expect(mistakes(["name": "x", "tags": ["\u{0}"]]) == ["tags[0] forbidden_character"])
    }

    @Test func `take a whole number in any spelling and nothing else for one`() {
        for number in [5, 5.0, 1e1] as [JSONValue] {
            #expect(mistakes(["name": "x", "count": number]).isEmpty)
        }
        for wrong in [5.5, "5", true, [], 1e300] as [JSONValue] {
            #expect(mistakes(["name": "x", "count": wrong]) == ["count wrong_type"])
        }
        #expect(mistakes(["name": "x", "count": .int(.max)]) == ["count out_of_range"])
        #expect(mistakes(["name": "x", "count": .int(.min)]) == ["count out_of_range"])
    }

    @Test func `count characters and not bytes`() {
        #expect(mistakes(["name": .string(String(repeating: "я", count: 20))]).isEmpty)
        #expect(mistakes(["name": .string(String(repeating: "я", count: 21))]) == ["name too_long"])
    }

    @Test func `tell a hundred mistakes at most`() {
        let targets = JSONValue.array(Array(repeating: ["username": 1, "age": "x"], count: 1000))
        #expect(mistakes(["name": "", "count": "x", "targets": targets]).count == 100)
        #expect(
            mistakes(["name": "x", "targets": .array(Array(repeating: [:], count: 1001))]) == [
                "targets wrong_count"
            ])
    }

    @Test func `say the same in Russian`() {
        do {
            _ = try Fields.decode(Order.self, from: [:])
        } catch {
            #expect(error.errors.first?.message(.russian) == "Это поле обязательно")
            #expect(error.errors.first?.message(.english) == "This field is required")
        }
    }
}
