/// Turns the settled deliveries of one channel into as few acknowledgements as possible: one `multiple` for
/// the unbroken run at the front, single ones for what is settled behind a gap.
///
/// A value without I/O. Tags count from 1 without gaps, as the server gives them to a channel.
struct AckWindow: Equatable {
    struct Acknowledgement: Equatable {
        let tag: UInt64
        let isMultiple: Bool
    }
    private enum State { case held, settled, told }

    /// The lowest tag that is not known to be settled and told.
    private var base: UInt64 = 1
    private var states: [State] = []
    private var settledCount = 0

    var heldCount: Int { states.count { $0 == .held } }

    mutating func delivered(_ tag: UInt64) {
        precondition(tag == base + UInt64(states.count), "a channel's tags have no gaps")
        states.append(.held)
    }

    mutating func settle(_ tag: UInt64) {
        guard tag >= base, tag - base < UInt64(states.count), states[Int(tag - base)] == .held else { return }
        states[Int(tag - base)] = .settled
        settledCount += 1
    }

    /// Given back to the server: nothing more is said of it.
    mutating func giveBack(_ tag: UInt64) {
        guard tag >= base, tag - base < UInt64(states.count), states[Int(tag - base)] == .held else { return }
        states[Int(tag - base)] = .told
    }

    /// What to tell the server now.
    mutating func take() -> [Acknowledgement] {
        guard settledCount > 0 else { return dropTold() }
        var result: [Acknowledgement] = []
        let run = states.firstIndex(of: .held) ?? states.count
        // Those told already are skipped by the server, so the run may stretch over them.
        let inRun = states[..<run].count { $0 == .settled }
        if inRun > 0, let last = states[..<run].lastIndex(of: .settled) {
            result.append(Acknowledgement(tag: base + UInt64(last), isMultiple: inRun > 1))
        }
        states.removeFirst(run)
        base += UInt64(run)
        if settledCount > inRun {
            for index in states.indices where states[index] == .settled {
                result.append(Acknowledgement(tag: base + UInt64(index), isMultiple: false))
                states[index] = .told
            }
        }
        settledCount = 0
        return result
    }

    private mutating func dropTold() -> [Acknowledgement] {
        let run = states.firstIndex { $0 != .told } ?? states.count
        states.removeFirst(run)
        base += UInt64(run)
        return []
    }
}
