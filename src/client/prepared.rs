//! Signing and posting for the outbox, which fixes nonces in its store and keeps account of them there.

use std::sync::Arc;

use alloy_primitives::Address;

use super::{connection::Client, signing};
use crate::{
    chain::{PostKeeper, SignedPost},
    error::{Error, ErrorKind, Result},
    job::{SignedJob, UnsignedJob, Verified},
    node::SendLeases,
    observe::ClientEvent,
    post::Posting,
};

impl Client {
    /// Has a job signed whose nonce is fixed elsewhere. Takes no lease: the same nonce may be signed again after a
    /// crash.
    pub(crate) async fn sign_prepared(&self, job: UnsignedJob) -> Result<SignedJob> {
        let signer = self.signer()?;
        self.parts.node.require_open()?;
        if let Some(binding) = &self.parts.binding {
            binding.check_signer(signer.address())?;
        }
        signing::sign(job, signer, self.parts.node.retries()).await
    }

    /// Consumers whose jobs may be sent only for a time.
    pub(crate) fn send_leases(&self) -> &SendLeases {
        self.parts.node.leases()
    }

    /// Drops what is kept of another job under this one's nonce, unless that is under way. For a caller that has each
    /// job in its own store, and has put this one in the place of the other there.
    pub(crate) fn make_way(&self, job: &SignedJob) {
        if self.parts.submissions.on_hand(job).other {
            self.forget(job.id());
        }
    }

    /// Whose signatures it makes.
    pub(crate) fn signing_account(&self) -> Result<Address> {
        Ok(self.signer()?.address())
    }

    /// Tells the client's observers.
    pub(crate) fn tell(&self, event: ClientEvent<'_>) {
        self.parts.node.observers().tell(event);
    }

    /// A post of a result, whose transactions the keeper keeps before they are sent, and of which it has kept these.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if the client's poster does not hand out what it signs.
    pub(crate) fn post_kept(
        &self,
        verified: &Verified,
        keeper: Arc<dyn PostKeeper>,
        kept: &[SignedPost],
    ) -> Result<Posting> {
        let job = verified.job();
        let posts = self.parts.posts.kept_by(job.id(), keeper, kept).ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfig, "the client has no poster that hands out what it signs")
                .with_hint("give ClientBuilder::poster a RpcPoster, or a poster that implements Poster::kept_by")
        })?;
        Ok(posts.post(job, verified))
    }

    /// Who pays for posts whose transactions are kept; nothing if the client's poster does not hand them out.
    pub(crate) fn posting_account(&self) -> Option<Address> {
        self.parts.posts.keeping_account()
    }
}
