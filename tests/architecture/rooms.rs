//! What the checks hold the source to. Everything that a change of structure touches is here, a line for each.

/// A room of the house, and the rooms it may know. ARCHITECTURE.md says the same.
pub struct Room {
    pub name: &'static str,
    pub knows: &'static [&'static str],
}

const fn room(name: &'static str, knows: &'static [&'static str]) -> Room {
    Room { name, knows }
}

/// Known to every room, and named in none of the rows.
pub const BELOW: &[&str] = &["backoff", "sync", "text"];

pub const ROOMS: &[Room] = &[
    room("error", &[]),
    room("rpc", &[]),
    room("job", &["error"]),
    room("wire", &["error", "job", "rpc"]),
    room("http", &["error", "runtime"]),
    room("transport", &["error", "http", "observe", "rpc", "runtime"]),
    room("observe", &["error", "job", "rpc"]),
    room("nonce", &["error", "observe"]),
    room("backoff", &[]),
    room("sync", &[]),
    room("text", &[]),
    room("runtime", &["error"]),
    room("retry", &["error", "observe"]),
    room("node", &["error", "job", "observe", "retry", "rpc", "runtime", "transport", "wire"]),
    room("submit", &["error", "job", "node", "nonce", "observe", "runtime", "wire"]),
    room("watch", &["chain", "error", "job", "node", "observe", "runtime", "submit"]),
    room("chain", &["error", "http", "job", "nonce", "observe", "retry", "runtime"]),
    room("inspect", &["chain", "error", "job", "node", "nonce", "observe", "runtime", "submit", "watch"]),
    room("post", &["chain", "error", "job", "observe", "runtime"]),
    room(
        "client",
        &[
            "chain",
            "error",
            "inspect",
            "job",
            "node",
            "nonce",
            "observe",
            "post",
            "retry",
            "runtime",
            "submit",
            "transport",
            "watch",
            "wire",
        ],
    ),
    room("outbox", &["chain", "client", "error", "job", "nonce", "observe", "runtime", "watch"]),
    room("app", &["chain", "client", "error", "job", "outbox", "runtime", "watch", "wire"]),
    room("conformance", &["client", "devnode", "error", "job", "nonce", "rpc", "transport", "wire"]),
    room("guide", &[]),
    room("devnode", &["chain", "error", "http", "job", "rpc", "wire"]),
];

/// What a room takes of another although it may know that room: files, or what a file declares. The development node shares
/// no encoder, no hash and no contract with the client, or both could be wrong alike.
pub const STRANGERS: &[(&str, &[&str])] = &[(
    "devnode",
    &[
        "chain/abi.rs",
        "chain/finality/",
        "chain/recorded.rs",
        "chain/standing.rs",
        "job/abi.rs",
        "job/hash.rs",
        "job/proof.rs",
        "job/signed.rs",
        "job/verified.rs",
        "job/verify.rs",
    ],
)];

/// Of these a room takes only what is below the folder.
pub const ONLY: &[(&str, &str, &str)] = &[("devnode", "wire/", "wire/generated/")];

/// The most lines of code in a file.
pub const LINES: usize = 600;

/// The most documented public items of the crate. The room `observe` with the builder's setting for it, several RPCs of a
/// chain with how each of them stands, the bound on all looks, a job in one call, the window of a lane (two setters) and
/// `replace_signed` brought the last of them, before the outbox came with 97. Programs that are commands brought 13, and
/// a dev node that is written down 2, PostgreSQL 7, posting by several RPCs 3, results that the outbox posts 5, and what it
/// tells observers 2. Stores that are only opened where they are brought 2, the revision of a program's input 1, the
/// guide's page on executors 1, where the result of an event is on chain 1, and stores that listen 1. App servers brought
/// 41, logs of the chain that they follow 12, the gas of their batches 1, and the guide's page on the order book 1. What a
/// compiled program gives over a batch, and a command that runs without a node, brought 11.
pub const PUBLIC: usize = 970;

/// Files that need each other, and why they may. A circle is excused if each of its files is one of these, or below one of
/// these folders.
pub const CIRCLES: &[(&[&str], &str)] = &[];

/// Names of types that two files declare for others, and why they may.
pub const NAMES: &[(&str, &str)] =
    &[("Real", "devnode/no_chain.rs stands in for devnode/real without the feature `chain`")];

/// Types with methods in another room than their own, and why.
pub const SCATTERED: &[(&str, &str)] = &[];

/// Variants of public enums whose named fields are all there will be, and why.
pub const VARIANTS: &[(&str, &str)] =
    &[("Until::Finalized", "users make it; what has to be said besides is another variant")];

/// Types that are kept, to go by what they implement, and yet are set up by plain names, and why.
pub const SETTERS: &[(&str, &str)] =
    &[("Batch", "used up by `send`"), ("Suite", "used up by `run`"), ("Tear", "described in one go, and handed over")];

/// Rooms whose documentation may have lines of more than 120 columns: how many. None has.
pub const LONG_LINES: &[(&[&str], usize)] = &[];
