//! What an account has sent from here, by its nonces.

use std::collections::BTreeMap;

use alloy_primitives::{B256, Bytes};
use tokio::time::Instant;

use super::sign::{Signed, Terms};

/// How many nonces are remembered.
const KEPT: usize = 512;
/// How many drafts under one nonce are. More than a few there are only if an RPC refuses all of them.
const KEPT_BESIDE: usize = 16;
/// The longest transaction whose bytes are kept, to be sent again. Longer ones are signed anew.
const KEPT_BYTES: usize = 64 << 10;

/// Which draft was signed with which nonce, in the order in which that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SigningId(u64);

/// What the account has signed. Whatever was signed stays here, also if another draft was signed with its nonce since:
/// one of them can land, and whoever waits for the other has to know it.
#[derive(Default)]
pub(super) struct Signings {
    /// Of each nonce, the latest draft last.
    slots: BTreeMap<u64, Vec<Signing>>,
    next: u64,
}

/// A draft and the nonce that it was signed with. Of its transactions one can land.
#[derive(Clone)]
pub(super) struct Signing {
    pub id: SigningId,
    pub hashes: Vec<B256>,
    /// Of the last one.
    pub terms: Terms,
    /// The last one as it was sent, unless it is long.
    pub raw: Option<Bytes>,
    /// When one was last sent.
    pub sent: Instant,
    /// When the last one was signed, or it was last tried to raise the price; and how often it was raised.
    pub tried: Instant,
    pub raises: u32,
    /// An RPC has said that it has one.
    pub pooled: bool,
    /// An RPC has refused it and does not show it. It may land all the same, and another draft may have its nonce.
    pub refused: bool,
}

/// A nonce that is free, as far as is known: nothing was signed with it, or only drafts up to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FreeNonce {
    pub nonce: u64,
    after: Option<SigningId>,
}

impl Signings {
    /// This nonce for another draft, whoever else was signed with it so far.
    pub(super) fn free(&self, nonce: u64) -> FreeNonce {
        FreeNonce { nonce, after: self.last(nonce).map(|signing| signing.id) }
    }

    /// A draft that was signed with a nonce and is about to be sent. Nothing if the nonce was taken meanwhile.
    pub(super) fn begin(&mut self, free: FreeNonce, terms: Terms, signed: &Signed) -> Option<SigningId> {
        if self.free(free.nonce) != free {
            return None;
        }
        let (id, now) = (SigningId(self.next), Instant::now());
        self.next += 1;
        let (hashes, raw) = (vec![signed.hash], kept(&signed.raw));
        let (raises, pooled, refused) = (0, false, false);
        let slot = self.slots.entry(free.nonce).or_default();
        slot.push(Signing { id, hashes, terms, raw, sent: now, tried: now, raises, pooled, refused });
        if slot.len() > KEPT_BESIDE {
            slot.remove(0);
        }
        while self.slots.len() > KEPT {
            self.slots.pop_first();
        }
        Some(id)
    }

    /// Another transaction of the draft, with its nonce: at another price, or the same one once more.
    pub(super) fn add(&mut self, id: SigningId, terms: Terms, signed: &Signed) {
        let Some(signing) = self.get(id) else { return };
        let now = Instant::now();
        // At the price of before it is the same one: some signers sign a transaction otherwise each time.
        let raised = signing.terms.bid != terms.bid;
        signing.raises += u32::from(raised && !signing.hashes.contains(&signed.hash));
        signing.hashes.retain(|known| *known != signed.hash);
        signing.hashes.push(signed.hash);
        (signing.terms, signing.raw) = (terms, kept(&signed.raw));
        signing.sent = now;
        if raised {
            signing.tried = now;
        }
    }

    /// One that was signed before this process began, of a draft of which all these were signed.
    pub(super) fn recall(&mut self, of: &[B256], terms: Terms, signed: &Signed) {
        if self.of(&[signed.hash]).is_some() {
            return;
        }
        let beside = self.last(terms.nonce).filter(|it| it.hashes.iter().any(|hash| of.contains(hash)));
        match beside.map(|it| it.id) {
            Some(id) => self.add(id, terms, signed),
            None => _ = self.begin(self.free(terms.nonce), terms, signed),
        }
    }

    pub(super) fn get(&mut self, id: SigningId) -> Option<&mut Signing> {
        self.slots.values_mut().flatten().find(|signing| signing.id == id)
    }

    /// The latest of what was signed for these.
    pub(super) fn of(&self, hashes: &[B256]) -> Option<&Signing> {
        let signed = |signing: &&Signing| signing.hashes.iter().any(|hash| hashes.contains(hash));
        self.slots.values().flatten().filter(signed).max_by_key(|signing| signing.id)
    }

    /// The transactions of other drafts that have been signed with the same nonce since.
    pub(super) fn since(&self, signing: &Signing) -> Vec<B256> {
        let slot = self.slots.get(&signing.terms.nonce);
        let later = slot.into_iter().flatten().filter(|other| other.id > signing.id);
        later.flat_map(|other| other.hashes.clone()).collect()
    }

    /// The latest draft that was signed with a nonce.
    pub(super) fn last(&self, nonce: u64) -> Option<&Signing> {
        self.slots.get(&nonce)?.last()
    }

    /// The first nonce from this one on that no draft has, or none that was not refused.
    pub(super) fn free_from(&self, nonce: u64) -> FreeNonce {
        let held = |nonce| self.last(nonce).is_some_and(|signing| !signing.refused);
        self.free((nonce..u64::MAX).find(|nonce| !held(*nonce)).unwrap_or(u64::MAX))
    }
}

fn kept(raw: &Bytes) -> Option<Bytes> {
    (raw.len() <= KEPT_BYTES).then(|| raw.clone())
}

#[cfg(test)]
mod tests {
    use super::{super::fees::Bid, *};

    fn signed(byte: u8) -> Signed {
        Signed { hash: B256::repeat_byte(byte), raw: Bytes::new() }
    }

    fn terms(nonce: u64) -> Terms {
        Terms { nonce, ..Terms::default() }
    }

    fn put(book: &mut Signings, nonce: u64, byte: u8) -> SigningId {
        let free = book.free(nonce);
        book.begin(free, terms(nonce), &signed(byte)).unwrap()
    }

    #[test]
    fn the_next_nonce_is_one_that_nobody_holds() {
        let mut book = Signings::default();
        for nonce in [5, 6, 7, 9] {
            put(&mut book, nonce, nonce as u8);
        }
        assert_eq!((book.free_from(5).nonce, book.free_from(8).nonce), (8, 8));
        let sixth = book.of(&[B256::repeat_byte(6), B256::repeat_byte(1)]).unwrap().id;
        book.get(sixth).unwrap().refused = true;
        assert_eq!(book.free_from(5).nonce, 6);
    }

    #[test]
    fn a_nonce_goes_to_one_of_those_that_found_it_free_and_what_was_signed_with_it_stays() {
        let mut book = Signings::default();
        let first = put(&mut book, 3, 1);
        let (one, other) = (book.free(3), book.free(3));
        let second = book.begin(one, terms(3), &signed(2)).unwrap();
        assert_eq!(book.begin(other, terms(3), &signed(9)), None, "it is not free any more");
        let known = book.of(&[B256::repeat_byte(1)]).unwrap().clone();
        assert_eq!((known.id, book.since(&known)), (first, vec![B256::repeat_byte(2)]));
        let last = book.last(3).unwrap().clone();
        assert_eq!((last.id, book.since(&last)), (second, vec![]));
        // Signed anew: its latest nonce counts, be it lower.
        put(&mut book, 2, 1);
        assert_eq!(book.of(&[B256::repeat_byte(1)]).unwrap().terms.nonce, 2);
    }

    #[test]
    fn what_was_signed_before_is_taken_up_as_it_was() {
        let mut book = Signings::default();
        let hashes: Vec<B256> = [1, 2, 3].map(B256::repeat_byte).into();
        for _ in 0..2 {
            for (nonce, byte) in [(3, 1), (4, 2), (4, 3)] {
                let bid = Bid { most: byte.into(), ..Bid::default() };
                book.recall(&hashes, Terms { bid, ..terms(nonce) }, &signed(byte));
            }
        }
        let known = book.of(&hashes).unwrap();
        assert_eq!((known.hashes.clone(), known.terms.nonce, known.raises), (hashes[1..].to_vec(), 4, 1));
        assert_eq!((book.last(3).unwrap().hashes.len(), book.free_from(3).nonce), (1, 5));
        // Another draft under the same nonce is another one.
        book.recall(&[B256::repeat_byte(9)], terms(4), &signed(9));
        assert_eq!(book.slots[&4].len(), 2);
    }

    #[test]
    fn one_draft_has_many_transactions_and_memory_is_bounded() {
        let mut book = Signings::default();
        let long = |byte| Signed { hash: B256::repeat_byte(byte), raw: Bytes::from(vec![0; KEPT_BYTES + 1]) };
        let id = put(&mut book, 3, 1);
        let higher = Terms { bid: Bid { most: 2, ..Bid::default() }, ..terms(3) };
        for byte in [2, 2] {
            book.add(id, higher, &long(byte));
        }
        let signing = book.get(id).unwrap();
        assert_eq!((signing.hashes.len(), signing.raises), (2, 1), "sent again is not priced again");
        assert!(signing.raw.is_none());
        for byte in 0..100 {
            put(&mut book, 3, byte);
        }
        assert_eq!(book.slots[&3].len(), KEPT_BESIDE);
        for nonce in 4..2_000 {
            put(&mut book, nonce, 0);
        }
        assert_eq!(book.slots.len(), KEPT);
    }

    /// A signer of a key service signs what is sent again otherwise each time. That neither raises the price nor puts
    /// the next raise off.
    #[test]
    fn the_same_price_once_more_is_no_raise() {
        let mut book = Signings::default();
        let id = put(&mut book, 3, 1);
        let tried = book.get(id).unwrap().tried;
        for byte in 2..6 {
            book.add(id, terms(3), &signed(byte));
        }
        let signing = book.get(id).unwrap();
        assert_eq!((signing.raises, signing.tried, signing.hashes.len()), (0, tried, 5));
        book.add(id, Terms { bid: Bid { most: 9, ..Bid::default() }, ..terms(3) }, &signed(6));
        let signing = book.get(id).unwrap();
        assert!(signing.raises == 1 && signing.tried >= tried);
    }
}
