//! What was read of a job, and what follows from it.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::{SolEvent, SolValue};

use super::{PostedCall, Standing, unproven};
use crate::{
    chain::{
        Block, JobMetadata, Log, OnchainStatus, Receipt, Transaction,
        abi::JobManager,
        recorded::{Inputs, Kept},
        returned::unknown_status,
    },
    error::{Error, ErrorKind, Result},
    job::{Finality, JobId, Revision, SignedJob, Verified, abi, posted},
};

/// So far back every block between is read, and must lead to the head. Beyond that, the one block is looked up by its
/// number: no chain goes back so far and forth again while it is looked at.
const LINKED: u64 = 64;

/// The blocks that lead to a head, as far as they were read.
#[derive(Debug)]
pub(in crate::chain) struct Blocks {
    pub head: Block,
    /// By number; nothing where the chain had none.
    pub read: BTreeMap<u64, Option<Block>>,
}

impl Blocks {
    pub(in crate::chain) fn new(head: Block) -> Self {
        Self { head, read: BTreeMap::new() }
    }

    /// How deep a block of this number is, its own counted.
    fn depth(&self, number: u64) -> u64 {
        self.head.number.saturating_add(1).saturating_sub(number)
    }

    /// Whether the block is part of the head's chain; nothing while blocks are missing to say so.
    fn hold(&self, number: u64, hash: B256) -> Option<bool> {
        let Some(below) = self.head.number.checked_sub(number) else { return Some(false) };
        if below > LINKED {
            return self.read.get(&number).map(|block| block.is_some_and(|block| block.hash == hash));
        }
        let mut last = self.head;
        for number in (number..self.head.number).rev() {
            match self.read.get(&number)? {
                Some(block) if block.hash == last.parent => last = *block,
                _ => return Some(false),
            }
        }
        Some(last.hash == hash)
    }

    /// The blocks to read to know whether one of this number is part of it.
    pub(in crate::chain) fn missing(&self, number: u64) -> Vec<u64> {
        let linked = self.head.number.saturating_sub(number) <= LINKED;
        let last = if linked { self.head.number } else { number.saturating_add(1) };
        (number..last).filter(|number| !self.read.contains_key(number)).collect()
    }
}

/// The transaction with a result, and whose signature the JobManager takes: in its block, and at the head.
#[derive(Clone, Debug)]
pub(in crate::chain) struct PostedResult {
    pub transaction: Result<Option<Transaction>>,
    pub operators: Vec<Result<Address>>,
}

/// How far the logs were searched, from the head down.
#[derive(Clone, Debug)]
pub(in crate::chain) struct Search {
    /// The last block of the next range; nothing once all of them were searched.
    pub next: Option<u64>,
    /// So many blocks at once at most, as the RPC has refused more.
    pub most: u64,
    /// The newest that was found.
    pub found: Option<Log>,
    pub error: Option<Error>,
}

/// Everything that was read of a job.
#[derive(Debug)]
pub(in crate::chain) struct Evidence<'a> {
    pub job: &'a SignedJob,
    pub job_manager: Address,
    /// Transactions that may have the result, the likeliest first.
    pub transactions: Vec<B256>,
    /// Results that were verified before.
    pub shown: &'a [Verified],
    /// How many blocks are searched for the event.
    pub reach: u64,
    /// Whether the latest state was seen to have it completed or cancelled.
    pub screened: bool,
    pub metadata: Option<Result<JobMetadata>>,
    pub inputs: Option<Result<Inputs>>,
    pub receipts: BTreeMap<B256, Result<Option<Receipt>>>,
    pub search: Search,
    pub posted: Option<PostedResult>,
}

/// A question about a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::chain) enum Need {
    /// What JobManager and consumer say of it, at the head.
    State,
    Receipt(B256),
    /// The next range of logs.
    Logs,
    /// The blocks from this number to the head, as far as they are to be read.
    Blocks(u64),
    /// The transaction, in the block of this number and hash, and who the operator was then.
    Posted(B256, u64, B256),
}

#[derive(Debug)]
pub(in crate::chain) enum Step {
    Read(Vec<Need>),
    Done(Standing),
    /// What was read is not of one chain: it has changed meanwhile.
    Moved,
}

/// Where the event is.
struct Place {
    number: u64,
    hash: B256,
    tx: B256,
    output: Bytes,
}

impl Evidence<'_> {
    /// What is known now, or what to read next.
    pub(in crate::chain) fn step(&self, blocks: &Blocks) -> Step {
        let metadata = match &self.metadata {
            None => return Step::Read(self.first_needs()),
            Some(Err(error)) => return Step::Done(Standing::Unread(error.clone())),
            Some(Ok(metadata)) => metadata,
        };
        match metadata.status {
            // It came in a block after the head, or one of the two answers is of another block than it says.
            OnchainStatus::Unknown | OnchainStatus::Pending if self.screened => Step::Moved,
            OnchainStatus::Unknown => Step::Done(Standing::Unseen),
            OnchainStatus::Pending => Step::Done(Standing::Requested),
            OnchainStatus::Cancelled => self.cancelled(blocks),
            OnchainStatus::Completed => match self.kept(metadata) {
                Ok(Kept::Other(field)) => self.foreign_step(field, blocks),
                Ok(Kept::Ours) => self.own_step(None, blocks),
                Ok(Kept::Unclear(lacking)) => self.own_step(Some(lacking), blocks),
                Err(error) => Step::Done(Standing::Unproven(error)),
            },
            OnchainStatus::Unrecognized(number) => Step::Done(Standing::Unread(unknown_status(number))),
        }
    }

    fn first_needs(&self) -> Vec<Need> {
        let mut needs = vec![Need::State];
        needs.extend(self.transactions.iter().map(|tx| Need::Receipt(*tx)));
        if self.transactions.is_empty() {
            needs.push(Need::Logs);
        }
        needs
    }

    /// Whose the completed job is.
    fn kept(&self, metadata: &JobMetadata) -> Result<Kept> {
        match &self.inputs {
            Some(inputs) => Ok(Kept::compare(self.job, metadata, inputs.as_ref().map_err(Clone::clone)?)),
            None => Err(Error::new(ErrorKind::Chain, "the consumer's inputs were not read")),
        }
    }

    fn cancelled(&self, blocks: &Blocks) -> Step {
        match &self.search {
            Search { found: Some(log), .. } => match blocks.hold(log.block_number, log.block_hash) {
                Some(true) => Step::Done(Standing::Cancelled { depth: blocks.depth(log.block_number) }),
                Some(false) => Step::Moved,
                None => Step::Read(vec![Need::Blocks(log.block_number)]),
            },
            Search { error: Some(error), .. } => Step::Done(Standing::Unproven(error.clone())),
            Search { next: Some(_), .. } => Step::Read(vec![Need::Logs]),
            // Older than anything that was searched.
            _ => Step::Done(Standing::Cancelled { depth: self.reach }),
        }
    }

    fn foreign_step(&self, field: &'static str, blocks: &Blocks) -> Step {
        match self.place() {
            Placed::At(place) => match blocks.hold(place.number, place.hash) {
                Some(true) => Step::Done(Standing::Taken { field, depth: blocks.depth(place.number) }),
                Some(false) => Step::Moved,
                None => Step::Read(vec![Need::Blocks(place.number)]),
            },
            Placed::Nowhere => Step::Done(Standing::Taken { field, depth: self.reach }),
            Placed::Unknown(standing) => Step::Done(standing),
            Placed::Read(needs) => Step::Read(needs),
        }
    }

    /// Completed, and ours as far as the contracts show it. Where the consumer lacks a part of the inputs, or all of
    /// them, nothing but the transaction shows whose job it is; and to take it for another's could have it paid for
    /// twice.
    fn own_step(&self, lacking: Option<&'static str>, blocks: &Blocks) -> Step {
        let place = match self.place() {
            Placed::At(place) => place,
            Placed::Nowhere => {
                return Step::Done(unproven(
                    self.job,
                    format!(
                        "the JobManager says that the job is completed, and the last {} blocks hold no event of it",
                        self.reach
                    ),
                    "if that was long ago, raise Chain::with_log_reach; else check the RPC's logs",
                ));
            }
            Placed::Unknown(standing) => return Step::Done(standing),
            Placed::Read(needs) => return Step::Read(needs),
        };
        let shown = self.shown.iter().find(|shown| lacking.is_none() && *shown.output() == place.output);
        let mut needs = Vec::new();
        match blocks.hold(place.number, place.hash) {
            Some(true) => {}
            Some(false) => return Step::Moved,
            None => needs.push(Need::Blocks(place.number)),
        }
        if shown.is_none() && self.posted.is_none() {
            needs.push(Need::Posted(place.tx, place.number, place.hash));
        }
        if !needs.is_empty() {
            return Step::Read(needs);
        }
        let depth = blocks.depth(place.number);
        let result = match (shown, &self.posted) {
            (Some(shown), _) => Ok(shown.clone()),
            (None, Some(read)) => self.read_posted(&place, read),
            (None, None) => Err(unproven(self.job, "the transaction was not read", "")),
        };
        Step::Done(match (result, lacking) {
            (Ok(result), _) => {
                let finality = Finality::new(place.number, place.hash, place.tx, depth);
                Standing::Complete(Box::new(result.with_finality(Some(finality))))
            }
            (Err(_), Some(field)) if self.is_anothers() => Standing::Taken { field, depth },
            (Err(Standing::Unproven(error)), Some(lacking)) => {
                let what = format!("the consumer keeps no {lacking} of the job");
                let hint = "whether it is this job that is complete, only the transaction's calldata shows";
                match unproven(self.job, what, hint) {
                    Standing::Unproven(outer) => Standing::Unproven(outer.with_source(error)),
                    other => other,
                }
            }
            (Err(standing), _) => standing,
        })
    }

    /// Whether the transaction shows that the job which it completed is another's: it brought the result of another
    /// request under the same id, or of one that was made on chain.
    fn is_anothers(&self) -> bool {
        let transaction = self.posted.as_ref().and_then(|read| read.transaction.as_ref().ok()?.as_ref());
        let transaction = transaction.filter(|it| it.to == Some(self.job_manager));
        match transaction.and_then(|transaction| PostedCall::decode(&transaction.input)) {
            Some(PostedCall::Offchain { request, .. }) => request != *self.job.request() && self.has_id(&request),
            Some(PostedCall::Onchain) => true,
            None => false,
        }
    }

    /// Whether a request has the job's id.
    fn has_id(&self, request: &[u8]) -> bool {
        let id = match self.job.revision() {
            Revision::State => abi::state::OffchainJobRequest::abi_decode(request).map(|it| (it.nonce, it.consumer)),
            Revision::Relay => abi::relay::OffchainJobRequest::abi_decode(request).map(|it| (it.nonce, it.consumer)),
        };
        id.is_ok_and(|(nonce, consumer)| JobId::derive(nonce, consumer) == self.job.id())
    }

    /// The result in the transaction's calldata.
    fn read_posted(&self, place: &Place, read: &PostedResult) -> Result<Verified, Standing> {
        const HINT: &str = "the event has the output, but only the calldata has the operator's signature: wait until the node shows the result";
        let transaction = match &read.transaction {
            Ok(Some(transaction)) => transaction,
            Ok(None) => return Err(unproven(self.job, "the RPC does not know the transaction with the result", HINT)),
            Err(error) => return Err(Standing::Unproven(error.clone())),
        };
        let call = PostedCall::decode(&transaction.input).filter(|_| transaction.to == Some(self.job_manager));
        let Some(PostedCall::Offchain { result, signature, .. }) = call else {
            let what = "the result was not posted by a plain call of submitResultForOffchainJob";
            return Err(unproven(self.job, what, HINT));
        };
        let accepted: Vec<_> = read.operators.iter().flatten().copied().collect();
        if accepted.is_empty() {
            let error = read.operators.iter().find_map(|operator| operator.as_ref().err());
            return Err(error.map_or_else(
                || unproven(self.job, "the operator was not read", HINT),
                |error| Standing::Unproven(error.clone()),
            ));
        }
        let result = posted(self.job, result, signature, place.tx, &accepted);
        let result = result.map_err(|error| {
            let what = "the transaction's calldata does not prove the result";
            match unproven(self.job, what, HINT) {
                Standing::Unproven(outer) => Standing::Unproven(outer.with_source(error)),
                other => other,
            }
        })?;
        if *result.output() != place.output {
            return Err(unproven(self.job, "the event has another output than the transaction's calldata", HINT));
        }
        Ok(result)
    }

    /// Where the job was completed: in a transaction that was named, else where a search finds it.
    fn place(&self) -> Placed {
        let mut missing = Vec::new();
        for tx in &self.transactions {
            match self.receipts.get(tx) {
                None => missing.push(Need::Receipt(*tx)),
                Some(Ok(Some(receipt))) => {
                    if let Some(place) = self.event_in(receipt, *tx) {
                        return Placed::At(place);
                    }
                }
                // Whoever named it was wrong, or it was dropped.
                Some(Ok(None) | Err(_)) => {}
            }
        }
        if !missing.is_empty() {
            return Placed::Read(missing);
        }
        let log = match &self.search {
            Search { found: Some(log), .. } => log,
            Search { error: Some(error), .. } => return Placed::Unknown(Standing::Unproven(error.clone())),
            Search { next: Some(_), .. } => return Placed::Read(vec![Need::Logs]),
            _ => return Placed::Nowhere,
        };
        match self.receipts.get(&log.tx_hash) {
            None => Placed::Read(vec![Need::Receipt(log.tx_hash)]),
            Some(Err(error)) => Placed::Unknown(Standing::Unproven(error.clone())),
            Some(Ok(receipt)) => {
                let place = receipt.as_ref().and_then(|receipt| self.event_in(receipt, log.tx_hash));
                place.map_or_else(
                    || {
                        let what = "the receipt of the transaction with the job's event does not hold it, or says that it failed";
                        Placed::Unknown(unproven(self.job, what, "look again; if it stays so, the RPC is not to be trusted"))
                    },
                    Placed::At,
                )
            }
        }
    }

    /// The job's completion, if this receipt of a transaction that succeeded holds it.
    fn event_in(&self, receipt: &Receipt, tx: B256) -> Option<Place> {
        if !receipt.succeeded || receipt.tx_hash != tx {
            return None;
        }
        let of_receipt = |log: &&Log| log.block_hash == receipt.block_hash && log.tx_hash == tx;
        let output = receipt.logs.iter().rev().filter(of_receipt).find_map(|log| {
            let completes = log.topics.first() == Some(&JobManager::JobCompleted::SIGNATURE_HASH);
            let ours = completes && concerns(log, self.job_manager, self.job);
            ours.then(|| Bytes::abi_decode_validate(&log.data).ok()).flatten()
        })?;
        Some(Place { number: receipt.block_number, hash: receipt.block_hash, tx, output })
    }
}

enum Placed {
    At(Place),
    /// Everything was searched.
    Nowhere,
    Unknown(Standing),
    Read(Vec<Need>),
}

/// Whether a log is about the end of this job, and of this JobManager.
pub(in crate::chain) fn concerns(log: &Log, job_manager: Address, job: &SignedJob) -> bool {
    use JobManager::{JobCancelled, JobCompleted};
    match log.topics[..] {
        [event, id] => {
            let ends = event == JobCompleted::SIGNATURE_HASH || event == JobCancelled::SIGNATURE_HASH;
            ends && log.address == job_manager && id == B256::from(job.id())
        }
        _ => false,
    }
}
