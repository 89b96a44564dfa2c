//! Posting a result oneself, when nobody relays it.
//!
//! A post runs in a task of its own, as a submission does: a caller that goes away loses neither the transaction nor
//! its hash. There is one at a time for a job. `posting.rs` starts or joins it, `run.rs` makes it, and `open.rs` keeps
//! the transactions of which no end was seen.
//!
//! 1. One round trip reads what the JobManager and the consumer have under the job's nonce, the operator, and the
//!    consumer's JobManager, and tries the post in a call, with the blobs' hashes. A complete job is a success.
//!    Anything else that stands against the post at a second look is an error, and nothing was sent. An RPC may try the
//!    call, or the poster's estimate, on what its pool holds. Where that fails because the job is there, and on chain
//!    it is not, somebody's result is in the pool: it is waited for.
//! 2. Blobs are made of the offchain input, and compared with the hashes that the operator signed.
//! 3. The `Poster` signs, says the hash *before* the first byte leaves, and sends. Every hash stays in
//!    `Client::open_posts` until an end is seen.
//! 4. The receipts of all of them are waited for, block by block, with the same round trip. So a lost race, a taken
//!    nonce and a revert are told apart by what the chain shows, not by what the transaction says. A send of unknown
//!    outcome is followed, too: for 30 seconds, if the chain does not show it.
//! 5. Meanwhile the `Poster` may look after what it has sent: send it again, price it again, or find that a block has
//!    its account nonce with another transaction. Then it is signed anew.
//! 6. A post that finds open transactions of an earlier one goes on at 4. If neither pool nor chain know them for long,
//!    the poster sends them again. If it cannot look after them, another is signed beside them. They stay open: however
//!    the post ends, its outcome is unknown until one has landed or all are found gone.
//!
//! From what is known to the next step: `decide.rs`.
//!
//! What a client believes of a revert is its text (`RevertCause`), matched by the words that bear the meaning, as
//! contracts can be newer.

mod decide;
mod look;
mod open;
mod posting;
mod run;

pub(crate) use self::posting::Posts;
pub use self::{open::Posted, posting::Posting};
