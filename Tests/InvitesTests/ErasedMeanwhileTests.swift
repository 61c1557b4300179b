import Contracts
import Core
import Invites
import Security
import Storage
import TestServers
import Testing

/// An erasure does not wait for what is on its way: whatever is told afterwards must not bring the person back.
@Suite(.timeLimit(.minutes(3)))
struct `A person who is erased while being invited` {
    private static let sent = SendResult.sent(
        SentMessage(targetUserID: 900_800_701, messageID: nil, at: noon, isMember: true))

    private static func refused(_ refusal: SendRefusal) -> SendResult {
        .refused(refusal, original: "secret_anna: NO", telegramType: "NO", retryAfter: 60)
    }

    private static let results: [SendResult] =
        [sent, .unknown(reason: "no answer"), .notSent(reason: "away")]
        + [.privacyRestricted, .notMutualContact, .alreadyParticipant, .floodWait, .inviteFailed].map {
            refused($0)
        }

    private func running(_ store: InviteStore) async throws -> (task: InviteTask, person: InviteTarget) {
        let settings = TaskSettings(group: "@Club")
        let task = try await store.create(NewTask(name: "Task", settings: settings), of: 1, at: noon)
        let anna = PersonIdentity(username: "secret_anna", phone: "+79165550001", platformID: nil)
        _ = try await store.add([NewTarget(anna, fullName: "Secretova")], to: task.id, of: 1, at: noon)
        let started = try await store.apply(.execute, to: task.id, of: 1, at: noon)
        let claim = try await store.claim(task.id, limit: 1, by: "worker", at: noon).claim
        guard case .claimed(let people) = claim else { throw InviteError.unknownTarget }
        return (started, people[0])
    }

    private func attempt(_ person: InviteTarget, _ task: InviteTask) -> InviteAttempt {
        let lease = LeasedAccount(
            accountID: "account", userID: 1, phone: "", leaseID: "lease", fencingToken: 4, expiresAt: noon)
        return InviteAttempt(
            id: "attempt-\(person.id)", target: person, run: task.run, .invite, lease, channel: "club",
            permit: nil, content: "i@Club", at: noon)
    }

    private func erase(_ store: InviteStore) async throws {
        let anna = PersonIdentity(username: "secret_anna", phone: nil, platformID: nil)
        _ = try await ErasureStore(store.database, digests: store.digests, random: SystemRandom())
            .erase(ErasureWish(anna), of: 1, at: noon)
    }

    private func traces(_ store: InviteStore) async throws -> [String] {
        var texts: [String] = []
        for query: SQL in [
            "SELECT username, phone, platform_id, full_name, error_detail FROM invite_targets",
            "SELECT details FROM invite_logs", "SELECT label, note, source FROM invite_suppressions",
        ] {
            for row in try await store.database.run(query) {
                texts += row.columns.map { "\(row[$0] ?? .null)" }
            }
        }
        return texts.filter { text in
            ["secret", "916555", "900800701"].contains { text.lowercased().contains($0) }
        }
    }

    @Test(arguments: Engine.available, results)
    func `is not named by the answer that comes afterwards`(engine: Engine, result: SendResult) async throws {
        try await engine.open { store in
            let (task, person) = try await running(store)
            let attempt = attempt(person, task)
            #expect(try await store.begin(attempt, of: task, by: "worker", at: noon) == .granted)
            try await erase(store)
            let step = OutcomePolicy.step(after: result, AttemptContext())
            try await store.finish(
                attempt, result, step, of: person, in: task, isRecorded: true, at: noon + .seconds(1))
            #expect(try await traces(store) == [])
            // Nobody could be tried again who is not known any more.
            #expect(try await store.counts(of: task.id).pending == 0)
        }
    }

    @Test(arguments: Engine.available, [true, false])
    func `is not named by a later look at the members`(engine: Engine, isMember: Bool) async throws {
        try await engine.open { store in
            let (task, person) = try await running(store)
            let attempt = attempt(person, task)
            _ = try await store.begin(attempt, of: task, by: "worker", at: noon)
            try await store.finish(
                attempt, Self.sent, OutcomePolicy.step(after: Self.sent, AttemptContext()), of: person,
                in: task,
                isRecorded: true, at: noon)
            let looked = try await store.claimVerifications(limit: 5, at: noon + .hours(2))
            try #require(looked.count == 1)
            try await erase(store)
            try await store.verified(looked[0], isMember: isMember, at: noon + .hours(2))
            #expect(try await traces(store) == [])
        }
    }
}
