//! Asks the chain and the node, each in one round trip and both at once, and this client's own books.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use alloy_primitives::B256;
use tokio::time::Instant;

use super::evidence::{ChainSide, Chained, Evidence};
use crate::{
    chain::{Chain, InputTickets, OnchainStatus, other_job},
    client::Inner,
    error::{Error, ErrorKind, Result},
    job::{JobId, JobRecord, RelayStrategy, SignedJob, eip191_hash},
    nonce::Unknown,
};

/// How many runs of missing nonces are named.
const MAX_RUNS: usize = 8;
/// How many results that lead to the job's state are looked up on chain.
const MAX_PREDICTIONS: usize = 4;

pub(super) struct Gathered {
    pub evidence: Evidence,
    pub chain_round_trips: u32,
    pub node_round_trips: u32,
}

/// What the caller knows of states: results below the job, and states that will be the latest by then.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    pub results: Vec<(JobId, u64, B256)>,
    pub states: Vec<B256>,
}

pub(super) async fn gather(inner: &Arc<Inner>, job: &SignedJob, required: bool, expected: &Expected) -> Gathered {
    let mine = inner.node.check_job(job).err();
    let (chain, node) = together(ask_chain(inner, job, expected), async {
        // What a node of this revision says of it means nothing.
        if mine.is_some() { None } else { Some(ask_node(inner, job).await) }
    })
    .await;
    let (chain_round_trips, node_round_trips) = (u32::from(inner.chain.is_some()), u32::from(node.is_some()));
    let (speaks, record, has_program) = match node {
        Some((speaks, record, has_program)) => (speaks, Some(record), has_program),
        None => (None, None, None),
    };
    let evidence = Evidence {
        job: job.clone(),
        wrong_revision: mine.or(speaks),
        required,
        pinned: inner.operator.pinned(),
        job_manager: inner.chain.as_ref().map(Chain::job_manager),
        binding: inner.binding,
        limits: inner.limits.unwrap_or_else(|| job.limits()),
        held: inner.submissions.on_hand(job).other,
        chain,
        record,
        has_program,
    };
    Gathered { evidence, chain_round_trips, node_round_trips }
}

/// The node's revision, if it is another; its record of the job; whether it has the program.
async fn ask_node(
    inner: &Arc<Inner>,
    job: &SignedJob,
) -> (Option<Error>, Result<Option<JobRecord>>, Option<Result<bool>>) {
    let record = async {
        match inner.node.get_result(job.id()).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            record => record.map(Some),
        }
    };
    let program = async {
        match inner.node.contains_program(job.program_id()).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => None,
            has => Some(has),
        }
    };
    let (speaks, (record, has_program)) = together(inner.node.check_identity(), together(record, program)).await;
    (speaks.err(), record, has_program)
}

async fn ask_chain(inner: &Arc<Inner>, job: &SignedJob, expected: &Expected) -> ChainSide {
    let Some(chain) = &inner.chain else { return ChainSide::None };
    let begun = Instant::now();
    let asked = inner.node.retries().read_deadline().bound(batch(inner, chain, job, expected)).await;
    let mut chained = match asked {
        Some(Ok(chained)) => chained,
        Some(Err(error)) => return ChainSide::Unread(error),
        None => {
            let late = Error::new(ErrorKind::Chain, "the chain did not answer in time").with_retryable(true);
            return ChainSide::Unread(late.with_endpoint(chain.reader().endpoint()));
        }
    };
    let right = match (&inner.binding, &chained.identity) {
        (Some(binding), Some(Ok(identity))) => binding.check_identity(*identity).is_ok(),
        (binding, _) => binding.is_none(),
    };
    if let (true, Ok(operator)) = (right, &chained.operator) {
        inner.operator.saw(begun, *operator);
    }
    let (consumer, nonce, nonces) = (job.consumer(), job.nonce(), &inner.nonces);
    if job.relay_strategy() == RelayStrategy::Ordered {
        if let Ok(next) = chained.next_nonce {
            chained.below = nonces.unknown(consumer, next, nonce, MAX_RUNS);
        }
    } else if let Ok(highest) = chained.max_nonce {
        let beyond = |highest: u64| nonce > highest.saturating_add(nonces.unordered_jump());
        // A source may know that the consumer's numbers are timestamps, which begin far above 0.
        if beyond(highest)
            && let Ok(known) = nonces.highest(consumer).await
        {
            let highest = known.map_or(highest, |known| known.max(highest));
            chained.too_far_above = beyond(highest).then_some(highest);
        }
    }
    ChainSide::Read(Box::new(chained))
}

/// One round trip. The chain's RPC sees the signature and the hash that was signed, as the consumer's check needs them, and not
/// the request.
async fn batch(inner: &Inner, chain: &Chain, job: &SignedJob, expected: &Expected) -> Result<Chained> {
    let (consumer, id) = (job.consumer(), job.id());
    let mut batch = chain.batch();
    let identity = inner.binding.map(|_| batch.identity());
    let (job_manager_code, consumer_code) = (batch.code(chain.job_manager()), batch.code(consumer));
    let operator = batch.operator();
    let named_job_manager = batch.job_manager_of(consumer);
    let hash = eip191_hash(job.request());
    let signature = batch.is_valid_signature(consumer, hash, job.signature().clone());
    let signer = batch.offchain_signer(consumer);
    let (next_nonce, max_nonce) = (batch.next_nonce(consumer), batch.max_nonce(consumer));
    let latest_state = batch.latest_state(consumer, job.revision());
    let metadata = batch.job_metadata(id);
    let before = job.nonce().checked_sub(1).filter(|_| job.relay_strategy() == RelayStrategy::Ordered);
    let before = before.map(|nonce| batch.job_metadata(JobId::derive(nonce, consumer)));
    let inputs = InputTickets::ask(&mut batch, job);
    let (foreseen, pending) = leading(inner, job, expected);
    let pending: Vec<_> = pending.into_iter().map(|id| batch.job_metadata(id)).collect();

    let mut answers = batch.send().await?;
    let metadata = answers.take(metadata);
    let inputs = inputs.take(&mut answers).ok();
    let same_inputs = metadata.as_ref().ok().zip(inputs).map(|(kept, inputs)| other_job(job, kept, &inputs).is_none());
    let identity = identity.map(|identity| identity.take(&mut answers));
    // What a result leads to that is complete was the latest once, and is no more.
    let not_there_yet = |status| matches!(status, Ok(OnchainStatus::Unknown | OnchainStatus::Pending));
    let predicted = pending.into_iter().any(|it| not_there_yet(answers.take(it).map(|kept| kept.status)));
    Ok(Chained {
        identity,
        job_manager_code: answers.take(job_manager_code),
        consumer_code: answers.take(consumer_code),
        operator: answers.take(operator),
        named_job_manager: answers.take(named_job_manager),
        signature: answers.take(signature),
        signer: answers.take(signer),
        next_nonce: answers.take(next_nonce),
        max_nonce: answers.take(max_nonce),
        latest_state: answers.take(latest_state),
        status: metadata.map(|kept| kept.status),
        before: before.map(|before| answers.take(before).map(|kept| kept.status)),
        same_inputs,
        predicted: foreseen || predicted,
        below: Unknown::default(),
        too_far_above: None,
    })
}

/// Whether the caller foresees the job's state, and the jobs below it whose results lead there.
fn leading(inner: &Inner, job: &SignedJob, expected: &Expected) -> (bool, Vec<JobId>) {
    let Some(state) = job.given_state() else { return (false, Vec::new()) };
    let given = expected.results.iter().filter(|(_, nonce, to)| *nonce < job.nonce() && *to == state);
    let mut ids: Vec<JobId> = given.map(|(id, ..)| *id).collect();
    for nonce in inner.submissions.leading_to(job.consumer(), state, job.nonce()) {
        let id = JobId::derive(nonce, job.consumer());
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids.truncate(MAX_PREDICTIONS);
    (expected.states.contains(&state), ids)
}

/// Both at once.
async fn together<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second) = (None, None);
    poll_fn(|cx| {
        if first.is_none()
            && let Poll::Ready(done) = one.as_mut().poll(cx)
        {
            first = Some(done);
        }
        if second.is_none()
            && let Poll::Ready(done) = other.as_mut().poll(cx)
        {
            second = Some(done);
        }
        match (first.take(), second.take()) {
            (Some(one), Some(other)) => Poll::Ready((one, other)),
            (one, other) => {
                (first, second) = (one, other);
                Poll::Pending
            }
        }
    })
    .await
}
