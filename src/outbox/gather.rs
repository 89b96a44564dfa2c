//! Requests that come together are carried out together.

use std::time::{Duration, Instant};

use tokio::task::yield_now;

/// Callers who ask again at once come within this time of one another: a thread that sleeps is awake by then.
const LULL: Duration = Duration::from_micros(100);
/// After so many waits in which nobody came, callers are taken to be slower than that.
const VAIN: u32 = 4;
/// Then only one round in so many waits, in case they are quicker now.
const RARELY: u32 = 64;

/// How many came together, round by round.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    answered: usize,
    rounds: u32,
    vain: u32,
}

/// One round of those.
pub(crate) struct GatheringRound<'a> {
    gathering: &'a mut Gathering,
    first: usize,
    came: usize,
    lull: Duration,
}

impl Gathering {
    /// A round that begins with so many.
    pub(crate) fn round(&mut self, first: usize) -> GatheringRound<'_> {
        self.rounds = self.rounds.wrapping_add(1);
        let waits = self.vain < VAIN || self.rounds.is_multiple_of(RARELY);
        let lull = if waits { LULL } else { Duration::ZERO };
        GatheringRound { gathering: self, first, came: first, lull }
    }

    /// Takes in what has come, and what callers bring who were answered in the round before and ask again. `take`
    /// adds what is there, and says whether there is room for more.
    #[cfg(any(feature = "sqlx-sqlite", feature = "sqlx-postgres", test))]
    pub(crate) async fn gather<T>(&mut self, gathered: &mut Vec<T>, mut take: impl FnMut(&mut Vec<T>) -> bool) {
        let mut has_room = take(gathered);
        let mut round = self.round(gathered.len());
        while has_room {
            let before = gathered.len();
            let came = || {
                has_room = take(gathered);
                gathered.len() - before
            };
            if !round.more(came).await {
                return;
            }
        }
    }
}

impl GatheringRound<'_> {
    /// Whether more came. Waits for callers who were answered in the round before: each of them is about to ask
    /// again, as soon as its task has its turn. `take` takes in what is there, and says how many.
    pub(crate) async fn more(&mut self, mut take: impl FnMut() -> usize) -> bool {
        let since = Instant::now();
        while self.came < self.gathering.answered {
            yield_now().await;
            let more = take();
            self.came += more;
            if more > 0 {
                return true;
            }
            if since.elapsed() >= self.lull {
                break;
            }
        }
        false
    }
}

impl Drop for GatheringRound<'_> {
    fn drop(&mut self) {
        if self.first < self.gathering.answered {
            self.gathering.vain = if self.came > self.first { 0 } else { self.gathering.vain.saturating_add(1) };
        }
        self.gathering.answered = self.came;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    /// Callers who ask again as soon as they are answered share each round.
    #[tokio::test]
    async fn who_asks_again_is_waited_for() {
        let (sender, mut inbox) = mpsc::channel::<oneshot::Sender<()>>(64);
        for _ in 0..8 {
            let sender = sender.clone();
            tokio::spawn(async move {
                for _ in 0..5 {
                    let (reply, answer) = oneshot::channel();
                    sender.send(reply).await.unwrap();
                    answer.await.unwrap();
                }
            });
        }
        drop(sender);
        let (mut gathering, mut rounds) = (Gathering::default(), Vec::new());
        while let Some(first) = inbox.recv().await {
            let mut replies = vec![first];
            let take = |replies: &mut Vec<_>| {
                replies.extend(std::iter::from_fn(|| inbox.try_recv().ok()));
                true
            };
            gathering.gather(&mut replies, take).await;
            rounds.push(replies.len());
            replies.into_iter().for_each(|reply| reply.send(()).unwrap());
        }
        assert_eq!(rounds, [8; 5]);
    }

    /// Who does not come is not waited for, and who has no room waits.
    #[tokio::test]
    async fn nobody_else_is_waited_for() {
        let mut left = vec![1, 2, 3];
        let mut gathered = vec![0];
        let mut gathering = Gathering { answered: 100, ..Gathering::default() };
        let take = |gathered: &mut Vec<_>| {
            gathered.extend(left.pop());
            true
        };
        gathering.gather(&mut gathered, take).await;
        assert_eq!(gathered, [0, 3, 2, 1]);
        gathering.gather(&mut gathered, |_| false).await;
        assert_eq!(gathered.len(), 4);
    }
}
