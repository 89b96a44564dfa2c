//! What an error shows of a job, and why a job does not move.

use std::{mem::discriminant, time::Duration};

use super::{
    context::ends_the_worker,
    sight::{Eye, Impression, Stands},
};
use crate::{
    chain::{At, ChainStanding, OnchainStatus, OneRpc},
    client::{Cause, Confidence, Diagnosis, PreflightReport, is_of_the_job},
    error::{Error, ErrorKind, Outcome, Result},
    job::{Finality, PastNonce, Revision, SignedJob},
    outbox::{
        decide::{AfterFailure, Announced, Sighted},
        store::{JobRow, PayloadRow},
    },
    watch::{Stage, Until},
};

/// How long a job stands still before a diagnosis calls it stalled, unless the lane has less patience.
const STALLED: Duration = Duration::from_secs(30);

impl Eye {
    /// What an error shows of the job.
    pub(super) async fn interpret(
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
            // Where the client does not heal, nobody else sends it again.
            ErrorKind::NotFound => {
                self.set_unknown(payload.id);
                if job.told != Announced::Result {
                    return say(Sighted::Trouble);
                }
                self.set_gone();
                say(Sighted::Gone)
            }
            _ if error.is_retryable() => say(Sighted::Trouble),
            ErrorKind::Preflight | ErrorKind::Signer | ErrorKind::InvalidInput => say(Sighted::Refused),
            // What a node refuses for good it has not run: its place may be taken.
            ErrorKind::Rejected | ErrorKind::TooLarge
                if error.outcome() == Outcome::Rejected && is_of_the_job(&error) =>
            {
                say(Sighted::Failed)
            }
            // Such as credentials that have expired: no job is at fault, and somebody has to act.
            kind => {
                self.context.lane.set_trouble(Some(error.clone()));
                Ok(Impression::noted(Sighted::Trouble, &error).standing(Stands::Refused(kind)))
            }
        }
    }

    /// Why a job does not move.
    async fn stands_still(&mut self, job: &JobRow, payload: &PayloadRow, signed: &SignedJob) -> Result<Impression> {
        if let Some(elsewhere) = self.landed_elsewhere(payload).await? {
            return Ok(elsewhere);
        }
        let config = self.context.lane.config();
        let renumbers = config.after() == AfterFailure::Renumber;
        let diagnosing = match &self.handle {
            Some((of, handle)) if *of == payload.id => handle.diagnose(),
            _ => self.context.client.diagnose(signed),
        };
        // What counts as forgotten, and gets another nonce, has stood still for longer than any patience.
        let diagnosing = match config.patience() {
            patience if patience < STALLED && !renumbers => diagnosing.stalled_after(patience),
            _ => diagnosing,
        };
        let diagnosed = diagnosing.await;
        let diagnosis = match diagnosed {
            Ok(diagnosis) => diagnosis,
            Err(error) if ends_the_worker(&error) => return Err(error),
            Err(error) => return Ok(Impression::noted(Sighted::Trouble, &error)),
        };
        let (note, cause) = (diagnosis.to_string(), diagnosis.cause());
        if let Cause::NonceTakenOnChain { .. } | Cause::NonceTakenAtNode { .. } = cause {
            let why = Error::new(ErrorKind::NonceTaken, note);
            return self.whose(payload, signed, Sighted::Taken { free: false }, &why).await;
        }
        if job.told == Announced::Result {
            match self.is_gone(payload, signed, &diagnosis).await {
                Ok(false) => {}
                Ok(true) => {
                    self.set_gone();
                    return Ok(Impression::noted(Sighted::Gone, note));
                }
                // As long as the chain cannot be read, nothing is taken back.
                Err(error) if ends_the_worker(&error) => return Err(error),
                Err(error) => return Ok(Impression::noted(Sighted::Trouble, error)),
            }
        }
        let sighted = match cause {
            // A node of the State revision takes a nonce once, so what it has forgotten it never runs again.
            Cause::Lost
                if self.context.spec.revision == Revision::State && renumbers && job.told == Announced::Nothing =>
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
            // Nothing that is sent helps: the node needs its operator, or what is missing below has to be filled.
            Cause::ExecutionStalled { .. }
            | Cause::ConsumerDead
            | Cause::ConsumerBlocked
            | Cause::NonceGap { .. }
            | Cause::StrategyMixed { .. } => Sighted::Stuck,
            _ => Sighted::Nothing,
        };
        let seen = Impression::noted(sighted, note);
        let stands = cause.is_stuck() || sighted == Sighted::Stalled;
        Ok(if stands { seen.standing(Stands::Diagnosed(discriminant(cause))) } else { seen })
    }

    /// Whether what was told of a job is no more: the node has forgotten it, and the chain does not have it; or the
    /// chain had its result, and has another block in the place of the result's.
    async fn is_gone(&self, payload: &PayloadRow, signed: &SignedJob, diagnosis: &Diagnosis) -> Result<bool> {
        let place = self.stored(payload.id).await?.and_then(|stored| stored.finality);
        match (self.context.client.chain(), place) {
            // All of it as one RPC shows it.
            (Some(chain), Some(place)) if self.context.lane.config().until() != Until::Executed => {
                chain.verdict(|chain| is_replaced(chain, signed, place)).await
            }
            // What was told when it was executed is not the chain's to take back.
            _ => {
                let cause = diagnosis.cause();
                let forgotten = matches!(cause, Cause::RelayDropped { .. } | Cause::Lost | Cause::NotKnown { .. });
                Ok(forgotten && diagnosis.confidence() == Confidence::Shown)
            }
        }
    }
}

/// Whether the chain has come as far as a job's block, and has the job neither there nor anywhere. One that lags is no
/// proof.
async fn is_replaced(chain: OneRpc, job: &SignedJob, place: Finality) -> Result<bool> {
    if super::taken::standing(&chain, job).await? != ChainStanding::Unseen {
        return Ok(false);
    }
    if chain.at_latest(|_| ()).await?.head.number < place.block_number {
        return Ok(false);
    }
    // A second look, in a round trip of its own, and about that very block.
    let mut batch = chain.batch().at(At::Number(place.block_number));
    let metadata = batch.job_metadata(job.id());
    Ok(batch.send().await?.take(metadata)?.status == OnchainStatus::Unknown)
}
