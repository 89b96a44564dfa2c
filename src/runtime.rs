//! Tasks of the Tokio runtime, and what belongs to one runtime of several.

use tokio::{
    runtime::{Handle, Id},
    sync::watch,
};

use crate::error::{Error, ErrorKind, Result};

#[cfg(any(feature = "grpc", feature = "rest", feature = "chain"))]
mod own;
mod turns;

#[cfg(any(feature = "grpc", feature = "rest", feature = "chain"))]
pub(crate) use self::own::PerRuntime;
pub(crate) use self::turns::NonceTurns;

/// Tokio panics where it is missing; this says so instead.
pub(crate) fn require_runtime() -> Result<()> {
    match Handle::try_current() {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::new(ErrorKind::InvalidConfig, "there is no Tokio runtime")
            .with_hint("call it inside of one, from an async function")),
    }
}

/// The outcome of a task that any number of callers wait for. The task goes on whoever waits, as long as somebody
/// drives its runtime.
#[derive(Clone, Debug)]
pub(crate) struct Joint<T> {
    outcome: watch::Receiver<Option<T>>,
    home: Option<Id>,
}

/// Held by the task: if it is dropped untold, the task was cut off.
#[derive(Debug)]
pub(crate) struct Teller<T>(watch::Sender<Option<T>>);

impl<T: Clone> Joint<T> {
    pub(crate) fn new() -> (Teller<T>, Self) {
        let (teller, outcome) = watch::channel(None);
        (Teller(teller), Self { outcome, home: here() })
    }

    /// Whether this is the runtime of the task. Of another one it is not known whether anybody drives it.
    pub(crate) fn is_here(&self) -> bool {
        self.home == here()
    }

    /// The outcome; nothing if the task was cut off, by a panic or the end of its runtime.
    pub(crate) async fn outcome(&self) -> Option<T> {
        self.outcome.clone().wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone())
    }

    pub(crate) fn is_running(&self) -> bool {
        self.outcome.has_changed().is_ok() && self.outcome.borrow().is_none()
    }

    /// Whether the task will tell nothing any more, and has told nothing.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.outcome.has_changed().is_err() && self.outcome.borrow().is_none()
    }

    /// Whether both are of one task.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.outcome.same_channel(&other.outcome)
    }
}

fn here() -> Option<Id> {
    Handle::try_current().ok().map(|runtime| runtime.id())
}

impl<T> Teller<T> {
    pub(crate) fn tell(self, outcome: T) {
        self.0.send_replace(Some(outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_who_wait_hear_the_outcome_and_nobody_that_of_a_task_that_was_cut_off() {
        let (teller, joint) = Joint::new();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                tokio::spawn({
                    let joint = joint.clone();
                    async move { joint.outcome().await }
                })
            })
            .collect();
        assert!(joint.is_running());
        tokio::task::yield_now().await;
        teller.tell(7);
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap(), Some(7));
        }
        assert!(!joint.is_running() && !joint.is_cut_off() && joint.is(&joint.clone()));
        assert_eq!(joint.outcome().await, Some(7), "also who comes late");

        let (teller, other) = Joint::<u8>::new();
        drop(teller);
        assert!(!other.is_running() && other.is_cut_off() && !other.is(&joint));
        assert_eq!(other.outcome().await, None);
    }
}
