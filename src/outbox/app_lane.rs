//! A lane as the app server on it sees it.

use std::sync::Arc;

use alloy_primitives::Address;
use tokio::sync::watch;

use super::{
    lane::LaneHandle,
    results::stored,
    service::Outbox,
    store::{Fence, JobRow, LaneOwner, LaneRow, damaged, journal::Journal},
};
use crate::{
    error::{Error, Result},
    job::Verified,
};

/// A lane as the app server on it sees it: its journal, who may write that, and how its jobs come on.
#[derive(Clone)]
pub(crate) struct AppLane {
    outbox: Outbox,
    lane: Arc<LaneHandle>,
}

impl AppLane {
    /// The number of the lane.
    pub(crate) fn id(&self) -> i64 {
        self.lane.id()
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(crate) fn journal(&self) -> &dyn Journal {
        self.outbox.storage().journal()
    }

    /// What it is and where the store is, for errors.
    pub(crate) fn store(&self) -> String {
        self.outbox.storage().place()
    }

    /// The lane as it is in the store: what it is fixed to, and why it is halted.
    pub(crate) async fn row(&self) -> Result<LaneRow> {
        let rows = self.outbox.storage().lanes().await?;
        rows.into_iter().find(|row| row.id == self.id()).ok_or_else(|| damaged("a lane is gone"))
    }

    /// What this outbox writes the lane's journal with; nothing while it has not got the lane. Each time that it gets
    /// the lane the fence is another one. As soon as it has one it may write, also while it does not send yet.
    pub(crate) fn fence(&self) -> Option<Fence> {
        self.lane.fence()
    }

    /// The fence, as often as this outbox gets or loses the lane.
    pub(crate) fn fences(&self) -> watch::Receiver<Option<Fence>> {
        self.lane.fences()
    }

    /// Whether other instances may have the lane. If not, an outbox without a fence will never have one.
    pub(crate) fn is_shared(&self) -> bool {
        self.outbox.storage().is_shared()
    }

    /// Which instance has the lane, where several share the store.
    pub(crate) async fn leader(&self) -> Result<Option<LaneOwner>> {
        let owners = self.outbox.storage().owners().await?;
        Ok(owners.into_iter().find(|owner| owner.lane == self.id()))
    }

    /// Why the lane's worker has ended, or what it could not do lately.
    pub(crate) fn trouble(&self) -> Option<Error> {
        self.lane.trouble()
    }

    /// How often a result was kept: then [`executed`](Self::executed) may have news.
    pub(crate) fn results_kept(&self) -> watch::Receiver<u64> {
        self.lane.kept()
    }

    /// A job as it is in the store.
    pub(crate) async fn job(&self, ticket: i64) -> Result<Option<JobRow>> {
        self.outbox.storage().job(ticket).await
    }

    /// The result of the job's current payload, if it was executed: also before it is relayed, and before anything is
    /// told of it. Verified again from what the store keeps.
    pub(crate) async fn executed(&self, ticket: i64) -> Result<Option<Box<Verified>>> {
        let storage = &**self.outbox.storage();
        let Some(job) = storage.job(ticket).await? else { return Ok(None) };
        stored(storage, &self.row().await?.spec, job.payload).await
    }
}

impl Outbox {
    /// The lane of a consumer, for an app server. From now on its results are kept as soon as they are executed.
    pub(crate) fn app_lane(&self, consumer: Address) -> Result<AppLane> {
        let lane = Arc::clone(self.lane(consumer)?);
        lane.want_early();
        Ok(AppLane { outbox: self.clone(), lane })
    }
}

#[cfg(all(test, feature = "devnode", feature = "grpc"))]
mod tests {
    use super::*;
    use crate::{
        Client, JobStatus, LocalSigner, OffchainJobRequest, ProgramId, RelayStrategy, Revision,
        devnode::{ConsumerRules, DevNode},
        outbox::{LaneConfig, MemoryStore},
    };

    /// A result is kept as soon as it is executed, also that of a job which was under way before somebody wanted it so.
    #[tokio::test]
    async fn results_are_kept_before_they_are_relayed() {
        let (signer, consumer) = (LocalSigner::random().unwrap(), Address::repeat_byte(7));
        let rules = ConsumerRules::signed_by(signer.address());
        let node = DevNode::builder(Revision::Relay).consumer(consumer, rules).start().await.unwrap();
        let (ran, mut has_run) = tokio::sync::mpsc::unbounded_channel();
        let program = node.register_program(move |input| {
            _ = ran.send(());
            Ok(input.onchain.to_vec())
        });
        let program = ProgramId::new(program);
        node.faults().stall_relays(true);
        let client = Client::builder().grpc(node.grpc_url()).revision(Revision::Relay).signer(signer);
        let client = client.operator(node.operator()).nonces(crate::nonce::Given).connect().await.unwrap();
        let lane = LaneConfig::new(consumer, RelayStrategy::Ordered);
        let outbox = Outbox::builder(client, MemoryStore::new()).network("test").lane(lane).start().await.unwrap();
        let job = |input: u8| {
            let job = OffchainJobRequest::builder(consumer, program.clone()).max_cycles(1_000);
            job.onchain_input(vec![input]).relay(RelayStrategy::Ordered).build().unwrap()
        };
        let before = outbox.enqueue(job(1)).await.unwrap().number();
        has_run.recv().await.unwrap();
        let lane = outbox.app_lane(consumer).unwrap();
        let after = outbox.enqueue(job(2)).await.unwrap().number();
        let mut kept = lane.results_kept();
        for (ticket, output) in [(before, [1]), (after, [2])] {
            let verified = loop {
                if let Some(verified) = lane.executed(ticket).await.unwrap() {
                    break verified;
                }
                kept.changed().await.unwrap();
            };
            assert_eq!(verified.output()[..], output);
            assert_ne!(*verified.record().status(), JobStatus::Relayed);
        }
        assert!(lane.fence().is_some() && !lane.is_shared());
        assert_eq!(*lane.fences().borrow(), lane.fence());
        assert_eq!((lane.leader().await.unwrap(), lane.row().await.unwrap().halt), (None, None));
    }
}
