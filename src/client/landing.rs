//! The client's further calls: will a job land, why does it not move, and posting its result oneself.

use alloy_primitives::B256;

use super::Client;
#[cfg(doc)]
use super::{ClientBuilder, Finding, Severity};
#[cfg(doc)]
use crate::error::{Error, ErrorKind};
use crate::{
    inspect::{Diagnose, Preflight},
    job::{JobId, SignedJob, Verified},
    post::Posting,
};

impl Client {
    /// Finds out whether a signed job will land, before it is sent: one round trip to the chain, and one to the node;
    /// and a second one to each where something forbids it, as neither is believed at the first word about that.
    ///
    /// Nodes check neither the signature nor the state nor whether a contract would take the result: what they accept
    /// can hang for ever, and in an `Ordered` lane with everything behind it. This asks the contracts what they will
    /// say.
    ///
    /// It sends nothing of the job to the node but its id and the program's. The chain's RPC gets the signature and the
    /// hash that was signed, as the consumer's check needs them, and not the request.
    ///
    /// A healthy job has no [`Finding`]s, but for a [`Note`](Severity::Note) where the node cannot be asked for the
    /// program (REST, the State revision, nodes before v0.2.2).
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> doc::Outcome {
    /// # let doc::Scene { client, job, node: _node } = doc::scene().await;
    /// let signed = client.sign(job).await?;
    /// let report = client.preflight(&signed).await?;
    /// if !report.will_land() {
    ///     eprintln!("{report}"); // what was found, what it rests on, what to do
    /// }
    /// # assert!(report.will_land(), "{report}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Of the future: [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) outside of a Tokio runtime. What
    /// cannot be read is a finding.
    pub fn preflight<'a>(&'a self, job: &'a SignedJob) -> Preflight<'a> {
        Preflight::new(&self.parts.sources, job)
    }

    /// Finds out why a job does not move: asks the node for the job's record, for what it works on, and in an Ordered
    /// lane for the nonces below, and compares that with what this client itself has under way.
    ///
    /// It reads, and changes nothing. A client with a [chain](ClientBuilder::chain) asks that, too: whether the job is
    /// complete there, whether the consumer accepts its signer and its state, and whether the result would be accepted,
    /// which is tried in a call. That is one round trip, and up to two more each time to learn who the operator is,
    /// which is remembered: mostly 1, and 9 at most. The chain has the last word; one that cannot be read changes
    /// nothing.
    ///
    /// It takes 2 to 5 calls of the node for a job that moves, and up to 3 times 130 for one behind a long gap. Without
    /// a pinned operator results are not checked, and everything else works. Transports and nodes without
    /// `GetPendingJobs` show less; then some causes are named only for jobs that this client has waited for.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> doc::Outcome {
    /// # let scene = doc::scene().await;
    /// # let (client, handle) = (&scene.client, scene.submitted(1).await.remove(0));
    /// # let job = handle.signed_job();
    /// let diagnosis = client.diagnose(job).await?;
    /// if diagnosis.is_stuck() {
    ///     eprintln!("{diagnosis}"); // the cause, what was seen, what to do
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Of the future: [`ErrorKind::WrongRevision`](crate::ErrorKind::WrongRevision) if the job was signed for another
    /// revision; and those of [`get_result`](Self::get_result) but for `NotFound`, if the node cannot be asked.
    pub fn diagnose<'a>(&'a self, job: &'a SignedJob) -> Diagnose<'a> {
        Diagnose::new(&self.parts.sources, job)
    }

    /// Posts a verified result to the JobManager, and waits until it is in a block. For jobs that are executed, and
    /// that nobody relays: anybody may, as both signatures are in it.
    ///
    /// First it looks at the chain: a job that is complete already is a success that says so, and the post is tried in
    /// a call that changes nothing, so that one that would revert costs nothing. Then it has the
    /// [poster](ClientBuilder::poster) sign and send, and waits for the receipt, with one confirmation. If somebody
    /// else is faster, that is a success, too.
    ///
    /// In the State revision give the node two minutes first: it tries to relay three times, 30 seconds apart. A try
    /// that comes after yours reverts, and from then on the node relays nothing, for any consumer.
    ///
    /// It lasts 3 minutes at most, unless [`Posting::timeout`] says otherwise. A transaction that is not in a block by
    /// then is open: post it again, and it is waited for as long as the chain knows it.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> doc::Outcome {
    /// # use infinityvm_sdk::Until;
    /// # let scene = doc::scene().await;
    /// # scene.node.faults().stall_relays(true);
    /// # let (client, handle) = (&scene.client, scene.submitted(1).await.remove(0));
    /// let result = handle.wait(Until::Executed).await?;
    /// let posted = client.post_result(handle.signed_job(), &result).await?;
    /// println!("on chain in block {:?}, by {:?}", posted.block_number, posted.tx_hash);
    /// # assert_eq!((posted.block_number, posted.already), (Some(1), false));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Of the future. [`Error::outcome`] says whether a transaction may be in the pool (`Unknown`), and
    /// [`Error::tx_hash`] which.
    /// - [`ErrorKind::InvalidConfig`] without a chain or a poster, or outside of a Tokio runtime;
    ///   [`ErrorKind::InvalidInput`] if the result belongs to another job, or if its offchain input does not give the
    ///   blobs whose hashes the operator signed,
    /// - [`ErrorKind::WrongChain`] if the consumer's JobManager or its operator is another one, if the poster is on
    ///   another chain, or if the client is [bound](ClientBuilder::bind) to another one or to other accounts,
    /// - [`ErrorKind::NonceTaken`] if the chain has something else under the job's nonce,
    /// - [`ErrorKind::Reverted`] if it would revert, or did ([`Revert::of`](crate::chain::Revert::of) says why),
    /// - [`ErrorKind::TooLarge`] if it needs more gas than a block has,
    /// - [`ErrorKind::Unsupported`] if it needs blobs, and the feature `blobs` is off,
    /// - [`ErrorKind::Chain`], [`ErrorKind::Signer`] and others of the poster,
    /// - [`ErrorKind::DeadlineExceeded`]: it is not in a block yet.
    pub fn post_result(&self, job: &SignedJob, verified: &Verified) -> Posting {
        self.parts.posts.post(job, verified)
    }

    /// The transactions that posts of this client have signed and perhaps sent, and of which no end was seen. Memory
    /// only. A job may have several, in the order in which they were signed; one of them can land.
    ///
    /// For each: post the result again, which settles it; or look at the transaction yourself, and
    /// [forget](Self::forget_post) it.
    #[must_use]
    pub fn open_posts(&self) -> Vec<(JobId, B256)> {
        self.parts.posts.open()
    }

    /// Drops a job's transactions from [`open_posts`](Self::open_posts) and returns the hash of the last one. The next
    /// post of the job does not wait for them.
    pub fn forget_post(&self, id: JobId) -> Option<B256> {
        self.parts.posts.forget(id)
    }
}
