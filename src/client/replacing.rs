//! Puts another job in the place of one that failed, under its nonce.

use std::sync::Arc;

use alloy_primitives::Address;
use tokio::time::Instant;
use tracing::Instrument;

use super::{connection::Client, handle::JobHandle};
use crate::{
    chain::ChainStanding,
    error::{Error, ErrorKind, Result},
    job::{JobStatus, OffchainJobRequest, RelayStrategy, Revision, SignedJob, echo_difference, nonce_taken},
    node::{Doubt, Node, looks_needed},
    observe,
    watch::Stage,
};

/// Looks that agree before the node's word counts are made this often at most.
const MOST_LOOKS: u32 = 8;

impl Client {
    /// Puts a job in the place of one that failed: signs it under the failed one's nonce, and submits it. In an Ordered
    /// lane that is the way to free the jobs behind it. Relay revision only. A service that must survive a crash signs
    /// and stores the job first, and calls [`replace_signed`](Self::replace_signed).
    ///
    /// It is refused, and nothing is sent, unless the node's record of that very job is FAILED now, at three looks in a
    /// row, and the [chain](super::ClientBuilder::chain), if there is one, has nothing under the nonce. A job that is
    /// `low nonce` is not replaced either: its lane is past the nonce, and the job may be complete on chain.
    ///
    /// The failed job's signed bytes stay valid, so whoever has them can have it run again. The chain takes one of the
    /// two. A wait of the new handle says if it was the other one; waits of the failed one's handles end with
    /// [`ErrorKind::NonceTaken`], and say that it was replaced. This client sends it no more, unless it is told to by
    /// [`submit_signed`](Self::submit_signed).
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> doc::Outcome {
    /// # use infinityvm_sdk::{ErrorKind, OffchainJobRequest, Until, devnode::ProgramOutput};
    /// # let doc::Parts { node, signer, consumer, .. } = doc::parts(infinityvm_sdk::Revision::Relay).await;
    /// # let program = node.register_program(|input| {
    /// #     Ok(ProgramOutput::new(vec![1]).with_cycles(if input.onchain == b"too much" { u64::MAX } else { 1 }))
    /// # });
    /// # let client = infinityvm_sdk::Client::builder().grpc(node.grpc_url());
    /// # let client = client.revision(infinityvm_sdk::Revision::Relay);
    /// # let client = client.signer(signer).operator(node.operator()).connect().await?;
    /// # let job = |input: &'static [u8]| {
    /// #     OffchainJobRequest::builder(consumer, program.clone()).max_cycles(1000).onchain_input(input).build()
    /// # };
    /// let failed = client.submit(job(b"too much")?).await?;
    /// let error = failed.wait(Until::Executed).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::JobFailed);
    /// let handle = client.replace(&failed, job(b"less")?).await?;
    /// handle.wait(Until::Relayed).await?;
    /// # assert_eq!(handle.id(), failed.id());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// - [`ErrorKind::Unsupported`] in the State revision, whose nodes take a nonce once: submit the job under another,
    /// - [`ErrorKind::InvalidInput`] if the job is for another consumer, strategy or nonce,
    /// - [`ErrorKind::Nonce`] if the failed job's record is not FAILED, is `low nonce`, or if the chain has the job or
    ///   another one under the nonce,
    /// - [`ErrorKind::NonceTaken`] if the node has another job under the nonce, or if one is under way or of open fate
    ///   in this client,
    /// - those of reading the node and the chain: what cannot be read is not replaced,
    /// - those of [`submit`](Self::submit). Once the job was signed, an error of unknown outcome is about the new job:
    ///   call [`submit_signed`](Self::submit_signed) with the one that is in [`unresolved`](Self::unresolved).
    pub async fn replace(&self, failed: &JobHandle, job: OffchainJobRequest) -> Result<JobHandle> {
        let span = observe::submit(job.consumer(), job.relay_strategy());
        // Boxed, as its checks make a large future, which every caller's would hold.
        let done = Box::pin(self.replace_at(failed, job, Instant::now())).instrument(span.clone()).await;
        observe::end(&span, done)
    }

    async fn replace_at(&self, failed: &JobHandle, job: OffchainJobRequest, begun: Instant) -> Result<JobHandle> {
        let old = failed.signed_job();
        let fits = fits(old, job.consumer(), job.nonce(), job.relay_strategy());
        fits.map_err(|error| error.with_job(old.id()))?;
        self.may_sign(&job)?;
        let _place = self.parts.places.instead_of(old).await?;
        self.has_failed(old).await?;
        let signed = self.sign_under(&job, old.nonce()).await?;
        self.require_preflight(&signed).await?;
        // A person may have taken a minute to sign it.
        self.has_failed(old).await?;
        self.parts.submissions.replace(old, signed.clone()).await?;
        Ok(JobHandle::new(Arc::clone(&self.parts), signed, Stage::Accepted, begun))
    }

    /// Puts a job that is signed already in the place of one that failed: [`replace`](Self::replace) for services that
    /// must survive a crash. Store the signed job beside the failed one, and then call this; after a restart, call it
    /// again with both, and the failed one [resumed](Self::resume).
    ///
    /// If the node has the new job by then, or the chain its result, nothing is sent, and the handle is as one of
    /// [`resume`](Self::resume). Otherwise the checks are those of `replace`. Where that fails because the failed job
    /// runs, or has landed, the new one is of no use.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> doc::Outcome {
    /// # use infinityvm_sdk::{Client, OffchainJobRequest, Revision, SignedJob, Until, devnode::ProgramOutput};
    /// # let doc::Parts { node, signer, consumer, .. } = doc::parts(Revision::Relay).await;
    /// # let program = node.register_program(|input| {
    /// #     Ok(ProgramOutput::new(vec![1]).with_cycles(if input.onchain == b"too much" { u64::MAX } else { 1 }))
    /// # });
    /// # let client = Client::builder().grpc(node.grpc_url()).revision(Revision::Relay);
    /// # let client = client.signer(signer.clone()).operator(node.operator()).connect().await?;
    /// # let job = |input: &'static [u8]| {
    /// #     OffchainJobRequest::builder(consumer, program.clone()).max_cycles(1000).onchain_input(input).build()
    /// # };
    /// # struct Row { failed: SignedJob, signed: Option<SignedJob> }
    /// # let failed = client.submit(job(b"too much")?).await?;
    /// # failed.wait(Until::Executed).await.unwrap_err();
    /// # let mut row = Row { failed: failed.signed_job().clone(), signed: None };
    /// # let (less, nonce) = (job(b"less")?, failed.signed_job().nonce());
    /// let signed = less.prepare(Revision::Relay, nonce)?.sign(&signer).await?;
    /// row.signed = Some(signed.clone()); // committed to the database before the next line
    /// let handle = client.replace_signed(&client.resume(row.failed)?, signed).await?;
    /// handle.wait(Until::Relayed).await?;
    /// # assert_eq!(handle.id(), failed.id());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`replace`](Self::replace), but for those of signing, and [`ErrorKind::WrongRevision`] if the job was
    /// signed for another revision. What was sent before a restart is not known here: an error of outcome `NotSent` is
    /// about this call.
    pub async fn replace_signed(&self, failed: &JobHandle, job: SignedJob) -> Result<JobHandle> {
        let span = observe::submit(job.consumer(), job.relay_strategy());
        // Boxed, as its checks make a large future, which every caller's would hold.
        let done = Box::pin(self.replace_signed_at(failed, job, Instant::now())).instrument(span.clone()).await;
        observe::end(&span, done)
    }

    async fn replace_signed_at(&self, failed: &JobHandle, job: SignedJob, begun: Instant) -> Result<JobHandle> {
        observe::signed(&job);
        let old = failed.signed_job();
        let fits =
            fits(old, job.consumer(), Some(job.nonce()), job.relay_strategy()).and_then(|()| match job == *old {
                true => Err(Error::new(ErrorKind::InvalidInput, "the job is the very one that failed")
                    .with_hint("send it once more with Client::submit_signed, or sign another one")),
                false => Ok(()),
            });
        fits.map_err(|error| error.with_job(old.id()))?;
        job.check_revision(self.revision())?;
        self.check_binding(&job)?;
        self.parts.node.require_open().map_err(|error| error.with_job(old.id()))?;
        let _place = self.parts.places.instead_of(old).await?;
        if Box::pin(self.has_replaced(old, &job)).await? {
            self.parts.submissions.note_replaced(old, &job)?;
            return self.resume(job);
        }
        Box::pin(self.has_failed(old)).await?;
        self.require_preflight(&job).await?;
        self.parts.submissions.replace(old, job.clone()).await?;
        Ok(JobHandle::new(Arc::clone(&self.parts), job, Stage::Accepted, begun))
    }

    /// Whether the node has the new job already, or the chain its result.
    async fn has_replaced(&self, old: &SignedJob, job: &SignedJob) -> Result<bool> {
        match self.parts.node.get_result(job.id()).await {
            Ok(record) if echo_difference(job, &record).is_none() => return Ok(true),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(self.standing(job).await.map_err(|error| error.with_job(old.id()))? == Some(ChainStanding::Complete))
    }

    /// How a job stands on chain, if the client has one.
    pub(super) async fn standing(&self, job: &SignedJob) -> Result<Option<ChainStanding>> {
        let Some(chain) = &self.parts.chain else { return Ok(None) };
        let deadline = self.parts.node.retries().read_deadline();
        let standing = deadline.bound(chain.standing(job)).await.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Chain, "the chain did not answer in time").with_retryable(true))
        });
        standing.map(Some).map_err(|error| error.with_endpoint(chain.reader().endpoint()))
    }

    async fn has_failed(&self, job: &SignedJob) -> Result<()> {
        let node = &self.parts.node;
        let failed = failed_at_node(node, job).await.map_err(|error| error.with_endpoint(node.endpoint()));
        failed.map_err(|error| error.with_job(job.id()))?;
        let absent = self.standing(job).await.and_then(|standing| standing.map_or(Ok(()), not_on_chain));
        absent.map_err(|error| error.with_job(job.id()))
    }
}

/// Whether a job of these values may be in the place of an old one.
fn fits(old: &SignedJob, consumer: Address, nonce: Option<u64>, strategy: RelayStrategy) -> Result<()> {
    if old.revision() == Revision::State {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "a node of the State revision takes a nonce once, so no job is replaced",
        )
        .with_hint("submit the job under another nonce, with Client::submit"));
    }
    let other = |what: String, hint: &'static str| Err(Error::new(ErrorKind::InvalidInput, what).with_hint(hint));
    if consumer != old.consumer() {
        let what = format!("the job is for {consumer}, and the one to be replaced for {}", old.consumer());
        return other(what, "build it for the same consumer: a nonce is one of a consumer's");
    }
    if nonce.is_some_and(|nonce| nonce != old.nonce()) {
        let what = format!("the job has a nonce of its own, and the one to be replaced nonce {}", old.nonce());
        return other(what, "leave the nonce out, or submit the job with Client::submit");
    }
    if strategy != old.relay_strategy() {
        let which = |strategy| if strategy == RelayStrategy::Ordered { "Ordered" } else { "Unordered" };
        let what = format!("the job is {}, and the one to be replaced is not", which(strategy));
        return other(what, "give it the same strategy: a consumer has one, and a lane waits for jobs of its own");
    }
    Ok(())
}

/// Whether the node's record of this very job is FAILED, look after look: a replica that lags may show an older one.
async fn failed_at_node(node: &Node, job: &SignedJob) -> Result<()> {
    let mut doubt = Doubt::default();
    for _ in 0..MOST_LOOKS {
        let record = node.get_result(job.id()).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => not_failed("the node does not know it".into()).with_hint(
                "submit the same signed job again with Client::submit_signed: it may have run, and may run yet",
            ),
            _ => error,
        })?;
        if let Some(field) = echo_difference(job, &record) {
            return Err(nonce_taken(field, crate::error::Outcome::NotSent));
        }
        match record.status() {
            status if status.is_low_nonce() => {
                return Err(Error::new(ErrorKind::Nonce, "the lane is past the nonce, so what is under it never lands")
                    .with_hint(
                        "look on chain whether the job is complete, as a node can forget that it relayed one; if it is not, submit the \
                         payload under a new nonce, from getNextNonce() on",
                    ));
            }
            JobStatus::Failed { .. } if doubt.show((), looks_needed(job.revision(), true)) => return Ok(()),
            JobStatus::Failed { .. } => tokio::time::sleep(doubt.pause()).await,
            status => {
                let hint = if *status == JobStatus::Relayed {
                    "nothing is to be replaced: the node has relayed its result"
                } else {
                    "wait for it, and diagnose it if it does not move: what is signed under its nonce now may run beside it, and never lands \
                     beside it"
                };
                return Err(not_failed(format!("the node's record of it is {status}")).with_hint(hint));
            }
        }
    }
    Err(not_failed("the node's answers do not agree".into()).with_retryable(true).with_hint("replace it later"))
}

fn not_failed(why: String) -> Error {
    Error::new(ErrorKind::Nonce, format!("the job is not replaced, as it has not failed: {why}"))
}

/// Whether the chain has nothing under the job's nonce.
fn not_on_chain(standing: ChainStanding) -> Result<()> {
    let what = match standing {
        ChainStanding::Unseen => return Ok(()),
        ChainStanding::Complete => "the chain has the result of this very job",
        ChainStanding::Taken(_) => "the chain has another job under its nonce",
        ChainStanding::Unclear => "the chain has a job under its nonce, which may be this one",
    };
    Err(Error::new(ErrorKind::Nonce, format!("the job is not replaced: {what}")).with_hint(
        "look with Client::diagnose what became of it; the nonce is spent: submit other work under a new one",
    ))
}
