//! Which request of a batch the compiled program carries out otherwise than the server, found by running it here.

use std::sync::Arc;

use alloy_primitives::B256;
use infinityvm_stf::StateTransition;
use tokio::task::spawn_blocking;

use super::{
    core::{Core, RunElf},
    freeze::{batch_of, inputs_of},
    machine::{self, Machine, guarded},
    reading::{NotOpened, for_each, state_before},
    stop::{AppStop, ElfFinding},
};
use crate::{error::Error, outbox::store::journal::EntryRow};

/// The same stop with what the compiled program says about it. Nothing if it is another kind of stop, or if there is no
/// executor.
pub(super) async fn explain<S: StateTransition>(core: &Core<S>, stop: &AppStop) -> Option<AppStop> {
    let mut stop = stop.clone();
    let (AppStop::RootDiffers { batch, finding, .. }, Some(run)) = (&mut stop, &core.executor) else { return None };
    let found = first_that_differs(core, run, *batch).await;
    *finding = Some(Box::new(found.unwrap_or_else(|why| ElfFinding::Unknown { note: why.0 })));
    Some(stop)
}

/// Why nothing was found.
struct NotFound(String);

impl From<Error> for NotFound {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

impl From<NotOpened> for NotFound {
    fn from(not_read: NotOpened) -> Self {
        Self(match not_read {
            NotOpened::Stop(stop) => stop.to_string(),
            NotOpened::Fenced => "another instance has the lane".to_owned(),
            NotOpened::Failed(error) => error.to_string(),
        })
    }
}

async fn first_that_differs<S: StateTransition>(
    core: &Core<S>,
    run: &RunElf,
    number: u64,
) -> Result<ElfFinding, NotFound> {
    let batches = core.lane.journal().batches(core.lane.id(), number, 1).await?;
    let batch = batches.into_iter().find(|batch| batch.number == number);
    let batch = batch.ok_or_else(|| NotFound(format!("the journal has no batch {number} any more")))?;
    let mut entries: Vec<EntryRow> = Vec::new();
    for_each(
        core,
        batch.first - 1,
        |entry| entry.place <= batch.last,
        |entry| {
            entries.extend(machine::counts(entry).then(|| entry.clone()));
            Ok(())
        },
    )
    .await?;
    let parts = Parts {
        run,
        number,
        cycles: batch.max_cycles,
        machine: state_before(core, batch.first).await?.into(),
        entries: entries.into(),
    };
    // So many of its requests give the server's root, and so many do not.
    let (mut same, mut other) = (0, parts.entries.len());
    let mut found = parts.root_after(other).await?;
    if found == Some(batch.after) {
        return Ok(ElfFinding::Agrees);
    }
    while other - same > 1 {
        let middle = same + (other - same) / 2;
        let root = parts.root_after(middle).await?;
        if root == Some(parts.entries[middle - 1].root) {
            same = middle;
        } else {
            (other, found) = (middle, root);
        }
    }
    let entry = parts.entries.get(same).ok_or_else(|| NotFound("the batch has no requests".to_owned()))?;
    Ok(ElfFinding::Differs { place: entry.place, expected: entry.root, found })
}

/// A batch, of which parts are run.
struct Parts<'a, S: StateTransition> {
    run: &'a RunElf,
    number: u64,
    cycles: u64,
    /// The state before it.
    machine: Arc<Machine<S>>,
    /// Its requests.
    entries: Arc<[EntryRow]>,
}

impl<S: StateTransition> Parts<'_, S> {
    /// The root after so many of the requests, as the compiled program gives it.
    async fn root_after(&self, count: usize) -> Result<Option<B256>, NotFound> {
        let (number, machine, entries) = (self.number, Arc::clone(&self.machine), Arc::clone(&self.entries));
        let inputs = spawn_blocking(move || {
            let batch = batch_of(&machine, number, &entries[..count]).map_err(|stop| stop.to_string())?;
            inputs_of(&machine, &batch)
        });
        let inputs = inputs.await.map_err(|_| NotFound("the process ends".to_owned()))?.map_err(NotFound)?;
        let output = (self.run)(inputs, self.cycles).await.map_err(NotFound)?;
        Ok(guarded(|| S::output_root(&output)).ok().flatten().map(B256::from))
    }
}
