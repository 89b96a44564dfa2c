//! Waiting for many jobs at once.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::{FusedStream, Stream};

use super::handle::JobHandle;
use crate::{
    error::Result,
    job::Verified,
    watch::{Interest, Keeper, Mailbox, Stage, Subscription, Until, What},
};

/// How many of the jobs of a [`WatchMany`] or [`WaitAll`] are where. Each is counted once.
///
/// Stages are counted as they are noticed. Where jobs are waited for until they are relayed and the node lists its
/// pending jobs, nobody looks at them in between: then they come from accepted to relayed at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// All of them.
    pub total: usize,
    /// Not seen at the node yet.
    pub submitted: usize,
    /// At the node, and not executed as far as is known.
    pub accepted: usize,
    /// Executed and verified, and not relayed as far as is known.
    pub executed: usize,
    /// Relayed, according to the node, or to the chain where the client has one.
    pub relayed: usize,
    /// On chain, as deep as was asked for.
    pub finalized: usize,
    /// Those whose wait ended with an error, wherever they are.
    pub failed: usize,
    /// Those whose wait is over, with a result or an error.
    pub finished: usize,
}

impl Counts {
    fn at(&mut self, stage: Stage) -> &mut usize {
        match stage {
            Stage::Submitted => &mut self.submitted,
            Stage::Accepted => &mut self.accepted,
            Stage::Executed => &mut self.executed,
            Stage::Relayed => &mut self.relayed,
            Stage::Finalized => &mut self.finalized,
        }
    }

    fn moved(&mut self, from: Stage, to: Stage) {
        *self.at(from) -= 1;
        *self.at(to) += 1;
    }
}

type OnProgress = Box<dyn FnMut(&Counts) + Send + Sync>;

/// Waits for many jobs, and hands them out in order of completion; made by
/// [`Client::watch_many`](super::Client::watch_many).
///
/// A [`Stream`] of handles, each with what its [`wait`](JobHandle::wait) would have returned. As with a `JoinSet`, jobs
/// can be added at any time, and the stream ends whenever there are none left. However many they are, they cost no task
/// and no timer.
///
/// Cancel safety: dropping [`next`](Self::next) loses nothing. Dropping the whole ends the looking, and the jobs go on.
#[must_use = "jobs are watched while this is polled"]
pub struct WatchMany {
    until: Until,
    timeout: Option<Duration>,
    mailbox: Arc<Mailbox>,
    jobs: HashMap<u32, Member>,
    next_number: u32,
    /// Jobs that are not watched yet.
    new: VecDeque<u32>,
    keepers: Vec<Keeper>,
    counts: Counts,
    /// With what it was told last.
    on_progress: Option<(OnProgress, Counts)>,
}

struct Member {
    handle: JobHandle,
    stage: Stage,
    place: Option<Subscription>,
}

impl WatchMany {
    pub(super) fn new(jobs: impl IntoIterator<Item = JobHandle>, until: Until) -> Self {
        let mut many = Self {
            until,
            timeout: None,
            mailbox: Arc::default(),
            jobs: HashMap::new(),
            next_number: 0,
            new: VecDeque::new(),
            keepers: Vec::new(),
            counts: Counts::default(),
            on_progress: None,
        };
        for job in jobs {
            many.insert(job);
        }
        many
    }

    /// How long to wait for each job, from when it is first polled; by default what its client's
    /// [`PollPolicy`](super::PollPolicy) says, 5 minutes. Holds for jobs that are not polled yet.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Calls this with the counts, at once and whenever they have changed. It runs where this is polled, so it should
    /// be short.
    pub fn on_progress(mut self, mut call: impl FnMut(&Counts) + Send + Sync + 'static) -> Self {
        call(&self.counts);
        self.on_progress = Some((Box::new(call), self.counts));
        self
    }

    /// Adds a job; also one that is in there already, which then comes out twice. Returns its number, counted from 0 in
    /// the order of insertion.
    pub fn insert(&mut self, handle: JobHandle) -> usize {
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        let stage = handle.stage();
        self.counts.total += 1;
        *self.counts.at(stage) += 1;
        self.jobs.insert(number, Member { handle, stage, place: None });
        self.new.push_back(number);
        number as usize
    }

    /// How many have not come out yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether all have come out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// How many jobs are where, those that have come out included.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The next job whose wait is over; nothing if there are none left.
    pub async fn next(&mut self) -> Option<(JobHandle, Result<Verified>)> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn poll_numbered(&mut self, cx: &mut Context<'_>) -> Poll<Option<(u32, JobHandle, Result<Verified>)>> {
        let over = self.poll_inside(cx);
        if let Some((call, told)) = &mut self.on_progress
            && *told != self.counts
        {
            *told = self.counts;
            call(&self.counts);
        }
        over
    }

    fn poll_inside(&mut self, cx: &mut Context<'_>) -> Poll<Option<(u32, JobHandle, Result<Verified>)>> {
        while let Some(number) = self.new.pop_front() {
            let Some(member) = self.jobs.get_mut(&number) else { continue };
            let subject = member.handle.subject();
            let timeout = self.timeout.unwrap_or(subject.timeout());
            match subject.subscribe(self.until, Interest::Noticed, timeout, &self.mailbox, number) {
                Ok(place) => {
                    if !self.keepers.iter().any(|keeper| keeper.keeps(&place)) {
                        self.keepers.push(place.keeper(&subject));
                    }
                    member.place = Some(place);
                }
                Err(error) => return Poll::Ready(self.end(number, Err(error))),
            }
        }
        loop {
            if self.jobs.is_empty() {
                return Poll::Ready(None);
            }
            let Poll::Ready(news) = self.mailbox.poll(cx) else {
                self.keepers.iter().for_each(Keeper::ensure);
                return Poll::Pending;
            };
            match news.what {
                What::Stage(stage, _) => self.moved(news.number, stage),
                What::SentAgain => {}
                What::End(verdict) => {
                    if let Some(over) = self.end(news.number, *verdict) {
                        return Poll::Ready(Some(over));
                    }
                }
            }
        }
    }

    fn moved(&mut self, number: u32, stage: Stage) {
        if let Some(member) = self.jobs.get_mut(&number)
            && stage > member.stage
        {
            self.counts.moved(member.stage, stage);
            member.stage = stage;
        }
    }

    fn end(&mut self, number: u32, verdict: Result<Verified>) -> Option<(u32, JobHandle, Result<Verified>)> {
        let member = self.jobs.remove(&number)?;
        self.counts.finished += 1;
        if verdict.is_err() {
            *self.counts.at(member.stage) -= 1;
            self.counts.failed += 1;
        }
        Some((number, member.handle, verdict))
    }
}

impl Stream for WatchMany {
    type Item = (JobHandle, Result<Verified>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_numbered(cx).map(|over| over.map(|(_, handle, verdict)| (handle, verdict)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.jobs.len(), Some(self.jobs.len()))
    }
}

impl FusedStream for WatchMany {
    fn is_terminated(&self) -> bool {
        self.jobs.is_empty()
    }
}

impl fmt::Debug for WatchMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchMany").field("until", &self.until).field("counts", &self.counts).finish_non_exhaustive()
    }
}

/// Waits for all of many jobs; made by [`Client::wait_all`](super::Client::wait_all).
///
/// The results come in the order of the jobs, each as its own wait would have returned it: one that fails does not end
/// the others' waiting. Cancel safety: dropping it ends the looking, and the jobs go on.
#[must_use = "a wait does nothing until it is awaited"]
#[derive(Debug)]
pub struct WaitAll {
    many: WatchMany,
    results: BTreeMap<u32, Result<Verified>>,
}

impl WaitAll {
    pub(super) fn new(many: WatchMany) -> Self {
        Self { many, results: BTreeMap::new() }
    }

    /// How long to wait; see [`WatchMany::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.many = self.many.timeout(timeout);
        self
    }

    /// Calls this with the counts; see [`WatchMany::on_progress`].
    pub fn on_progress(mut self, call: impl FnMut(&Counts) + Send + Sync + 'static) -> Self {
        self.many = self.many.on_progress(call);
        self
    }
}

impl Future for WaitAll {
    type Output = Vec<Result<Verified>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            match this.many.poll_numbered(cx) {
                Poll::Ready(Some((number, _, verdict))) => {
                    this.results.insert(number, verdict);
                }
                Poll::Ready(None) => return Poll::Ready(std::mem::take(&mut this.results).into_values().collect()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
