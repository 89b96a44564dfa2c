//! Finds out how a job stands, through the client's flights and its watcher.

use std::{collections::HashSet, future::pending, sync::Arc, time::Duration};

use super::{
    context::{Context, ends_the_worker},
    desk::PostState,
    slot::LaneSlot,
};
use crate::{
    client::{Cause, JobHandle, PreflightReport},
    error::{Error, ErrorKind, Outcome, Result},
    job::{PastNonce, Revision, SignedJob, Verified, echo_difference},
    outbox::{
        decide::{AfterFailure, Announced, Sighted},
        store::{Act, JobRow, PayloadRow, StoredResult},
    },
    watch::{Stage, Until},
};

/// Longer than any pause.
const LONG: Duration = Duration::from_secs(3600);

/// What was seen, and in words.
pub(super) struct Impression {
    pub(super) sighted: Sighted,
    pub(super) note: Option<String>,
}

impl From<Sighted> for Impression {
    fn from(sighted: Sighted) -> Self {
        Self { sighted, note: None }
    }
}

impl Impression {
    pub(super) fn noted(sighted: Sighted, note: impl ToString) -> Self {
        Self { sighted, note: Some(note.to_string()) }
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
        let (signed, left, shown) = Default::default();
        Self {
            context,
            slot: Some(slot),
            recovered,
            signed,
            left,
            shown,
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
        let known = self.shown.contains(&payload.id)
            || self.recovered && !self.signed.contains(&payload.id) && !payload.kind.supersedes();
        if known && !again {
            self.left.insert(payload.id);
            if let Some((_, handle)) = self.handle.as_ref().filter(|(of, _)| *of == payload.id) {
                return Ok(handle.clone());
            }
            let handle = client.resume(signed.clone())?;
            self.handle = Some((payload.id, handle.clone()));
            return Ok(handle);
        }
        if self.recovered && !self.signed.contains(&payload.id) && !again && self.is_at_node(signed).await? {
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

    /// Whether a result of the payload is stored.
    pub(super) async fn is_kept(&self, payload: i64) -> Result<bool> {
        let known = self.kept.as_ref().is_some_and(|kept| kept.payload == payload);
        Ok(known || self.context.storage.result(payload).await?.is_some())
    }

    /// What an error shows of the job.
    async fn interpret(
        &mut self,
        error: Error,
        job: &JobRow,
        payload: &PayloadRow,
        signed: &SignedJob,
    ) -> Result<Impression> {
        if ends_the_worker(&error) {
            return Err(error);
        }
        let say = |sighted| Ok(Impression::noted(sighted, &error));
        match error.kind() {
            ErrorKind::DeadlineExceeded => self.stands_still(job, payload, signed).await,
            _ if PastNonce::is_in(&error) => self.whose(payload, signed, Sighted::Passed, &error).await,
            ErrorKind::JobFailed => self.whose(payload, signed, Sighted::Failed, &error).await,
            ErrorKind::NonceTaken => {
                let refused = matches!(error.outcome(), Outcome::NotSent | Outcome::Rejected);
                let free = refused && self.never_left(payload.id);
                self.whose(payload, signed, Sighted::Taken { free }, &error).await
            }
            ErrorKind::Preflight if PreflightReport::of(&error).is_some_and(PreflightReport::nonce_is_spent) => {
                let free = self.never_left(payload.id);
                self.whose(payload, signed, Sighted::Taken { free }, &error).await
            }
            ErrorKind::Verification => say(Sighted::Unproven),
            ErrorKind::WrongChain | ErrorKind::WrongRevision | ErrorKind::InvalidConfig => say(Sighted::OtherWorld),
            _ if error.is_retryable() => say(Sighted::Trouble),
            ErrorKind::Preflight | ErrorKind::Signer | ErrorKind::InvalidInput => say(Sighted::Refused),
            // What a node refuses for good it has not run: its place may be taken.
            ErrorKind::Rejected | ErrorKind::TooLarge if error.outcome() == Outcome::Rejected => say(Sighted::Failed),
            _ => say(Sighted::Trouble),
        }
    }

    /// Why a job does not move.
    async fn stands_still(&mut self, job: &JobRow, payload: &PayloadRow, signed: &SignedJob) -> Result<Impression> {
        let diagnosed = match &self.handle {
            Some((of, handle)) if *of == payload.id => handle.diagnose().await,
            _ => self.context.client.diagnose(signed).await,
        };
        let diagnosis = match diagnosed {
            Ok(diagnosis) => diagnosis,
            Err(error) if ends_the_worker(&error) => return Err(error),
            Err(error) => return Ok(Impression::noted(Sighted::Trouble, &error)),
        };
        let note = diagnosis.to_string();
        let sighted = match diagnosis.cause() {
            Cause::NonceTakenOnChain { .. } | Cause::NonceTakenAtNode { .. } => {
                let why = Error::new(ErrorKind::NonceTaken, note.clone());
                return self.whose(payload, signed, Sighted::Taken { free: false }, &why).await;
            }
            // A node of the State revision takes a nonce once, so what it has forgotten it never runs again.
            Cause::Lost
                if self.context.spec.revision == Revision::State
                    && self.context.lane.config().after() == AfterFailure::Renumber
                    && job.told == Announced::Nothing =>
            {
                Sighted::Failed
            }
            // For as long as the lane has patience; what is before it in line is not waited for in vain.
            Cause::InProgress { stage: Stage::Executed, .. }
            | Cause::RelayStalled { .. }
            | Cause::RelayGivenUp { .. }
            | Cause::RelayDropped { .. }
            | Cause::RelayReverts { .. }
            | Cause::SignerRefused { .. }
            | Cause::SignatureCheckReverted
            | Cause::NoSigner
            | Cause::StaleState { .. }
            | Cause::OtherOperator { .. }
            | Cause::Lost => self.stalled(payload.id),
            _ => Sighted::Nothing,
        };
        Ok(Impression::noted(sighted, note))
    }
}
