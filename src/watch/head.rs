//! The chain's head, and the jobs that are looked at for it.
//!
//! A few looks at a time, one chunk of jobs each, once for every new head; sooner for jobs that have just come, and for
//! those of which the node has said something that the chain is to confirm. If there are more jobs than one look has
//! room for, the JobManager's events say which of them to look at (`head_events.rs`), and the others are only looked at
//! now and then.

use std::collections::BTreeSet;

use alloy_primitives::B256;
use tokio::time::Instant;

use super::{head_events::HeadEvents, health::Outage, onchain::ChainWish, pace::Pace, schedule::Slot};
use crate::{
    chain::{Ask, Block, EventRange},
    error::Error,
};

/// The most jobs of one look. With the question for the head they are 100, which RPCs take in one request.
const CHUNK: usize = 99;
/// Looks under way at once. A thousand jobs that land in one block are seen within three round trips, not eleven.
const LOOKS: usize = 4;

/// A job that the chain is asked about.
#[derive(Clone, Debug)]
pub(super) struct ChainQuestion {
    pub slot: Slot,
    /// Whether the node had ended the job by then.
    pub after_end: bool,
    pub ask: Ask,
}

/// What is known of the chain, and under way.
#[derive(Debug, Default)]
pub(super) struct ChainHead {
    /// Jobs that somebody waits for on chain, and those of them to look at now.
    waited: BTreeSet<Slot>,
    due: BTreeSet<Slot>,
    /// Where the next look begins: those before it had their turn.
    turn: Slot,
    /// The last head that is known.
    head: Option<Block>,
    events: HeadEvents,
    /// Where the next look at jobs begins of which no event speaks.
    sweep: Slot,
    following: bool,
    /// Looks under way, and the jobs in them: none is in two, as the answer that comes last may be the older one.
    looks: usize,
    looked_at: BTreeSet<Slot>,
    outage: Outage,
    /// Why the last call failed, if it did.
    error: Option<Error>,
}

impl ChainHead {
    /// Somebody waits for the job: whatever was seen of it before, it is looked at now.
    pub(super) fn begin(&mut self, slot: Slot) {
        self.waited.insert(slot);
        self.due.insert(slot);
    }

    /// Nobody does any more.
    pub(super) fn end(&mut self, slot: Slot) {
        self.waited.remove(&slot);
        self.due.remove(&slot);
    }

    pub(super) fn is_waited_for(&self, slot: Slot) -> bool {
        self.waited.contains(&slot)
    }

    /// Looks at the job as soon as possible, if somebody waits for it.
    pub(super) fn hurry(&mut self, slot: Slot) {
        if self.is_waited_for(slot) {
            self.due.insert(slot);
        }
    }

    /// Whether the head is to be followed no more, as nobody waits for the chain.
    pub(super) fn unfollow(&mut self) -> bool {
        if !self.waited.is_empty() {
            return false;
        }
        (self.head, self.events) = Default::default();
        std::mem::take(&mut self.following)
    }

    /// Until when the chain is left alone, if it has just failed.
    pub(super) fn hold(&self, now: Instant) -> Option<Instant> {
        self.outage.hold(now).filter(|_| !self.waited.is_empty())
    }

    /// The head to wait for the next one of, once there is one. Of a look it is known where to go on from.
    pub(super) fn follow(&mut self) -> Option<B256> {
        let head = self.head.filter(|_| !self.following)?;
        self.following = true;
        Some(head.hash)
    }

    /// The jobs of the next look, of those for which this has a question; none if enough are under way or nothing is
    /// due.
    pub(super) fn look(&mut self, question: impl Fn(Slot) -> Option<ChainQuestion>) -> Vec<ChainQuestion> {
        let mut asked = Vec::new();
        // The first look says from which block on events tell the rest, so none may be of an earlier one.
        let most = if self.head.is_some() { LOOKS } else { 1 };
        while self.looks < most
            && asked.len() < CHUNK
            && let Some(slot) = self.next_due()
        {
            asked.extend(question(slot));
        }
        self.looks += usize::from(!asked.is_empty());
        self.looked_at.extend(asked.iter().map(|asked| asked.slot));
        asked
    }

    /// The next job to look at, all in turn: where heads come faster than looks end, the first ones are due again
    /// before the last were looked at. One in a look under way waits for that.
    fn next_due(&mut self) -> Option<Slot> {
        let mut in_turn = self.due.range(self.turn..).chain(self.due.range(..self.turn));
        let slot = in_turn.find(|slot| !self.looked_at.contains(slot)).copied()?;
        self.due.remove(&slot);
        self.turn = slot.wrapping_add(1);
        Some(slot)
    }

    /// How many jobs are waited for, and which.
    pub(super) fn waited(&self) -> usize {
        self.waited.len()
    }

    pub(super) fn all_waited(&self) -> impl Iterator<Item = Slot> {
        self.waited.iter().copied()
    }

    /// Whether events say which jobs to look at, as there are too many for one look.
    pub(super) fn has_events(&self) -> bool {
        self.waited.len() > CHUNK && self.events.work()
    }

    /// The blocks whose events are to be asked for now.
    pub(super) fn ask_events(&mut self, now: Instant) -> Option<EventRange> {
        self.events.ask(now).filter(|_| !self.waited.is_empty())
    }

    /// Until when events are not asked for, as the RPC has not come so far.
    pub(super) fn hold_events(&self, now: Instant) -> Option<Instant> {
        self.events.hold(now)
    }

    /// The chain has another head; `wish` says which jobs want a look for it.
    pub(super) fn moved(&mut self, head: Block, now: Instant, wish: impl Fn(Slot) -> ChainWish) {
        self.following = false;
        let last = self.head.replace(head);
        let has_events = if self.waited.len() > CHUNK {
            self.events.follow(last, head)
        } else {
            self.events.pass(head);
            false
        };
        let now_due = |slot: &&Slot| match wish(**slot) {
            ChainWish::None => false,
            ChainWish::AtEvents => !has_events,
            ChainWish::AtHeads => true,
        };
        self.due.extend(self.waited.iter().filter(now_due));
        if has_events && self.events.sweep(now) {
            let from = |slot| self.waited.range(slot..).copied();
            let some: Vec<_> = from(self.sweep).chain(from(0)).take(CHUNK.min(self.waited.len())).collect();
            self.sweep = some.last().map_or(0, |slot| slot.wrapping_add(1));
            self.due.extend(some.into_iter().filter(|slot| wish(*slot) != ChainWish::None));
        }
    }

    /// Events were told.
    pub(super) fn events_told(&mut self, range: EventRange) {
        self.error = None;
        self.events.told(range);
    }

    /// The RPC has not come so far that it could tell events, or it has none: then all jobs are looked at.
    pub(super) fn events_untold(&mut self, behind: Option<(EventRange, Instant)>, wish: impl Fn(Slot) -> ChainWish) {
        match behind {
            Some((range, now)) if self.events.behind(range, now) => return,
            Some(_) => {}
            None => self.events.untold(),
        }
        self.due.extend(self.waited.iter().filter(|slot| wish(**slot) != ChainWish::None));
    }

    /// Events could not be asked for.
    pub(super) fn events_lost(&mut self, range: EventRange, error: Error, now: Instant, pace: &mut Pace) {
        self.events.unanswered(range);
        self.failed(error, now, pace);
    }

    /// The next head could not be waited for.
    pub(super) fn lost(&mut self, error: Error, now: Instant, pace: &mut Pace) {
        self.following = false;
        self.failed(error, now, pace);
    }

    /// A look is over.
    fn looked(&mut self, asked: &[ChainQuestion]) {
        self.looks = self.looks.saturating_sub(1);
        asked.iter().for_each(|asked| _ = self.looked_at.remove(&asked.slot));
    }

    /// A look at these jobs has shown something, at this head.
    pub(super) fn seen(&mut self, asked: &[ChainQuestion], head: Block) {
        self.looked(asked);
        self.error = None;
        self.outage.over();
        self.head = self.head.or(Some(head));
        self.events.begin(head.number);
    }

    /// A look at these jobs has shown nothing.
    pub(super) fn unseen(&mut self, asked: &[ChainQuestion], error: Error, now: Instant, pace: &mut Pace) {
        self.looked(asked);
        self.failed(error, now, pace);
        asked.iter().for_each(|asked| self.hurry(asked.slot));
    }

    fn failed(&mut self, error: Error, now: Instant, pace: &mut Pace) {
        self.outage.goes_on(now, pace, error.retry_after());
        self.error = Some(error);
    }

    /// The watcher was cut off, and its calls with it.
    pub(super) fn cut_off(&mut self) {
        (self.following, self.looks, self.head) = (false, 0, None);
        self.looked_at.clear();
        self.events = HeadEvents::default();
        self.due = self.waited.clone();
    }

    /// Why the chain could not be read, if the last call failed.
    pub(super) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{LocalSigner, OffchainJobRequest, ProgramId, RelayStrategy, Revision, SignedJob};

    async fn job() -> SignedJob {
        let job = OffchainJobRequest::builder(alloy_primitives::Address::repeat_byte(1), ProgramId::new(vec![1]));
        let job = job.max_cycles(1).relay(RelayStrategy::Unordered).build().unwrap();
        let signer = LocalSigner::from_slice(&[1; 32]).unwrap();
        job.prepare(Revision::Relay, 1).unwrap().sign(&signer).await.unwrap()
    }

    fn slots(look: &[ChainQuestion]) -> Vec<Slot> {
        look.iter().map(|asked| asked.slot).collect()
    }

    #[tokio::test]
    async fn after_the_first_look_a_few_are_under_way_at_once_and_no_job_is_in_two() {
        let (mut head, job) = (ChainHead::default(), job().await);
        let question = |slot| {
            let ask = Ask { job: job.clone(), transactions: vec![], shown: vec![], quiet: 0..0, ended: false };
            Some(ChainQuestion { slot, after_end: false, ask })
        };
        let block = Block::new(1, B256::repeat_byte(1), B256::ZERO, 1);
        let jobs = (LOOKS as Slot + 1) * CHUNK as Slot;
        (0..jobs).for_each(|slot| head.begin(slot));
        let first = head.look(question);
        assert_eq!(first.len(), CHUNK);
        assert!(head.look(question).is_empty(), "events go on from its block");
        head.seen(&first, block);

        let looks: Vec<_> = (0..LOOKS).map(|_| head.look(question)).collect();
        let mut asked: Vec<_> = looks.iter().flat_map(|look| slots(look)).collect();
        asked.sort_unstable();
        assert_eq!(asked, (CHUNK as Slot..jobs).collect::<Vec<_>>(), "each in one");
        // Those of the first look and of one under way are due again.
        (0..2 * CHUNK as Slot).for_each(|slot| head.hurry(slot));
        assert!(head.look(question).is_empty(), "enough are under way");
        head.seen(&looks[1], block);
        assert_eq!(slots(&head.look(question)), (0..CHUNK as Slot).collect::<Vec<_>>());
        head.seen(&looks[2], block);
        assert!(head.look(question).is_empty(), "the others wait for the look that they are in");
        head.seen(&looks[0], block);
        assert_eq!(slots(&head.look(question)), slots(&looks[0]));
    }

    #[test]
    fn jobs_that_are_due_again_wait_for_those_that_had_no_turn() {
        let mut head = ChainHead::default();
        let slots = [1, 2, 3, Slot::MAX];
        slots.iter().for_each(|slot| head.begin(*slot));
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.extend((0..2).filter_map(|_| head.next_due()));
            // A new head, each time.
            slots.iter().for_each(|slot| head.hurry(*slot));
        }
        assert_eq!(seen, [1, 2, 3, Slot::MAX, 1, 2]);
    }
}
