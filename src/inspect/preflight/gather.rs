//! Asks the chain and the node, each in one round trip and both at once, and this client's own books.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use alloy_primitives::{Address, B256};
use tokio::time::Instant;

use super::{
    evidence::{Ahead, AheadSeen, ChainSide, Chained, Prospects},
    on_chain::leaves_open,
};
use crate::{
    chain::{Chain, Kept, OnchainStatus},
    error::{Error, ErrorKind, Result},
    inspect::{
        facts::{self, Read, SeenAt},
        lane::{NeighbourLook, NeighbourState},
        sources::Sources,
    },
    job::{JobId, JobRecord, JobStatus, RelayStrategy, SignedJob, echo_difference},
    nonce::Unknown,
};

/// How many runs of missing nonces are named.
const MAX_RUNS: usize = 8;
/// How many results that lead to the job's state are looked up on chain.
const MAX_PREDICTIONS: usize = 4;

pub(super) struct Gathered {
    pub evidence: Prospects,
    /// What the chain has shown last.
    pub seen: Option<SeenAt>,
    /// The operator, if this chain is the right one, and when it was asked for.
    pub operator: Option<(Instant, Address)>,
    pub chain_round_trips: u32,
    pub node_round_trips: u32,
}

/// What the caller knows of states: results below the job, and states that will be the latest by then.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    pub results: Vec<(JobId, u64, B256)>,
    pub states: Vec<B256>,
}

/// One look at everything. With the tip of an earlier one it is a second look, about that block or a later one.
pub(super) async fn gather(
    sources: &Sources,
    job: &SignedJob,
    required: bool,
    expected: &Expected,
    seen: Option<&SeenAt>,
) -> Gathered {
    let mine = job.check_revision(sources.node.revision()).err();
    // On the heap, as below: each is large, and a preflight is deep inside of a submission, on its caller's stack.
    let (asked, node) = together(Box::pin(ask_chain(sources, job, expected, seen)), async {
        // What a node of this revision says of it means nothing.
        if mine.is_some() { None } else { Some(ask_node(sources, job).await) }
    })
    .await;
    let mut node_round_trips = u32::from(node.is_some());
    let AskedChain { side, seen: mut shown, operator, mut round_trips } = asked;
    let (speaks, record, has_program) = match node {
        Some((speaks, record, has_program)) => (speaks, Some(record), has_program),
        None => (None, None, None),
    };
    // Who is next is known only now.
    let (mut ahead, mut trial) = (None, None);
    if let (Some(record), Some(chain), Some(seen), ChainSide::Read(chained)) =
        (&record, &sources.chain, shown.clone(), &side)
        && chained.is_right(sources.binding.as_ref())
    {
        let read = match before(job, chained) {
            Some(nonce) => {
                node_round_trips += 1;
                let looked = Box::pin(look_ahead(sources, chain, nonce, job, &seen)).await;
                let (seen, read) = looked.map_or_else(|error| (Err(error), None), |(seen, read)| (Ok(seen), read));
                ahead = Some(Ahead { nonce, seen });
                read
            }
            None => match executed(job, record).filter(|_| leaves_open(job, sources.operator.pinned(), chained)) {
                Some(record) => {
                    let (seen, read) = Box::pin(tried(sources, chain, record, &seen, false)).await;
                    trial = Some(seen);
                    read
                }
                None => None,
            },
        };
        if let Some((later, trips)) = read {
            (shown, round_trips) = (Some(later), round_trips + trips);
        }
    }
    let evidence = Prospects {
        job: job.clone(),
        wrong_revision: mine.or(speaks),
        required,
        pinned: sources.operator.pinned(),
        job_manager: sources.chain.as_ref().map(Chain::job_manager),
        binding: sources.binding,
        limits: sources.limits.unwrap_or_else(|| job.limits()),
        held: sources.submissions.on_hand(job).other,
        chain: side,
        record,
        has_program,
        ahead,
        trial,
    };
    Gathered { evidence, seen: shown, operator, chain_round_trips: round_trips, node_round_trips }
}

/// The nonce that is next to land, if that is before an Ordered job's.
fn before(job: &SignedJob, chained: &Chained) -> Option<u64> {
    let ordered = job.relay_strategy() == RelayStrategy::Ordered;
    chained.facts.job.next_nonce.as_ref().ok().copied().filter(|next| ordered && *next < job.nonce())
}

/// The node's record of this very job, if it has executed it.
fn executed<'a>(job: &SignedJob, record: &'a Result<Option<JobRecord>>) -> Option<&'a JobRecord> {
    let record = record.as_ref().ok()?.as_ref()?;
    (*record.status() == JobStatus::Done && echo_difference(job, record).is_none()).then_some(record)
}

/// How a job stands, and which block was the latest where the chain was asked, with the number of round trips.
type LookedAhead = (AheadSeen, Option<(SeenAt, u32)>);

/// Whether the contracts would refuse the job of this record. `next`: only while it is the consumer's next one.
async fn tried(sources: &Sources, chain: &Chain, record: &JobRecord, seen: &SeenAt, next: bool) -> LookedAhead {
    match facts::at_head(sources, chain, record, seen).await {
        Ok(Read { facts, seen, round_trips }) => {
            // It may have landed meanwhile.
            let moved_on = next && !matches!(facts.next_nonce, Ok(next) if next == record.nonce());
            let latest = facts.latest_state.ok().flatten();
            let refused = if moved_on { None } else { facts.head.refused(&seen.rpc, record, latest, seen.tip).await };
            (refused.map_or(AheadSeen::Well, AheadSeen::Refused), Some((seen, round_trips)))
        }
        Err(error) => (AheadSeen::Unread(error), Some((seen.clone(), 1))),
    }
}

/// The job at the head of the lane.
async fn look_ahead(
    sources: &Sources,
    chain: &Chain,
    nonce: u64,
    job: &SignedJob,
    seen: &SeenAt,
) -> Result<LookedAhead> {
    let consumer = job.consumer();
    let books = || sources.nonces.standing(consumer, nonce);
    let before = books();
    let record = facts::record(&sources.node, JobId::derive(nonce, consumer)).await?;
    let look = NeighbourLook::of(record.as_ref().map(JobRecord::status), false, before, books(), None);
    Ok(match (look, record) {
        (NeighbourLook::Passed | NeighbourLook::Stands(NeighbourState::Held), _) => (AheadSeen::Well, None),
        (NeighbourLook::Stands(NeighbourState::Working { .. }), Some(head)) => {
            tried(sources, chain, &head, seen, true).await
        }
        (NeighbourLook::Stands(state), _) => (AheadSeen::Stands(state), None),
    })
}

/// The node's revision, if it is another; its record of the job; whether it has the program.
async fn ask_node(
    sources: &Sources,
    job: &SignedJob,
) -> (Option<Error>, Result<Option<JobRecord>>, Option<Result<bool>>) {
    let program = async {
        match sources.node.contains_program(job.program_id()).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => None,
            has => Some(has),
        }
    };
    let record = facts::record(&sources.node, job.id());
    let (speaks, (record, has_program)) = together(sources.node.check_identity(), together(record, program)).await;
    (speaks.err(), record, has_program)
}

struct AskedChain {
    side: ChainSide,
    seen: Option<SeenAt>,
    operator: Option<(Instant, Address)>,
    round_trips: u32,
}

async fn ask_chain(sources: &Sources, job: &SignedJob, expected: &Expected, seen: Option<&SeenAt>) -> AskedChain {
    let nothing = |side, round_trips| AskedChain { side, seen: None, operator: None, round_trips };
    let Some(chain) = &sources.chain else { return nothing(ChainSide::None, 0) };
    let begun = Instant::now();
    let (foreseen, leading) = leading(sources, job, expected);
    let ordered = job.relay_strategy() == RelayStrategy::Ordered;
    let before = job.nonce().checked_sub(1).filter(|_| ordered).map(|nonce| JobId::derive(nonce, job.consumer()));
    let others: Vec<_> = before.into_iter().chain(leading.iter().copied()).collect();
    let (facts, seen, round_trips) = match facts::unsent(sources, chain, job, &others, seen).await {
        Ok(Read { facts, seen, round_trips }) => (facts, seen, round_trips),
        Err(error) => return nothing(ChainSide::Unread(error), 1),
    };
    let status = |id: &JobId| facts.others.get(id).and_then(|status| status.as_ref().ok().copied());
    // What a result leads to that is complete was the latest once, and is no more.
    let not_there_yet = |id| matches!(status(id), Some(OnchainStatus::Unknown | OnchainStatus::Pending));
    let kept = facts.job.metadata.as_ref().ok().zip(facts.job.inputs.as_ref().ok());
    let mut chained = Chained {
        before: before.and_then(|id| status(&id)),
        same_inputs: kept.and_then(|(kept, inputs)| match Kept::compare(job, kept, inputs) {
            Kept::Ours => Some(true),
            Kept::Other(_) => Some(false),
            Kept::Unclear(_) => None,
        }),
        predicted: foreseen || leading.iter().any(not_there_yet),
        below: Unknown::default(),
        too_far_above: None,
        facts,
    };
    if !chained.is_right(sources.binding.as_ref()) {
        return AskedChain { side: ChainSide::Read(Box::new(chained)), seen: Some(seen), operator: None, round_trips };
    }
    let facts = &chained.facts;
    let operator = facts.job.operator.as_ref().ok().map(|operator| (begun, *operator));
    let (consumer, nonce, nonces) = (job.consumer(), job.nonce(), &sources.nonces);
    if ordered {
        if let Ok(next) = facts.job.next_nonce {
            chained.below = nonces.unknown(consumer, next, nonce, MAX_RUNS);
        }
    } else if let Ok(highest) = facts.job.max_nonce {
        let beyond = |highest: u64| nonce > highest.saturating_add(nonces.unordered_jump());
        // A source may know that the consumer's numbers are timestamps, which begin far above 0.
        if beyond(highest)
            && let Some(Ok(known)) = sources.node.retries().read_deadline().bound(nonces.highest(consumer)).await
        {
            let highest = known.map_or(highest, |known| known.max(highest));
            chained.too_far_above = beyond(highest).then_some(highest);
        }
    }
    AskedChain { side: ChainSide::Read(Box::new(chained)), seen: Some(seen), operator, round_trips }
}

/// Whether the caller foresees the job's state, and the jobs below it whose results lead there.
fn leading(sources: &Sources, job: &SignedJob, expected: &Expected) -> (bool, Vec<JobId>) {
    let Some(state) = job.given_state() else { return (false, Vec::new()) };
    let given = expected.results.iter().filter(|(_, nonce, to)| *nonce < job.nonce() && *to == state);
    let mut ids: Vec<JobId> = given.map(|(id, ..)| *id).collect();
    for nonce in sources.submissions.leading_to(job.consumer(), state, job.nonce()) {
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
