//! The watcher runs on the runtime of whoever waited first. Runtimes end, and runtimes stand still: those who wait on
//! another one do not depend on it. These tests run by the clock of the wall, and wait for calls, not for times.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt};
use infinityvm_sdk::{Client, JobHandle, PollPolicy, Revision, Stage, Until, rpc::Method};
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
};

use crate::{
    answers::{self, OPERATOR, PENDING, RELAYED, Row, Signed},
    rig::{CONSUMER, Scripted, at_once, job, within},
};

/// A node with one job, which is relayed when the test says so.
struct Scene {
    node: Scripted,
    relayed: Arc<AtomicBool>,
    client: Client,
    handle: JobHandle,
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap()
}

impl Scene {
    fn new(list: bool, runtime: &Runtime) -> Self {
        let (job, relayed) = (job(Revision::Relay, CONSUMER, 1), Arc::new(AtomicBool::new(false)));
        let signed = Signed::by(&OPERATOR, answers::result(&job, b"output"));
        let rows = [Row::of(&job, PENDING).encode(), Row::of(&job, RELAYED).with(&signed).encode()];
        let node = {
            let relayed = Arc::clone(&relayed);
            Scripted::new(list, move |method, _| {
                let relayed = relayed.load(SeqCst);
                at_once(match method {
                    Method::GetResult => Ok(rows[usize::from(relayed)].clone()),
                    Method::GetPendingJobs => Ok(answers::pending_jobs((!relayed).then_some(1))),
                    other => panic!("{other} was called"),
                })
            })
        };
        let polling = PollPolicy::default().with_first(Duration::from_millis(1)).with_most(Duration::from_millis(5));
        let polling = polling.with_tick(Duration::from_millis(5)).with_timeout(Duration::from_secs(3600));
        let builder = node.client(Revision::Relay, answers::operator()).polling(polling);
        let client = runtime.block_on(builder.connect()).unwrap();
        let handle = client.resume(job).unwrap();
        Self { node, relayed, client, handle }
    }

    /// Each way to wait, to its good end.
    fn ways(&self) -> Vec<BoxFuture<'static, ()>> {
        let (wait, mut events) = (self.handle.wait(Until::Relayed), self.handle.events());
        let mut many = self.client.watch_many([self.handle.clone()], Until::Relayed);
        let all = self.client.wait_all([self.handle.clone()], Until::Relayed);
        vec![
            async move { drop(wait.await.unwrap()) }.boxed(),
            async move {
                let mut last = None;
                while let Some(event) = events.next().await {
                    last = event.unwrap().stage();
                }
                assert_eq!(last, Some(Stage::Relayed));
            }
            .boxed(),
            async move {
                many.next().await.unwrap().1.unwrap();
                assert!(many.next().await.is_none());
            }
            .boxed(),
            async move { drop(all.await.remove(0).unwrap()) }.boxed(),
        ]
    }

    /// Polls it on a runtime until the node was asked so many times more.
    fn drive(&self, runtime: &Runtime, wait: &mut BoxFuture<'static, ()>, calls: usize) {
        let calls = self.node.calls() + calls;
        runtime.block_on(within(async {
            tokio::select! {
                () = wait => panic!("it ended"),
                () = self.node.called(calls) => {}
            }
        }));
    }

    fn relay(&self) {
        self.relayed.store(true, SeqCst);
    }
}

/// Says when it was polled for the first time.
fn announced(wait: BoxFuture<'static, ()>) -> (BoxFuture<'static, ()>, oneshot::Receiver<()>) {
    let (polled, is_polled) = oneshot::channel();
    let mut polled = Some(polled);
    let wait = async move {
        let mut wait = pin!(wait);
        poll_fn(|cx| {
            let poll = wait.as_mut().poll(cx);
            polled.take().map(|polled| polled.send(()));
            poll
        })
        .await;
    };
    (wait.boxed(), is_polled)
}

const WAYS: usize = 4;

fn cases() -> impl Iterator<Item = (usize, bool, fn() -> Runtime)> {
    let kinds: [fn() -> Runtime; 2] = [current_thread, multi_thread];
    (0..WAYS).flat_map(move |way| [true, false].into_iter().flat_map(move |list| kinds.map(|kind| (way, list, kind))))
}

#[test]
fn a_wait_goes_on_when_its_runtime_was_dropped() {
    for (way, list, runtime) in cases() {
        let first = runtime();
        let scene = Scene::new(list, &first);
        let mut wait = scene.ways().remove(way);
        scene.drive(&first, &mut wait, 3);
        drop(first);
        let calls = scene.node.calls();
        let second = current_thread();
        scene.drive(&second, &mut wait, 3);
        assert!(scene.node.calls() >= calls + 3);
        scene.relay();
        second.block_on(within(wait));
        assert_eq!(scene.handle.stage(), Stage::Relayed);
    }
}

#[test]
fn others_go_on_when_the_first_runtime_is_dropped() {
    for (way, list, runtime) in cases() {
        let (first, second) = (runtime(), multi_thread());
        let scene = Scene::new(list, &first);
        let mut waits = scene.ways();
        let mut here = waits.remove(0);
        scene.drive(&first, &mut here, 3);
        let (there, is_polled) = announced(scene.ways().remove(way));
        let there = second.spawn(there);
        first.block_on(within(is_polled)).unwrap();
        scene.drive(&first, &mut here, 3);
        drop((here, first));
        scene.relay();
        second.block_on(within(there)).unwrap();
    }
}

#[test]
fn a_runtime_that_stands_still_holds_up_nobody_elsewhere() {
    for (way, list) in (0..WAYS).flat_map(|way| [(way, true), (way, false)]) {
        let (first, second) = (current_thread(), multi_thread());
        let scene = Scene::new(list, &first);
        let mut here = scene.ways().remove(0);
        scene.drive(&first, &mut here, 3);
        // One that waited before the first stands still, and one that comes after.
        let (before, is_polled) = announced(scene.ways().remove(way));
        let before = second.spawn(before);
        first.block_on(within(is_polled)).unwrap();
        scene.drive(&first, &mut here, 3);
        let after = second.spawn(scene.ways().remove(way));
        scene.relay();
        second.block_on(within(async {
            before.await.unwrap();
            after.await.unwrap();
        }));
        // It moves again.
        first.block_on(within(here));
    }
}

/// The same client, from many threads with runtimes of their own that come and go.
#[test]
fn runtimes_may_come_and_go() {
    for list in [true, false] {
        let home = multi_thread();
        let scene = Arc::new(Scene::new(list, &home));
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let scene = Arc::clone(&scene);
                std::thread::spawn(move || {
                    for _ in 0..20 {
                        let runtime = current_thread();
                        let mut wait = scene.ways().remove(number % WAYS);
                        if !scene.relayed.load(SeqCst) {
                            runtime.block_on(within(async {
                                let calls = scene.node.calls() + 2;
                                tokio::select! {
                                    () = &mut wait => assert!(scene.relayed.load(SeqCst)),
                                    () = scene.node.called(calls) => {}
                                }
                            }));
                        }
                    }
                })
            })
            .collect();
        let mut last = scene.ways().remove(0);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        scene.drive(&home, &mut last, 2);
        scene.relay();
        home.block_on(within(last));
        assert_eq!(scene.handle.stage(), Stage::Relayed);
    }
}
