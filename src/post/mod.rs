//! Posting a result oneself, when nobody relays it.
//!
//! A post runs in a task of its own, as a submission does: a caller that goes away loses neither the transaction nor
//! its hash. There is one at a time for a job. `posting.rs` starts or joins it, `run.rs` makes it, and `open.rs` keeps
//! the transactions of which no end was seen.
//!
//! 1. One round trip reads what the JobManager and the consumer have under the job's nonce, the operator, and the
//!    consumer's JobManager, and tries the post in a call, with the blobs' hashes. A complete job is a success.
//!    Anything else that stands against the post at a second look is an error, and nothing was sent. A poster that
//!    finds that the post would revert is not believed either, as others' transactions in the pool are not the chain's:
//!    there is another look.
//! 2. Blobs are made of the offchain input, and compared with the hashes that the operator signed.
//! 3. The `Poster` signs, says the hash *before* the first byte leaves, and sends. The hash stays in
//!    `Client::open_posts` until its end is seen.
//! 4. The receipt is waited for, block by block, with the same round trip. So a lost race, a taken nonce and a revert
//!    are told apart by what the chain shows, not by what the transaction says. A send of unknown outcome is followed,
//!    too: for 30 seconds, if the chain does not show it.
//! 5. A post that finds an open transaction of an earlier one goes on at 4, unless neither pool nor chain know it any
//!    more.
//!
//! What a client believes of a revert is its text (`RevertCause`), matched by the words that bear the meaning, as
//! contracts can be newer.

mod look;
mod open;
mod posting;
mod run;

pub(crate) use self::posting::Posts;
pub use self::{open::Posted, posting::Posting};
