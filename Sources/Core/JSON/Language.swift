/// The languages the platform speaks to people.
public enum Language: String, Sendable, CaseIterable {
    case english = "en"
    case russian = "ru"
}

/// A sentence in every language a person may read it in.
public struct LocalizedText: Sendable, Equatable {
    public let english: String
    public let russian: String

    public init(_ english: String, _ russian: String) {
        self.english = english
        self.russian = russian
    }

    public func callAsFunction(_ language: Language) -> String {
        switch language {
        case .english: english
        case .russian: russian
        }
    }
}
