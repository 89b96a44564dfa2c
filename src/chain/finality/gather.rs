//! Reading what decisions need, for many jobs at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use alloy_primitives::{Address, B256};
use alloy_sol_types::SolEvent;

use super::{Blocks, Evidence, Need, PostedResult, Search, Standing, Step, concerns};
use crate::{
    chain::{
        Answers, At, Batch, Block, Chain, JobMetadata, Log, LogFilter, OnchainStatus, OneRpc, Receipt, Ticket,
        Transaction,
        abi::JobManager,
        batch::IdentityTickets,
        recorded::InputTickets,
        second_look::{Heard, SecondLook, Tidings, contradiction},
        snapshot::restless,
    },
    error::{Error, ErrorKind, Result},
    job::{SignedJob, Verified},
};

/// How often a look begins anew because the chain has changed meanwhile.
const ATTEMPTS: usize = 3;
/// Ranges of logs that are asked for at once, after the first: of many blocks, and where the RPC takes only a few.
const RANGES: usize = 4;
const SHORT_RANGES: usize = 16;
/// Ranges of fewer blocks are short.
const SHORT: u64 = 500;
/// No look takes so many round trips: the most that logs can need, and a few.
const MAX_ROUNDS: usize = 4096;

/// What is asked of a job.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub job: SignedJob,
    /// Transactions that may have its result, the likeliest first.
    pub transactions: Vec<B256>,
    /// Results that were verified before.
    pub shown: Vec<Verified>,
    /// While the head has one of these numbers, it is enough to know that it is completed or cancelled still.
    pub quiet: Range<u64>,
    /// Whether the node has ended it, so that it is bad news if the chain does not have it either.
    pub ended: bool,
}

/// What a look shows of one job.
struct Seen {
    standing: Standing,
    ended: bool,
}

impl Tidings for Seen {
    fn is_bad(&self) -> bool {
        match &self.standing {
            Standing::Taken { .. } | Standing::Cancelled { .. } => true,
            Standing::Unseen | Standing::Requested => self.ended,
            _ => false,
        }
    }

    /// However deep it is, and in whatever field another job differs.
    fn agrees(&self, other: &Self) -> bool {
        match (&self.standing, &other.standing) {
            (Standing::Unseen, Standing::Unseen)
            | (Standing::Requested, Standing::Requested)
            | (Standing::Cancelled { .. }, Standing::Cancelled { .. })
            | (Standing::Taken { .. }, Standing::Taken { .. })
            | (Standing::Shallow, Standing::Shallow)
            | (Standing::Unproven(_), Standing::Unproven(_)) => true,
            (Standing::Complete(one), Standing::Complete(other)) => one.output() == other.output(),
            _ => false,
        }
    }
}

/// Looks at jobs, and tells at which head: one round trip where none of them is completed, two more for those that are,
/// and what the search for events takes. Those whose standing would end a wait with an error are looked at once more
/// before it is told.
///
/// # Errors
/// Retryable, if the chain cannot be read or changes faster than it can be.
pub(crate) async fn look(chain: &Chain, asks: &[Ask]) -> Result<(Block, Vec<Standing>)> {
    let unread = |(_, standings): &(Block, Vec<Standing>)| {
        standings
            .iter()
            .find_map(|standing| if let Standing::Unread(error) = standing { Some(error.clone()) } else { None })
    };
    chain.verdict_unless(unread, |one| async move { look_by(&one, asks).await }).await
}

async fn look_by(chain: &OneRpc, asks: &[Ask]) -> Result<(Block, Vec<Standing>)> {
    for _ in 0..ATTEMPTS {
        if let Some(seen) = looks(chain, asks).await? {
            return Ok(seen);
        }
    }
    Err(restless(chain))
}

/// Looks until all of it is told. Nothing if the chain has changed meanwhile.
async fn looks(chain: &OneRpc, asks: &[Ask]) -> Result<Option<(Block, Vec<Standing>)>> {
    let mut told: Vec<Option<Standing>> = asks.iter().map(|_| None).collect();
    let mut doubted: Vec<_> = (0..asks.len()).map(|index| (index, SecondLook::new())).collect();
    let (mut heads, mut once) = (Vec::new(), true);
    loop {
        let some: Vec<&Ask> = doubted.iter().filter_map(|(index, _)| asks.get(*index)).collect();
        let seen = match look_at(chain, &some, !heads.is_empty()).await {
            Ok((head, seen)) => {
                heads.push(head);
                seen
            }
            Err(error) if heads.is_empty() => return Err(error),
            Err(error) => some.iter().map(|_| Standing::Unread(error.clone())).collect(),
        };
        let (mut again, mut pause) = (Vec::new(), Duration::ZERO);
        for ((index, mut second), standing) in doubted.into_iter().zip(seen) {
            let ended = asks.get(index).is_some_and(|ask| ask.ended);
            let (standing, wait) = match standing {
                Standing::Unread(error) => (Standing::Unread(error), second.missed()),
                standing => match second.hear(Seen { standing, ended }) {
                    Heard::Told(seen) => (seen.standing, None),
                    Heard::Again(wait) => (Standing::Unread(contradiction(chain)), Some(wait)),
                    Heard::Contradiction { .. } => (Standing::Unread(contradiction(chain)), None),
                },
            };
            match (wait, told.get_mut(index)) {
                (Some(wait), _) => {
                    pause = pause.max(wait);
                    again.push((index, second));
                }
                (None, Some(place)) => *place = Some(standing),
                (None, None) => {}
            }
        }
        if again.is_empty() {
            break;
        }
        once = false;
        tokio::time::sleep(pause).await;
        doubted = again;
    }
    let missing = || Standing::Unread(Error::new(ErrorKind::Chain, "the look at the job came to no end"));
    let standings = told.into_iter().map(|standing| standing.unwrap_or_else(missing)).collect();
    // While others were looked at once more, in vain or not, what the first look has shown may have changed.
    let lasted = once || chain.hold(&heads).await?;
    Ok(heads.first().filter(|_| lasted).map(|head| (*head, standings)))
}

/// One look; `closely`, if nothing is to be believed that was not read in the state of a block by its hash.
async fn look_at(chain: &OneRpc, asks: &[&Ask], closely: bool) -> Result<(Block, Vec<Standing>)> {
    for _ in 0..ATTEMPTS {
        if let Some(seen) = look_once(chain, asks, closely).await? {
            return Ok(seen);
        }
    }
    Err(restless(chain))
}

/// Nothing if the head moved away meanwhile.
async fn look_once<'a>(chain: &'a OneRpc, asks: &[&'a Ask], closely: bool) -> Result<Option<(Block, Vec<Standing>)>> {
    // Each of them is one answer, and those that are not completed need no more.
    let screened = |batch: &mut Batch| -> Vec<_> { asks.iter().map(|ask| batch.job_metadata(ask.job.id())).collect() };
    let mut glance = chain.glance(screened).await?;
    let head = glance.head;
    let screens: Vec<_> = glance.asked.into_iter().map(|ticket| glance.answers.take(ticket)).collect();

    let mut look = Look { chain, blocks: Blocks::new(head), jobs: Vec::new() };
    let mut standings = Vec::with_capacity(asks.len());
    for (index, (ask, screen)) in asks.iter().zip(screens).enumerate() {
        standings.push(look.screen(index, ask, screen, closely));
    }
    for _ in 0..MAX_ROUNDS {
        let mut needs = Vec::new();
        for (place, (index, evidence)) in look.jobs.iter().enumerate() {
            let Some(open @ None) = standings.get_mut(*index) else { continue };
            match evidence.step(&look.blocks) {
                Step::Done(standing) => *open = Some(standing),
                Step::Moved => return Ok(None),
                Step::Read(read) => needs.extend(read.into_iter().map(|need| (place, need))),
            }
        }
        if needs.is_empty() {
            break;
        }
        if !look.read(&needs).await? {
            return Ok(None);
        }
    }
    let missing = || Standing::Unread(Error::new(ErrorKind::Chain, "the look at the job came to no end"));
    Ok(Some((head, standings.into_iter().map(|standing| standing.unwrap_or_else(missing)).collect())))
}

struct Look<'a> {
    chain: &'a OneRpc,
    blocks: Blocks,
    /// Those that are completed or cancelled, with their number among all.
    jobs: Vec<(usize, Evidence<'a>)>,
}

/// What was asked in one round trip.
struct Round {
    blocks: Vec<(u64, Ticket<Option<Block>>)>,
    logs: Vec<(Vec<usize>, Vec<LogRange>)>,
    of_jobs: Vec<(usize, Asked)>,
    identity: Option<IdentityTickets>,
}

/// Answers to come for what a job needs.
enum Asked {
    State(Ticket<JobMetadata>, InputTickets),
    Receipt(B256, Ticket<Option<Receipt>>),
    Posted(Ticket<Option<Transaction>>, [Ticket<Address>; 2]),
}

impl<'a> Look<'a> {
    /// What the state of the latest block says, whichever that is. Enough for a job that is not completed; all others
    /// are looked at closely.
    fn screen(&mut self, index: usize, ask: &'a Ask, metadata: Result<JobMetadata>, closely: bool) -> Option<Standing> {
        match metadata.map(|metadata| metadata.status) {
            Ok(OnchainStatus::Unknown) if !closely => Some(Standing::Unseen),
            Ok(OnchainStatus::Pending) if !closely => Some(Standing::Requested),
            Ok(OnchainStatus::Completed | OnchainStatus::Cancelled) if ask.quiet.contains(&self.blocks.head.number) => {
                Some(Standing::Shallow)
            }
            Ok(status) => {
                let evidence = Evidence {
                    job: &ask.job,
                    job_manager: self.chain.job_manager(),
                    transactions: ask.transactions.clone(),
                    shown: &ask.shown,
                    reach: self.chain.log_reach(),
                    screened: matches!(status, OnchainStatus::Completed | OnchainStatus::Cancelled),
                    metadata: None,
                    inputs: None,
                    receipts: BTreeMap::new(),
                    search: Search { next: Some(self.blocks.head.number), most: u64::MAX, found: None, error: None },
                    posted: None,
                };
                self.jobs.push((index, evidence));
                None
            }
            Err(error) => Some(Standing::Unread(error)),
        }
    }

    /// Reads what is needed, in one round trip. False if the head is not the chain's any more.
    async fn read(&mut self, needs: &[(usize, Need)]) -> Result<bool> {
        let read = self.chain.at_block(self.blocks.head, |batch| self.ask_round(batch, needs)).await;
        if let Err(error) = &read
            && error.retry_after().is_some()
            && needs.iter().any(|(_, need)| matches!(need, Need::Logs))
        {
            // It was not asked too often, perhaps, but for too many blocks.
            let most = self.blocks.head.number.saturating_add(1).min(self.chain.log_reach());
            self.chain.logs_refused(self.chain.known_log_range().min(most), error);
        }
        let Some((round, mut answers)) = read? else { return Ok(false) };
        // Whatever is believed of a job comes from such a batch.
        if let Some((binding, identity)) = self.chain.binding().zip(round.identity) {
            binding.check_identity(identity.take(&mut answers)?)?;
        }
        for (number, ticket) in round.blocks {
            self.blocks.read.insert(number, answers.take(ticket)?);
        }
        for (places, ranges) in round.logs {
            self.take_logs(&places, ranges, &mut answers);
        }
        for (place, asked) in round.of_jobs {
            if let Some((_, evidence)) = self.jobs.get_mut(place) {
                take(evidence, asked, &mut answers);
            }
        }
        Ok(true)
    }

    fn ask_round(&self, batch: &mut Batch, needs: &[(usize, Need)]) -> Round {
        let mut numbers = BTreeSet::new();
        let mut searches: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        let mut of_jobs = Vec::new();
        for (place, need) in needs {
            let Some((_, evidence)) = self.jobs.get(*place) else { continue };
            match need {
                Need::Blocks(number) => numbers.extend(self.blocks.missing(*number)),
                Need::Logs => {
                    let next = evidence.search.next.unwrap_or(self.blocks.head.number);
                    searches.entry(next).or_default().push(*place);
                }
                Need::State => {
                    let metadata = batch.job_metadata(evidence.job.id());
                    of_jobs.push((*place, Asked::State(metadata, InputTickets::ask(batch, evidence.job))));
                }
                Need::Receipt(tx) => of_jobs.push((*place, Asked::Receipt(*tx, batch.receipt(*tx)))),
                Need::Posted(tx, number, hash) => {
                    let operators = [batch.in_block(*number, *hash, Batch::operator), batch.operator()];
                    of_jobs.push((*place, Asked::Posted(batch.transaction(*tx), operators)));
                }
            }
        }
        let blocks = numbers.into_iter().map(|number| (number, batch.block(At::Number(number)))).collect();
        let logs = self.ask_logs(batch, searches);
        let identity = self.chain.binding().map(|_| batch.identity());
        Round { blocks, logs, of_jobs, identity }
    }

    /// Asks for ranges of logs, from these blocks down; of all jobs that are searched from the same block at once.
    fn ask_logs(&self, batch: &mut Batch, searches: BTreeMap<u64, Vec<usize>>) -> Vec<(Vec<usize>, Vec<LogRange>)> {
        let head = self.blocks.head.number;
        let end = head.saturating_add(1).saturating_sub(self.chain.log_reach());
        let search = |(from, places): (u64, Vec<usize>)| {
            let ids = places.iter().filter_map(|place| self.jobs.get(*place));
            let ids: Vec<_> = ids.map(|(_, evidence)| B256::from(evidence.job.id())).collect();
            let mut ranges = Vec::new();
            let mut last = Some(from);
            let most = places.iter().filter_map(|place| self.jobs.get(*place)).map(|(_, it)| it.search.most).min();
            let mut at_once = 1;
            while let Some(to) = last.filter(|_| ranges.len() < at_once) {
                let span = self.chain.log_range().min(most.unwrap_or(u64::MAX)).max(1);
                at_once = match span {
                    _ if from == head => 1,
                    SHORT.. => RANGES,
                    _ => SHORT_RANGES,
                };
                let first = to.saturating_add(1).saturating_sub(span).max(end);
                let topics = vec![
                    vec![JobManager::JobCompleted::SIGNATURE_HASH, JobManager::JobCancelled::SIGNATURE_HASH],
                    ids.clone(),
                ];
                let ticket = batch.logs(LogFilter::new(self.chain.job_manager(), topics, first, to));
                last = first.checked_sub(1).filter(|next| *next >= end);
                ranges.push(LogRange { first, to, next: last, ticket });
            }
            (places, ranges)
        };
        searches.into_iter().map(search).collect()
    }

    fn take_logs(&mut self, places: &[usize], ranges: Vec<LogRange>, answers: &mut Answers) {
        for range in ranges {
            let logs = answers.take(range.ticket);
            let span = range.to.saturating_sub(range.first).saturating_add(1);
            if self.chain.learns_of_logs(span, &logs) {
                // It is asked again from here, and not from further back.
                for place in places {
                    if let Some((_, evidence)) = self.jobs.get_mut(*place)
                        && evidence.search.found.is_none()
                    {
                        evidence.search.most = span / 2;
                    }
                }
                return;
            }
            for place in places {
                let Some((_, evidence)) = self.jobs.get_mut(*place) else { continue };
                let search = &mut evidence.search;
                if search.found.is_some() || search.error.is_some() {
                    continue;
                }
                search.next = range.next;
                match &logs {
                    Ok(logs) => {
                        let (first, to, job_manager, job) = (range.first, range.to, evidence.job_manager, evidence.job);
                        let fits =
                            |log: &&Log| (first..=to).contains(&log.block_number) && concerns(log, job_manager, job);
                        search.found = logs.iter().filter(fits).max_by_key(|log| log.block_number).cloned();
                    }
                    Err(error) => {
                        let hint = "the RPC refuses even the logs of one block: use another one; Chain::with_log_range sets how \
                                    many blocks are asked for at first";
                        let alone = span == 1 && error.retry_after().is_none();
                        search.error = Some(if alone { error.clone().with_hint(hint) } else { error.clone() });
                    }
                }
            }
        }
    }
}

/// A range of logs that was asked for.
struct LogRange {
    first: u64,
    to: u64,
    /// Where the next one ends.
    next: Option<u64>,
    ticket: Ticket<Vec<Log>>,
}

fn take(evidence: &mut Evidence<'_>, asked: Asked, answers: &mut Answers) {
    match asked {
        Asked::State(metadata, inputs) => {
            evidence.metadata = Some(answers.take(metadata));
            evidence.inputs = Some(inputs.take(answers));
        }
        Asked::Receipt(tx, ticket) => drop(evidence.receipts.insert(tx, answers.take(ticket))),
        Asked::Posted(transaction, operators) => {
            let transaction = answers.take(transaction);
            evidence.posted =
                Some(PostedResult { transaction, operators: operators.map(|ticket| answers.take(ticket)).into() });
        }
    }
}
