//! How far a job is, and how far it is waited for.

use std::{fmt, str::FromStr};

use tokio::time::{Duration, Instant};

pub use crate::job::stage::Stage;
use crate::{
    error::{Error, named},
    sync::Lock,
};

/// The best stage a handle knows of, and since when.
#[derive(Debug)]
pub(crate) struct StageCell {
    best: Lock<(Stage, Instant)>,
    /// When the call began that made the handle.
    begun: Instant,
}

impl StageCell {
    pub(crate) fn new(stage: Stage, begun: Instant) -> Self {
        Self { best: Lock::from((stage, Instant::now())), begun }
    }

    /// Since the call began that made the handle.
    pub(crate) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn get(&self) -> Stage {
        self.since().0
    }

    pub(crate) fn since(&self) -> (Stage, Instant) {
        *self.best.lock()
    }

    /// Returns the stage it was at, if this one is later.
    pub(crate) fn raise(&self, stage: Stage) -> Option<Stage> {
        let mut best = self.best.lock();
        let before = best.0;
        (stage > before).then(|| {
            *best = (stage, Instant::now());
            before
        })
    }
}

/// What to wait for. Written `executed`, `relayed`, or `finalized:` and the confirmations, such as `finalized:12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Until {
    /// The operator has signed a result, and it verifies.
    Executed,
    /// As [`Executed`](Self::Executed), and the node says that the transaction with the result was included. That is
    /// the node's word, with one confirmation; the chain may say otherwise.
    ///
    /// Where the client has a [chain](crate::client::ClientBuilder::chain), it is the chain's word: the same as
    /// [`Finalized`](Self::Finalized) with one confirmation.
    Relayed,
    /// The chain shows the job completed, so many blocks deep. Needs a [chain](crate::client::ClientBuilder::chain);
    /// the node's word does not count, neither for it nor against it.
    ///
    /// At one head of the chain, all of this holds: the JobManager has the job as completed, with the program, the
    /// cycle limit and the consumer that were signed; the consumer has the inputs that were signed; the JobManager's
    /// event carries exactly the output that is returned; its transaction succeeded, and its block is part of the
    /// chain. It is read anew with each look, so a reorganisation in between does no harm.
    ///
    /// The result is one that the node has shown and that verifies, or else the one in the transaction's calldata, if
    /// whoever signed it is the JobManager's operator, in that block or now. Of two results that the operator has
    /// signed, the chain's counts.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> doc::Outcome {
    /// # use infinityvm_sdk::Until;
    /// # let scene = doc::scene().await;
    /// # let handle = scene.submitted(1).await.remove(0);
    /// # handle.wait(Until::Relayed).await?;
    /// # scene.node.chain().mine(11);
    /// let result = handle.wait(Until::Finalized { confirmations: 12 }).await?;
    /// if let Some(place) = result.finality() {
    ///     println!("block {}, transaction {}", place.block_number, place.tx_hash);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    Finalized {
        /// How many blocks there are from the one with the transaction to the latest, both counted: 1 is included in
        /// the latest block. 0 counts as 1. A development chain that makes blocks only for transactions comes to no
        /// second one by itself.
        confirmations: u64,
    },
}

impl Until {
    pub(crate) fn stage(self) -> Stage {
        match self {
            Self::Executed => Stage::Executed,
            Self::Relayed => Stage::Relayed,
            Self::Finalized { .. } => Stage::Finalized,
        }
    }

    /// How deep on chain, if the chain has the word.
    pub(crate) fn depth(self, has_chain: bool) -> Option<u64> {
        match self {
            Self::Relayed if has_chain => Some(1),
            Self::Finalized { confirmations } => Some(confirmations.max(1)),
            Self::Executed | Self::Relayed => None,
        }
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.stage())?;
        if let Self::Finalized { confirmations } = self { write!(f, ":{confirmations}") } else { Ok(()) }
    }
}

impl FromStr for Until {
    type Err = Error;

    /// Reads what [`Display`](fmt::Display) writes, in any case.
    fn from_str(text: &str) -> Result<Self, Error> {
        let depth = text.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("finalized"));
        if let Some(confirmations) = depth.and_then(|(_, depth)| depth.parse().ok()) {
            return Ok(Self::Finalized { confirmations });
        }
        let example = Self::Finalized { confirmations: 12 };
        named(
            "end of a wait",
            text,
            [("executed", Self::Executed), ("relayed", Self::Relayed), ("finalized:12", example)],
        )
    }
}
