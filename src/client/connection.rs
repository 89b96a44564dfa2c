//! The client, from the job to its handle.

use std::{fmt, sync::Arc, time::Duration};

use alloy_primitives::Address;
use tokio::time::Instant;
use tracing::Instrument;

#[cfg(doc)]
use super::{HealPolicy, RetryPolicy};
use super::{
    builder::ClientBuilder,
    handle::JobHandle,
    many::{WaitAll, WatchMany},
    parts::Parts,
    signing,
};
use crate::{
    chain::{Binding, Chain, ChainStanding},
    error::{Error, ErrorKind, Outcome, Result},
    inspect::{Preflight, PreflightReport},
    job::{JobId, JobRecord, JobSigner, OffchainJobRequest, ProgramId, Revision, SignedJob},
    nonce::{Claim, Lane, LanePlace, NonceLease, NonceManager},
    observe,
    submit::{Arrival, KeptJob, lane_of},
    watch::{Stage, Until},
    wire::ProgramUpload,
};

/// How often a job takes another nonce because a node has refused the one it had as somebody else's.
const OTHER_NONCES: u32 = 3;

/// A connection to one coprocessor node. Cheap to clone; clones share nonces, flights and connections.
///
/// Made by [`Client::builder`]. Needs a Tokio runtime.
#[derive(Clone)]
pub struct Client {
    pub(super) parts: Arc<Parts>,
}

impl Client {
    pub(super) fn of(parts: Parts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// Starts a client. See [`ClientBuilder`].
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// Signs a job under a fresh nonce (or the one it was built with) and submits it.
    ///
    /// When this returns a handle, the node has shown the job back, equal in every field. No nonce is sent with two
    /// payloads: where the outcome is not known, the signed job is kept in [`unresolved`](Self::unresolved) and its
    /// nonce is quarantined. Those are memory; to survive a crash, store the job between [`sign`](Self::sign) and
    /// [`submit_signed`](Self::submit_signed).
    ///
    /// At most 128 `Ordered` jobs of a consumer are sent and not relayed ([`NonceManager::with_window`] has the rule):
    /// behind a stalled relay a node stops answering at about twice that, and giving up on it then costs the consumer
    /// its task in the node. A submission beyond that waits until one of them is relayed, before a nonce is leased, in
    /// the order in which the calls came, for as long as [`RetryPolicy::with_submit_deadline`] says. Then, or
    /// [at once](ClientBuilder::refuse_when_full), it fails with [`ErrorKind::LaneFull`], and nothing was sent. Whoever
    /// waits for jobs makes room as they are relayed. Beside that the client asks how far the lane has come: a list of
    /// pending jobs and one to a few records for all that wait, at once and then after pauses that double from 250 ms
    /// to 5 s. A failed job keeps its place until another [replaces](Self::replace) it. There are no such lanes in the
    /// State revision.
    ///
    /// The signature is checked before anything is sent: see [`SignerKind`](crate::job::SignerKind). A signer that
    /// calls its failure retryable is asked again, and one that does not answer is given up, both by
    /// [`RetryPolicy::with_signing_deadline`], 60 seconds unless set. The nonce is free then: nobody was handed a
    /// signature. A signer that is a service may have made one all the same, which nobody fetched. Should somebody send
    /// that after all, it or the next job under the nonce becomes final, never both.
    ///
    /// A source of nonces that does not answer is given up by [`RetryPolicy::with_submit_deadline`], too.
    ///
    /// What fails is tried again where that is safe, and a node that cannot be reached or does not answer is waited
    /// for, all until [`RetryPolicy::with_submit_deadline`], 60 seconds after the signature unless set. If the job may
    /// have left by then, this returns an error of unknown outcome, and the submission under way goes on by itself
    /// until it is answered or the transport gives it up. A node that the client has never reached is given up after 5
    /// seconds ([`RetryPolicy::with_first_contact`]).
    ///
    /// Cancel safety: dropping the future before the signature is there, while a
    /// [required preflight](ClientBuilder::require_preflight) is made, or while 512 other submissions are under way and
    /// this one waits for its turn, gives the nonce and its place in the lane back; after that the submission runs to
    /// its end by itself.
    ///
    /// If a [required preflight](ClientBuilder::require_preflight) finds the nonce taken on chain, the source of
    /// nonces is told, and asked for another one, once. So it is, up to three times, if the node has another job under
    /// the nonce, and this payload can have no result: a node of the State revision has refused it, as it takes a nonce
    /// once, or the [chain](ClientBuilder::chain) shows another job's result under the nonce, at two looks.
    ///
    /// An error of unknown outcome is about a job that may run. Call `submit_signed` with that very job, not `submit`,
    /// which would make a second one:
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> doc::Outcome {
    /// # use infinityvm_sdk::{Outcome, rpc::Method};
    /// # let doc::Scene { client, job, node } = doc::scene().await;
    /// # node.faults().drop_replies(Method::SubmitJob, 1, infinityvm_sdk::devnode::Loss::ResetStream);
    /// let handle = match client.submit(job).await {
    ///     Err(error) if error.outcome() == Outcome::Unknown => {
    ///         eprintln!("{}", error.report());
    ///         match client.unresolved().into_iter().find(|open| error.job_id() == Some(open.id().into())) {
    ///             Some(open) => client.submit_signed(open).await?,
    ///             None => return Err(error.into()),
    ///         }
    ///     }
    ///     submitted => submitted?,
    /// };
    /// # assert_eq!(handle.signed_job().nonce(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidConfig`] without a signer, outside of a Tokio runtime, or for an Ordered job whose source
    ///   of nonces leaves gaps, as the [default one](ClientBuilder::nonces) does,
    /// - [`ErrorKind::WrongChain`] if the client is [bound](ClientBuilder::bind) to another consumer or signer,
    /// - [`ErrorKind::Signer`] if there is no signature, or it is not the signer's over this job,
    /// - [`ErrorKind::InvalidInput`], [`ErrorKind::TooLarge`], [`ErrorKind::Nonce`] before anything is sent,
    /// - those of [`submit_signed`](Self::submit_signed).
    pub async fn submit(&self, job: OffchainJobRequest) -> Result<JobHandle> {
        let span = observe::submit(job.consumer(), job.relay_strategy());
        let done = self.submit_at(job, Instant::now()).instrument(span.clone()).await;
        observe::end(&span, done)
    }

    async fn submit_at(&self, job: OffchainJobRequest, begun: Instant) -> Result<JobHandle> {
        let (signed, arrival, _) = self.send(job, &|_| None).await?;
        Ok(JobHandle::landed(Arc::clone(&self.parts), signed, arrival.landed, begun))
    }

    /// Signs a job and submits it. `first_look` says how long after the node took it its record is to be compared, for
    /// a run; the job is then kept until the run says that it is over.
    pub(super) async fn send(
        &self,
        job: OffchainJobRequest,
        first_look: &(dyn Fn(&SignedJob) -> Option<Duration> + Sync),
    ) -> Result<(SignedJob, Arrival, Option<KeptJob>)> {
        let submissions = &self.parts.submissions;
        // Dropped after the lease: whoever gets the place finds the nonce free.
        self.may_sign(&job)?;
        let mut place = self.parts.places.of_unsigned(&job).await?;
        let mut lease = self.lease(&job, &mut place).await?;
        let mut signed = self.sign_under(&job, lease.nonce()).await?;
        // A lease that is dropped here is free again: nothing was sent, and the only copy of the signed job goes with it. The
        // chain's RPC has seen the signature, but not what was signed.
        if let Err(error) = self.require_preflight(&signed).await {
            // Somebody may have taken the nonce on chain after its source looked there. It was told, and is asked for another, once.
            let spent = PreflightReport::of(&error).is_some_and(PreflightReport::nonce_is_spent);
            if !spent || job.nonce().is_some() || error.outcome() != Outcome::NotSent {
                return Err(error);
            }
            drop(lease);
            lease = self.lease(&job, &mut place).await?;
            if lease.nonce() == signed.nonce() {
                return Err(error);
            }
            signed = self.sign_under(&job, lease.nonce()).await?;
            self.require_preflight(&signed).await?;
        }
        let mut tries = OTHER_NONCES;
        loop {
            let first_look = first_look(&signed);
            let kept = first_look.map(|_| submissions.keep(signed.clone()));
            let error = match submissions.submit_new(signed.clone(), lease, first_look).await {
                Ok(arrival) => return Ok((signed, arrival, kept)),
                Err(error) => error,
            };
            let taken = error.kind() == ErrorKind::NonceTaken && job.nonce().is_none();
            if tries == 0 || !taken || !self.cannot_land(&signed, &error).await {
                return Err(error);
            }
            tries -= 1;
            lease = self.lease(&job, &mut place).await?;
            signed = self.sign_under(&job, lease.nonce()).await?;
            self.require_preflight(&signed).await?;
        }
    }

    /// Whether a job whose nonce is another's at the node can have no result. A node of the State revision never takes
    /// a second payload under a nonce. Elsewhere both may run, and only the chain says which of them has landed.
    async fn cannot_land(&self, job: &SignedJob, taken: &Error) -> bool {
        if self.revision() == Revision::State && taken.outcome() == Outcome::Rejected {
            return true;
        }
        matches!(self.standing(job).await, Ok(Some(ChainStanding::Taken(_))))
    }

    /// Signs a job under a fresh nonce (or the one it was built with), and sends nothing.
    ///
    /// For services that must survive a crash, and lose and double no job. Fix payload **and nonce** in your own
    /// database first, in the row of the order; sign under that nonce ([`Given`](crate::nonce::Given)); store the
    /// [`SignedJob`] in the row; then [`submit_signed`](Self::submit_signed). After a restart sign a row without a
    /// signed job again, under the same nonce, and [`resume`](Self::resume) a row with one. The
    /// [guide](crate::guide::surviving_a_crash) has all of it as code that runs.
    ///
    /// The nonce is quarantined until the job is submitted, as the job may be sent from anywhere.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> doc::Outcome {
    /// # use infinityvm_sdk::{Client, OffchainJobRequest, nonce::Given};
    /// # let doc::Parts { node, signer, consumer, program } = doc::parts(infinityvm_sdk::Revision::Relay).await;
    /// # let client = Client::builder().grpc(node.grpc_url()).signer(signer).nonces(Given).connect().await?;
    /// # struct Row { nonce: u64, signed: Option<infinityvm_sdk::SignedJob> }
    /// # let mut row = Row { nonce: 1, signed: None };
    /// // `row` holds the payload and its nonce, and is in the database.
    /// let job = OffchainJobRequest::builder(consumer, program).nonce(row.nonce).max_cycles(32_000_000).build()?;
    /// let signed = client.sign(job).await?;
    /// row.signed = Some(signed.clone()); // committed to the database before the next line
    /// let handle = client.submit_signed(signed).await?;
    /// # assert_eq!(handle.signed_job().nonce(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`submit`](Self::submit) before anything is sent.
    pub async fn sign(&self, job: OffchainJobRequest) -> Result<SignedJob> {
        let mut lease = self.lease(&job, &mut None).await?;
        let signed = self.sign_under(&job, lease.nonce()).await?;
        lease.mark_signed();
        lease.quarantine();
        Ok(signed)
    }

    /// Submits a job that is signed already, here or elsewhere, now or before a restart.
    ///
    /// Safe to repeat: while a submission of the same job is under way this call joins it, and a node that has the job
    /// already is asked for its record, which must be equal in every field.
    ///
    /// In the Relay revision it also takes the place of a job that failed, if it was signed under that one's nonce. For
    /// that, [`replace`](Self::replace) signs and checks, and [`replace_signed`](Self::replace_signed) checks.
    ///
    /// # Errors
    /// - [`ErrorKind::NonceTaken`] if the nonce belongs to another payload: at the node, being signed or under way in
    ///   this client, or unresolved in it,
    /// - [`ErrorKind::Nonce`] of unknown outcome if another client that shares the [`NonceManager`] submits under the
    ///   nonce at this moment, perhaps this very job,
    /// - [`ErrorKind::LaneFull`] for an Ordered job that found no place in its lane's window: see
    ///   [`submit`](Self::submit). A job that has one already, or is below all that have, does not wait,
    /// - [`ErrorKind::InvalidConfig`] outside of a Tokio runtime,
    /// - [`ErrorKind::WrongRevision`] if the job was signed for another revision than the client's, if the node says
    ///   that it speaks another (see [`ClientBuilder::revision`]), or that it read another; where it cannot be told,
    ///   [`ErrorKind::BadResponse`],
    /// - [`ErrorKind::WrongChain`] if the client is [bound](ClientBuilder::bind) to another consumer or signer, or if
    ///   a required preflight finds another chain,
    /// - [`ErrorKind::Preflight`] if the client [requires a preflight](ClientBuilder::require_preflight) and the job
    ///   did not pass ([`PreflightReport::of`] has why). This call then sent nothing, and the job stands as it did
    ///   before,
    /// - [`ErrorKind::Rejected`] and other kinds with the node's refusal as the source,
    /// - [`ErrorKind::Unavailable`], [`ErrorKind::CallTimeout`]: see [`Error::outcome`]. The outcome is about what
    ///   this client did: a job that another process sent before may have run although this one could not send it.
    pub async fn submit_signed(&self, job: SignedJob) -> Result<JobHandle> {
        let span = observe::submit(job.consumer(), job.relay_strategy());
        let done = self.submit_signed_at(job, Instant::now()).instrument(span.clone()).await;
        observe::end(&span, done)
    }

    async fn submit_signed_at(&self, job: SignedJob, begun: Instant) -> Result<JobHandle> {
        observe::signed(&job);
        job.check_revision(self.revision())?;
        self.check_binding(&job)?;
        let lane = lane_of(job.relay_strategy());
        // A source that leaves gaps does not matter here, because the nonce is chosen; a consumer with two strategies does.
        if let Err(error) = self.parts.nonces.check_lane(job.consumer(), lane)
            && error.kind() == ErrorKind::Nonce
        {
            return Err(error.with_job(job.id()));
        }
        let _place = self.parts.places.of_signed(&job).await?;
        self.require_preflight(&job).await?;
        let landed = self.parts.submissions.submit_signed(job.clone()).await?;
        Ok(JobHandle::landed(Arc::clone(&self.parts), job, landed, begun))
    }

    /// A handle to a job that was submitted before, for instance before a restart of this process. Sends nothing
    /// itself; the job's nonce counts as spent from here on, and an Ordered job has a place in its lane's window until
    /// it is seen relayed. A wait for a job that the node turns out not to know sends it, unless
    /// [healing](HealPolicy) is off.
    ///
    /// A [`Sequential`](crate::nonce::Sequential) source should still be started above every nonce that was ever
    /// signed: the larger of the contract's `getNextNonce()` and the highest stored nonce plus one.
    ///
    /// # Errors
    /// [`ErrorKind::WrongRevision`] if the job was signed for another revision, [`ErrorKind::WrongChain`] if the
    /// client is [bound](ClientBuilder::bind) to another consumer or signer.
    pub fn resume(&self, job: SignedJob) -> Result<JobHandle> {
        job.check_revision(self.revision())?;
        self.check_binding(&job)?;
        // Where it is accounted for already, nothing is left to do.
        let lane = lane_of(job.relay_strategy());
        if let Claim::Leased(lease) = self.parts.nonces.claim_signed(job.consumer(), lane, job.nonce()) {
            lease.commit();
        }
        if lane == Lane::Ordered {
            self.parts.nonces.count(job.consumer(), job.nonce());
        }
        Ok(JobHandle::new(Arc::clone(&self.parts), job, Stage::Submitted, Instant::now()))
    }

    /// Waits for many jobs, and hands them out as they are done.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> doc::Outcome {
    /// # use infinityvm_sdk::Until;
    /// # let scene = doc::scene().await;
    /// # let (client, handles) = (&scene.client, scene.submitted(3).await);
    /// let mut many = client.watch_many(handles, Until::Relayed);
    /// while let Some((handle, result)) = many.next().await {
    ///     match result {
    ///         Ok(result) => println!("{}: {} bytes", handle.id(), result.output().len()),
    ///         Err(error) => eprintln!("{}", error.report()),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch_many(&self, jobs: impl IntoIterator<Item = JobHandle>, until: Until) -> WatchMany {
        WatchMany::new(jobs, until)
    }

    /// Waits for all of these jobs. The results come in the order of the jobs.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> doc::Outcome {
    /// # use infinityvm_sdk::Until;
    /// # let scene = doc::scene().await;
    /// # let (client, handles) = (&scene.client, scene.submitted(3).await);
    /// let results = client
    ///     .wait_all(handles, Until::Executed)
    ///     .on_progress(|counts| println!("{} of {}", counts.finished, counts.total))
    ///     .await;
    /// # assert!(results.len() == 3 && results.iter().all(Result::is_ok));
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_all(&self, jobs: impl IntoIterator<Item = JobHandle>, until: Until) -> WaitAll {
        WaitAll::new(self.watch_many(jobs, until))
    }

    /// The jobs this client sent, or tried to send, without learning what became of them, and those the node refused.
    ///
    /// Those under way are listed, too, and those of a [`run`](Self::run) until it ends. As the caller then has a copy,
    /// their nonces stay quarantined even if it turns out that nothing was sent.
    ///
    /// For each: [`submit_signed`](Self::submit_signed) it again, which settles it, as does a wait that ends with its
    /// verified result; or, once you know that it is of no more use, [`forget`](Self::forget) it.
    #[must_use]
    pub fn unresolved(&self) -> Vec<SignedJob> {
        self.parts.submissions.unresolved()
    }

    /// Drops a job from [`unresolved`](Self::unresolved) and returns it. Its nonce stays quarantined: see
    /// [`NonceManager::resolve`].
    pub fn forget(&self, id: JobId) -> Option<SignedJob> {
        self.parts.submissions.forget(id)
    }

    /// The node's record of a job; the node's claims, none of them verified.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the node does not know the job, [`ErrorKind::BadResponse`] if it speaks another
    /// revision, and those of the transport.
    pub async fn get_result(&self, id: JobId) -> Result<JobRecord> {
        self.parts.node.get_result(id).await
    }

    /// The nonces of a consumer that the node is working on. A hint only: jobs that the node lost in a restart are
    /// missing, and relayed ones can linger.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] in the State revision, on transports without the call, and on nodes before v0.2.1.
    pub async fn pending_jobs(&self, consumer: Address) -> Result<Vec<u64>> {
        self.parts.node.pending_jobs(consumer).await
    }

    /// Whether the node has a program.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] in the State revision, on transports without the call, and on nodes before v0.2.2.
    pub async fn contains_program(&self, id: &ProgramId) -> Result<bool> {
        self.parts.node.contains_program(id).await
    }

    /// Uploads a program and returns its id. A program that the node has already is a success if its id was given.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for an empty ELF or a missing id, [`ErrorKind::WrongRevision`] if the node says
    /// that it speaks another revision, [`ErrorKind::Rejected`] if the node refuses it, [`ErrorKind::Verification`] if
    /// the node derives another id than the one given.
    pub async fn submit_program(&self, program: ProgramUpload) -> Result<ProgramId> {
        self.parts.node.upload(&program).await
    }

    /// The revision the client speaks.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.parts.node.revision()
    }

    /// The node's address, as errors show it.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.parts.node.endpoint()
    }

    /// The pinned operator, if there is one.
    #[must_use]
    pub fn operator(&self) -> Option<Address> {
        self.parts.operator.pinned()
    }

    /// The chain that results are posted on, if the client was given one.
    #[must_use]
    pub fn chain(&self) -> Option<&Chain> {
        self.parts.chain.as_ref()
    }

    /// What the client is bound to, if it is.
    #[must_use]
    pub fn binding(&self) -> Option<&Binding> {
        self.parts.binding.as_ref()
    }

    /// The nonces the client hands out; shared with its clones.
    #[must_use]
    pub fn nonces(&self) -> &NonceManager {
        &self.parts.nonces
    }

    pub(super) fn signer(&self) -> Result<&dyn JobSigner> {
        self.parts.signer.as_deref().ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfig, "the client has no signer")
                .with_hint("set one with ClientBuilder::signer, or send signed jobs with submit_signed")
        })
    }

    /// A nonce, which is the place's from here on.
    async fn lease(&self, job: &OffchainJobRequest, place: &mut Option<LanePlace>) -> Result<NonceLease> {
        self.may_sign(job)?;
        let parts = &self.parts;
        let (consumer, lane) = (job.consumer(), lane_of(job.relay_strategy()));
        let leased = async {
            match job.nonce() {
                Some(nonce) => parts.nonces.lease_exact(consumer, lane, nonce).await,
                None => parts.nonces.lease(consumer, lane).await,
            }
        };
        // The source may be a database of the user's, and Ordered jobs wait for their turn behind this one.
        let leased = parts.node.retries().submit_deadline().bound(leased).await;
        parts.nonces.tell();
        let lease = leased.unwrap_or_else(|| Err(no_nonce_in_time()))?;
        if let Some(place) = place {
            place.number(lease.nonce());
        }
        Ok(lease)
    }

    pub(super) fn may_sign(&self, job: &OffchainJobRequest) -> Result<()> {
        let signer = self.signer()?;
        self.parts.node.require_open()?;
        if let Some(binding) = &self.parts.binding {
            binding.check_consumer(job.consumer())?;
            binding.check_signer(signer.address())?;
        }
        job.check_revision(self.revision())
    }

    /// Until the signature is handed on, nobody else has it: the lease may be dropped, and is free again.
    pub(super) async fn sign_under(&self, job: &OffchainJobRequest, nonce: u64) -> Result<SignedJob> {
        let signed =
            signing::sign(job.prepare(self.revision(), nonce)?, self.signer()?, self.parts.node.retries()).await?;
        observe::signed(&signed);
        Ok(signed)
    }

    /// The preflight that submissions of this client need, if they do.
    pub(super) async fn require_preflight(&self, job: &SignedJob) -> Result<()> {
        let Some(severity) = self.parts.preflight else { return Ok(()) };
        let report = Preflight::new(&self.parts.sources, job).required().await?;
        if report.worst() < Some(severity) {
            return Ok(());
        }
        if report.nonce_is_spent() {
            self.parts.nonces.taken_by_others(job.consumer(), job.nonce());
        }
        // That nothing is sent now says nothing of what was sent before, unless that was another job.
        let sent = !self.parts.submissions.on_hand(job).other && self.parts.submissions.may_have_run(job);
        Err(report.into_error(if sent { Outcome::Unknown } else { Outcome::NotSent }))
    }

    pub(super) fn check_binding(&self, job: &SignedJob) -> Result<()> {
        self.parts.binding.map_or(Ok(()), |binding| binding.check_job(job))
    }
}

fn no_nonce_in_time() -> Error {
    Error::new(ErrorKind::Nonce, "the source of nonces gave none in time")
        .with_outcome(Outcome::NotSent)
        .with_retryable(true)
        .with_hint("nothing was sent: see to what the nonces come from; RetryPolicy::with_submit_deadline bounds it")
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.fmt(f)
    }
}
