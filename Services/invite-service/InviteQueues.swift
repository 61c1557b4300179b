import Broker
import Core
import Invites
import Storage

/// The queues of the campaigns. A message says only where to look: what is due stands in SQL.
enum InviteQueues {
    static let high = Queue("invite-high")
    static let normal = Queue("invite-normal")
    static let low = Queue("invite-low")
    static let all = [high, normal, low]
}

/// What a message asks for.
enum CampaignJob: String, Sendable, CaseIterable {
    /// Finds out what a task needs, and sends for it.
    case look
    /// Works on a task for a while.
    case work
    /// Finds out what became of attempts nobody knows about.
    case doubts
}

/// Sends for workers.
struct CampaignBell: Sendable {
    let broker: any Broker
    let time: any TimeSource
    let random: any RandomSource

    func ring(_ job: CampaignJob, _ task: Int64, _ priority: TaskPriority = .medium) async throws {
        let queue =
            switch job {
            case .look: InviteQueues.high
            case .work: priority == .low ? InviteQueues.low : InviteQueues.normal
            case .doubts: InviteQueues.low
            }
        let body: JSONValue = ["job": .string(job.rawValue), "task_id": .int(task)]
        try await broker.publish(
            Message(id: "\(job.rawValue)-\(task)-\(UniqueID(at: time.now, random))", body: body.bytes),
            to: queue.name)
    }
}
