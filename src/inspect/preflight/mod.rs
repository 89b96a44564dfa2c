//! Will it land? What the chain and the node say of a job before it is sent.
//!
//! `finding.rs` has the kinds of findings. `gather.rs` has the chain and the node asked, each in one round trip, and
//! makes `Prospects` of the answers; `judge.rs` and `on_chain.rs` make [`Finding`]s of that, without I/O; `look.rs` has
//! what forbids the job looked at once more; `report.rs` is what the caller gets.
//!
//! ```text
//! Client::preflight ──→ look ──→ gather ──→ chain: one block ──┐
//!                         ↑        └─────→ node: GetResult, ContainsProgram, revision ──→ judge ──→ PreflightReport
//!                         └── once more, if somebody else's word forbids the job ────────────┘
//! ```
//!
//! - **A finding that explains others stands for them.** Where there is no consumer, nothing is said of its signer.
//! - **A required preflight comes between the signature and the flight.** The lease is still the caller's, and not
//!   marked as sent, so a refusal or a caller who goes away frees the nonce. The report holds nothing of the
//!   signature. The chain's RPC has seen the signature and the hash, as EIP-1271 needs both, and not the request. A
//!   job that came in signed is not claimed before it has passed. If it may have been sent earlier, the refusal says
//!   so (`Outcome::Unknown`).
//! - **A repeated submission is not refused.** The same payload at the node, or complete on chain, is a note. The
//!   inputs that the consumer keeps say whether the complete job is this one; if they are missing, the node's record
//!   does.
//! - **A gap of an Ordered lane** is what lies between the contract's next nonce and the job's and is in no book of
//!   this client's. Leased, quarantined and spent nonces are in its books. So after a restart, resume what is under
//!   way before the first preflight.
//! - **The head of an Ordered lane.** Who is next to land is known once the chain has answered. If that is another job,
//!   its record is asked for, and then what the contracts would say to its result. Nothing behind it is relayed before.
//!   The same is asked of this very job, if the node has executed it.
//! - **States on their way.** A job may begin with a state that a verified result of this client leads to, of which
//!   128 are remembered for a consumer, or with one that the caller gives. That counts until that result's job is on
//!   chain; from then on the contract's latest state decides.
//! - **What cannot be asked is a warning**, and an error if the preflight is required.

mod evidence;
mod finding;
mod gather;
mod judge;
mod look;
mod on_chain;
mod report;

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
};

use alloy_primitives::B256;
use tracing::Instrument;

pub use self::{
    finding::{Finding, FindingKind, Severity},
    report::PreflightReport,
};
use super::sources::Sources;
use crate::{
    error::Result,
    job::{SignedJob, Verified},
    observe,
    runtime::require_runtime,
};

/// A preflight to be made: `.await` it. Made by [`Client::preflight`](crate::Client::preflight).
///
/// Cancel safety: it only reads, and can be dropped at any time.
#[derive(Debug)]
#[must_use = "a preflight is made when it is awaited"]
pub struct Preflight<'a> {
    sources: &'a Sources,
    job: &'a SignedJob,
    required: bool,
    expected: gather::Expected,
}

impl<'a> Preflight<'a> {
    pub(crate) fn new(sources: &'a Sources, job: &'a SignedJob) -> Self {
        Self { sources, job, required: false, expected: gather::Expected::default() }
    }

    /// Has what could not be found out count as bad: a submission depends on it.
    pub(crate) fn required(mut self) -> Self {
        self.required = true;
        self
    }

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

    /// Adds a state root or hash that will be the consumer's latest when the job is relayed, as you know without a
    /// result.
    pub fn expecting_state(mut self, state: B256) -> Self {
        self.expected.states.push(state);
        self
    }

    async fn run(self) -> Result<PreflightReport> {
        require_runtime().map_err(|error| error.with_job(self.job.id()))?;
        let look = Box::pin(look::look(self.sources, self.job, self.required, &self.expected));
        let span = observe::preflight(self.job);
        let seen = look.instrument(span.clone()).await;
        let report = PreflightReport::new(self.job, seen.findings, seen.chain_round_trips, seen.node_round_trips);
        observe::found(&span, report.worst());
        Ok(report)
    }
}

impl<'a> IntoFuture for Preflight<'a> {
    type Output = Result<PreflightReport>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
