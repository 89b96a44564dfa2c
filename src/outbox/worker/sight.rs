//! Finds out how a job stands, through the client's flights and its watcher.

use std::{collections::HashSet, future::pending, mem::Discriminant, sync::Arc, time::Duration};

use super::{context::Context, desk::PostState, slot::LaneSlot};
use crate::{
    client::{Cause, JobHandle},
    error::{ErrorKind, Outcome, Result},
    job::{SignedJob, Verified, echo_difference},
    outbox::{
        decide::{Announced, Sighted},
        store::{Act, JobRow, PayloadKind, PayloadRow, StoredResult},
    },
    watch::Until,
};

/// Longer than any pause.
const LONG: Duration = Duration::from_secs(3600);

/// Why a job stands still: told again only once it is another reason.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stands {
    Diagnosed(Discriminant<Cause>),
    /// The node, its gateway, the chain or the contracts refuse something for good.
    Refused(ErrorKind),
}

/// What was seen, and in words.
pub(super) struct Impression {
    pub(super) sighted: Sighted,
    pub(super) note: Option<String>,
    /// Why it stands still, if it does: a person may want to know.
    pub(super) stands: Option<Stands>,
}

impl From<Sighted> for Impression {
    fn from(sighted: Sighted) -> Self {
        Self { sighted, note: None, stands: None }
    }
}

impl Impression {
    pub(super) fn noted(sighted: Sighted, note: impl ToString) -> Self {
        Self { sighted, note: Some(note.to_string()), stands: None }
    }

    pub(super) fn standing(self, why: Stands) -> Self {
        Self { stands: Some(why), ..self }
    }
}

pub(super) struct Eye {
    pub(super) context: Arc<Context>,
    /// Given up once the job is relayed.
    slot: Option<LaneSlot>,
    /// Jobs from before this process: their bytes may be anywhere.
    recovered: bool,
    /// Payloads that were signed in this process.
    signed: HashSet<i64>,
    /// Payloads that may have left.
    left: HashSet<i64>,
    /// Payloads that the node has shown to this process.
    shown: HashSet<i64>,
    /// Payloads that the node does not know, or knows no more.
    unknown: HashSet<i64>,
    /// The result that is stored.
    kept: Option<StoredResult>,
    /// The payload whose result was kept when it was executed.
    early: Option<i64>,
    earlier: Option<i64>,
    /// The chain has the job, whatever the node says.
    landed: bool,
    /// The payload that was signed or looked at last, as it is stored.
    read: Option<Arc<(PayloadRow, SignedJob)>>,
    /// What is known of posting its result.
    pub(super) posting: PostState,
    /// Of the payload that was looked at last; it remembers how far the job has come, and since when.
    pub(super) handle: Option<(i64, JobHandle)>,
}

impl Eye {
    pub(super) fn new(context: Arc<Context>, slot: LaneSlot, recovered: bool) -> Self {
        let (signed, left, shown, unknown) = Default::default();
        Self {
            context,
            slot: Some(slot),
            recovered,
            signed,
            left,
            shown,
            unknown,
            kept: None,
            early: None,
            earlier: None,
            landed: false,
            read: None,
            posting: PostState::new(recovered),
            handle: None,
        }
    }

    pub(super) fn signed_here(&mut self, payload: i64) {
        self.signed.insert(payload);
    }

    /// The earlier payload that node or chain have.
    pub(super) fn earlier(&self) -> Option<i64> {
        self.earlier
    }

    pub(super) fn set_earlier(&mut self, payload: i64) {
        self.earlier = Some(payload);
    }

    /// The chain has the job: from now on its word counts.
    pub(super) fn set_landed(&mut self) {
        self.landed = true;
    }

    /// Whether none of the payload's bytes can be anywhere.
    pub(super) fn never_left(&self, payload: i64) -> bool {
        self.signed.contains(&payload) && !self.left.contains(&payload)
    }

    /// Node and chain have what was told no more: what is known of it counts no more.
    pub(super) fn set_gone(&mut self) {
        (self.kept, self.handle, self.landed) = (None, None, false);
        (self.posting.executed, self.posting.landed) = (None, None);
    }

    /// The node does not know the payload, so it is sent to it.
    pub(super) fn set_unknown(&mut self, payload: i64) {
        self.shown.remove(&payload);
        self.unknown.insert(payload);
    }

    /// Whether the job may have had payloads beside this one.
    pub(super) fn may_have_others(&self, payload: &PayloadRow) -> bool {
        self.recovered || self.earlier.is_some() || payload.kind != PayloadKind::Original
    }

    /// Sends the job, unless the node has it, and waits until it has come further. `again`: sends it in any case.
    pub(super) async fn look(&mut self, job: &JobRow, again: bool) -> Result<Impression> {
        let read = self.read(job.payload).await?;
        let (payload, signed) = &*read;
        if self.is_posting(payload.id).await? {
            return Ok(Sighted::Unrelayed.into());
        }
        let handle = match self.at_node(payload, signed, again).await {
            Ok(handle) => handle,
            Err(error) => return self.interpret(error, job, payload, signed).await,
        };
        let goal = self.goal(job.told);
        match self.wait(&handle, payload, goal).await {
            Ok(None) => Ok(Sighted::Unrelayed.into()),
            Ok(Some(verified)) => {
                if job.told == Announced::Result && self.differs(payload.id, &verified).await? {
                    self.set_gone();
                    return Ok(Impression::noted(Sighted::Gone, "the result is another one than was told"));
                }
                self.keep(payload, &verified).await?;
                let ends = job.told != Announced::Nothing || goal == self.context.final_stage();
                Ok(if ends { Sighted::Final } else { Sighted::Reached }.into())
            }
            Err(error) => self.interpret(error, job, payload, signed).await,
        }
    }

    /// A signed payload never changes, so it is read once.
    pub(super) async fn read(&mut self, payload: i64) -> Result<Arc<(PayloadRow, SignedJob)>> {
        if let Some(read) = self.read.as_ref().filter(|read| read.0.id == payload) {
            return Ok(Arc::clone(read));
        }
        let payload = self.context.payload(payload).await?;
        let signed = self.context.signed(&payload)?;
        Ok(self.has_read(payload, signed))
    }

    /// A payload as the store has it, with its signature.
    pub(super) fn has_read(&mut self, payload: PayloadRow, signed: SignedJob) -> Arc<(PayloadRow, SignedJob)> {
        Arc::clone(self.read.insert(Arc::new((payload, signed))))
    }

    /// Until the relay comes that did not come, if `stalled`. What goes wrong meanwhile is found out after the pause.
    pub(super) async fn relay_comes(&self, job: &JobRow, stalled: bool) {
        if let Some((payload, handle)) = self.handle.as_ref().filter(|_| stalled)
            && *payload == job.payload
            && handle.wait(Until::Relayed).timeout(LONG).await.is_ok()
        {
            return;
        }
        pending().await
    }

    /// How far it is waited for.
    fn goal(&self, told: Announced) -> Until {
        match self.context.lane.config().until() {
            _ if told != Announced::Nothing => self.context.final_stage(),
            Until::Executed if self.landed => Until::Relayed,
            until => until,
        }
    }

    async fn at_node(&mut self, payload: &PayloadRow, signed: &SignedJob, again: bool) -> Result<JobHandle> {
        let client = &self.context.client;
        // From before a restart a wait finds out whether the node has it, and sends it if not. But if it took the place of
        // one that failed, the wait would find the other one's record.
        let from_before = self.recovered && !self.signed.contains(&payload.id) && !self.unknown.contains(&payload.id);
        let known = self.shown.contains(&payload.id) || from_before && !payload.kind.supersedes();
        if known && !again {
            self.left.insert(payload.id);
            if let Some((_, handle)) = self.handle.as_ref().filter(|(of, _)| *of == payload.id) {
                return Ok(handle.clone());
            }
            let handle = client.resume(signed.clone())?;
            self.handle = Some((payload.id, handle.clone()));
            return Ok(handle);
        }
        if from_before && !again && self.is_at_node(signed).await? {
            self.left.insert(payload.id);
            self.shown.insert(payload.id);
            let handle = client.resume(signed.clone())?;
            self.handle = Some((payload.id, handle.clone()));
            return Ok(handle);
        }
        if payload.kind.supersedes() {
            // A submission of the other one may have ended unknown here before another instance put this one in its place.
            client.make_way(signed);
        }
        self.context.points.pass("before_send");
        let submitted = client.submit_signed(signed.clone()).await;
        self.context.points.pass("sent");
        let error = match submitted {
            Ok(handle) => {
                self.left.insert(payload.id);
                self.shown.insert(payload.id);
                self.handle = Some((payload.id, handle.clone()));
                return Ok(handle);
            }
            Err(error) => error,
        };
        // A refusal says that this payload did not run; one of a nonce in use may be about a submission before.
        if !matches!(error.outcome(), Outcome::NotSent | Outcome::Rejected) {
            self.left.insert(payload.id);
        }
        Err(error)
    }

    /// Whether the node has this very payload. One that takes no second payload of a job has it from before.
    async fn is_at_node(&self, signed: &SignedJob) -> Result<bool> {
        match self.context.client.get_result(signed.id()).await {
            Ok(record) => Ok(echo_difference(signed, &record).is_none()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits for a result, and gives up the slot on the way. Nothing if it is time to post it. Where somebody wants
    /// results as soon as they are executed, this one is kept then.
    async fn wait(&mut self, handle: &JobHandle, payload: &PayloadRow, goal: Until) -> Result<Option<Verified>> {
        let lane = Arc::clone(&self.context.lane);
        if goal == Until::Executed || self.is_early(payload.id) {
            return self.wait_for(handle, payload, goal).await;
        }
        tokio::select! {
            biased;
            () = lane.wants_early() => {}
            waited = self.wait_for(handle, payload, goal) => return waited,
        }
        if !self.is_kept(payload.id).await? {
            let verified = handle.wait(Until::Executed).timeout(lane.config().patience()).await?;
            self.keep(payload, &verified).await?;
        }
        self.early = Some(payload.id);
        self.wait_for(handle, payload, goal).await
    }

    /// Whether a result of the payload was kept when it was executed.
    fn is_early(&self, payload: i64) -> bool {
        self.early == Some(payload)
    }

    async fn wait_for(&mut self, handle: &JobHandle, payload: &PayloadRow, goal: Until) -> Result<Option<Verified>> {
        let patience = self.context.lane.config().patience();
        if goal != Until::Executed && !self.wait_for_relay(handle, payload).await? {
            return Ok(None);
        }
        if self.slot.is_some() && matches!(goal, Until::Finalized { .. }) {
            handle.wait(Until::Relayed).timeout(patience).await?;
            self.slot = None;
        }
        let verified = handle.wait(goal).timeout(patience).await?;
        if goal != Until::Executed {
            self.slot = None;
        }
        Ok(Some(verified))
    }

    /// A result is stored when it is first seen: whoever has it can post it although the node lost it.
    pub(super) async fn keep(&mut self, payload: &PayloadRow, verified: &Verified) -> Result<()> {
        let result = StoredResult {
            payload: payload.id,
            operator: verified.operator(),
            result_with_metadata: verified.result_with_metadata().clone(),
            operator_signature: verified.operator_signature().clone(),
            finality: verified.finality().copied(),
        };
        if !self.kept.as_ref().is_some_and(|kept| kept.says(&result)) {
            let of = (payload.ticket, payload.nonce);
            self.context.act_on(of, Act::Result(result.clone())).await?;
            self.context.points.pass("result");
            self.kept = Some(result);
            self.context.lane.result_kept();
        }
        Ok(())
    }

    /// Whether the result is another one than is stored.
    async fn differs(&self, payload: i64, verified: &Verified) -> Result<bool> {
        let stored = self.stored(payload).await?;
        Ok(stored.is_some_and(|stored| stored.result_with_metadata != *verified.result_with_metadata()))
    }

    /// The payload's result, as it is stored.
    pub(super) async fn stored(&self, payload: i64) -> Result<Option<StoredResult>> {
        match &self.kept {
            Some(kept) if kept.payload == payload => Ok(Some(kept.clone())),
            _ => self.context.storage.result(payload).await,
        }
    }

    /// Whether a result of the payload is stored.
    pub(super) async fn is_kept(&self, payload: i64) -> Result<bool> {
        Ok(self.stored(payload).await?.is_some())
    }
}
