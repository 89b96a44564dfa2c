//! The texts: what makes the tables, and what adds a job or acknowledges an event.
//!
//! They are public, so that callers on other drivers can do the same in their own transactions, and operators can read
//! the tables. Only the worker writes anything else.

/// The version of the tables that this release reads and writes. A store of a newer one is refused.
pub const VERSION: i64 = 6;

/// What brings a store from each version to the next: the first text makes the tables. Each runs in a transaction of
/// its own, which also writes the version.
pub const MIGRATIONS: &[&str] = &[MAKE, POSTS, APPS, PLACES, LIGHTER, LEAN];

/// Version 1.
///
/// Times are Unix times in milliseconds. Addresses, hashes, inputs and signatures are raw bytes.
const MAKE: &str = "
-- One row: which store this is, and the version of its tables. `starts` counts the starts of workers.
CREATE TABLE ivm_store (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL,
    identity BLOB NOT NULL,
    starts INTEGER NOT NULL
) STRICT;

-- One row for each consumer. `token`: the fence of the worker that owns it. `halted`: why it takes no job from its queue.
CREATE TABLE ivm_lanes (
    lane INTEGER PRIMARY KEY,
    network TEXT NOT NULL,
    consumer BLOB NOT NULL,
    revision TEXT NOT NULL CHECK (revision IN ('state', 'relay')),
    ordered INTEGER NOT NULL,
    first_nonce INTEGER NOT NULL,
    next_nonce INTEGER NOT NULL,
    token INTEGER NOT NULL DEFAULT 0,
    next_told INTEGER NOT NULL,
    next_place INTEGER NOT NULL DEFAULT 0,
    halted TEXT,
    halted_by INTEGER,
    halted_note TEXT,
    UNIQUE (network, consumer)
) STRICT;

-- One row for each enqueued job. `saved`: 0 queued, 1 has a nonce, 2 signed, 3 over. `told`: 0 nothing, 1 a result,
-- 2 that there is none. `held`: why it waits for a person. The order of tickets is that of the commits.
CREATE TABLE ivm_jobs (
    ticket INTEGER PRIMARY KEY AUTOINCREMENT,
    lane INTEGER NOT NULL REFERENCES ivm_lanes,
    key TEXT,
    digest BLOB NOT NULL,
    saved INTEGER NOT NULL DEFAULT 0,
    told INTEGER NOT NULL DEFAULT 0,
    nonce INTEGER,
    payload INTEGER,
    held TEXT,
    note TEXT,
    failures INTEGER NOT NULL DEFAULT 0,
    enqueued_at INTEGER NOT NULL,
    not_after INTEGER,
    keep_until INTEGER,
    purged INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX ivm_jobs_key ON ivm_jobs (lane, key) WHERE key IS NOT NULL;
CREATE INDEX ivm_jobs_queued ON ivm_jobs (lane, ticket) WHERE saved = 0;
CREATE INDEX ivm_jobs_lapsing ON ivm_jobs (lane, not_after) WHERE saved = 0 AND not_after IS NOT NULL;
CREATE INDEX ivm_jobs_nonce ON ivm_jobs (lane, nonce) WHERE nonce IS NOT NULL;
CREATE INDEX ivm_jobs_open ON ivm_jobs (lane, saved, told, held, enqueued_at) WHERE saved < 3;
CREATE INDEX ivm_jobs_under_way ON ivm_jobs (lane, nonce) WHERE saved IN (1, 2) AND keep_until IS NULL;
CREATE INDEX ivm_jobs_kept ON ivm_jobs (lane, keep_until) WHERE saved < 3 AND keep_until IS NOT NULL;
CREATE INDEX ivm_jobs_over ON ivm_jobs (lane) WHERE saved = 3;
CREATE INDEX ivm_jobs_unpurged ON ivm_jobs (lane) WHERE saved = 3 AND purged = 0;

-- Every payload that a job has had. `kind`: 0 enqueued, 1 replaces one that failed, 2 fills a nonce, 3 renumbered.
-- What was ever signed under a nonce stays here until one of them is final.
CREATE TABLE ivm_payloads (
    payload INTEGER PRIMARY KEY AUTOINCREMENT,
    ticket INTEGER NOT NULL,
    nonce INTEGER,
    kind INTEGER NOT NULL DEFAULT 0,
    digest BLOB NOT NULL,
    program BLOB NOT NULL,
    max_cycles INTEGER NOT NULL,
    inputs INTEGER NOT NULL,
    signer BLOB,
    signature BLOB
) STRICT;
CREATE INDEX ivm_payloads_ticket ON ivm_payloads (ticket);

-- The inputs, apart from what is scanned. Renumbered payloads share them.
CREATE TABLE ivm_inputs (
    inputs INTEGER PRIMARY KEY AUTOINCREMENT,
    ticket INTEGER NOT NULL,
    onchain BLOB NOT NULL,
    offchain BLOB NOT NULL,
    state BLOB
) STRICT;
CREATE INDEX ivm_inputs_ticket ON ivm_inputs (ticket);

-- A verified result of each payload that has one, and the operator that it was verified with.
CREATE TABLE ivm_results (
    payload INTEGER PRIMARY KEY,
    operator BLOB NOT NULL,
    result BLOB NOT NULL,
    signature BLOB NOT NULL
) STRICT;

-- What the service is told. `kind`: 0 result, 1 failed, 2 lapsed, 3 abandoned, 4 retracted. `place`: the order of the
-- lane's events; none while an event of a lower nonce is to come before.
CREATE TABLE ivm_events (
    event INTEGER PRIMARY KEY AUTOINCREMENT,
    lane INTEGER NOT NULL,
    place INTEGER,
    ticket INTEGER NOT NULL,
    nonce INTEGER,
    kind INTEGER NOT NULL,
    payload INTEGER,
    stage INTEGER,
    note TEXT,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX ivm_events_place ON ivm_events (lane, place) WHERE place IS NOT NULL;
CREATE INDEX ivm_events_waiting ON ivm_events (lane, nonce) WHERE place IS NULL;
CREATE INDEX ivm_events_ticket ON ivm_events (ticket);

CREATE TABLE ivm_readers (
    lane INTEGER NOT NULL,
    reader TEXT NOT NULL,
    PRIMARY KEY (lane, reader)
) STRICT, WITHOUT ROWID;

-- What each reader has not acknowledged.
CREATE TABLE ivm_deliveries (
    lane INTEGER NOT NULL,
    reader TEXT NOT NULL,
    place INTEGER NOT NULL,
    event INTEGER NOT NULL,
    PRIMARY KEY (lane, reader, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX ivm_deliveries_event ON ivm_deliveries (event);

-- What was done about lanes and jobs that was not the usual, and why.
CREATE TABLE ivm_log (
    entry INTEGER PRIMARY KEY AUTOINCREMENT,
    lane INTEGER NOT NULL,
    ticket INTEGER,
    at INTEGER NOT NULL,
    what TEXT NOT NULL,
    note TEXT NOT NULL
) STRICT;
CREATE INDEX ivm_log_lane ON ivm_log (lane, entry);
";

/// Version 2: results that the outbox posts.
const POSTS: &str = "
-- Transactions that were signed to post results, each stored before it was sent. `account`: who pays, and `nonce` is the
-- account's. `raw`: the bytes that are sent. Rows stay until their job is over.
CREATE TABLE ivm_posts (
    post INTEGER PRIMARY KEY AUTOINCREMENT,
    payload INTEGER NOT NULL,
    account BLOB NOT NULL,
    nonce INTEGER NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    raw BLOB NOT NULL
) STRICT;
CREATE INDEX ivm_posts_payload ON ivm_posts (payload);

-- Whose result an account posts: transactions of it may land. One at a time.
CREATE TABLE ivm_posting (
    account BLOB PRIMARY KEY,
    payload INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Version 3: app servers.
const APPS: &str = "
-- One row for each app: one a lane at most. `last_place`, `last_time`, `root`: the place and the time of the last entry, and
-- the root after it. `batched`, `batched_root`: the last entry that is in a batch, and the root after it. `trimmed`: the last
-- entry that is gone. `cursor_…`: the log up to which the chain was read. `marker`: what the server was about to try.
CREATE TABLE ivm_apps (
    lane INTEGER PRIMARY KEY REFERENCES ivm_lanes,
    name TEXT NOT NULL,
    first_root BLOB NOT NULL,
    last_place INTEGER NOT NULL DEFAULT 0,
    last_time INTEGER NOT NULL DEFAULT 0,
    root BLOB NOT NULL,
    batched INTEGER NOT NULL DEFAULT 0,
    batched_root BLOB NOT NULL,
    last_batch INTEGER NOT NULL DEFAULT 0,
    last_snapshot INTEGER NOT NULL DEFAULT 0,
    trimmed INTEGER NOT NULL DEFAULT 0,
    cursor_hash BLOB,
    cursor_block INTEGER,
    cursor_log INTEGER,
    marker BLOB
) STRICT;

-- The journal: what an app was asked, in the order in which it was applied, and what it answered. `block`, `log_index`: of
-- what comes from the chain. `outcome`: 0 answered, 1 rejected by the app, 2 refused as the app panicked. `root`: after it.
CREATE TABLE ivm_app_entries (
    lane INTEGER NOT NULL,
    place INTEGER NOT NULL,
    at INTEGER NOT NULL,
    block INTEGER,
    log_index INTEGER,
    request BLOB NOT NULL,
    outcome INTEGER NOT NULL,
    answer BLOB NOT NULL,
    root BLOB NOT NULL,
    PRIMARY KEY (lane, place)
) STRICT;

-- The keys that requests came with, and a hash of each request. `outcome`, `answer`: once the entry is gone.
CREATE TABLE ivm_app_keys (
    lane INTEGER NOT NULL,
    key TEXT NOT NULL,
    digest BLOB NOT NULL,
    place INTEGER NOT NULL,
    at INTEGER NOT NULL,
    outcome INTEGER,
    answer BLOB,
    PRIMARY KEY (lane, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX ivm_app_keys_place ON ivm_app_keys (lane, place);

-- What entries were made a job of. `ticket`: its job in ivm_jobs. `stage`: 0 frozen, 1 executed, 2 on chain, 3 final.
-- `executed_root`: what the program's output claims. `replaced`: 1 if other batches have its entries, or none.
CREATE TABLE ivm_app_batches (
    lane INTEGER NOT NULL,
    number INTEGER NOT NULL,
    first_place INTEGER NOT NULL,
    last_place INTEGER NOT NULL,
    root_before BLOB NOT NULL,
    root_after BLOB NOT NULL,
    max_cycles INTEGER NOT NULL,
    ticket INTEGER,
    stage INTEGER NOT NULL DEFAULT 0,
    executed_root BLOB,
    failure TEXT,
    replaced INTEGER NOT NULL DEFAULT 0,
    frozen_at INTEGER NOT NULL,
    PRIMARY KEY (lane, number)
) STRICT;
CREATE INDEX ivm_app_batches_last ON ivm_app_batches (lane, last_place);

-- What the program gets for a batch.
CREATE TABLE ivm_app_inputs (
    lane INTEGER NOT NULL,
    number INTEGER NOT NULL,
    onchain BLOB NOT NULL,
    offchain BLOB NOT NULL,
    state BLOB,
    PRIMARY KEY (lane, number)
) STRICT;

-- Snapshots of an app's state, each after the entry at `place`, in so many `chunks`. `whole`: 1 once all of them are there.
CREATE TABLE ivm_app_snapshots (
    lane INTEGER NOT NULL,
    number INTEGER NOT NULL,
    place INTEGER,
    root BLOB,
    chunks INTEGER NOT NULL DEFAULT 0,
    whole INTEGER NOT NULL DEFAULT 0,
    made_at INTEGER NOT NULL,
    PRIMARY KEY (lane, number)
) STRICT;

CREATE TABLE ivm_app_chunks (
    lane INTEGER NOT NULL,
    number INTEGER NOT NULL,
    piece INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (lane, number, piece)
) STRICT;
";

/// Version 4: where results are on chain.
const PLACES: &str = "
-- The block and the transaction of a result that the chain has shown, and how many blocks confirmed it then.
ALTER TABLE ivm_results ADD COLUMN block INTEGER;
ALTER TABLE ivm_results ADD COLUMN block_hash BLOB;
ALTER TABLE ivm_results ADD COLUMN tx_hash BLOB;
ALTER TABLE ivm_results ADD COLUMN confirmations INTEGER;
";

/// Version 5: enqueuing changes two pages less. Each page is written once more with every commit.
const LIGHTER: &str = "
-- Inputs are found by their payloads.
DROP INDEX ivm_inputs_ticket;
-- A job that waits for its nonce has one payload, which its row names.
DROP INDEX ivm_payloads_ticket;
CREATE INDEX ivm_payloads_numbered ON ivm_payloads (ticket) WHERE nonce IS NOT NULL;
";

/// Version 6: enqueuing changes two pages less, again.
///
/// Without AUTOINCREMENT, whose counters are a page of their own. Rows of jobs and of payloads stay for good, so the
/// largest number plus one is new; inputs go, and have the number of the payload that they came with.
const LEAN: &str = "
CREATE TABLE ivm_jobs_lean (
    ticket INTEGER PRIMARY KEY,
    lane INTEGER NOT NULL REFERENCES ivm_lanes,
    key TEXT,
    digest BLOB NOT NULL,
    saved INTEGER NOT NULL DEFAULT 0,
    told INTEGER NOT NULL DEFAULT 0,
    nonce INTEGER,
    payload INTEGER,
    held TEXT,
    note TEXT,
    failures INTEGER NOT NULL DEFAULT 0,
    enqueued_at INTEGER NOT NULL,
    not_after INTEGER,
    keep_until INTEGER,
    purged INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO ivm_jobs_lean SELECT ticket, lane, key, digest, saved, told, nonce, payload, held, note, failures,
    enqueued_at, not_after, keep_until, purged FROM ivm_jobs;
DROP TABLE ivm_jobs;
ALTER TABLE ivm_jobs_lean RENAME TO ivm_jobs;
CREATE UNIQUE INDEX ivm_jobs_key ON ivm_jobs (lane, key) WHERE key IS NOT NULL;
CREATE INDEX ivm_jobs_queued ON ivm_jobs (lane, ticket) WHERE saved = 0;
CREATE INDEX ivm_jobs_queued_held ON ivm_jobs (lane) WHERE saved = 0 AND held IS NOT NULL;
CREATE INDEX ivm_jobs_lapsing ON ivm_jobs (lane, not_after) WHERE saved = 0 AND not_after IS NOT NULL;
CREATE INDEX ivm_jobs_nonce ON ivm_jobs (lane, nonce) WHERE nonce IS NOT NULL;
CREATE INDEX ivm_jobs_open ON ivm_jobs (lane, saved, told, held, enqueued_at) WHERE saved IN (1, 2);
CREATE INDEX ivm_jobs_under_way ON ivm_jobs (lane, nonce) WHERE saved IN (1, 2) AND keep_until IS NULL;
CREATE INDEX ivm_jobs_kept ON ivm_jobs (lane, keep_until) WHERE saved < 3 AND keep_until IS NOT NULL;
CREATE INDEX ivm_jobs_over ON ivm_jobs (lane) WHERE saved = 3;
CREATE INDEX ivm_jobs_unpurged ON ivm_jobs (lane) WHERE saved = 3 AND purged = 0;

CREATE TABLE ivm_payloads_lean (
    payload INTEGER PRIMARY KEY,
    ticket INTEGER NOT NULL,
    nonce INTEGER,
    kind INTEGER NOT NULL DEFAULT 0,
    digest BLOB NOT NULL,
    program BLOB NOT NULL,
    max_cycles INTEGER NOT NULL,
    inputs INTEGER NOT NULL,
    signer BLOB,
    signature BLOB
) STRICT;
INSERT INTO ivm_payloads_lean SELECT payload, ticket, nonce, kind, digest, program, max_cycles, inputs, signer, signature
    FROM ivm_payloads;
DROP TABLE ivm_payloads;
ALTER TABLE ivm_payloads_lean RENAME TO ivm_payloads;
CREATE INDEX ivm_payloads_numbered ON ivm_payloads (ticket) WHERE nonce IS NOT NULL;

CREATE TABLE ivm_inputs_lean (
    inputs INTEGER PRIMARY KEY,
    ticket INTEGER NOT NULL,
    onchain BLOB NOT NULL,
    offchain BLOB NOT NULL,
    state BLOB
) STRICT;
INSERT INTO ivm_inputs_lean SELECT inputs, ticket, onchain, offchain, state FROM ivm_inputs;
DROP TABLE ivm_inputs;
ALTER TABLE ivm_inputs_lean RENAME TO ivm_inputs;
";

/// The texts that enqueue a job, to be run in this order in one transaction that has begun with BEGIN IMMEDIATE, on a
/// connection whose `synchronous` is FULL or EXTRA. The parameters have the same numbers in all of them; bind to each
/// text those that it names:
///
/// 1. the onchain input,
/// 2. the offchain input,
/// 3. the state, or NULL,
/// 4. the program id,
/// 5. the cycle limit,
/// 6. the digest,
/// 7. the lane's number in `ivm_lanes`,
/// 8. the idempotency key, or NULL,
/// 9. the Unix time in milliseconds,
/// 10. the Unix time in milliseconds after which the job lapses, or NULL.
///
/// [`EnqueueParameters`](super::EnqueueParameters) has their values. The last text returns the ticket; no row if there
/// is no such lane. If it fails because its key is not unique, roll back, and compare the `digest` of the row that is
/// there: an equal one is the same job.
pub const ENQUEUE: [&str; 3] = [ENQUEUE_INPUTS, ENQUEUE_PAYLOAD, ENQUEUE_JOB];

macro_rules! texts {
    ($all:ident, $checked:ident: $first:ident = $text:literal, $($name:ident = $more:literal),* $(,)?) => {
        const $first: &str = $text;
        $(const $name: &str = $more;)*
        /// All of them as one text, for a driver that takes several at once. sqlx counts numbers that a text leaves out
        /// as if they were values, beyond the last of which it binds nothing: so the numbers are in this order.
        pub(super) const $all: &str = concat!($text, ";\n", $($more, ";\n"),*);
        /// The same on a connection that is not the store's own. The first one fails by an overflow, before anything
        /// was changed, unless the store's identity is that of parameter 11, its commits are synced (`synchronous` is
        /// FULL or EXTRA), and its journal is on disk. SQLite gives `$11` the next place, so no number is left out.
        pub(super) const $checked: &str = concat!(
            $text,
            " WHERE abs(-9223372036854775808 + EXISTS (SELECT 1 \
                FROM ivm_store s, pragma_synchronous y, pragma_journal_mode j \
                WHERE s.identity = $11 AND y.synchronous >= 2 AND lower(j.journal_mode) NOT IN ('off', 'memory'))) > 0;\n",
            $($more, ";\n"),*
        );
    };
}

texts! {
    ENQUEUE_AT_ONCE, ENQUEUE_CHECKED:
    ENQUEUE_INPUTS = "INSERT INTO ivm_inputs (inputs, ticket, onchain, offchain, state) SELECT \
        1 + COALESCE((SELECT MAX(payload) FROM ivm_payloads), 0), \
        1 + COALESCE((SELECT MAX(ticket) FROM ivm_jobs), 0), ?1, ?2, ?3",
    ENQUEUE_PAYLOAD = "INSERT INTO ivm_payloads (payload, ticket, digest, program, max_cycles, inputs) \
        SELECT inputs, ticket, ?6, ?4, ?5, inputs FROM ivm_inputs WHERE inputs = last_insert_rowid()",
    ENQUEUE_JOB = "INSERT INTO ivm_jobs (ticket, lane, key, digest, payload, enqueued_at, not_after) \
        SELECT p.ticket, l.lane, ?8, ?6, p.payload, ?9, ?10 FROM ivm_payloads p JOIN ivm_lanes l ON l.lane = ?7 \
        WHERE p.payload = last_insert_rowid() RETURNING ticket",
}

/// The text that acknowledges an event: parameters are the lane, the reader and the event. It changes one row, or none
/// if the event was acknowledged before.
pub const ACKNOWLEDGE: &str = "DELETE FROM ivm_deliveries WHERE event = ?3 AND lane = ?1 AND reader = ?2";
