//! What the watcher asks of a client.

use std::sync::Arc;

use alloy_primitives::Address;
use async_trait::async_trait;

use super::{
    Inner,
    flight::{Flight, fly},
};
use crate::{
    chain::Chain,
    error::Result,
    job::{JobId, JobRecord, Revision, SignedJob, Verified},
    rpc::Method,
    watch::Node,
};

#[async_trait]
impl Node for Inner {
    fn knows_operator(&self) -> bool {
        self.operator.is_known()
    }

    async fn operator_changed(&self, from: Address) -> Result<Option<Address>> {
        self.operator.changed(from).await
    }

    async fn operator(&self) -> Result<Option<Address>> {
        self.operator.get().await
    }

    fn endpoint(&self) -> &str {
        self.transport.endpoint()
    }

    fn chain(&self) -> Option<&Chain> {
        self.chain.as_ref()
    }

    fn has_list(&self) -> bool {
        self.wire.revision() == Revision::Relay && self.require(Method::GetPendingJobs).is_ok()
    }

    async fn look(&self, id: JobId) -> Result<JobRecord> {
        Self::look(self, id).await
    }

    async fn list(&self, consumer: Address) -> Result<Vec<u64>> {
        self.list(consumer).await
    }

    async fn send(self: Arc<Self>, job: SignedJob) -> Result<()> {
        fly(&self, Flight { job, lease: None, by_wait: true }).await
    }

    fn verified(&self, job: &SignedJob, result: &Verified) {
        self.states.note(job, result);
        self.flights.verified(&self.nonces, job);
    }
}
