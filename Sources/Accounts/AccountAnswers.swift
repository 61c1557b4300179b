public import Core

/// What the API shows of an account, in the words of the documents.
extension StoredAccount {
    /// Attempts of a day, by the counters; yesterday's are void whether or not anybody has tidied them.
    public func used(_ action: ActionType, on day: UTCDay) -> Int {
        usageDay >= day ? usedToday[action] ?? 0 : 0
    }

    public func channelsJSON(at now: Timestamp) -> JSONValue {
        let limits = candidate.limits.invite
        let (daily, total) = (limits.perChannelDaily ?? 0, limits.perChannelTotal ?? 0)
        return .object(
            (channels?.counters ?? [:]).sorted { $0.key < $1.key }.map { channel, counter in
                let today = counter.day >= now.day ? counter.today : 0
                return JSONMember(
                    channel.description,
                    [
                        "today": JSONValue(today), "total": JSONValue(counter.total),
                        "daily_limit": JSONValue(daily),
                        "total_limit": JSONValue(total), "remaining_today": JSONValue(max(0, daily - today)),
                        "remaining_total": JSONValue(max(0, total - counter.total)),
                    ])
            })
    }

    public func health(at now: Timestamp, _ language: Language) -> JSONValue {
        let standing = candidate.standing
        let status = standing.status(at: now)
        let end = standing.refusal(at: now)?.moment
        var issues: [LocalizedText] = []
        if status != .active {
            let until = end.map { (" until \($0)", " до \($0)") } ?? ("", "")
            issues.append(
                LocalizedText(
                    "The account is \(status.text(.english))\(until.0)",
                    "Аккаунт: \(status.text(.russian))\(until.1)"))
        }
        if standing.disabled == .byMonitor {
            issues.append(
                LocalizedText(
                    "The ledger shows more than a limit allows; look at it before turning the account on",
                    "Журнал показывает превышение лимита; проверьте его, прежде чем включать аккаунт"))
        }
        if standing.errorCount > 0 {
            issues.append(
                LocalizedText(
                    "\(standing.errorCount) errors in a row", "Ошибок подряд: \(standing.errorCount)"))
        }
        if issues.isEmpty { issues.append(LocalizedText("Account is healthy", "Аккаунт в порядке")) }
        return [
            "account_id": .string(id.description), "is_healthy": .bool(status == .active),
            "status": .string(status.rawValue), "issues": .array(issues.map { .string($0(language)) }),
            "error_count": JSONValue(standing.errorCount), "recovery_eta": JSONValue(end),
            "last_check": now.json,
        ]
    }

    /// The verdict on handing this account out, with everything that speaks against it.
    public func explanation(
        _ purpose: Purpose, _ channel: ChannelKey?, at now: Timestamp, _ language: Language
    ) -> JSONValue {
        let refusals = candidate.refusals(for: purpose, into: channel, at: now)
        let verdict = purpose.action.map { candidate.verdict($0, into: channel, at: now) }
        var counts = NoAccountAvailable()
        if !refusals.isEmpty { counts.add(refusals) }
        let binding = counts.counts.keys.first
        return .object(present: [
            "account_id": .string(id.description), "eligible": .bool(refusals.isEmpty),
            "reason": binding.map { .string($0.rawValue) },
            "message": .string(
                (binding?.text ?? LocalizedText("can be handed out now", "можно выдать сейчас"))(language)),
            "retry_at": JSONValue(counts.retryAt),
            "refusals": .array(
                refusals.map { refusal in
                    [
                        "reason": .string(refusal.reason.rawValue),
                        "message": .string(refusal.reason.text(language)),
                        "until": JSONValue(refusal.end.moment),
                    ]
                }),
            "checks": verdict?.json["checks"],
            "used_today": purpose.action.map { JSONValue(used($0, on: now.day)) },
            "error_count": JSONValue(candidate.standing.errorCount),
            "last_used_at": JSONValue(candidate.lastUsed),
        ])
    }
}

extension Limits: JSONEncodable {
    public var json: JSONValue {
        .object(LimitSetting.all.sorted().map { JSONMember($0.name, JSONValue($0.read(self))) })
    }
}

extension LimitsOverride: JSONEncodable {
    public var json: JSONValue {
        .object(values.sorted { $0.key < $1.key }.map { JSONMember($0.key.name, JSONValue($0.value)) })
    }
}

extension Plan {
    public func json(_ language: Language, channel: ChannelKey, start: Timestamp) -> JSONValue {
        let days = days.map { day -> JSONValue in
            [
                "day": .string(day.day.description), "invites": JSONValue(day.invites),
                "total": JSONValue(day.total), "binding_limit": JSONValue(day.binding?.rawValue),
                "accounts_stopped": .object(
                    LimitName.allCases.filter { day.stopped[$0, default: 0] > 0 }
                        .map { JSONMember($0.rawValue, JSONValue(day.stopped[$0])) }),
            ]
        }
        return .object(present: [
            "target_channel_id": .string(channel.description), "invites": JSONValue(wanted),
            "possible": .bool(isPossible), "possible_invites": JSONValue(possible), "start_at": start.json,
            "finish_at": JSONValue(finish), "end_at": JSONValue(end), "accounts": JSONValue(accounts),
            "accounts_needed": JSONValue(accountsNeeded), "days": JSONValue(days.count),
            "invites_per_day": JSONValue(busiestDay), "schedule": .array(days),
            "one_more_account": [
                "finish_at": JSONValue(oneMoreAccount.finish),
                "seconds_saved": JSONValue(oneMoreAccount.saved.wholeSecondsUp),
                "invites_gained": JSONValue(oneMoreAccount.invitesGained),
            ],
            "one_more_day": oneMoreDay.map {
                ["accounts": JSONValue($0.accounts), "accounts_saved": JSONValue($0.accountsSaved)]
            },
            "message": .string(text(language)),
        ])
    }
}
