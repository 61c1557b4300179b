import Core
import Storage

/// The tables of `SQLBroker`.
///
/// A message is a row: free (`holder` null; due when `visible_at` has come) or claimed by a consumer. Dead
/// letters are rows whose queue is the dead letters'. A consumer says that it lives by `alive_until`; the
/// claims of one that does not are void.
enum SQLBrokerSchema {
    static let scope = "broker"

    static let migrations = [
        Migration(
            1, "messages",
            postgres: """
                CREATE TABLE broker_message (
                    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                    queue TEXT NOT NULL, id TEXT NOT NULL, attempt BIGINT NOT NULL, visible_at BIGINT NOT NULL,
                    holder TEXT, returns BIGINT NOT NULL DEFAULT 0, reason TEXT, content_type TEXT NOT NULL,
                    traceparent TEXT, request_id TEXT, body BYTEA NOT NULL);
                CREATE INDEX broker_message_due ON broker_message (queue, visible_at, seq) WHERE holder IS NULL;
                CREATE INDEX broker_message_held ON broker_message (holder) WHERE holder IS NOT NULL;
                CREATE TABLE broker_consumer (holder TEXT PRIMARY KEY, alive_until BIGINT NOT NULL)
                """,
            sqlite: """
                CREATE TABLE broker_message (
                    seq INTEGER PRIMARY KEY AUTOINCREMENT,
                    queue TEXT NOT NULL, id TEXT NOT NULL, attempt BIGINT NOT NULL, visible_at BIGINT NOT NULL,
                    holder TEXT, returns BIGINT NOT NULL DEFAULT 0, reason TEXT, content_type TEXT NOT NULL,
                    traceparent TEXT, request_id TEXT, body BLOB NOT NULL);
                CREATE INDEX broker_message_due ON broker_message (queue, visible_at, seq) WHERE holder IS NULL;
                CREATE INDEX broker_message_held ON broker_message (holder) WHERE holder IS NOT NULL;
                CREATE TABLE broker_consumer (holder TEXT PRIMARY KEY, alive_until BIGINT NOT NULL)
                """)
    ]
}
