//! The node as it is written down: what a restart leaves, and the simulated chain.

use std::collections::HashMap;

use alloy_primitives::{B256, Bytes};
use serde::{Deserialize, Serialize};

use super::{
    abi::Request,
    ledger::{SavedLedger, SimLedger},
    record::{FAILURES, JobState, Record},
    store::World,
};
use crate::{
    error::{Error, ErrorKind, Result},
    job::Revision,
};

/// The version of the form.
const VERSION: u32 = 1;

/// A node's state. Records and programs are sorted, so that equal states have equal texts.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SavedNode {
    version: u32,
    revision: Revision,
    /// Nothing of a node that relays to a real chain.
    chain: Option<SavedLedger>,
    relayer_gap: bool,
    records: Vec<SavedRecord>,
    /// The ids of those that were uploaded or registered.
    programs: Vec<Bytes>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SavedRecord {
    request: Bytes,
    signature: Bytes,
    result: Bytes,
    operator_signature: Bytes,
    state: SavedState,
    failure: Option<String>,
    tx_hash: Option<B256>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SavedState {
    Pending,
    Done,
    Failed,
    Relayed,
}

fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, format!("the dev node's saved state cannot be loaded: {}", why.into()))
        .with_hint("give the text that DevNode::save returned, to a node of the same revision")
}

impl SavedNode {
    pub(super) fn of(world: &World) -> Self {
        let mut records: Vec<_> = world.records.values().collect();
        records.sort_unstable_by_key(|record| record.id);
        let mut programs: Vec<_> = world.known.keys().cloned().collect();
        programs.sort_unstable();
        Self {
            version: VERSION,
            revision: world.revision,
            chain: world.simulated.then(|| world.chain.save()),
            relayer_gap: world.account.has_gap(),
            records: records.into_iter().map(|record| SavedRecord::of(world.revision, record)).collect(),
            programs,
        }
    }

    pub(super) fn to_text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "the dev node's state cannot be written down").with_source(error)
        })
    }

    /// Reads a state, for a node that speaks this revision and has a simulated chain, or none.
    pub(super) fn read(text: &str, revision: Revision, simulated: bool) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let no_json = |error: serde_json::Error| invalid("it is not the state of a dev node").with_source(error);
        let Version { version } = serde_json::from_str(text).map_err(no_json)?;
        if version != VERSION {
            return Err(invalid(format!("it has version {version}, and this release knows version {VERSION}")));
        }
        let saved: Self = serde_json::from_str(text).map_err(no_json)?;
        if saved.revision != revision {
            return Err(invalid(format!("it is of a {} node, and this one is a {revision} node", saved.revision)));
        }
        match (&saved.chain, simulated) {
            (Some(_), false) => Err(invalid("it has a simulated chain, and this node relays to a real one")),
            (None, true) => Err(invalid("its node relayed to a real chain, and this one has a simulated chain")),
            _ => Ok(saved),
        }
    }

    pub(super) fn load_into(self, world: &mut World) -> Result<()> {
        if let Some(chain) = self.chain {
            world.chain = SimLedger::load(self.revision, chain);
        }
        if self.relayer_gap {
            world.account.leave_gap();
            world.stats.relayer_gap = world.account.has_gap();
        }
        world.known = self.programs.into_iter().map(|id| (id, None)).collect();
        let records = self.records.into_iter().map(|record| record.read(self.revision).map(|row| (row.id, row)));
        world.records = records.collect::<Result<HashMap<_, _>>>()?;
        Ok(())
    }
}

impl SavedRecord {
    fn of(revision: Revision, record: &Record) -> Self {
        Self {
            request: record.request.encode(revision),
            signature: record.signature.clone(),
            result: record.result.clone(),
            operator_signature: record.operator_signature.clone(),
            state: match record.state {
                JobState::Pending => SavedState::Pending,
                JobState::Done => SavedState::Done,
                JobState::Failed => SavedState::Failed,
                JobState::Relayed => SavedState::Relayed,
            },
            failure: record.failure.map(str::to_owned),
            tx_hash: record.tx_hash,
        }
    }

    fn read(self, revision: Revision) -> Result<Record> {
        let request =
            Request::decode(revision, &self.request).ok_or_else(|| invalid("a request is not ABI-encoded"))?;
        let known = |text: String| FAILURES.into_iter().find(|known| **known == text);
        let failure = self.failure.map(|text| known(text).ok_or_else(|| invalid("no node knows its failure reason")));
        Ok(Record {
            id: request.job_id(),
            request,
            signature: self.signature,
            result: self.result,
            operator_signature: self.operator_signature,
            state: match self.state {
                SavedState::Pending => JobState::Pending,
                SavedState::Done => JobState::Done,
                SavedState::Failed => JobState::Failed,
                SavedState::Relayed => JobState::Relayed,
            },
            failure: failure.transpose()?,
            tx_hash: self.tx_hash,
        })
    }
}
