//! The worker of a lane: takes jobs on, and has each driven to its end by a task of its own.
//!
//! `drive.rs` does what `decide` says for one job; `sight.rs` finds out how a job stands, through the client's flights
//! and watcher, `trouble.rs` what is wrong with it, and `taken.rs` whose its nonce is; `post.rs` posts what
//! nobody relays; `context.rs` is what they share.

mod context;
mod desk;
mod drive;
mod post;
mod sight;
mod slot;
mod taken;
mod trouble;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::{AbortHandle, JoinError, JoinSet},
    time::Instant,
};
use tracing::Instrument;

pub(super) use self::context::Context;
pub(crate) use self::context::Points;
use self::{drive::Drive, slot::LaneSlot};
use super::{
    lane::LaneCommand,
    store::{
        Act, Acted, JobRow,
        hints::{Ear, Hint},
    },
};
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    observe::{self, ClientEvent},
};

/// How often what was kept long enough is closed, and what was read is purged.
const SWEEP: Duration = Duration::from_secs(5);
/// How often it is looked which readers lag, at least.
const HEARD: Duration = Duration::from_secs(60);
/// Jobs that one sweep closes or purges.
const SWEPT: u32 = 500;
/// Jobs that are watched at once, those included that are only kept until they are final.
const WATCHED: usize = 4096;
/// Jobs that are read or numbered in one go.
const PAGE: u32 = 64;
/// While less than one in so many slots of the window is free, the next jobs are numbered only every `TOGETHER`: one
/// commit for several.
const SCARCE: u32 = 16;
const TOGETHER: Duration = Duration::from_millis(5);
/// Before a store that cannot be read is read again.
const AGAIN: Duration = Duration::from_secs(1);

/// A job's task that has ended.
type Ended = Result<(i64, Result<()>), JoinError>;

/// Why the worker looks what there is to do.
enum Woken {
    Stop,
    Ended(Ended),
    Command(LaneCommand),
    Changed,
    /// Slots have become free for what is queued.
    Slots,
    Poll,
}

pub(super) struct LaneWorker {
    context: Arc<Context>,
    commands: mpsc::UnboundedReceiver<LaneCommand>,
    stop: watch::Receiver<bool>,
    slots: Arc<Semaphore>,
    drives: JoinSet<(i64, Result<()>)>,
    /// The task of each ticket that has one.
    tasks: HashMap<i64, AbortHandle>,
    /// Tickets that a person wants, each with who waits until its task has ended.
    leaving: HashMap<i64, Vec<oneshot::Sender<()>>>,
    under_way: HashSet<i64>,
    /// Tickets to drive that found no slot.
    waiting: Vec<i64>,
    /// Tickets that a person has acted upon while their task was about to end.
    again: HashSet<i64>,
    /// Tickets whose task ended with what may pass.
    later: Vec<i64>,
    /// The highest nonce up to which the jobs from before the start were taken on; nothing once all were.
    recovering: Option<Option<u64>>,
    /// There may be something in the queue.
    queued: bool,
    /// When jobs were last taken from it.
    numbered: Instant,
    mark: i64,
    swept: Instant,
    /// When it was last looked which readers lag, and those that did.
    heard: Instant,
    lagging: HashSet<String>,
}

impl LaneWorker {
    pub(super) fn new(
        context: Context,
        commands: mpsc::UnboundedReceiver<LaneCommand>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let window = context.lane.config().window() as usize;
        Self {
            context: Arc::new(context),
            commands,
            stop,
            slots: Arc::new(Semaphore::new(window)),
            drives: JoinSet::new(),
            tasks: HashMap::new(),
            leaving: HashMap::new(),
            under_way: HashSet::new(),
            waiting: Vec::new(),
            again: HashSet::new(),
            later: Vec::new(),
            recovering: Some(None),
            queued: true,
            numbered: Instant::now(),
            mark: 0,
            swept: Instant::now(),
            heard: Instant::now(),
            lagging: HashSet::new(),
        }
    }

    /// Until it is told to stop, or the store takes nothing of it any more.
    pub(super) async fn run(mut self) {
        let mut ear = Ear::of(self.context.storage.hints(), vec![Hint::Queued(self.context.lane.id())]);
        loop {
            if let Err(error) = self.take_on().await {
                let passes = error.is_retryable();
                self.context.lane.set_trouble(Some(error));
                if !passes {
                    break;
                }
                tokio::time::sleep(AGAIN).await;
            }
            match self.woken(&mut ear).await {
                Woken::Stop => break,
                Woken::Ended(ended) => {
                    if let Err(error) = self.ended(ended) {
                        self.context.lane.set_trouble(Some(error));
                        break;
                    }
                }
                Woken::Command(LaneCommand::Leave(ticket, left)) => self.leave(ticket, left),
                Woken::Command(LaneCommand::Look(ticket)) => {
                    self.queued = true;
                    self.under_way.insert(ticket);
                    if self.tasks.contains_key(&ticket) {
                        self.again.insert(ticket);
                    } else if !self.waiting.contains(&ticket) {
                        self.waiting.push(ticket);
                    }
                }
                Woken::Changed => self.queued = true,
                Woken::Slots => {}
                Woken::Poll => {
                    if let Err(error) = self.look_around().await {
                        self.context.lane.set_trouble(Some(error));
                    }
                }
            }
        }
        // Their flights go on in the client. What they would have stored is found again at the next start.
        self.drives.shutdown().await;
    }

    async fn woken(&mut self, ear: &mut Ear) -> Woken {
        tokio::select! {
            biased;
            // An outbox that is gone stops, too.
            _ = self.stop.wait_for(|stop| *stop) => Woken::Stop,
            Some(ended) = self.drives.join_next(), if !self.drives.is_empty() => Woken::Ended(ended),
            Some(command) = self.commands.recv() => Woken::Command(command),
            () = self.context.lane.changed() => Woken::Changed,
            () = tokio::time::sleep_until(self.numbered + TOGETHER), if self.has_few_slots() => Woken::Slots,
            () = ear.next() => Woken::Poll,
        }
    }

    /// A job's task has ended, and with it what there was to do for the job.
    fn ended(&mut self, ended: Ended) -> Result<()> {
        let (ticket, result) = match ended {
            Ok(ended) => ended,
            Err(error) => match self.left(&error) {
                Some(ticket) => (ticket, Ok(())),
                None => {
                    let what = "the outbox's worker panicked, so its lane stands still";
                    return Err(Error::new(ErrorKind::Store, what).with_source(error));
                }
            },
        };
        self.tasks.remove(&ticket);
        let leaving = self.leaving.remove(&ticket).unwrap_or_default();
        let is_left = !leaving.is_empty();
        leaving.into_iter().for_each(|left| _ = left.send(()));
        if is_left && !self.again.contains(&ticket) {
            // It stays under way until the person has acted.
        } else if self.again.remove(&ticket) {
            self.waiting.push(ticket);
        } else if let Err(error) = &result
            && error.is_retryable()
        {
            // It stays under way, until the store is looked at next.
            self.later.push(ticket);
        } else {
            self.under_way.remove(&ticket);
        }
        match result {
            // What may pass was waited for where it came up.
            Err(error) if !error.is_retryable() => Err(error),
            Err(error) => {
                self.context.lane.set_trouble(Some(error));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Ends a job's task, as a person acts upon the job. What it was about to store is found again later.
    fn leave(&mut self, ticket: i64, left: oneshot::Sender<()>) {
        if let Some(task) = self.tasks.get(&ticket) {
            task.abort();
            self.leaving.entry(ticket).or_default().push(left);
            return;
        }
        let others = |other: &i64| *other != ticket;
        self.waiting.retain(others);
        self.later.retain(others);
        _ = left.send(());
    }

    /// The ticket whose task was ended as a person wants it.
    fn left(&self, error: &JoinError) -> Option<i64> {
        let is_its = |(ticket, task): &(&i64, &AbortHandle)| {
            error.is_cancelled() && task.id() == error.id() && self.leaving.contains_key(ticket)
        };
        self.tasks.iter().find(is_its).map(|(ticket, _)| *ticket)
    }

    /// Whether jobs are taken on again: in an Ordered lane also where all slots are taken, as those that have them wait
    /// for the nonces of these.
    fn has_place(&self) -> bool {
        self.free() > 0 || self.context.spec.ordered
    }

    fn free(&self) -> u32 {
        let room = WATCHED.saturating_sub(self.under_way.len());
        u32::try_from(self.slots.available_permits().min(room)).unwrap_or(u32::MAX)
    }

    /// Whether there are jobs for the slots that are free, which are only few.
    fn has_few_slots(&self) -> bool {
        let free = self.free();
        let few = free > 0 && free < self.context.lane.config().window() / SCARCE;
        few && self.queued && self.recovering.is_none()
    }

    /// Whether these wait for others to become free, to be filled together.
    fn waits_for_slots(&self) -> bool {
        self.has_few_slots() && self.numbered.elapsed() < TOGETHER
    }

    /// As many jobs as there are slots: first those that a person has acted upon and those from before the start, by
    /// their nonces; then those in the queue.
    async fn take_on(&mut self) -> Result<()> {
        while self.has_place()
            && let Some(ticket) = self.waiting.pop()
        {
            self.spawn(ticket, None, true);
        }
        while let Some(above) = self.recovering
            && self.free() > 0
        {
            let most = self.free().min(PAGE);
            let page = self.context.storage.unfinished(self.context.lane.id(), above, most).await?;
            let whole = page.len() == most as usize;
            self.recovering = page.last().map(|job| job.nonce).filter(|_| whole);
            for job in page.into_iter().filter(|job| job.held.is_none()) {
                if self.under_way.insert(job.ticket) {
                    self.spawn(job.ticket, Some(job), true);
                }
            }
        }
        while self.queued && self.recovering.is_none() && self.free() > 0 && !self.waits_for_slots() {
            let most = self.free().min(PAGE);
            self.context.points.pass("before_number");
            let numbered = match self.context.act_once(Act::Number { most, now: self.context.now() }).await {
                Ok(Acted::Numbered(numbered)) => numbered,
                Ok(_) => Vec::new(),
                Err(error) => {
                    // What was numbered by a commit of which nothing was heard is found as it is after a crash.
                    if error.outcome() == Outcome::Unknown {
                        self.recovering = Some(None);
                    }
                    return Err(error);
                }
            };
            self.context.points.pass("numbered");
            self.numbered = Instant::now();
            self.queued = numbered.len() == most as usize;
            self.context.lane.numbered(numbered.len() as u64);
            let mut rows = self.read_numbered(&numbered).await;
            for (ticket, _) in numbered {
                if self.under_way.insert(ticket) {
                    self.spawn(ticket, rows.remove(&ticket), false);
                } else {
                    // A person's command has a task of it that may have found it queued.
                    self.again.insert(ticket);
                }
            }
        }
        Ok(())
    }

    /// These jobs, read in one go. One that is missing is read by its own task.
    async fn read_numbered(&self, numbered: &[(i64, u64)]) -> HashMap<i64, JobRow> {
        let Some((_, first)) = numbered.first() else { return HashMap::new() };
        let (storage, lane) = (&self.context.storage, self.context.lane.id());
        let read = storage.unfinished(lane, first.checked_sub(1), numbered.len() as u32).await;
        read.unwrap_or_default().into_iter().map(|job| (job.ticket, job)).collect()
    }

    fn spawn(&mut self, ticket: i64, known: Option<JobRow>, recovered: bool) {
        let permit = Arc::clone(&self.slots).try_acquire_owned().ok();
        let slot = LaneSlot::new(Arc::clone(&self.context.lane), permit);
        let drive = Drive::new(Arc::clone(&self.context), ticket, known, slot, recovered);
        // What is known of its nonce comes with the first look.
        let span = observe::outbox_job(self.context.observed(ticket, None));
        let task = self.drives.spawn(async move { (ticket, drive.run().await) }.instrument(span));
        self.tasks.insert(ticket, task);
    }

    /// Notices what others have written, such as jobs enqueued in their own transactions.
    async fn look_around(&mut self) -> Result<()> {
        let context = &self.context;
        let mark = context.storage.mark(context.lane.id()).await?;
        if mark != self.mark {
            (self.mark, self.queued) = (mark, true);
        }
        self.waiting.append(&mut self.later);
        let most = context.lane.config().lag();
        if self.heard.elapsed() >= most.min(HEARD) {
            self.heard = Instant::now();
            self.look_at_readers(most).await?;
        }
        let context = &self.context;
        if self.swept.elapsed() >= SWEEP {
            self.swept = Instant::now();
            // Jobs lapse although nothing else happens.
            self.queued = true;
            context.act(Act::Sweep { most: SWEPT, now: context.now() }).await?;
            context.lane.has_room(context.storage.queued(context.lane.id()).await?);
            context.lane.set_trouble(None);
        }
        Ok(())
    }

    /// Tells of readers that begin to lag.
    async fn look_at_readers(&mut self, most: Duration) -> Result<()> {
        let context = &self.context;
        let mut lagging = HashSet::new();
        for (reader, waiting, oldest) in context.storage.readers(context.lane.id()).await? {
            let lag = oldest.map(|oldest| Duration::from_millis(context.now().saturating_sub(oldest)));
            let Some(lag) = lag.filter(|lag| *lag >= most) else { continue };
            if !self.lagging.contains(&reader) {
                let consumer = context.spec.consumer;
                context.client.tell(ClientEvent::ReaderLags { consumer, reader: &reader, waiting, lag });
            }
            lagging.insert(reader);
        }
        self.lagging = lagging;
        Ok(())
    }
}
