//! Making a batch of requests: its inputs are fixed, and nothing is sent that the program does not agree with.

use alloy_primitives::{B256, Bytes};
use infinityvm_stf::{Batch, Inputs, StateTransition};

use super::{
    batches::job,
    core::Core,
    machine::{self, Machine, guarded},
    stop::AppStop,
};
use crate::{
    error::ErrorKind,
    outbox::store::journal::{BatchInputs, EntryRow, NewBatch},
};

/// Why entries are no batch.
#[derive(Debug)]
pub(super) enum NoBatch {
    /// Their inputs are larger than a job may be.
    TooLarge(String),
    Stop(AppStop),
}

/// The batch of these entries. `machine` is the state before it, and the one after it if there is a batch.
pub(super) fn freeze<S: StateTransition>(
    core: &Core<S>,
    machine: &mut Machine<S>,
    number: u64,
    entries: &[EntryRow],
    max_cycles: u64,
) -> Result<NewBatch, NoBatch> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return Err(NoBatch::Stop(AppStop::Journal { note: "a batch without entries".to_owned() }));
    };
    let (before, after) = (machine.root, last.root);
    let disagree = |note: String| NoBatch::Stop(AppStop::ProgramDiffers { first: first.place, last: last.place, note });
    let batch = batch_of(machine, number, entries).map_err(NoBatch::Stop)?;
    let inputs = inputs_of(machine, &batch).map_err(disagree)?;
    let stored = BatchInputs {
        onchain: Bytes::copy_from_slice(&inputs.onchain),
        offchain: Bytes::copy_from_slice(&inputs.offchain),
        state: inputs.state.as_deref().map(Bytes::copy_from_slice),
    };
    if let Err(error) = job(core, &stored, max_cycles) {
        return Err(match error.kind() {
            ErrorKind::TooLarge => NoBatch::TooLarge(error.to_string()),
            _ => disagree(format!("its job cannot be built: {error}")),
        });
    }
    let found = run::<S>(&inputs).map_err(disagree)?;
    if found != after {
        return Err(disagree(format!("the program ends with the root {found}, and the server has {after}")));
    }
    let mut replayed = batch.entries.iter();
    for (entry, at_end) in entries.iter().map(|entry| (entry, entry.place == last.place)) {
        if !machine::counts(entry) {
            machine.place = entry.place;
            continue;
        }
        let Some((_, request)) = replayed.next() else { break };
        machine.replay(entry, request, at_end).map_err(NoBatch::Stop)?;
    }
    Ok(NewBatch { first: first.place, last: last.place, before, after, max_cycles, inputs: stored, ticket: None })
}

/// What the program is told of these entries. `machine` is the state before them.
pub(super) fn batch_of<S: StateTransition>(
    machine: &Machine<S>,
    number: u64,
    entries: &[EntryRow],
) -> Result<Batch<S::Request>, AppStop> {
    let request = |entry| Ok((machine::context(entry), machine::request::<S>(entry)?));
    let entries = entries.iter().filter(|entry| machine::counts(entry)).map(request).collect::<Result<_, AppStop>>()?;
    Ok(Batch { number, before: machine.root.0, entries })
}

/// The program's inputs for a batch, or why the app makes none.
pub(super) fn inputs_of<S: StateTransition>(machine: &Machine<S>, batch: &Batch<S::Request>) -> Result<Inputs, String> {
    guarded(|| machine.state.inputs(batch)).map_err(|panic| format!("`inputs` panicked: {panic}"))
}

/// The root that the program gives for these inputs, run here.
fn run<S: StateTransition>(inputs: &Inputs) -> Result<B256, String> {
    let output = guarded(|| S::program(inputs)).map_err(|panic| format!("the program panicked: {panic}"))?;
    let output = output.map_err(|error| format!("the program does not take its inputs: {error}"))?;
    let root = guarded(|| S::output_root(&output)).map_err(|panic| format!("`output_root` panicked: {panic}"))?;
    root.map(B256::from).ok_or_else(|| "`output_root` finds no root in the program's output".to_owned())
}
