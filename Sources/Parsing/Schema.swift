public import Storage

extension Migration {
    /// What parsing-service keeps in `parsing_db`.
    ///
    /// Rows of results are numbered without gaps as they are written, so that a page is found by its place; a
    /// row that is erased leaves its number empty. Up to `counted_message` a task's messages are counted in its
    /// people's rows, which are all changed at once, so that PostgreSQL's pages are left half empty for it.
    public static let parsing: [Migration] = [
        Migration(
            1, "tasks, people, messages",
            postgres: """
                CREATE TABLE parse_tasks (
                    no BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                    id TEXT NOT NULL UNIQUE,
                    user_id BIGINT NOT NULL,
                    platform TEXT NOT NULL,
                    link TEXT NOT NULL,
                    title TEXT,
                    task_type TEXT NOT NULL,
                    priority BIGINT NOT NULL,
                    status TEXT NOT NULL,
                    config TEXT NOT NULL,
                    course TEXT NOT NULL,
                    messages BIGINT NOT NULL DEFAULT 0,
                    media BIGINT NOT NULL DEFAULT 0,
                    users BIGINT NOT NULL DEFAULT 0,
                    results BIGINT NOT NULL DEFAULT 0,
                    stored_messages BIGINT NOT NULL DEFAULT 0,
                    filtered BIGINT NOT NULL DEFAULT 0,
                    active_ms BIGINT NOT NULL DEFAULT 0,
                    erased BIGINT NOT NULL DEFAULT 0,
                    last_person BIGINT NOT NULL DEFAULT 0,
                    last_message BIGINT NOT NULL DEFAULT 0,
                    counted_message BIGINT NOT NULL DEFAULT 0,
                    failure TEXT,
                    waiting TEXT,
                    not_before BIGINT NOT NULL DEFAULT 0,
                    queued_at BIGINT NOT NULL,
                    claim TEXT,
                    claimed_by TEXT,
                    claimed_until BIGINT NOT NULL DEFAULT 0,
                    lease TEXT,
                    revision BIGINT NOT NULL DEFAULT 1,
                    created_at BIGINT NOT NULL,
                    updated_at BIGINT NOT NULL,
                    started_at BIGINT,
                    finished_at BIGINT,
                    results_until BIGINT,
                    results_erased BOOLEAN NOT NULL DEFAULT FALSE,
                    deleted_at BIGINT
                ) WITH (fillfactor = 60);
                CREATE INDEX parse_tasks_user ON parse_tasks (user_id, no) WHERE deleted_at IS NULL;
                CREATE INDEX parse_tasks_link ON parse_tasks (user_id, link);
                CREATE INDEX parse_tasks_due ON parse_tasks (priority, queued_at, no)
                    WHERE status IN ('pending', 'running') AND deleted_at IS NULL;
                CREATE INDEX parse_tasks_end ON parse_tasks (results_until)
                    WHERE results_until IS NOT NULL AND NOT results_erased;
                CREATE INDEX parse_tasks_deleted ON parse_tasks (deleted_at) WHERE deleted_at IS NOT NULL;
                CREATE TABLE parse_people (
                    task_no BIGINT NOT NULL,
                    position BIGINT NOT NULL,
                    platform_id TEXT NOT NULL,
                    username TEXT,
                    display_name TEXT NOT NULL,
                    first_name TEXT NOT NULL,
                    last_name TEXT NOT NULL,
                    phone TEXT,
                    first_seen BIGINT,
                    last_seen BIGINT,
                    message_count BIGINT NOT NULL,
                    flags BIGINT NOT NULL,
                    presence TEXT NOT NULL,
                    language_code TEXT NOT NULL,
                    PRIMARY KEY (task_no, platform_id)
                ) WITH (fillfactor = 50);
                CREATE UNIQUE INDEX parse_people_place ON parse_people (task_no, position);
                CREATE INDEX parse_people_username ON parse_people (lower(username)) WHERE username IS NOT NULL;
                CREATE INDEX parse_people_phone ON parse_people (phone) WHERE phone IS NOT NULL;
                CREATE TABLE parse_messages (
                    task_no BIGINT NOT NULL,
                    position BIGINT NOT NULL,
                    platform_id TEXT NOT NULL,
                    chat_id TEXT NOT NULL,
                    post_id TEXT,
                    author_id TEXT,
                    author_username TEXT,
                    author_name TEXT NOT NULL,
                    sent_at BIGINT NOT NULL,
                    edited_at BIGINT,
                    content TEXT NOT NULL,
                    media TEXT,
                    file_id TEXT,
                    views BIGINT NOT NULL,
                    forwards BIGINT NOT NULL,
                    reactions BIGINT NOT NULL,
                    replies BIGINT,
                    reply_to TEXT,
                    forwarded_from TEXT,
                    PRIMARY KEY (task_no, position)
                );
                CREATE TABLE parse_account_pace (
                    account TEXT PRIMARY KEY,
                    requests TEXT NOT NULL,
                    updated_at BIGINT NOT NULL
                )
                """,
            sqlite: """
                CREATE TABLE parse_tasks (
                    no INTEGER PRIMARY KEY AUTOINCREMENT,
                    id TEXT NOT NULL UNIQUE,
                    user_id BIGINT NOT NULL,
                    platform TEXT NOT NULL,
                    link TEXT NOT NULL,
                    title TEXT,
                    task_type TEXT NOT NULL,
                    priority BIGINT NOT NULL,
                    status TEXT NOT NULL,
                    config TEXT NOT NULL,
                    course TEXT NOT NULL,
                    messages BIGINT NOT NULL DEFAULT 0,
                    media BIGINT NOT NULL DEFAULT 0,
                    users BIGINT NOT NULL DEFAULT 0,
                    results BIGINT NOT NULL DEFAULT 0,
                    stored_messages BIGINT NOT NULL DEFAULT 0,
                    filtered BIGINT NOT NULL DEFAULT 0,
                    active_ms BIGINT NOT NULL DEFAULT 0,
                    erased BIGINT NOT NULL DEFAULT 0,
                    last_person BIGINT NOT NULL DEFAULT 0,
                    last_message BIGINT NOT NULL DEFAULT 0,
                    counted_message BIGINT NOT NULL DEFAULT 0,
                    failure TEXT,
                    waiting TEXT,
                    not_before BIGINT NOT NULL DEFAULT 0,
                    queued_at BIGINT NOT NULL,
                    claim TEXT,
                    claimed_by TEXT,
                    claimed_until BIGINT NOT NULL DEFAULT 0,
                    lease TEXT,
                    revision BIGINT NOT NULL DEFAULT 1,
                    created_at BIGINT NOT NULL,
                    updated_at BIGINT NOT NULL,
                    started_at BIGINT,
                    finished_at BIGINT,
                    results_until BIGINT,
                    results_erased BOOLEAN NOT NULL DEFAULT FALSE,
                    deleted_at BIGINT
                );
                CREATE INDEX parse_tasks_user ON parse_tasks (user_id, no) WHERE deleted_at IS NULL;
                CREATE INDEX parse_tasks_link ON parse_tasks (user_id, link);
                CREATE INDEX parse_tasks_due ON parse_tasks (priority, queued_at, no)
                    WHERE status IN ('pending', 'running') AND deleted_at IS NULL;
                CREATE INDEX parse_tasks_end ON parse_tasks (results_until)
                    WHERE results_until IS NOT NULL AND NOT results_erased;
                CREATE INDEX parse_tasks_deleted ON parse_tasks (deleted_at) WHERE deleted_at IS NOT NULL;
                CREATE TABLE parse_people (
                    task_no BIGINT NOT NULL,
                    position BIGINT NOT NULL,
                    platform_id TEXT NOT NULL,
                    username TEXT,
                    display_name TEXT NOT NULL,
                    first_name TEXT NOT NULL,
                    last_name TEXT NOT NULL,
                    phone TEXT,
                    first_seen BIGINT,
                    last_seen BIGINT,
                    message_count BIGINT NOT NULL,
                    flags BIGINT NOT NULL,
                    presence TEXT NOT NULL,
                    language_code TEXT NOT NULL,
                    PRIMARY KEY (task_no, position)
                ) WITHOUT ROWID;
                CREATE UNIQUE INDEX parse_people_id ON parse_people (task_no, platform_id);
                CREATE INDEX parse_people_username ON parse_people (lower(username)) WHERE username IS NOT NULL;
                CREATE INDEX parse_people_phone ON parse_people (phone) WHERE phone IS NOT NULL;
                CREATE TABLE parse_messages (
                    task_no BIGINT NOT NULL,
                    position BIGINT NOT NULL,
                    platform_id TEXT NOT NULL,
                    chat_id TEXT NOT NULL,
                    post_id TEXT,
                    author_id TEXT,
                    author_username TEXT,
                    author_name TEXT NOT NULL,
                    sent_at BIGINT NOT NULL,
                    edited_at BIGINT,
                    content TEXT NOT NULL,
                    media TEXT,
                    file_id TEXT,
                    views BIGINT NOT NULL,
                    forwards BIGINT NOT NULL,
                    reactions BIGINT NOT NULL,
                    replies BIGINT,
                    reply_to TEXT,
                    forwarded_from TEXT,
                    PRIMARY KEY (task_no, position)
                ) WITHOUT ROWID;
                CREATE TABLE parse_account_pace (
                    account TEXT PRIMARY KEY,
                    requests TEXT NOT NULL,
                    updated_at BIGINT NOT NULL
                )
                """)
    ]
}
