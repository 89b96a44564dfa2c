//! Which request of a batch the compiled program carries out otherwise than the server, found by running it here.

use std::sync::Arc;

use alloy_primitives::B256;
use infinityvm_stf::{Batch, Inputs, StateTransition};
use tokio::task::spawn_blocking;

use super::{
    core::Core,
    machine::{self, Machine, guarded},
    open::{NotOpened, for_each, state_before},
    stop::{AppStop, ElfFinding},
};
use crate::{error::Error, outbox::store::journal::EntryRow};

/// The same stop with what the compiled program says about it. Nothing if it is another kind of stop, or if there is no
/// executor.
pub(super) async fn explain<S: StateTransition>(core: &Core<S>, stop: &AppStop) -> Option<AppStop> {
    let mut stop = stop.clone();
    let (AppStop::RootDiffers { batch, finding, .. }, Some(_)) = (&mut stop, &core.executor) else { return None };
    let found = first_that_differs(core, *batch).await;
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

async fn first_that_differs<S: StateTransition>(core: &Core<S>, number: u64) -> Result<ElfFinding, NotFound> {
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
        core,
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
    core: &'a Core<S>,
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
        let Some(run) = &self.core.executor else { return Err(NotFound("there is no executor".to_owned())) };
        let (number, machine, entries) = (self.number, Arc::clone(&self.machine), Arc::clone(&self.entries));
        let inputs = spawn_blocking(move || inputs(number, &machine, &entries[..count])).await;
        let inputs = inputs.map_err(|_| NotFound("the process ends".to_owned()))?.map_err(NotFound)?;
        let output = run(inputs, self.cycles).await.map_err(NotFound)?;
        Ok(guarded(|| S::output_root(&output)).ok().flatten().map(B256::from))
    }
}

/// The program's inputs for a batch of these requests.
fn inputs<S: StateTransition>(number: u64, machine: &Machine<S>, entries: &[EntryRow]) -> Result<Inputs, String> {
    let request = |entry| Ok((machine::context(entry), machine::request::<S>(entry)?));
    let entries: Result<_, AppStop> = entries.iter().map(request).collect();
    let batch = Batch { number, before: machine.root.0, entries: entries.map_err(|stop| stop.to_string())? };
    guarded(|| machine.state.inputs(&batch)).map_err(|panic| format!("`inputs` panicked: {panic}"))
}
