//! An app server, as a service holds it.

use std::{fmt, sync::Arc};

use infinityvm_stf::StateTransition;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Duration, timeout},
};

use super::{
    answer::Asked,
    core::{AppCommand, AppSession, Core, Phase},
    reading::live_batches,
    status::{AppStatus, BatchStatus, ChainInputsStatus, JournalEntry, batch_status},
    stop::AppState,
};
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    outbox::store::journal::{BatchRow, BatchStage},
    watch::Until,
};

/// Entries of [`AppServer::answers_since`], at most.
const PAGE: u32 = 1_000;
/// How long a server that is to end may take for what it is at.
const WIND_UP: Duration = Duration::from_secs(1);

/// A server that answers requests in real time, and proves its answers in batches: see the [module](super).
///
/// Cheap to clone. Its tasks end when the last clone is dropped, or with [`drain`](Self::drain); whatever is left is
/// gone on with at the next start.
pub struct AppServer<S: StateTransition>(Arc<Inner<S>>);

struct Inner<S: StateTransition> {
    core: Arc<Core<S>>,
    commands: mpsc::Sender<AppCommand<S>>,
    phase: watch::Sender<Phase>,
}

impl<S: StateTransition> Clone for AppServer<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: StateTransition> fmt::Debug for AppServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppServer")
            .field("name", &self.0.core.name)
            .field("consumer", &self.0.core.lane.config().consumer())
            .field("state", &*self.0.core.state.borrow())
            .finish_non_exhaustive()
    }
}

impl<S: StateTransition> AppServer<S> {
    pub(super) fn of(core: Arc<Core<S>>, commands: mpsc::Sender<AppCommand<S>>, phase: watch::Sender<Phase>) -> Self {
        Self(Arc::new(Inner { core, commands, phase }))
    }

    pub(super) async fn ask(&self, asked: Asked<S>) -> Result<()> {
        if let Some(refusal) = self.0.core.refusal() {
            return Err(refusal);
        }
        self.0.commands.send(AppCommand::Request(asked)).await.map_err(|_| ended())
    }

    /// Looks at the state: of everything that is durable, and of nothing that is not. Whoever has an answer sees what
    /// the request did. The server goes on meanwhile, however long `look` takes; other reads that come then may wait.
    ///
    /// A read makes a copy of the state, which is kept for the next one, until 8,192 requests came without any.
    ///
    /// # Errors
    /// Those of [`request`](Self::request) about a server that does not answer. One that has stopped still shows what
    /// was durable then, if there is a copy from a read before.
    pub async fn read<T>(&self, look: impl FnOnce(&S) -> T + Send) -> Result<T> {
        loop {
            let session = self.session()?;
            if let Some(session) = &session {
                let mut shown = session.shown.write().await;
                if let Some(shown) = shown.as_mut() {
                    session.catch_up(shown);
                }
                let shown = shown.downgrade();
                if let Some(shown) = &*shown {
                    return Ok(look(&shown.state));
                }
            }
            let (reply, done) = oneshot::channel();
            self.0.commands.send(AppCommand::Show(reply)).await.map_err(|_| ended())?;
            done.await.map_err(|_| ended())??;
        }
    }

    fn session(&self) -> Result<Option<Arc<AppSession<S>>>> {
        let session = self.0.core.session.lock().clone();
        match (&session, self.0.core.refusal()) {
            (None, Some(refusal)) => Err(refusal),
            _ => Ok(session),
        }
    }

    /// Waits until the request's batch is so far: its program was run and its root compared
    /// ([`Until::Executed`]), its result is on chain ([`Until::Relayed`]), or it has so many confirmations
    /// ([`Until::Finalized`]; counted up to as many as make the outbox's lane final).
    ///
    /// Cancel safety: it only waits.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`] if there is no answer at this place,
    /// - [`ErrorKind::JobFailed`] if the request was given up by
    ///   [`AppServerBuilder::rechain`](super::AppServerBuilder::rechain),
    /// - [`ErrorKind::Stopped`] if the server has stopped, and [`ErrorKind::Closed`] if it has ended, before the batch
    ///   was so far.
    pub async fn settled(&self, place: u64, until: Until) -> Result<()> {
        let core = &self.0.core;
        let mut tick = core.tick.subscribe();
        loop {
            tick.borrow_and_update();
            let session = self.session()?;
            if let Some(session) = session {
                if place == 0 || place > session.durable.lock().place {
                    let error = Error::new(ErrorKind::NotFound, format!("no request has the place {place}"));
                    return Err(error.with_hint("take the place of an answer"));
                }
                if session.given_up.iter().any(|given_up| given_up.contains(&place)) {
                    let what = format!("the request at place {place} was given up: the app went on from another state");
                    let error = Error::new(ErrorKind::JobFailed, what).with_outcome(Outcome::Accepted);
                    return Err(error.with_hint("its answer will never be proven; ask anew, under another key"));
                }
                if place <= session.final_place() || reached(&session, place, until) {
                    return Ok(());
                }
            }
            match &*core.state.borrow() {
                AppState::Stopped(stop) => return Err(stop.error().with_outcome(Outcome::Accepted)),
                AppState::Ended => return Err(ended().with_outcome(Outcome::Accepted)),
                _ => {}
            }
            if tick.changed().await.is_err() {
                return Err(ended().with_outcome(Outcome::Accepted));
            }
        }
    }

    /// How the server stands now.
    #[must_use]
    pub fn state(&self) -> AppState {
        self.0.core.state.borrow().clone()
    }

    /// Every state from now on, beginning with the present one. A state that passes quickly may be left out.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<AppState> {
        self.0.core.state.subscribe()
    }

    /// How the server and its batches stand, as a value that serialises.
    ///
    /// # Errors
    /// [`ErrorKind::Store`] if the journal cannot be read.
    pub async fn status(&self) -> Result<AppStatus> {
        let core = &self.0.core;
        let row = core.lane.journal().app(core.lane.id()).await?;
        let session = core.session.lock().clone();
        let (batches, waiting, final_place) = match session {
            Some(session) => {
                let batches = session.batches.lock().values().map(batch_status).collect();
                (batches, session.queue.lock().len() as u64, session.final_place())
            }
            // Another instance answers, or it has stopped before it answered: as the journal has it.
            None => {
                let all = live_batches(core).await?;
                let over = |batch: &&BatchRow| batch.stage == BatchStage::Final;
                let settled = all.values().filter(over).map(|batch| batch.last).max().unwrap_or(0);
                let (last, batched, trimmed) =
                    row.as_ref().map_or((0, 0, 0), |row| (row.last_place, row.batched, row.trimmed));
                let open = all.values().filter(|batch| !over(batch)).map(batch_status).collect();
                (open, last - batched, settled.max(trimmed))
            }
        };
        let leader = core.lane.leader().await?;
        Ok(AppStatus {
            name: core.name.clone(),
            consumer: core.lane.config().consumer(),
            state: self.state(),
            todo: match &self.state() {
                AppState::Stopped(stop) => Some(stop.what_to_do().to_owned()),
                _ => None,
            },
            leader,
            last_place: row.as_ref().map_or(0, |row| row.last_place),
            root: row.as_ref().map_or(core.initial_root, |row| row.root),
            batched: row.as_ref().map_or(0, |row| row.batched),
            waiting,
            final_place,
            batches,
            chain_inputs: core.inputs.as_ref().map(|inputs| {
                let read = row.as_ref().and_then(|row| row.cursor).and_then(|cursor| cursor.whole_block());
                ChainInputsStatus::new(core.followed.lock().clone(), read, inputs.first())
            }),
            alarm: core.alarm.lock().clone(),
        })
    }

    /// What was answered beyond a place, in its order, up to 1,000 requests: after [`AppStop::RootDiffers`] those from
    /// its first place on are not proven. What is final may be gone.
    ///
    /// # Errors
    /// [`ErrorKind::Store`] if the journal cannot be read.
    ///
    /// [`AppStop::RootDiffers`]: super::AppStop::RootDiffers
    pub async fn answers_since(&self, place: u64) -> Result<Vec<JournalEntry>> {
        let core = &self.0.core;
        let entries = core.lane.journal().entries(core.lane.id(), place, PAGE).await?;
        Ok(entries.into_iter().map(JournalEntry::from).collect())
    }

    /// The batch of a request, as long as it is not final.
    #[must_use]
    pub fn batch(&self, place: u64) -> Option<BatchStatus> {
        let session = self.0.core.session.lock().clone()?;
        let batches = session.batches.lock();
        batches.values().find(|batch| (batch.first..=batch.last).contains(&place)).map(batch_status)
    }

    /// Ends the server: it takes no more requests, and what it has answered is brought on chain, but for no longer than
    /// this, and up to a second for what is being written then. Nothing is lost: the next start goes on with what is
    /// left. [Drain](crate::outbox::Outbox::drain) the outbox afterwards.
    ///
    /// # Errors
    /// [`ErrorKind::Store`] if it cannot be read what is left. The server has ended even so.
    pub async fn drain(&self, deadline: Duration) -> Result<AppStatus> {
        let core = &self.0.core;
        self.0.phase.send_if_modified(|phase| {
            let running = *phase == Phase::Running;
            if running {
                *phase = Phase::Draining;
            }
            running
        });
        if matches!(self.state(), AppState::Answering | AppState::Starting) {
            core.set_state(AppState::Draining);
        }
        let mut states = core.state.subscribe();
        let over = |state: &AppState| matches!(state, AppState::Ended | AppState::Stopped(_));
        _ = timeout(deadline, states.wait_for(over)).await;
        self.0.phase.send_replace(Phase::Ended);
        _ = timeout(WIND_UP, self.0.commands.closed()).await;
        self.status().await
    }
}

/// Whether the batch of a place is so far.
fn reached<S: StateTransition>(session: &AppSession<S>, place: u64, until: Until) -> bool {
    let needed = match until {
        Until::Executed => BatchStage::Executed,
        Until::Relayed => BatchStage::Settled,
        _ => BatchStage::Final,
    };
    let batches = session.batches.lock();
    batches.values().any(|batch| (batch.first..=batch.last).contains(&place) && batch.stage >= needed)
}

fn ended() -> Error {
    Error::new(ErrorKind::Closed, "the server has ended").with_outcome(Outcome::NotSent)
}
