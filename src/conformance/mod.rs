//! The suite that every transport must pass, in every revision: run it against a transport of your own.
//!
//! Unstable: cases are added and sharpened in any release, so a transport that passes today may fail tomorrow.
//!
//! Each case is a public async function of [`cases`]. It starts a development node, reaches it through the transport
//! under test, and looks at both ends. [`Suite::run`] runs them all. A call that is not among the transport's
//! [capabilities](crate::transport::Transport::capabilities) is not skipped: it must be refused before any I/O.
//!
//! Two things the suite cannot see from outside, so a transport's own tests must show them: that every call ends by a
//! deadline, and that answers are bounded in size.
//!
//! ```
//! use std::sync::Arc;
//! use infinityvm_sdk::{Revision, conformance::Suite, transport::GrpcTransport};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), infinityvm_sdk::Error> {
//! let suite = Suite::new(|node| Ok(Arc::new(GrpcTransport::builder(node.grpc_url()).build()?)));
//! let report = suite.run(Revision::Relay).await;
//! assert!(report.passed(), "{report}");
//! # Ok(())
//! # }
//! ```

pub mod cases;
mod setup;

use std::{error::Error as StdError, fmt, pin::Pin, sync::Arc, time::Duration};

use tokio::task::JoinSet;

pub use self::setup::{Bench, Setup};
use crate::{
    devnode::DevNode,
    error::{Error, Result},
    job::Revision,
    rpc::Method,
    transport::Transport,
};

/// How long a case may take before it counts as hanging, unless set.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a case failed.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// A failure, in words.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // Advice is for users of a client, not for who writes a transport.
        let report = error.report().to_string();
        Self(report.lines().filter(|line| !line.starts_with("  what next:")).collect::<Vec<_>>().join("\n"))
    }
}

/// What a case gives back.
pub type CaseResult = std::result::Result<(), Failure>;

type Run = for<'a> fn(&'a Setup) -> Pin<Box<dyn Future<Output = CaseResult> + Send + 'a>>;

/// One case of the suite.
#[derive(Clone, Copy)]
pub struct Case {
    /// The function's name in [`cases`].
    pub name: &'static str,
    /// The call that the case is about, if some transports or revisions lack it. For those the case tests that the call
    /// is refused before any I/O.
    pub needs: Option<Method>,
    run: Run,
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

/// The suite, for one kind of transport.
pub struct Suite {
    connect: Arc<setup::Connect>,
    patience: Duration,
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Suite")
    }
}

impl Suite {
    /// A suite for transports that are made like this. It is called several times, for nodes that speak the one or the
    /// other revision, and for nodes that are gone.
    pub fn new(connect: impl Fn(&DevNode) -> Result<Arc<dyn Transport>> + Send + Sync + 'static) -> Self {
        Self { connect: Arc::new(connect), patience: PATIENCE }
    }

    /// How long a case may take before it counts as hanging. Default: one minute.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The setup that a single [`Case`] needs.
    #[must_use]
    pub fn setup(&self, revision: Revision) -> Setup {
        Setup::new(revision, Arc::clone(&self.connect), self.patience)
    }

    /// Runs every case in this revision, one after the other.
    pub async fn run(&self, revision: Revision) -> SuiteReport {
        let setup = self.setup(revision);
        let mut results = Vec::new();
        for case in cases::ALL {
            results.push((case.name, case.run(&setup).await.err()));
        }
        SuiteReport { revision, results }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct SuiteReport {
    revision: Revision,
    results: Vec<(&'static str, Option<Failure>)>,
}

impl SuiteReport {
    /// Whether every case held.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.results.iter().all(|(_, failure)| failure.is_none())
    }

    /// The names of all cases that were run.
    pub fn cases(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.results.iter().map(|(name, _)| *name)
    }

    /// The cases that did not hold.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, &Failure)> + '_ {
        self.results.iter().filter_map(|(name, failure)| failure.as_ref().map(|failure| (*name, failure)))
    }
}

impl fmt::Display for SuiteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failures().count();
        write!(f, "{} revision: {} cases passed, {failed} failed", self.revision, self.results.len() - failed)?;
        for (name, failure) in self.failures() {
            write!(f, "\n- {name}: {}", failure.to_string().replace('\n', "\n  "))?;
        }
        Ok(())
    }
}
