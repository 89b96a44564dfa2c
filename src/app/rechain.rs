//! Going on from another state than the journal's, by a person's command. The lane's log keeps what was done: the
//! command is often still there at the next start, and is not carried out a second time.

use std::ops::Range;

use alloy_primitives::B256;
use infinityvm_stf::StateTransition;

use super::{
    core::{Core, Rechain},
    reading::{NotOpened, for_each, live_batches},
    stop::AppStop,
};
use crate::{
    chain::At,
    error::{Error, ErrorKind, Result},
    outbox::store::{
        Fence,
        journal::{AppRow, BatchStage, EntryRow, EntrySource, JournalAct, Journaled, LogCursor, put_chunks},
    },
};

/// What was done once, as the lane's log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rechained {
    reason: String,
    /// Of the state from which the app goes on.
    root: B256,
    /// The places whose answers are not proven.
    pub(super) given_up: Range<u64>,
}

impl Rechained {
    fn note(&self) -> String {
        let Self { reason, root, given_up: Range { start, end } } = self;
        format!("{reason} [root {root}, places {start}..{end} given up]")
    }

    /// Nothing if it is no such note.
    fn read(note: &str) -> Option<Self> {
        let (reason, done) = note.strip_suffix(" given up]")?.rsplit_once(" [root ")?;
        let (root, places) = done.split_once(", places ")?;
        let (start, end) = places.split_once("..")?;
        let given_up = start.parse().ok()?..end.parse().ok()?;
        Some(Self { reason: reason.to_owned(), root: root.parse().ok()?, given_up })
    }
}

/// What was done so far, in its order.
pub(super) async fn rechained<S: StateTransition>(core: &Core<S>) -> Result<Vec<Rechained>> {
    let notes = core.lane.journal().rechained(core.lane.id()).await?;
    Ok(notes.iter().filter_map(|note| Rechained::read(note)).collect())
}

/// Goes on from the state that the contract has, by a person's command.
pub(super) async fn go_on_from<S: StateTransition>(
    core: &Core<S>,
    fence: Fence,
    row: &AppRow,
    rechain: &Rechain,
) -> Result<(), NotOpened> {
    let (journal, now) = (core.lane.journal(), core.lane.now());
    if row.root == rechain.root {
        let Some(cursor) = logs_again(core, row, rechain).await? else { return Ok(()) };
        let act = JournalAct::Append { after: row.last_place, entries: Vec::new(), cursor: Some(cursor) };
        return match journal.write(fence, act).await? {
            Journaled::Done => Ok(()),
            other => Err(not_written(&other)),
        };
    }
    let earlier = rechained(core).await?;
    if earlier.iter().any(|done| (done.root, &done.reason) == (rechain.root, &rechain.reason)) {
        return Ok(());
    }
    let client = core.lane.client();
    if let Some(chain) = client.chain()
        && let Some(found) = chain.latest_state(core.lane.config().consumer(), client.revision()).await?
        && found != rechain.root
    {
        let what = format!("the state to go on from has the root {}, and the contract has {found}", rechain.root);
        let error = Error::new(ErrorKind::InvalidConfig, what)
            .with_hint("give AppServerBuilder::rechain the state that the contract has the root of");
        return Err(error.into());
    }
    let (batches, root) = (live_batches(core).await?, rechain.root);
    let mut newest = batches.values().rev();
    let reached = newest.clone().find(|batch| batch.after == root || batch.executed_root == Some(root));
    // Behind which batch all others are given up, the last place that is proven, and the last one that the state has.
    let (behind, proven, kept) = match reached.or_else(|| newest.find(|batch| batch.stage >= BatchStage::Settled)) {
        // The node's program has carried it out, to another end than the server.
        Some(batch) if batch.after != root && batch.executed_root == Some(root) => {
            (batch.number - 1, batch.first - 1, batch.last)
        }
        Some(batch) => (batch.number, batch.last, batch.last),
        None => (0, 0, 0),
    };
    let cursor = match rechain.logs_since {
        Some(since) => cursor_before(core, since, None).await?,
        None => given_up(core, kept.max(row.trimmed), &earlier).await?,
    };
    let snapshot = match put_chunks(journal, fence, rechain.snapshot.clone(), now).await? {
        Journaled::Snapshot(snapshot) => snapshot,
        other => return Err(not_written(&other)),
    };
    let given_up = proven.max(row.trimmed) + 1..row.last_place + 1;
    let note = Rechained { reason: rechain.reason.clone(), root, given_up }.note();
    match journal.write(fence, JournalAct::Rechain { snapshot, behind, root, cursor, note, now }).await? {
        Journaled::Done => Ok(()),
        other => Err(not_written(&other)),
    }
}

/// Where logs are read on, if the journal's own cursor is of a block that the chain does not have any more, and it was
/// said from which block on.
async fn logs_again<S: StateTransition>(core: &Core<S>, row: &AppRow, rechain: &Rechain) -> Result<Option<LogCursor>> {
    let (Some(since), Some(cursor), Some(chain)) = (rechain.logs_since, row.cursor, core.lane.client().chain()) else {
        return Ok(None);
    };
    let mut batch = chain.batch();
    let block = batch.block(At::Number(cursor.block));
    let stands = batch.send().await?.take(block)?.is_none_or(|block| block.hash == cursor.block_hash);
    if stands { Ok(None) } else { cursor_before(core, since, None).await }
}

/// The cursor before the first log beyond a place. What an earlier command has given up was read again since then.
async fn given_up<S: StateTransition>(
    core: &Core<S>,
    place: u64,
    earlier: &[Rechained],
) -> Result<Option<LogCursor>, NotOpened> {
    let mut first = None;
    let searching = |entry: &EntryRow| {
        if let (None, EntrySource::Chain { block, log_index }) = (first, entry.source)
            && !earlier.iter().any(|done| done.given_up.contains(&entry.place))
        {
            first = Some((block, log_index));
        }
        Ok(())
    };
    for_each(core, place, |_| true, searching).await?;
    match first {
        Some((block, log_index)) => Ok(cursor_before(core, block, Some(log_index)).await?),
        None => Ok(None),
    }
}

/// The cursor right before a block, or before a log in it.
async fn cursor_before<S: StateTransition>(
    core: &Core<S>,
    block: u64,
    log_index: Option<u64>,
) -> Result<Option<LogCursor>> {
    let Some(chain) = core.lane.client().chain() else { return Ok(None) };
    let (number, log_index) = match log_index.and_then(|index| index.checked_sub(1)) {
        Some(before) => (block, before),
        None => (block.saturating_sub(1), LogCursor::WHOLE),
    };
    let mut batch = chain.batch();
    let there = batch.block(At::Number(number));
    let there = batch.send().await?.take(there)?;
    let block_hash = there.map(|block| block.hash).ok_or_else(|| {
        Error::new(ErrorKind::Chain, format!("the chain has no block {number}, behind which its logs are read again"))
            .with_retryable(true)
    })?;
    Ok(Some(LogCursor { block_hash, block: number, log_index }))
}

fn not_written(journaled: &Journaled) -> NotOpened {
    match journaled {
        Journaled::Fenced => NotOpened::Fenced,
        Journaled::Unknown { error, .. } => NotOpened::Failed(error.clone()),
        other => NotOpened::Stop(AppStop::Journal { note: format!("the journal does not take it: {other:?}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_of_a_command_is_read_again() {
        for (reason, given_up) in [("by hand", 4..9), ("", 1..1), ("as [root 1, places 1..2 given up]", 0..u64::MAX)] {
            let done = Rechained { reason: reason.to_owned(), root: B256::repeat_byte(7), given_up };
            assert_eq!(Rechained::read(&done.note()), Some(done));
        }
        for other in ["", "by hand", "by hand [root 7, places 1..2 given up]", "a [root 0x, places 1.. given up]"] {
            assert_eq!(Rechained::read(other), None, "{other}");
        }
    }
}
