//! Which of several RPCs is asked: decided without I/O, from what was heard of each.
//!
//! The one in use is kept as long as it works. One that fails, lags or is on another chain is left for a while, longer
//! each time; then a look that nobody waits for says whether it is back.

use std::{collections::BTreeMap, time::Duration};

use alloy_primitives::B256;
use tokio::time::Instant;

use crate::{
    backoff::{Backoff, Jitter, Random},
    chain::reader::Block,
    error::Error,
};

/// An RPC lags if its head is more than so many blocks behind, and so many seconds of the chain's own time: where
/// blocks come fast, RPCs that work are always some blocks apart.
const LAG_BLOCKS: u64 = 3;
const LAG_SECONDS: u64 = 10;
/// How long a head counts that no RPC shows any more. After that it may never have been.
const HEAD_KEPT: Duration = Duration::from_secs(120);
/// So many blocks that were told are remembered, to tell an RPC that lags from a chain that was reorganised.
const REMEMBERED: usize = 256;
/// How long an RPC is left, and one on another chain.
const HOLD: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), Jitter::Equal);
const HOLD_WRONG: Backoff = Backoff::new(Duration::from_secs(30), Duration::from_secs(600), Jitter::Equal);
/// The longest pause of an RPC's own that is kept.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// How long an RPC has to work until its failures are forgotten.
const FORGIVEN: Duration = Duration::from_secs(60);
/// How often all of them are looked at, while they are used.
pub(super) const SURVEY: Duration = Duration::from_secs(15);

/// Why one of several RPCs was left for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhyLeft {
    /// It could not be asked, did not answer in time, or refused what it has to answer.
    Failed,
    /// Its latest block is so many blocks behind that of another.
    #[non_exhaustive]
    Lags {
        /// How many.
        blocks: u64,
    },
    /// It is on another chain than it should be. Nothing that it said counts.
    #[non_exhaustive]
    WrongChain {
        /// The chain id that it tells. If that is the right one, its block 0 is another.
        chain_id: u64,
    },
}

/// What is known of them.
#[derive(Debug)]
pub(super) struct Health {
    peers: Vec<Peer>,
    /// The one in use.
    current: usize,
    /// The latest block that was told to somebody, and the last one whose RPC had proved its chain by then.
    told: Option<Told>,
    sound: Option<Told>,
    /// Hashes of what was told, by number.
    past: BTreeMap<u64, B256>,
    surveyed: Option<Instant>,
    surveying: bool,
    random: Random,
}

#[derive(Clone, Debug, Default)]
struct Peer {
    left: Option<Left>,
    failures: u32,
    /// Since when it is back.
    back: Option<Instant>,
    head: Option<Block>,
    /// Whether its block 0 was looked at since it was left last.
    verified: bool,
}

/// Why and until when one is left.
#[derive(Clone, Debug)]
pub(super) struct Left {
    at: Instant,
    pub(super) until: Instant,
    pub(super) why: WhyLeft,
    pub(super) error: Error,
}

/// A head, who showed it, and when last.
#[derive(Clone, Copy, Debug)]
struct Told {
    block: Block,
    by: usize,
    at: Instant,
}

/// A head that is behind the one that was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Behind {
    pub(super) blocks: u64,
    /// By so much that the RPC is to be left.
    pub(super) lags: bool,
}

impl Health {
    pub(super) fn new(count: usize) -> Self {
        let peers = vec![Peer::default(); count];
        let (current, told, sound, past, surveyed, surveying) = Default::default();
        Self { peers, current, told, sound, past, surveyed, surveying, random: Random::default() }
    }

    pub(super) fn current(&self) -> usize {
        self.current
    }

    pub(super) fn left(&self, index: usize) -> Option<&Left> {
        self.peers.get(index)?.left.as_ref()
    }

    pub(super) fn head(&self, index: usize) -> Option<Block> {
        self.peers.get(index)?.head
    }

    pub(super) fn is_verified(&self, index: usize) -> bool {
        self.peers.get(index).is_some_and(|peer| peer.verified)
    }

    pub(super) fn verify(&mut self, index: usize) {
        if let Some(peer) = self.peers.get_mut(index) {
            peer.verified = true;
        }
    }

    fn is_ready(&self, index: usize) -> bool {
        self.left(index).is_none()
    }

    /// Whether there is another one to turn to.
    pub(super) fn has_other(&self, index: usize) -> bool {
        (0..self.peers.len()).any(|other| other != index && self.is_ready(other))
    }

    /// The one to ask, of those that were not tried: one that works, or else one that may be back. The first try is at
    /// any, as one that is left is as good as an only one.
    pub(super) fn choose(&mut self, tried: &[usize], now: Instant) -> Option<usize> {
        let in_order = std::iter::once(self.current).chain(0..self.peers.len());
        if let Some(ready) = in_order.filter(|index| !tried.contains(index)).find(|index| self.is_ready(*index)) {
            if !self.is_ready(self.current) {
                self.current = ready;
            }
            return Some(ready);
        }
        let left = |(index, peer): (usize, &Peer)| {
            let left = peer.left.as_ref().filter(|_| !tried.contains(&index))?;
            Some((matches!(left.why, WhyLeft::WrongChain { .. }), left.until, index))
        };
        let soonest = self.peers.iter().enumerate().filter_map(left).min();
        soonest.filter(|(_, until, _)| tried.is_empty() || *until <= now).map(|(.., index)| index)
    }

    /// It is left for a while. One that is left already is not left for longer by those that were under way.
    pub(super) fn leave(&mut self, index: usize, why: WhyLeft, error: Error, now: Instant) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        let wrong = matches!(why, WhyLeft::WrongChain { .. });
        peer.verified = false;
        let known = |left: &Left| left.until > now && matches!(left.why, WhyLeft::WrongChain { .. }) >= wrong;
        if !peer.left.as_ref().is_some_and(known) {
            if peer.left.is_none() && peer.back.is_some_and(|back| now.saturating_duration_since(back) >= FORGIVEN) {
                peer.failures = 0;
            }
            peer.failures = peer.failures.saturating_add(1);
            let pause = if wrong { HOLD_WRONG } else { HOLD }.pause(peer.failures, &self.random);
            let pause = pause.max(error.retry_after().unwrap_or_default()).min(LONGEST_PAUSE);
            peer.left = Some(Left { at: now, until: now + pause, why, error });
        }
        if wrong {
            // What it told since it last proved its chain may be of another one.
            if self.told.is_some_and(|told| told.by == index) {
                self.told = self.sound;
                self.past.clear();
            }
        }
        if self.current == index
            && let Some(ready) = (0..self.peers.len()).find(|other| self.is_ready(*other))
        {
            self.current = ready;
        }
    }

    /// It has answered all of something as it should that was begun then. If it had been left for a failure by then, it
    /// is back.
    pub(super) fn served(&mut self, index: usize, begun: Instant, now: Instant) {
        let back = |left: &Left| left.why == WhyLeft::Failed && left.at <= begun;
        if self.left(index).is_none_or(back) {
            self.works(index, now);
        }
    }

    /// It can be used.
    fn works(&mut self, index: usize, now: Instant) {
        if let Some(peer) = self.peers.get_mut(index)
            && (peer.left.take().is_some() || peer.back.is_none())
        {
            peer.back = Some(now);
        }
    }

    /// The latest block that was told, if that is not long ago.
    pub(super) fn floor(&self, now: Instant) -> Option<Block> {
        let counts = |told: &Told| now.saturating_duration_since(told.at) < HEAD_KEPT;
        self.told.filter(counts).map(|told| told.block)
    }

    /// How far this head is behind the one that was told. Not if the RPC that has told that one shows now that the
    /// chain was reorganised: it has another block in the place of one that was told.
    pub(super) fn behind(&self, index: usize, block: Block, now: Instant) -> Option<Behind> {
        let behind = behind(block, self.floor(now)?)?;
        let another = self.past.get(&block.number).is_some_and(|hash| *hash != block.hash);
        let reorganised = another && self.told.is_some_and(|told| told.by == index);
        (!reorganised).then_some(behind)
    }

    /// It has shown this head, which is told to somebody. `proved`, if it has shown in the same breath that it is on
    /// the right chain.
    pub(super) fn tell(&mut self, index: usize, block: Block, proved: bool, now: Instant) {
        if let Some(peer) = self.peers.get_mut(index) {
            peer.head = Some(block);
        }
        // Those who had begun before may be told of an earlier one.
        if self.behind(index, block, now).is_some() {
            return;
        }
        self.told = Some(Told { block, by: index, at: now });
        if proved {
            self.sound = self.told;
        }
        self.past.split_off(&block.number);
        self.past.insert(block.number, block.hash);
        if let Some(before) = block.number.checked_sub(1) {
            self.past.insert(before, block.parent);
        }
        while self.past.len() > REMEMBERED {
            self.past.pop_first();
        }
    }

    /// Those that are to be looked at now: all of them once in a while, and those that may be back. None while that is
    /// done already. The first look leaves out the one in use, unless the caller has not begun to use it.
    pub(super) fn due(&mut self, unused: bool, now: Instant) -> Vec<usize> {
        if self.surveying {
            return Vec::new();
        }
        let all = self.surveyed.is_none_or(|last| now.saturating_duration_since(last) >= SURVEY);
        let is_back = |left: &Left| left.until <= now;
        // Whether one lags still is seen beside those that do not.
        let lagged = |peer: &Peer| {
            peer.left.as_ref().is_some_and(|left| is_back(left) && matches!(left.why, WhyLeft::Lags { .. }))
        };
        let compares = self.peers.iter().any(lagged);
        let due = |(index, peer): (usize, &Peer)| match &peer.left {
            Some(left) => is_back(left),
            None if compares => true,
            None => all && self.peers.len() > 1 && (unused || self.surveyed.is_some() || index != self.current),
        };
        let due: Vec<_> = self.peers.iter().enumerate().filter(|it| due(*it)).map(|(index, _)| index).collect();
        if all {
            self.surveyed = Some(now);
        }
        self.surveying = !due.is_empty();
        due
    }

    /// All of them were looked at just now.
    pub(super) fn looked_at_all(&mut self, now: Instant) {
        self.surveyed = Some(now);
    }

    #[cfg(feature = "chain")]
    pub(super) fn is_surveying(&self) -> bool {
        self.surveying
    }

    /// The look is over.
    pub(super) fn surveyed(&mut self) {
        self.surveying = false;
    }

    /// What a look at them has shown, of those that are on the right chain. Tells which of them lag, and how far.
    pub(super) fn compare(&mut self, heads: &[(usize, Block)], now: Instant) -> Vec<(usize, u64)> {
        let best = heads.iter().map(|(_, block)| *block).max_by_key(|block| block.number);
        let mut lagging = Vec::new();
        for (index, block) in heads {
            if let Some(peer) = self.peers.get_mut(*index) {
                peer.head = Some(*block);
            }
            let behind = best.and_then(|best| behind(*block, best)).filter(|it| it.lags);
            match behind.or_else(|| self.behind(*index, *block, now).filter(|it| it.lags)) {
                Some(behind) => lagging.push((*index, behind.blocks)),
                None => self.works(*index, now),
            }
        }
        // Back to the first that works and has all that was told.
        let told = self.told.map_or(0, |told| told.block.number);
        let lags = |index: usize| lagging.iter().any(|(lagging, _)| *lagging == index);
        let has_all = |(index, block): &&(usize, Block)| {
            *index < self.current && self.is_ready(*index) && block.number >= told && !lags(*index)
        };
        if let Some((first, _)) = heads.iter().filter(has_all).min_by_key(|(index, _)| *index) {
            self.current = *first;
        }
        lagging
    }
}

fn behind(block: Block, other: Block) -> Option<Behind> {
    let blocks = other.number.saturating_sub(block.number);
    let seconds = other.timestamp.saturating_sub(block.timestamp);
    (blocks > 0).then_some(Behind { blocks, lags: blocks > LAG_BLOCKS && seconds > LAG_SECONDS })
}
