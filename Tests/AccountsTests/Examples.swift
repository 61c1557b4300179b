import Accounts
import Core

/// Noon of an ordinary day, where no window touches midnight.
let noon = Timestamp("2025-08-24T12:00:00Z") ?? .epoch
let midnight = Timestamp("2025-08-25T00:00:00Z") ?? .epoch

/// Account number `index`.
func account(_ index: Int) -> AccountID {
    let digits = String(index, radix: 16)
    let id = "00000000-0000-4000-8000-" + String(repeating: "0", count: 12 - digits.count) + digits
    guard let account = AccountID(id) else { preconditionFailure("\(id) is a UUID") }
    return account
}

func channel(_ name: String) -> ChannelKey {
    do { return try ChannelKey(name) } catch { preconditionFailure("\(name) is a channel") }
}

let sales = channel("@sales")
let other = channel("@other")

func tightening(_ values: KeyValuePairs<String, Int>) throws -> LimitsOverride {
    var settings: [LimitSetting: Int] = [:]
    for (name, value) in values {
        guard let setting = LimitSetting(name: name) else { preconditionFailure("\(name) is a setting") }
        settings[setting] = value
    }
    return try LimitsOverride(settings)
}
