//! Which lanes this instance works on, where several share a store: it takes those that are free, and hands lanes over
//! when others come. Each lease is prolonged by a task of its own, so that none ends while something else is slow.
//!
//! A node checks no fence. So an instance stops sending before its lease ends, by its own monotonic clock (`SendLeases`
//! of the client), and whoever takes the lane next waits until nothing that was being sent then can still arrive. What
//! an instance sends that was stopped as a whole, and woke up between that look at the clock and the call, is one of
//! the payloads that the store keeps for the nonce.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{Instant, Interval, MissedTickBehavior, interval, interval_at, sleep, sleep_until, timeout, timeout_at},
};

use super::{
    lane::{LaneCommand, LaneHandle},
    sharing::Sharing,
    store::{Claimed, Fence, LaneOwner, LaneRow, Storage, Tenant},
    worker::{Context, LaneWorker, Points},
    world,
};
use crate::{
    client::Client,
    error::{Outcome, Result},
    observe::ClientEvent,
    sync::Lock,
};

/// Renewals in one lease.
pub(super) const RENEWALS: u32 = 4;
/// Looks in a row at which an instance has more lanes than its share, before it gives some back: one that was killed
/// counts for two of them.
const SETTLED: u32 = 3;
/// Before node and chain are asked again about the nonces of a lane that was taken.
const AGAIN: Duration = Duration::from_secs(1);

/// Until when this instance may send for a lane, and whether it does.
struct LaneLease {
    until: Lock<Instant>,
    sends: Lock<Sends>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Sends {
    /// The wait after taking the lane is not over.
    #[default]
    NotYet,
    Now,
    /// The lane is given up. Tasks that are being stopped may go on for a moment.
    NoMore,
}

/// A lane that this instance has.
struct Owned {
    fence: Fence,
    lease: Arc<LaneLease>,
    work: AbortHandle,
    renewal: AbortHandle,
}

/// A lane, had or not.
struct KeptLane {
    handle: Arc<LaneHandle>,
    owned: Option<Owned>,
    /// Its worker has ended by itself: it is not taken again before.
    not_before: Option<Instant>,
    /// Since when nobody has it that should.
    passed_over: Option<Instant>,
    /// It was taken although others should have it, and none did: it is no part of this instance's share.
    beyond_share: bool,
    /// Until when what earlier owners sent may be on its way.
    quiet: Instant,
}

pub(super) struct LaneKeeper {
    storage: Arc<dyn Storage>,
    client: Client,
    points: Points,
    tenant: Tenant,
    lanes: Vec<KeptLane>,
    stop: watch::Receiver<bool>,
    work: JoinSet<()>,
    /// Each ends with its lease.
    renewals: JoinSet<Fence>,
    looks: u32,
    /// The instances that there were at the last look.
    instances: Vec<String>,
    /// How many looks in a row there were lanes to give.
    above: u32,
    /// Lanes on their way to others.
    handed: JoinSet<()>,
}

impl LaneKeeper {
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        client: Client,
        points: Points,
        tenant: Tenant,
        lanes: Vec<Arc<LaneHandle>>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let now = Instant::now();
        let kept = |handle| KeptLane {
            handle,
            owned: None,
            not_before: None,
            passed_over: None,
            beyond_share: false,
            quiet: now,
        };
        let lanes: Vec<_> = lanes.into_iter().map(kept).collect();
        // Nothing is sent for a lane that is not had, whoever asks the client.
        for lane in &lanes {
            client.send_leases().lease(lane.handle.config().consumer(), tenant.longest_call);
        }
        let (work, renewals, handed) = Default::default();
        Self {
            storage,
            client,
            points,
            tenant,
            lanes,
            stop,
            work,
            renewals,
            looks: 0,
            instances: Vec::new(),
            above: 0,
            handed,
        }
    }

    /// Until it is told to stop, or its outbox is gone; then every lane is handed over. `looked`: told once it has
    /// taken what was free at first.
    pub(super) async fn run(mut self, looked: oneshot::Sender<()>) {
        let mut ticks = interval(self.tenant.lease / RENEWALS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.look(&mut ticks).await;
        _ = looked.send(());
        while !self.woken(&mut ticks).await {}
        for at in 0..self.lanes.len() {
            self.hand_over(at);
        }
        while self.handed.join_next().await.is_some() {}
        // What cannot be told now ends by itself.
        _ = self.storage.leave(&self.tenant.instance).await;
    }

    /// Waits for the next thing to do, and does it. True at the end.
    async fn woken(&mut self, ticks: &mut Interval) -> bool {
        tokio::select! {
            biased;
            () = stopped(&mut self.stop) => return true,
            Some(ended) = self.work.join_next_with_id(), if !self.work.is_empty() => self.ended(ended),
            Some(_) = self.handed.join_next(), if !self.handed.is_empty() => {}
            Some(lost) = self.renewals.join_next(), if !self.renewals.is_empty() => {
                // One that was stopped is of a lane that was.
                lost.into_iter().for_each(|fence| self.lost(fence));
            }
            _ = ticks.tick() => self.look_around().await,
        }
        false
    }

    async fn look(&mut self, ticks: &mut Interval) {
        ticks.tick().await;
        self.look_around().await;
    }

    /// Takes or gives so that all instances have as many lanes.
    async fn look_around(&mut self) {
        let (instances, owners) = match self.others().await {
            Ok(found) => found,
            Err(error) => {
                for lane in &self.lanes {
                    lane.handle.set_trouble(Some(error.clone()));
                }
                return;
            }
        };
        if self.instances != instances {
            // Whoever has come may be the one that should have them.
            self.lanes.iter_mut().for_each(|lane| lane.beyond_share = false);
            self.instances = instances;
        }
        let sharing = self.sharing(&owners);
        let gives = sharing.gives();
        self.above = if gives > 0 { self.above + 1 } else { 0 };
        if self.above >= SETTLED {
            let counted = (0..self.lanes.len()).rev().filter(|at| self.lanes[*at].counts());
            for at in counted.take(gives).collect::<Vec<_>>() {
                self.hand_over(at);
            }
        }
        let most = sharing.takes_up_to();
        for at in 0..self.lanes.len() {
            let lane = self.lanes[at].handle.id();
            let is_others =
                |owner: &LaneOwner| owner.lane == lane && owner.lives && owner.instance != self.tenant.instance;
            if owners.iter().any(is_others) {
                self.lanes[at].passed_over = None;
            } else {
                self.take(at, most).await;
            }
        }
        if self.looks.is_multiple_of(RENEWALS) {
            self.count_others().await;
        }
        self.looks = self.looks.wrapping_add(1);
    }

    /// Which instances there are, and who has which lane.
    async fn others(&self) -> Result<(Vec<String>, Vec<LaneOwner>)> {
        Ok((self.storage.beat(&self.tenant).await?, self.storage.owners().await?))
    }

    /// How the lanes are shared out now.
    fn sharing(&self, owners: &[LaneOwner]) -> Sharing {
        let had_by = |instance: &String| {
            let has = |lane: &KeptLane| {
                let id = lane.handle.id();
                owners.iter().any(|owner| owner.lane == id && owner.lives && owner.instance == *instance)
            };
            self.lanes.iter().filter(|lane| has(lane)).count()
        };
        let others = self.instances.iter().filter(|instance| **instance != self.tenant.instance);
        let own = others.clone().filter(|instance| **instance < self.tenant.instance).count();
        let mut had: Vec<_> = others.map(had_by).collect();
        // What is on its way to others is not had any more.
        had.insert(own, self.counted());
        Sharing { lanes: self.lanes.len(), had, own }
    }

    /// Of lanes that others work on, nobody here sees jobs leave the queue.
    async fn count_others(&self) {
        for lane in self.lanes.iter().filter(|lane| lane.owned.is_none()) {
            match self.storage.queued(lane.handle.id()).await {
                Ok(queued) => {
                    lane.handle.has_room(queued);
                    lane.handle.set_trouble(None);
                }
                Err(error) => lane.handle.set_trouble(Some(error)),
            }
        }
    }

    /// How many lanes of its share this instance has.
    fn counted(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.counts()).count()
    }

    /// A lease has ended, or the lane is another's.
    fn lost(&mut self, fence: Fence) {
        let of = |lane: &KeptLane| lane.owned.as_ref().is_some_and(|owned| owned.fence == fence);
        if let Some(at) = self.lanes.iter().position(of) {
            self.stop_work(at);
        }
    }

    async fn take(&mut self, at: usize, most: usize) {
        let lane = &self.lanes[at];
        if lane.owned.is_some() || lane.not_before.is_some_and(|time| Instant::now() < time) {
            return;
        }
        // What others should take may be of no outbox of theirs.
        let waited = lane.passed_over.is_some_and(|since| since.elapsed() >= self.tenant.lease * 2);
        let beyond_share = self.counted() >= most;
        if beyond_share && !waited {
            if lane.passed_over.is_none() {
                self.lanes[at].passed_over = Some(Instant::now());
            }
            return;
        }
        let asked = Instant::now();
        let handle = Arc::clone(&lane.handle);
        match self.storage.claim(handle.id(), &self.tenant).await {
            Ok(Claimed::Taken { fence, wait, went_back }) => {
                let lease = LaneLease { until: Lock::from(asked + sends_for(&self.tenant)), sends: Lock::default() };
                let lease = Arc::new(lease);
                let renewal = Renewal {
                    storage: Arc::clone(&self.storage),
                    client: self.client.clone(),
                    tenant: self.tenant.clone(),
                    lane: Arc::clone(&handle),
                    fence,
                    lease: Arc::clone(&lease),
                };
                let renewal = self.renewals.spawn(renewal.run());
                let (commands, commanded) = mpsc::unbounded_channel();
                handle.set_owner(Some((fence, commands)));
                let work = LaneWork {
                    storage: Arc::clone(&self.storage),
                    client: self.client.clone(),
                    points: self.points.clone(),
                    lane: handle,
                    fence,
                    lease: Arc::clone(&lease),
                };
                let lane = &mut self.lanes[at];
                // A wait that this instance did not come to the end of goes on, also if it had lost the lane meanwhile.
                lane.quiet = lane.quiet.max(Instant::now() + wait);
                let work = self.work.spawn(work.run(lane.quiet, went_back, commanded, self.stop.clone()));
                lane.owned = Some(Owned { fence, lease, work, renewal });
                (lane.not_before, lane.passed_over, lane.beyond_share) = (None, None, beyond_share);
                self.tell(at, true);
            }
            Ok(Claimed::Held) => self.lanes[at].passed_over = None,
            Err(error) => {
                if error.outcome() == Outcome::Unknown {
                    // If it has the lane, the store takes the next claim for its own, and says nothing of a wait.
                    let lane = &mut self.lanes[at];
                    lane.quiet = lane.quiet.max(Instant::now() + self.tenant.longest_call);
                }
                handle.set_trouble(Some(error));
            }
        }
    }

    /// Stops working on a lane, at once.
    fn stop_work(&mut self, at: usize) -> Option<Owned> {
        let lane = &mut self.lanes[at];
        let owned = lane.owned.take()?;
        {
            let mut sends = owned.lease.sends.lock();
            self.client.send_leases().end(lane.handle.config().consumer());
            *sends = Sends::NoMore;
        }
        lane.handle.set_owner(None);
        owned.work.abort();
        owned.renewal.abort();
        self.tell(at, false);
        Some(owned)
    }

    fn tell(&self, at: usize, owned: bool) {
        let config = self.lanes[at].handle.config();
        let (consumer, strategy) = (config.consumer(), config.strategy());
        self.client.tell(ClientEvent::OwnershipChanged { consumer, strategy, owned });
    }

    /// Gives a lane back, once nothing is being sent for it: whoever takes it need not wait, but for what this instance
    /// was waiting for itself. Meanwhile this goes on, as other leases are to be prolonged.
    fn hand_over(&mut self, at: usize) {
        let Some(owned) = self.stop_work(at) else { return };
        let (storage, client, longest) = (Arc::clone(&self.storage), self.client.clone(), self.tenant.longest_call);
        let (lane, quiet) = (Arc::clone(&self.lanes[at].handle), self.lanes[at].quiet);
        self.handed.spawn(async move {
            let idle = timeout(longest, client.send_leases().idle(lane.config().consumer())).await;
            // Otherwise the next one waits, as after a crash.
            if idle.is_ok()
                && let Err(error) = storage.release(owned.fence, quiet.saturating_duration_since(Instant::now())).await
            {
                lane.set_trouble(Some(error));
            }
        });
    }

    /// A lane's worker has ended by itself: what it says is the lane's trouble.
    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => error.id(),
        };
        let of = |lane: &KeptLane| lane.owned.as_ref().is_some_and(|owned| owned.work.id() == id);
        let Some(at) = self.lanes.iter().position(of) else { return };
        self.lanes[at].not_before = Some(Instant::now() + self.tenant.lease);
        self.hand_over(at);
    }
}

impl KeptLane {
    /// Whether it is had as a part of the share.
    fn counts(&self) -> bool {
        self.owned.is_some() && !self.beyond_share
    }
}

/// An outbox that is gone stops, too.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    _ = stop.wait_for(|stop| *stop).await;
}

/// For how long an instance sends after it has asked for a lease: less than the store grants, as clocks differ in their
/// rates.
fn sends_for(tenant: &Tenant) -> Duration {
    tenant.lease - tenant.lease / 10
}

/// What prolongs a lease.
struct Renewal {
    storage: Arc<dyn Storage>,
    client: Client,
    tenant: Tenant,
    lane: Arc<LaneHandle>,
    fence: Fence,
    lease: Arc<LaneLease>,
}

impl Renewal {
    /// Until it has ended, or the lane is another's.
    async fn run(self) -> Fence {
        let pause = self.tenant.lease / RENEWALS;
        let mut ticks = interval_at(Instant::now() + pause, pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let until = *self.lease.until.lock();
            let renewed = timeout_at(until, async {
                ticks.tick().await;
                (Instant::now(), self.storage.renew(self.fence, &self.tenant).await)
            });
            match renewed.await {
                Ok((asked, Ok(true))) => {
                    let until = asked + sends_for(&self.tenant);
                    *self.lease.until.lock() = until;
                    let sends = self.lease.sends.lock();
                    if *sends == Sends::Now {
                        self.client.send_leases().set(self.lane.config().consumer(), until);
                    }
                }
                // As long as the lease lasts, it is tried again.
                Ok((_, Err(error))) => self.lane.set_trouble(Some(error)),
                Ok((_, Ok(false))) | Err(_) => return self.fence,
            }
        }
    }
}

/// The work on a lane that was taken.
struct LaneWork {
    storage: Arc<dyn Storage>,
    client: Client,
    points: Points,
    lane: Arc<LaneHandle>,
    fence: Fence,
    lease: Arc<LaneLease>,
}

impl LaneWork {
    /// `quiet`: when it may begin to send.
    async fn run(
        self,
        quiet: Instant,
        went_back: bool,
        commanded: mpsc::UnboundedReceiver<LaneCommand>,
        stop: watch::Receiver<bool>,
    ) {
        sleep_until(quiet).await;
        let row = loop {
            match self.prepare(went_back).await {
                Ok(row) => break row,
                Err(error) => {
                    // A store that takes nothing of it any more says so at its next write.
                    self.lane.set_trouble(Some(error));
                    sleep(AGAIN).await;
                }
            }
        };
        {
            let mut sends = self.lease.sends.lock();
            if *sends == Sends::NoMore {
                return;
            }
            self.client.send_leases().set(self.lane.config().consumer(), *self.lease.until.lock());
            *sends = Sends::Now;
        }
        let context = Context::new(self.storage, self.client, self.lane, &row, self.fence, self.points);
        LaneWorker::new(context, commanded, stop).run().await;
    }

    /// Looks for nonces that the store does not know of, as at the start of a sole worker.
    async fn prepare(&self, went_back: bool) -> Result<LaneRow> {
        let lanes = self.storage.lanes().await?;
        let row = lanes.into_iter().find(|row| row.id == self.lane.id());
        let row = row.ok_or_else(|| super::store::damaged("a lane is gone"))?;
        let found = world::strangers(&self.client, self.lane.config(), row.next_nonce).await?;
        world::halt_if_restored(&*self.storage, &self.client, self.fence, &row, found, went_back).await?;
        self.lane.has_room(self.storage.queued(row.id).await?);
        self.lane.set_trouble(None);
        Ok(row)
    }
}
