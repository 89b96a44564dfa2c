//! What the node and the contracts are asked about a job, and their answers as values. A preflight and a diagnosis
//! judge the same facts, each by rules of its own.

use std::collections::HashMap;

use alloy_primitives::{Address, B256, Bytes};

use super::{
    lane::{HeadFacts, ask_head},
    sources::Sources,
    trial::Tried,
};
use crate::{
    chain::{
        Answers, Batch, Block, Chain, ChainIdentity, InputTickets, Inputs, JobMetadata, OnchainStatus, OneRpc, Receipt,
        SignatureCheck, Snapshot,
    },
    error::{Error, ErrorKind, Result},
    job::{JobId, JobRecord, SignedJob, Verified, eip191_hash},
    node::Node,
};

/// The node's record of a job; nothing if the node does not know the job.
pub(super) async fn record(node: &Node, id: JobId) -> Result<Option<JobRecord>> {
    match node.get_result(id).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        record => record.map(Some),
    }
}

/// Answers of the contracts, all of one block.
pub(super) struct Read<T> {
    pub facts: T,
    /// Where a second look goes on.
    pub seen: SeenAt,
    pub round_trips: u32,
}

/// The latest block that the chain has shown, and the RPC that has shown it: a second look is one at the same.
#[derive(Clone, Debug)]
pub(super) struct SeenAt {
    pub tip: Block,
    pub rpc: OneRpc,
}

/// What the contracts say of any job. Answers of a contract that is not there are errors.
pub(super) struct JobFacts {
    pub operator: Result<Address>,
    /// Whether the consumer takes the signature.
    pub signature: Result<SignatureCheck>,
    /// Whose signatures it takes, if it says so.
    pub signer: Result<Option<Address>>,
    pub next_nonce: Result<u64>,
    pub max_nonce: Result<u64>,
    pub latest_state: Result<Option<B256>>,
    /// What the JobManager keeps under the job's id.
    pub metadata: Result<JobMetadata>,
    /// What the consumer keeps under it.
    pub inputs: Result<Inputs>,
}

/// What they say of a job that is not sent yet.
pub(super) struct Unsent {
    /// Asked of clients that are bound to a chain.
    pub identity: Option<Result<ChainIdentity>>,
    pub job_manager_code: Result<Bytes>,
    pub consumer_code: Result<Bytes>,
    /// The JobManager that the consumer names, if it names one.
    pub named_job_manager: Result<Option<Address>>,
    pub job: JobFacts,
    /// How other jobs stand that were asked about.
    pub others: HashMap<JobId, Result<OnchainStatus>>,
}

/// What they say of a job that a node has.
pub(super) struct Sent {
    pub job: JobFacts,
    /// Of the transaction that the node names.
    pub receipt: Option<Result<Option<Receipt>>>,
    /// What posting the result would do.
    pub trial: Option<Tried>,
    /// Of the job at the head of an Ordered lane, if the job waits for that.
    pub head: Option<HeadFacts>,
}

/// What they say of the job at the head of an Ordered lane.
pub(super) struct AtHead {
    pub next_nonce: Result<u64>,
    pub latest_state: Result<Option<B256>>,
    pub head: HeadFacts,
}

/// Asks about a job that is not sent yet, and how these other jobs stand.
pub(super) async fn unsent(
    sources: &Sources,
    chain: &Chain,
    job: &SignedJob,
    others: &[JobId],
    seen: Option<&SeenAt>,
) -> Result<Read<Unsent>> {
    let consumer = job.consumer();
    let ask = |batch: &mut Batch| {
        let identity = sources.binding.map(|_| batch.identity());
        let (job_manager_code, consumer_code) = (batch.code(chain.job_manager()), batch.code(consumer));
        let named_job_manager = batch.job_manager_of(consumer);
        let job = of_job(batch, job);
        let others: Vec<_> = others.iter().map(|id| (*id, batch.job_metadata(*id))).collect();
        move |answers: &mut Answers| Unsent {
            identity: identity.map(|identity| identity.take(answers)),
            job_manager_code: answers.take(job_manager_code),
            consumer_code: answers.take(consumer_code),
            named_job_manager: answers.take(named_job_manager),
            job: job(answers),
            others: others.into_iter().map(|(id, it)| (id, answers.take(it).map(|kept| kept.status))).collect(),
        }
    };
    read(sources, chain, seen, ask).await
}

/// What a node's records show, and the chain is to judge.
#[derive(Default)]
pub(super) struct AtNode<'a> {
    /// The transaction with the result.
    pub transaction: Option<B256>,
    pub result: Option<&'a Verified>,
    /// The record of the job at the head of the lane.
    pub head: Option<&'a JobRecord>,
}

/// Asks about a job that a node has.
pub(super) async fn sent(
    sources: &Sources,
    chain: &Chain,
    job: &SignedJob,
    shown: &AtNode<'_>,
    seen: Option<&SeenAt>,
) -> Result<Read<Sent>> {
    let ask = |batch: &mut Batch| {
        let job = of_job(batch, job);
        let receipt = shown.transaction.map(|hash| batch.receipt(hash));
        let trial = shown.result.map(|result| Tried::ask(batch, chain.post_call(result, None)));
        let head = shown.head.map(|head| ask_head(batch, chain, head));
        move |answers: &mut Answers| Sent {
            job: job(answers),
            receipt: receipt.map(|receipt| answers.take(receipt)),
            trial: trial.map(|trial| trial(answers)),
            head: head.map(|head| head(answers)),
        }
    };
    read(sources, chain, seen, ask).await
}

/// Asks about the job at the head of a lane, as of this block or a later one.
pub(super) async fn at_head(sources: &Sources, chain: &Chain, head: &JobRecord, seen: &SeenAt) -> Result<Read<AtHead>> {
    let ask = |batch: &mut Batch| {
        let next_nonce = batch.next_nonce(head.consumer());
        let latest_state = batch.latest_state(head.consumer(), head.revision());
        let head = ask_head(batch, chain, head);
        move |answers: &mut Answers| AtHead {
            next_nonce: answers.take(next_nonce),
            latest_state: answers.take(latest_state),
            head: head(answers),
        }
    };
    read(sources, chain, Some(seen), ask).await
}

/// The chain's RPC sees the signature and the hash that was signed, as the consumer's check needs them, and not the
/// request.
fn of_job(batch: &mut Batch, job: &SignedJob) -> impl FnOnce(&mut Answers) -> JobFacts + use<> {
    let consumer = job.consumer();
    let operator = batch.operator();
    let signature = batch.is_valid_signature(consumer, eip191_hash(job.request()), job.signature().clone());
    let signer = batch.offchain_signer(consumer);
    let (next_nonce, max_nonce) = (batch.next_nonce(consumer), batch.max_nonce(consumer));
    let latest_state = batch.latest_state(consumer, job.revision());
    let (metadata, inputs) = (batch.job_metadata(job.id()), InputTickets::ask(batch, job));
    move |answers| JobFacts {
        operator: answers.take(operator),
        signature: answers.take(signature),
        signer: answers.take(signer),
        next_nonce: answers.take(next_nonce),
        max_nonce: answers.take(max_nonce),
        latest_state: answers.take(latest_state),
        metadata: answers.take(metadata),
        inputs: inputs.take(answers),
    }
}

/// One round trip. With the latest block of an earlier look it is a second look, about that block or a later one.
async fn read<T, F: FnOnce(&mut Answers) -> T>(
    sources: &Sources,
    chain: &Chain,
    seen: Option<&SeenAt>,
    ask: impl Fn(&mut Batch) -> F,
) -> Result<Read<T>> {
    let ask = &ask;
    let look = async {
        match seen {
            None => {
                // What one RPC refuses to answer, another may.
                let unanswered = |(looked, _): &(Snapshot<F>, OneRpc)| looked.answers.unanswered();
                chain.verdict_unless(unanswered, |rpc| async move { Ok((rpc.at_latest(ask).await?, rpc)) }).await
            }
            Some(SeenAt { tip, rpc }) => Ok((rpc.again(*tip, ask).await?, rpc.clone())),
        }
    };
    let late = || Error::new(ErrorKind::Chain, "the chain did not answer in time").with_retryable(true);
    let looked = sources.node.retries().read_deadline().bound(look).await;
    let (mut snapshot, rpc) = looked.ok_or_else(|| late().with_endpoint(chain.reader().endpoint()))??;
    let facts = (snapshot.asked)(&mut snapshot.answers);
    Ok(Read { facts, seen: SeenAt { tip: snapshot.tip, rpc }, round_trips: snapshot.round_trips })
}

/// What the consumer's check says of who signed a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Signer {
    Accepted,
    /// The consumer's signer is the zero address. Whether it takes this signature all the same.
    Nobody {
        accepts: bool,
    },
    Refused {
        recovered: Option<Address>,
        named: Option<Address>,
    },
    /// The check reverts, with this.
    CheckReverts(Bytes),
}

impl JobFacts {
    /// Whether the consumer accepts who signed the job.
    pub(super) fn signer(&self, job: &SignedJob) -> Result<Signer> {
        let named = self.signer.as_ref().ok().copied().flatten();
        Ok(match (self.signature.clone()?, named) {
            (SignatureCheck::Reverted(reason), _) => Signer::CheckReverts(reason),
            (check, Some(Address::ZERO)) => Signer::Nobody { accepts: check == SignatureCheck::Valid },
            (SignatureCheck::Valid, _) => Signer::Accepted,
            (SignatureCheck::Invalid, named) => Signer::Refused { recovered: job.recover().ok(), named },
        })
    }
}
