//! Whose payload has a nonce: an earlier one of the same job, somebody else's, or this one after all.

use super::sight::{Eye, Impression};
use crate::{
    chain::{Answers, At, Batch, ChainStanding, OnchainStatus, OneRpc, StandingTickets},
    error::{Error, ErrorKind, Result},
    job::{SignedJob, echo_difference},
    outbox::{decide::Sighted, store::PayloadRow},
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
        if !others.is_empty() && matches!(news, Sighted::Taken { .. }) {
            match self.context.client.get_result(signed.id()).await {
                Ok(record) => {
                    let same = others.iter().find(|(_, other)| echo_difference(other, &record).is_none());
                    if let Some((id, _)) = same {
                        return Ok(self.found(*id));
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Ok(Impression::noted(Sighted::Trouble, error)),
            }
        }
        Ok(Impression::noted(news, error))
    }

    fn found(&mut self, earlier: i64) -> Impression {
        self.set_earlier(earlier);
        Impression::noted(Sighted::Earlier, "an earlier payload of the job has its nonce")
    }

    /// Every other payload of the job that was signed under the nonce.
    async fn others(&self, payload: &PayloadRow) -> Result<Vec<(i64, SignedJob)>> {
        let all = self.context.storage.payloads(payload.ticket).await?;
        let others =
            all.iter().filter(|other| other.id != payload.id && other.nonce == payload.nonce && other.signed.is_some());
        others.map(|other| Ok((other.id, self.context.signed(other)?))).collect()
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
    match standing(&chain, signed).await? {
        ChainStanding::Unseen => return Ok(OnChainIs::Nothing),
        ChainStanding::Complete => return Ok(OnChainIs::Ours),
        ChainStanding::Unclear => return Err(unclear()),
        ChainStanding::Taken(_) => {}
    }
    for (id, other) in others {
        match standing(&chain, other).await? {
            ChainStanding::Complete => return Ok(OnChainIs::Earlier(*id)),
            ChainStanding::Unclear => return Err(unclear()),
            ChainStanding::Unseen | ChainStanding::Taken(_) => {}
        }
    }
    // Bad news needs a second look, in a round trip of its own; this one is about a block that is deep already.
    Ok(if is_deep(&chain, signed, depth).await? { OnChainIs::Others } else { OnChainIs::Undecided })
}

async fn standing(chain: &OneRpc, job: &SignedJob) -> Result<ChainStanding> {
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

fn unclear() -> Error {
    Error::new(ErrorKind::Chain, "the chain has a result under the nonce, and does not show whose").with_retryable(true)
}
