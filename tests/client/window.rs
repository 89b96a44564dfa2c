//! The window of an Ordered lane: no more jobs at the node than it takes, and nobody waits for ever.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use infinityvm_sdk::{
    Client, ErrorKind, JobHandle, OffchainJobRequest, Outcome, RelayStrategy, RetryPolicy, Revision, Until,
    devnode::JobState,
    nonce::{NonceManager, Sequential, Settlement},
    rpc::Method,
};

use crate::rig::{CONSUMER, Mood, Moody, Rig, poll_once, submitting, within};

fn nonces(window: usize) -> NonceManager {
    NonceManager::new(Sequential::starting_at(1)).with_window(window)
}

async fn over(rig: &Rig, nonces: &NonceManager) -> Client {
    rig.builder().nonce_manager(nonces.clone()).connect().await.unwrap()
}

/// A node that relays nothing, and a client with so many places, all of them taken.
async fn full(window: usize) -> (Rig, Client, Vec<JobHandle>) {
    let rig = Rig::new(Revision::Relay).await;
    rig.node.faults().stall_relays(true);
    let client = over(&rig, &nonces(window)).await;
    let mut handles = Vec::new();
    for number in 0..window {
        handles.push(client.submit(rig.ordered(format!("{number}"))).await.unwrap());
    }
    (rig, client, handles)
}

/// Another client with the same nonces, which does not wait for a place.
async fn hasty(rig: &Rig, client: &Client) -> Client {
    rig.builder().nonce_manager(client.nonces().clone()).refuse_when_full(true).connect().await.unwrap()
}

async fn relayed(handle: &JobHandle) {
    within(handle.wait(Until::Relayed).into_future()).await.unwrap();
}

fn calls(rig: &Rig, method: Method) -> usize {
    rig.node.stats().calls(method)
}

async fn looked_at(rig: &Rig, lists: usize) {
    rig.node.wait_until(|view| view.stats().calls(Method::GetPendingJobs) >= lists).await;
}

/// A process submits 259 jobs behind a stalled relay, and ends in the ordinary way. A call that hangs at the node would be
/// cut off then, and the consumer's task in the node would die of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_ends_behind_a_stalled_relay_leaves_the_node_alive() {
    let rig = Rig::new(Revision::Relay).await;
    rig.node.faults().stall_relays(true);
    let (builder, program) = (rig.builder(), rig.program.clone());
    let (end, ending) = tokio::sync::oneshot::channel();
    let process = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = builder.connect().await.unwrap();
            tokio::spawn({
                let client = client.clone();
                async move {
                    let mut handles = Vec::new();
                    for number in 0_u64..259 {
                        // A node takes no more once it has these results.
                        if number == 258 {
                            client.wait_all(handles.clone(), Until::Executed).await;
                        }
                        let job = OffchainJobRequest::builder(CONSUMER, program.clone());
                        let job = job.max_cycles(1000).onchain_input(number.to_be_bytes());
                        let job = job.relay(RelayStrategy::Ordered).build().unwrap();
                        handles.push(client.submit(job).await.unwrap());
                    }
                }
            });
            ending.await.unwrap();
            client.close(Duration::from_secs(20)).await
        })
    });
    // As many as there may be, or as many as the node takes and one.
    rig.node
        .wait_until(|view| view.stats().calls(Method::GetPendingJobs) > 0 || view.stats().hanging_calls() > 0)
        .await;
    end.send(()).unwrap();
    let open = tokio::task::spawn_blocking(|| process.join().unwrap()).await.unwrap();
    assert!(open.is_empty(), "{open:?}");
    assert_eq!(rig.node.stats().hanging_calls(), 0);
    // The next process finds the node as it was.
    let client = rig.another().await;
    assert_eq!(within(client.pending_jobs(CONSUMER)).await.unwrap().len(), 128);
    rig.node.faults().stall_relays(false);
    let next = within(client.submit_signed(rig.sign_ordered(129, "129").await)).await.unwrap();
    relayed(&next).await;
}

#[tokio::test]
async fn clients_share_a_window_and_a_look_and_wait_in_their_order() {
    let rig = Rig::new(Revision::Relay).await;
    rig.node.faults().stall_relays(true);
    let nonces = nonces(4);
    let clients = [over(&rig, &nonces).await, over(&rig, &nonces).await];
    for number in 0..4 {
        clients[number % 2].submit(rig.ordered(format!("{number}"))).await.unwrap();
    }
    let begun = Instant::now();
    let mut waiting = Vec::new();
    for number in 4..12 {
        let (client, job) = (clients[number % 2].clone(), rig.ordered(format!("{number}")));
        let mut submit = Box::pin(async move { client.submit(job).await });
        assert!(poll_once(&mut submit).await.is_pending());
        waiting.push(submit);
    }
    // The last is polled first: the places come in the order of the calls all the same.
    let waiting: Vec<_> = waiting.into_iter().rev().map(tokio::spawn).collect();
    looked_at(&rig, 3).await;
    let (lists, elapsed) = (calls(&rig, Method::GetPendingJobs), begun.elapsed());
    // At once, and after 250 and 500 ms.
    assert!(lists == 3 || elapsed > Duration::from_millis(1750), "{lists} lists in {elapsed:?} for 8 who wait");
    assert!(elapsed >= Duration::from_millis(750));
    assert_eq!(calls(&rig, Method::SubmitJob), 4);
    rig.node.faults().stall_relays(false);
    let mut handles = Vec::new();
    for submit in waiting.into_iter().rev() {
        handles.push(within(submit).await.unwrap().unwrap());
    }
    let got: Vec<_> = handles.iter().map(|handle| handle.signed_job().nonce()).collect();
    assert!(got.iter().copied().eq(5..=12), "{got:?}");
    for handle in &handles {
        relayed(handle).await;
    }
    rig.never_two_in_flight();
}

/// Who waits for a job makes room when it is relayed: nobody asks about the lane then.
#[tokio::test]
async fn what_was_seen_relayed_makes_room_without_a_call() {
    let (rig, client, handles) = full(3).await;
    rig.node.faults().stall_relays(false);
    relayed(&handles[2]).await;
    let (lists, records) = (calls(&rig, Method::GetPendingJobs), calls(&rig, Method::GetResult));
    for number in 0..3 {
        client.submit(rig.ordered(format!("again {number}"))).await.unwrap();
    }
    assert_eq!(calls(&rig, Method::GetPendingJobs), lists);
    assert_eq!(calls(&rig, Method::GetResult), records + 3, "each flight looks at its job once");
}

/// Nobody waits for the jobs: a list and one record tell how far the lane is; without lists, a few records.
#[tokio::test]
async fn one_look_finds_out_how_far_the_lane_is() {
    for rest in [false, true] {
        let rig = Rig::new(Revision::Relay).await;
        let builder = rig.builder().nonce_manager(nonces(8));
        let builder = if rest { builder.rest(rig.node.rest_url()) } else { builder };
        let client = builder.connect().await.unwrap();
        for round in 0..2 {
            let mut last = None;
            for number in 0..8 {
                last = Some(client.submit(rig.ordered(format!("{round} {number}"))).await.unwrap());
            }
            rig.reaches(last.unwrap().id(), JobState::Relayed).await;
        }
        assert_eq!(calls(&rig, Method::GetPendingJobs), usize::from(!rest));
        // Those of the 16 flights; and the last of the eight jobs, or the first, second, fourth and eighth.
        assert_eq!(calls(&rig, Method::GetResult), 16 + if rest { 4 } else { 1 });
    }
}

#[tokio::test]
async fn who_does_not_want_to_wait_is_refused_at_once() {
    let (rig, client, handles) = full(2).await;
    let hasty = hasty(&rig, &client).await;
    let first = handles[0].id().to_string();
    for _ in 0..3 {
        let error = within(hasty.submit(rig.ordered("more"))).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::LaneFull, Outcome::NotSent), "{}", error.report());
        assert!(error.is_retryable() && error.hint().is_some());
        let text = error.to_string();
        assert!(text.contains("2 Ordered jobs are not relayed") && text.contains(&first), "{text}");
    }
    assert!(calls(&rig, Method::GetPendingJobs) >= 1, "it has looked");
    assert_eq!(calls(&rig, Method::SubmitJob), 2);
    // One that is signed is told of its nonce, and nothing is lost.
    let job = hasty.sign(rig.ordered("more")).await.unwrap();
    let error = within(hasty.submit_signed(job.clone())).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::LaneFull, Outcome::NotSent), "{}", error.report());
    assert_eq!(error.job_id(), Some(job.id().into()));
    // Those that the node has are no further ones, and other lanes are not concerned.
    hasty.submit_signed(handles[1].signed_job().clone()).await.unwrap();
    rig.node.faults().stall_relays(false);
    rig.reaches(handles[1].id(), JobState::Relayed).await;
    relayed(&within(client.submit_signed(job)).await.unwrap()).await;
    assert!(rig.on_chain().into_iter().eq(1..=3));
}

#[tokio::test]
async fn at_the_deadline_nothing_was_sent_and_no_nonce_is_used() {
    let (rig, client, _handles) = full(2).await;
    let policy = RetryPolicy::none().with_submit_deadline(Duration::from_millis(300));
    let short = rig.builder().nonce_manager(client.nonces().clone()).retry(policy).connect().await.unwrap();
    let error = within(short.submit(rig.ordered("more"))).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::LaneFull, Outcome::NotSent), "{}", error.report());
    assert_eq!(calls(&rig, Method::SubmitJob), 2);
    assert!(client.nonces().quarantined(CONSUMER).is_empty() && short.unresolved().is_empty());
    rig.node.faults().stall_relays(false);
    let next = within(client.submit(rig.ordered("next"))).await.unwrap();
    assert_eq!(next.signed_job().nonce(), 3);
    relayed(&next).await;
}

/// Dropped after each number of polls, while others wait before and behind.
#[tokio::test]
async fn who_goes_away_leaves_no_trace() {
    let (rig, client, _handles) = full(1).await;
    let mut before = Box::pin(client.submit(rig.ordered("before")));
    assert!(poll_once(&mut before).await.is_pending());
    for polls in 0..20 {
        let mut submit = Box::pin(client.submit(rig.ordered("never")));
        for _ in 0..polls {
            assert!(poll_once(&mut submit).await.is_pending());
            tokio::task::yield_now().await;
        }
    }
    let mut behind = Box::pin(client.submit(rig.ordered("behind")));
    assert!(poll_once(&mut behind).await.is_pending());
    // The one whose look it was goes, too.
    drop(before);
    rig.node.faults().stall_relays(false);
    let behind = within(behind).await.unwrap();
    assert_eq!(behind.signed_job().nonce(), 2);
    relayed(&behind).await;
    // And at each poll of a submission that gets its place.
    for polls in 0..24 {
        rig.node.faults().stall_relays(true);
        let last = client.submit(rig.ordered("last")).await.unwrap();
        let mut submit = Box::pin(client.submit(rig.ordered(format!("{polls}"))));
        assert!(poll_once(&mut submit).await.is_pending());
        rig.node.faults().stall_relays(false);
        relayed(&last).await;
        for _ in 0..polls {
            if poll_once(&mut submit).await.is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(submit);
        rig.settled(&client).await;
        relayed(&within(client.submit(rig.ordered("whole"))).await.unwrap()).await;
    }
    let done = rig.on_chain();
    assert!(done.iter().copied().eq(1..=done.len() as u64), "{done:?}");
}

#[tokio::test]
async fn a_client_that_is_closed_does_not_wait_and_others_go_on() {
    let (rig, client, handles) = full(1).await;
    let other = over(&rig, client.nonces()).await;
    let closed = submitting(&client, rig.ordered("closed"));
    let unsent = submitting(&client, rig.ordered("closed, too"));
    looked_at(&rig, 1).await;
    let open = submitting(&other, rig.ordered("open"));
    assert!(within(client.close(Duration::from_secs(500))).await.is_empty());
    for submit in [closed, unsent] {
        let error = within(submit).await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Closed, Outcome::NotSent), "{}", error.report());
    }
    assert!(client.nonces().quarantined(CONSUMER).is_empty());
    rig.node.faults().stall_relays(false);
    let handle = within(open).await.unwrap().unwrap();
    assert_eq!(handle.signed_job().nonce(), 2);
    relayed(&handle).await;
    relayed(&handles[0]).await;
}

/// The place of a job that came to nothing goes to the next together with its nonce, or the lane would stand still.
#[tokio::test]
async fn a_nonce_that_comes_back_in_a_full_window_is_taken_by_the_next() {
    let rig = Rig::new(Revision::Relay).await;
    let mood = Arc::new(Mood::default());
    mood.yields.store(50, SeqCst);
    mood.fail.store(true, SeqCst);
    let nonces = nonces(2);
    let signer = Moody { inner: rig.signer.clone(), mood: mood.clone() };
    let moody = rig.builder().nonce_manager(nonces.clone()).signer(signer).connect().await.unwrap();
    let client = over(&rig, &nonces).await;
    let mut fails = Box::pin(moody.submit(rig.ordered("fails")));
    assert!(poll_once(&mut fails).await.is_pending());
    let second = client.submit(rig.ordered("second")).await.unwrap();
    assert_eq!(second.signed_job().nonce(), 2);
    let third = submitting(&client, rig.ordered("third"));
    looked_at(&rig, 1).await;
    assert_eq!(within(fails).await.unwrap_err().kind(), ErrorKind::Signer);
    let third = within(third).await.unwrap().unwrap();
    assert_eq!(third.signed_job().nonce(), 1);
    relayed(&third).await;
    relayed(&second).await;
}

/// After a restart: what is resumed fills the window, and the nonce that the lane waits for was never sent.
#[tokio::test]
async fn what_the_lane_waits_for_is_sent_although_the_window_is_full() {
    for by_source in [false, true] {
        let rig = Rig::new(Revision::Relay).await;
        let before = rig.another().await;
        let client = over(&rig, &nonces(3)).await;
        let mut handles = Vec::new();
        for nonce in 2..=6 {
            let job = rig.sign_ordered(nonce, format!("{nonce}")).await;
            before.submit_signed(job.clone()).await.unwrap();
            handles.push(client.resume(job).unwrap());
        }
        let mut later = Box::pin(client.submit_signed(rig.sign_ordered(7, "7").await));
        assert!(poll_once(&mut later).await.is_pending());
        let first = match by_source {
            true => within(client.submit(rig.ordered("first"))).await.unwrap(),
            false => within(client.submit_signed(rig.sign_ordered(1, "1").await)).await.unwrap(),
        };
        assert_eq!(first.signed_job().nonce(), 1);
        relayed(&within(later).await.unwrap()).await;
        for handle in handles {
            relayed(&handle).await;
        }
    }
}

/// Jobs of a store that were never sent: the waits send them, and no more at a time than there may be.
#[tokio::test]
async fn waits_send_no_more_lost_jobs_than_there_may_be_at_the_node() {
    let rig = Rig::new(Revision::Relay).await;
    rig.node.faults().stall_relays(true);
    let client = over(&rig, &nonces(3)).await;
    let mut handles = Vec::new();
    for nonce in (1..=8).rev() {
        handles.push(client.resume(rig.sign_ordered(nonce, format!("{nonce}")).await).unwrap());
    }
    let waits = tokio::spawn({
        let client = client.clone();
        async move { client.wait_all(handles, Until::Relayed).await }
    });
    rig.node.wait_until(|view| view.stats().calls(Method::SubmitJob) == 3).await;
    // Each has been found missing once more than it takes.
    let more = calls(&rig, Method::GetPendingJobs) + 6;
    looked_at(&rig, more).await;
    let pending = client.pending_jobs(CONSUMER).await.unwrap();
    assert!(pending.iter().all(|nonce| (1..=3).contains(nonce)) && pending.len() == 3, "{pending:?}");
    rig.node.faults().stall_relays(false);
    assert!(within(waits).await.unwrap().iter().all(Result::is_ok));
    assert!(rig.on_chain().into_iter().eq(1..=8));
}

/// That a list lacks a job does not say that it was relayed.
#[tokio::test]
async fn jobs_that_the_node_has_lost_keep_their_places() {
    let (rig, client, handles) = full(2).await;
    rig.node.restart();
    rig.node.faults().stall_relays(false);
    let hasty = hasty(&rig, &client).await;
    let error = within(hasty.submit(rig.ordered("third"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LaneFull, "{}", error.report());
    let third = submitting(&client, rig.ordered("third"));
    for handle in handles {
        relayed(&handle).await;
    }
    relayed(&within(third).await.unwrap().unwrap()).await;
}

#[tokio::test]
async fn a_failed_job_keeps_its_place_for_the_one_that_replaces_it() {
    let rig = Rig::new(Revision::Relay).await;
    let client = over(&rig, &nonces(2)).await;
    let failed = client.submit(rig.ordered("bad")).await.unwrap();
    let second = client.submit(rig.ordered("second")).await.unwrap();
    rig.reaches(failed.id(), JobState::Failed).await;
    let third = submitting(&client, rig.ordered("third"));
    looked_at(&rig, 1).await;
    let replaced = within(client.replace(&failed, rig.ordered("good"))).await.unwrap();
    for handle in [replaced, second, within(third).await.unwrap().unwrap()] {
        relayed(&handle).await;
    }
    assert_eq!(rig.on_chain(), [1, 2, 3]);
}

/// What the node refuses is not there, and neither is what was given up by its caller.
#[tokio::test]
async fn what_was_refused_and_what_is_released_make_room() {
    let (rig, client, handles) = full(1).await;
    rig.node.faults().stall_relays(false);
    relayed(&handles[0]).await;
    rig.node.faults().refuse(Method::SubmitJob, 1, infinityvm_sdk::rpc::StatusCode::INVALID_ARGUMENT, "no");
    let error = client.submit(rig.ordered("refused")).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Rejected, "{}", error.report());
    let job = client.unresolved().remove(0);
    let hasty = hasty(&rig, &client).await;
    client.forget(job.id());
    client.nonces().resolve(CONSUMER, job.nonce(), Settlement::Release).unwrap();
    let next = within(hasty.submit(rig.ordered("next"))).await.unwrap();
    assert_eq!(next.signed_job().nonce(), job.nonce());
    relayed(&next).await;
}

/// Unordered jobs, and those of the State revision, have no lane.
#[tokio::test]
async fn jobs_without_an_order_have_no_window() {
    for revision in Revision::ALL {
        let rig = Rig::new(revision).await;
        rig.node.faults().stall_relays(true);
        let client = over(&rig, &nonces(1)).await;
        for number in 0..5 {
            within(client.submit(rig.build(format!("{number}")))).await.unwrap();
        }
        assert_eq!(calls(&rig, Method::GetPendingJobs), 0);
    }
}

#[test]
fn outside_of_a_runtime_it_is_said() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (rig, client, _handles) = runtime.block_on(full(1));
    let mut submit = Box::pin(client.submit(rig.ordered("more")));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = submit.as_mut().poll(&mut context) else { panic!("it waits") };
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidConfig, Outcome::NotSent));
}
