import Core
import Foundation

extension Benchmark {
    static let json = Benchmark(
        name: "json", summary: "a typical request and a page of results, beside Foundation"
    ) { report in
        for (what, bytes) in [("a request of", request), ("a page of results of", page)] {
            let value = try JSONValue(parsing: bytes)
            let name = "\(what) \(bytes.count) bytes"
            let data = Data(bytes)
            try await report.ratio(
                "decode \(name)", unit: "MB/s",
                ours: { megabytes(bytes.count) { try? JSONValue(parsing: bytes) } },
                limit: { megabytes(bytes.count) { try? JSONSerialization.jsonObject(with: data) } },
                limitName: "JSONSerialization")
            // JSONSerialization takes and gives `Any`; making the tree is no part of what is measured.
            try await report.ratio(
                "encode \(name)", unit: "MB/s",
                ours: { megabytes(bytes.count) { value.bytes } },
                limit: {
                    let tree = try JSONSerialization.jsonObject(with: data)
                    return megabytes(bytes.count) { try? JSONSerialization.data(withJSONObject: tree) }
                },
                limitName: "JSONSerialization")
        }
        // To a type and back, which is what a route does.
        let bytes = request
        let data = Data(bytes)
        let typed = try Fields.decode(Allocate.self, from: try JSONValue(parsing: bytes))
        try await report.ratio(
            "decode a request into its type", unit: "MB/s", target: 1,
            ours: {
                megabytes(bytes.count) {
                    try? Fields.decode(Allocate.self, from: JSONValue(parsing: bytes))
                }
            },
            limit: {
                let decoder = JSONDecoder()
                return megabytes(bytes.count) { try? decoder.decode(Allocate.self, from: data) }
            },
            limitName: "JSONDecoder")
        try await report.ratio(
            "encode a type", unit: "MB/s", target: 1,
            ours: { megabytes(bytes.count) { typed.json.bytes } },
            limit: {
                let encoder = JSONEncoder()
                return megabytes(bytes.count) { try? encoder.encode(typed) }
            },
            limitName: "JSONEncoder")
    }
}

/// Megabytes of JSON a second, over about a fifth of one.
private func megabytes<Result>(_ size: Int, _ work: () -> Result?) -> Double {
    let time = SystemTime()
    let start = time.uptime
    var passed = Duration.zero
    var count = 0
    var missing = 0
    while passed < .milliseconds(200) {
        for _ in 0..<50 where work() == nil { missing += 1 }
        count += 50
        passed = time.uptime - start
    }
    precondition(missing == 0, "what is measured has to work")
    return Double(count * size) / passed.inSeconds / 1e6
}

private let request = Array(
    """
    {"user_id": 42, "purpose": "invite_campaign", "service_name": "invite-service", "preferred_account_id": \
    "6f1c1a52-3b0e-4f5a-9d2c-0123456789ab", "target_channel_id": "convoke_group", "exclude_account_ids": \
    ["00000000-3b0e-4f5a-9d2c-000000000001", "00000000-3b0e-4f5a-9d2c-000000000002"], "timeout_minutes": 30, \
    "note": "Приглашение участников, \\"первая волна\\"\\n", "ratio": 0.75, "is_urgent": true}
    """.utf8)

private let page: [UInt8] = {
    let items = (0..<100).map { number in
        """
        {"platform_id":"\(1_000_000_000 + number)","username":"member_\(number)","display_name":"Участник \(number)",\
        "first_seen":"2025-08-24T10:15:30Z","last_seen":"2025-08-25T11:00:00Z","message_count":\(number * 7),\
        "score":\(Double(number) / 8),"media":null,"platform_specific_data":{"is_bot":false,"is_premium":true}}
        """
    }
    return Array(#"{"items":[\#(items.joined(separator: ","))],"total":100,"page":1,"has_next":false}"#.utf8)
}()

private struct Allocate: JSONDecodable, JSONEncodable, Codable {
    let userID: Int64
    let purpose: String
    let serviceName: String
    let preferredAccountID: String?
    let targetChannelID: String?
    let excludeAccountIDs: [String]
    let timeoutMinutes: Int64
    let note: String?
    let ratio: Double?
    let isUrgent: Bool

    enum CodingKeys: String, CodingKey {
        case purpose, note, ratio
        case userID = "user_id"
        case serviceName = "service_name"
        case preferredAccountID = "preferred_account_id"
        case targetChannelID = "target_channel_id"
        case excludeAccountIDs = "exclude_account_ids"
        case timeoutMinutes = "timeout_minutes"
        case isUrgent = "is_urgent"
    }

    init(from fields: inout Fields) {
        userID = fields.int("user_id", in: 1 ... .max)
        purpose = fields.string("purpose")
        serviceName = fields.string("service_name")
        preferredAccountID = fields.optionalString("preferred_account_id")
        targetChannelID = fields.optionalString("target_channel_id")
        excludeAccountIDs = fields.strings("exclude_account_ids")
        timeoutMinutes = fields.int("timeout_minutes", in: 1...240, default: 30)
        note = fields.optionalString("note")
        ratio = fields.optionalDouble("ratio", in: 0...1)
        isUrgent = fields.bool("is_urgent", default: false)
    }

    var json: JSONValue {
        .object(present: [
            "user_id": .int(userID), "purpose": .string(purpose), "service_name": .string(serviceName),
            "preferred_account_id": preferredAccountID.map { .string($0) },
            "target_channel_id": targetChannelID.map { .string($0) },
            "exclude_account_ids": JSONValue(excludeAccountIDs), "timeout_minutes": .int(timeoutMinutes),
            "note": note.map { .string($0) }, "ratio": ratio.map { .double($0) },
            "is_urgent": .bool(isUrgent),
        ])
    }
}
