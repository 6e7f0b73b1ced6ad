-- A frozen sample of control.db in format 2. Never change it: it is what that format was.
PRAGMA application_id = 1265200739;
PRAGMA user_version = 2;

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
ALTER TABLE stream ADD COLUMN dropped_epoch INTEGER;
ALTER TABLE stream ADD COLUMN dropped_sequence INTEGER;
UPDATE epoch SET epoch = 12;
INSERT INTO stream VALUES (1, x'7c0e8c1c5d1f4a8fb3c0a1d2e3f40516', 'gate', 1789000000000000, '{"max_age_us":86400000000,"on_second_publisher":"refuse","producer_clock":"auto","tags":{"site":"north"}}', 1790000000000000, 11, 6000000000);
INSERT INTO credential VALUES (1, 'abcdefgh234567ab', 'token', x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f', NULL, 'console', '{"streams":"*","actions":[],"media_from":null,"media_to":null,"playback":false}', 1789000000000000, NULL, NULL, NULL);
