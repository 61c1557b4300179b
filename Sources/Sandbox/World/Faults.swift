public import Core

/// Something that shall go wrong, on purpose.
public struct Fault: Sendable, Equatable {
    public enum Moment: String, Sendable, CaseIterable {
        /// Instead of the effect.
        case before
        /// The effect happens, and then this is the answer.
        case after
    }
    public var id = 0
    /// TDLib's method, such as `addChatMember`; nil for any.
    public var method: String?
    /// A phone number; nil for any.
    public var account: String?
    public var target: Int64?
    public var group: Int64?
    public var code: Int32
    /// Empty: no error, only latency.
    public var message: String
    /// Then no answer ever comes.
    public var isSilent: Bool
    public var latency: Duration
    public var moment: Moment
    public var probability: Double
    /// How many times more; nil for ever.
    public var count: Int?
    /// For `sendMessage`: the error comes in the later update, not in the answer.
    public var inUpdate: Bool
    /// For `addChatMember` and `addChatMembers`: Telegram says yes, and nobody is added.
    public var isHollow: Bool

    public init(
        method: String? = nil, account: String? = nil, target: Int64? = nil, group: Int64? = nil,
        code: Int32 = 400,
        message: String = "", isSilent: Bool = false, latency: Duration = .zero, moment: Moment = .before,
        probability: Double = 1, count: Int? = nil, inUpdate: Bool = false,
        isHollow: Bool = false
    ) {
        self.method = method
        self.account = account
        self.target = target
        self.group = group
        self.code = code
        self.message = message
        self.isSilent = isSilent
        self.latency = latency
        self.moment = moment
        self.probability = probability
        self.count = count
        self.inUpdate = inUpdate
        self.isHollow = isHollow
    }
}

extension Fault: JSONDecodable, JSONEncodable {
    public init(from fields: inout Fields) {
        self.init(
            method: fields.optionalString("method") ?? fields.optionalString("kind"),
            account: fields.optionalString("account"), target: fields.optionalInt("target"),
            group: fields.optionalInt("group"), code: Int32(fields.int("code", in: 0...1000, default: 400)),
            message: fields.optionalString("message") ?? fields.optionalString("error") ?? "",
            isSilent: fields.bool("silent", default: false),
            latency: .milliseconds(fields.int("latency_ms", in: 0...86_400_000, default: 0)),
            moment: fields.optionalChoice("moment") ?? .before,
            probability: fields.optionalDouble("probability", in: 0...1) ?? 1,
            count: fields.optionalInt("count", in: 1...1_000_000).map { Int($0) },
            inUpdate: fields.bool("in_update", default: false),
            isHollow: fields.bool("hollow", default: false))
        if let account { self.account = account.filter(\.isNumber) }
    }

    public var json: JSONValue {
        .object(present: [
            "id": JSONValue(id), "method": method.map { .string($0) }, "account": account.map { .string($0) },
            "target": target.map { .int($0) }, "group": group.map { .int($0) }, "code": .int(Int64(code)),
            "message": .string(message), "silent": .bool(isSilent), "latency_ms": .int(latency.milliseconds),
            "moment": .string(moment.rawValue), "probability": .double(probability),
            "count": count.map { JSONValue($0) }, "in_update": .bool(inUpdate),
            "hollow": .bool(isHollow),
        ])
    }
}

struct Faults {
    private(set) var all: [Fault] = []
    private var lastID = 0

    mutating func add(_ fault: Fault) -> Fault {
        lastID += 1
        var fault = fault
        fault.id = lastID
        all.append(fault)
        return fault
    }

    mutating func remove(_ id: Int?) -> Bool {
        let before = all.count
        if let id { all.removeAll { $0.id == id } } else { all = [] }
        return all.count < before
    }

    /// The first fault that hits, used up by one.
    mutating func hit(method: String, account: String?, targets: [Int64], group: Int64?, luck: () -> Double)
        -> Fault?
    {
        for index in all.indices {
            let fault = all[index]
            if let wanted = fault.method, wanted != method { continue }
            if let wanted = fault.account, wanted != account { continue }
            if let wanted = fault.target, !targets.contains(wanted) { continue }
            if let wanted = fault.group, wanted != group { continue }
            guard fault.probability >= 1 || luck() < fault.probability else { continue }
            if let count = fault.count {
                if count <= 1 { all.remove(at: index) } else { all[index].count = count - 1 }
            }
            return fault
        }
        return nil
    }
}
