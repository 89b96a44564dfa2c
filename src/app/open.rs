//! Reading the journal: at the start, after a take-over, and whenever it is not known what was written.

use std::{collections::BTreeMap, sync::atomic::AtomicU64};

use alloy_primitives::B256;
use infinityvm_stf::StateTransition;
use tokio::{sync::Notify, time::Instant};

use super::{
    core::{AppSession, Core, Durable, Rechain},
    cut::{BatchRoom, Queue, QueuedRequest},
    machine::{self, Machine, guarded},
    stop::AppStop,
};
use crate::{
    chain::At,
    error::{Error, ErrorKind, Result},
    outbox::store::{
        Fence,
        journal::{
            AppRow, BatchRow, BatchStage, EntryRow, EntrySource, JournalAct, Journaled, LogCursor, put_chunks,
            read_snapshot,
        },
    },
};

/// Entries that are read in one go.
const PAGE: u32 = 4_096;
/// Batches that are read in one go.
const BATCHES: u32 = 1_024;

/// Why a journal could not be opened.
#[derive(Debug)]
pub(super) enum NotOpened {
    Stop(AppStop),
    Fenced,
    /// The store, the chain, or how the server is set up.
    Failed(Error),
}

impl From<AppStop> for NotOpened {
    fn from(stop: AppStop) -> Self {
        Self::Stop(stop)
    }
}

impl From<Error> for NotOpened {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The journal of this app, made if there is none.
pub(super) async fn app<S: StateTransition>(core: &Core<S>) -> Result<AppRow> {
    let row = core.lane.journal().open_app(core.lane.id(), &core.name, core.initial_root).await?;
    let invalid = |what: String, hint: &'static str| {
        Err(Error::new(ErrorKind::InvalidConfig, what).with_endpoint(core.lane.place()).with_hint(hint))
    };
    if row.name != core.name {
        return invalid(
            format!("the consumer's lane has the journal of the app {:?}, and this one is {:?}", row.name, core.name),
            "one app a consumer: take its name, or another consumer",
        );
    }
    if row.first_root != core.initial_root {
        return invalid(
            format!("the app began with the root {}, and is given a state with {}", row.first_root, core.initial_root),
            "give it the state that it began with, however far it is by now",
        );
    }
    Ok(row)
}

/// Reads everything, and carries out again what no snapshot has. → what is shared, and the state after the last entry.
pub(super) async fn open<S: StateTransition>(
    core: &Core<S>,
    fence: Fence,
) -> Result<(AppSession<S>, Machine<S>), NotOpened> {
    let (journal, lane) = (core.lane.journal(), core.lane.id());
    let mut row = app(core).await?;
    let rechain = core.rechain.lock().take();
    if let Some(rechain) = rechain {
        let done = go_on_from(core, fence, &row, &rechain).await;
        if done.is_err() {
            *core.rechain.lock() = Some(rechain);
        }
        done?;
        row = app(core).await?;
    }
    let batches = live_batches(core).await?;
    let mut base: Machine<S> = match read_snapshot(journal, lane).await? {
        Some((snapshot, bytes)) => Machine::restore(&bytes, snapshot.place, snapshot.root)?,
        None => Machine::restore(&core.initial, 0, core.initial_root)?,
    };
    if base.place < row.trimmed {
        let note = format!("entries up to {} are gone, and the snapshot is of place {}", row.trimmed, base.place);
        return Err(AppStop::Journal { note }.into());
    }
    let snapshot = base.place;
    let ends: Vec<u64> = batches.values().map(|batch| batch.last).collect();
    let to_batched = |entry: &EntryRow| entry.place <= row.batched;
    let ends_here = |place: u64| place == row.batched || ends.binary_search(&place).is_ok();
    for_each(core, snapshot, to_batched, |entry| {
        if machine::counts(entry) {
            base.replay(entry, &machine::request::<S>(entry)?, ends_here(entry.place))
        } else {
            base.place = entry.place;
            Ok(())
        }
    })
    .await?;
    if base.place < row.batched {
        return Err(AppStop::Journal { note: format!("entries up to {} are missing", row.batched) }.into());
    }
    let mut live = base.again()?;
    let overhead = guarded(|| live.state.overhead());
    let note = |note: String| AppStop::NotDeterministic { place: base.place, note };
    let overhead = overhead.map_err(|panic| note(format!("`overhead` panicked: {panic}")))?;
    let room = BatchRoom::new(&core.policy, core.lane.client().revision(), overhead);
    let (mut queue, since) = (Queue::default(), Instant::now());
    for_each(
        core,
        base.place,
        |_| true,
        |entry| {
            if !machine::counts(entry) {
                live.place = entry.place;
                return Ok(());
            }
            let request = machine::request::<S>(entry)?;
            let cost = guarded(|| live.state.cost(&request));
            let cost = cost.map_err(|panic| note(format!("`cost` panicked: {panic}")))?;
            queue.push(QueuedRequest { place: entry.place, cost, since });
            live.replay(entry, &request, entry.place == row.last_place)
        },
    )
    .await?;
    if (live.place, live.root) != (row.last_place, row.root) {
        let note = format!("the journal ends at place {} with {}, and its entries do not", row.last_place, row.root);
        return Err(AppStop::Journal { note }.into());
    }
    let settled = batches.values().filter(|batch| batch.stage == BatchStage::Final).map(|batch| batch.last).max();
    let settled = settled.unwrap_or(0).max(row.trimmed);
    let durable = Durable { place: row.last_place, time: row.last_time, root: row.root, cursor: row.cursor };
    let batches: BTreeMap<_, _> = batches.into_iter().filter(|(_, batch)| batch.stage < BatchStage::Final).collect();
    if let Some(batch) = batches.values().find(|batch| batch.executed_root.is_some_and(|root| root != batch.after)) {
        return Err(differs(batch, batch.executed_root).into());
    }
    let session = AppSession {
        fence,
        base: base.into(),
        room,
        queue: queue.into(),
        durable: durable.into(),
        batches: batches.into(),
        last_batch: AtomicU64::new(row.last_batch),
        settled: AtomicU64::new(settled),
        snapshot: AtomicU64::new(snapshot),
        grown: Notify::new(),
        shown: None.into(),
        late: None.into(),
    };
    Ok((session, live))
}

/// The state before a place, from the last snapshot: none is newer than a batch that failed or ended elsewhere.
pub(super) async fn state_before<S: StateTransition>(core: &Core<S>, first: u64) -> Result<Machine<S>, NotOpened> {
    let mut machine: Machine<S> = match read_snapshot(core.lane.journal(), core.lane.id()).await? {
        Some((row, bytes)) => Machine::restore(&bytes, row.place, row.root)?,
        None => Machine::restore(&core.initial, 0, core.initial_root)?,
    };
    if machine.place >= first {
        let note = format!("the snapshot of place {} is newer than what comes after it", machine.place);
        return Err(AppStop::Journal { note }.into());
    }
    let before = |entry: &EntryRow| entry.place < first;
    for_each(core, machine.place, before, |entry| {
        if !machine::counts(entry) {
            machine.place = entry.place;
            return Ok(());
        }
        machine.replay(entry, &machine::request::<S>(entry)?, entry.place + 1 == first)
    })
    .await?;
    Ok(machine)
}

/// A batch that ended elsewhere.
pub(super) fn differs(batch: &BatchRow, executed: Option<B256>) -> AppStop {
    AppStop::RootDiffers { batch: batch.number, first: batch.first, expected: batch.after, executed, finding: None }
}

/// The batches that count, by their numbers.
pub(super) async fn live_batches<S: StateTransition>(core: &Core<S>) -> Result<BTreeMap<u64, BatchRow>> {
    let (mut batches, mut from) = (BTreeMap::new(), 0);
    loop {
        let page = core.lane.journal().batches(core.lane.id(), from, BATCHES).await?;
        let Some(last) = page.last() else { return Ok(batches) };
        from = last.number + 1;
        batches.extend(page.into_iter().filter(|batch| !batch.replaced).map(|batch| (batch.number, batch)));
    }
}

/// Does something with the entries beyond a place, in their order, as long as `wanted` says.
pub(super) async fn for_each<S: StateTransition>(
    core: &Core<S>,
    mut beyond: u64,
    wanted: impl Fn(&EntryRow) -> bool,
    mut each: impl FnMut(&EntryRow) -> Result<(), AppStop>,
) -> Result<(), NotOpened> {
    loop {
        let page = core.lane.journal().entries(core.lane.id(), beyond, PAGE).await?;
        if page.is_empty() {
            return Ok(());
        }
        for entry in &page {
            if entry.place != beyond + 1 {
                return Err(AppStop::Journal { note: format!("the entry at place {} is missing", beyond + 1) }.into());
            }
            if !wanted(entry) {
                return Ok(());
            }
            beyond = entry.place;
            each(entry)?;
        }
        // Other tasks have their turn.
        tokio::task::yield_now().await;
    }
}

/// Goes on from the state that the contract has, by a person's command.
async fn go_on_from<S: StateTransition>(
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
    let batches = live_batches(core).await?;
    let mut newest = batches.values().rev();
    let behind = newest.clone().find(|batch| batch.after == rechain.root);
    let behind = behind.or_else(|| newest.find(|batch| batch.stage >= BatchStage::Settled));
    let (behind, kept) = behind.map_or((0, 0), |batch| (batch.number, batch.last));
    let cursor = match rechain.logs_since {
        Some(since) => cursor_before(core, since, None).await?,
        None => given_up(core, kept.max(row.trimmed)).await?,
    };
    let snapshot = match put_chunks(journal, fence, rechain.snapshot.clone(), now).await? {
        Journaled::Snapshot(snapshot) => snapshot,
        other => return Err(not_written(&other)),
    };
    let (root, note) = (rechain.root, rechain.reason.clone());
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

/// The cursor before the first log beyond a place.
async fn given_up<S: StateTransition>(core: &Core<S>, place: u64) -> Result<Option<LogCursor>, NotOpened> {
    let mut first = None;
    let searching = |entry: &EntryRow| {
        if let (None, EntrySource::Chain { block, log_index }) = (first, entry.source) {
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
        Journaled::Unknown(error) => NotOpened::Failed(error.clone()),
        other => NotOpened::Stop(AppStop::Journal { note: format!("the journal does not take it: {other:?}") }),
    }
}
