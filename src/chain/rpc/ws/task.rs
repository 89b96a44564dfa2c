//! The task that holds the connection: sends, gives answers to their questions, keeps the subscription, opens the
//! connection again.

use std::{collections::HashMap, sync::Arc, time::Duration};

use alloy_json_rpc::{Id, PubSubItem, Response, ResponsePayload};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::{
    select,
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::{self, Message, error::CapacityError};

use super::{
    super::{fault, packet, round::same, secrets::Secrets},
    messages::{Command, Pushes, WsRequest},
    open::{Socket, Way},
};
use crate::{
    backoff::{Backoff, Jitter, Random},
    error::{Error, Result},
};

/// How long a connection may be silent before it is pinged, and how long the pong may take.
const SILENCE: Duration = Duration::from_secs(15);
const PONG: Duration = Duration::from_secs(10);

/// The pauses between attempts to connect.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), LONGEST_PAUSE, Jitter::Equal);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The id of the task's own request: beyond what a reader counts up to, and below what JavaScript still counts exactly.
const SUBSCRIBE: u64 = (1 << 52) + 1;

pub(super) struct Task {
    way: Arc<Way>,
    commands: mpsc::Receiver<Command>,
    news: watch::Sender<Pushes>,
    subscribed: bool,
    /// What came while there was no connection.
    waiting: Vec<WsRequest>,
    /// Attempts to connect since a connection lasted.
    attempts: u32,
    random: Random,
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
    /// Since when something was asked and nothing said.
    unanswered: Option<Instant>,
    secrets: Arc<Secrets>,
    timeout: Duration,
    max_message: usize,
}

impl Task {
    pub(super) fn new(way: Arc<Way>, commands: mpsc::Receiver<Command>, news: watch::Sender<Pushes>) -> Self {
        Self { way, commands, news, subscribed: false, waiting: Vec::new(), attempts: 0, random: Random::default() }
    }

    /// Begins with this connection, or opens one once there is something to ask.
    pub(super) async fn run(mut self, mut next: Option<Socket>) {
        let mut opened_before = next.is_some();
        loop {
            if let Some(socket) = next.take() {
                let opened = Instant::now();
                let end = self.hold(socket).await;
                // One that ends at once may do so again.
                if opened.elapsed() >= LONGEST_PAUSE {
                    self.attempts = 0;
                }
                if let End::Unused = end {
                    return;
                }
                self.down();
            }
            // An RPC that closes idle connections is left alone until there is something to ask.
            if self.waiting.is_empty() {
                match self.commands.recv().await {
                    Some(command) => self.keep(command),
                    None => return,
                }
            }
            if std::mem::replace(&mut opened_before, true) && !self.rest().await {
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
                    self.down();
                }
            }
        }
    }

    fn keep(&mut self, command: Command) {
        match command {
            Command::Subscribe => self.subscribed = true,
            Command::Renew => {}
            Command::Send(asks) => {
                // Those who asked before may have gone.
                self.waiting.retain(|ask| !ask.reply.is_closed());
                self.waiting.extend(asks);
            }
        }
    }

    /// Whoever waits for blocks may have missed one, and looks.
    fn down(&self) {
        self.news.send_modify(|news| *news = Pushes { count: news.count + 1, pushing: false });
    }

    /// The pause before an attempt to connect; false if nobody is left.
    async fn rest(&mut self) -> bool {
        self.attempts = self.attempts.saturating_add(1);
        let until = Instant::now() + PAUSES.pause(self.attempts, &self.random);
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
            unanswered: None,
            secrets: Arc::new(self.way.credentials.secrets.clone()),
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
                    Some(Command::Subscribe) if self.subscribed => {}
                    Some(Command::Subscribe) => {
                        self.subscribed = true;
                        session.subscribe().await?;
                    }
                    Some(Command::Renew) => return Err(fault::broken("the RPC does not push blocks any more")),
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
                        Message::Text(text) => session.take(text.as_bytes(), &self.news)?,
                        Message::Binary(bytes) => session.take(&bytes, &self.news)?,
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
                // One that answers pings may answer nothing else.
                () = sleep_until(session.unanswered.unwrap_or(heard) + session.timeout), if session.unanswered.is_some() => {
                    return Err(fault::late(session.timeout));
                },
            }
        }
    }
}

impl Session {
    async fn send(&mut self, asks: Vec<WsRequest>) -> Result<()> {
        let mut messages = Vec::with_capacity(asks.len());
        for WsRequest { request, reply } in asks {
            if !reply.is_closed() {
                messages.push(Message::text(request.serialized().get()));
                self.pending.insert(request.id().clone(), reply);
            }
        }
        self.ask(messages).await
    }

    async fn subscribe(&mut self) -> Result<()> {
        let request = json!({ "jsonrpc": "2.0", "id": SUBSCRIBE, "method": "eth_subscribe", "params": ["newHeads"] });
        self.ask(vec![Message::text(request.to_string())]).await
    }

    async fn ask(&mut self, messages: Vec<Message>) -> Result<()> {
        if !messages.is_empty() {
            self.unanswered.get_or_insert_with(Instant::now);
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

    /// What came in.
    fn take(&mut self, raw: &[u8], news: &watch::Sender<Pushes>) -> Result<()> {
        let item = serde_json::from_slice(raw).ok();
        let item = item.or_else(|| packet::response(raw).map(PubSubItem::Response));
        let mut item = item.ok_or_else(|| fault::not_json(&self.secrets.hide(raw)))?;
        if let PubSubItem::Response(answer) = &mut item {
            self.secrets.hide_in(answer);
        }
        self.unanswered = None;
        match item {
            // There is one subscription, and what it tells is only that there is something to look at.
            PubSubItem::Notification(_) => news.send_modify(|news| news.count += 1),
            PubSubItem::Response(Response { id, payload }) => match same(id) {
                // What is asked on this connection from now on comes after it.
                Id::Number(SUBSCRIBE) => news.send_modify(|news| {
                    (news.count, news.pushing) = (news.count.max(1), payload.is_success());
                }),
                // It could not read what it was asked, so it cannot say what that was: all the same for all.
                Id::None => {
                    if let ResponsePayload::Failure(error) = &payload {
                        for (_, reply) in self.pending.drain() {
                            let _ = reply.send(Err(fault::said(error)));
                        }
                    }
                }
                id => {
                    if let Some(reply) = self.pending.remove(&id) {
                        let _ = reply.send(Ok(Response { id, payload }));
                    }
                }
            },
        }
        self.pending.retain(|_, reply| !reply.is_closed());
        if !self.pending.is_empty() {
            self.unanswered = Some(Instant::now());
        }
        Ok(())
    }
}
