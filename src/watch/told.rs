//! What the watcher has noticed, to be told once no lock is held.

use std::task::Waker;

use tokio::time::Duration;
use tracing::Span;

use super::stage::Stage;
use crate::{
    error::{Error, ErrorKind},
    job::{RelayStrategy, SignedJob},
    observe::{self, ClientEvent, ObservedJob, Observers},
};

/// What is left to do once no lock is held: whom to wake, and what to tell the observers.
#[derive(Default)]
pub(super) struct Wakers {
    wakers: Vec<Waker>,
    told: Vec<(SignedJob, Told)>,
}

/// Something that was noticed of a job.
pub(super) enum Told {
    /// A handle has learnt that it came from one stage to another, so long after the handle's call began.
    Rose {
        from: Stage,
        to: Stage,
        time: Duration,
    },
    /// A wait has ended, after so many looks.
    WaitEnded {
        span: Span,
        until: Stage,
        looks: u32,
        error: Option<Error>,
    },
    SentAgain,
    Reorganised,
}

impl Wakers {
    pub(super) fn extend(&mut self, wakers: impl IntoIterator<Item = Waker>) {
        self.wakers.extend(wakers);
    }

    pub(super) fn tell(&mut self, job: &SignedJob, told: Told) {
        self.told.push((job.clone(), told));
    }

    /// Wakes and tells. Not to be called under a lock.
    pub(super) fn release(self, observers: &Observers) {
        for (job, told) in &self.told {
            told.tell(ObservedJob::of(job), observers);
        }
        self.wakers.into_iter().for_each(Waker::wake);
    }
}

impl Told {
    fn tell(&self, job: ObservedJob<'_>, observers: &Observers) {
        match self {
            Self::Rose { from, to, time } => {
                for stage in (*from as u8 + 1..=*to as u8).map(Stage::at) {
                    observers.tell(ClientEvent::StageReached { job, stage, time: *time });
                }
            }
            Self::WaitEnded { span, until, looks, error } => {
                let error = error.as_ref();
                observe::ended(span, error);
                let _entered = span.enter();
                observers.tell(ClientEvent::WaitEnded { job, until: *until, looks: *looks, error });
                // What is behind it waits until another job is in its place.
                if error.is_some_and(|error| error.kind() == ErrorKind::JobFailed)
                    && job.strategy == RelayStrategy::Ordered
                {
                    observers.tell(ClientEvent::LaneStalled { job });
                }
            }
            Self::SentAgain => observers.tell(ClientEvent::SentAgain { job }),
            Self::Reorganised => observers.tell(ClientEvent::Reorganised { job }),
        }
    }
}
