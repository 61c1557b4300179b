/// The same number for the same seed and places, on every machine: what is generated need not be stored.
func luck(_ seed: UInt64, _ places: Int64...) -> UInt64 {
    var mixed = seed &+ 0x9E37_79B9_7F4A_7C15
    for place in places {
        mixed = (mixed ^ UInt64(bitPattern: place)) &+ 0x9E37_79B9_7F4A_7C15
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        mixed ^= mixed >> 31
    }
    return mixed
}

extension UInt64 {
    /// Uniform in `0 ..< count`.
    func below(_ count: Int) -> Int { count > 0 ? Int(self % UInt64(count)) : 0 }
    /// True for `share` of a thousand.
    func perMille(_ share: Int) -> Bool { below(1000) < share }
    func pick<Element>(_ elements: [Element]) -> Element { elements[below(elements.count)] }
}
