//! Signing for the outbox, which fixes nonces in its store and keeps account of them there.

use alloy_primitives::Address;

use super::{connection::Client, signing};
use crate::{
    error::Result,
    job::{SignedJob, UnsignedJob},
    node::SendLeases,
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

    /// Whose signatures it makes.
    pub(crate) fn signing_account(&self) -> Result<Address> {
        Ok(self.signer()?.address())
    }
}
