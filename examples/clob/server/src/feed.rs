//! What everybody sees: the book, the trades, the accounts and the stages, as the journal has them.
//!
//! The feed follows the server's journal with an exchange of its own, which repeats what was answered. So it shows
//! nothing that is not durable, everything in its order, and deposits like everything else.

use std::{collections::BTreeMap, mem::replace, sync::Arc, time::Duration};

use axum::extract::ws::{Message, WebSocket};
use clob_core::{Clob, Request, Trade, View};
use infinityvm_sdk::{
    Result,
    app::{AppServer, BatchProgress, EntryKind, JournalEntry, stf::Codec},
    primitives::Address,
};
use serde::Serialize;
use serde_json::json;
use tokio::{
    sync::{Mutex, Notify, broadcast, watch},
    time::{Instant, interval, timeout},
};

/// Entries of the journal in which the last trades are looked for at the start: as many as it gives at once.
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
    pub r#final: u64,
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
        Ok(Self { answered: status.last_place, executed, settled, r#final: status.final_place })
    }
}

/// What clients are told of one request.
struct Told {
    place: u64,
    /// Everybody, if the book changed.
    public: Option<String>,
    /// Each user whose account changed.
    own: BTreeMap<Address, String>,
}

/// See the [module](self).
pub struct Feed {
    server: AppServer<Clob>,
    /// None while the server cannot be read: it may stand by.
    view: Mutex<Option<View>>,
    /// A request was answered: clients are to be told at once.
    pub wake: Notify,
    /// None lets all clients go.
    updates: broadcast::Sender<Option<Arc<Told>>>,
    stages: watch::Sender<Stages>,
}

impl Feed {
    pub fn new(server: AppServer<Clob>) -> Self {
        let (updates, stages) = (broadcast::Sender::new(BACKLOG), watch::Sender::default());
        Self { server, view: Mutex::default(), wake: Notify::new(), updates, stages }
    }

    /// Tells clients what comes into the journal and how far the batches are, for as long as the process lives.
    pub async fn follow(self: Arc<Self>) {
        let (mut ticks, mut told) = (interval(TICK), Instant::now());
        loop {
            let stages = tokio::select! {
                () = self.wake.notified() => None,
                // If that cannot be read for once, the book can be all the same.
                _ = ticks.tick() => Stages::of(&self.server).await.ok(),
            };
            if self.view(|_| ()).await.is_err() {
                // Whoever asks is told why. Once it can be read again, another may have answered meanwhile.
                *self.view.lock().await = None;
                _ = self.updates.send(None);
            } else if let Some(now) = stages
                && self.stages.send_if_modified(|last| replace(last, now) != now || told.elapsed() >= BEAT)
            {
                told = Instant::now();
                for (stage, place) in [("answered", now.answered), ("settled", now.settled), ("final", now.r#final)] {
                    metrics::gauge!("clob_place", "stage" => stage).set(place as f64);
                }
            }
        }
    }

    /// Looks at everything that was answered by now.
    pub async fn view<T>(&self, look: impl FnOnce(&View) -> T) -> Result<T> {
        let mut view = self.view.lock().await;
        let durable = self.server.read(Clob::place).await?;
        let view = match &mut *view {
            Some(view) => view,
            none => none.insert(view_of(&self.server).await?),
        };
        while view.place() < durable {
            let entries = self.server.answers_since(view.place()).await?;
            if entries.is_empty() {
                break;
            }
            // Nobody may be listening.
            entries.iter().filter_map(|entry| hear(view, entry)).for_each(|update| _ = self.updates.send(Some(update)));
        }
        Ok(look(view))
    }

    /// Sends a client everything from now on. Ends when it goes, or is too slow to hear everything.
    pub async fn serve(&self, mut socket: WebSocket, user: Option<Address>) -> Option<()> {
        let (mut updates, mut stages) = (self.updates.subscribe(), self.stages.subscribe());
        let snapshot = self.view(|view| (snapshot(view, *stages.borrow(), user), view.place())).await;
        let (mut messages, from) = snapshot.ok()?;
        loop {
            for message in messages {
                timeout(PATIENCE, socket.send(Message::text(message))).await.ok()?.ok()?;
            }
            messages = tokio::select! {
                // How far the batches are is told after what is in them.
                biased;
                message = socket.recv() => message?.ok().map(|_| Vec::new())?,
                told = updates.recv() => {
                    let told = told.ok()??;
                    let own = user.and_then(|user| told.own.get(&user));
                    told.public.iter().chain(own).filter(|_| told.place > from).cloned().collect()
                }
                Ok(()) = stages.changed() => vec![typed("stages", &*stages.borrow_and_update())],
            };
        }
    }
}

/// The view as of now, with the last trades that the journal still has.
async fn view_of(server: &AppServer<Clob>) -> Result<View> {
    let (exchange, place) = server.read(|clob| (clob.exchange().clone(), clob.place())).await?;
    let entries = server.answers_since(place.saturating_sub(REREAD)).await?;
    let earlier = entries.iter().filter(|entry| entry.place <= place && entry.kind == EntryKind::Answered);
    let trades = earlier.flat_map(|entry| Trade::of(&entry.request, &entry.answer, entry.place, entry.time));
    Ok(View::new(exchange, place, trades))
}

/// Has a view hear of an entry, and says what there is to tell.
fn hear(view: &mut View, entry: &JournalEntry) -> Option<Arc<Told>> {
    view.skip(entry.place);
    let request = Request::decode(&entry.request).ok().filter(|_| entry.kind == EntryKind::Answered)?;
    let (update, own) = view.take(&request, entry.place, entry.time);
    let own = own.into_iter().map(|(user, own)| (user, typed("own", &own))).collect();
    Some(Arc::new(Told { place: entry.place, public: update.map(|update| typed("update", &update)), own }))
}

fn snapshot(view: &View, stages: Stages, user: Option<Address>) -> Vec<String> {
    let trades = json!({ "trades": view.trades() });
    let all = [typed("book", &view.book()), typed("trades", &trades), typed("stages", &stages)];
    all.into_iter().chain(user.map(|user| typed("account", &view.account(user)))).collect()
}

fn typed(kind: &str, fields: &impl Serialize) -> String {
    let mut fields = json!(fields);
    fields["type"] = kind.into();
    fields.to_string()
}
