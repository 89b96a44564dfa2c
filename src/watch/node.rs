//! What the watcher needs of a node; the client gives it.

use std::sync::Arc;

use alloy_primitives::Address;
use async_trait::async_trait;

use crate::{
    chain::Chain,
    error::Result,
    job::{JobId, JobRecord, SignedJob, Verified},
};

#[async_trait]
pub(crate) trait Node: Send + Sync + 'static {
    /// Whether it is known whose results are believed, or can be found out.
    fn knows_operator(&self) -> bool;

    /// Whose results are believed.
    async fn operator(&self) -> Result<Option<Address>>;

    /// Whose results are believed now, if that is somebody else: for a result that this one has not signed.
    async fn operator_changed(&self, from: Address) -> Result<Option<Address>>;

    fn endpoint(&self) -> &str;

    /// The chain that has the last word, if there is one.
    fn chain(&self) -> Option<&Chain>;

    /// Whether pending jobs can be listed, as far as is known.
    fn has_list(&self) -> bool;

    /// Looks a job up, once.
    async fn look(&self, id: JobId) -> Result<JobRecord>;

    /// Lists a consumer's pending jobs, once. Dropping it does not end the call.
    async fn list(&self, consumer: Address) -> Result<Vec<u64>>;

    /// Sends a job's bytes, unless that is under way; dropping it does not end that.
    async fn send(self: Arc<Self>, job: SignedJob) -> Result<()>;

    /// A result of the job was verified.
    fn verified(&self, job: &SignedJob, result: &Verified);
}
