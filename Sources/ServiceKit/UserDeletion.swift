public import Broker
import Core

/// How services hear that a user is gone: each has a queue of its own, and erases its share.
public enum UserDeletion {
    public static let listeners = [
        "integration-service", "account-manager", "parsing-service", "invite-service", "report-service",
    ]
    public static func queue(of service: String) -> Queue {
        Queue("user-deleted-\(service)", maximumAttempts: 20)
    }
    public static let queues = listeners.map(queue)

    public static func message(event: String, user: Int64, to service: String) -> Message {
        let body: JSONValue = ["event": "user_deleted", "user_id": .int(user)]
        return Message(id: "\(event)-\(service)", body: body.bytes)
    }

    /// The user a message is about.
    static func user(in message: Message) -> Int64? {
        (try? JSONValue(parsing: message.body))?["user_id"]?.intValue
    }
}
