public import Core

/// People of one page, each once: with when they were first and last seen and how often they wrote.
public struct Merging: Equatable, Sendable {
    public struct Sighting: Equatable, Sendable {
        public var person: PersonRecord
        public var first: Timestamp?
        public var last: Timestamp?
        public var messages: Int64
        /// Seen otherwise than by what they wrote: as a member, or in an event.
        public var isToldOf: Bool
    }

    /// In the order they were first met.
    public private(set) var sightings: [Sighting] = []
    private var places: [String: Int] = [:]

    public init() {}

    public var count: Int { sightings.count }

    public mutating func see(
        _ person: PersonRecord, first: Timestamp?, last: Timestamp?, messages: Int64 = 0
    ) {
        guard let place = places[person.platformID] else {
            places[person.platformID] = sightings.count
            sightings.append(
                Sighting(
                    person: person, first: first, last: last, messages: messages, isToldOf: messages == 0))
            return
        }
        sightings[place].first = earlier(sightings[place].first, first)
        sightings[place].last = later(sightings[place].last, last)
        sightings[place].messages += messages
        if messages == 0 { sightings[place].isToldOf = true }
        // An administrator who is met again as a mere author stays one.
        if person.isAdmin { sightings[place].person.isAdmin = true }
    }
}

private func earlier(_ left: Timestamp?, _ right: Timestamp?) -> Timestamp? {
    guard let left, let right else { return left ?? right }
    return min(left, right)
}

private func later(_ left: Timestamp?, _ right: Timestamp?) -> Timestamp? {
    guard let left, let right else { return left ?? right }
    return max(left, right)
}
