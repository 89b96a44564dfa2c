//! What everybody sees: the book, the trades, the accounts and the stages, as the journal has them.
//!
//! The feed follows the server's journal with an exchange of its own, which repeats what was answered. So it shows
//! nothing that is not durable, everything in its order, and deposits like everything else.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::extract::ws::{Message, WebSocket};
use clob_core::{Clob, Exchange, OrderLeft, Request, Side};
use infinityvm_sdk::{
    Result,
    app::{AppServer, AppStatus, BatchProgress, EntryKind, JournalEntry, stf::Codec},
    primitives::Address,
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, RwLock, broadcast, watch},
    time::timeout,
};

use crate::reply::{self, Refused};

/// Trades that are kept.
const TRADES: usize = 200;
/// Updates that a client may be behind before it gets a new snapshot.
const BACKLOG: usize = 4_096;
/// How often stages are looked at, and what came without anybody's request.
const TICK: Duration = Duration::from_millis(100);
/// How long a client may take to take a message, and a reader waits for the journal.
const PATIENCE: Duration = Duration::from_secs(10);

/// The last place that is so far.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stages {
    pub answered: u64,
    pub executed: u64,
    pub settled: u64,
    #[serde(rename = "final")]
    pub is_final: u64,
}

impl Stages {
    /// What the server says, where it is further than this.
    fn and(self, status: &AppStatus) -> Self {
        let so_far = |progress: BatchProgress, before: u64| {
            let batches = status.batches.iter().filter(|batch| batch.progress >= progress);
            batches.map(|batch| batch.last).max().unwrap_or(0).max(status.final_place).max(before)
        };
        Self {
            answered: status.last_place.max(self.answered),
            executed: so_far(BatchProgress::Executed, self.executed),
            settled: so_far(BatchProgress::Settled, self.settled),
            is_final: so_far(BatchProgress::Final, self.is_final),
        }
    }
}

/// What one request changed.
struct Update {
    place: u64,
    /// For everybody, if the book changed.
    public: Option<String>,
    /// For each user whose account changed.
    own: BTreeMap<Address, String>,
}

/// The exchange as of a place.
pub struct View {
    pub exchange: Exchange,
    place: u64,
    /// The place of the last update for everybody.
    seq: u64,
    trades: VecDeque<Value>,
}

/// See the [module](self).
pub struct Feed {
    view: RwLock<Option<View>>,
    answered: AtomicU64,
    wake: Notify,
    /// None until there is a view.
    place: watch::Sender<Option<u64>>,
    updates: broadcast::Sender<Arc<Update>>,
    stages: watch::Sender<Stages>,
}

impl Feed {
    pub fn new() -> Self {
        let (view, answered, wake) = Default::default();
        let (place, stages) = Default::default();
        Self { view, answered, wake, place, updates: broadcast::Sender::new(BACKLOG), stages }
    }

    /// A request was answered: whoever reads from now on sees it.
    pub fn answered(&self, place: u64) {
        self.answered.fetch_max(place, SeqCst);
        self.wake.notify_one();
    }

    /// Follows the journal for as long as the server is there.
    pub async fn follow(&self, server: &AppServer<Clob>) {
        let mut ticks = tokio::time::interval(TICK);
        // One that stands by has no state yet.
        let (exchange, place) = loop {
            ticks.tick().await;
            if let Ok(begun) = server.read(|clob| (clob.exchange().clone(), clob.place())).await {
                break begun;
            }
        };
        *self.view.write().await = Some(View { exchange, place, seq: place, trades: VecDeque::new() });
        self.place.send_replace(Some(place));
        loop {
            let place = self.place.borrow().unwrap_or_default();
            match server.answers_since(place).await {
                Ok(entries) if entries.is_empty() => {}
                Ok(entries) => self.take(entries).await,
                Err(error) => eprintln!("the journal cannot be read: {error}"),
            }
            tokio::select! {
                () = self.wake.notified() => {}
                _ = ticks.tick() => drop(self.look(server).await),
            }
        }
    }

    /// Looks how far the batches are.
    pub async fn look(&self, server: &AppServer<Clob>) -> Result<Stages> {
        let status = server.status().await?;
        let next = self.stages().and(&status);
        self.stages.send_if_modified(|stages| std::mem::replace(stages, next) != next);
        Ok(next)
    }

    async fn take(&self, entries: Vec<JournalEntry>) {
        let mut view = self.view.write().await;
        let Some(view) = view.as_mut() else { return };
        for entry in entries {
            view.place = entry.place;
            if let (EntryKind::Answered, Ok(request)) = (entry.kind, Request::decode(&entry.request)) {
                // Nobody may be listening.
                _ = self.updates.send(Arc::new(view.watch(&request, entry.place, entry.time)));
            }
        }
        self.place.send_replace(Some(view.place));
        self.wake.notify_one();
    }

    /// Looks at everything that was answered by now.
    pub async fn view<T>(&self, look: impl FnOnce(&View) -> T) -> Result<T, Refused> {
        let (answered, mut place) = (self.answered.load(SeqCst), self.place.subscribe());
        let late = || Refused::unavailable("the server has not read its journal yet");
        let caught_up = place.wait_for(|place| *place >= Some(answered));
        timeout(PATIENCE, caught_up).await.map_err(|_| late())?.map_err(|_| late())?;
        self.view.read().await.as_ref().map(look).ok_or_else(late)
    }

    pub fn stages(&self) -> Stages {
        *self.stages.borrow()
    }

    /// Sends a client everything from now on, until it goes.
    pub async fn serve(&self, mut socket: WebSocket, user: Option<Address>) {
        loop {
            // Anew if it was too slow to hear everything.
            let (mut updates, mut stages) = (self.updates.subscribe(), self.stages.subscribe());
            let stages_now = *stages.borrow_and_update();
            let snapshot = self.view(|view| (view.snapshot(user, stages_now), view.place)).await;
            let Ok((mut messages, from)) = snapshot else { return };
            loop {
                for message in messages {
                    let sent = timeout(PATIENCE, socket.send(Message::text(message))).await;
                    if !sent.is_ok_and(|sent| sent.is_ok()) {
                        return;
                    }
                }
                messages = tokio::select! {
                    update = updates.recv() => match update {
                        Ok(update) if update.place > from => {
                            let own = user.and_then(|user| update.own.get(&user));
                            update.public.iter().chain(own).cloned().collect()
                        }
                        Ok(_) => Vec::new(),
                        Err(broadcast::error::RecvError::Lagged(_)) => break,
                        Err(broadcast::error::RecvError::Closed) => return,
                    },
                    Ok(()) = stages.changed() => vec![typed("stages", json!(*stages.borrow_and_update()))],
                    message = socket.recv() => match message {
                        Some(Ok(_)) => Vec::new(),
                        _ => return,
                    },
                };
            }
        }
    }
}

fn typed(kind: &str, mut fields: Value) -> String {
    fields["type"] = kind.into();
    fields.to_string()
}

impl View {
    pub fn book(&self) -> Value {
        let levels = |side| {
            let levels = self.exchange.book().levels(side);
            levels.map(|(price, size)| json!([price.to_string(), size.to_string()])).collect::<Vec<_>>()
        };
        json!({ "seq": self.seq, "bids": levels(Side::Buy), "asks": levels(Side::Sell) })
    }

    /// The latest first.
    pub fn trades(&self) -> Value {
        self.trades.iter().rev().cloned().collect()
    }

    pub fn account(&self, user: Address) -> Value {
        let mut fields = reply::account(self.exchange.account(&user));
        let orders = [Side::Buy, Side::Sell].into_iter().flat_map(|side| {
            let own = self.exchange.book().orders(side).filter(|(_, order)| order.user == user);
            own.map(move |(price, order)| OrderLeft { user, id: order.id, side, price, left: order.size })
        });
        fields["orders"] = orders.map(|order| reply::order(&order)).collect();
        (fields["seq"], fields["user"]) = (self.place.into(), json!(user));
        fields
    }

    fn snapshot(&self, user: Option<Address>, stages: Stages) -> Vec<String> {
        let trades = json!({ "trades": self.trades() });
        let mut messages = vec![typed("book", self.book()), typed("trades", trades), typed("stages", json!(stages))];
        messages.extend(user.map(|user| typed("account", self.account(user))));
        messages
    }

    /// Carries it out once more, and says what has changed.
    fn watch(&mut self, request: &Request, place: u64, time: u64) -> Update {
        let changes = self.exchange.watch(request, place);
        let taken = changes.fills.iter().filter(|fill| !fill.maker);
        let trades: Vec<_> = taken
            .map(|fill| {
                let (price, size) = (fill.price.to_string(), fill.size.to_string());
                json!({ "place": place, "time": time, "price": price, "size": size, "side": reply::side(fill.side) })
            })
            .collect();
        self.trades.extend(trades.iter().cloned());
        self.trades.drain(..self.trades.len().saturating_sub(TRADES));
        let public = (!changes.levels.is_empty()).then(|| {
            let prev = std::mem::replace(&mut self.seq, place);
            let levels = changes.levels.iter();
            let levels: Vec<_> = levels
                .map(|(side, price, size)| json!([reply::side(*side), price.to_string(), size.to_string()]))
                .collect();
            typed("update", json!({ "seq": place, "prev": prev, "time": time, "levels": levels, "trades": trades }))
        });
        let own = changes.users.iter().map(|user| {
            let mut fields = reply::account(self.exchange.account(user));
            (fields["seq"], fields["time"]) = (place.into(), time.into());
            fields["orders"] = changes.orders.iter().filter(|order| order.user == *user).map(reply::order).collect();
            fields["fills"] = changes.fills.iter().filter(|fill| fill.user == *user).map(reply::own_fill).collect();
            (*user, typed("own", fields))
        });
        Update { place, public, own: own.collect() }
    }
}
