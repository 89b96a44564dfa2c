//! JSON-RPC over a websocket: one connection in each runtime, which a task holds and opens again, for all clones of a
//! reader.
//!
//! alloy's own way (its pubsub service) sends again on every new connection what had no answer on the last one: an
//! answer that is too long, or no JSON, would end one connection after the other, for ever. And it gives up for good
//! after some attempts, and installs a TLS provider for the process. So the task is ours.

mod messages;
mod open;
mod task;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use alloy_json_rpc::{RequestPacket, ResponsePacket};
use alloy_transport::{TransportError, TransportErrorKind, TransportFut};
use futures_util::future::join_all;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tower_service::Service;

use self::messages::{Command, WsRequest};
pub(super) use self::{messages::Pushes, open::Way};
use super::fault;
use crate::{
    error::{Error, Result},
    runtime::{PerRuntime, require_runtime},
};

/// Packets that wait to be sent. Callers wait in turn beyond that.
const QUEUE: usize = 64;

/// The way to the RPC, in every runtime that asks. Connections end with the last clone.
#[derive(Clone)]
pub(super) struct WsClient(Arc<Wires>);

struct Wires {
    way: Arc<Way>,
    links: PerRuntime<Link>,
}

/// The way to the task of one runtime.
#[derive(Clone)]
pub(in crate::chain::rpc) struct Link {
    commands: mpsc::Sender<Command>,
    news: watch::Receiver<Pushes>,
    subscribed: Arc<AtomicBool>,
    timeout: Duration,
}

/// Connects, and starts the task on this runtime.
pub(super) async fn connect(way: Way) -> Result<WsClient> {
    let client = later(way);
    let socket = client.0.way.open().await?;
    client.link_over(Some(socket))?;
    Ok(client)
}

/// Connects once there is something to ask.
pub(super) fn later(way: Way) -> WsClient {
    WsClient(Arc::new(Wires { way: Arc::new(way), links: PerRuntime::default() }))
}

impl WsClient {
    /// The task of this runtime; a new one opens a connection once there is something to ask.
    pub(super) fn here(&self) -> Result<Link> {
        self.link_over(None)
    }

    fn link_over(&self, socket: Option<open::Socket>) -> Result<Link> {
        require_runtime()?;
        let way = &self.0.way;
        let start = || {
            let (commands, queue) = mpsc::channel(QUEUE);
            let (told, news) = watch::channel(Pushes::default());
            tokio::spawn(task::Task::new(Arc::clone(way), queue, told).run(socket));
            Ok(Link { commands, news, subscribed: Arc::default(), timeout: way.timeout })
        };
        self.0.links.here(start).unwrap_or_else(|| Err(gone()))
    }

    async fn exchange(self, packet: RequestPacket) -> Result<ResponsePacket, TransportError> {
        self.here().map_err(TransportErrorKind::custom)?.exchange(packet).await
    }
}

/// The task went with its runtime.
fn gone() -> Error {
    fault::chain("the websocket's runtime has ended")
        .with_retryable(true)
        .with_hint("ask again, on a runtime that runs")
}

impl Link {
    pub(super) fn news(&self) -> Pushes {
        *self.news.borrow()
    }

    /// Waits for other news than these.
    pub(super) async fn others(&self, known: Pushes) -> Result<()> {
        let others = self.news.clone().wait_for(|news| news.count != known.count).await.is_ok();
        if others { Ok(()) } else { Err(gone()) }
    }

    /// Subscribes to new blocks. Whoever is the first waits until the RPC has said something to that: then a look shows
    /// all that is not told.
    pub(super) async fn subscribe(&self) -> Result<()> {
        if !self.subscribed.load(SeqCst) {
            self.commands.send(Command::Subscribe).await.map_err(|_| gone())?;
            self.subscribed.store(true, SeqCst);
            _ = timeout(self.timeout, self.news.clone().wait_for(|news| news.count > 0)).await;
        }
        Ok(())
    }

    /// Opens another connection for the subscription's sake.
    pub(super) fn renew(&self) {
        // Where the queue is full there will be another look.
        _ = self.commands.try_send(Command::Renew);
    }

    async fn exchange(self, packet: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let (requests, single) = match packet {
            RequestPacket::Single(request) => (vec![request], true),
            RequestPacket::Batch(requests) => (requests, false),
        };
        let (asks, replies): (Vec<_>, Vec<_>) = requests
            .into_iter()
            .map(|request| {
                let (reply, answer) = oneshot::channel();
                (WsRequest { request, reply }, answer)
            })
            .unzip();
        self.commands.send(Command::Send(asks)).await.map_err(|_| TransportErrorKind::custom(gone()))?;
        let mut answers = Vec::with_capacity(replies.len());
        let mut failed = None;
        for reply in join_all(replies).await {
            match reply.unwrap_or_else(|_| Err(gone())) {
                Ok(answer) => answers.push(answer),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            // Those that came before the connection broke are as good as any.
            Some(error) if answers.is_empty() => Err(TransportErrorKind::custom(error)),
            _ if single => match answers.pop() {
                Some(answer) => Ok(ResponsePacket::Single(answer)),
                None => Err(TransportErrorKind::custom(gone())),
            },
            _ => Ok(ResponsePacket::Batch(answers)),
        }
    }
}

impl Service<RequestPacket> for WsClient {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        Box::pin(self.clone().exchange(packet))
    }
}
