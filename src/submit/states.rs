//! The states that this client's verified results lead to: what the next job of a chain of states may begin with before
//! the result is on chain.

use std::collections::{BTreeMap, HashMap};

use alloy_primitives::{Address, B256};

use crate::{
    job::{SignedJob, Verified},
    sync::Lock,
};

/// How many are kept of a consumer: as many as may be unrelayed in an Ordered lane.
const MAX_STATES: usize = 128;
/// Of how many consumers.
const MAX_CONSUMERS: usize = 1024;

/// By consumer and nonce.
#[derive(Default)]
pub(super) struct StatesAhead(Lock<HashMap<Address, BTreeMap<u64, B256>>>);

impl StatesAhead {
    /// Remembers where a result leads, if its job is one of a stateful app.
    pub(super) fn note(&self, job: &SignedJob, result: &Verified) {
        if job.given_state().is_none() {
            return;
        }
        let Ok(output) = result.stateful() else { return };
        let mut consumers = self.0.lock();
        if consumers.len() >= MAX_CONSUMERS && !consumers.contains_key(&job.consumer()) {
            consumers.clear();
        }
        let states = consumers.entry(job.consumer()).or_default();
        states.insert(job.nonce(), output.next_state);
        if states.len() > MAX_STATES {
            states.pop_first();
        }
    }

    /// The nonces below one whose results lead to a state, the highest first.
    pub(super) fn leading_to(&self, consumer: Address, state: B256, below: u64) -> Vec<u64> {
        let consumers = self.0.lock();
        let Some(states) = consumers.get(&consumer) else { return Vec::new() };
        states.range(..below).rev().filter(|(_, to)| **to == state).map(|(nonce, _)| *nonce).collect()
    }
}
