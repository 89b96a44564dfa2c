//! A contract's logs from block to block: all of them, each once, and none of a block that may yet be replaced.
//!
//! Whoever follows logs acts on them, so that one that is missing is as bad as one that never was. An RPC shows either
//! without a word: a server of it that lacks a block has no logs of it, and a block may be replaced between two
//! answers. So a range is read twice, in two round trips of one RPC, each of which asks before and after for the last
//! block of the range, and for the block up to which was read before. Both must show the same.

use alloy_primitives::{Address, B256};

use super::{
    Chain, OneRpc,
    batch::Batch,
    reader::{At, Block, Log, LogFilter},
    snapshot::{Snapshot, restless},
};
use crate::error::{Error, ErrorKind, Result};

/// How often the range is made smaller in one look.
const RANGES: u32 = 20;

/// How deep a block must be for its logs to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogDepth {
    /// The chain's consensus does not take it back.
    Finalized,
    /// So many blocks from it to the latest, both counted; 0 counts as 1.
    Confirmations(u64),
}

/// Whose logs are followed, and how deep.
#[derive(Clone, Debug)]
pub(crate) struct FollowedContract {
    pub(crate) address: Address,
    /// As in a [`LogFilter`].
    pub(crate) topics: Vec<Vec<B256>>,
    pub(crate) depth: LogDepth,
}

/// A block up to which logs were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadBlock {
    pub(crate) number: u64,
    pub(crate) hash: B256,
}

/// What a look shows.
#[derive(Debug)]
pub(crate) enum FollowedLogs {
    /// All logs from the block on that was asked for, up to this one, in their order. Each has an index.
    Read { logs: Vec<Log>, to: Block, depth: ChainDepth },
    /// No further block is deep enough, or the RPC has not come to the block up to which was read.
    Nothing { depth: ChainDepth },
    /// The block up to which was read is another one now.
    Replaced { found: B256 },
}

/// How far the chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChainDepth {
    /// The latest block.
    pub(crate) head: Block,
    /// The number of the last one that is deep enough, if there is one.
    pub(crate) deep: Option<u64>,
}

/// Reads the logs from a block on, as many as the RPC gives in one answer. `read`: the block up to which was read
/// before, which must still be there.
///
/// # Errors
/// [`ErrorKind::Chain`] if the chain cannot be read, and, retryable, if it changes meanwhile or two looks differ.
/// [`ErrorKind::WrongChain`] if it is not the one that is meant.
pub(crate) async fn followed_logs(
    chain: &Chain,
    contract: &FollowedContract,
    from: u64,
    read: Option<ReadBlock>,
) -> Result<FollowedLogs> {
    chain.verdict(|one| async move { look(&one, contract, from, read).await }).await
}

async fn look(one: &OneRpc, contract: &FollowedContract, from: u64, read: Option<ReadBlock>) -> Result<FollowedLogs> {
    let finalized = contract.depth == LogDepth::Finalized;
    let asked = |batch: &mut Batch| {
        let before = read.map(|read| batch.block(At::Number(read.number)));
        (before, finalized.then(|| batch.block(At::Finalized)), one.binding().map(|_| batch.identity()))
    };
    let mut glance = one.glance(asked).await?;
    let (before, finalized, identity) = glance.asked;
    if let (Some(binding), Some(identity)) = (one.binding(), identity) {
        binding.check_identity(identity.take(&mut glance.answers)?)?;
    }
    let head = glance.head;
    let deep = match (finalized, contract.depth) {
        (Some(finalized), _) => glance.answers.take(finalized)?.map(|block| block.number.min(head.number)),
        (None, LogDepth::Confirmations(blocks)) => head.number.saturating_add(1).checked_sub(blocks.max(1)),
        (None, LogDepth::Finalized) => None,
    };
    let depth = ChainDepth { head, deep };
    if let (Some(read), Some(before)) = (read, before) {
        match glance.answers.take(before)? {
            Some(block) if block.hash == read.hash => {}
            Some(_) => return replaced(one, read).await,
            None if head.number < read.number => return Ok(FollowedLogs::Nothing { depth }),
            None => return Err(restless(one)),
        }
    }
    let Some(deep) = deep.filter(|deep| *deep >= from) else { return Ok(FollowedLogs::Nothing { depth }) };
    for _ in 0..RANGES {
        let to = deep.min(from.saturating_add(one.log_range().max(1) - 1));
        let Some(first) = stretch(one, contract, (from, to), read, None).await? else { continue };
        let newest = first.logs.last().map(|log| ReadBlock { number: log.block_number, hash: log.block_hash });
        match stretch(one, contract, (from, to), read, newest).await? {
            Some(second) if second == first => {
                return Ok(FollowedLogs::Read { logs: second.logs, to: second.to, depth });
            }
            _ => return Err(restless(one)),
        }
    }
    Err(restless(one))
}

/// Bad news: it counts once a further look shows it, too.
async fn replaced(one: &OneRpc, read: ReadBlock) -> Result<FollowedLogs> {
    let mut glance = one.glance(|batch| batch.block(At::Number(read.number))).await?;
    match glance.answers.take(glance.asked)? {
        Some(block) if block.hash != read.hash => Ok(FollowedLogs::Replaced { found: block.hash }),
        _ => Err(restless(one)),
    }
}

/// The logs of some blocks, and the last of the blocks.
#[derive(Debug, PartialEq, Eq)]
struct Stretch {
    logs: Vec<Log>,
    to: Block,
}

/// One look at a range. Nothing if the RPC refuses to show as many blocks. `newest`: the last block that has logs, by
/// the look before.
async fn stretch(
    one: &OneRpc,
    contract: &FollowedContract,
    (from, to): (u64, u64),
    read: Option<ReadBlock>,
    newest: Option<ReadBlock>,
) -> Result<Option<Stretch>> {
    let FollowedContract { address, topics, .. } = contract;
    let ask = |batch: &mut Batch| {
        let before = batch.block(At::Number(to));
        let logs = batch.logs(LogFilter::new(*address, topics.clone(), from, to));
        let after = batch.block(At::Number(to));
        let known = [read, newest].into_iter().flatten();
        let known: Vec<_> = known.map(|known| (known.hash, batch.block(At::Number(known.number)))).collect();
        (before, logs, after, known)
    };
    let Snapshot { asked: (before, logs, after, known), mut answers, .. } = one.glance(ask).await?;
    let logs = answers.take(logs);
    if one.learns_of_logs(to - from + 1, &logs) {
        return Ok(None);
    }
    let mut logs = logs?;
    let (Some(before), Some(block)) = (answers.take(before)?, answers.take(after)?) else { return Err(restless(one)) };
    let mut stands = before.hash == block.hash;
    for (hash, there) in known {
        stands &= answers.take(there)?.is_some_and(|there| there.hash == hash);
    }
    // Of the last block itself it is known which one it is.
    stands &= logs.iter().all(|log| log.block_number != to || log.block_hash == block.hash);
    if !stands {
        return Err(restless(one));
    }
    if let Some(log) = logs.iter().find(|log| log.address != *address || !(from..=to).contains(&log.block_number)) {
        return Err(nonsense(one, format!("the RPC gives a log that was not asked for: {log:?}")));
    }
    if logs.iter().any(|log| log.index.is_none()) {
        let what = "the RPC does not say which place a log has in its block".to_owned();
        return Err(nonsense(one, what).with_hint("a ChainReader of your own says it with Log::with_index"));
    }
    logs.sort_by_key(|log| (log.block_number, log.index));
    logs.dedup();
    if logs.windows(2).any(|two| (two[0].block_number, two[0].index) == (two[1].block_number, two[1].index)) {
        return Err(restless(one));
    }
    Ok(Some(Stretch { logs, to: block }))
}

fn nonsense(one: &OneRpc, what: String) -> Error {
    Error::new(ErrorKind::Chain, what).with_endpoint(one.reader().endpoint())
}
