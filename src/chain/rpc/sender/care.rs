//! Looks after transactions that are in no block yet.

use std::time::Duration;

use alloy_primitives::{B256, U64};
use serde_json::json;
use tokio::time::Instant;

use super::{
    Sender,
    book::Signing,
    decide::{Care, Found, Word, meanwhile},
    draft::Draft,
    fees::{check, market},
    look::{Seek, look},
    sign::{Terms, sign},
};
use crate::{chain::FollowUp, error::Result};

/// When a transaction is sent again that no pool has shown, and one that a pool has shown and does not any more.
const RESEND: Duration = Duration::from_secs(5);
const RESEND_POOLED: Duration = Duration::from_secs(20);
/// How many lost transactions before one's own are sent again at once.
const BEFORE: usize = 8;

type Note<'a> = &'a (dyn Fn(B256) + Send + Sync);

impl Sender {
    /// Looks after transactions that were sent and are in no block yet: sends them again if they are lost, and prices
    /// them again if they have waited for long. Asks nothing before it is time.
    ///
    /// # Errors
    /// As [`Poster::follow_up`](crate::chain::Poster::follow_up).
    pub(crate) async fn follow_up(&self, draft: &Draft, sent: &[B256], signed: Note<'_>) -> Result<FollowUp> {
        let Some(known) = self.book.lock().of(sent).cloned() else { return Ok(FollowUp::Unable) };
        let (allowed, chain_id) = (self.allowed(), known.terms.chain_id);
        let mut raise = known.raises < allowed.raises && known.tried.elapsed() >= allowed.raise_after;
        let mut resend = known.sent.elapsed() >= if known.pooled { RESEND_POOLED } else { RESEND };
        if !raise && !resend {
            return Ok(FollowUp::Wait);
        }
        let (by, ()) = self.ways.by_one(Some(chain_id), |_, _| async { Ok(()) }).await?;
        let mut seek = Seek::new(self.looked_for(&known.terms, &known.hashes), by);
        let (mut resent, mut failure) = (None, None);
        let care = loop {
            match meanwhile(seek.sought(), resend, raise) {
                Care::Look => {
                    seek.take(&self.ways).await;
                    if seek.found() == Found::Free && self.is_ousted(by, &known).await {
                        return Ok(FollowUp::Wait);
                    }
                }
                Care::Raise => match self.raise(draft, &known, signed).await {
                    Ok(Some(hash)) => return Ok(FollowUp::Sent(hash)),
                    // It waits as it is.
                    raised => (raise, failure) = (false, raised.err()),
                },
                Care::Resend => {
                    let (hash, word) = self.resend(by, draft, &known, signed).await?;
                    (resend, resent) = (false, Some(hash));
                    // What the pool does not take again may be too cheap for it by now.
                    raise &= word != Word::Taken;
                }
                care => break care,
            }
        };
        let found = seek.found();
        if matches!(found, Found::Pool | Found::Block) {
            self.note(known.id, |it| (it.pooled, it.refused, it.sent) = (true, false, Instant::now()));
        }
        if matches!(found, Found::Pool | Found::Free) {
            self.clear_the_way(by, known.terms).await;
        }
        match (care, resent, failure) {
            (Care::Gone, ..) => Ok(FollowUp::Gone),
            (_, Some(hash), _) => Ok(FollowUp::Sent(hash)),
            (_, None, Some(failure)) => Err(failure),
            (_, None, None) => Ok(FollowUp::Wait),
        }
    }

    /// Whether another draft that was signed with the nonce since has it.
    async fn is_ousted(&self, by: usize, known: &Signing) -> bool {
        let since = self.book.lock().since(known);
        if since.is_empty() {
            return false;
        }
        let found = look(&self.ways, by, self.looked_for(&known.terms, &since)).await;
        matches!(found, Found::Pool | Found::Block | Found::Unread)
    }

    /// The same bytes again. Where they were too long to be kept, the same transaction, signed again.
    async fn resend(&self, by: usize, draft: &Draft, known: &Signing, signed: Note<'_>) -> Result<(B256, Word)> {
        let (Some(raw), Some(hash)) = (&known.raw, known.hashes.last()) else {
            return self.sign_again(by, draft, known, known.terms, signed).await;
        };
        self.note(known.id, |it| it.sent = Instant::now());
        let word = self.ways.put(known.terms, by, raw.clone()).await.word;
        self.note(known.id, |it| it.refused = word == Word::Refused);
        Ok((*hash, word))
    }

    /// At a higher price, unless that is above what is allowed.
    async fn raise(&self, draft: &Draft, known: &Signing, signed: Note<'_>) -> Result<Option<B256>> {
        self.note(known.id, |it| it.tried = Instant::now());
        let (allowed, blobs) = (self.allowed(), draft.blobs.is_some());
        let ask = |_, access| async move { market(access, allowed, blobs).await };
        let (by, now) = self.ways.by_one(Some(known.terms.chain_id), ask).await?;
        let raised = Terms { bid: known.terms.bid.raised(now.bid), ..known.terms };
        if check(raised.bid, allowed).is_err() {
            return Ok(None);
        }
        self.sign_again(by, draft, known, raised, signed).await.map(|(hash, _)| Some(hash))
    }

    /// Another transaction under the same nonce. Whatever is said of it, one of them may land.
    async fn sign_again(
        &self,
        by: usize,
        draft: &Draft,
        known: &Signing,
        terms: Terms,
        signed: Note<'_>,
    ) -> Result<(B256, Word)> {
        let made = sign(self.hand(), draft, terms, self.ways.at(by)?.blob_form()).await?;
        self.book.lock().add(known.id, terms, &made);
        signed(made.hash);
        let word = self.ways.put(terms, by, made.raw).await.word;
        if word == Word::NonceHeld {
            // Not enough for this pool. The next raise is on top of this one.
            self.note(known.id, |it| it.pooled = true);
        }
        Ok((made.hash, word))
    }

    /// Sends again what the pool lacks under the nonces before this one, if that was sent from here: the pool may have
    /// dropped it, or a reorganisation taken it out of its block, and nobody else need be waiting for it.
    async fn clear_the_way(&self, by: usize, terms: Terms) {
        let Ok(access) = self.ways.at(by) else { return };
        let mut before = None;
        for _ in 0..BEFORE {
            let pool = access.request::<U64>("eth_getTransactionCount", json!([self.address(), "pending"])).await;
            let Ok(pool) = pool.map(|count| count.to::<u64>()) else { return };
            if pool >= terms.nonce || before.replace(pool) == Some(pool) {
                return;
            }
            let (terms, raw) = {
                let mut book = self.book.lock();
                let lost = book.last(pool).filter(|it| it.sent.elapsed() >= RESEND).map(|it| it.id);
                let Some(it) = lost.and_then(|id| book.get(id)) else { return };
                it.sent = Instant::now();
                (it.terms, it.raw.clone())
            };
            let Some(raw) = raw else { return };
            _ = self.ways.put(terms, by, raw).await;
        }
    }
}
