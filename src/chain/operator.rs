//! Whose results are believed: pinned, or read from the JobManager and remembered for a while.
//!
//! The address is read in a task that all share. It is used for its time to live, and up to an hour longer while the
//! chain cannot be read. An error is kept for one second. A caller that already has an address stops waiting for a new
//! reading 2 seconds after that reading began.

use std::{sync::Arc, time::Duration};

use alloy_primitives::Address;
use tokio::time::Instant;
use tracing::Instrument;

use super::{Batch, Binding, Chain, Heard, OneRpc, SecondLook, Tidings, contradiction};
use crate::{
    error::{Error, ErrorKind, Result},
    observe::{ClientEvent, Observers},
    runtime::Joint,
    sync::Lock,
};

/// How long what was read counts, unless set.
pub(crate) const OPERATOR_TTL: Duration = Duration::from_secs(300);
/// How long an operator that was read once is believed at least while the chain cannot be read.
const STALE: Duration = Duration::from_secs(3600);
/// How long a reading may take before it counts as failed.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long one is waited for where there is an operator to go on with.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two readings of which the first failed, showed nothing usable, or was made on account of a stranger's
/// result.
const PAUSE: Duration = Duration::from_secs(1);

/// The operator: pinned, read from the JobManager, or both, which then must agree.
#[derive(Clone)]
pub(crate) struct TrustedOperator(Arc<Shared>);

struct Shared {
    pinned: Option<Address>,
    chain: Option<Chain>,
    binding: Option<Binding>,
    ttl: Duration,
    observers: Observers,
    state: Lock<State>,
}

/// What a reading came to: the outer error says that the chain could not be read, the inner one that what it says is of
/// no use.
type Read = Result<Result<Address>>;

/// What the chain says, of use or not.
struct Said(Result<Address>);

impl Tidings for Said {
    fn is_bad(&self) -> bool {
        self.0.is_err()
    }

    fn agrees(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Ok(one), Ok(other)) => one == other,
            (Err(one), Err(other)) => one.kind() == other.kind(),
            _ => false,
        }
    }
}

#[derive(Default)]
struct State {
    /// What the chain said last, and when the reading began.
    said: Option<(Instant, Result<Address>)>,
    /// The last operator that it named, and that is of use.
    named: Option<Address>,
    /// The last reading, if that failed.
    failed: Option<(Instant, Error)>,
    begun: u64,
    reading: Option<Reading>,
}

/// A reading, under way or over, which all who wait for it share.
#[derive(Clone)]
struct Reading {
    number: u64,
    begun: Instant,
    end: Joint<Read>,
}

impl Reading {
    fn is_cut_off(&self) -> bool {
        self.end.is_cut_off()
    }

    fn is_under_way(&self) -> bool {
        // One whose runtime stands still is not waited for.
        self.end.is_running() && self.begun.elapsed() < TIMEOUT
    }
}

impl TrustedOperator {
    pub(crate) fn new(
        pinned: Option<Address>,
        chain: Option<Chain>,
        binding: Option<Binding>,
        ttl: Duration,
        observers: Observers,
    ) -> Self {
        Self(Arc::new(Shared { pinned, chain, binding, ttl, observers, state: Lock::default() }))
    }

    pub(crate) fn pinned(&self) -> Option<Address> {
        self.0.pinned
    }

    /// Whether it is known, or can be found out.
    pub(crate) fn is_known(&self) -> bool {
        self.0.pinned.is_some() || self.0.chain.is_some()
    }

    /// The operator, if it is known.
    pub(crate) async fn get(&self) -> Result<Option<Address>> {
        if self.0.chain.is_none() {
            return Ok(self.0.pinned);
        }
        if let Some(known) = self.0.state.lock().remembered(&self.0) {
            return known.map(Some);
        }
        let fallback = self.0.state.lock().fallback(&self.0);
        let patience = if fallback.is_some() { PATIENCE } else { TIMEOUT };
        match (self.read(None, patience).await, fallback) {
            (Ok(said), _) => said.map(Some),
            (Err(_), Some(operator)) => Ok(Some(operator)),
            (Err(error), None) => Err(error),
        }
    }

    /// The operator as the chain names it now, if that is another than this one. For a result that this one has not
    /// signed; not more than one reading a second is made for those.
    pub(crate) async fn changed(&self, from: Address) -> Result<Option<Address>> {
        if self.0.chain.is_none() {
            return Ok(None);
        }
        let (after, last) = {
            let state = self.0.state.lock();
            (state.begun, state.reading.as_ref().map(|reading| reading.begun))
        };
        if let Some(last) = last {
            tokio::time::sleep_until(last + PAUSE).await;
        }
        match self.read(Some(after), TIMEOUT).await {
            Ok(said) => said.map(|operator| (operator != from).then_some(operator)),
            // Nothing speaks against the one that is pinned.
            Err(_) if self.0.pinned.is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes note of what a reading for another purpose has shown.
    pub(crate) fn saw(&self, begun: Instant, operator: Address) {
        let said = self.0.judge(operator);
        self.0.take_in(begun, Ok(said));
    }

    /// Joins the reading in progress, or starts one. Given `after`, ignores readings that began earlier. Waits for at
    /// most `patience` from when the reading began.
    async fn read(&self, after: Option<u64>, patience: Duration) -> Read {
        let mut cut_off = false;
        loop {
            let (begun, end) = self.0.reading(after);
            // From when it began: one that hangs holds nobody up for long but the first.
            match tokio::time::timeout_at(begun + patience, end.outcome()).await {
                Ok(Some(read)) => return read,
                // It was of another runtime, which has ended: the next one is of this.
                Ok(None) if !std::mem::replace(&mut cut_off, true) => {}
                _ => return Err(unread("the chain does not say who the operator is: it did not answer in time")),
            }
        }
    }
}

impl Shared {
    /// In a task of its own, as the time of whoever began it may be over sooner.
    fn reading(self: &Arc<Self>, after: Option<u64>) -> (Instant, Joint<Read>) {
        let mut state = self.state.lock();
        if let Some(reading) = &state.reading {
            let fits =
                after.map_or_else(|| reading.is_under_way(), |after| reading.number >= after && !reading.is_cut_off());
            if fits {
                return (reading.begun, reading.end.clone());
            }
        }
        let (teller, end) = Joint::new();
        let (number, begun) = (state.begun, Instant::now());
        state.begun += 1;
        state.reading = Some(Reading { number, begun, end: end.clone() });
        drop(state);
        let shared = Arc::clone(self);
        let reading = async move {
            let read = tokio::time::timeout(TIMEOUT, shared.ask()).await;
            let read = read.unwrap_or_else(|_| Err(unread("the chain did not say in time who the operator is")));
            shared.take_in(begun, read.clone());
            teller.tell(read);
        };
        tokio::spawn(reading.in_current_span());
        (begun, end)
    }

    /// Asks who the operator is and, for a client that is bound, whether this is still its chain. That it is of no use
    /// is believed at the second look.
    async fn ask(&self) -> Read {
        let Some(chain) = &self.chain else { return Err(unread("the client has no chain")) };
        chain.verdict(|chain| async move { self.ask_one(&chain).await }).await
    }

    async fn ask_one(&self, chain: &OneRpc) -> Read {
        let (mut second, mut seen) = (SecondLook::new(), None);
        loop {
            let ask = |batch: &mut Batch| (batch.operator(), self.binding.map(|binding| (binding, batch.identity())));
            let ((operator, identity), mut answers) = match seen {
                // One answer, and which chain it is does not change with its blocks.
                None => {
                    let mut batch = chain.batch();
                    (ask(&mut batch), batch.send().await?)
                }
                Some(seen) => {
                    let snapshot = chain.again(seen, ask).await?;
                    (snapshot.asked, snapshot.answers)
                }
            };
            let right = match identity {
                Some((binding, identity)) => binding.check_identity(identity.take(&mut answers)?),
                None => Ok(()),
            };
            let said = match right {
                Ok(()) => self.judge(answers.take(operator)?),
                Err(error) => Err(error),
            };
            match second.hear(Said(said)) {
                Heard::Told(Said(said)) => return Ok(said),
                Heard::Again(pause) => {
                    tokio::time::sleep(pause).await;
                    seen = Some(chain.glance(|_| ()).await?.head);
                }
                Heard::Contradiction { .. } => return Err(contradiction(chain)),
            }
        }
    }

    fn take_in(&self, begun: Instant, read: Read) {
        let changed = self.state.lock().take_in(begun, read);
        if let Some((from, to)) = changed {
            self.observers.tell(ClientEvent::OperatorChanged { from, to });
        }
    }

    fn judge(&self, operator: Address) -> Result<Address> {
        if operator.is_zero() {
            return Err(Error::new(ErrorKind::Chain, "the JobManager names the zero address as the operator")
                .with_hint("check the JobManager's address; it takes no results until it has an operator"));
        }
        match self.pinned {
            Some(pinned) if pinned != operator => Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("the pinned operator is {pinned}, the JobManager names {operator}"),
            )
            .with_hint(
                "pin the one that the JobManager names, or leave ClientBuilder::operator out; check its address, too",
            )),
            _ => Ok(operator),
        }
    }
}

impl State {
    /// What need not be read again now.
    fn remembered(&self, shared: &Shared) -> Option<Result<Address>> {
        match &self.said {
            Some((begun, Ok(operator))) if begun.elapsed() < shared.ttl => return Some(Ok(*operator)),
            Some((begun, Err(error))) if begun.elapsed() < PAUSE.min(shared.ttl) => return Some(Err(error.clone())),
            _ => {}
        }
        let (_, error) = self.failed.as_ref().filter(|(failed, _)| failed.elapsed() < PAUSE)?;
        Some(self.fallback(shared).ok_or_else(|| error.clone()))
    }

    /// What is believed while the chain cannot be read: the pinned operator, or what it said not too long ago.
    fn fallback(&self, shared: &Shared) -> Option<Address> {
        match (&self.said, shared.pinned) {
            // It has said that this is the wrong one, or the wrong chain.
            (Some((_, Err(_))), _) => None,
            (_, Some(pinned)) => Some(pinned),
            (Some((begun, Ok(operator))), None) => (begun.elapsed() < STALE.max(shared.ttl)).then_some(*operator),
            (None, None) => None,
        }
    }

    /// Returns the operator before and after, if it is another one.
    fn take_in(&mut self, begun: Instant, read: Read) -> Option<(Address, Address)> {
        match read {
            // Of two readings the earlier may end later.
            Ok(said) if self.said.as_ref().is_none_or(|(last, _)| *last <= begun) => {
                let named = said.as_ref().ok().copied();
                let before = self.named;
                (self.said, self.failed, self.named) = (Some((begun, said)), None, named.or(before));
                before.zip(named).filter(|(before, named)| before != named)
            }
            Ok(_) => None,
            Err(error) => {
                self.failed = Some((Instant::now(), error));
                None
            }
        }
    }
}

fn unread(what: &'static str) -> Error {
    Error::new(ErrorKind::Chain, what).with_retryable(true).with_hint("check the chain's RPC; it is asked again")
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        pin::pin,
        sync::atomic::{AtomicBool, Ordering::SeqCst},
        task::Poll,
    };

    use alloy_primitives::B256;
    use async_trait::async_trait;
    use tokio::{runtime::Builder, sync::Notify};

    use super::*;
    use crate::chain::{Answer, Block, ChainReader, Question};

    const OPERATOR: Address = Address::repeat_byte(7);

    /// A chain that answers once it is let to, and says when it was asked.
    #[derive(Clone, Debug, Default)]
    struct Slow(Arc<(AtomicBool, Notify)>);

    #[async_trait]
    impl ChainReader for Slow {
        async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
            self.0.1.notify_one();
            while !self.0.0.load(SeqCst) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let returned = || Ok(Answer::Returned(B256::from(OPERATOR.into_word()).to_vec().into()));
            Ok(questions.iter().map(|_| returned()).collect())
        }

        async fn next_head(&self, _: Option<B256>) -> Result<Block> {
            std::future::pending().await
        }

        fn endpoint(&self) -> &str {
            "slow"
        }
    }

    /// A reading is one for all callers, on the runtime of whoever came first.
    #[test]
    fn a_reading_whose_runtime_ends_is_begun_again_for_those_who_wait_elsewhere() {
        let second = Builder::new_current_thread().enable_time().build().unwrap();
        let slow = Slow::default();
        let chain = Chain::new(slow.clone(), Address::repeat_byte(1));
        let operator = TrustedOperator::new(None, Some(chain), None, OPERATOR_TTL, Observers::default());
        for changed in [false, true] {
            slow.0.0.store(false, SeqCst);
            let operator = operator.clone();
            let ask = async |operator: TrustedOperator| match changed {
                false => operator.get().await,
                true => operator.changed(Address::ZERO).await,
            };
            let own = Builder::new_current_thread().enable_time().build().unwrap();
            own.block_on(async {
                let mut asking = pin!(ask(operator.clone()));
                tokio::select! {
                    read = &mut asking => panic!("{read:?}"),
                    () = slow.0.1.notified() => {}
                }
            });
            let mut joining = pin!(ask(operator));
            let joined = second.block_on(poll_fn(|cx| Poll::Ready(joining.as_mut().poll(cx).is_pending())));
            assert!(joined);
            drop(own);
            slow.0.0.store(true, SeqCst);
            assert_eq!(second.block_on(joining).unwrap(), Some(OPERATOR));
        }
    }
}
