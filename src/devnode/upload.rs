//! SubmitProgram and ContainsProgram: what a node makes of a program's file. The revisions have little in common here.

use alloy_primitives::{Bytes, hex};
use tonic::Status;

use super::{intake::IntakeRefusal, node::NodeCore, program, store::World};
use crate::job::Revision;

/// The virtual machine that a program is for, by the numbers of its revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vm {
    /// The one that nodes of this revision run: SP1 in the Relay revision, RISC Zero in the State revision.
    Own,
    /// SP1 in the State revision, which has a number for it and nothing behind that.
    Foreign,
    /// No virtual machine has this number.
    Unknown,
}

/// A program as it came; `given_id` is of the Relay revision.
pub(super) struct RawProgram {
    pub elf: Bytes,
    pub given_id: Option<Bytes>,
    pub vm: Vm,
}

fn not_submitted(reason: &str) -> IntakeRefusal {
    Status::internal(format!("failed to submit ELF: {reason}")).into()
}

impl NodeCore {
    pub(super) fn submit_program(&self, raw: &RawProgram) -> Result<Bytes, IntakeRefusal> {
        if raw.elf.is_empty() {
            return Err(Status::invalid_argument("program elf must not be empty").into());
        }
        if raw.vm == Vm::Unknown {
            return Err(not_submitted("invalid VM type"));
        }
        self.update(|world| match self.revision {
            Revision::State => world.upload_state(raw),
            _ => world.upload_relay(raw),
        })
    }

    pub(super) fn contains_program(&self, id: &[u8]) -> bool {
        self.lock().known.contains_key(id)
    }
}

impl World {
    fn upload_state(&mut self, raw: &RawProgram) -> Result<Bytes, IntakeRefusal> {
        // Whatever the file holds: it is not looked at.
        if raw.vm == Vm::Foreign {
            return Err(IntakeRefusal::Die);
        }
        if let Some(fault) = elf_fault(&raw.elf).filter(|_| !raw.elf.starts_with(program::COMBINED_MAGIC)) {
            return Err(not_submitted(&format!(
                "failed to create ELF in zkvm executor: failed to derive verifying key Risc0 error: Elf parse error: {fault}"
            )));
        }
        let id = program::program_id(&raw.elf);
        if self.known.contains_key(&id) {
            // The node's error is made of itself, so all is said twice.
            let once = format!("elf with verifying key {:?} already exists", hex::encode(&id));
            return Err(not_submitted(&format!("elf with verifying key {once} already exists")));
        }
        Ok(self.keep(id))
    }

    fn upload_relay(&mut self, raw: &RawProgram) -> Result<Bytes, IntakeRefusal> {
        let given = raw.given_id.clone().unwrap_or_default();
        // Before the file is looked at, as deriving its id takes long: so any file exists already under an id that
        // does.
        if self.known.contains_key(&given) {
            return Err(not_submitted(&format!("elf with program ID {} already exists", hex::encode(&given))));
        }
        if elf_fault(&raw.elf).is_some() {
            return Err(IntakeRefusal::Die);
        }
        let derived = program::program_id(&raw.elf);
        if given != derived {
            return Err(not_submitted(&format!(
                "given program ID does not match derived program ID: given: {}, derived: {}",
                hex::encode(&given),
                hex::encode(&derived)
            )));
        }
        Ok(self.keep(derived))
    }

    fn keep(&mut self, id: Bytes) -> Bytes {
        let program = self.loadable.get(&id).cloned();
        self.known.insert(id.clone(), program);
        id
    }
}

/// Why these bytes are no ELF, in the words of the reader that the zkVM has. More than the magic bytes is not looked
/// at: the files that the dev node makes have nothing else.
fn elf_fault(elf: &[u8]) -> Option<String> {
    const IDENT_LEN: usize = 16;
    match elf.first_chunk::<4>() {
        Some(magic) if magic == program::ELF_MAGIC => None,
        Some(magic) if elf.len() >= IDENT_LEN => Some(format!("Invalid Magic Bytes: {magic:X?}")),
        _ => Some(format!("Could not read bytes in range [0x0, {IDENT_LEN:#X})")),
    }
}
