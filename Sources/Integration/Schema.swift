public import Storage

extension Migration {
    /// What integration-service keeps in `integration_db`, beside `telegram_sessions`, which is
    /// account-manager's. Ids are texts, so that one schema serves both engines.
    public static let integration: [Migration] = [
        Migration(
            1, "accounts and logins",
            """
            CREATE TABLE telegram_accounts (
                id TEXT PRIMARY KEY,
                user_id BIGINT NOT NULL,
                telegram_user_id BIGINT NOT NULL,
                phone TEXT NOT NULL,
                username TEXT,
                first_name TEXT NOT NULL,
                last_name TEXT NOT NULL,
                is_premium BOOLEAN NOT NULL,
                status TEXT NOT NULL,
                reason TEXT,
                session_id TEXT,
                sealed_key TEXT,
                fencing_token BIGINT NOT NULL DEFAULT 0,
                frozen_until BIGINT,
                appeal_link TEXT,
                created_at BIGINT NOT NULL,
                connected_at BIGINT NOT NULL,
                last_used_at BIGINT,
                UNIQUE (user_id, telegram_user_id)
            );
            CREATE UNIQUE INDEX telegram_accounts_owner ON telegram_accounts (telegram_user_id)
                WHERE status = 'connected';
            CREATE INDEX telegram_accounts_user ON telegram_accounts (user_id, created_at, id);
            CREATE TABLE telegram_logins (
                id TEXT PRIMARY KEY,
                user_id BIGINT NOT NULL,
                method TEXT NOT NULL,
                phone TEXT NOT NULL,
                stage TEXT NOT NULL,
                sealed_key TEXT NOT NULL,
                failure TEXT,
                account_id TEXT,
                created_at BIGINT NOT NULL,
                expires_at BIGINT NOT NULL
            );
            CREATE INDEX telegram_logins_user ON telegram_logins (user_id, created_at);
            CREATE TABLE telegram_notices (
                id TEXT PRIMARY KEY,
                account_id TEXT NOT NULL,
                user_id BIGINT NOT NULL,
                kind TEXT NOT NULL,
                body TEXT NOT NULL,
                attempts BIGINT NOT NULL DEFAULT 0,
                not_before BIGINT NOT NULL
            );
            CREATE INDEX telegram_notices_due ON telegram_notices (not_before, id)
            """),
        Migration(
            2, "sends, log, bots, channels",
            """
            CREATE TABLE telegram_sends (
                user_id BIGINT NOT NULL,
                attempt_id TEXT NOT NULL,
                account_id TEXT NOT NULL,
                kind TEXT NOT NULL,
                fingerprint TEXT NOT NULL,
                stage TEXT NOT NULL,
                fencing_token BIGINT,
                instance TEXT NOT NULL,
                outcome TEXT,
                started_at BIGINT NOT NULL,
                finished_at BIGINT,
                PRIMARY KEY (user_id, attempt_id)
            );
            CREATE INDEX telegram_sends_open ON telegram_sends (instance) WHERE stage IN ('claimed', 'sending');
            CREATE INDEX telegram_sends_age ON telegram_sends (started_at);
            CREATE TABLE integration_logs (
                id TEXT PRIMARY KEY,
                user_id BIGINT NOT NULL,
                account_id TEXT,
                action TEXT NOT NULL,
                status TEXT NOT NULL,
                error_code TEXT,
                details TEXT NOT NULL,
                request_id TEXT NOT NULL,
                duration_ms BIGINT NOT NULL,
                at BIGINT NOT NULL
            );
            CREATE INDEX integration_logs_user ON integration_logs (user_id, at, id);
            CREATE INDEX integration_logs_errors ON integration_logs (user_id, at) WHERE error_code IS NOT NULL;
            CREATE INDEX integration_logs_age ON integration_logs (at);
            CREATE TABLE telegram_bots (
                id TEXT PRIMARY KEY,
                user_id BIGINT NOT NULL,
                telegram_user_id BIGINT NOT NULL,
                username TEXT NOT NULL,
                name TEXT NOT NULL,
                description TEXT NOT NULL,
                sealed_token TEXT NOT NULL,
                is_active BOOLEAN NOT NULL,
                created_at BIGINT NOT NULL,
                updated_at BIGINT NOT NULL,
                checked_at BIGINT NOT NULL,
                UNIQUE (user_id, telegram_user_id)
            );
            CREATE TABLE telegram_channels (
                id TEXT PRIMARY KEY,
                user_id BIGINT NOT NULL,
                account_id TEXT,
                chat_id BIGINT NOT NULL,
                kind TEXT NOT NULL,
                title TEXT NOT NULL,
                username TEXT,
                link TEXT NOT NULL,
                member_count BIGINT,
                discussion_chat_id BIGINT,
                may_invite BOOLEAN,
                note TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                updated_at BIGINT NOT NULL,
                checked_at BIGINT NOT NULL,
                UNIQUE (user_id, chat_id)
            )
            """),
        Migration(
            3, "notices in their order",
            """
            ALTER TABLE telegram_notices ADD COLUMN position BIGINT NOT NULL DEFAULT 0
            """),
    ]
}
