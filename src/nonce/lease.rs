//! A nonce in use.

use std::{fmt, sync::Arc};

use alloy_primitives::Address;

use super::{shared::Shared, source::Settlement};

/// A nonce that is yours alone until the lease ends: by [`commit`](Self::commit), [`release`](Self::release),
/// [`quarantine`](Self::quarantine), or by being dropped.
///
/// Call [`mark_signed`](Self::mark_signed) before anybody else can have the signed bytes: before they are sent, stored
/// or handed on. If others can fetch from the signer what it signed, call it before you ask the signer. From then on a
/// lease that is dropped, by an error, a cancelled task or a panic, is quarantined and not released. A nonce that was
/// kept back by mistake can be [resolved](super::NonceManager::resolve); a nonce that was signed twice cannot.
#[must_use = "a dropped lease frees its nonce"]
pub struct NonceLease {
    shared: Arc<Shared>,
    consumer: Address,
    nonce: u64,
    signed: bool,
    open: bool,
}

impl NonceLease {
    pub(super) fn new(shared: Arc<Shared>, consumer: Address, nonce: u64) -> Self {
        shared.leased();
        Self { shared, consumer, nonce, signed: false, open: true }
    }

    /// The nonce.
    #[must_use]
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// The consumer the nonce counts for.
    #[must_use]
    pub fn consumer(&self) -> Address {
        self.consumer
    }

    /// Whether a payload may have been signed with the nonce.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.signed
    }

    /// Notes that a payload is about to be signed with the nonce. It cannot be taken back.
    pub fn mark_signed(&mut self) {
        self.signed = true;
    }

    /// Notes whether a client may have sent what was signed with the nonce. Whoever finds the nonce in quarantine
    /// learns it, too.
    pub(crate) fn set_sent(&mut self, sent: bool) {
        self.signed |= sent;
        if let Some(ledger) = self.shared.ledgers.lock().get_mut(&self.consumer) {
            ledger.set_sent(self.nonce, sent);
        }
    }

    /// The nonce is spent: the node has the job.
    pub fn commit(mut self) {
        self.end(Settlement::Commit);
    }

    /// The nonce was not used, and is free again. If it [was signed with](Self::is_signed), it is quarantined instead.
    pub fn release(self) {
        // Dropping does just that.
    }

    /// Frees the nonce although a payload was signed with it.
    ///
    /// Only right if the signed bytes **provably never left the process and have been destroyed**: no byte of them was
    /// handed to a transport, a log, a disk or a caller. "The call failed" is no proof, nor is a timeout or a refused
    /// connection that a proxy may have reported. In doubt, [`quarantine`](Self::quarantine).
    pub fn release_unsent(mut self) {
        self.end(Settlement::Release);
    }

    /// Keeps the nonce back until [`resolve`](super::NonceManager::resolve): it is not known what became of the
    /// payload.
    pub fn quarantine(mut self) {
        self.end(Settlement::Quarantine);
    }

    fn end(&mut self, settlement: Settlement) {
        if std::mem::take(&mut self.open) {
            self.shared.settle(self.consumer, self.nonce, settlement);
        }
    }
}

impl Drop for NonceLease {
    fn drop(&mut self) {
        self.end(if self.signed { Settlement::Quarantine } else { Settlement::Release });
    }
}

impl fmt::Debug for NonceLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NonceLease")
            .field("consumer", &self.consumer)
            .field("nonce", &self.nonce)
            .field("signed", &self.signed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nonce::{Lane, NonceManager, Sequential};

    const A: Address = Address::repeat_byte(1);

    #[test]
    fn is_send() {
        fn send<T: Send + 'static>() {}
        send::<NonceLease>();
    }

    /// Ends a lease of nonce 1, signed or not, and returns the next nonce and the quarantine.
    async fn after(signed: bool, end: impl FnOnce(NonceLease)) -> (u64, Vec<u64>) {
        let nonces = NonceManager::new(Sequential::starting_at(1));
        let mut lease = nonces.lease(A, Lane::Unordered).await.unwrap();
        assert_eq!((lease.nonce(), lease.consumer(), lease.is_signed()), (1, A, false));
        if signed {
            lease.mark_signed();
        }
        end(lease);
        (nonces.lease(A, Lane::Unordered).await.unwrap().nonce(), nonces.quarantined(A))
    }

    #[tokio::test]
    async fn every_end_of_an_unsigned_lease() {
        assert_eq!(after(false, drop).await, (1, vec![]));
        assert_eq!(after(false, NonceLease::release).await, (1, vec![]));
        assert_eq!(after(false, NonceLease::release_unsent).await, (1, vec![]));
        assert_eq!(after(false, NonceLease::quarantine).await, (2, vec![1]));
        assert_eq!(after(false, NonceLease::commit).await, (2, vec![]));
    }

    #[tokio::test]
    async fn every_end_of_a_signed_lease() {
        assert_eq!(after(true, drop).await, (2, vec![1]));
        assert_eq!(after(true, NonceLease::release).await, (2, vec![1]));
        assert_eq!(after(true, NonceLease::release_unsent).await, (1, vec![]));
        assert_eq!(after(true, NonceLease::quarantine).await, (2, vec![1]));
        assert_eq!(after(true, NonceLease::commit).await, (2, vec![]));
    }

    #[tokio::test]
    async fn a_panic_quarantines_what_was_signed() {
        let nonces = NonceManager::new(Sequential::starting_at(1));
        let manager = nonces.clone();
        let task = tokio::spawn(async move {
            let mut lease = manager.lease(A, Lane::Ordered).await.unwrap();
            lease.mark_signed();
            panic!("the signer is gone");
        });
        assert!(task.await.is_err());
        assert_eq!(nonces.quarantined(A), [1]);
    }
}
