-- control.db, format 1. Times are microseconds since the epoch. One tenant, number 1, until there are more.

-- The last epoch given out: one row.
CREATE TABLE epoch (
    id    INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    epoch INTEGER NOT NULL
) STRICT;
INSERT INTO epoch (id, epoch) VALUES (1, 0);

CREATE TABLE stream (
    tenant_id        INTEGER NOT NULL,
    stream_id        BLOB    NOT NULL CHECK (length(stream_id) = 16),
    name             TEXT    NOT NULL,
    created_us       INTEGER NOT NULL,
    settings         TEXT    NOT NULL,   -- JSON
    retained_from_us INTEGER,            -- server time; nothing before it is kept, or reported lost
    PRIMARY KEY (tenant_id, stream_id),
    UNIQUE (tenant_id, name)
) STRICT;

-- Whatever lets somebody in. A token is kept as its hash alone. Publish secrets and access keys are sealed under
-- the server key, because digest authentication and SigV4 need the secret itself.
CREATE TABLE credential (
    tenant_id     INTEGER NOT NULL,
    credential_id TEXT    NOT NULL,
    kind          TEXT    NOT NULL CHECK (kind IN ('token', 'publish_secret', 'access_key')),
    hash          BLOB    CHECK ((kind = 'token') = (hash IS NOT NULL)),
    sealed        BLOB    CHECK ((kind = 'token') = (sealed IS NULL)),
    label         TEXT    NOT NULL,
    scope         TEXT    NOT NULL,      -- JSON
    created_us    INTEGER NOT NULL,
    expires_us    INTEGER,
    revoked_us    INTEGER,
    last_used_us  INTEGER,
    PRIMARY KEY (tenant_id, credential_id)
) STRICT;
CREATE UNIQUE INDEX credential_by_hash ON credential (hash) WHERE hash IS NOT NULL;
