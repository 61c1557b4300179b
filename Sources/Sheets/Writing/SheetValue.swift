public import Core

/// A cell to be written.
public enum SheetValue: Sendable, Equatable {
    case empty
    case text(String)
    case number(Int64)
    case decimal(Double)
    case bool(Bool)
    /// An object or a list: itself in JSON, its text elsewhere.
    case json(JSONValue)

    public init(_ text: String?) { self = text.map(SheetValue.text) ?? .empty }
    public init(_ number: Int64?) { self = number.map(SheetValue.number) ?? .empty }
    public init(_ number: Int?) { self = number.map { .number(Int64($0)) } ?? .empty }
    public init(_ flag: Bool?) { self = flag.map(SheetValue.bool) ?? .empty }
    public init(_ time: Timestamp?) { self = time.map { .text($0.description) } ?? .empty }
}
