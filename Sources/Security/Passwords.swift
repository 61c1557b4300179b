import CSodium
public import Core

/// How dear a guess is: passes over the memory, and the memory.
public struct PasswordCost: Equatable, Sendable {
    public let passes: Int
    public let memory: Int

    /// - Parameter memory: in bytes; Argon2 counts it in KiB.
    public init(passes: Int, memory: Int) {
        Sodium.prepare()
        precondition((1...100).contains(passes), "one pass at least, and a bound")
        precondition(
            memory >= convoke_pwhash_memlimit_min() && memory <= 1 << 30, "8 KiB to 1 GiB for one password")
        self.passes = passes
        self.memory = memory
    }

    /// libsodium's `INTERACTIVE`: 2 passes over 64 MiB, about a tenth of a second.
    public static let interactive = PasswordCost(passes: 2, memory: 64 << 20)
    /// As little as there is: for tests that need many users, never for people's passwords.
    public static let cheap = PasswordCost(passes: 1, memory: 8 << 10)

    /// `PASSWORD_PASSES` and `PASSWORD_MEMORY_MB`; never below what `interactive` asks of memory in one
    /// direction and of patience in the other.
    public init(from environment: inout Environment) {
        self.init(
            passes: environment.int("PASSWORD_PASSES", default: 2, in: 1...20),
            memory: environment.int("PASSWORD_MEMORY_MB", default: 64, in: 8...1024) << 20)
    }
}

public enum PasswordError: Error, Equatable, Sendable {
    /// As many passwords wait to be looked at as may: try again shortly.
    case busy
    /// Longer than anyone types; hashing it would only cost us.
    case tooLong
    /// What is stored is no hash of ours.
    case malformedHash
    /// The memory for it could not be had.
    case outOfMemory
}

/// Hashes and checks passwords with Argon2id, on threads of its own.
///
/// A hash takes a tenth of a second and 64 MiB by design, so only `atOnce` run at a time, `waiting` more may
/// wait, and everyone else hears `busy` at once: a storm of logins cannot take all memory or stall requests
/// that need no password.
public final class Passwords: Sendable {
    /// In bytes of UTF-8.
    public static let longest = 1024

    private let cost: PasswordCost
    private let workers: WorkerThreads
    private let didCheck: @Sendable () -> Void
    /// The form of a hash at the same cost whose password nobody knows.
    private let nobodysHash: String

    /// - Parameter didCheck: told of every password that was compared with a hash, whoever's it was: for
    ///   counting the work, which must not differ between people who exist and who do not.
    public init(
        cost: PasswordCost = .interactive, atOnce: Int = 2, waiting: Int = 64,
        random: any RandomSource = SystemRandom(), didCheck: @escaping @Sendable () -> Void = {}
    ) {
        Sodium.prepare()
        self.cost = cost
        self.didCheck = didCheck
        workers = WorkerThreads(name: "password", count: atOnce, waiting: waiting)
        func unpadded(_ bytes: [UInt8]) -> String {
            String(Base64.encode(bytes).prefix { $0 != "=" })
        }
        nobodysHash =
            "$argon2id$v=19$m=\(cost.memory / 1024),t=\(cost.passes),p=1"
            + "$\(unpadded(random.bytes(16)))$\(unpadded(random.bytes(32)))"
    }

    /// The hash as it is stored: algorithm, cost and salt stand in it.
    public func hash(_ password: Secret<String>) async throws -> String {
        let bytes = try Self.bytes(password)
        let cost = cost
        return try await workers.run { try Self.hash(bytes, cost) }
    }

    /// Whether `password` is the one behind `hash`.
    public func verify(_ password: Secret<String>, against hash: String) async throws -> Bool {
        let bytes = try Self.bytes(password)
        guard let stored = Self.stored(hash) else { throw PasswordError.malformedHash }
        return try await workers.run { [didCheck] in
            defer { didCheck() }
            return Self.verify(bytes, stored)
        }
    }

    /// Takes as long as `verify` does and is never true: for a login as someone who does not exist, so that
    /// the time of the answer does not tell who does.
    public func verifyAgainstNothing(_ password: Secret<String>) async throws -> Bool {
        // The result is thrown away, against the luck of hitting a random hash.
        _ = try await verify(password, against: nobodysHash)
        return false
    }

    /// Whether `hash` was made at another cost; then it is made anew at the next login.
    public func needsRehash(_ hash: String) -> Bool {
        guard let stored = Self.stored(hash) else { return true }
        return crypto_pwhash_str_needs_rehash(stored, UInt64(cost.passes), cost.memory) != 0
    }

    /// For a test that looks at what `verifyAgainstNothing` compares with.
    var hashOfNobody: String { nobodysHash }

    private static func bytes(_ password: Secret<String>) throws -> [CChar] {
        let bytes = password.expose().utf8.map { CChar(bitPattern: $0) }
        guard bytes.count <= longest else { throw PasswordError.tooLong }
        return bytes
    }

    /// libsodium reads all 128 bytes of a stored hash, zeros behind its end.
    private static func stored(_ hash: String) -> [CChar]? {
        var stored = [CChar](repeating: 0, count: convoke_pwhash_strbytes())
        let bytes = Array(hash.utf8)
        guard bytes.count < stored.count, !bytes.contains(0), hash.hasPrefix("$argon2id$") else { return nil }
        for (index, byte) in bytes.enumerated() { stored[index] = CChar(bitPattern: byte) }
        // A hash is well formed when libsodium can tell its cost, whichever that is.
        return crypto_pwhash_str_needs_rehash(stored, 1, convoke_pwhash_memlimit_min()) >= 0 ? stored : nil
    }

    private static func hash(_ password: [CChar], _ cost: PasswordCost) throws -> String {
        var result = [CChar](repeating: 0, count: convoke_pwhash_strbytes())
        let failed = crypto_pwhash_str(
            &result, password, UInt64(password.count), UInt64(cost.passes), cost.memory)
        guard failed == 0 else { throw PasswordError.outOfMemory }
        return String(decoding: result.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func verify(_ password: [CChar], _ stored: [CChar]) -> Bool {
        crypto_pwhash_str_verify(stored, password, UInt64(password.count)) == 0
    }
}
