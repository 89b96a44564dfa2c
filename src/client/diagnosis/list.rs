//! The list of pending jobs, for those who do not wait for ever.
//!
//! GetPendingJobs hangs where the consumer's task in the node is blocked, and kills it if it is given up. So it runs in a task of
//! its own until it is answered, and there is one at a time for a consumer.

use std::{
    collections::{BTreeSet, HashMap},
    error::Error as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use alloy_primitives::Address;
use tokio::sync::watch;

use super::Confidence;
use crate::{
    client::Inner,
    rpc::{CallError, CallFailure, StatusCode},
};

/// How often a call that broke off is made again.
const REPETITIONS: u32 = 2;
/// Before the first repetition; twice as long before the second.
const PAUSE: Duration = Duration::from_millis(50);

/// The calls under way.
#[derive(Default)]
pub(in crate::client) struct Lists(Mutex<State>);

#[derive(Default)]
struct State {
    /// How many were begun.
    begun: u64,
    running: HashMap<Address, Running>,
}

#[derive(Clone)]
struct Running {
    number: u64,
    answer: watch::Receiver<Option<List>>,
}

#[derive(Clone, Debug)]
pub(super) enum List {
    Nonces(Arc<BTreeSet<u64>>),
    /// The call is answered as by a consumer's task that is dead.
    Dead(Confidence),
    /// No answer until now.
    Hanging,
    /// There is no list, and why.
    None(String),
}

impl Lists {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The consumer's list as it is now or later, or what can be said without it after so long.
pub(super) async fn list(inner: &Arc<Inner>, consumer: Address, patience: Duration) -> List {
    tokio::time::timeout(patience, fresh(inner, consumer)).await.unwrap_or(List::Hanging)
}

/// The answer to a call that began after this was asked for.
async fn fresh(inner: &Arc<Inner>, consumer: Address) -> List {
    let asked = inner.lists.lock().begun;
    loop {
        let mut running = running(inner, consumer);
        let answer = running.answer.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
        if running.number >= asked {
            return answer.unwrap_or_else(|| List::None("the call was cut off".into()));
        }
    }
}

/// The call under way, or a new one.
fn running(inner: &Arc<Inner>, consumer: Address) -> Running {
    let mut state = inner.lists.lock();
    // One whose channel is closed has ended.
    if let Some(running) = state.running.get(&consumer).filter(|running| running.answer.has_changed().is_ok()) {
        return running.clone();
    }
    let (sender, answer) = watch::channel(None);
    let running = Running { number: state.begun, answer };
    state.begun += 1;
    state.running.insert(consumer, running.clone());
    drop(state);
    let inner = Arc::clone(inner);
    tokio::spawn(async move {
        let answer = ask(&inner, consumer).await;
        // First out of the books, then the answer: who has it finds the next call, not this one.
        inner.lists.lock().running.remove(&consumer);
        sender.send_replace(Some(answer));
    });
    running
}

async fn ask(inner: &Inner, consumer: Address) -> List {
    let mut broke_off = 0;
    loop {
        let error = match inner.list(consumer).await {
            Ok(nonces) => return List::Nonces(Arc::new(nonces.into_iter().collect())),
            Err(error) => error,
        };
        let cause = error.source();
        match cause.and_then(|cause| cause.downcast_ref::<CallError>()).map(|call| &call.failure) {
            Some(CallFailure::Status(StatusCode::CANCELLED)) => return List::Dead(Confidence::Shown),
            Some(CallFailure::TimedOut) => return List::Hanging,
            // A connection that broke, as in a restart; or the stream of a call whose handler dies, each time.
            Some(CallFailure::Interrupted) if broke_off < REPETITIONS => {
                broke_off += 1;
                tokio::time::sleep(PAUSE * broke_off).await;
            }
            Some(CallFailure::Interrupted) => return List::Dead(Confidence::Likely),
            // The node's words are in the cause.
            _ => return List::None(cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))),
        }
    }
}
