//! What everybody sees: the book, the trades, the accounts and the stages, as the journal has them.
//!
//! The feed follows the server's journal with an exchange of its own, which repeats what was answered. So it shows
//! nothing that is not durable, everything in its order, and deposits like everything else.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use axum::extract::ws::{Message, WebSocket};
use clob_core::{Clob, Exchange, Outcome, Request, Trade};
use infinityvm_sdk::{
    Result,
    app::{AppServer, BatchProgress, EntryKind, JournalEntry, stf::Codec},
    primitives::Address,
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, Notify, broadcast},
    time::{Instant, timeout},
};

/// Trades that are kept.
const TRADES: usize = 200;
/// Entries of the journal in which they are looked for at the start: as many as it gives at once.
const REREAD: u64 = 1_000;
/// Updates that a client may be behind before it is let go.
const BACKLOG: usize = 4_096;
/// How often stages are looked at, and what came without anybody's request.
const TICK: Duration = Duration::from_millis(100);
/// How often clients hear something, at least: who hears nothing for longer has lost the server.
const BEAT: Duration = Duration::from_secs(10);
/// How long a client may take to take a message.
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
    /// What the server says now.
    pub async fn of(server: &AppServer<Clob>) -> Result<Self> {
        let status = server.status().await?;
        let so_far = |progress| {
            let batches = status.batches.iter().filter(|batch| batch.progress >= progress);
            batches.map(|batch| batch.last).fold(status.final_place, u64::max)
        };
        let (executed, settled) = (so_far(BatchProgress::Executed), so_far(BatchProgress::Settled));
        Ok(Self { answered: status.last_place, executed, settled, is_final: status.final_place })
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
    exchange: Exchange,
    place: u64,
    /// The place of the last update for everybody.
    seq: u64,
    trades: VecDeque<Trade>,
    stages: Stages,
    /// When everybody was told of them.
    told: Instant,
}

/// See the [module](self).
pub struct Feed {
    server: AppServer<Clob>,
    /// None while the server cannot be read: it may stand by.
    view: Mutex<Option<View>>,
    /// A request was answered: clients are to be told at once.
    pub wake: Notify,
    /// None lets all clients go.
    updates: broadcast::Sender<Option<Arc<Update>>>,
}

impl Feed {
    pub fn new(server: AppServer<Clob>) -> Self {
        Self { server, view: Mutex::default(), wake: Notify::new(), updates: broadcast::Sender::new(BACKLOG) }
    }

    /// Tells clients what comes into the journal, for as long as the process lives.
    pub async fn follow(&self) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            let seen = tokio::select! {
                () = self.wake.notified() => self.view(|_| ()).await,
                _ = ticks.tick() => self.look().await,
            };
            if seen.is_err() {
                // Whoever asks is told why. Once it can be read again, another may have answered meanwhile.
                *self.view.lock().await = None;
                _ = self.updates.send(None);
            }
        }
    }

    /// Looks for what came without anybody's request, and how far the batches are.
    async fn look(&self) -> Result<()> {
        // If that cannot be read for once, the book can be all the same.
        let stages = Stages::of(&self.server).await.ok();
        if let Some(now) = self.view(|view| view.news(stages)).await? {
            metrics::gauge!("clob_place", "stage" => "answered").set(now.answered as f64);
            metrics::gauge!("clob_place", "stage" => "settled").set(now.settled as f64);
            metrics::gauge!("clob_place", "stage" => "final").set(now.is_final as f64);
            let public = Some(typed("stages", json!(now)));
            // It is of no place, and for all.
            _ = self.updates.send(Some(Arc::new(Update { place: u64::MAX, public, own: BTreeMap::new() })));
        }
        Ok(())
    }

    /// Looks at everything that was answered by now.
    pub async fn view<T>(&self, look: impl FnOnce(&mut View) -> T) -> Result<T> {
        let mut view = self.view.lock().await;
        let durable = self.server.read(Clob::place).await?;
        let view = match &mut *view {
            Some(view) => view,
            none => none.insert(View::new(&self.server).await?),
        };
        while view.place < durable {
            let entries = self.server.answers_since(view.place).await?;
            if entries.is_empty() {
                break;
            }
            // Nobody may be listening.
            entries.iter().filter_map(|entry| view.take(entry)).for_each(|update| _ = self.updates.send(Some(update)));
        }
        Ok(look(view))
    }

    /// Sends a client everything from now on, until it goes, or is too slow to hear everything.
    pub async fn serve(&self, mut socket: WebSocket, user: Option<Address>) {
        let mut updates = self.updates.subscribe();
        let snapshot = self.view(|view| (view.snapshot(user), view.place)).await;
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
                    Ok(Some(update)) if update.place > from => {
                        let own = user.and_then(|user| update.own.get(&user));
                        update.public.iter().chain(own).cloned().collect()
                    }
                    Ok(Some(_)) => Vec::new(),
                    _ => return,
                },
                message = socket.recv() => match message {
                    Some(Ok(_)) => Vec::new(),
                    _ => return,
                },
            };
        }
    }
}

fn carried_out(entry: &JournalEntry) -> Option<Request> {
    Request::decode(&entry.request).ok().filter(|_| entry.kind == EntryKind::Answered)
}

fn typed(kind: &str, mut fields: Value) -> String {
    fields["type"] = kind.into();
    fields.to_string()
}

impl View {
    /// As of now, with the last trades that the journal still has.
    async fn new(server: &AppServer<Clob>) -> Result<Self> {
        let (exchange, place) = server.read(|clob| (clob.exchange().clone(), clob.place())).await?;
        let (trades, told, stages) = (VecDeque::new(), Instant::now(), Stages::of(server).await?);
        let mut view = Self { exchange, place, seq: place, trades, stages, told };
        for entry in server.answers_since(place.saturating_sub(REREAD)).await? {
            if let Some(request) = carried_out(&entry).filter(|_| entry.place <= place) {
                view.trade(&entry, &request);
            }
        }
        Ok(view)
    }

    /// The stages, if clients are to be told of them now.
    fn news(&mut self, stages: Option<Stages>) -> Option<Stages> {
        let now = stages.unwrap_or(self.stages);
        let is_news = std::mem::replace(&mut self.stages, now) != now || self.told.elapsed() >= BEAT;
        is_news.then(|| {
            self.told = Instant::now();
            now
        })
    }

    pub fn book(&self) -> Value {
        let mut fields = json!(self.exchange.book());
        fields["seq"] = self.seq.into();
        fields
    }

    /// The latest first.
    pub fn trades(&self) -> Value {
        self.trades.iter().rev().map(|trade| json!(trade)).collect()
    }

    /// Keeps the trades of a request, and returns them.
    fn trade(&mut self, entry: &JournalEntry, request: &Request) -> Vec<Trade> {
        let outcome = Outcome::decode(&entry.answer).unwrap_or(Outcome::Withdrawn);
        let trades: Vec<_> = Trade::of(request, &outcome, entry.place, entry.time).collect();
        self.trades.extend(&trades);
        self.trades.drain(..self.trades.len().saturating_sub(TRADES));
        trades
    }

    pub fn account(&self, user: Address) -> Value {
        let mut fields = json!(self.exchange.account(&user));
        fields["orders"] = json!(self.exchange.orders_of(&user));
        (fields["seq"], fields["user"]) = (self.place.into(), json!(user));
        fields
    }

    fn snapshot(&self, user: Option<Address>) -> Vec<String> {
        let trades = json!({ "trades": self.trades() });
        let mut messages =
            vec![typed("book", self.book()), typed("trades", trades), typed("stages", json!(self.stages))];
        messages.extend(user.map(|user| typed("account", self.account(user))));
        messages
    }

    /// Carries a request out once more, if it was carried out, and says what has changed.
    fn take(&mut self, entry: &JournalEntry) -> Option<Arc<Update>> {
        let (place, time) = (entry.place, entry.time);
        self.place = place;
        let request = carried_out(entry)?;
        let changes = self.exchange.watch(&request, place, time);
        let trades = self.trade(entry, &request);
        let public = (!changes.levels.is_empty()).then(|| {
            let prev = std::mem::replace(&mut self.seq, place);
            let fields =
                json!({ "seq": place, "prev": prev, "time": time, "levels": changes.levels, "trades": trades });
            typed("update", fields)
        });
        let own = changes.users.iter().map(|user| {
            let mut fields = json!(self.exchange.account(user));
            (fields["seq"], fields["time"]) = (place.into(), time.into());
            fields["orders"] = json!(changes.orders.iter().filter(|order| order.user == *user).collect::<Vec<_>>());
            fields["fills"] = json!(changes.fills.iter().filter(|fill| fill.user == *user).collect::<Vec<_>>());
            (*user, typed("own", fields))
        });
        Some(Arc::new(Update { place, public, own: own.collect() }))
    }
}
