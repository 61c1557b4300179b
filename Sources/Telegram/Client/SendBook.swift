import Core

/// The messages on their way. TDLib answers a send when the message is queued, and tells much later, by an
/// update that knows only the temporary id, what became of it.
struct SendBook {
    typealias Waiter = CheckedContinuation<JSONValue, any Error>

    private struct Send {
        var waiter: Waiter?
        var outcome: Result<JSONValue, any Error>?
        var place: Place?
    }
    private struct Place: Hashable {
        let chat: Int64
        let temporaryID: Int64
    }
    private var lastID: Int32 = 0
    private var sends: [Int32: Send] = [:]
    private var places: [Place: Int32] = [:]

    mutating func begin() -> Int32 {
        lastID = lastID == .max ? 1 : lastID + 1
        sends[lastID] = Send()
        return lastID
    }

    mutating func end(_ id: Int32) {
        if let place = sends.removeValue(forKey: id)?.place { places[place] = nil }
    }

    mutating func bind(_ id: Int32, _ chat: Int64, _ temporaryID: Int64) {
        guard sends[id] != nil else { return }
        let place = Place(chat: chat, temporaryID: temporaryID)
        sends[id]?.place = place
        places[place] = id
    }

    /// The outcome where it is known; else `waiter` will get it.
    mutating func wait(for id: Int32, _ waiter: Waiter) -> Result<JSONValue, any Error>? {
        if let outcome = sends[id]?.outcome { return outcome }
        sends[id]?.waiter = waiter
        return nil
    }

    mutating func withdraw(_ id: Int32) -> Waiter? {
        defer { sends[id]?.waiter = nil }
        return sends[id]?.waiter
    }

    /// What is to be done, outside of any lock, now that the outcome is known.
    mutating func settle(_ chat: Int64, _ temporaryID: Int64, _ outcome: Result<JSONValue, any Error>) -> (
        () -> Void
    )? {
        guard let id = places[Place(chat: chat, temporaryID: temporaryID)], sends[id]?.outcome == nil else {
            return nil
        }
        sends[id]?.outcome = outcome
        return withdraw(id).map { waiter in { waiter.resume(with: outcome) } }
    }

    /// The client is closed: what was not confirmed is in doubt.
    mutating func abortAll() -> [() -> Void] {
        var actions: [() -> Void] = []
        for id in sends.keys where sends[id]?.outcome == nil {
            let failure = TelegramFailure(code: 500, message: "Request aborted", method: .sendMessage)
            sends[id]?.outcome = .failure(failure)
            if let waiter = withdraw(id) { actions.append { waiter.resume(throwing: failure) } }
        }
        return actions
    }
}

/// The people TDLib told of last: each page of messages or members comes right behind its people. Bounded,
/// because who reads a big group sees everybody in it.
struct RecentPeople {
    private static let most = 2000
    private var people: [UserID: Person] = [:]
    private var order: [UserID] = []
    private var oldest = 0

    subscript(id: UserID) -> Person? { people[id] }

    mutating func keep(_ person: Person) {
        if people.updateValue(person, forKey: person.id) != nil { return }
        if order.count < Self.most {
            order.append(person.id)
        } else {
            people[order[oldest]] = nil
            order[oldest] = person.id
            oldest = (oldest + 1) % Self.most
        }
    }
}
