import Synchronization

/// Where luck comes from: seeded in tests and the sandbox, the system's elsewhere.
public protocol RandomSource: Sendable {
    func next() -> UInt64
}

extension RandomSource {
    /// Uniform in `0 ..< 1`.
    public func fraction() -> Double { Double(next() >> 11) * 0x1p-53 }

    public func int(in range: ClosedRange<Int>) -> Int {
        var generator = Generator(source: self)
        return Int.random(in: range, using: &generator)
    }

    public func bytes(_ count: Int) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(count + 7)
        while result.count < count {
            let word = next()
            for shift in stride(from: UInt64(0), to: 64, by: 8) {
                result.append(UInt8(truncatingIfNeeded: word >> shift))
            }
        }
        return Array(result.prefix(count))
    }

    public func shuffled<Element>(_ elements: [Element]) -> [Element] {
        var generator = Generator(source: self)
        return elements.shuffled(using: &generator)
    }
}

private struct Generator<Source: RandomSource>: RandomNumberGenerator {
    let source: Source
    mutating func next() -> UInt64 { source.next() }
}

/// The kernel's randomness, fit for secrets.
public struct SystemRandom: RandomSource {
    public init() {}
    public func next() -> UInt64 {
        var generator = SystemRandomNumberGenerator()
        return generator.next()
    }
}

/// SplitMix64: the same seed gives the same luck on every machine.
public final class SeededRandom: RandomSource {
    private let state: Mutex<UInt64>

    public init(seed: UInt64) { state = Mutex(seed) }

    public func next() -> UInt64 {
        state.withLock { state in
            state &+= 0x9E37_79B9_7F4A_7C15
            var mixed = state
            mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
            return mixed ^ (mixed >> 31)
        }
    }
}
