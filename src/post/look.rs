//! Looks at the chain before a transaction is sent and after: what stands against the job's result, and what became of
//! its transaction.

use std::time::Duration;

use alloy_primitives::{Address, B256};
use tokio::time::{Instant, sleep};

use super::decide::{Ours, Shows, TrialCall};
use crate::{
    chain::{
        Batch, Binding, Block, Chain, ChainStanding, Heard, OneRpc, Receipt, Revert, RevertCause, SecondLook,
        StandingTickets, Tidings, contradiction, contradicts,
    },
    error::{Error, ErrorKind, Result},
    job::{SignedJob, Verified},
};

/// Before a chain that could not be read is asked again.
pub(super) const AGAIN: Duration = Duration::from_millis(500);
/// How often a chain that contradicts itself is looked at again before anything is sent.
const LOOKS: u32 = 3;

/// What one round trip shows, as of one block.
pub(super) struct ChainLook {
    pub standing: ChainStanding,
    pub chain_id: u64,
    pub head: Block,
    /// The latest block by then.
    tip: Block,
    /// What the contracts have against any result of the job.
    pub objection: Option<Objection>,
    /// What the post would revert with.
    pub refusal: Option<Revert>,
    /// With more gas than a block has it would not.
    pub lacks_gas: bool,
    /// The job is not there, and the result is refused because it is, look after look: the RPC tries calls on what its
    /// pool holds.
    pub pending: bool,
    /// Of the transactions that were asked for: the one that succeeded, or the last that reverted.
    pub receipt: Option<Receipt>,
    /// One of them is known, and in no block.
    pub in_pool: bool,
}

/// The consumer's JobManager is another one, or the operator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Objection {
    JobManager(Address),
    Operator(Address),
}

impl ChainLook {
    fn cause(&self) -> Option<RevertCause> {
        self.refusal.as_ref().map(Revert::cause)
    }

    /// The chain does not know the job, and refuses the result because it does: that is of two blocks, whatever the
    /// RPC says.
    fn is_torn(&self) -> bool {
        self.standing == ChainStanding::Unseen && self.cause() == Some(RevertCause::NonceTaken)
    }

    /// Whether a transaction that was asked for is in a block, and what became of it there. While another of them may
    /// land, one that reverted says nothing.
    fn landed(&self) -> Option<bool> {
        self.receipt.as_ref().map(|receipt| receipt.succeeded).filter(|succeeded| *succeeded || !self.in_pool)
    }

    pub(super) fn shows(&self) -> Shows {
        let ours = match self.landed() {
            Some(true) => Ours::Succeeded,
            Some(false) => Ours::Reverted,
            None if self.in_pool => Ours::Pool,
            None => Ours::Nowhere,
        };
        let trial = match &self.refusal {
            _ if self.pending => TrialCall::InPool,
            Some(_) => TrialCall::Reverts,
            None => TrialCall::Passes,
        };
        Shows { job: self.standing, ours, trial }
    }
}

impl Tidings for ChainLook {
    fn is_bad(&self) -> bool {
        match (self.landed(), self.standing) {
            // Whatever else there is: the result is there.
            (Some(true), _) => false,
            (_, ChainStanding::Complete | ChainStanding::Unclear) => self.objection.is_some(),
            (_, ChainStanding::Taken(_)) => true,
            (landed, ChainStanding::Unseen) => {
                // Of what is in the pool the block decides, not a trial.
                landed == Some(false) || (self.refusal.is_some() && !self.in_pool) || self.objection.is_some()
            }
        }
    }

    fn agrees(&self, other: &Self) -> bool {
        if other.landed() == Some(true) {
            return true;
        }
        let tried = |look: &Self| look.cause().filter(|_| look.standing == ChainStanding::Unseen);
        let shown = |look: &Self| (look.standing, look.objection, look.landed(), tried(look));
        !self.is_torn() && !other.is_torn() && shown(self) == shown(other)
    }
}

/// A result, the chain it is for, and who posts it.
pub(super) struct Lookout<'a> {
    pub job: &'a SignedJob,
    pub verified: &'a Verified,
    pub chain: Chain,
    /// What is posted must be for this chain.
    pub binding: Option<Binding>,
    /// The account that posts.
    pub from: Address,
    pub deadline: Instant,
}

impl Lookout<'_> {
    /// Before anything is sent. Nothing is lost by waiting for a chain that contradicts itself.
    pub(super) async fn first_look(&self) -> Result<ChainLook> {
        for _ in 0..LOOKS {
            match self.look(&[]).await {
                Err(error) if contradicts(&error) && Instant::now() < self.deadline => sleep(AGAIN).await,
                look => return look,
            }
        }
        self.look(&[]).await
    }

    /// Everything there is to know, in one round trip. What is bad is looked at once more; what the contracts have
    /// against any result is an error. `posted` are the transactions of one's own.
    pub(super) async fn look(&self, posted: &[B256]) -> Result<ChainLook> {
        self.chain.verdict(|chain| async move { self.look_by(&chain, posted).await }).await
    }

    async fn look_by(&self, chain: &OneRpc, posted: &[B256]) -> Result<ChainLook> {
        let (mut second, mut seen) = (SecondLook::new(), None);
        let mut look = loop {
            let pause = match self.look_once(chain, posted, seen).await {
                Ok(look) => {
                    seen = Some(look.tip);
                    match second.hear(look) {
                        Heard::Told(look) => break look,
                        Heard::Again(pause) => pause,
                        // Of a transaction that is in a block, a trial on the pool's state says nothing.
                        Heard::Contradiction { before, last }
                            if [&before, &last].iter().all(|look| look.is_torn() && look.landed().is_none()) =>
                        {
                            break ChainLook { pending: true, ..last };
                        }
                        Heard::Contradiction { .. } => return Err(contradiction(chain)),
                    }
                }
                Err(error) => match second.missed().filter(|_| error.is_retryable()) {
                    Some(pause) => pause,
                    None => return Err(error),
                },
            };
            sleep(pause).await;
        };
        // Of a transaction that is in a block, that one decides.
        if let Some(objection) = look.objection.filter(|_| look.landed().is_none()) {
            return Err(self.object(objection));
        }
        if look.shows().trial == TrialCall::Reverts && look.cause() == Some(RevertCause::Other) {
            // So it is tried with more than a block has.
            let call = chain.post_call(self.verified, Some(self.from));
            look.lacks_gas = chain.needs_much_gas(&call, look.head).await;
        }
        let mut transactions: Vec<_> = self.verified.record().relay_tx_hash().into_iter().collect();
        transactions.extend(posted.iter().filter(|hash| !transactions.contains(hash)).collect::<Vec<_>>());
        look.standing = look.standing.settled(chain, self.job, transactions, Some(self.verified)).await?;
        Ok(look)
    }

    /// One look: at the latest block, or a second one, about this block or a later one.
    async fn look_once(&self, chain: &OneRpc, posted: &[B256], seen: Option<Block>) -> Result<ChainLook> {
        let ask = |batch: &mut Batch| {
            (
                StandingTickets::ask(batch, self.job),
                (batch.chain_id(), batch.operator()),
                self.binding.map(|binding| (binding, batch.identity())),
                batch.job_manager_of(self.job.consumer()),
                batch.raw_call(self.chain.post_call(self.verified, Some(self.from))),
                posted.iter().map(|hash| (batch.receipt(*hash), batch.transaction(*hash))).collect::<Vec<_>>(),
            )
        };
        let snapshot = match seen {
            None => chain.at_latest(ask).await?,
            Some(seen) => chain.again(seen, ask).await?,
        };
        let (head, tip, mut answers) = (snapshot.head, snapshot.tip, snapshot.answers);
        let (standing, (chain_id, operator), identity, manager, call, posted) = snapshot.asked;
        let chain_id = answers.take(chain_id)?;
        // What was signed for one chain can be posted on another.
        if let Some((binding, identity)) = identity {
            binding.check_identity(identity.take(&mut answers)?)?;
        }
        let operator = answers.take(operator)?;
        let standing = standing.take(&mut answers, self.job)?;
        // A consumer without that function says nothing.
        let other = answers.take(manager).ok().flatten().filter(|other| *other != self.chain.job_manager());
        let stranger = (standing == ChainStanding::Unseen && operator != self.verified.operator()).then_some(operator);
        let (mut receipt, mut in_pool) = (None::<Receipt>, false);
        for (of, transaction) in posted {
            match (answers.take(of)?, answers.take(transaction)?) {
                (Some(it), _) if receipt.as_ref().is_none_or(|known| !known.succeeded) => receipt = Some(it),
                (None, Some(_)) => in_pool = true,
                _ => {}
            }
        }
        Ok(ChainLook {
            standing,
            chain_id,
            head,
            tip,
            objection: other.map(Objection::JobManager).or(stranger.map(Objection::Operator)),
            refusal: answers.take(call)?.err().map(|data| Revert::decode(&data)),
            lacks_gas: false,
            pending: false,
            receipt,
            in_pool,
        })
    }

    pub(super) fn object(&self, objection: Objection) -> Error {
        let (what, hint) = match objection {
            Objection::JobManager(other) => (
                format!(
                    "the consumer takes results from the JobManager {other}, not from {}",
                    self.chain.job_manager()
                ),
                "check the chain and the JobManager given to ClientBuilder::chain",
            ),
            Objection::Operator(operator) => (
                format!(
                    "the JobManager names the operator {operator}, and {} signed the result",
                    self.verified.operator()
                ),
                "check the pinned operator, the chain, and which operator the node signs for",
            ),
        };
        Error::new(ErrorKind::WrongChain, what).with_hint(hint)
    }
}
