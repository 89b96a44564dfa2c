//! Will it land? What the chain and the node say of a job before it is sent.
//!
//! Cut in four: `gather.rs` asks the chain and the node, each in one round trip, and makes an `Evidence` of the
//! answers; `judge.rs` and `on_chain.rs` make [`Finding`]s of that, without I/O; `look.rs` has what forbids the job
//! looked at once more; `report.rs` is what the caller gets.

mod evidence;
mod finding;
mod gather;
mod judge;
mod look;
mod on_chain;
mod questions;
mod report;

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
};

use alloy_primitives::B256;

pub use self::{
    finding::{Finding, FindingKind, Severity},
    report::PreflightReport,
};
use super::Client;
use crate::{
    error::{Outcome, Result},
    job::{SignedJob, Verified},
    runtime::require_runtime,
};

/// A preflight to be made: `.await` it. Made by [`Client::preflight`].
///
/// Cancel safety: it only reads, and can be dropped at any time.
#[derive(Debug)]
#[must_use = "a preflight is made when it is awaited"]
pub struct Preflight<'a> {
    client: &'a Client,
    job: &'a SignedJob,
    required: bool,
    expected: gather::Expected,
}

impl Client {
    /// Finds out whether a signed job will land, before it is sent: one round trip to the chain, and one to the node;
    /// and a second one to each where something forbids it, as neither is believed at the first word about that.
    ///
    /// Nodes check neither the signature nor the state nor whether a contract would take the result: what they accept can hang for
    /// ever, and in an `Ordered` lane with everything behind it. This asks the contracts what they will say.
    ///
    /// It sends nothing of the job to the node but its id and the program's. The chain's RPC gets the signature and the hash that was
    /// signed, as the consumer's check needs them, and not the request.
    ///
    /// A healthy job has no [`Finding`]s, but for a [`Note`](Severity::Note) where the node cannot be asked for the program (REST, the
    /// State revision, nodes before v0.2.2).
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> doc::Outcome {
    /// # let doc::Scene { client, job, node: _node } = doc::scene().await;
    /// let signed = client.sign(job).await?;
    /// let report = client.preflight(&signed).await?;
    /// if !report.will_land() {
    ///     eprintln!("{report}"); // what was found, what it rests on, what to do
    /// }
    /// # assert!(report.will_land(), "{report}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Of the future: [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) outside of a Tokio runtime. What cannot be read is
    /// a finding.
    pub fn preflight<'a>(&'a self, job: &'a SignedJob) -> Preflight<'a> {
        Preflight { client: self, job, required: false, expected: gather::Expected::default() }
    }

    /// The preflight that submissions of this client need, if they do.
    pub(super) async fn require_preflight(&self, job: &SignedJob) -> Result<()> {
        let Some(severity) = self.inner.preflight else { return Ok(()) };
        let report = Preflight { required: true, ..self.preflight(job) }.await?;
        if report.worst() < Some(severity) {
            return Ok(());
        }
        let inner = &self.inner;
        if report.nonce_is_spent() {
            inner.nonces.taken_by_others(job.consumer(), job.nonce());
        }
        // That nothing is sent now says nothing of what was sent before, unless that was another job.
        let sent = !inner.submissions.on_hand(job).other && inner.submissions.may_have_run(job);
        Err(report.into_error(if sent { Outcome::Unknown } else { Outcome::NotSent }))
    }
}

impl<'a> Preflight<'a> {
    /// Adds results that are not on chain yet: the job may begin with a state that one of them leads to. Those of other
    /// consumers, and of nonces above the job's, do not matter. Results that this client has verified itself it knows.
    pub fn after<'r>(mut self, results: impl IntoIterator<Item = &'r Verified>) -> Self {
        let below = |result: &&Verified| result.record().consumer() == self.job.consumer();
        for result in results.into_iter().filter(below) {
            if let Ok(output) = result.stateful() {
                self.expected.results.push((result.id(), result.record().nonce(), output.next_state));
            }
        }
        self
    }

    /// Adds a state root or hash that will be the consumer's latest when the job is relayed, as you know without a result.
    pub fn expecting_state(mut self, state: B256) -> Self {
        self.expected.states.push(state);
        self
    }

    async fn run(self) -> Result<PreflightReport> {
        require_runtime().map_err(|error| error.with_job(self.job.id()))?;
        let seen = look::look(&self.client.inner, self.job, self.required, &self.expected).await;
        Ok(PreflightReport::new(self.job, seen.findings, seen.chain_round_trips, seen.node_round_trips))
    }
}

impl<'a> IntoFuture for Preflight<'a> {
    type Output = Result<PreflightReport>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
