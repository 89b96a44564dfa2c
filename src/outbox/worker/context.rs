//! What the lane's worker and its jobs share.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    backoff::{Backoff, Jitter, Random},
    client::Client,
    error::{Error, ErrorKind, Result},
    job::{OffchainJobRequest, SignedJob, UnsignedJob},
    observe::{ClientEvent, ObservedTicket},
    outbox::{
        clock::now,
        decide::{Saved, Situation},
        lane::LaneHandle,
        news::{ActNews, LaneVoice},
        store::{Act, Acted, Fence, JobRow, LaneRow, LaneSpec, PayloadRow, Storage, damaged, is_fenced},
    },
    watch::Until,
};

/// Before a store that cannot be written at the moment is written again.
const STORE_PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5), Jitter::Equal);

type OnPoint = Arc<dyn Fn(&'static str) + Send + Sync>;

/// Named points between two steps, at which tests end the process.
#[derive(Clone, Default)]
pub(crate) struct Points(Option<OnPoint>);

impl Points {
    pub(crate) fn calling(call: impl Fn(&'static str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(call)))
    }

    pub(crate) fn pass(&self, point: &'static str) {
        if let Some(call) = &self.0 {
            call(point);
        }
    }
}

impl fmt::Debug for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Points")
    }
}

pub(crate) struct Context {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) client: Client,
    pub(super) lane: Arc<LaneHandle>,
    pub(super) spec: LaneSpec,
    pub(super) points: Points,
    pub(super) random: Random,
    /// In an Ordered lane of which a result was posted: the next nonce, until the node relays again.
    pub(super) posts_next: watch::Sender<Option<u64>>,
    fence: Fence,
}

impl Context {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        client: Client,
        lane: Arc<LaneHandle>,
        row: &LaneRow,
        fence: Fence,
        points: Points,
    ) -> Self {
        let (random, posts_next) = (Random::default(), watch::Sender::new(None));
        Self { storage, client, lane, spec: row.spec.clone(), points, random, posts_next, fence }
    }

    pub(super) fn now(&self) -> u64 {
        now()
    }

    /// One step of the lane, told to the client's observers.
    pub(super) async fn act(&self, act: Act) -> Result<Acted> {
        let news = ActNews::of(&act);
        let acted = self.carry_out(act).await?;
        self.voice().tell(&news, None, &acted);
        Ok(acted)
    }

    /// One step of the job with this ticket and nonce, told to the client's observers.
    pub(super) async fn act_on(&self, job: (i64, Option<u64>), act: Act) -> Result<Acted> {
        let news = ActNews::of(&act);
        let acted = self.carry_out(act).await?;
        self.voice().tell(&news, Some(job), &acted);
        Ok(acted)
    }

    fn voice(&self) -> LaneVoice<'_> {
        LaneVoice { client: &self.client, consumer: self.spec.consumer, strategy: self.lane.config().strategy() }
    }

    /// A job as observers know it.
    pub(super) fn observed(&self, ticket: i64, nonce: Option<u64>) -> ObservedTicket {
        self.voice().job(ticket, nonce)
    }

    /// A store that cannot be written at the moment, as it is busy or its disk is full, is written again until it can
    /// be: nothing that comes after may happen before.
    async fn carry_out(&self, act: Act) -> Result<Acted> {
        let mut failures = 0;
        loop {
            let error = match self.act_once(act.clone()).await {
                Ok(acted) => return Ok(acted),
                Err(error) if !error.is_retryable() => return Err(error),
                Err(error) => error,
            };
            self.lane.set_trouble(Some(error));
            failures += 1;
            tokio::time::sleep(STORE_PAUSES.pause(failures, &self.random)).await;
        }
    }

    /// One step, tried once.
    pub(super) async fn act_once(&self, act: Act) -> Result<Acted> {
        let acted = self.storage.act(self.fence, act).await.inspect_err(|error| {
            if is_fenced(error) {
                let (consumer, strategy) = (self.spec.consumer, self.lane.config().strategy());
                self.client.tell(ClientEvent::WriteFenced { consumer, strategy });
            }
        })?;
        if let Acted::Numbered(numbered) = &acted {
            for (ticket, nonce) in numbered {
                let job = self.observed(*ticket, Some(*nonce));
                self.client.tell(ClientEvent::OutboxStep { job, step: "numbered" });
            }
        }
        Ok(acted)
    }

    pub(super) fn situation(&self, job: &JobRow) -> Situation {
        let config = self.lane.config();
        Situation {
            revision: self.spec.revision,
            ordered: self.spec.ordered,
            signed: job.saved == Saved::Signed,
            told: job.told,
            again: job.failures < i64::from(config.repetitions()),
            spent: false,
            after: config.after(),
            append: config.appends(),
        }
    }

    /// What nothing takes back.
    pub(super) fn final_stage(&self) -> Until {
        self.lane.config().final_stage(self.client.chain().is_some())
    }

    pub(super) async fn payload(&self, id: i64) -> Result<PayloadRow> {
        let payload = self.storage.payload(id).await?;
        payload.ok_or_else(|| damaged(format!("payload {id} is not in the store, and its job is not over")))
    }

    pub(super) fn prepare(&self, payload: &PayloadRow) -> Result<UnsignedJob> {
        let nonce = payload.nonce.ok_or_else(|| damaged(format!("payload {} has no nonce", payload.id)))?;
        let LaneSpec { consumer, revision, ordered, .. } = self.spec;
        payload.content.prepare(consumer, revision, ordered, nonce, payload.digest)
    }

    /// The bytes that were signed, as they are sent.
    pub(super) fn signed(&self, payload: &PayloadRow) -> Result<SignedJob> {
        let (_, signature) =
            payload.signed.as_ref().ok_or_else(|| damaged(format!("payload {} has no signature", payload.id)))?;
        self.prepare(payload)?.with_signature(signature.clone())
    }

    /// The payload as the service gave it.
    pub(super) fn request(&self, payload: &PayloadRow) -> Result<OffchainJobRequest> {
        payload.content.request(self.spec.consumer, self.spec.revision, self.spec.ordered)
    }
}

/// An error that ends the lane's worker, and not only what it was about.
pub(super) fn ends_the_worker(error: &Error) -> bool {
    error.kind() == ErrorKind::Closed || error.kind() == ErrorKind::Store && !error.is_retryable()
}
