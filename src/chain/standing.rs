//! How a job stands on chain: read as of one block, and compared with what was signed.

use alloy_primitives::B256;

use tokio::time::sleep;

use super::{
    Block, Chain, OnchainStatus, OneRpc,
    batch::{Answers, Batch, Ticket},
    finality::{Ask, Standing, look},
    recorded::{InputTickets, Inputs, Kept},
    returned::{JobMetadata, is_contracts_word},
    second_look::{Heard, SecondLook, Tidings, contradiction},
};
use crate::{
    error::{Error, ErrorKind, Result},
    job::{SignedJob, Verified},
};

/// What the chain has under a job's nonce and consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChainStanding {
    /// Nothing.
    Unseen,
    /// This very payload, with a result.
    Complete,
    /// Something else: another payload, or a request made on chain.
    Taken(OnchainStatus),
    /// A job with a result, of which the consumer does not show whether it is this one.
    Unclear,
}

/// The questions, in a batch.
pub(crate) struct StandingTickets {
    metadata: Ticket<JobMetadata>,
    inputs: InputTickets,
}

impl StandingTickets {
    pub(crate) fn ask(batch: &mut Batch, job: &SignedJob) -> Self {
        Self { metadata: batch.job_metadata(job.id()), inputs: InputTickets::ask(batch, job) }
    }

    pub(crate) fn take(self, answers: &mut Answers, job: &SignedJob) -> Result<ChainStanding> {
        let metadata = answers.take(self.metadata)?;
        ChainStanding::of(job, &metadata, &self.inputs.take(answers))
    }
}

/// How a job stands, and the latest block by then.
#[derive(Clone, Copy, Debug)]
struct StandingLook {
    standing: ChainStanding,
    tip: Block,
}

impl Tidings for StandingLook {
    /// Whoever acts on anything but a result that is there, signs or sends something else.
    fn is_bad(&self) -> bool {
        self.standing != ChainStanding::Complete
    }

    fn agrees(&self, other: &Self) -> bool {
        self.standing == other.standing
    }
}

impl Chain {
    /// How a job stands, by one RPC. All but a result of this very job counts only once two looks show it.
    ///
    /// # Errors
    /// [`ErrorKind::Chain`] if the chain cannot be read, or if no two looks in a row agree.
    pub(crate) async fn standing(&self, job: &SignedJob) -> Result<ChainStanding> {
        self.verdict(|chain| async move {
            let (mut second, mut seen) = (SecondLook::new(), None);
            loop {
                let pause = match standing_once(&chain, job, seen).await {
                    Ok(look) => {
                        seen = Some(look.tip);
                        match second.hear(look) {
                            Heard::Told(look) => return Ok(look.standing),
                            Heard::Again(pause) => pause,
                            Heard::Contradiction { .. } => return Err(contradiction(&chain)),
                        }
                    }
                    Err(error) => match second.missed().filter(|_| error.is_retryable()) {
                        Some(pause) => pause,
                        None => return Err(error),
                    },
                };
                sleep(pause).await;
            }
        })
        .await
    }
}

/// One look: at the latest block, or about this one or a later one.
async fn standing_once(chain: &OneRpc, job: &SignedJob, seen: Option<Block>) -> Result<StandingLook> {
    let ask = |batch: &mut Batch| StandingTickets::ask(batch, job);
    let mut looked = match seen {
        None => chain.at_latest(ask).await?,
        Some(seen) => chain.again(seen, ask).await?,
    };
    Ok(StandingLook { standing: looked.asked.take(&mut looked.answers, job)?, tip: looked.tip })
}

impl ChainStanding {
    /// Compares what the JobManager and the consumer keep under a job's id with the job.
    ///
    /// # Errors
    /// [`ErrorKind::Chain`] if the JobManager's status is one that this release does not know.
    pub(crate) fn of(job: &SignedJob, metadata: &JobMetadata, inputs: &Result<Inputs>) -> Result<Self> {
        match metadata.status.known()? {
            OnchainStatus::Unknown => return Ok(Self::Unseen),
            OnchainStatus::Completed => {}
            status => return Ok(Self::Taken(status)),
        }
        let nothing = Inputs { onchain: Default::default(), offchain_hash: B256::ZERO, state_hash: None };
        let kept = Kept::compare(job, metadata, inputs.as_ref().unwrap_or(&nothing));
        Ok(match (kept, inputs) {
            (Kept::Ours, Ok(_)) => Self::Complete,
            (Kept::Other(_), _) => Self::Taken(metadata.status),
            // A consumer without these getters: what the JobManager keeps has to do. An RPC that refuses to ask it
            // shows nothing.
            (_, Err(error)) if is_contracts_word(error) => Self::Complete,
            (Kept::Unclear(_) | Kept::Ours, _) => Self::Unclear,
        })
    }

    /// Finds out whose job it is, where the consumer does not show it: by the transaction that completed it.
    /// `transactions` may be that one, and `shown` is its result.
    ///
    /// # Errors
    /// [`ErrorKind::Chain`], retryable, if that does not show it either.
    pub(crate) async fn settled(
        self,
        chain: &Chain,
        job: &SignedJob,
        transactions: Vec<B256>,
        shown: Option<&Verified>,
    ) -> Result<Self> {
        if self != Self::Unclear {
            return Ok(self);
        }
        let shown = shown.into_iter().cloned().collect();
        let ask = Ask { job: job.clone(), transactions, shown, quiet: 0..0, ended: false };
        let (_, standings) = look(chain, &[ask]).await?;
        match standings.into_iter().next() {
            Some(Standing::Complete(_)) => Ok(Self::Complete),
            Some(Standing::Taken { .. }) => Ok(Self::Taken(OnchainStatus::Completed)),
            Some(Standing::Cancelled { .. }) => Ok(Self::Taken(OnchainStatus::Cancelled)),
            Some(Standing::Unproven(error) | Standing::Unread(error)) => {
                let what =
                    "the chain has a job with a result under this nonce, and does not show whether it is this one";
                Err(Error::new(ErrorKind::Chain, what)
                    .with_retryable(true)
                    .with_endpoint(chain.reader().endpoint())
                    .with_source(error)
                    .with_hint("look again; until it is known whose it is, do not sign the payload anew"))
            }
            Some(Standing::Unseen | Standing::Requested | Standing::Shallow) | None => Err(contradiction(chain)),
        }
    }
}
