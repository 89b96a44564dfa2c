//! Hints from instance to instance, by LISTEN and NOTIFY.
//!
//! Listening takes a connection of its own that is always the same server connection, so a pooler must not stand
//! between. What the store itself says goes over the connections that read, after the commit that it is about: a
//! NOTIFY within a transaction has its commit wait for all others of the database that have one. What callers enqueue
//! in their own transactions has no other way.

use std::{sync::Arc, time::Duration};

use alloy_primitives::hex;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::{sync::mpsc, task::JoinSet, time::sleep};

use super::links::Readers;
use crate::outbox::store::{
    Act,
    hints::{Hint, Hints},
    sql::{Fetched, StoreRequest, query},
};

const CHANNEL: &str = "ivm_outbox";
/// Says something on the channel, once its transaction commits.
pub(super) const NOTIFY: &str = "SELECT pg_notify('ivm_outbox', $1)";
/// Before a connection that was lost is made anew.
const AGAIN: Duration = Duration::from_secs(1);
/// Hints that wait to be said. Beyond that they are lost.
const WAITING: usize = 256;

/// An instance that listens, and says what it has written. Ends when this is dropped.
pub(super) struct Listening {
    hints: Arc<Hints>,
    said: mpsc::Sender<Said>,
    _tasks: JoinSet<()>,
}

/// What an instance says to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Hint(Hint),
    /// To itself, to find out whether it hears anything.
    Probe,
}

impl Listening {
    /// By these options it listens.
    pub(super) fn start(options: PgConnectOptions, readers: Arc<Readers>) -> Self {
        let (said, saying) = mpsc::channel(WAITING);
        let hints = Arc::new(Hints::default());
        let mut own = [0; 8];
        // Without randomness it also hears what it has said itself, which does no harm.
        _ = getrandom::fill(&mut own);
        let own: Arc<str> = hex::encode(own).into();
        let mut tasks = JoinSet::new();
        tasks.spawn(say(readers, saying, Arc::clone(&own)));
        let (heard, probes) = (Arc::clone(&hints), said.clone());
        tasks.spawn(async move {
            loop {
                // What is wrong shows in that no hints come: then it is looked as often as without any.
                _ = listen(&options, &heard, &probes, &own).await;
                heard.set_come(false);
                sleep(AGAIN).await;
            }
        });
        Self { hints, said, _tasks: tasks }
    }

    pub(super) fn hints(&self) -> Arc<Hints> {
        Arc::clone(&self.hints)
    }

    /// To whoever listens here, and to the other instances.
    pub(super) fn tell(&self, hint: Hint) {
        self.hints.tell(hint);
        _ = self.said.try_send(Said::Hint(hint));
    }
}

/// What a request that was carried out is a hint of.
pub(super) fn hint_of(request: &StoreRequest) -> Option<Hint> {
    match request {
        StoreRequest::Enqueue(lane, _) => Some(Hint::Queued(*lane)),
        StoreRequest::Act(fence, act) => {
            let tells = matches!(
                act,
                Act::Tell { .. }
                    | Act::Retract { .. }
                    | Act::Supersede { .. }
                    | Act::Renumber { .. }
                    | Act::Skip { .. }
            );
            tells.then_some(Hint::Told(fence.lane))
        }
        _ => None,
    }
}

async fn listen(options: &PgConnectOptions, hints: &Hints, probes: &mpsc::Sender<Said>, own: &str) -> Fetched<()> {
    let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
    let mut listener = PgListener::connect_with(&pool.connect_lazy_with(options.clone())).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    // Behind a pooler it would listen on a connection that is soon somebody else's.
    _ = probes.send(Said::Probe).await;
    while let Some(heard) = listener.try_recv().await? {
        match parse(heard.payload()) {
            Some((Said::Probe, from)) if from == own => hints.set_come(true),
            Some((Said::Hint(hint), from)) if from != own => hints.tell(hint),
            _ => {}
        }
    }
    Ok(())
}

/// What waits goes in one transaction.
async fn say(readers: Arc<Readers>, mut saying: mpsc::Receiver<Said>, own: Arc<str>) {
    while let Some(first) = saying.recv().await {
        let mut all = vec![first];
        while let Ok(next) = saying.try_recv() {
            if !all.contains(&next) {
                all.push(next);
            }
        }
        let texts: Vec<_> = all.into_iter().map(|said| payload(said, &own)).collect();
        let done = readers.read(move |conn| {
            Box::pin(async move {
                for text in texts {
                    query(NOTIFY).bind(text).execute(&mut *conn).await?;
                }
                Ok(())
            })
        });
        // A hint that is lost is found without it.
        _ = done.await;
    }
}

/// What says to every instance that a lane has another job.
pub(super) fn queued(lane: i64) -> String {
    payload(Said::Hint(Hint::Queued(lane)), "")
}

fn payload(said: Said, own: &str) -> String {
    match said {
        Said::Hint(Hint::Queued(lane)) => format!("queued {lane} {own}"),
        Said::Hint(Hint::Told(lane)) => format!("told {lane} {own}"),
        Said::Hint(Hint::Any) => format!("any 0 {own}"),
        Said::Probe => format!("probe 0 {own}"),
    }
}

/// With who said it.
fn parse(payload: &str) -> Option<(Said, &str)> {
    let mut words = payload.splitn(3, ' ');
    let (what, lane) = (words.next()?, words.next()?.parse().ok()?);
    let said = match what {
        "queued" => Said::Hint(Hint::Queued(lane)),
        "told" => Said::Hint(Hint::Told(lane)),
        "any" => Said::Hint(Hint::Any),
        "probe" => Said::Probe,
        _ => return None,
    };
    Some((said, words.next().unwrap_or_default()))
}
