/// Decides who may go: so many at once for each origin, the others in their order, and no more than
/// `queueLimit` of them. It is told what happens and answers at once: no clock, no lock, no I/O.
struct HostQueue<Entry: AnyObject> {
    enum Verdict: Equatable { case go, wait, refuse }

    private struct Waiting {
        /// `nil` once it has gone.
        var entry: Entry?
        let due: Duration
    }
    private struct Host {
        var running = 0
        /// Taken from `first` on, so that leaving the queue moves nothing.
        var waiting: [Waiting] = []
        var first = 0

        mutating func next() -> Entry? {
            guard first < waiting.count else { return nil }
            let entry = waiting[first].entry
            waiting[first].entry = nil
            first += 1
            if first > 32, first * 2 > waiting.count {
                waiting.removeFirst(first)
                first = 0
            }
            return entry
        }
    }
    private let limit: Int
    private let queueLimit: Int
    private var hosts: [String: Host] = [:]
    private(set) var waitingCount = 0

    init(limit: Int, queueLimit: Int) {
        precondition(limit > 0, "a host is asked one thing at a time at least")
        self.limit = limit
        self.queueLimit = queueLimit
    }

    mutating func enter(_ entry: Entry, origin: String, due: Duration) -> Verdict {
        // Idle hosts are forgotten, but not one by one: most come back at once.
        if hosts.count > 1000 { hosts = hosts.filter { $0.value.running > 0 } }
        if hosts[origin, default: Host()].running < limit {
            hosts[origin, default: Host()].running += 1
            return .go
        }
        guard waitingCount < queueLimit else { return .refuse }
        hosts[origin]?.waiting.append(Waiting(entry: entry, due: due))
        waitingCount += 1
        return .wait
    }

    /// One has ended. Whoever is returned goes in its place.
    mutating func leave(origin: String) -> Entry? {
        guard let next = hosts[origin]?.next() else {
            hosts[origin]?.running -= 1
            return nil
        }
        waitingCount -= 1
        return next
    }

    /// Takes one out that does not want to wait any longer; false when it has gone already.
    mutating func withdraw(_ entry: Entry, origin: String) -> Bool {
        guard var host = hosts[origin],
            let index = host.waiting[host.first...].firstIndex(where: { $0.entry === entry })
        else { return false }
        hosts[origin] = nil  // so that the array is changed in place
        host.waiting.remove(at: index)
        hosts[origin] = host
        waitingCount -= 1
        return true
    }

    /// Takes out all whose time is over, and tells when the next one's will be.
    mutating func expire(now: Duration) -> (expired: [Entry], next: Duration?) {
        guard waitingCount > 0 else { return ([], nil) }
        var expired: [Entry] = []
        var next: Duration?
        for (origin, host) in hosts where host.first < host.waiting.count {
            let waiting = host.waiting[host.first...]
            let over = waiting.filter { $0.due <= now }
            if !over.isEmpty {
                expired += over.compactMap(\.entry)
                hosts[origin]?.waiting = waiting.filter { $0.due > now }
                hosts[origin]?.first = 0
                waitingCount -= over.count
            }
            if let earliest = waiting.lazy.filter({ $0.due > now }).map(\.due).min() {
                next = min(next ?? earliest, earliest)
            }
        }
        return (expired, next)
    }

    /// Everybody who waits, taken out.
    mutating func withdrawAll() -> [Entry] {
        var all: [Entry] = []
        for origin in hosts.keys {
            if let host = hosts[origin] { all += host.waiting[host.first...].compactMap(\.entry) }
            hosts[origin]?.waiting = []
            hosts[origin]?.first = 0
        }
        waitingCount = 0
        return all
    }
}
