//! The one task that carries out requests: in their order, many to a commit, and each is answered once it is durable.

use std::{collections::HashMap, sync::Arc, time::Duration};

use alloy_primitives::Bytes;
use infinityvm_stf::{Context, Cost, StateTransition};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    answer::{Asked, RawAnswer},
    core::{AppCommand, AppSession, Core, End, LogFeed},
    cut::{BatchRoom, QueuedRequest},
    doubt::is_there,
    group::{Group, answer, not_carried_out, refuse},
    inputs::FedLog,
    machine::{self, Machine, guarded},
    reading::{NotOpened, for_each},
    stop::AppStop,
};
use crate::{
    backoff::{Backoff, Jitter, Random},
    error::{Error, ErrorKind, Outcome, Result},
    outbox::{
        gather::Gathering,
        store::journal::{EntryKey, EntryOutcome, EntrySource, JournalAct, Journaled, KeyedAnswer, NewEntry},
    },
};

/// Requests in a commit, at most.
const GROUP: usize = 256;
/// Requests without a read, after which the state for reads is let go; the next read makes it again.
const UNREAD: usize = 8_192;
/// Before the journal is written again, where that may succeed.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1), Jitter::Equal);

pub(super) struct RequestWriter<S: StateTransition> {
    core: Arc<Core<S>>,
    session: Arc<AppSession<S>>,
    /// What answers: the state after everything that was carried out, durable or not.
    live: Machine<S>,
    time: u64,
    /// What fits into a batch that begins with the state that answers.
    room: BatchRoom,
    /// Told once the server is to end.
    stop: Option<watch::Receiver<bool>>,
    random: Random,
}

impl<S: StateTransition> RequestWriter<S> {
    pub(super) fn new(core: Arc<Core<S>>, session: Arc<AppSession<S>>, live: Machine<S>) -> Self {
        let (time, room) = (session.durable.lock().time, *session.room.lock());
        Self { core, session, live, time, room, stop: None, random: Random::default() }
    }

    /// Until the commands end, it is told to stop, or it cannot go on. Gives the commands back.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<AppCommand<S>>,
        mut stop: watch::Receiver<bool>,
    ) -> (mpsc::Receiver<AppCommand<S>>, End) {
        let (mut inbox, mut gathering) = (Vec::with_capacity(GROUP), Gathering::default());
        self.stop = Some(stop.clone());
        loop {
            let received = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return (commands, End::Closed),
                received = commands.recv_many(&mut inbox, GROUP) => received,
            };
            if received == 0 {
                return (commands, End::Closed);
            }
            let (mut group, mut shows) = (Group::default(), Vec::new());
            let (mut round, mut room) = (gathering.round(received), GROUP - received);
            // What has come is carried out while those who were just answered ask again.
            loop {
                if let Err(end) = self.take(&mut inbox, &mut group, &mut shows).await {
                    let error = not_carried_out(&end);
                    group.fail(&error);
                    refuse(shows, &error);
                    return (commands, end);
                }
                let take = || {
                    inbox.extend(std::iter::from_fn(|| commands.try_recv().ok()).take(room));
                    inbox.len()
                };
                if room == 0 || !round.more(take).await {
                    break;
                }
                room -= inbox.len();
            }
            drop(round);
            if let Err(end) = self.commit(group, shows).await {
                return (commands, end);
            }
        }
    }

    /// Carries out what has come, as the last of the group.
    async fn take(
        &mut self,
        inbox: &mut Vec<AppCommand<S>>,
        group: &mut Group<S>,
        shows: &mut Vec<oneshot::Sender<Result<()>>>,
    ) -> std::result::Result<(), End> {
        // What came in before it was known that something is wrong.
        let refusal = self.core.refusal().filter(|refusal| refusal.kind() == ErrorKind::Stopped);
        let known = match refusal {
            Some(refusal) => Err(refusal),
            None => self.known(inbox).await.map_err(|error| error.with_outcome(Outcome::NotSent)),
        };
        let known = match known {
            Ok(known) => known,
            Err(error) => {
                inbox.drain(..).for_each(|command| command.refuse(&error));
                return Ok(());
            }
        };
        self.measure();
        let mut taken = inbox.drain(..);
        while let Some(command) = taken.next() {
            let done = match command {
                AppCommand::Request(asked) => self.request(group, asked, &known).await,
                AppCommand::Logs(feed) => self.logs(group, feed).await,
                AppCommand::Show(reply) => {
                    shows.push(reply);
                    Ok(())
                }
            };
            if let Err(end) = done {
                let error = not_carried_out(&end);
                taken.for_each(|command| command.refuse(&error));
                return Err(end);
            }
        }
        Ok(())
    }

    /// The state grows, and with it what a batch costs before its first request. Told anew for each group only, as it
    /// may take the app a while.
    fn measure(&mut self) {
        if let Ok(overhead) = guarded(|| self.live.state.overhead()) {
            self.room = self.room.with_overhead(overhead);
        }
    }

    /// Writes the group, and then answers.
    async fn commit(
        &mut self,
        group: Group<S>,
        shows: Vec<oneshot::Sender<Result<()>>>,
    ) -> std::result::Result<(), End> {
        self.core.points.pass("app_applied");
        if let Err(end) = self.write(group).await {
            refuse(shows, &not_carried_out(&end));
            return Err(end);
        }
        for reply in shows {
            let shown = self.show();
            _ = reply.send(shown);
        }
        Ok(())
    }

    /// The answers that there are under the keys of these requests.
    async fn known(&self, inbox: &[AppCommand<S>]) -> Result<HashMap<String, KeyedAnswer>> {
        let keys = inbox.iter().filter_map(|command| match command {
            AppCommand::Request(asked) => asked.key.as_ref().map(|key| key.key.clone()),
            _ => None,
        });
        let keys: Vec<_> = keys.collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let answers = self.core.lane.journal().by_keys(self.core.lane.id(), keys).await?;
        Ok(answers.into_iter().map(|answer| (answer.key.key.clone(), answer)).collect())
    }

    async fn request(
        &mut self,
        group: &mut Group<S>,
        asked: Asked<S>,
        known: &HashMap<String, KeyedAnswer>,
    ) -> std::result::Result<(), End> {
        let Asked { request, bytes, key, reply } = asked;
        if let Some(EntryKey { key, digest }) = &key {
            let before = match (group.keys.get(key), known.get(key)) {
                (Some((digest, raw)), _) => Some((*digest, RawAnswer { repeated: true, ..raw.clone() })),
                (None, Some(known)) => {
                    let KeyedAnswer { place, time, outcome, answer, .. } = known.clone();
                    Some((known.key.digest, RawAnswer { place, time, outcome, answer, repeated: true }))
                }
                (None, None) => None,
            };
            match before {
                Some((before, raw)) if before == *digest => {
                    group.replies.push((reply, Ok(raw)));
                    return Ok(());
                }
                Some((_, raw)) => {
                    let what = format!("another request has the key {key:?}: the one at place {}", raw.place);
                    let error = Error::new(ErrorKind::InvalidInput, what)
                        .with_outcome(Outcome::NotSent)
                        .with_hint("a key stands for one request: ask the same again, or take another key");
                    // The other one may be of this group.
                    group.replies.push((reply, Err(error)));
                    return Ok(());
                }
                None => {}
            }
        }
        let cost = match self.fit(&request, BatchRoom::fits) {
            Ok(cost) => cost,
            Err(error) => {
                _ = reply.send(Err(error));
                return Ok(());
            }
        };
        let known_as = key.as_ref().map(|key| (key.key.clone(), key.digest));
        let raw = match self.apply(group, request, bytes, cost, key, EntrySource::Request).await {
            Ok(raw) => raw,
            Err(end) => {
                _ = reply.send(Err(not_carried_out(&end)));
                return Err(end);
            }
        };
        if let Some((key, digest)) = known_as {
            group.keys.insert(key, (digest, raw.clone()));
        }
        group.replies.push((reply, Ok(raw)));
        Ok(())
    }

    /// What a request costs, if there is a place for it: `takes` says so.
    fn fit(&self, request: &S::Request, takes: impl Fn(&BatchRoom, Cost) -> bool) -> Result<Cost> {
        let cost = guarded(|| self.live.state.cost(request)).map_err(|panic| {
            Error::new(ErrorKind::InvalidInput, format!("the app panicked over what the request costs: {panic}"))
                .with_outcome(Outcome::NotSent)
        })?;
        if takes(&self.room, cost) {
            return Ok(cost);
        }
        let what = format!("the request fits no batch: it takes {cost:?}, and there is room for {:?}", self.room);
        Err(Error::new(ErrorKind::TooLarge, what).with_outcome(Outcome::NotSent).with_hint(
            "ask for less at once; or raise BatchPolicy's cycles, gas and limits, if the node and the chain take more",
        ))
    }

    /// Carries out a request, as the last of the group.
    async fn apply(
        &mut self,
        group: &mut Group<S>,
        request: S::Request,
        bytes: Bytes,
        cost: Cost,
        key: Option<EntryKey>,
        source: EntrySource,
    ) -> std::result::Result<RawAnswer, End> {
        self.time = self.time.max(self.core.lane.now());
        let context = Context { place: self.live.place + 1, time: self.time, source: machine::source(source) };
        let applied = self.live.apply(&request, &context);
        let refused = applied.outcome == EntryOutcome::Refused;
        let (place, time, outcome, answer) = (context.place, context.time, applied.outcome, applied.answer.clone());
        let (request_bytes, root) = (bytes, applied.root);
        group.entries.push(NewEntry {
            key,
            time,
            source,
            request: request_bytes,
            outcome,
            answer: applied.answer,
            root,
        });
        group.done.push((context, request, (!refused).then_some(cost)));
        if refused {
            self.rebuild(group).await?;
        }
        Ok(RawAnswer { place, time, outcome, answer, repeated: false })
    }

    /// Builds the state anew without the request that spoiled it: from the last batch, the journal, and the group.
    async fn rebuild(&mut self, group: &Group<S>) -> std::result::Result<(), End> {
        let place = self.live.place;
        let mut live = self.session.base.lock().await.again().map_err(End::Stop)?;
        let beyond = live.place;
        let replayed = for_each(
            &self.core,
            beyond,
            |_| true,
            |entry| {
                if !machine::counts(entry) {
                    return Ok(());
                }
                live.replay(entry, &machine::request::<S>(entry)?, false)
            },
        );
        replayed.await.map_err(|error| match error {
            NotOpened::Stop(stop) => End::Stop(stop),
            NotOpened::Fenced => End::Fenced,
            NotOpened::Failed(error) if error.is_retryable() => End::Reopen,
            NotOpened::Failed(error) => End::Stop(AppStop::journal(&error)),
        })?;
        for ((context, request, cost), entry) in group.done.iter().zip(&group.entries) {
            if cost.is_some() && live.apply(request, context).outcome != entry.outcome {
                let note = "a request that was carried out before is not any more".to_owned();
                return Err(End::Stop(AppStop::NotDeterministic { place: context.place, note }));
            }
        }
        let root = guarded(|| live.state.root());
        let expected = group.entries.last().map_or(live.root, |entry| entry.root);
        if root != Ok(expected.0) {
            let note = "after a request that was refused, the state has another root".to_owned();
            return Err(End::Stop(AppStop::NotDeterministic { place, note }));
        }
        (live.place, live.root) = (place, expected);
        self.live = live;
        Ok(())
    }

    /// Takes in a log that cannot be carried out, as refused.
    fn pass_over(&mut self, group: &mut Group<S>, request: S::Request, bytes: Bytes, source: EntrySource, why: &Error) {
        self.time = self.time.max(self.core.lane.now());
        let context = Context { place: self.live.place + 1, time: self.time, source: machine::source(source) };
        self.live.place = context.place;
        let (time, root) = (self.time, self.live.root);
        let (outcome, answer) = (EntryOutcome::Refused, why.to_string().into_bytes().into());
        group.entries.push(NewEntry { key: None, time, source, request: bytes, outcome, answer, root });
        group.done.push((context, request, None));
    }

    async fn logs(&mut self, group: &mut Group<S>, feed: LogFeed<S>) -> std::result::Result<(), End> {
        let LogFeed { logs, after, cursor, reply } = feed;
        if after != group.cursor.or(self.session.durable.lock().cursor) {
            // It was sent to a writer before this one.
            let error = Error::new(ErrorKind::Store, "the journal's cursor is not where these logs begin");
            _ = reply.send(Err(error.with_outcome(Outcome::NotSent).with_retryable(true)));
            return Ok(());
        }
        for FedLog { block, log_index, request, bytes } in logs {
            let source = EntrySource::Chain { block, log_index };
            match self.fit(&request, BatchRoom::can_hold) {
                Ok(cost) => _ = self.apply(group, request, bytes, cost, None, source).await?,
                // Nobody is there who could ask for less: it has its place, and is in no batch.
                Err(error) => self.pass_over(group, request, bytes, source, &error),
            }
        }
        group.cursor = Some(cursor);
        group.fed.push(reply);
        Ok(())
    }

    /// Writes the group, and answers.
    async fn write(&mut self, group: Group<S>) -> std::result::Result<(), End> {
        if group.entries.is_empty() && group.cursor.is_none() {
            answer(group.replies);
            return Ok(());
        }
        if let Err((end, error)) = self.append(&group).await {
            group.fail(&error);
            return Err(end);
        }
        self.core.points.pass("app_appended");
        let since = Instant::now();
        {
            let mut queue = self.session.queue.lock();
            for (context, _, cost) in &group.done {
                if let Some(cost) = *cost {
                    queue.push(QueuedRequest { place: context.place, cost, since });
                }
            }
        }
        {
            let mut durable = self.session.durable.lock();
            (durable.place, durable.time, durable.root) = (self.live.place, self.time, self.live.root);
            durable.cursor = group.cursor.or(durable.cursor);
        }
        self.keep_for_reads(group.done);
        self.session.grown.notify_one();
        answer(group.replies);
        for reply in group.fed {
            _ = reply.send(Ok(()));
        }
        Ok(())
    }

    /// What the state for reads has yet to carry out. One that nobody has asked for meanwhile is let go.
    fn keep_for_reads(&self, done: Vec<(Context, S::Request, Option<Cost>)>) {
        // The lock of the state first, as whoever reads has it.
        let mut shown = self.session.shown.try_write().ok();
        let mut kept = self.session.late.lock();
        let Some(late) = &mut *kept else { return };
        late.extend(done.into_iter().filter(|done| done.2.is_some()).map(|(at, request, _)| (at, request)));
        if late.len() > UNREAD
            && let Some(shown) = &mut shown
        {
            (**shown, *kept) = (None, None);
        }
    }

    /// One commit. What it means that it failed, and what those are told who wait for it.
    async fn append(&self, group: &Group<S>) -> std::result::Result<(), (End, Error)> {
        let after = self.session.durable.lock().place;
        let not_sent = |error: &Error| error.clone().with_outcome(Outcome::NotSent);
        let (mut tries, began) = (0, Instant::now());
        loop {
            let act = JournalAct::Append { after, entries: group.entries.clone(), cursor: group.cursor };
            match self.core.lane.journal().write(self.session.fence, act).await {
                Ok(Journaled::Done) => return Ok(()),
                Ok(Journaled::Fenced) => {
                    let leader = self.core.lane.leader().await.unwrap_or_default();
                    return Err((End::Fenced, super::core::standby(leader.as_deref())));
                }
                Ok(Journaled::Unknown { error, over }) => return self.look(after, group, error, over).await,
                Ok(_) => {
                    let error = Error::new(ErrorKind::Store, "the journal is not where this server left it");
                    return Err((End::Reopen, not_sent(&error).with_retryable(true)));
                }
                Err(error) if error.is_retryable() && self.is_over() => return Err((End::Closed, not_sent(&error))),
                Err(error) if error.is_retryable() && began.elapsed() < self.core.patience => {
                    tries += 1;
                    tokio::time::sleep(PAUSES.pause(tries, &self.random)).await;
                }
                Err(error) => return Err((End::Stop(AppStop::journal(&error)), not_sent(&error))),
            }
        }
    }

    /// Whether the server is to end.
    fn is_over(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| *stop.borrow())
    }

    /// Whether the group is in the journal, after a commit of which that is not known. `over`: its transaction is.
    async fn look(
        &self,
        after: u64,
        group: &Group<S>,
        error: Error,
        over: bool,
    ) -> std::result::Result<(), (End, Error)> {
        let unknown = error
            .clone()
            .with_outcome(Outcome::Unknown)
            .with_hint("ask again under the same key: without a key, look for the request in the journal first");
        // A store that takes nothing more does not show what a crash may yet make of the commit.
        if !error.is_retryable() {
            return Err((End::Stop(AppStop::journal(&error)), unknown));
        }
        let (journal, lane) = (self.core.lane.journal(), self.core.lane.id());
        let read = async {
            let row = journal.app(lane).await?;
            Ok((row, journal.entries(lane, after, u32::try_from(group.entries.len()).unwrap_or(u32::MAX)).await?))
        };
        let (row, found) = match read.await {
            Ok((Some(row), found)) => (row, found),
            Ok((None, _)) => return Err((End::Stop(AppStop::journal(&error)), unknown)),
            Err(unread) if Error::is_retryable(&unread) => return Err((End::Reopen, unknown)),
            Err(unread) => return Err((End::Stop(AppStop::journal(&unread)), unknown)),
        };
        match is_there(after, (&group.entries, group.cursor), (&row, &found), over) {
            Some(true) => Ok(()),
            Some(false) => Err((End::Reopen, error.with_outcome(Outcome::NotSent))),
            None => Err((End::Reopen, unknown)),
        }
    }

    /// A state for reads, from now on kept up to what is durable.
    fn show(&self) -> Result<()> {
        // If somebody has it, there is one, or it is looked for just now: whoever has asked does so again.
        if let Ok(mut shown) = self.session.shown.try_write()
            && shown.is_none()
        {
            *shown = Some(self.live.again().map_err(|stop| stop.error())?);
            *self.session.late.lock() = Some(std::collections::VecDeque::new());
        }
        Ok(())
    }
}
