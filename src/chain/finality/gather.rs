//! Reading what decisions need, for many jobs at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use alloy_primitives::{Address, B256};
use alloy_sol_types::SolEvent;

use super::{Blocks, Evidence, Need, Posted, Search, Standing, Step, concerns};
use crate::{
    chain::{
        Answers, At, Batch, Block, Chain, JobMetadata, Log, LogFilter, OnchainStatus, Receipt, Ticket, Transaction,
        abi::JobManager, recorded::InputTickets,
    },
    error::{Error, ErrorKind, Result},
    job::{SignedJob, Verified},
};

/// How often a look begins anew because the chain has changed meanwhile.
const ATTEMPTS: usize = 3;
/// Ranges of logs that are asked for at once, after the first.
const RANGES: usize = 4;
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
}

/// Looks at jobs, and tells at which head: one round trip where none of them is completed, two more for those that are, and what the search for
/// events takes.
///
/// # Errors
/// Retryable, if the chain cannot be read or changes faster than it can be.
pub(crate) async fn look(chain: &Chain, asks: &[Ask]) -> Result<(Block, Vec<Standing>)> {
    for _ in 0..ATTEMPTS {
        if let Some(seen) = look_once(chain, asks).await? {
            return Ok(seen);
        }
    }
    Err(Error::new(ErrorKind::Chain, "the chain changes while it is read")
        .with_retryable(true)
        .with_endpoint(chain.reader().endpoint())
        .with_hint("if it stays so, the RPC's servers do not agree on the latest block"))
}

/// Nothing if the head moved away meanwhile.
async fn look_once(chain: &Chain, asks: &[Ask]) -> Result<Option<(Block, Vec<Standing>)>> {
    let mut batch = chain.batch();
    let head = batch.block(At::Latest);
    let screens: Vec<_> = asks.iter().map(|ask| batch.job_metadata(ask.job.id())).collect();
    let mut answers = batch.send().await?;
    let head = answers.take(head)?.ok_or_else(|| Error::new(ErrorKind::Chain, "the chain has no latest block"))?;
    let screens: Vec<_> = screens.into_iter().map(|ticket| answers.take(ticket)).collect();

    let mut look = Look { chain, blocks: Blocks::new(head), jobs: Vec::new() };
    let mut standings: Vec<_> =
        asks.iter().zip(screens).enumerate().map(|(index, (ask, screen))| look.screen(index, ask, screen)).collect();
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
    chain: &'a Chain,
    blocks: Blocks,
    /// Those that are completed or cancelled, with their number among all.
    jobs: Vec<(usize, Evidence<'a>)>,
}

/// Answers to come for what a job needs.
enum Asked {
    State(Ticket<JobMetadata>, InputTickets),
    Receipt(B256, Ticket<Option<Receipt>>),
    Posted(Ticket<Option<Transaction>>, [Ticket<Address>; 2]),
}

impl<'a> Look<'a> {
    /// What the state of the latest block says, whichever that is. Enough for a job that is not completed; all others are looked at
    /// closely.
    fn screen(&mut self, index: usize, ask: &'a Ask, metadata: Result<JobMetadata>) -> Option<Standing> {
        match metadata.map(|metadata| metadata.status) {
            Ok(OnchainStatus::Unknown) => Some(Standing::Unseen),
            Ok(OnchainStatus::Pending) => Some(Standing::Requested),
            Ok(OnchainStatus::Completed | OnchainStatus::Cancelled) if ask.quiet.contains(&self.blocks.head.number) => {
                Some(Standing::Shallow)
            }
            Ok(_) => {
                let evidence = Evidence {
                    job: &ask.job,
                    job_manager: self.chain.job_manager(),
                    transactions: ask.transactions.clone(),
                    shown: &ask.shown,
                    reach: self.chain.log_reach(),
                    metadata: None,
                    inputs: None,
                    receipts: BTreeMap::new(),
                    search: Search { next: Some(self.blocks.head.number), found: None, error: None },
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
        let head = self.blocks.head;
        let mut batch = self.chain.batch().at(At::Hash(head.hash));
        let mut numbers = BTreeSet::new();
        let mut searches: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        let mut asked = Vec::new();
        for (place, need) in needs {
            let Some((_, evidence)) = self.jobs.get(*place) else { continue };
            match need {
                Need::Blocks(number) => numbers.extend(self.blocks.missing(*number)),
                Need::Logs => searches.entry(evidence.search.next.unwrap_or(head.number)).or_default().push(*place),
                need => {
                    let put;
                    (batch, put) = ask(batch, head, evidence.job, *need);
                    asked.extend(put.map(|put| (*place, put)));
                }
            }
        }
        let blocks: Vec<_> = numbers.into_iter().map(|number| (number, batch.block(At::Number(number)))).collect();
        let logs = self.ask_logs(&mut batch, searches);
        // Whatever is believed of a job comes from such a batch.
        let identity = self.chain.binding().map(|binding| (binding, batch.identity()));
        // The last question: what came before was asked of this chain.
        let still = batch.block(At::Number(head.number));
        let mut answers = batch.send().await?;
        if let Some((binding, identity)) = identity {
            binding.check_identity(identity.take(&mut answers)?)?;
        }
        if answers.take(still)?.is_none_or(|block| block.hash != head.hash) {
            return Ok(false);
        }
        for (number, ticket) in blocks {
            self.blocks.read.insert(number, answers.take(ticket)?);
        }
        for (places, ranges) in logs {
            self.take_logs(&places, ranges, &mut answers);
        }
        for (place, asked) in asked {
            if let Some((_, evidence)) = self.jobs.get_mut(place) {
                take(evidence, asked, &mut answers);
            }
        }
        Ok(true)
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
            while let Some(to) = last.filter(|_| ranges.len() < if from == head { 1 } else { RANGES }) {
                let first = to.saturating_add(1).saturating_sub(self.chain.log_range()).max(end);
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
                        let hint =
                            "if the RPC takes no range of so many blocks, set a smaller one with Chain::with_log_range";
                        search.error = Some(error.clone().with_hint(hint));
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

fn ask(mut batch: Batch, head: Block, job: &SignedJob, need: Need) -> (Batch, Option<Asked>) {
    let asked = match need {
        Need::State => {
            let metadata = batch.job_metadata(job.id());
            Some(Asked::State(metadata, InputTickets::ask(&mut batch, job)))
        }
        Need::Receipt(tx) => Some(Asked::Receipt(tx, batch.receipt(tx))),
        Need::Posted(tx, block) => {
            let now = batch.operator();
            batch = batch.at(At::Hash(block));
            let then = batch.operator();
            batch = batch.at(At::Hash(head.hash));
            Some(Asked::Posted(batch.transaction(tx), [then, now]))
        }
        Need::Blocks(_) | Need::Logs => None,
    };
    (batch, asked)
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
                Some(Posted { transaction, operators: operators.map(|ticket| answers.take(ticket)).into() });
        }
    }
}
