//! One case of the suite, and how it is run.

use std::{fmt, pin::Pin};

use tokio::task::JoinSet;

use super::{
    failure::{CaseResult, Failure},
    setup::Setup,
};
use crate::rpc::Method;

type Run = for<'a> fn(&'a Setup) -> Pin<Box<dyn Future<Output = CaseResult> + Send + 'a>>;

/// One case of the suite.
#[derive(Clone, Copy)]
pub struct Case {
    /// The function's name in [`cases`](super::cases).
    pub name: &'static str,
    /// The call that the case is about, if some transports or revisions lack it. For those the case tests that the call
    /// is refused before any I/O.
    pub needs: Option<Method>,
    pub(super) run: Run,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("needs", &self.needs).finish_non_exhaustive()
    }
}

impl Case {
    /// Runs the case alone.
    ///
    /// # Errors
    /// What did not hold, that it panicked, or that it did not end within the setup's patience.
    pub async fn run(&self, setup: &Setup) -> CaseResult {
        let (run, own, patience) = (self.run, setup.clone(), setup.patience());
        // In a task of its own, which a panic ends alone. It ends with its set, also if nobody waits for it any more.
        let mut task = JoinSet::new();
        task.spawn(async move { run(&own).await });
        match tokio::time::timeout(patience, task.join_next()).await {
            Ok(Some(Ok(result))) => result,
            Ok(Some(Err(error))) => Err(Failure::new(format!("it panics: {error}"))),
            Ok(None) => Err(Failure::new("it was not begun")),
            Err(_) => Err(Failure::new(format!("it hangs: no end after {patience:?}"))),
        }
    }
}
