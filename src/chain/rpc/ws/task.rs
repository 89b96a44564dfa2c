//! The task that holds the connection: sends, gives answers to their questions, keeps the subscription, opens the connection again.

use std::{collections::HashMap, sync::Arc, time::Duration};

use alloy_json_rpc::{Id, PubSubItem, Response, ResponsePayload, SubId};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    select,
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::{self, Message, error::CapacityError};

use super::{
    super::{convert, fault, round::same, secrets::Secrets},
    Ask, Command, Heads, Way,
    open::Socket,
};
use crate::{
    chain::reader::Block,
    error::{Error, Result},
    jitter,
};

/// How long a connection may be silent before it is pinged, and how long the pong may take.
const SILENCE: Duration = Duration::from_secs(15);
const PONG: Duration = Duration::from_secs(10);

/// Looks at the latest block, in a row, that show one which was not pushed, until the subscription counts as dropped. The first may
/// come right before the push, or from a server that lags behind the others of its address.
const MISSED: u32 = 2;

/// The pauses between attempts to connect: the first, and the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Ids of the task's own requests: beyond what a reader counts up to, and below what JavaScript still counts exactly.
const SUBSCRIBE: u64 = (1 << 52) + 1;
const LATEST: u64 = (1 << 52) + 2;

pub(super) struct Task {
    way: Way,
    commands: mpsc::Receiver<Command>,
    heads: watch::Sender<Heads>,
    subscribed: bool,
    /// What came while there was no connection.
    waiting: Vec<Ask>,
    pause: Duration,
    random: u64,
}

/// Why a connection is over.
enum End {
    /// Nobody is left who could ask.
    Unused,
    Broken(Error),
}

/// One connection.
struct Session {
    socket: Socket,
    pending: HashMap<Id, oneshot::Sender<Result<Response>>>,
    subscription: Option<SubId>,
    /// The last block that was told, by a push or by a look.
    head: Option<Block>,
    /// A block was pushed after the last look was asked for: what it shows may be older.
    pushed: bool,
    /// When the latest block is to be looked at; while this has a question out, when that is given up.
    look_at: Instant,
    asking: bool,
    quiet: Duration,
    missed: u32,
    secrets: Arc<Secrets>,
    timeout: Duration,
    max_message: usize,
}

impl Task {
    pub(super) fn new(way: Way, commands: mpsc::Receiver<Command>, heads: watch::Sender<Heads>) -> Self {
        let (waiting, random) = (Vec::new(), jitter::seed());
        Self { way, commands, heads, subscribed: false, waiting, pause: PAUSE, random }
    }

    pub(super) async fn run(mut self, socket: Socket) {
        let mut next = Some(socket);
        loop {
            if let Some(socket) = next.take() {
                let opened = Instant::now();
                let end = self.hold(socket).await;
                // One that ends at once may do so again.
                if opened.elapsed() >= LONGEST_PAUSE {
                    self.pause = PAUSE;
                }
                match end {
                    End::Unused => return,
                    End::Broken(error) => self.down(error),
                }
            }
            // An RPC that closes idle connections is left alone until there is something to ask.
            if !self.subscribed && self.waiting.is_empty() {
                match self.commands.recv().await {
                    Some(command) => self.keep(command),
                    None => return,
                }
            }
            if !self.rest().await {
                return;
            }
            match self.way.open().await {
                Ok(socket) => next = Some(socket),
                Err(error) => {
                    while let Ok(command) = self.commands.try_recv() {
                        self.keep(command);
                    }
                    for ask in self.waiting.drain(..) {
                        let _ = ask.reply.send(Err(error.clone()));
                    }
                    self.down(error);
                }
            }
        }
    }

    fn keep(&mut self, command: Command) {
        match command {
            Command::Heads => self.subscribed = true,
            Command::Send(asks) => {
                // Those who asked before may have gone.
                self.waiting.retain(|ask| !ask.reply.is_closed());
                self.waiting.extend(asks);
            }
        }
    }

    fn down(&self, error: Error) {
        self.heads.send_if_modified(|heads| {
            let refused = matches!(heads, Heads::Refused);
            if !refused {
                *heads = Heads::Down(error);
            }
            !refused
        });
    }

    /// The pause before an attempt to connect; false if nobody is left.
    async fn rest(&mut self) -> bool {
        self.random = self.random.wrapping_add(jitter::STEP);
        let until = Instant::now() + self.pause.mul_f64(0.5 + jitter::unit(self.random) / 2.0);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        loop {
            select! {
                () = sleep_until(until) => return true,
                command = self.commands.recv() => match command {
                    Some(command) => self.keep(command),
                    None => return false,
                },
            }
        }
    }

    async fn hold(&mut self, socket: Socket) -> End {
        let mut session = Session {
            socket,
            pending: HashMap::new(),
            subscription: None,
            head: None,
            pushed: false,
            look_at: Instant::now(),
            asking: false,
            quiet: self.way.quiet,
            missed: 0,
            secrets: Arc::new(self.way.secrets.clone()),
            timeout: self.way.timeout,
            max_message: self.way.max_message,
        };
        let end = match self.serve(&mut session).await {
            Ok(()) => End::Unused,
            Err(error) => End::Broken(error),
        };
        if let End::Broken(error) = &end {
            // They are not sent again: one of them may be why it broke. They only read, so whoever asked may ask again.
            for reply in session.pending.into_values() {
                let _ = reply.send(Err(error.clone()));
            }
        } else {
            let _ = timeout(Duration::from_secs(1), session.socket.close(None)).await;
        }
        end
    }

    async fn serve(&mut self, session: &mut Session) -> Result<()> {
        if self.subscribed {
            session.subscribe().await?;
        }
        let waiting = std::mem::take(&mut self.waiting);
        session.send(waiting).await?;
        let mut heard = Instant::now();
        let mut pinged = false;
        loop {
            select! {
                command = self.commands.recv() => match command {
                    None => return Ok(()),
                    Some(Command::Send(asks)) => session.send(asks).await?,
                    Some(Command::Heads) if self.subscribed => {}
                    Some(Command::Heads) => {
                        self.subscribed = true;
                        session.subscribe().await?;
                    }
                },
                message = session.socket.next() => {
                    let message = message.ok_or_else(|| fault::broken("the RPC closed it"))?;
                    let message = message.map_err(|error| match error {
                        tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }) => {
                            fault::too_large(session.max_message)
                        }
                        other => fault::broken(other),
                    })?;
                    (heard, pinged) = (Instant::now(), false);
                    match message {
                        Message::Text(text) => session.take(text.as_bytes(), &self.heads).await?,
                        Message::Binary(bytes) => session.take(&bytes, &self.heads).await?,
                        Message::Close(_) => return Err(fault::broken("the RPC closed it")),
                        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
                    }
                },
                () = sleep_until(heard + if pinged { SILENCE + PONG } else { SILENCE }) => {
                    if pinged {
                        return Err(fault::broken("the RPC is silent"));
                    }
                    pinged = true;
                    // Nobody waits for these any more.
                    session.pending.retain(|_, reply| !reply.is_closed());
                    session.write(vec![Message::Ping(tungstenite::Bytes::new())]).await?;
                },
                // One that answers pings may push nothing any more all the same.
                () = sleep_until(session.look_at), if session.asking || session.subscription.is_some() => {
                    if session.asking {
                        return Err(fault::late(session.timeout));
                    }
                    session.look().await?;
                },
            }
        }
    }
}

impl Session {
    async fn send(&mut self, asks: Vec<Ask>) -> Result<()> {
        let mut messages = Vec::with_capacity(asks.len());
        for Ask { request, reply } in asks {
            if !reply.is_closed() {
                messages.push(Message::text(request.serialized().get()));
                self.pending.insert(request.id().clone(), reply);
            }
        }
        self.write(messages).await
    }

    async fn write(&mut self, messages: Vec<Message>) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        let socket = &mut self.socket;
        let all = async {
            for message in messages {
                socket.feed(message).await?;
            }
            socket.flush().await
        };
        match timeout(self.timeout, all).await {
            Ok(sent) => sent.map_err(fault::broken),
            Err(_) => Err(fault::late(self.timeout)),
        }
    }

    /// A request of the task's own, one at a time.
    async fn ask(&mut self, id: u64, method: &str, params: Value) -> Result<()> {
        (self.asking, self.look_at) = (true, Instant::now() + self.timeout);
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.write(vec![Message::text(request.to_string())]).await
    }

    async fn subscribe(&mut self) -> Result<()> {
        self.ask(SUBSCRIBE, "eth_subscribe", json!(["newHeads"])).await
    }

    /// Asks for the latest block: it may be from before the subscription, or the subscription may be gone.
    async fn look(&mut self) -> Result<()> {
        self.pushed = false;
        self.ask(LATEST, "eth_getBlockByNumber", json!(["latest", false])).await
    }

    /// What came in.
    async fn take(&mut self, raw: &[u8], heads: &watch::Sender<Heads>) -> Result<()> {
        let secrets = Arc::clone(&self.secrets);
        let raw = secrets.hide(raw);
        match serde_json::from_slice(&raw).map_err(|_| fault::not_json(&raw))? {
            PubSubItem::Notification(pushed) => {
                if self.subscription.as_ref() == Some(&pushed.subscription) {
                    (self.pushed, self.missed) = (true, 0);
                    if !self.asking {
                        self.look_at = Instant::now() + self.quiet;
                    }
                    self.tell(convert::head(&pushed.result)?, heads);
                }
                Ok(())
            }
            PubSubItem::Response(Response { id, payload }) => match same(id) {
                Id::Number(SUBSCRIBE) => self.subscribed(payload, heads).await,
                Id::Number(LATEST) => self.latest(payload, heads),
                // It could not read what it was asked, so it cannot say what that was: all the same for all.
                Id::None => {
                    if let ResponsePayload::Failure(error) = &payload {
                        for (_, reply) in self.pending.drain() {
                            let _ = reply.send(Err(fault::said(error)));
                        }
                    }
                    Ok(())
                }
                id => {
                    if let Some(reply) = self.pending.remove(&id) {
                        let _ = reply.send(Ok(Response { id, payload }));
                    }
                    Ok(())
                }
            },
        }
    }

    async fn subscribed(&mut self, payload: ResponsePayload, heads: &watch::Sender<Heads>) -> Result<()> {
        match payload {
            ResponsePayload::Success(raw) => {
                let id = serde_json::from_str(raw.get());
                self.subscription = Some(id.map_err(|_| fault::nonsense("the RPC's subscription has no id"))?);
                self.look().await
            }
            ResponsePayload::Failure(error) if fault::is_limit(&error) => Err(fault::said(&error)),
            ResponsePayload::Failure(_) => {
                self.asking = false;
                heads.send_replace(Heads::Refused);
                Ok(())
            }
        }
    }

    fn latest(&mut self, payload: ResponsePayload, heads: &watch::Sender<Heads>) -> Result<()> {
        (self.asking, self.look_at) = (false, Instant::now() + self.quiet);
        let raw = match payload {
            ResponsePayload::Success(raw) => raw,
            // One look less.
            ResponsePayload::Failure(_) if self.head.is_some() => return Ok(()),
            ResponsePayload::Failure(error) => return Err(fault::said(&error)),
        };
        let block = convert::head(&raw)?;
        if self.pushed || self.head.is_some_and(|head| head.hash == block.hash) {
            return Ok(());
        }
        self.missed += u32::from(self.head.is_some());
        let dropped = self.missed >= MISSED;
        if dropped || self.head.is_none_or(|head| head.number <= block.number) {
            self.tell(block, heads);
        }
        if dropped { Err(fault::broken("the RPC does not push blocks any more")) } else { Ok(()) }
    }

    fn tell(&mut self, block: Block, heads: &watch::Sender<Heads>) {
        self.head = Some(block);
        heads.send_replace(Heads::At(block));
    }
}
