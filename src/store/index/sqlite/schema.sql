-- Format 1 of index.db. A cache: a later format drops it and is rebuilt from the blocks.

CREATE TABLE block (
    stream          BLOB    NOT NULL,   -- 16 bytes of UUID
    first_epoch     INTEGER NOT NULL,
    first_seq       INTEGER NOT NULL,
    last_epoch      INTEGER NOT NULL,
    last_seq        INTEGER NOT NULL,
    first_ordinal   INTEGER NOT NULL,
    frag_count      INTEGER NOT NULL,
    discontinuities INTEGER NOT NULL,
    producer_from   INTEGER NOT NULL,   -- times are microseconds since the epoch, ends are exclusive
    producer_to     INTEGER NOT NULL,
    producer_class  INTEGER NOT NULL,   -- the span is shorter than 16^class microseconds
    server_from     INTEGER NOT NULL,
    server_to       INTEGER NOT NULL,
    server_class    INTEGER NOT NULL,
    bytes           INTEGER NOT NULL,   -- of the file, known to be on disk
    state           INTEGER NOT NULL,   -- 0 open, 1 sealed, 2 deleting, 3 quarantined, 4 lost
    fragments       BLOB,               -- packed; NULL while open. Last, so that a scan of the rest never reads it
    PRIMARY KEY (stream, first_epoch, first_seq)
) STRICT, WITHOUT ROWID;

-- Both hold all that a search by time looks at, the key included: it never touches a row that is not in the answer.
CREATE INDEX block_by_producer ON block (stream, producer_class, producer_to, producer_from, state) WHERE state <> 2;
CREATE INDEX block_by_server ON block (stream, server_class, server_to, server_from, state) WHERE state <> 2;
CREATE INDEX block_by_ordinal ON block (stream, first_ordinal);
CREATE INDEX block_open ON block (stream) WHERE state = 0;
CREATE INDEX block_deleting ON block (stream) WHERE state = 2;

-- Sums over the blocks of a stream that are not being deleted, kept by every change: a year of blocks is never summed.
CREATE TABLE stream_usage (
    stream BLOB    NOT NULL PRIMARY KEY,
    bytes  INTEGER NOT NULL,
    blocks INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
