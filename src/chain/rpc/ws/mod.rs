//! JSON-RPC over a websocket: one connection, which a task holds and opens again, for all clones of a reader.
//!
//! alloy's own way (its pubsub service) sends again on every new connection what had no answer on the last one: an answer that is
//! too long, or no JSON, would end one connection after the other, for ever. And it gives up for good after some
//! attempts, and installs a TLS provider for the process. So the task is ours.

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

use alloy_json_rpc::{RequestPacket, Response, ResponsePacket, SerializedRequest};
use alloy_primitives::B256;
use alloy_transport::{TransportError, TransportErrorKind, TransportFut};
use futures_util::future::join_all;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};
use tower_service::Service;

pub(super) use self::open::Way;
use super::fault;
use crate::{
    chain::reader::Block,
    error::{Error, Result},
};

/// Packets that wait to be sent. Callers wait in turn beyond that.
const QUEUE: usize = 64;

/// What the task is told.
enum Command {
    /// Send these, together.
    Send(Vec<Ask>),
    /// Subscribe to new blocks, from now on.
    Heads,
}

struct Ask {
    request: SerializedRequest,
    reply: oneshot::Sender<Result<Response>>,
}

/// What the task knows of the latest block.
#[derive(Clone, Debug)]
enum Heads {
    /// Nothing yet: nobody asked, or the RPC has not said.
    Unknown,
    At(Block),
    /// The connection is gone, for this reason.
    Down(Error),
    /// The RPC does not push blocks.
    Refused,
}

/// The way to the task. The connection ends with the last clone.
#[derive(Clone)]
pub(super) struct Wire {
    commands: mpsc::Sender<Command>,
    heads: watch::Receiver<Heads>,
    subscribed: Arc<AtomicBool>,
    timeout: Duration,
}

/// Connects, and starts the task on this runtime.
pub(super) async fn connect(way: Way) -> Result<Wire> {
    let timeout = way.timeout;
    let socket = way.open().await?;
    let (commands, queue) = mpsc::channel(QUEUE);
    let (state, heads) = watch::channel(Heads::Unknown);
    tokio::spawn(task::Task::new(way, queue, state).run(socket));
    Ok(Wire { commands, heads, subscribed: Arc::default(), timeout })
}

/// The task went with its runtime.
fn gone() -> Error {
    fault::chain("the websocket's runtime has ended")
        .with_hint("connect again, on a runtime that lives as long as the reader")
}

impl Wire {
    /// Waits for another block than this one; nothing if the RPC does not push them.
    pub(super) async fn next(&self, known: Option<B256>) -> Result<Option<Block>> {
        if !self.subscribed.load(SeqCst) {
            self.commands.send(Command::Heads).await.map_err(|_| gone())?;
            self.subscribed.store(true, SeqCst);
        }
        let mut heads = self.heads.clone();
        // As long as the RPC is there it may be silent; whether it is there the task finds out.
        let mut since = None;
        loop {
            let (reason, deadline) = match &*heads.borrow_and_update() {
                Heads::At(block) if known == Some(block.hash) => (None, None),
                Heads::At(block) => return Ok(Some(*block)),
                Heads::Refused => return Ok(None),
                Heads::Unknown => (None, Some(*since.get_or_insert_with(Instant::now) + self.timeout)),
                Heads::Down(error) => {
                    (Some(error.clone()), Some(*since.get_or_insert_with(Instant::now) + self.timeout))
                }
            };
            let changed = match deadline {
                None => {
                    since = None;
                    heads.changed().await
                }
                Some(deadline) => match timeout_at(deadline, heads.changed()).await {
                    Ok(changed) => changed,
                    Err(_) => return Err(reason.unwrap_or_else(|| fault::late(self.timeout))),
                },
            };
            changed.map_err(|_| gone())?;
        }
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
                (Ask { request, reply }, answer)
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

impl Service<RequestPacket> for Wire {
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
