//! The task that follows the chain's logs: what is for the app goes to the writer, in the order of all requests.
//!
//! The journal has, in one commit, the requests of some logs and the cursor behind them. So a log is carried out once,
//! whatever ends in between: the cursor says what was, and each feed says behind which cursor it belongs. Where nothing
//! is for the app, the cursor moves here, and in the journal now and then.

use std::{sync::Arc, time::Duration};

use infinityvm_stf::StateTransition;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    core::{AppCommand, AppSession, Core, End, LogFeed, Phase},
    inputs::{ChainInputs, FedLog},
    stop::{AppState, AppStop},
};
use crate::{
    backoff::{Backoff, Jitter, Random},
    chain::{Block, Chain, ChainDepth, FollowedContract, FollowedLogs, Log, ReadBlock, followed_logs},
    error::Error,
    outbox::store::journal::LogCursor,
};

/// Requests that are handed over at once, at most.
const FED: usize = 256;
/// Between two looks at a chain that shows nothing new, at least and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));
/// How often it is written that there was nothing, at most.
const IDLE: Duration = Duration::from_secs(10);
/// Looks in a row that show another block in the place of the cursor's before it is believed, and the time in between.
const REPLACED: (u32, Duration) = (3, Duration::from_millis(500));
/// After a look that failed.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(15), Jitter::Equal);

pub(super) struct LogFollower<S: StateTransition> {
    core: Arc<Core<S>>,
    session: Arc<AppSession<S>>,
    inputs: Arc<ChainInputs<S>>,
    chain: Chain,
    contract: FollowedContract,
    commands: mpsc::WeakSender<AppCommand<S>>,
    /// As the journal has it.
    written: Option<LogCursor>,
    written_at: Option<Instant>,
    /// Up to where it was read; behind the journal's cursor there is nothing for the app.
    read: Option<LogCursor>,
    failures: u32,
    replaced: u32,
    random: Random,
}

impl<S: StateTransition> LogFollower<S> {
    /// Nothing if the server follows no logs.
    pub(super) fn new(
        core: &Arc<Core<S>>,
        session: &Arc<AppSession<S>>,
        commands: mpsc::WeakSender<AppCommand<S>>,
    ) -> Option<Self> {
        let inputs = Arc::clone(core.inputs.as_ref()?);
        let chain = core.lane.client().chain()?.clone();
        let contract = inputs.followed(core.lane.config().consumer());
        let written = session.durable.lock().cursor;
        Some(Self {
            core: Arc::clone(core),
            session: Arc::clone(session),
            inputs,
            chain,
            contract,
            commands,
            written,
            written_at: None,
            read: written,
            failures: 0,
            replaced: 0,
            random: Random::default(),
        })
    }

    /// Until it is told to stop, the server takes no more requests, or it cannot go on.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>, mut phase: watch::Receiver<Phase>) -> End {
        // What it was at, the journal tells the next one.
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => End::Closed,
            _ = phase.wait_for(|phase| *phase != Phase::Running) => End::Closed,
            end = self.go() => end,
        }
    }

    async fn go(&mut self) -> End {
        let mut states = self.core.state.subscribe();
        loop {
            // While the server does not answer, the writer takes nothing.
            if states.wait_for(|state| *state == AppState::Answering).await.is_err() {
                return End::Closed;
            }
            if let Err(end) = self.step().await {
                return end;
            }
        }
    }

    async fn step(&mut self) -> Result<(), End> {
        let (from, known) = match self.read {
            Some(cursor) => {
                let known = ReadBlock { number: cursor.block, hash: cursor.block_hash };
                (cursor.whole_block().map_or(0, |whole| whole.saturating_add(1)), Some(known))
            }
            None => (self.inputs.first(), None),
        };
        match followed_logs(&self.chain, &self.contract, from, known).await {
            Ok(FollowedLogs::Replaced { found }) => return self.replaced(found).await,
            Ok(FollowedLogs::Read { logs, to, depth }) => {
                self.looked(depth);
                self.feed(logs, to).await?;
                self.tell();
            }
            Ok(FollowedLogs::Nothing { depth }) => {
                self.looked(depth);
                self.tell();
                sleep(LOOKS.0).await;
                let head = self.chain.reader().next_head(Some(depth.head.hash));
                if let Ok(Err(error)) = timeout(LOOKS.1, head).await {
                    self.failed(error).await;
                }
            }
            Err(error) => self.failed(error).await,
        }
        Ok(())
    }

    fn looked(&mut self, depth: ChainDepth) {
        (self.failures, self.replaced) = (0, 0);
        let mut seen = self.core.followed.lock();
        (seen.head, seen.deep, seen.trouble) = (Some(depth.head.number), depth.deep, None);
    }

    fn tell(&self) {
        self.core.followed.lock().read = self.read.and_then(|cursor| cursor.whole_block());
    }

    /// Whatever it was: it is tried again, and shown meanwhile.
    async fn failed(&mut self, error: Error) {
        self.failures += 1;
        self.core.followed.lock().trouble = Some(error.to_string());
        let pause = PAUSES.pause(self.failures, &self.random);
        sleep(error.retry_after().map_or(pause, |asked| asked.max(pause))).await;
    }

    /// The cursor's block is another one now.
    async fn replaced(&mut self, found: alloy_primitives::B256) -> Result<(), End> {
        if self.read != self.written {
            // The app was told nothing of these blocks.
            self.read = self.written;
            return Ok(());
        }
        self.replaced += 1;
        if self.replaced < REPLACED.0 {
            sleep(REPLACED.1).await;
            return Ok(());
        }
        let Some(LogCursor { block, block_hash: expected, .. }) = self.read else { return Ok(()) };
        Err(End::Stop(AppStop::Reorganised { block, expected, found }))
    }

    /// Hands over what is for the app, with the cursor behind it.
    async fn feed(&mut self, logs: Vec<Log>, to: Block) -> Result<(), End> {
        let mut fed = Vec::new();
        for log in &logs {
            let index = log.index.unwrap_or_default();
            if self.read.is_some_and(|read| (log.block_number, index) <= (read.block, read.log_index)) {
                continue;
            }
            let Some(request) = self.inputs.request(log, index).map_err(End::Stop)? else { continue };
            fed.push(request);
            if fed.len() == FED {
                let cursor = LogCursor { block: log.block_number, block_hash: log.block_hash, log_index: index };
                if !self.hand_over(std::mem::take(&mut fed), cursor).await? {
                    return Ok(());
                }
            }
        }
        let cursor = LogCursor { block: to.number, block_hash: to.hash, log_index: LogCursor::WHOLE };
        if fed.is_empty() && self.written_at.is_some_and(|at| at.elapsed() < IDLE) {
            self.read = Some(cursor);
            return Ok(());
        }
        self.hand_over(fed, cursor).await.map(drop)
    }

    /// False if the journal does not have it, as far as is known here.
    async fn hand_over(&mut self, logs: Vec<FedLog<S>>, cursor: LogCursor) -> Result<bool, End> {
        self.core.points.pass("app_before_fed");
        let (reply, written) = oneshot::channel();
        let feed = LogFeed { logs, after: self.written, cursor, reply };
        let Some(commands) = self.commands.upgrade() else { return Err(End::Closed) };
        let sent = commands.send(AppCommand::Logs(feed)).await;
        drop(commands);
        if sent.is_err() {
            return Err(End::Closed);
        }
        if let Ok(Ok(())) = written.await {
            self.core.points.pass("app_fed");
            (self.written, self.read, self.written_at) = (Some(cursor), Some(cursor), Some(Instant::now()));
            return Ok(true);
        }
        // The journal knows how far it is. If it is read again meanwhile, another one than this goes on from there.
        self.written = self.session.durable.lock().cursor;
        self.read = self.written;
        self.failures += 1;
        sleep(PAUSES.pause(self.failures, &self.random)).await;
        Ok(false)
    }
}
