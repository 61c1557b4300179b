import Accounts
import Core

/// What an operator may choose for the whole installation. Every number has a ceiling: settings only tighten.
struct AccountManagerSettings: Sendable {
    let limits: LimitsOverride
    let rampUp: RampUp
    let hasWorker: Bool
    /// How far back the invariant monitor looks in its ordinary rounds.
    let auditReach: Duration

    init(from environment: consuming Environment) throws(ConfigurationError) {
        var limits = LimitsOverride.none
        do {
            limits = try Self.override(environment.list("ACCOUNT_LIMITS"))
        } catch {
            for mistake in error.mistakes { environment.mistake("ACCOUNT_LIMITS: \(mistake)") }
        }
        self.limits = limits
        rampUp = environment.parsed(
            "ACCOUNT_RAMP_UP", default: .none, expects: "ages in days with shares, such as 0:20,3:50,7:100"
        ) { RampUp(text: $0) }
        hasWorker = environment.bool("ACCOUNT_MANAGER_WORKER", default: true)
        auditReach = environment.seconds(
            "ACCOUNT_AUDIT_SECONDS", default: 2 * 86_400, in: 3600...(400 * 86_400))
        try environment.finish()
    }

    /// `invite.daily=20, message.hourly=5`
    static func override(_ entries: [String]) throws(ConfigurationError) -> LimitsOverride {
        var values: [LimitSetting: Int] = [:]
        var mistakes: [String] = []
        for entry in entries {
            let parts = entry.split(separator: "=", maxSplits: 1).map { part in
                String(part.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
            }
            guard parts.count == 2, let setting = LimitSetting(name: parts[0]) else {
                mistakes.append(
                    "\(entry) is no limit; there are \(LimitSetting.all.map(\.name).joined(separator: ", "))")
                continue
            }
            guard let value = Int(parts[1]) else {
                mistakes.append("\(parts[0]) must be a whole number")
                continue
            }
            values[setting] = value
        }
        do {
            let override = try LimitsOverride(values)
            guard mistakes.isEmpty else { throw ConfigurationError(mistakes: mistakes) }
            return override
        } catch let error as LimitsError {
            throw ConfigurationError(mistakes: mistakes + error.violations.map { $0.text(.english) })
        } catch let error as ConfigurationError {
            throw error
        } catch {
            throw ConfigurationError(mistakes: mistakes)
        }
    }
}
