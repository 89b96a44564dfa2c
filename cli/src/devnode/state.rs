//! A running node, and the file in which its state is kept.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use infinityvm_sdk::{Result, devnode::DevNode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{chain::Contracts, fault::FaultCommand};
use crate::{
    input,
    text::{refused, unreadable},
};

/// The version of the file.
const VERSION: u32 = 1;

/// What the state file holds. An anvil keeps its chain in a file of its own beside it.
#[derive(Serialize, Deserialize)]
pub struct StateFile {
    version: u32,
    /// What `DevNode::save` returned.
    pub node: String,
    /// The contracts on a chain that the node relays to, if it deployed them.
    pub contracts: Option<Contracts>,
}

impl StateFile {
    /// Reads it, if there is one.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        // As large as it is: it was written here.
        let name = path.display().to_string();
        let text = fs::read(path).map_err(|error| unreadable(&name, error))?;
        let file: Self = input::parsed(&text, &name, "the state of a development node")?;
        if file.version != VERSION {
            let found = file.version;
            return Err(refused(format!("{} has version {found}, and this is version {VERSION}", path.display()))
                .with_hint("use the ivm that wrote it, or another file to begin anew"));
        }
        Ok(Some(file))
    }
}

/// Keeps other nodes away from a state file, as the one that ended last would undo what the other wrote.
pub struct StateLock {
    _held: File,
}

impl StateLock {
    /// By a lock of the operating system on a file beside it, which goes with the process.
    pub fn take(state: &Path) -> Result<Self> {
        let path = input::beside(state, ".lock");
        let failed = |error| {
            refused(format!("the lock file {} cannot be taken", path.display()))
                .with_source(error)
                .with_hint("check that the folder is there, and that you may write to it")
        };
        let held = File::options().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match held.try_lock() {
            Ok(()) => Ok(Self { _held: held }),
            Err(TryLockError::WouldBlock) => {
                Err(refused(format!("another development node keeps its state in {}", state.display()))
                    .with_hint("end that one, or name another file with --state"))
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

/// A node that runs.
pub struct Session {
    pub node: DevNode,
    pub file: Option<PathBuf>,
    /// Of that file, as long as the node runs.
    pub _lock: Option<StateLock>,
    pub contracts: Option<Contracts>,
    /// Held while the state is written.
    pub saving: Mutex<()>,
    /// Whether the node relays to a chain that it does not simulate.
    pub real_chain: bool,
}

impl Session {
    pub fn apply(&self, fault: &FaultCommand) -> Result<Value> {
        if self.real_chain && fault.is_of_simulated_chain() {
            return Err(refused("this is done to the simulated chain, and the node relays to another one")
                .with_hint("ask that chain itself, such as an anvil by `cast rpc anvil_mine`"));
        }
        match (fault, &self.file) {
            (FaultCommand::Save, None) => {
                Err(refused("the node has no state file").with_hint("start it with --state FILE"))
            }
            (FaultCommand::Save, Some(path)) => {
                self.save()?;
                Ok(json!({ "file": path.display().to_string() }))
            }
            _ => fault.apply(&self.node),
        }
    }

    /// Writes the state down, if there is a file for it. Two that are asked for at once are written one after the other.
    pub fn save(&self) -> Result<()> {
        let Some(path) = &self.file else { return Ok(()) };
        let _alone = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let file = StateFile { version: VERSION, node: self.node.save()?, contracts: self.contracts };
        let text =
            serde_json::to_string(&file).map_err(|error| refused("the state cannot be written").with_source(error))?;
        input::write(path, &text)
    }
}
