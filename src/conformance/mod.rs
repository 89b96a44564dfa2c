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

mod case;
pub mod cases;
mod failure;
mod setup;

use std::{fmt, sync::Arc, time::Duration};

pub use self::{
    case::Case,
    failure::{CaseResult, Failure},
    setup::{Bench, Setup},
};
use crate::{devnode::DevNode, error::Result, job::Revision, transport::Transport};

/// How long a case may take before it counts as hanging, unless set.
const PATIENCE: Duration = Duration::from_secs(60);

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
