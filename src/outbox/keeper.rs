//! Which lanes this instance works on, where several share a store: it takes those that are free, prolongs its leases,
//! and hands lanes over when others come.
//!
//! A node checks no fence. So an instance stops sending before its lease ends, by its own monotonic clock (`SendLeases`
//! of the client), and whoever takes the lane next waits until nothing that was being sent then can still arrive. What
//! an instance sends that was stopped as a whole, and woke up between that look at the clock and the call, is one of
//! the payloads that the store keeps for the nonce.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

use super::{
    lane::LaneHandle,
    store::{Claimed, Fence, LaneRow, Storage, Tenant},
    worker::{Context, LaneWorker, Points},
    world,
};
use crate::{client::Client, error::Result, observe::ClientEvent, sync::Lock};

/// Renewals in one lease.
pub(super) const RENEWALS: u32 = 4;
/// Before node and chain are asked again about the nonces of a lane that was taken.
const AGAIN: Duration = Duration::from_secs(1);

/// Until when this instance may send for a lane; nothing before the wait after taking it is over.
struct LaneLease {
    until: Lock<Instant>,
    sends: Lock<bool>,
}

/// A lane that this instance has.
struct Owned {
    fence: Fence,
    lease: Arc<LaneLease>,
    work: AbortHandle,
}

/// A lane, had or not.
struct KeptLane {
    handle: Arc<LaneHandle>,
    owned: Option<Owned>,
    /// Its worker has ended by itself: it is not taken again before.
    not_before: Option<Instant>,
    /// Since when nobody has it that should.
    passed_over: Option<Instant>,
}

pub(super) struct LaneKeeper {
    storage: Arc<dyn Storage>,
    client: Client,
    points: Points,
    tenant: Tenant,
    lanes: Vec<KeptLane>,
    stop: watch::Receiver<bool>,
    work: JoinSet<()>,
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
        let kept = |handle| KeptLane { handle, owned: None, not_before: None, passed_over: None };
        let lanes: Vec<_> = lanes.into_iter().map(kept).collect();
        // Nothing is sent for a lane that is not had, whoever asks the client.
        for lane in &lanes {
            client.send_leases().end(lane.handle.config().consumer());
        }
        Self { storage, client, points, tenant, lanes, stop, work: JoinSet::new(), handed: JoinSet::new() }
    }

    /// Until it is told to stop, or its outbox is gone; then every lane is handed over. `looked`: told once it has
    /// taken what was free at first.
    pub(super) async fn run(mut self, looked: oneshot::Sender<()>) {
        let mut ticks = interval(self.tenant.lease / RENEWALS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.look(&mut ticks).await;
        _ = looked.send(());
        while !self.woken(&mut ticks).await {
            self.expire();
        }
        for at in 0..self.lanes.len() {
            self.hand_over(at);
        }
        while self.handed.join_next().await.is_some() {}
        // What cannot be told now ends by itself.
        _ = self.storage.leave(&self.tenant.instance).await;
    }

    /// Waits for the next thing to do, and does it. True at the end.
    async fn woken(&mut self, ticks: &mut Interval) -> bool {
        let ends =
            self.lanes.iter().filter_map(|lane| lane.owned.as_ref()).map(|owned| *owned.lease.until.lock()).min();
        let end = async {
            match ends {
                Some(end) => sleep_until(end).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stopped(&mut self.stop) => return true,
            Some(ended) = self.work.join_next_with_id(), if !self.work.is_empty() => self.ended(ended),
            Some(_) = self.handed.join_next(), if !self.handed.is_empty() => {}
            () = end => {}
            _ = ticks.tick() => self.look_around().await,
        }
        false
    }

    async fn look(&mut self, ticks: &mut Interval) {
        ticks.tick().await;
        self.look_around().await;
    }

    /// Prolongs what it has, and takes or gives so that all instances have as many lanes.
    async fn look_around(&mut self) {
        let alive = match self.storage.beat(&self.tenant).await {
            Ok(alive) => usize::try_from(alive).unwrap_or(usize::MAX).max(1),
            Err(error) => {
                for lane in &self.lanes {
                    lane.handle.set_trouble(Some(error.clone()));
                }
                return;
            }
        };
        for at in 0..self.lanes.len() {
            self.renew(at).await;
        }
        let share = self.lanes.len().div_ceil(alive);
        while let Some(at) = self.lanes.iter().rposition(|lane| lane.owned.is_some()).filter(|_| self.owned() > share) {
            self.hand_over(at);
        }
        for at in 0..self.lanes.len() {
            self.take(at, share).await;
        }
        self.count_others().await;
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

    fn owned(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.owned.is_some()).count()
    }

    async fn renew(&mut self, at: usize) {
        let Some(owned) = &self.lanes[at].owned else { return };
        let asked = Instant::now();
        match self.storage.renew(owned.fence, &self.tenant).await {
            Ok(true) => {
                let until = asked + self.sends_for();
                *owned.lease.until.lock() = until;
                if *owned.lease.sends.lock() {
                    self.client.send_leases().set(self.lanes[at].handle.config().consumer(), until);
                }
            }
            // It is another's, or may be.
            Ok(false) => drop(self.stop_work(at)),
            // As long as the lease lasts, it is tried again.
            Err(error) => self.lanes[at].handle.set_trouble(Some(error)),
        }
    }

    /// For how long it sends after it has asked for a lease: less than the store grants, as clocks differ in their
    /// rates.
    fn sends_for(&self) -> Duration {
        self.tenant.lease - self.tenant.lease / 10
    }

    async fn take(&mut self, at: usize, share: usize) {
        let lane = &self.lanes[at];
        if lane.owned.is_some() || lane.not_before.is_some_and(|time| Instant::now() < time) {
            return;
        }
        // What others should take may be of no outbox of theirs.
        let waited = lane.passed_over.is_some_and(|since| since.elapsed() >= self.tenant.lease * 2);
        if self.owned() >= share && !waited {
            if lane.passed_over.is_none() {
                self.lanes[at].passed_over = Some(Instant::now());
            }
            return;
        }
        let asked = Instant::now();
        let handle = Arc::clone(&lane.handle);
        match self.storage.claim(handle.id(), &self.tenant).await {
            Ok(Claimed::Taken { fence, wait, went_back }) => {
                let lease = LaneLease { until: Lock::from(asked + self.sends_for()), sends: Lock::default() };
                let lease = Arc::new(lease);
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
                let work = self.work.spawn(work.run(wait, went_back, commanded, self.stop.clone()));
                let lane = &mut self.lanes[at];
                lane.owned = Some(Owned { fence, lease, work });
                (lane.not_before, lane.passed_over) = (None, None);
                self.tell(at, true);
            }
            Ok(Claimed::Held) => self.lanes[at].passed_over = None,
            Err(error) => handle.set_trouble(Some(error)),
        }
    }

    /// Stops working on a lane, at once.
    fn stop_work(&mut self, at: usize) -> Option<Owned> {
        let lane = &mut self.lanes[at];
        let owned = lane.owned.take()?;
        self.client.send_leases().end(lane.handle.config().consumer());
        lane.handle.set_owner(None);
        owned.work.abort();
        self.tell(at, false);
        Some(owned)
    }

    fn tell(&self, at: usize, owned: bool) {
        let config = self.lanes[at].handle.config();
        let (consumer, strategy) = (config.consumer(), config.strategy());
        self.client.tell(ClientEvent::OwnershipChanged { consumer, strategy, owned });
    }

    /// Gives a lane back, once nothing is being sent for it: whoever takes it need not wait. Meanwhile this goes on, as
    /// other leases are to be prolonged.
    fn hand_over(&mut self, at: usize) {
        let Some(owned) = self.stop_work(at) else { return };
        let (storage, client, longest) = (Arc::clone(&self.storage), self.client.clone(), self.tenant.longest_call);
        let lane = Arc::clone(&self.lanes[at].handle);
        self.handed.spawn(async move {
            let idle = timeout(longest, client.send_leases().idle(lane.config().consumer())).await;
            // Otherwise the next one waits, as after a crash.
            if idle.is_ok()
                && let Err(error) = storage.release(owned.fence).await
            {
                lane.set_trouble(Some(error));
            }
        });
    }

    /// Lanes whose lease could not be prolonged.
    fn expire(&mut self) {
        let now = Instant::now();
        for at in 0..self.lanes.len() {
            if self.lanes[at].owned.as_ref().is_some_and(|owned| *owned.lease.until.lock() <= now) {
                self.stop_work(at);
            }
        }
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

/// An outbox that is gone stops, too.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    _ = stop.wait_for(|stop| *stop).await;
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
    async fn run(
        self,
        wait: Duration,
        went_back: bool,
        commanded: mpsc::UnboundedReceiver<i64>,
        stop: watch::Receiver<bool>,
    ) {
        sleep(wait).await;
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
            self.client.send_leases().set(self.lane.config().consumer(), *self.lease.until.lock());
            *sends = true;
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
