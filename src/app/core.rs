//! What the tasks of a server share, and what they share while the journal is open.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use alloy_primitives::{B256, Bytes};
use infinityvm_stf::{Context, Inputs, StateTransition};
use tokio::sync::{Mutex, Notify, RwLock, oneshot, watch};

use super::{
    answer::Asked,
    cut::{BatchRoom, Queue},
    inputs::{ChainInputs, FedLog},
    machine::Machine,
    policy::BatchPolicy,
    stop::{AppState, AppStop},
};
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    job::ProgramId,
    outbox::{
        AppLane, Points,
        store::{
            Fence,
            journal::{BatchRow, LogCursor},
        },
    },
    sync::Lock,
    wire::ProgramUpload,
};

/// How far a server is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// No further request is taken.
    Draining,
    Ended,
}

/// Why the work on an open journal has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Everything was brought to its end, or the server is gone.
    Closed,
    /// The journal is to be read again.
    Reopen,
    /// Another instance has the lane.
    Fenced,
    Stop(AppStop),
}

/// Logs of the chain in their order, and up to where they were read with them.
pub(super) struct LogFeed<S: StateTransition> {
    pub(super) logs: Vec<FedLog<S>>,
    /// Up to where they were read before. If the journal is elsewhere, nothing is done.
    pub(super) after: Option<LogCursor>,
    pub(super) cursor: LogCursor,
    pub(super) reply: oneshot::Sender<Result<()>>,
}

/// What the writer is asked for.
pub(super) enum AppCommand<S: StateTransition> {
    Request(Asked<S>),
    Logs(LogFeed<S>),
    /// A state for reads.
    Show(oneshot::Sender<Result<()>>),
}

impl<S: StateTransition> AppCommand<S> {
    pub(super) fn refuse(self, error: &Error) {
        // Whoever has gone away needs no answer.
        _ = match self {
            Self::Request(asked) => asked.reply.send(Err(error.clone())).is_ok(),
            Self::Logs(feed) => feed.reply.send(Err(error.clone())).is_ok(),
            Self::Show(reply) => reply.send(Err(error.clone())).is_ok(),
        };
    }
}

/// A state as the contract's chain has it, to go on from.
pub(super) struct Rechain {
    pub(super) snapshot: Bytes,
    pub(super) root: B256,
    pub(super) reason: String,
    /// From which block on the chain's logs are read again.
    pub(super) logs_since: Option<u64>,
}

/// How far the chain's logs are, as the follower last saw it: numbers of blocks.
#[derive(Clone, Debug, Default)]
pub(super) struct Followed {
    pub(super) read: Option<u64>,
    pub(super) deep: Option<u64>,
    pub(super) head: Option<u64>,
    pub(super) trouble: Option<String>,
}

/// Runs the compiled program over inputs, with so many cycles at most. → its output, or why there is none.
pub(super) type RunElf = Box<
    dyn Fn(Inputs, u64) -> Pin<Box<dyn Future<Output = std::result::Result<Vec<u8>, String>> + Send>> + Send + Sync,
>;

/// What the tasks of a server share.
pub(super) struct Core<S: StateTransition> {
    pub(super) lane: AppLane,
    pub(super) name: String,
    pub(super) program: ProgramId,
    pub(super) elf: Option<ProgramUpload>,
    pub(super) executor: Option<RunElf>,
    pub(super) policy: BatchPolicy,
    pub(super) inputs: Option<Arc<ChainInputs<S>>>,
    /// How long a journal that cannot be written is tried.
    pub(super) patience: Duration,
    pub(super) initial: Bytes,
    pub(super) initial_root: B256,
    pub(super) rechain: Lock<Option<Rechain>>,
    pub(super) points: Points,
    pub(super) state: watch::Sender<AppState>,
    /// What will be a trouble soon.
    pub(super) alarm: Lock<Option<String>>,
    /// How far the chain's logs are.
    pub(super) followed: Lock<Followed>,
    /// Counts what changes about batches.
    pub(super) tick: watch::Sender<u64>,
    pub(super) session: Lock<Option<Arc<AppSession<S>>>>,
}

impl<S: StateTransition> Core<S> {
    /// Under which the outbox tells the server of its batches.
    pub(super) fn reader(&self) -> String {
        format!("app/{}", self.name)
    }

    /// The idempotency key of a batch's job.
    pub(super) fn key(&self, batch: u64) -> String {
        format!("app/{}/{batch}", self.name)
    }

    pub(super) fn set_state(&self, state: AppState) {
        self.state.send_if_modified(|now| {
            let differs = *now != state;
            if differs {
                *now = state;
            }
            differs
        });
        self.changed();
    }

    pub(super) fn changed(&self) {
        self.tick.send_modify(|tick| *tick += 1);
    }

    /// Why a request is not taken now, if it is not.
    pub(super) fn refusal(&self) -> Option<Error> {
        match &*self.state.borrow() {
            AppState::Starting | AppState::Answering => None,
            AppState::Standby(leader) => Some(standby(leader.as_deref())),
            AppState::Draining | AppState::Ended => {
                Some(Error::new(ErrorKind::Closed, "the server takes no more requests").with_outcome(Outcome::NotSent))
            }
            AppState::Stopped(stop) => Some(stop.error()),
        }
    }
}

/// Of an instance that is not the leader.
pub(super) fn standby(leader: Option<&str>) -> Error {
    let what = match leader {
        Some(leader) => format!("this instance stands by: {leader} answers"),
        None => "this instance stands by, and no other has the lane yet".to_owned(),
    };
    Error::new(ErrorKind::Stopped, what)
        .with_outcome(Outcome::NotSent)
        .with_retryable(true)
        .with_hint("ask the instance that is named, or this one again once it has taken over")
}

/// What the journal has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Durable {
    pub(super) place: u64,
    pub(super) time: u64,
    pub(super) root: B256,
    pub(super) cursor: Option<LogCursor>,
}

/// Requests that are durable, and that the state for reads has not carried out yet.
pub(super) type LateRequests<S> = VecDeque<(Context, <S as StateTransition>::Request)>;

/// What the tasks share while the journal is open.
pub(super) struct AppSession<S: StateTransition> {
    pub(super) fence: Fence,
    /// The state at the end of the last frozen batch.
    pub(super) base: Mutex<Machine<S>>,
    /// What fits into the next batch.
    pub(super) room: Lock<BatchRoom>,
    /// Requests that wait for a batch.
    pub(super) queue: Lock<Queue>,
    pub(super) durable: Lock<Durable>,
    /// The batches that count and are not final, by their numbers.
    pub(super) batches: Lock<BTreeMap<u64, BatchRow>>,
    /// Places whose requests were given up, by a person's command to go on from another state.
    pub(super) given_up: Vec<Range<u64>>,
    /// The number of the latest batch.
    pub(super) last_batch: AtomicU64,
    /// The root that the last final batch began with, if the journal still has it.
    pub(super) final_before: Lock<Option<B256>>,
    /// The last place of a final batch.
    pub(super) settled: AtomicU64,
    /// The place of the last snapshot.
    pub(super) snapshot: AtomicU64,
    /// Requests have been added.
    pub(super) grown: Notify,
    /// A state for reads, where anybody has asked for one, and what it has not carried out yet.
    pub(super) shown: RwLock<Option<Machine<S>>>,
    pub(super) late: Lock<Option<LateRequests<S>>>,
}

impl<S: StateTransition> AppSession<S> {
    /// Brings the state for reads up to what is durable.
    pub(super) fn catch_up(&self, shown: &mut Machine<S>) {
        loop {
            let Some(late) = self.late.lock().as_mut().map(std::mem::take) else { return };
            if late.is_empty() {
                return;
            }
            for (context, request) in late {
                // It was carried out before with the same result.
                shown.apply(&request, &context);
            }
        }
    }

    pub(super) fn final_place(&self) -> u64 {
        self.settled.load(Relaxed)
    }
}
