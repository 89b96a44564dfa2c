//! Reading the journal: at the start, after a take-over, and whenever it is not known what was written.

use std::{collections::BTreeMap, sync::atomic::AtomicU64};

use infinityvm_stf::StateTransition;
use tokio::{sync::Notify, time::Instant};

use super::{
    core::{AppSession, Core, Durable},
    cut::{BatchRoom, Queue, QueuedRequest},
    machine::{self, Machine, guarded},
    reading::{NotOpened, differs, for_each, live_batches},
    rechain::{go_on_from, rechained},
    stop::AppStop,
};
use crate::{
    error::{Error, ErrorKind, Result},
    outbox::store::{
        Fence,
        journal::{AppRow, BatchStage, EntryRow, read_snapshot},
    },
};

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
    let given_up = rechained(core).await?.into_iter().map(|done| done.given_up).collect();
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
    let note = |note: String| AppStop::NotDeterministic { place: base.place, note };
    let overhead = base.overhead()?;
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
    let last_final = batches.values().rfind(|batch| batch.stage == BatchStage::Final);
    let (final_before, settled) = (last_final.map(|batch| batch.before), last_final.map_or(0, |batch| batch.last));
    let settled = settled.max(row.trimmed);
    let durable = Durable { place: row.last_place, time: row.last_time, root: row.root, cursor: row.cursor };
    let batches: BTreeMap<_, _> = batches.into_iter().filter(|(_, batch)| batch.stage < BatchStage::Final).collect();
    if let Some(batch) = batches.values().find(|batch| batch.executed_root.is_some_and(|root| root != batch.after)) {
        return Err(differs(batch, batch.executed_root).into());
    }
    let session = AppSession {
        fence,
        base: base.into(),
        room: room.into(),
        queue: queue.into(),
        durable: durable.into(),
        batches: batches.into(),
        given_up,
        last_batch: AtomicU64::new(row.last_batch),
        final_before: final_before.into(),
        settled: AtomicU64::new(settled),
        snapshot: AtomicU64::new(snapshot),
        grown: Notify::new(),
        shown: None.into(),
        late: None.into(),
    };
    Ok((session, live))
}
