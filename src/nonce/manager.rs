//! Leases, lanes and bounds, in front of any source.

use std::{fmt, sync::Arc};

use alloy_primitives::Address;

use super::{
    lease::NonceLease,
    ledger::{Ledger, Taken, Unknown},
    shared::Shared,
    source::{GAP_FREE_MAX_JUMP, Lane, NonceSource, Settlement},
    window::WIDEST,
};
use crate::{
    error::{Error, ErrorKind, Result},
    observe::Observers,
};

/// How often in a row a source may hand out a nonce that is in use before it counts as broken. A sound one does so only
/// where a caller gave that nonce, and moves on.
const MAX_STALE: usize = 64;

/// Leases the nonces of any number of consumers. Clones share everything but their two bounds
/// ([`with_max_jump`](Self::with_max_jump), [`with_window`](Self::with_window)).
///
/// It stands in front of any [`NonceSource`], and makes sure that
/// - a nonce is in one lease at a time, and never again once it is committed or quarantined,
/// - a consumer stays in one [`Lane`]: unordered jobs do not advance the counter that ordered ones wait for,
/// - no nonce is [`u64::MAX`], nor so far ahead that it looks like a mistake: both would raise the contract's
///   `getNextNonce()` for ever.
///
/// It remembers for each consumer the leased and quarantined nonces, each until it is settled, and the runs of
/// consecutive committed ones. Numbers without gaps are one run. Of numbers with gaps it keeps the highest 4096 runs,
/// and counts every nonce below them as committed. An ordered lane has such gaps where several processes draw its
/// nonces from one place ([`Given`](super::Given)): the others have those in between. There the runs that the lane has
/// passed are joined first, and none is given up that a leased or quarantined nonce lies below.
#[derive(Clone)]
pub struct NonceManager {
    pub(super) shared: Arc<Shared>,
    max_jump: Option<u64>,
    pub(super) window: usize,
}

impl NonceManager {
    /// Leases what the source hands out.
    #[must_use]
    pub fn new(source: impl NonceSource + 'static) -> Self {
        Self { shared: Shared::new(source), max_jump: None, window: WIDEST }
    }

    /// How far a nonce may lie above the highest one handed out or committed for its consumer.
    ///
    /// Unless set, it is [`GAP_FREE_MAX_JUMP`] in an ordered lane, and elsewhere what the source says
    /// ([`NonceSource::max_jump`]): for timestamps 400 days in milliseconds. The source's first nonce of a consumer is
    /// taken as it is. The first nonce that a caller gives is measured against [`NonceSource::peek`].
    #[must_use]
    pub fn with_max_jump(mut self, nonces: u64) -> Self {
        self.max_jump = Some(nonces);
        self
    }

    /// How many Ordered jobs of a consumer may be sent and not relayed, from 1 to 128. Default: 128.
    ///
    /// Counted are the jobs that the clients with this manager have sent or resumed and not seen relayed. At the bound
    /// a submission waits ([`Client::submit`](crate::Client::submit)), or is refused
    /// ([`ClientBuilder::refuse_when_full`](crate::client::ClientBuilder::refuse_when_full)). A node that has about 258
    /// such jobs stops answering for the consumer. Managers do not know of each other's jobs, and neither do processes:
    /// where several submit for one consumer, give each its share, such as 64 to each of two.
    ///
    /// A job whose nonce is below all that are counted does not wait for a place, as their lane waits for it; with such
    /// jobs there may be 240. Resumed jobs are counted however many they are. Where that is more than the bound, waits
    /// send those that the node lacks from the lowest nonce on, and no more than the bound.
    #[must_use]
    pub fn with_window(mut self, jobs: usize) -> Self {
        self.window = jobs.clamp(1, WIDEST);
        self
    }

    /// Leases a nonce from the source.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] or [`ErrorKind::Nonce`] as [`check_lane`](Self::check_lane);
    /// [`ErrorKind::Nonce`] if the source hands out a nonce that is too far ahead, is [`u64::MAX`], or is in use; and
    /// whatever the source fails with.
    pub async fn lease(&self, consumer: Address, lane: Lane) -> Result<NonceLease> {
        self.check_lane(consumer, lane)?;
        let source = &self.shared.source;
        let (mut previous, mut stale) = (None, 0);
        loop {
            let nonce = source.reserve(consumer).await?;
            let mut ledgers = self.shared.ledgers.lock();
            let ledger = ledgers.entry(consumer).or_default();
            match ledger.taken(nonce) {
                None => {
                    if let Err(error) = self.admit(ledger, consumer, lane, nonce) {
                        source.settle(consumer, nonce, Settlement::Release);
                        return Err(error);
                    }
                    ledger.lease_reserved(lane, nonce);
                    return Ok(NonceLease::new(self.shared.clone(), consumer, nonce));
                }
                Some(Taken::Leased) => ledger.adopt(nonce),
                // The source has been told, and will be told how it ends.
                Some(Taken::Quarantined) => {}
                Some(Taken::Committed | Taken::Forgotten) => source.settle(consumer, nonce, Settlement::Commit),
            }
            stale = if Some(nonce) > previous { 0 } else { stale + 1 };
            previous = Some(nonce);
            if stale >= MAX_STALE {
                return Err(Error::new(
                    ErrorKind::Nonce,
                    format!("the nonce source ({}) keeps handing out nonces in use, last {nonce}", source.name()),
                )
                .with_hint("`NonceSource::reserve` must not return a nonce again before it is released"));
            }
        }
    }

    /// Whether a free nonce of the source may be leased.
    fn admit(&self, ledger: &Ledger, consumer: Address, lane: Lane, nonce: u64) -> Result<()> {
        same_lane(ledger, consumer, lane)?;
        not_the_largest(nonce)?;
        if ledger.needs_baseline() { Ok(()) } else { self.near(ledger, consumer, lane, nonce) }
    }

    /// Leases the nonce that the caller has set on the job.
    ///
    /// It may lie below others, so a gap can be filled. The manager does not know whether it was used before the
    /// manager was made.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] or [`ErrorKind::Nonce`] as [`check_lane`](Self::check_lane); [`ErrorKind::Nonce`]
    /// if the nonce is leased, committed or quarantined here, is too far ahead, or is [`u64::MAX`]; and whatever
    /// [`NonceSource::peek`] fails with.
    pub async fn lease_exact(&self, consumer: Address, lane: Lane, nonce: u64) -> Result<NonceLease> {
        self.check_lane(consumer, lane)?;
        not_the_largest(nonce)?;
        let needs_baseline = self.shared.ledgers.lock().get(&consumer).is_none_or(Ledger::needs_baseline);
        let baseline = if needs_baseline { self.shared.source.peek(consumer).await? } else { None };

        let mut ledgers = self.shared.ledgers.lock();
        let ledger = ledgers.entry(consumer).or_default();
        if let Some(baseline) = baseline {
            ledger.set_baseline(baseline);
        }
        same_lane(ledger, consumer, lane)?;
        self.near(ledger, consumer, lane, nonce)?;
        let refused = |why: &str, hint: &'static str| {
            let what = format!("nonce {nonce} of {consumer} {why}");
            Err(Error::new(ErrorKind::Nonce, what).with_hint(hint))
        };
        match ledger.taken(nonce) {
            Some(Taken::Leased) => refused("is in use by another job", "wait for that job, or set another nonce"),
            Some(Taken::Quarantined) => refused(
                "is quarantined: a job signed with it may have been sent",
                "find out what became of that job, then call `NonceManager::resolve`; or set another nonce",
            ),
            Some(Taken::Committed) => refused(
                "is spent",
                "set another nonce: one nonce is one job. Where the job that has it FAILED, Client::replace puts another in \
                 its place",
            ),
            Some(Taken::Forgotten) => refused(
                "is below all those still remembered, so it may be spent",
                "set a higher nonce: one nonce is one job",
            ),
            None => {
                ledger.lease_given(lane, nonce);
                Ok(NonceLease::new(self.shared.clone(), consumer, nonce))
            }
        }
    }

    /// Accounts for a nonce that is signed with already: no bound, lane or source can undo that. The lease is marked as
    /// signed.
    pub(crate) fn claim_signed(&self, consumer: Address, lane: Lane, nonce: u64) -> Claim {
        let mut ledgers = self.shared.ledgers.lock();
        let ledger = ledgers.entry(consumer).or_default();
        match ledger.taken(nonce) {
            None => {
                let lane = ledger.other_lane(lane).unwrap_or(lane);
                ledger.lease_given(lane, nonce);
                let mut lease = NonceLease::new(self.shared.clone(), consumer, nonce);
                lease.mark_signed();
                Claim::Leased(lease)
            }
            Some(Taken::Leased) => Claim::HeldElsewhere { sent: ledger.may_be_sent(nonce) },
            Some(Taken::Quarantined) => Claim::Quarantined,
            Some(Taken::Committed | Taken::Forgotten) => Claim::Spent,
        }
    }

    /// The same for a job that is about to be sent: also a nonce in quarantine is leased then, so that no other client
    /// sends the job at the same time.
    pub(crate) fn claim_to_send(&self, consumer: Address, lane: Lane, nonce: u64) -> Claim {
        {
            let mut ledgers = self.shared.ledgers.lock();
            let ledger = ledgers.entry(consumer).or_default();
            if ledger.taken(nonce) == Some(Taken::Quarantined) {
                ledger.lease_quarantined(nonce);
                let mut lease = NonceLease::new(self.shared.clone(), consumer, nonce);
                lease.mark_signed();
                return Claim::Leased(lease);
            }
        }
        self.claim_signed(consumer, lane, nonce)
    }

    /// Whether a client may have sent a job that was signed with the nonce.
    pub(crate) fn may_be_sent(&self, consumer: Address, nonce: u64) -> bool {
        self.shared.ledgers.lock().get(&consumer).is_some_and(|ledger| ledger.may_be_sent(nonce))
    }

    /// How a nonce stands, for those who only look; nothing if this manager does not know it.
    pub(crate) fn standing(&self, consumer: Address, nonce: u64) -> Option<NonceStanding> {
        let ledgers = self.shared.ledgers.lock();
        let ledger = ledgers.get(&consumer)?;
        ledger.taken(nonce).map(|taken| match taken {
            Taken::Leased => NonceStanding::Leased { sent: ledger.may_be_sent(nonce) },
            Taken::Quarantined => NonceStanding::Quarantined,
            Taken::Committed => NonceStanding::Spent { lane: ledger.lane() },
            Taken::Forgotten => NonceStanding::Spent { lane: None },
        })
    }

    /// Somebody else's job was found under a nonce.
    pub(crate) fn taken_by_others(&self, consumer: Address, nonce: u64) {
        self.shared.source.taken_by_others(consumer, nonce);
    }

    /// The runs of nonces from one up to another, the latter left out, that this manager does not know: neither leased,
    /// nor quarantined, nor spent. The lowest first, so many at most; and how many nonces of the range it does know, or
    /// more exactly, of the part that was looked at.
    pub(crate) fn unknown(&self, consumer: Address, from: u64, to: u64, most: usize) -> Unknown {
        match self.shared.ledgers.lock().get(&consumer) {
            Some(ledger) => ledger.unknown(from, to, most),
            None => Ledger::default().unknown(from, to, most),
        }
    }

    /// How far a nonce of an unordered lane may lie above the highest one known.
    pub(crate) fn unordered_jump(&self) -> u64 {
        self.max_jump.unwrap_or_else(|| self.shared.source.max_jump())
    }

    /// The highest nonce known or, where the source has not spoken yet, the one that it would hand out.
    ///
    /// # Errors
    /// Whatever [`NonceSource::peek`] fails with.
    pub(crate) async fn highest(&self, consumer: Address) -> Result<Option<u64>> {
        let high = self.shared.ledgers.lock().get(&consumer).and_then(Ledger::high);
        if high.is_some() { Ok(high) } else { self.shared.source.peek(consumer).await }
    }

    fn near(&self, ledger: &Ledger, consumer: Address, lane: Lane, nonce: u64) -> Result<()> {
        let max_jump = self.max_jump.unwrap_or_else(|| match lane {
            Lane::Ordered => GAP_FREE_MAX_JUMP,
            Lane::Unordered => self.unordered_jump(),
        });
        ledger.beyond(nonce, max_jump).map_or(Ok(()), |bound| {
            let what = format!("nonce {nonce} of {consumer} is above {bound}: more than {max_jump} past the last one");
            Err(Error::new(ErrorKind::Nonce, what).with_hint(
                "check its unit and the clock: it cannot be taken back; `NonceManager::with_max_jump` allows more",
            ))
        })
    }

    /// Checks that the consumer's jobs may go in the lane, without reserving anything.
    ///
    /// The first lease of a consumer binds it to a lane. If all its leases are released, it is free again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if the lane is ordered and the source leaves gaps; [`ErrorKind::Nonce`] if the
    /// consumer is in the other lane.
    pub fn check_lane(&self, consumer: Address, lane: Lane) -> Result<()> {
        let source = &self.shared.source;
        if lane == Lane::Ordered && source.leaves_gaps() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("the nonce source ({}) leaves gaps, and a gap stalls an ordered lane for ever", source.name()),
            )
            .with_hint("use `Sequential`, or another source without gaps, or the unordered lane"));
        }
        self.shared.ledgers.lock().get(&consumer).map_or(Ok(()), |ledger| same_lane(ledger, consumer, lane))
    }

    /// The consumer's quarantined nonces, in ascending order.
    #[must_use]
    pub fn quarantined(&self, consumer: Address) -> Vec<u64> {
        self.shared.ledgers.lock().get(&consumer).map_or_else(Vec::new, Ledger::quarantined)
    }

    /// Takes a nonce out of quarantine, once it is known what became of the job that was signed with it.
    ///
    /// Settle it as [`Commit`](Settlement::Commit) if the node or the chain has the job. Settle it as
    /// [`Release`](Settlement::Release) only if no copy of the signed bytes can arrive any more. That a node does not
    /// know the job *now* is no proof while a request may still be under way. To send the same bytes again, nothing
    /// needs to be resolved.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Nonce`] if the nonce is not quarantined, or the job is being sent again;
    /// [`ErrorKind::InvalidInput`] if the settlement is neither of the two.
    pub fn resolve(&self, consumer: Address, nonce: u64, settlement: Settlement) -> Result<()> {
        let commit = match settlement {
            Settlement::Commit => true,
            Settlement::Release => false,
            Settlement::Quarantine => {
                return Err(Error::new(ErrorKind::InvalidInput, "a quarantine cannot be resolved as a quarantine")
                    .with_hint("resolve it as `Commit` or `Release`, or leave it"));
            }
        };
        let mut ledgers = self.shared.ledgers.lock();
        if !ledgers.get_mut(&consumer).is_some_and(|ledger| ledger.resolve(nonce, commit)) {
            return Err(Error::new(
                ErrorKind::Nonce,
                format!("nonce {nonce} of {consumer} is not quarantined, or under way"),
            )
            .with_hint("see `NonceManager::quarantined`; a job that is being sent again settles its nonce itself"));
        }
        self.shared.source.settle(consumer, nonce, settlement);
        drop(ledgers);
        self.shared.quarantine_changed(consumer, nonce, true, false);
        if !commit {
            self.uncount(consumer, nonce);
        }
        Ok(())
    }

    /// Tells these, too, which nonces are leased and quarantined.
    pub(crate) fn observe(&self, observers: &Observers) {
        self.shared.observe(observers);
    }

    /// Tells the observers of what has been leased. Not to be called under a lock.
    pub(crate) fn tell(&self) {
        self.shared.tell();
    }
}

/// What a nonce that is signed with already is to a manager.
#[derive(Debug)]
pub(crate) enum Claim {
    Leased(NonceLease),
    HeldElsewhere {
        /// Whether a job was signed with it and may have been sent.
        sent: bool,
    },
    Quarantined,
    Spent,
}

/// How a nonce stands in a manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NonceStanding {
    /// A job is being signed with it, or sent.
    Leased {
        /// Whether a job that was signed with it may have been sent.
        sent: bool,
    },
    Quarantined,
    Spent {
        /// The lane that the consumer is in.
        lane: Option<Lane>,
    },
}

fn same_lane(ledger: &Ledger, consumer: Address, lane: Lane) -> Result<()> {
    ledger.other_lane(lane).map_or(Ok(()), |other| {
        let what = format!("{consumer} has jobs in the {other:?} lane and cannot also have {lane:?} ones");
        Err(Error::new(ErrorKind::Nonce, what)
            .with_hint("one lane per consumer: unordered jobs do not advance the counter that ordered ones wait for"))
    })
}

fn not_the_largest(nonce: u64) -> Result<()> {
    if nonce < u64::MAX {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Nonce, "the largest u64 cannot be a nonce: the contract's next nonce would overflow")
        .with_hint("set a smaller one"))
}

impl fmt::Debug for NonceManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NonceManager")
            .field("source", &self.shared.source)
            .field("max_jump", &self.max_jump)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}
