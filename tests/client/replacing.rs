//! Another job in the place of one that failed.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use infinityvm_sdk::{
    Client, Error, ErrorKind, JobHandle, LocalSigner, OffchainJobRequest, Outcome, RelayStrategy, RetryPolicy,
    Revision, SignedJob, Until,
    chain::Chain,
    client::ClientBuilder,
    devnode::{JobState, Lie},
    primitives::Address,
    rpc::Method,
};

use support::{
    answers::{self, Row},
    scripted::{self, Scripted, at_once},
};
use tokio::time::sleep;

use crate::rig::{CONSUMER, Mood, Moody, Rig, poll_once, within};

fn over(rig: &Rig, rest: bool) -> ClientBuilder {
    let builder = rig.builder();
    if rest { builder.rest(rig.node.rest_url()) } else { builder }
}

/// A job that has failed, under nonce 1.
async fn failed(rig: &Rig, client: &Client) -> JobHandle {
    let handle = client.submit_signed(rig.sign_ordered(1, "bad").await).await.unwrap();
    rig.reaches(handle.id(), JobState::Failed).await;
    handle
}

async fn end(handle: &JobHandle) -> Error {
    within(handle.wait(Until::Relayed).into_future()).await.unwrap_err()
}

#[tokio::test]
async fn the_jobs_behind_a_failed_one_move_once_it_is_replaced() {
    for rest in [false, true] {
        for chain in [false, true] {
            let rig = Rig::new(Revision::Relay).await;
            let builder = over(&rig, rest);
            let builder = if chain {
                builder.chain(Chain::new(rig.node.chain(), rig.node.chain().job_manager()))
            } else {
                builder
            };
            let client = builder.connect().await.unwrap();
            let old = failed(&rig, &client).await;
            assert_eq!(end(&old).await.kind(), ErrorKind::JobFailed);
            let mut behind = Vec::new();
            for nonce in 2..=3 {
                let job = rig.sign_ordered(nonce, "abc").await;
                behind.push(client.submit_signed(job).await.unwrap());
            }
            rig.reaches(behind[1].id(), JobState::Done).await;
            let new = within(client.replace(&old, rig.ordered("good"))).await.unwrap();
            assert_eq!((new.id(), new.signed_job().nonce()), (old.id(), 1));
            let result = within(new.wait(Until::Relayed).into_future()).await.unwrap();
            assert_eq!(result.output()[..], *b"doog");
            for handle in behind {
                within(handle.wait(Until::Relayed).into_future()).await.unwrap();
            }
            assert_eq!(rig.on_chain(), [1, 2, 3]);
            // The old handle says what happened, and so does one that comes back from a store.
            let stored = client.resume(old.signed_job().clone()).unwrap();
            for handle in [&old, &stored] {
                let error = end(handle).await;
                assert_eq!((error.kind(), error.job_id()), (ErrorKind::NonceTaken, Some(old.id().into())));
                let report = error.report().to_string();
                assert!(report.contains("put another in its place"), "{report}");
            }
            assert!(client.unresolved().is_empty());
            rig.never_two_in_flight();
        }
    }
}

/// It can fail again, and be replaced again, by this client or by one that comes after a restart of the process.
#[tokio::test]
async fn a_replacement_that_fails_is_replaced() {
    let rig = Rig::new(Revision::Relay).await;
    let first = failed(&rig, &rig.client).await;
    let worse = rig.job("bad").max_cycles(7).relay(RelayStrategy::Ordered).build().unwrap();
    let second = within(rig.client.replace(&first, worse)).await.unwrap();
    assert_eq!(end(&second).await.kind(), ErrorKind::JobFailed);
    let later = rig.another().await;
    let stored = later.resume(second.signed_job().clone()).unwrap();
    let third = within(later.replace(&stored, rig.ordered("good"))).await.unwrap();
    within(third.wait(Until::Relayed).into_future()).await.unwrap();
    assert_eq!(end(&stored).await.kind(), ErrorKind::NonceTaken);
    assert_eq!(rig.on_chain(), [1]);
    // Of the job before it the first client knows that it was replaced, and not by what.
    assert_eq!(end(&first).await.kind(), ErrorKind::NonceTaken);
}

/// Refused, with the reason, and nothing of it is sent.
async fn refused(rig: &Rig, client: &Client, old: &JobHandle, job: OffchainJobRequest, kind: ErrorKind, why: &str) {
    let before = rig.node.stats().calls(Method::SubmitJob);
    let error = within(client.replace(old, job)).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (kind, Outcome::NotSent), "{}", error.report());
    assert!(error.to_string().contains(why), "{why}: {}", error.report());
    assert!(error.hint().is_some() && error.job_id() == Some(old.id().into()), "{}", error.report());
    assert_eq!(rig.node.stats().calls(Method::SubmitJob), before, "{why}");
    assert!(client.unresolved().is_empty());
}

#[tokio::test]
async fn what_has_not_failed_now_is_not_replaced() {
    for rest in [false, true] {
        let rig = Rig::new(Revision::Relay).await;
        let client = over(&rig, rest).connect().await.unwrap();
        let good = || rig.ordered("good");
        // The node does not know it.
        let unsent = client.resume(rig.sign_ordered(9, "abc").await).unwrap();
        refused(&rig, &client, &unsent, good(), ErrorKind::Nonce, "does not know it").await;
        // Executed, relayed, and before either.
        let gate = rig.node.faults().hold_executions();
        rig.node.faults().stall_relays(true);
        let job = client.submit_signed(rig.sign_ordered(1, "abc").await).await.unwrap();
        refused(&rig, &client, &job, good(), ErrorKind::Nonce, "has not failed").await;
        gate.open();
        rig.reaches(job.id(), JobState::Done).await;
        refused(&rig, &client, &job, good(), ErrorKind::Nonce, "has not failed").await;
        rig.node.faults().stall_relays(false);
        rig.reaches(job.id(), JobState::Relayed).await;
        refused(&rig, &client, &job, good(), ErrorKind::Nonce, "has not failed").await;
        // One look, or two, that show it as failed: a replica that lags.
        for looks in [1, 2] {
            rig.node.faults().lie_once(looks, Lie::Status(JobState::Failed));
            refused(&rig, &client, &job, good(), ErrorKind::Nonce, "has not failed").await;
        }
        // Below the lane.
        let low = client.submit_signed(rig.sign_ordered(1, "other").await).await;
        assert!(low.is_err());
        client.forget(infinityvm_sdk::JobId::derive(1, CONSUMER));
        // Another's job under the nonce, which has failed.
        let theirs = rig.another().await.submit_signed(rig.sign_ordered(2, "bad").await).await.unwrap();
        rig.reaches(theirs.id(), JobState::Failed).await;
        let mine = client.resume(rig.sign_ordered(2, "mine").await).unwrap();
        refused(&rig, &client, &mine, good(), ErrorKind::NonceTaken, "another job under this nonce").await;
        // The node cannot be asked.
        rig.node.faults().refuse(Method::GetResult, 1, infinityvm_sdk::rpc::StatusCode::UNAVAILABLE, "busy");
        let error = within(client.replace(&theirs, good())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn a_job_below_its_lane_is_not_replaced() {
    let rig = Rig::new(Revision::Relay).await;
    let client = rig.another().await;
    let first = client.submit_signed(rig.sign_ordered(1, "abc").await).await.unwrap();
    within(first.wait(Until::Relayed).into_future()).await.unwrap();
    let second = client.submit_signed(rig.sign_ordered(2, "abc").await).await.unwrap();
    within(second.wait(Until::Relayed).into_future()).await.unwrap();
    rig.node.faults().lie(Lie::Status(JobState::Failed));
    // Shown as failed for good, and complete on chain: only a client with a chain can tell.
    let chain = Chain::new(rig.node.chain(), rig.node.chain().job_manager());
    let with_chain = rig.builder().chain(chain).connect().await.unwrap();
    let stored = with_chain.resume(second.signed_job().clone()).unwrap();
    let what = "the chain has the result of this very job";
    refused(&rig, &with_chain, &stored, rig.ordered("good"), ErrorKind::Nonce, what).await;
    rig.node.faults().clear();
    rig.node.chain().set_reachable(false);
    rig.node.faults().lie(Lie::Status(JobState::Failed));
    let error = within(with_chain.replace(&stored, rig.ordered("good"))).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Chain, Outcome::NotSent), "{}", error.report());
}

#[tokio::test]
async fn a_job_that_does_not_fit_is_refused_at_once() {
    let rig = Rig::new(Revision::Relay).await;
    let client = rig.another().await;
    let old = failed(&rig, &client).await;
    let invalid = ErrorKind::InvalidInput;
    let unordered = rig.build("good");
    refused(&rig, &client, &old, unordered, invalid, "the job is Unordered").await;
    let elsewhere = OffchainJobRequest::builder(Address::repeat_byte(9), rig.program.clone()).max_cycles(9);
    let elsewhere = elsewhere.relay(RelayStrategy::Ordered).build().unwrap();
    refused(&rig, &client, &old, elsewhere, invalid, "the job is for 0x0909").await;
    let numbered = rig.job("good").relay(RelayStrategy::Ordered).nonce(2).build().unwrap();
    refused(&rig, &client, &old, numbered, invalid, "a nonce of its own").await;
    // The nonce itself may be said.
    let numbered = rig.job("good").relay(RelayStrategy::Ordered).nonce(1).build().unwrap();
    within(client.replace(&old, numbered)).await.unwrap();

    let rig = Rig::new(Revision::State).await;
    let client = rig.another().await;
    let old = client.submit(rig.build("bad")).await.unwrap();
    rig.reaches(old.id(), JobState::Failed).await;
    refused(&rig, &client, &old, rig.build("good"), ErrorKind::Unsupported, "takes a nonce once").await;
}

/// Two at once: one of them is in the node's hands, and the other is told.
#[tokio::test]
async fn a_job_is_replaced_by_one_job_at_a_time() {
    let rig = Rig::new(Revision::Relay).await;
    let client = rig.another().await;
    let old = failed(&rig, &client).await;
    let tasks: Vec<_> = ["one", "two", "three"]
        .map(|input| {
            let (client, old, job) = (client.clone(), old.clone(), rig.ordered(input));
            tokio::spawn(async move { client.replace(&old, job).await })
        })
        .into_iter()
        .collect();
    let mut won = Vec::new();
    for task in tasks {
        match within(task).await.unwrap() {
            Ok(handle) => won.push(handle),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::NonceTaken | ErrorKind::Nonce), "{}", error.report());
            }
        }
    }
    let [handle] = &won[..] else { panic!("{} have won", won.len()) };
    within(handle.wait(Until::Relayed).into_future()).await.unwrap();
    rig.never_two_in_flight();
}

/// The signed bytes of the old one stay valid: whoever sends them after a restart of the node has them run.
#[tokio::test]
async fn the_new_handle_says_if_the_old_job_came_back() {
    for rest in [false, true] {
        let rig = Rig::new(Revision::Relay).await;
        let client = over(&rig, rest).connect().await.unwrap();
        let old = failed(&rig, &client).await;
        drop(rig.node.faults().hold_executions());
        let new = within(client.replace(&old, rig.ordered("good"))).await.unwrap();
        rig.node.restart();
        let stranger = rig.another().await;
        stranger.submit_signed(old.signed_job().clone()).await.unwrap();
        let error = end(&new).await;
        assert_eq!(error.kind(), ErrorKind::NonceTaken, "{}", error.report());
        assert!(error.to_string().contains("this one has replaced"), "{}", error.report());
    }
}

/// Whoever waits for the old one does not have it sent again, not even when the node has forgotten both.
#[tokio::test]
async fn a_job_that_was_replaced_is_never_healed() {
    for rest in [false, true] {
        let rig = Rig::new(Revision::Relay).await;
        let client = over(&rig, rest).connect().await.unwrap();
        let old = failed(&rig, &client).await;
        let gate = rig.node.faults().hold_executions();
        let new = within(client.replace(&old, rig.ordered("good"))).await.unwrap();
        rig.node.restart();
        let error = end(&old).await;
        gate.open();
        assert_eq!(error.kind(), ErrorKind::NonceTaken, "{}", error.report());
        // Had the old one been sent, it would have the nonce now.
        let again = client.submit_signed(new.signed_job().clone()).await.unwrap();
        let result = within(again.wait(Until::Relayed).into_future()).await.unwrap();
        assert_eq!(result.output()[..], *b"doog");
        assert_eq!(rig.on_chain(), [1]);
    }
}

/// A service that has stored a job in the place of a failed one, and crashes; what it finds after the restart.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Crash {
    BeforeItWasSent,
    BeforeTheReply,
    AfterwardsAndSoDidTheNode,
    OnceItWasExecuted,
    OnceItWasRelayed,
}

#[tokio::test]
async fn a_stored_replacement_goes_on_after_a_crash_and_runs_once() {
    use Crash::{AfterwardsAndSoDidTheNode, BeforeItWasSent, BeforeTheReply, OnceItWasExecuted, OnceItWasRelayed};
    for crash in [BeforeItWasSent, BeforeTheReply, AfterwardsAndSoDidTheNode, OnceItWasExecuted, OnceItWasRelayed] {
        for chain in [false, true] {
            let rig = Rig::new(Revision::Relay).await;
            let before = rig.another().await;
            let old = failed(&rig, &before).await;
            let behind = before.submit_signed(rig.sign_ordered(2, "behind").await).await.unwrap();
            let new = rig.sign_ordered(1, "good").await;
            rig.node.faults().stall_relays(crash != OnceItWasRelayed);
            let sending = Box::pin(before.replace_signed(&old, new.clone()));
            match crash {
                BeforeItWasSent => drop(sending),
                BeforeTheReply => {
                    let gate = rig.node.faults().hold_reply(Method::SubmitJob);
                    let mut sending = sending;
                    tokio::select! {
                        _ = &mut sending => panic!("it was held"),
                        () = gate.arrived(1) => {}
                    }
                    drop(sending);
                    gate.open();
                }
                AfterwardsAndSoDidTheNode => {
                    let gate = rig.node.faults().hold_executions();
                    within(sending).await.unwrap();
                    rig.node.restart();
                    gate.open();
                }
                OnceItWasExecuted | OnceItWasRelayed => {
                    within(sending).await.unwrap();
                    let state = if crash == OnceItWasRelayed { JobState::Relayed } else { JobState::Done };
                    rig.reaches(new.id(), state).await;
                }
            }
            drop((old, before));
            rig.node.faults().clear();
            // After the restart there are the stored jobs.
            let builder = rig.builder();
            let builder = if chain { builder.chain(rig.node.chain().to_chain()) } else { builder };
            let client = builder.connect().await.unwrap();
            let old = client.resume(rig.sign_ordered(1, "bad").await).unwrap();
            let handle = within(client.replace_signed(&old, new.clone())).await.unwrap();
            let result = within(handle.wait(Until::Relayed).into_future()).await.unwrap();
            assert_eq!(result.output()[..], *b"doog", "{crash:?}");
            let behind = client.resume(behind.signed_job().clone()).unwrap();
            within(behind.wait(Until::Relayed).into_future()).await.unwrap();
            assert_eq!(end(&old).await.kind(), ErrorKind::NonceTaken, "{crash:?}");
            assert_eq!(rig.on_chain(), [1, 2]);
            // Once more, for nothing.
            let sent = rig.node.stats().calls(Method::SubmitJob);
            within(client.replace_signed(&old, new.clone())).await.unwrap();
            assert_eq!(rig.node.stats().calls(Method::SubmitJob), sent);
            rig.never_two_in_flight();
        }
    }
}

/// The node shows the failed job again, and the chain has the new one.
#[tokio::test]
async fn a_stored_replacement_that_has_landed_is_not_sent_again_whatever_the_node_says() {
    let rig = Rig::new(Revision::Relay).await;
    let (old, new) = (rig.sign_ordered(1, "bad").await, rig.sign_ordered(1, "good").await);
    let before = rig.another().await;
    let failed = failed(&rig, &before).await;
    let handle = within(before.replace_signed(&failed, new.clone())).await.unwrap();
    within(handle.wait(Until::Relayed).into_future()).await.unwrap();
    rig.node.faults().lie(Lie::Echo);
    let client = rig.builder().chain(rig.node.chain().to_chain()).connect().await.unwrap();
    let sent = rig.node.stats().calls(Method::SubmitJob);
    let handle = within(client.replace_signed(&client.resume(old).unwrap(), new)).await.unwrap();
    assert_eq!(rig.node.stats().calls(Method::SubmitJob), sent);
    rig.node.faults().clear();
    within(handle.wait(Until::Relayed).into_future()).await.unwrap();
}

/// The checks are those of `replace`.
#[tokio::test]
async fn a_signed_job_replaces_only_what_has_failed_and_what_it_fits() {
    let rig = Rig::new(Revision::Relay).await;
    let client = rig.another().await;
    let refused = async |old: &JobHandle, new: SignedJob, kind: ErrorKind, why: &str| {
        let before = rig.node.stats().calls(Method::SubmitJob);
        let error = within(client.replace_signed(old, new)).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (kind, Outcome::NotSent), "{}", error.report());
        assert!(error.to_string().contains(why), "{why}: {}", error.report());
        assert!(error.hint().is_some() && error.job_id() == Some(old.id().into()), "{}", error.report());
        assert_eq!(rig.node.stats().calls(Method::SubmitJob), before, "{why}");
    };
    let old = failed(&rig, &client).await;
    let invalid = ErrorKind::InvalidInput;
    refused(&old, old.signed_job().clone(), invalid, "the very one that failed").await;
    refused(&old, rig.sign_ordered(2, "good").await, invalid, "a nonce of its own").await;
    refused(&old, rig.sign(1, "good").await, invalid, "the job is Unordered").await;
    // Not failed: the node does not know it, and has it in hand.
    let unsent = client.resume(rig.sign_ordered(9, "abc").await).unwrap();
    refused(&unsent, rig.sign_ordered(9, "good").await, ErrorKind::Nonce, "does not know it").await;
    rig.node.faults().stall_relays(true);
    let done = client.submit_signed(rig.sign_ordered(2, "abc").await).await.unwrap();
    rig.reaches(done.id(), JobState::Done).await;
    refused(&done, rig.sign_ordered(2, "good").await, ErrorKind::Nonce, "has not failed").await;
    // One look that shows it as failed.
    rig.node.faults().lie_once(2, Lie::Status(JobState::Failed));
    refused(&done, rig.sign_ordered(2, "good").await, ErrorKind::Nonce, "has not failed").await;
    // Another one has taken its place.
    let third = rig.sign_ordered(1, "third").await;
    within(client.replace_signed(&old, third)).await.unwrap();
    refused(&old, rig.sign_ordered(1, "fourth").await, ErrorKind::NonceTaken, "another job under this nonce").await;

    let rig = Rig::new(Revision::State).await;
    let client = rig.another().await;
    let old = client.submit(rig.build("bad")).await.unwrap();
    rig.reaches(old.id(), JobState::Failed).await;
    let error = within(client.replace_signed(&old, rig.sign(1, "good").await)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

/// A node that has a job as failed, loses the answer to its submission, and never answers another one's.
fn losing(old: &SignedJob) -> Scripted {
    let (row, id) = (Row::of(old, answers::FAILED).encode(), old.id());
    Scripted::new(false, move |method, body| match method {
        Method::SubmitJob if body.windows(32).any(|window| window == [0xff; 32]) => {
            (Duration::from_secs(1 << 30), Err(scripted::broken()))
        }
        Method::SubmitJob => at_once(Err(scripted::broken())),
        _ if body.windows(32).any(|window| window == id.as_bytes()) => at_once(Ok(row.clone())),
        _ => at_once(Err(scripted::not_found())),
    })
}

/// While a replacement waits for its turn, the caller goes away, or the turn does not come: the failed job's bytes stay
/// in the list until those of the new one are there.
#[tokio::test(start_paused = true)]
async fn at_any_time_the_old_job_is_kept_or_the_new_one() {
    let signer = LocalSigner::random().unwrap();
    let sign = async |input: &[u8], nonce| {
        let job = scripted::request(CONSUMER, input).prepare(Revision::Relay, nonce).unwrap();
        job.sign(&signer).await.unwrap()
    };
    let old = sign(b"old", 1).await;
    let new = scripted::request(CONSUMER, b"new");
    // As many as may be under way at once.
    let mut others = Vec::new();
    for nonce in 2..514 {
        others.push(sign(&[0xff; 32], nonce).await);
    }
    for crowded in [false, true] {
        for polls in 0..24 {
            let node = losing(&old);
            let policy = RetryPolicy::none().with_submit_deadline(Duration::from_secs(60));
            let client = node.client(Revision::Relay, answers::operator()).retry(policy).signer(signer.clone());
            let client = client.connect().await.unwrap();
            client.submit_signed(old.clone()).await.unwrap_err();
            let failed = client.resume(old.clone()).unwrap();
            let under_way = if crowded { others.len() } else { 0 };
            for job in &others[..under_way] {
                let (client, job) = (client.clone(), job.clone());
                tokio::spawn(async move { client.submit_signed(job).await });
            }
            while node.count(Method::SubmitJob) < 1 + under_way {
                tokio::task::yield_now().await;
            }
            let mut replacing = Box::pin(client.replace(&failed, new.clone()));
            for poll in 0..polls {
                let ended = poll_once(&mut replacing).await.is_ready();
                let kept = client.unresolved().iter().filter(|job| job.id() == old.id()).count();
                assert_eq!(kept, 1, "crowded: {crowded}, poll {poll} of {polls}, ended: {ended}");
                if ended {
                    break;
                }
                sleep(Duration::from_millis(900)).await;
            }
            drop(replacing);
            let kept = client.unresolved().into_iter().find(|job| job.id() == old.id()).unwrap();
            let sent = node.count(Method::SubmitJob) > 1 + under_way;
            assert_eq!(kept != old, sent, "crowded: {crowded}, {polls} polls: {kept:?}");
        }
    }
}

/// A client that is closed while the replacement is signed keeps the failed job, too.
#[tokio::test]
async fn what_is_not_replaced_after_all_is_kept() {
    let signer = LocalSigner::random().unwrap();
    let job = scripted::request(CONSUMER, b"old").prepare(Revision::Relay, 1).unwrap();
    let old = job.sign(&signer).await.unwrap();
    let node = losing(&old);
    let mood = Arc::new(Mood::default());
    let moody = Moody { inner: signer, mood: Arc::clone(&mood) };
    let client = node.client(Revision::Relay, answers::operator()).retry(RetryPolicy::none()).signer(moody);
    let client = client.connect().await.unwrap();
    client.submit_signed(old.clone()).await.unwrap_err();
    let failed = client.resume(old.clone()).unwrap();
    mood.yields.store(1000, SeqCst);
    let mut replacing = Box::pin(client.replace(&failed, scripted::request(CONSUMER, b"new")));
    while mood.asked.load(SeqCst) == 0 {
        assert!(poll_once(&mut replacing).await.is_pending());
        tokio::task::yield_now().await;
    }
    let open = within(client.close(Duration::from_secs(60))).await;
    assert_eq!(open, [old]);
    let error = within(replacing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{}", error.report());
    assert_eq!(client.unresolved(), open);
}
