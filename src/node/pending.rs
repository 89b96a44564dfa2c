//! The list of pending jobs, for those who do not wait for ever.
//!
//! GetPendingJobs hangs where the consumer's task in the node is blocked, and kills it if it is given up. So it runs in
//! a task of its own until it is answered, and there is one at a time for a consumer and a runtime.

use std::{
    collections::{BTreeSet, HashMap},
    error::Error as _,
    sync::Arc,
    time::Duration,
};

use alloy_primitives::Address;
use tracing::Instrument;

use super::calls::Node;
use crate::{
    backoff::{Backoff, Jitter},
    rpc::{CallError, CallFailure, StatusCode},
    runtime::Joint,
    sync::Lock,
};

/// How often a call that broke off is made again.
const REPETITIONS: u32 = 2;
/// The pauses before them.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(100), Jitter::None);

/// The calls under way.
#[derive(Clone)]
pub(crate) struct PendingLists(Arc<Calls>);

struct Calls {
    node: Arc<Node>,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    /// How many were begun.
    begun: u64,
    /// By consumer; of other runtimes nobody knows whether they are driven.
    running: HashMap<Address, Vec<Running>>,
}

#[derive(Clone)]
struct Running {
    number: u64,
    answer: Joint<PendingNonces>,
}

/// What the node says of a consumer's pending jobs.
#[derive(Clone, Debug)]
pub(crate) enum PendingNonces {
    Known(Arc<BTreeSet<u64>>),
    /// The call is answered as by a consumer's task that is dead.
    TaskDead,
    /// The call breaks off each time, as by a consumer's task that is dead.
    BreaksOff,
    /// No answer until now.
    Hanging,
    /// There is no list, and why.
    None(String),
}

impl PendingLists {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self(Arc::new(Calls { node, state: Lock::default() }))
    }

    /// The consumer's list as it is now or later, or what can be said without it after so long.
    pub(crate) async fn get(&self, consumer: Address, patience: Duration) -> PendingNonces {
        tokio::time::timeout(patience, self.fresh(consumer)).await.unwrap_or(PendingNonces::Hanging)
    }

    /// The answer to a call that began after this was asked for.
    async fn fresh(&self, consumer: Address) -> PendingNonces {
        let asked = self.0.state.lock().begun;
        let mut cut_off = false;
        loop {
            let running = self.running(consumer);
            match running.answer.outcome().await {
                Some(answer) if running.number >= asked => return answer,
                // It was of another runtime, which has ended: the next one is of this.
                None if std::mem::replace(&mut cut_off, true) => {
                    return PendingNonces::None("the call was cut off".into());
                }
                _ => {}
            }
        }
    }

    /// The call under way, or a new one.
    fn running(&self, consumer: Address) -> Running {
        let mut state = self.0.state.lock();
        let number = state.begun;
        let all = state.running.entry(consumer).or_default();
        all.retain(|running| running.answer.is_running());
        if let Some(running) = all.iter().find(|running| running.answer.is_here()) {
            return running.clone();
        }
        let (teller, answer) = Joint::new();
        let running = Running { number, answer };
        all.push(running.clone());
        state.begun += 1;
        drop(state);
        let calls = Arc::clone(&self.0);
        let asked = async move {
            let answer = ask(&calls.node, consumer).await;
            // First out of the books, then the answer: who has it finds the next call, not this one.
            calls.end(consumer, number);
            teller.tell(answer);
        };
        tokio::spawn(asked.in_current_span());
        running
    }
}

impl Calls {
    fn end(&self, consumer: Address, number: u64) {
        let mut state = self.state.lock();
        if let Some(all) = state.running.get_mut(&consumer) {
            all.retain(|running| running.number != number);
            if all.is_empty() {
                state.running.remove(&consumer);
            }
        }
    }
}

async fn ask(node: &Node, consumer: Address) -> PendingNonces {
    let mut broke_off = 0;
    loop {
        let error = match node.list(consumer).await {
            Ok(nonces) => return PendingNonces::Known(Arc::new(nonces.into_iter().collect())),
            Err(error) => error,
        };
        let cause = error.source();
        match cause.and_then(|cause| cause.downcast_ref::<CallError>()).map(|call| &call.failure) {
            Some(CallFailure::Status(StatusCode::CANCELLED)) => return PendingNonces::TaskDead,
            Some(CallFailure::TimedOut) => return PendingNonces::Hanging,
            // A connection that broke, as in a restart; or the stream of a call whose handler dies, each time.
            Some(CallFailure::Interrupted | CallFailure::Reset) if broke_off < REPETITIONS => {
                broke_off += 1;
                tokio::time::sleep(PAUSES.nominal(broke_off)).await;
            }
            Some(CallFailure::Interrupted | CallFailure::Reset) => return PendingNonces::BreaksOff,
            // The node's words are in the cause.
            _ => {
                let why = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
                return PendingNonces::None(why);
            }
        }
    }
}
