-- Ids are the 16 bytes of a UUID, times are milliseconds since 1970.

CREATE TABLE users (
    id            BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    username      TEXT    NOT NULL UNIQUE,
    discriminator TEXT    NOT NULL,
    avatar_url    TEXT,
    custom_status TEXT,
    -- PHC string (argon2id). NULL: this account cannot log in, it was given a token.
    password_hash TEXT,
    created_ms    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE guilds (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name         TEXT    NOT NULL,
    icon_url     TEXT,
    owner_id     BLOB    NOT NULL REFERENCES users (id),
    -- Raised in the transaction of every change of the guild, its channels or its members.
    version      INTEGER NOT NULL CHECK (version > 0),
    -- Kept beside `members`, since counting a million rows per READY is out of the question.
    member_count INTEGER NOT NULL CHECK (member_count >= 0),
    created_ms   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE channels (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    guild_id   BLOB    NOT NULL REFERENCES guilds (id),
    name       TEXT    NOT NULL,
    type       TEXT    NOT NULL CHECK (type IN ('text', 'voice', 'category')),
    position   INTEGER NOT NULL CHECK (position >= 0),
    parent_id  BLOB    REFERENCES channels (id),
    created_ms INTEGER NOT NULL,
    UNIQUE (guild_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE members (
    user_id   BLOB    NOT NULL REFERENCES users (id),
    guild_id  BLOB    NOT NULL REFERENCES guilds (id),
    joined_ms INTEGER NOT NULL,
    PRIMARY KEY (user_id, guild_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE invites (
    code       TEXT    NOT NULL PRIMARY KEY,
    guild_id   BLOB    NOT NULL REFERENCES guilds (id),
    creator_id BLOB    NOT NULL REFERENCES users (id),
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
