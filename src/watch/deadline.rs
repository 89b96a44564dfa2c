//! The end of a wait that nothing else has ended.

use std::time::Duration;

use tokio::time::Instant;

use super::{stage::Stage, waiter::Waiter, watched::WatchedJob};
use crate::{
    error::{Error, ErrorKind, Outcome},
    job::{RelayStrategy, Revision, SignedJob},
};

/// How far a wait had come when its deadline passed.
///
/// ```
/// # use infinityvm_sdk::client::DeadlineExceeded;
/// # fn example(error: infinityvm_sdk::Error) {
/// if let Some(late) = DeadlineExceeded::of(&error) {
///     println!("{} after {:?} and {} answers", late.stage(), late.waited(), late.polls());
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadlineExceeded {
    waited: Duration,
    polls: u32,
    stage: Stage,
}

impl DeadlineExceeded {
    /// What an error of the kind [`ErrorKind::DeadlineExceeded`] holds.
    #[must_use]
    pub fn of(error: &Error) -> Option<&Self> {
        error.detail()
    }

    /// How long the wait was.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// How often the node said something of the job meanwhile: answers to GetResult, and lists of pending jobs.
    #[must_use]
    pub fn polls(&self) -> u32 {
        self.polls
    }

    /// How far the job was known to have come.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }
}

/// The error of a wait whose deadline has passed. `heals`: whether lost jobs are sent again; `chain_error`: why the
/// chain cannot be read.
pub(super) fn exceeded(
    watched: &WatchedJob,
    waiter: &Waiter,
    heals: bool,
    chain_error: Option<&Error>,
    endpoint: &str,
    now: Instant,
) -> Error {
    let (job, track, stage) = (&watched.job, &watched.track, watched.track.stage());
    let (waited, polls) = waiter.patience(watched.polls, now);
    let last = match stage {
        Stage::Submitted => "never seen",
        Stage::Accepted => "last seen PENDING",
        Stage::Executed => "last seen DONE",
        Stage::Relayed | Stage::Finalized if track.chain().is_some() => "last seen complete on chain",
        Stage::Relayed | Stage::Finalized => "last seen RELAYED",
    };
    // What the chain says stands above the node's word, and above that only, that this is none.
    let on_chain = waiter.wants.depth.and_then(|depth| track.chain()?.words(depth, chain_error));
    let (words, hint, cause) = match (on_chain, track.doubted()) {
        (Some((words, hint, cause)), _) => (words, hint.into(), cause),
        (None, Some((news, contradicted))) => {
            let (words, hint) = doubt(contradicted);
            (words.into(), hint.into(), Some(news.clone()))
        }
        (None, None) => (String::new(), hint(job, stage, heals), None),
    };
    let (seconds, comma) = (waited.as_secs_f64(), if words.is_empty() { "" } else { "; " });
    let what = format!("waited {seconds:.1} s ({polls} looks), {last}{comma}{words}");
    let error = Error::new(ErrorKind::DeadlineExceeded, what)
        .with_outcome(if stage > Stage::Submitted { Outcome::Accepted } else { Outcome::Unknown })
        .with_retryable(true)
        .with_job(job.id())
        .with_endpoint(endpoint)
        .with_hint(hint)
        .with_detail(DeadlineExceeded { waited, polls, stage });
    match cause.as_ref().or(track.ended()).or(watched.error.as_ref()) {
        Some(cause) => error.with_source(cause.clone()),
        None => error,
    }
}

/// What to do about a job of which the node has said no more than this.
fn hint(job: &SignedJob, stage: Stage, heals: bool) -> String {
    let ordered = job.relay_strategy() == RelayStrategy::Ordered;
    let hint = match (stage, job.revision()) {
        (Stage::Executed | Stage::Relayed | Stage::Finalized, _) if ordered => {
            "executed, but not relayed: the relay may revert (wrong signer, stale state, another operator, a nonce taken on chain), or an \
             Ordered lane waits for a missing or failed nonce below this one"
        }
        (Stage::Executed | Stage::Relayed | Stage::Finalized, _) => {
            "executed, but not relayed: the relay may revert (wrong signer, stale state, another operator, a nonce taken on chain)"
        }
        (Stage::Accepted, Revision::State) => {
            "not executed yet: wait again, or longer; if the node was restarted it has forgotten the job and takes its nonce no more, so \
             that the job is to be signed again under another one"
        }
        (Stage::Accepted, Revision::Relay) if heals => "not executed yet: wait again, or longer",
        (Stage::Accepted, Revision::Relay) => {
            "not executed yet: wait again, or longer; if the node was restarted it has forgotten the job, and submitting the same signed \
             job sets it going again"
        }
        (Stage::Submitted, _) => {
            "the job's record was not seen at this node: submit it with submit_signed, which does no harm if it is there"
        }
    };
    format!("{hint}; JobHandle::diagnose looks for the cause")
}

/// What is said of bad news that was not believed, and what to do.
fn doubt(contradicted: bool) -> (&'static str, &'static str) {
    if contradicted {
        (
            "the node's answers contradict each other",
            "the cause is the worst that the node has said, and other answers said otherwise: nodes behind one address may lag behind \
             each other; wait again before anything is signed again, or ask one node",
        )
    } else {
        (
            "its last answer was bad news, and there was no time to confirm it",
            "the cause is what the node said last, and it may be of a moment: wait again before anything is signed again",
        )
    }
}
