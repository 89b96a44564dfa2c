//! What an app server takes of the outbox: the lane of its consumer, with the journal that is kept beside it.

use std::{sync::Arc, time::Duration};

use alloy_primitives::Address;
use tokio::sync::{OwnedMutexGuard, watch};

use super::{
    clock::now,
    config::LaneConfig,
    intake::JobTicket,
    lane::LaneHandle,
    results::stored,
    service::Outbox,
    store::{EventRow, Fence, Halt, JobRow, LaneRow, Storage, damaged, is_fenced, journal::Journal},
};
use crate::{
    client::Client,
    error::{Error, Result},
    job::{OffchainJobRequest, SignedJob, Verified},
    outbox::decide::Saved,
};

/// Events that are read in one go.
const PAGE: u32 = 64;

/// The lane of an app's consumer.
#[derive(Clone)]
pub(crate) struct AppLane {
    outbox: Outbox,
    lane: Arc<LaneHandle>,
}

impl AppLane {
    pub(crate) fn id(&self) -> i64 {
        self.lane.id()
    }

    pub(crate) fn config(&self) -> &LaneConfig {
        self.lane.config()
    }

    pub(crate) fn client(&self) -> &Client {
        self.outbox.client()
    }

    fn storage(&self) -> &Arc<dyn Storage> {
        self.outbox.storage()
    }

    /// Where the store is, for errors.
    pub(crate) fn place(&self) -> String {
        self.storage().place()
    }

    pub(crate) fn journal(&self) -> &dyn Journal {
        self.storage().journal()
    }

    /// Milliseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        now()
    }

    /// Waits until no other server in this process writes the lane's journal; one that was dropped may be at it yet.
    pub(crate) async fn turn_to_write(&self) -> OwnedMutexGuard<()> {
        self.lane.turn_to_write().await
    }

    /// With which this instance writes for the lane; nothing if it does not have the lane. Each time that it gets the
    /// lane the fence is another one.
    pub(crate) fn fence(&self) -> Option<Fence> {
        self.lane.fence()
    }

    /// The fence, as often as this outbox gets or loses the lane.
    pub(crate) fn fences(&self) -> watch::Receiver<Option<Fence>> {
        self.lane.fences()
    }

    /// Whether other instances may have the lane. If not, an outbox without a fence will never have one.
    pub(crate) fn is_shared(&self) -> bool {
        self.storage().is_shared()
    }

    /// The instance that has the lane, where several share the store.
    pub(crate) async fn leader(&self) -> Result<Option<String>> {
        let owners = self.storage().owners().await?;
        Ok(owners.into_iter().find(|owner| owner.lane == self.id()).map(|owner| owner.instance))
    }

    /// What the lane's worker could not do lately, or why it has ended.
    pub(crate) fn trouble(&self) -> Option<Error> {
        self.lane.trouble().filter(|error| is_trouble(error, self.is_shared()))
    }

    async fn row(&self) -> Result<LaneRow> {
        let lanes = self.storage().lanes().await?;
        lanes.into_iter().find(|row| row.id == self.id()).ok_or_else(|| damaged("a lane is gone"))
    }

    /// Why the lane gives out no nonces, if it does not.
    pub(crate) async fn halt(&self) -> Result<Option<Halt>> {
        Ok(self.row().await?.halt)
    }

    /// Goes on with the lane.
    pub(crate) async fn go_on(&self, reason: &str) -> Result<()> {
        self.outbox.resume(self.config().consumer(), reason).await.map(drop)
    }

    /// Stores a job under a key, and waits for room in the lane's backlog.
    pub(crate) async fn enqueue(&self, job: OffchainJobRequest, key: String) -> Result<i64> {
        Ok(self.outbox.enqueue(job).idempotency_key(key).wait_for_room().await?.0)
    }

    /// The ticket of the job that is stored under a key.
    pub(crate) async fn enqueued(&self, key: &str) -> Result<Option<i64>> {
        Ok(self.storage().by_key(self.id(), key).await?.map(|job| job.ticket))
    }

    /// Goes on with a held job as it is.
    pub(crate) async fn retry(&self, ticket: i64, reason: &str) -> Result<()> {
        self.outbox.retry(JobTicket(ticket), reason).await
    }

    /// Puts another payload in the place of a held one's, under its nonce.
    pub(crate) async fn replace(&self, ticket: i64, job: OffchainJobRequest, reason: &str) -> Result<()> {
        self.outbox.replace(JobTicket(ticket), job, reason).await
    }

    /// Gives a held job up.
    pub(crate) async fn abandon(&self, ticket: i64, reason: &str) -> Result<()> {
        self.outbox.abandon(JobTicket(ticket), reason).await
    }

    pub(crate) async fn job(&self, ticket: i64) -> Result<Option<JobRow>> {
        self.storage().job(ticket).await
    }

    /// Whether nothing will be sent for the job any more, and nothing takes its result back.
    pub(crate) async fn is_over(&self, ticket: i64) -> Result<bool> {
        Ok(self.job(ticket).await?.is_none_or(|job| job.saved == Saved::Closed))
    }

    /// The payload that is worked on, as it was enqueued; nothing once it was purged.
    pub(crate) async fn request(&self, ticket: i64) -> Result<Option<OffchainJobRequest>> {
        let Some(job) = self.job(ticket).await? else { return Ok(None) };
        let Some(payload) = self.storage().payload(job.payload).await? else { return Ok(None) };
        let spec = self.row().await?.spec;
        payload.content.request(spec.consumer, spec.revision, spec.ordered).map(Some)
    }

    /// The signed payload that is worked on; nothing if it is not signed yet, or was purged.
    pub(crate) async fn signed(&self, ticket: i64) -> Result<Option<SignedJob>> {
        let Some(job) = self.job(ticket).await? else { return Ok(None) };
        let Some(payload) = self.storage().payload(job.payload).await? else { return Ok(None) };
        let (Some(nonce), Some((_, signature))) = (payload.nonce, payload.signed) else { return Ok(None) };
        let spec = self.row().await?.spec;
        let job = payload.content.prepare(spec.consumer, spec.revision, spec.ordered, nonce, payload.digest)?;
        job.with_signature(signature).map(Some)
    }

    /// Registers the app as a reader of the lane's events.
    pub(crate) async fn register(&self, reader: &str) -> Result<()> {
        self.storage().add_reader(self.id(), reader).await.map(drop)
    }

    /// Events that the reader has not acknowledged, in their order.
    pub(crate) async fn events(&self, reader: &str) -> Result<Vec<EventRow>> {
        self.storage().events(self.id(), reader, 0, PAGE).await
    }

    /// Acknowledges an event; it does not matter if that was done before.
    pub(crate) async fn acknowledge(&self, reader: &str, event: i64) -> Result<()> {
        self.storage().acknowledge(self.id(), reader, event).await.map(drop)
    }

    /// How often a result was kept: then [`executed`](Self::executed) may have news.
    pub(crate) fn results_kept(&self) -> watch::Receiver<u64> {
        self.lane.kept()
    }

    /// The result of the job's current payload, if it was executed: also before it is relayed, and before anything is
    /// told of it. Verified again from what the store keeps.
    pub(crate) async fn executed(&self, ticket: i64) -> Result<Option<Box<Verified>>> {
        let Some(job) = self.job(ticket).await? else { return Ok(None) };
        stored(&**self.storage(), &self.row().await?.spec, job.payload).await
    }

    /// How long a job may stand still before it is found out why.
    pub(crate) fn patience(&self) -> Duration {
        self.config().patience()
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

/// Whether what a lane's worker has ended with is a trouble to the app's server. Where instances share the store, it is
/// none that another one has taken the lane: the server stands by.
fn is_trouble(error: &Error, shared: bool) -> bool {
    !(shared && is_fenced(error))
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
        assert_eq!((lane.leader().await.unwrap(), lane.halt().await.unwrap()), (None, None));
    }

    #[test]
    fn a_take_over_is_no_trouble_where_instances_share_the_store() {
        let (taken, broken) = (crate::outbox::store::fenced("a store"), damaged("a lane is gone"));
        assert!(!is_trouble(&taken, true) && is_trouble(&taken, false));
        assert!(is_trouble(&broken, true) && is_trouble(&broken, false));
    }
}
