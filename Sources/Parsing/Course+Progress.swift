import Core

// How far a parse is.
extension Course {
    /// Items there are to read, by Telegram's own counts; nil where it gives none.
    func estimate(_ config: ParseConfig) -> Int64? {
        var total: Int64 = 0
        for step in steps {
            guard let part = estimate(step, config) else { return nil }
            total += part
        }
        return steps.isEmpty ? nil : total
    }

    private func estimate(_ step: Step, _ config: ParseConfig) -> Int64? {
        let coverage = coverage[step] ?? Coverage()
        if coverage.isFinished { return coverage.read }
        switch step {
        case .members:
            guard let count = community?.memberCount else { return config.memberLimit }
            return min(count, coverage.cappedAt ?? .max, config.memberLimit ?? .max)
        case .messages:
            guard config.since == nil, config.until == nil, floor[step] == nil else {
                return config.messageLimit
            }
            guard let newestOrdinal else { return config.messageLimit }
            return min(newestOrdinal, config.messageLimit ?? .max)
        case .comments:
            guard let reported = coverage.reported, reported > 0 else { return config.messageLimit }
            // The posts that were seen tell what the others may bring.
            var expected = reported
            if !isLastPost, let newestOrdinal, let reachedOrdinal, newestOrdinal > reachedOrdinal {
                expected = Int64(
                    Double(reported) * Double(newestOrdinal) / Double(newestOrdinal - reachedOrdinal))
            }
            return min(expected, config.messageLimit ?? .max)
        }
    }

    /// The share that is done, over all steps; nil where nothing tells.
    func fraction(_ config: ParseConfig) -> Double? {
        guard !steps.isEmpty else { return nil }
        var done = Double(min(index, steps.count))
        if let step {
            guard let part = fraction(step, config) else {
                return index == 0 ? nil : done / Double(steps.count)
            }
            done += min(max(part, 0), 1)
        }
        return done / Double(steps.count)
    }

    private func fraction(_ step: Step, _ config: ParseConfig) -> Double? {
        let read = Double(coverage[step]?.read ?? 0)
        if step == .messages, let since = config.since, let newestDate, let reachedDate, newestDate > since {
            let whole = (newestDate - since).inSeconds
            let byDate = (newestDate - reachedDate).inSeconds / whole
            let byCount = config.messageLimit.map { read / Double(max($0, 1)) } ?? 0
            return max(byDate, byCount)
        }
        guard let total = estimate(step, config), total > 0 else { return nil }
        return read / Double(total)
    }
}
