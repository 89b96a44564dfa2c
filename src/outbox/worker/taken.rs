//! Whose payload has a nonce: an earlier one of the same job, somebody else's, or this one after all; and which
//! payloads of a job have landed under other nonces.

use super::{
    context::ends_the_worker,
    sight::{Eye, Impression},
};
use crate::{
    chain::{Answers, At, Batch, ChainStanding, OnchainStatus, OneRpc, StandingTickets},
    error::{Error, ErrorKind, Result},
    job::{JobStatus, SignedJob, echo_difference},
    outbox::{
        decide::Sighted,
        store::{JobRow, PayloadRow},
    },
    watch::Until,
};

impl Eye {
    /// Bad news about a payload, once node and chain were asked whether an earlier payload of the job has its nonce,
    /// and how deep the chain has the nonce used up.
    pub(super) async fn whose(
        &mut self,
        payload: &PayloadRow,
        signed: &SignedJob,
        news: Sighted,
        error: &Error,
    ) -> Result<Impression> {
        let others = self.others(payload).await?;
        match self.on_chain(signed, &others).await {
            // The next wait finds it there.
            Ok(OnChainIs::Ours) => {
                self.set_landed();
                return Ok(Impression::noted(
                    Sighted::Trouble,
                    format!("the chain has the job's result, although {error}"),
                ));
            }
            Ok(OnChainIs::Earlier(id)) => return Ok(self.found(id)),
            Ok(OnChainIs::Others) => {
                return Ok(Impression::noted(
                    Sighted::Taken { free: true },
                    format!("the chain shows the nonce used up: {error}"),
                ));
            }
            Ok(OnChainIs::Undecided) => {
                let free = matches!(news, Sighted::Taken { free: true });
                return Ok(Impression::noted(
                    Sighted::Taken { free },
                    format!("the chain shows another job, not deep yet: {error}"),
                ));
            }
            Ok(OnChainIs::Nothing) => {}
            // As long as the chain cannot be read, nothing is decided about the nonce.
            Err(chain) => return Ok(Impression::noted(Sighted::Trouble, format!("{error}; and {chain}"))),
        }
        for (id, other) in &others {
            // Who has the nonce, or whether one under another nonce has run.
            let same = other.nonce() == signed.nonce();
            if same && !matches!(news, Sighted::Taken { .. }) {
                continue;
            }
            match self.at_node_is(other).await {
                Ok(Some(status)) if same || has_run(&status) => return Ok(self.found(*id)),
                Ok(_) => {}
                Err(error) => return Ok(Impression::noted(Sighted::Trouble, error)),
            }
        }
        Ok(Impression::noted(news, error))
    }

    fn found(&mut self, earlier: i64) -> Impression {
        self.set_earlier(earlier);
        Impression::noted(Sighted::Earlier, "an earlier payload of the job has its nonce, or has run under its own")
    }

    /// Every other payload of the job that was signed, under whatever nonce.
    async fn others(&self, payload: &PayloadRow) -> Result<Vec<(i64, SignedJob)>> {
        let all = self.context.storage.payloads(payload.ticket).await?;
        let others = all.iter().filter(|other| other.id != payload.id && other.signed.is_some());
        others.map(|other| Ok((other.id, self.context.signed(other)?))).collect()
    }

    /// How the node has this very payload, if it does.
    async fn at_node_is(&self, signed: &SignedJob) -> Result<Option<JobStatus>> {
        match self.context.client.get_result(signed.id()).await {
            Ok(record) => Ok(echo_difference(signed, &record).is_none().then(|| record.status().clone())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Another payload of the job that has landed under another nonce, if there is one.
    async fn landed_beside(&self, payload: &PayloadRow) -> Result<Option<(i64, u64)>> {
        if !self.may_have_others(payload) {
            return Ok(None);
        }
        for (id, other) in self.others(payload).await? {
            if Some(other.nonce()) == payload.nonce {
                continue;
            }
            let landed = match self.context.client.chain() {
                Some(chain) => {
                    let other = &other;
                    let look = |chain| async move { standing(&chain, other).await };
                    chain.verdict(look).await? == ChainStanding::Complete
                }
                None => self.at_node_is(&other).await? == Some(JobStatus::Relayed),
            };
            if landed {
                return Ok(Some((id, other.nonce())));
            }
        }
        Ok(None)
    }

    /// Of a job that does not move: a payload of it that has landed under another nonce, to be gone on with.
    pub(super) async fn landed_elsewhere(&mut self, payload: &PayloadRow) -> Result<Option<Impression>> {
        match self.landed_beside(payload).await {
            Ok(found) => Ok(found.map(|(id, _)| self.found(id))),
            Err(error) if ends_the_worker(&error) => Err(error),
            Err(error) => Ok(Some(Impression::noted(Sighted::Trouble, error))),
        }
    }

    /// Of a job that is final: in words, if another payload of it has landed, too. What cannot be asked is not known.
    pub(super) async fn landed_twice(&mut self, job: &JobRow) -> Result<Option<String>> {
        let read = self.read(job.payload).await?;
        let (payload, signed) = &*read;
        match self.landed_beside(payload).await {
            Ok(found) => Ok(found.map(|(_, nonce)| {
                format!("two payloads of the job have landed: under the nonces {} and {nonce}", signed.nonce())
            })),
            Err(error) if ends_the_worker(&error) => Err(error),
            Err(_) => Ok(None),
        }
    }

    async fn on_chain(&self, signed: &SignedJob, others: &[(i64, SignedJob)]) -> Result<OnChainIs> {
        let Some(chain) = self.context.client.chain() else { return Ok(OnChainIs::Nothing) };
        let depth = match self.context.final_stage() {
            Until::Finalized { confirmations } => confirmations.max(1),
            _ => return Ok(OnChainIs::Nothing),
        };
        // All of it as one RPC shows it.
        chain.verdict(|chain| look(chain, signed, others, depth)).await
    }
}

enum OnChainIs {
    Nothing,
    Ours,
    Earlier(i64),
    /// Somebody else's, so deep that nothing takes it back.
    Others,
    /// Somebody else's, not so deep.
    Undecided,
}

async fn look(chain: OneRpc, signed: &SignedJob, others: &[(i64, SignedJob)], depth: u64) -> Result<OnChainIs> {
    let own = standing(&chain, signed).await?;
    match own {
        ChainStanding::Complete => return Ok(OnChainIs::Ours),
        ChainStanding::Unclear => return Err(unclear()),
        ChainStanding::Unseen | ChainStanding::Taken(_) => {}
    }
    for (id, other) in others {
        match standing(&chain, other).await? {
            ChainStanding::Complete => return Ok(OnChainIs::Earlier(*id)),
            ChainStanding::Unclear => return Err(unclear()),
            ChainStanding::Unseen | ChainStanding::Taken(_) => {}
        }
    }
    if own == ChainStanding::Unseen {
        return Ok(OnChainIs::Nothing);
    }
    // Bad news needs a second look, in a round trip of its own; this one is about a block that is deep already.
    Ok(if is_deep(&chain, signed, depth).await? { OnChainIs::Others } else { OnChainIs::Undecided })
}

pub(super) async fn standing(chain: &OneRpc, job: &SignedJob) -> Result<ChainStanding> {
    let ask = |batch: &mut Batch| {
        let tickets = StandingTickets::ask(batch, job);
        move |answers: &mut Answers| tickets.take(answers, job)
    };
    let mut looked = chain.at_latest(ask).await?;
    (looked.asked)(&mut looked.answers)
}

/// Whether the nonce was in use already so many blocks ago.
async fn is_deep(chain: &OneRpc, job: &SignedJob, depth: u64) -> Result<bool> {
    let head = chain.at_latest(|_| ()).await?.head;
    let Some(number) = (head.number + 1).checked_sub(depth) else { return Ok(false) };
    let mut batch = chain.batch().at(At::Number(number));
    let metadata = batch.job_metadata(job.id());
    let status = batch.send().await?.take(metadata)?.status;
    Ok(!matches!(status, OnchainStatus::Unknown | OnchainStatus::Unrecognized(_)))
}

fn has_run(status: &JobStatus) -> bool {
    matches!(status, JobStatus::Done | JobStatus::Relayed)
}

fn unclear() -> Error {
    Error::new(ErrorKind::Chain, "the chain has a result under the nonce, and does not show whose").with_retryable(true)
}
