//! The life of a server: it waits for its lane, reads the journal, works on it, and reads it again if it must.

use std::{future::pending, sync::Arc};

use infinityvm_stf::StateTransition;
use tokio::{
    sync::{mpsc, watch},
    time::{Duration, Instant, sleep, sleep_until},
};

use super::{
    batches::Batcher,
    bisect::explain,
    core::{AppCommand, AppSession, Core, End, Phase, standby},
    follow::LogFollower,
    machine::Machine,
    open::open,
    reading::NotOpened,
    stop::{AppState, AppStop},
    writer::RequestWriter,
};
use crate::{
    error::{Error, ErrorKind, Outcome},
    outbox::store::journal::BatchStage,
};

/// How often the outbox is asked for news of batches that are under way.
const POLL: Duration = Duration::from_millis(25);
/// How often it is looked whether this instance has the lane.
const LANE: Duration = Duration::from_millis(100);
/// Before a journal that could not be read is read again.
const AGAIN: Duration = Duration::from_millis(500);

/// Until everything is brought to its end, or nobody has the server any more.
pub(super) async fn run<S: StateTransition>(
    core: Arc<Core<S>>,
    mut commands: mpsc::Receiver<AppCommand<S>>,
    asks: mpsc::WeakSender<AppCommand<S>>,
    mut phase: watch::Receiver<Phase>,
) {
    let _turn = tokio::select! {
        turn = core.lane.turn_to_write() => turn,
        ended = phase.wait_for(|phase| *phase == Phase::Ended) => {
            drop(ended);
            return end_of(&core);
        }
    };
    loop {
        let Some(fence) = lead(&core, &mut commands, &mut phase).await else { break };
        core.set_state(AppState::Starting);
        let opened = tokio::select! {
            opened = open(&core, fence) => opened,
            ended = phase.wait_for(|phase| *phase == Phase::Ended) => {
                drop(ended);
                break;
            }
        };
        let (session, live) = match opened {
            Ok(opened) => opened,
            Err(NotOpened::Stop(stop)) => {
                stopped(&core, stop, &mut commands, &mut phase).await;
                break;
            }
            Err(NotOpened::Failed(error)) if !error.is_retryable() => {
                stopped(&core, AppStop::journal(&error), &mut commands, &mut phase).await;
                break;
            }
            Err(NotOpened::Failed(_) | NotOpened::Fenced) => {
                if ended(&mut phase, AGAIN).await {
                    break;
                }
                continue;
            }
        };
        let session = Arc::new(session);
        *core.session.lock() = Some(Arc::clone(&session));
        let draining = *phase.borrow() != Phase::Running;
        core.set_state(if draining { AppState::Draining } else { AppState::Answering });
        let (given_back, end) = serve(&core, session, live, (commands, &asks), &phase).await;
        match given_back {
            Some(given_back) => commands = given_back,
            // A task of the server's own panicked, and took them with it.
            None => return end_of(&core),
        }
        match end {
            End::Closed => break,
            End::Reopen => core.set_state(AppState::Starting),
            End::Fenced => {
                // What this instance knows is not how it stands any more.
                *core.session.lock() = None;
                // Until the outbox knows, too, that somebody else has the lane.
                while core.lane.fence() == Some(fence) {
                    core.set_state(AppState::Standby(core.lane.leader().await.unwrap_or_default()));
                    refuse_waiting(&core, &mut commands);
                    if ended(&mut phase, LANE).await {
                        break;
                    }
                }
            }
            End::Stop(stop) => {
                stopped(&core, stop, &mut commands, &mut phase).await;
                break;
            }
        }
        if *phase.borrow() == Phase::Ended || phase.has_changed().is_err() {
            break;
        }
    }
    commands.close();
    let error = Error::new(ErrorKind::Closed, "the server has ended").with_outcome(Outcome::NotSent);
    while let Ok(command) = commands.try_recv() {
        command.refuse(&error);
    }
    end_of(&core);
}

/// What a server that has stopped says, it goes on saying.
fn end_of<S: StateTransition>(core: &Core<S>) {
    if !matches!(&*core.state.borrow(), AppState::Stopped(_)) {
        core.set_state(AppState::Ended);
    }
    core.changed();
}

/// Waits until this instance has the lane. Nothing at the end of the server.
async fn lead<S: StateTransition>(
    core: &Core<S>,
    commands: &mut mpsc::Receiver<AppCommand<S>>,
    phase: &mut watch::Receiver<Phase>,
) -> Option<crate::outbox::store::Fence> {
    let mut fences = core.lane.fences();
    loop {
        if let Some(fence) = *fences.borrow_and_update() {
            return Some(fence);
        }
        if let Some(error) = core.lane.trouble().filter(|error| !error.is_retryable()) {
            stopped(core, AppStop::journal(&error), commands, phase).await;
            return None;
        }
        core.set_state(AppState::Standby(core.lane.leader().await.unwrap_or_default()));
        refuse_waiting(core, commands);
        if *phase.borrow() != Phase::Running {
            return None;
        }
        // The leader's name may change meanwhile.
        tokio::select! {
            _ = fences.changed() => {}
            ended = ended(phase, LANE) => if ended { return None },
        }
    }
}

/// Those who have asked before it was known that another instance answers.
fn refuse_waiting<S: StateTransition>(core: &Core<S>, commands: &mut mpsc::Receiver<AppCommand<S>>) {
    let leader = match &*core.state.borrow() {
        AppState::Standby(leader) => leader.clone(),
        _ => None,
    };
    while let Ok(command) = commands.try_recv() {
        command.refuse(&standby(leader.as_deref()));
    }
}

/// Waits a little. True if the server is to end.
async fn ended(phase: &mut watch::Receiver<Phase>, time: Duration) -> bool {
    tokio::select! {
        ended = phase.wait_for(|phase| *phase == Phase::Ended) => { drop(ended); true }
        () = sleep(time) => false,
    }
}

/// Until the server is told to end: says why it does not answer.
async fn stopped<S: StateTransition>(
    core: &Core<S>,
    stop: AppStop,
    commands: &mut mpsc::Receiver<AppCommand<S>>,
    phase: &mut watch::Receiver<Phase>,
) {
    let mut error = stop.error();
    core.set_state(AppState::Stopped(stop.clone()));
    let (explaining, mut explained) = (explain(core, &stop), false);
    tokio::pin!(explaining);
    loop {
        tokio::select! {
            biased;
            ended = phase.wait_for(|phase| *phase != Phase::Running) => { drop(ended); return }
            stop = &mut explaining, if !explained => {
                explained = true;
                if let Some(stop) = stop {
                    error = stop.error();
                    core.set_state(AppState::Stopped(stop));
                }
            }
            command = commands.recv() => match command {
                Some(command) => command.refuse(&error),
                None => return,
            },
        }
    }
}

/// Works on the journal until one of the tasks cannot go on. `asks`: the way to the commands, for the follower.
async fn serve<S: StateTransition>(
    core: &Arc<Core<S>>,
    session: Arc<AppSession<S>>,
    live: Machine<S>,
    (commands, asks): (mpsc::Receiver<AppCommand<S>>, &mpsc::WeakSender<AppCommand<S>>),
    phase: &watch::Receiver<Phase>,
) -> (Option<mpsc::Receiver<AppCommand<S>>>, End) {
    let (tell, told) = watch::channel(false);
    let writer = RequestWriter::new(Arc::clone(core), Arc::clone(&session), live);
    let mut writer = tokio::spawn(writer.run(commands, told.clone()));
    let follower = LogFollower::new(core, &session, asks.clone());
    let follower = follower.map(|follower| follower.run(told.clone(), phase.clone()));
    let mut follower = tokio::spawn(async move {
        match follower {
            Some(following) => following.await,
            None => End::Closed,
        }
    });
    let mut batcher = tokio::spawn(drive(Batcher::new(Arc::clone(core), session, phase.clone()), told));
    let mut phase = phase.clone();
    let over = async {
        _ = phase.wait_for(|phase| *phase == Phase::Ended).await;
    };
    tokio::pin!(over);
    let (mut wrote, mut drove, mut followed) = (None, None, None);
    loop {
        tokio::select! {
            ended = &mut writer, if wrote.is_none() => {
                let ended = ended.map_or((None, End::Closed), |(commands, end)| (Some(commands), end));
                // One that has closed leaves the batches to be brought to their end.
                let closed = ended.1 == End::Closed && ended.0.is_some();
                wrote = Some(ended);
                if !closed { _ = tell.send(true); }
            }
            ended = &mut batcher, if drove.is_none() => {
                drove = Some(ended.unwrap_or(End::Closed));
                _ = tell.send(true);
            }
            ended = &mut follower, if followed.is_none() => {
                // One that has closed has nothing to follow any more.
                let closed = matches!(ended, Ok(End::Closed));
                followed = Some(ended.unwrap_or(End::Closed));
                if !closed { _ = tell.send(true); }
            }
            () = &mut over, if !*tell.borrow() => {
                _ = tell.send(true);
            }
        }
        if wrote.is_some() && drove.is_some() && followed.is_some() {
            break;
        }
    }
    let (commands, wrote) = wrote.unwrap_or((None, End::Closed));
    let drove = drove.unwrap_or(End::Closed);
    // What stops the server outweighs what only starts it again.
    let weight = |end: &End| match end {
        End::Closed => 0,
        End::Reopen => 1,
        End::Fenced => 2,
        End::Stop(_) => 3,
    };
    let followed = followed.unwrap_or(End::Closed);
    let ends = [wrote, drove, followed].into_iter();
    (
        commands,
        ends.reduce(|one, other| if weight(&one) >= weight(&other) { one } else { other }).unwrap_or(End::Closed),
    )
}

/// Drives the batches until it is told to stop, cannot go on, or has nothing more to do in a server that ends.
async fn drive<S: StateTransition>(mut batcher: Batcher<S>, mut stop: watch::Receiver<bool>) -> End {
    let session = Arc::clone(&batcher.session);
    let (mut phase, mut kept) = (batcher.phase.clone(), batcher.core.lane.results_kept());
    if let Err(error) = batcher.core.lane.register(&batcher.core.reader()).await {
        return if error.is_retryable() { End::Reopen } else { End::Stop(AppStop::journal(&error)) };
    }
    loop {
        let step = async {
            batcher.adopt().await?;
            batcher.look_at_results().await?;
            batcher.hear().await?;
            batcher.look_around().await?;
            batcher.finish().await?;
            batcher.write_down().await?;
            batcher.send().await
        };
        // What a step has begun, the journal tells the next one.
        let stepped = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return End::Closed,
            stepped = step => stepped,
        };
        if let Err(end) = stepped {
            return end;
        }
        batcher.core.points.pass("app_looked");
        let batches = batcher.batches();
        let queued = session.queue.lock().len();
        let under_way = batches.iter().any(|batch| batch.stage < BatchStage::Settled);
        if batcher.is_draining() && queued == 0 && !under_way {
            return End::Closed;
        }
        let polls = under_way || batcher.hold.is_some();
        let due = if batcher.hold.is_none() && !polls { batcher.due() } else { None };
        let looks = (!batches.is_empty()).then_some(batcher.next_look);
        let poll = polls.then(|| Instant::now() + POLL);
        let wake = [due, looks, poll].into_iter().flatten().min();
        let wait = async {
            match wake {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return End::Closed,
            Ok(()) = kept.changed() => {}
            () = session.grown.notified(), if !polls => {}
            _ = phase.changed(), if !batcher.is_draining() => {}
            () = wait => {}
        }
    }
}
