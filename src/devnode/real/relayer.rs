//! The relayer: takes executed results to the real chain, beside the world, whose queues stay the only truth.

use std::{collections::HashSet, sync::Arc, time::Duration};

use alloy_primitives::B256;
use tokio::{task::JoinSet, time::sleep};

use super::{AccountFailure, Real};
use crate::{
    backoff::{Backoff, Jitter, Random},
    devnode::{
        ledger::RevertReason,
        node::{ENDED, NodeCore},
        record::Finished,
    },
};

/// The pauses after failed relays of a result.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5), Jitter::None);

/// Begins to relay, if the node has a real chain: one relayer for each of its lives, as memory and running work end
/// with them.
pub(in crate::devnode) fn start(shared: &Arc<NodeCore>) {
    if shared.real.is_none() {
        return;
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let mut lives = shared.life.subscribe();
        loop {
            let life = *lives.borrow_and_update();
            if life == ENDED {
                return;
            }
            tokio::select! {
                biased;
                _ = lives.changed() => {}
                () = relay(&shared, life) => {}
            }
        }
    });
}

/// Relays whatever comes in one life of the node. Each result has a task, so none waits for another that reverts; what
/// must wait for its turn in a lane, the world does not show before.
async fn relay(shared: &Arc<NodeCore>, life: u64) {
    let mut changes = shared.changed.subscribe();
    let mut tasks = JoinSet::new();
    let mut under_way = HashSet::new();
    loop {
        changes.borrow_and_update();
        for finished in shared.lock().due(life, &under_way) {
            under_way.insert(finished.serial);
            tasks.spawn(carry(Arc::clone(shared), life, finished));
        }
        tokio::select! {
            _ = changes.changed() => {}
            Some(ended) = tasks.join_next() => {
                if let Ok(serial) = ended {
                    under_way.remove(&serial);
                }
            }
        }
    }
}

/// Takes one result to the chain, however often that needs to be tried. Returns its serial.
async fn carry(shared: Arc<NodeCore>, life: u64, finished: Finished) -> u64 {
    let (serial, id) = (finished.serial, finished.job.id);
    let Some(real) = &shared.real else { return serial };
    let mut failed = 0;
    // Transactions of which it is not known whether they arrived. Sent anew, the result would revert for ever if they
    // did.
    let mut unclear = Vec::new();
    while may_go(&shared, life, serial).await {
        shared.update(|world| *world.stats.relay_attempts.entry(id).or_default() += 1);
        match relay_one(&shared, real, &finished, &unclear).await {
            Ok(hash) => {
                shared.update(|world| world.landed(life, &finished, hash));
                return serial;
            }
            Err(failure) => {
                if let AccountFailure::Unclear(hash, _) = failure {
                    unclear.push(hash);
                }
                shared.update(|world| {
                    if matches!(failure, AccountFailure::Reverted(_)) {
                        world.stats.last_revert.insert(id, RevertReason::Contract);
                    }
                    world.stats.relay_errors.insert(id, failure.to_string());
                });
                failed += 1;
                sleep(PAUSES.pause(failed, &Random::default())).await;
            }
        }
    }
    serial
}

/// Sends one result, unless one of these transactions has arrived, and waits until it is in a block. Its status is not
/// looked at: real nodes do not, either.
async fn relay_one(
    shared: &NodeCore,
    real: &Real,
    finished: &Finished,
    unclear: &[B256],
) -> Result<B256, AccountFailure> {
    let draft = real.draft(shared.revision, finished)?;
    let hash = match arrived(real, unclear).await {
        Some(hash) => hash,
        None => real.relayer.send(&draft).await?,
    };
    Ok(real.relayer.land(&draft, hash).await?.0)
}

/// The first of these transactions that the chain has.
async fn arrived(real: &Real, unclear: &[B256]) -> Option<B256> {
    for hash in unclear {
        if real.relayer.has(*hash).await {
            return Some(*hash);
        }
    }
    None
}

/// Waits until no fault holds the relays back. `false` if the result is not to be relayed any more.
async fn may_go(shared: &NodeCore, life: u64, serial: u64) -> bool {
    let mut changes = shared.changed.subscribe();
    loop {
        changes.borrow_and_update();
        {
            let world = shared.lock();
            if !world.awaits_relay(life, serial) {
                return false;
            }
            if world.may_relay() {
                return true;
            }
        }
        let _ = changes.changed().await;
    }
}
