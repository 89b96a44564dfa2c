//! What an account has sent from here, by its nonces.

use std::collections::BTreeMap;

use alloy_primitives::{B256, Bytes};
use tokio::time::Instant;

use super::sign::Terms;

/// How many nonces are remembered.
const KEPT: usize = 512;
/// The longest transaction whose bytes are kept, to be sent again. Longer ones are signed anew.
const KEPT_BYTES: usize = 64 << 10;

/// The account's nonces that were signed with, the latest of them.
#[derive(Default)]
pub(super) struct Signings {
    slots: BTreeMap<u64, Signing>,
    /// Transactions whose nonce was given to another one since, because no pool had shown them.
    ousted: BTreeMap<u64, Vec<B256>>,
}

/// A nonce that was signed with. Of its transactions one can land.
pub(super) struct Signing {
    pub hashes: Vec<B256>,
    /// Of the last one.
    pub terms: Terms,
    /// The last one as it was sent, unless it is long.
    pub raw: Option<Bytes>,
    /// When the last one was signed, and when one was sent.
    pub signed: Instant,
    pub sent: Instant,
    /// How often the price was raised.
    pub raises: u32,
    /// An RPC has said that it has one.
    pub pooled: bool,
}

impl Signings {
    /// A transaction that is about to be sent.
    pub(super) fn put(&mut self, hash: B256, terms: Terms, raw: &Bytes) {
        let now = Instant::now();
        let raw = (raw.len() <= KEPT_BYTES).then(|| raw.clone());
        match self.slots.get_mut(&terms.nonce) {
            Some(slot) => {
                slot.raises += u32::from(!slot.hashes.contains(&hash));
                slot.hashes.retain(|known| *known != hash);
                slot.hashes.push(hash);
                (slot.terms, slot.raw, slot.signed, slot.sent) = (terms, raw, now, now);
            }
            None => {
                let (hashes, raises, pooled) = (vec![hash], 0, false);
                self.slots.insert(terms.nonce, Signing { hashes, terms, raw, signed: now, sent: now, raises, pooled });
            }
        }
        while self.slots.len() > KEPT {
            self.slots.pop_first();
        }
    }

    /// A nonce is nobody's now, and may be another transaction's next.
    pub(super) fn begin(&mut self, nonce: u64) {
        if let Some(slot) = self.slots.remove(&nonce) {
            self.ousted.entry(nonce).or_default().extend(slot.hashes);
        }
        while self.ousted.len() > KEPT {
            self.ousted.pop_first();
        }
    }

    /// The last nonce that one of these transactions had, if it has that no more.
    pub(super) fn ousted(&self, hashes: &[B256]) -> Option<u64> {
        let mut nonces = self.ousted.iter().rev();
        nonces.find(|(_, ousted)| ousted.iter().any(|hash| hashes.contains(hash))).map(|(nonce, _)| *nonce)
    }

    pub(super) fn slot(&mut self, nonce: u64) -> Option<&mut Signing> {
        self.slots.get_mut(&nonce)
    }

    /// The last nonce that was signed with for one of these transactions.
    pub(super) fn of(&self, hashes: &[B256]) -> Option<u64> {
        let signed = |slot: &Signing| slot.hashes.iter().any(|hash| hashes.contains(hash));
        self.slots.iter().rev().find(|(_, slot)| signed(slot)).map(|(nonce, _)| *nonce)
    }

    /// What the pool's count lacks first, if that was sent from here.
    pub(super) fn lacking(&self, pool: u64) -> Option<&Signing> {
        self.slots.get(&pool)
    }

    /// The first nonce from the pool's count on under which nothing was sent.
    pub(super) fn after(&self, pool: u64) -> u64 {
        (pool..u64::MAX).find(|nonce| !self.slots.contains_key(nonce)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_came_into_the_pool_is_asked_about_although_others_were_sent_after_it() {
        let mut book = Signings::default();
        for nonce in [5, 6, 7, 9] {
            book.put(B256::repeat_byte(nonce as u8), Terms { nonce, ..Terms::default() }, &Bytes::new());
        }
        let first = book.lacking(5).map(|slot| slot.hashes.clone());
        assert_eq!(first, Some(vec![B256::repeat_byte(5)]), "not about the last one");
        assert_eq!((book.after(5), book.after(8)), (8, 8));
        assert!(book.lacking(8).is_none());
        let sixth = [B256::repeat_byte(6), B256::repeat_byte(1)];
        assert_eq!((book.of(&sixth), book.ousted(&sixth)), (Some(6), None));
        book.begin(6);
        assert_eq!((book.of(&sixth), book.ousted(&sixth)), (None, Some(6)));
    }

    #[test]
    fn one_nonce_has_many_transactions_and_memory_is_bounded() {
        let mut book = Signings::default();
        let terms = Terms { nonce: 3, ..Terms::default() };
        for byte in [1, 2, 2] {
            book.put(B256::repeat_byte(byte), terms, &Bytes::from(vec![0; KEPT_BYTES + 1]));
        }
        let slot = book.slot(3).unwrap();
        assert_eq!((slot.hashes.len(), slot.raises), (2, 1), "sent again is not priced again");
        assert!(slot.raw.is_none());
        for nonce in 4..2_000 {
            book.put(B256::ZERO, Terms { nonce, ..terms }, &Bytes::new());
        }
        assert_eq!(book.slots.len(), KEPT);
    }
}
