//! The end of a wait that nothing else has ended.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    stage::Stage,
    state::{Entry, State, Sub},
};
use crate::{
    error::{Error, ErrorKind, Outcome},
    job::{RelayStrategy, Revision},
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

/// The error of a wait whose deadline has passed.
pub(super) fn exceeded(entry: &Entry, sub: &Sub, now: Instant, state: &State, endpoint: &str) -> Error {
    let heal = state.heal;
    let stage = entry.track.stage();
    let detail = DeadlineExceeded {
        waited: now.saturating_duration_since(sub.begun),
        polls: entry.polls.wrapping_sub(sub.polls_before),
        stage,
    };
    let last = match stage {
        Stage::Submitted => "never seen",
        Stage::Accepted => "last seen PENDING",
        Stage::Executed => "last seen DONE",
        Stage::Relayed | Stage::Finalized if entry.track.has_chain() => "last seen complete on chain",
        Stage::Relayed | Stage::Finalized => "last seen RELAYED",
    };
    let hint = match (stage, entry.job.revision()) {
        (Stage::Executed | Stage::Relayed | Stage::Finalized, _)
            if entry.job.relay_strategy() == RelayStrategy::Unordered =>
        {
            "executed, but not relayed: the relay may revert (wrong signer, stale state, another operator, a nonce taken on chain); JobHandle::diagnose looks for the cause"
        }
        (Stage::Executed | Stage::Relayed | Stage::Finalized, _) => {
            "executed, but not relayed: the relay may revert (wrong signer, stale state, another operator, a nonce taken on chain), or an Ordered lane waits for a missing \
             or failed nonce below this one; JobHandle::diagnose looks for the cause"
        }
        (Stage::Accepted, Revision::State) => {
            "not executed yet: wait again, or longer; if the node was restarted it has forgotten the job and takes its nonce no \
             more, so that the job is to be signed again under another one; JobHandle::diagnose looks for the cause"
        }
        (Stage::Accepted, Revision::Relay) if heal.is_on() => {
            "not executed yet: wait again, or longer; JobHandle::diagnose looks for the cause"
        }
        (Stage::Accepted, Revision::Relay) => {
            "not executed yet: wait again, or longer; if the node was restarted it has forgotten the job, and submitting the same \
             signed job sets it going again; JobHandle::diagnose looks for the cause"
        }
        (Stage::Submitted, _) => {
            "the job's record was not seen at this node: submit it with submit_signed, which does no harm if it is there; \
             JobHandle::diagnose looks for the cause"
        }
    };
    let waited = detail.waited.as_secs_f64();
    // What the chain says stands above the node's word.
    let on_chain = sub.depth.and_then(|depth| entry.track.on_chain(depth, state.follow.error()));
    let (chain, hint, cause) = match on_chain {
        Some((text, hint, cause)) => (format!("; {text}"), hint, cause),
        None => (String::new(), hint, None),
    };
    // And above that, that the node's word is not one.
    let (doubt, hint, cause) = match entry.track.doubted().filter(|_| chain.is_empty()) {
        Some(news) if entry.track.doubt.was_contradicted() => (
            "; the node's answers contradict each other",
            "the cause is the worst that the node has said, and other answers said otherwise: nodes behind one address may lag behind each \
             other; wait again before anything is signed again, or ask one node",
            Some(news.clone()),
        ),
        Some(news) => (
            "; its last answer was bad news, and there was no time to confirm it",
            "the cause is what the node said last, and it may be of a moment: wait again before anything is signed again",
            Some(news.clone()),
        ),
        None => ("", hint, cause),
    };
    let what = format!("waited {waited:.1} s ({} looks), {last}{doubt}{chain}", detail.polls);
    let error = Error::new(ErrorKind::DeadlineExceeded, what)
        .with_outcome(if stage > Stage::Submitted { Outcome::Accepted } else { Outcome::Unknown })
        .with_retryable(true)
        .with_job(entry.job.id())
        .with_endpoint(endpoint)
        .with_hint(hint)
        .with_detail(detail);
    match cause.as_ref().or(entry.track.end.as_ref()).or(entry.error.as_ref()) {
        Some(last) => error.with_source(last.clone()),
        None => error,
    }
}
