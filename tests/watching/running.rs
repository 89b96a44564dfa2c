//! A job in one call: what it keeps of a submission's promises and of a wait's.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, future::join_all};
use infinityvm_sdk::{
    ErrorKind, JobId, OffchainJobRequest, Outcome, PollPolicy, ProgramId, RelayStrategy, Revision, Stage, Until,
    client::{ClientBuilder, DeadlineExceeded},
    nonce::{NonceManager, Sequential},
    observe::{ClientEvent, Observer},
    primitives::B256,
    rpc::Method,
};
use support::fake_chain::FakeChain;
use tokio::time::{Instant, timeout};

use crate::{
    answers::{self, OPERATOR, RELAYED, Row, Signed},
    learning::{PROGRAMS, Place, SIGNER, Way},
    rig::{CONSUMER, Scripted, at_once, job, within},
};

/// A program that takes half a second, which the client knows.
async fn learnt() -> Place {
    let mut place = Place::new(PollPolicy::default(), vec![PROGRAMS[2].1], 11).await;
    within(place.run(&[0; 40], 4, Way::Run)).await;
    assert_eq!(place.client.unresolved(), []);
    place
}

/// Dropped while the first look is put off, or while it waits: the job goes on, and is where it can be found.
#[tokio::test(start_paused = true)]
async fn the_job_of_a_run_that_was_dropped_is_unresolved_until_it_is_waited_for() {
    for after in [100, 300, 3000] {
        let mut place = learnt().await;
        place.stall(after == 3000);
        let (_, job) = place.request(0);
        let run = place.client.run(job, Until::Executed);
        assert!(timeout(Duration::from_millis(after), run.into_future()).await.is_err());
        let open = place.client.unresolved();
        assert_eq!(open.len(), 1, "after {after} ms");
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(place.client.unresolved(), open, "its submission has ended, and nobody has its result");
        place.finish();
        let result = within(place.client.resume(open[0].clone()).unwrap().wait(Until::Executed)).await.unwrap();
        assert_eq!(&result.output()[..], b"output");
        assert_eq!(place.client.unresolved(), []);
        assert_eq!(place.node.count(Method::SubmitJob), 41);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_not_sent_leaves_nothing_behind() {
    let mut place = learnt().await;
    let (_, job) = place.request(0);
    drop(place.client.run(job.clone(), Until::Executed));
    drop(place.client.run(job, Until::Executed).into_future());
    assert_eq!((place.client.unresolved(), place.node.count(Method::SubmitJob)), (vec![], 40));
    // Without a chain nobody can know what is final.
    let (_, job) = place.request(0);
    let error = place.client.run(job, Until::Finalized { confirmations: 1 }).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidConfig, Outcome::NotSent));
    assert_eq!((place.client.unresolved(), place.node.count(Method::SubmitJob)), (vec![], 40));
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_at_its_deadline_and_keeps_the_job() {
    let mut place = learnt().await;
    place.stall(true);
    for seconds in [0.1, 2.0] {
        let (nonce, job) = place.request(0);
        let begun = Instant::now();
        let run = place.client.run(job, Until::Executed).timeout(Duration::from_secs_f64(seconds));
        let error = within(run.into_future()).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::DeadlineExceeded, Outcome::Accepted));
        assert!(DeadlineExceeded::of(&error).is_some());
        assert!(begun.elapsed() <= Duration::from_secs_f64(seconds + 0.1), "{:?}", begun.elapsed());
        assert!(place.client.unresolved().iter().any(|open| open.nonce() == nonce));
    }
}

/// It is executed, which settles the nonce, and nobody has its bytes but the client: neither the deadline nor a drop takes
/// them away.
#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_more_than_the_execution_keeps_the_job_until_its_end() {
    for dropped in [false, true] {
        let mut place = learnt().await;
        let (nonce, job) = place.request(0);
        let run = place.client.run(job, Until::Relayed).timeout(Duration::from_secs(30)).into_future();
        if dropped {
            assert!(timeout(Duration::from_secs(20), run).await.is_err());
        } else {
            let error = within(run).await.unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::DeadlineExceeded, Outcome::Accepted));
            let deadline = DeadlineExceeded::of(&error).unwrap();
            assert_eq!(deadline.stage(), Stage::Executed, "{}", error.report());
        }
        let open = place.client.unresolved();
        assert_eq!(open.iter().map(|job| job.nonce()).collect::<Vec<_>>(), [nonce]);
        // Whoever waits for it later has it, and then it is settled.
        let result = within(place.client.resume(open[0].clone()).unwrap().wait(Until::Executed)).await.unwrap();
        assert_eq!((&result.output()[..], place.client.unresolved()), (&b"output"[..], vec![]));
    }
}

/// The comparison is put off for the run alone: whoever submits the same job, or closes the client, does not wait for that.
#[tokio::test(start_paused = true)]
async fn nobody_else_waits_for_a_look_that_is_put_off() {
    for closes in [false, true] {
        let mut place = Place::new(PollPolicy::default(), vec![PROGRAMS[3].1], 12).await;
        within(place.run(&[0; 10], 2, Way::Run)).await;
        let (_, job) = place.request(0);
        let client = place.client.clone();
        let run = tokio::spawn(client.run(job, Until::Executed).into_future());
        tokio::time::sleep(Duration::from_millis(50)).await;
        let begun = Instant::now();
        if closes {
            assert_eq!(client.close(Duration::from_secs(30)).await.len(), 1, "its result is open");
        } else {
            client.submit_signed(client.unresolved().remove(0)).await.unwrap();
        }
        assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
        assert_eq!(&within(run).await.unwrap().unwrap().output()[..], b"output");
        assert_eq!(client.unresolved(), []);
    }
}

/// Jobs that run are neither submissions under way nor jobs of unknown fate, of which a client has a bounded number.
#[tokio::test(start_paused = true)]
async fn thousands_of_runs_are_under_way_at_once() {
    let mut place = learnt().await;
    place.stall(true);
    let jobs: Vec<_> = (0..3000).map(|_| place.request(0).1).collect();
    let runs = join_all(jobs.into_iter().map(|job| place.client.run(job, Until::Executed).into_future()));
    let ends = async {
        while place.client.unresolved().len() < 3000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        place.finish();
    };
    let (results, ()) = within(futures_util::future::join(runs, ends)).await;
    assert!(results.iter().all(Result::is_ok), "{:?}", results.iter().find(|result| result.is_err()));
    assert_eq!(place.client.unresolved(), []);
}

/// The node has another job under the nonce: two looks say so, and the run ends.
#[tokio::test(start_paused = true)]
async fn another_job_under_the_nonce_ends_a_run() {
    let mut place = learnt().await;
    let (nonce, mine) = place.request(0);
    let other = job(Revision::Relay, CONSUMER, nonce);
    let (record, id) = (answers::Row::of(&other, answers::PENDING).encode(), other.id());
    let node = Scripted::new(false, move |method, _| {
        at_once(Ok(match method {
            Method::SubmitJob => answers::taken(id.as_bytes()),
            Method::GetResult => record.clone(),
            other => panic!("{other} was called"),
        }))
    });
    let client = node.client(Revision::Relay, answers::operator()).signer(SIGNER.clone()).connect().await.unwrap();
    let error = within(client.run(mine, Until::Executed).into_future()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NonceTaken);
    assert_eq!((client.unresolved(), node.count(Method::GetResult)), (vec![], 2));
}

/// Ordered jobs, and a node that says RELAYED of each of them at the first look.
fn relayed_at_once(jobs: u64) -> (Scripted, Vec<OffchainJobRequest>) {
    let request = |nonce: u64| {
        let job = OffchainJobRequest::builder(CONSUMER, ProgramId::new(vec![7])).max_cycles(1000);
        let job = job.onchain_input(nonce.to_be_bytes().to_vec()).relay(RelayStrategy::Ordered);
        job.nonce(nonce).build().unwrap()
    };
    let requests: Vec<_> = (1..=jobs).map(request).collect();
    let sign = |job: &OffchainJobRequest| {
        let unsigned = job.prepare(Revision::Relay, job.nonce().unwrap()).unwrap();
        let signed = unsigned.sign(&*SIGNER).now_or_never().unwrap().unwrap();
        (signed.id(), signed)
    };
    let signed: HashMap<_, _> = requests.iter().map(sign).collect();
    let node = Scripted::new(false, move |method, body| {
        at_once(Ok(match method {
            Method::SubmitJob => {
                let job = signed.values().find(|job| job.request()[..] == answers::submitted(body).0[..]).unwrap();
                answers::taken(job.id().as_bytes())
            }
            Method::GetResult => {
                let job = &signed[&JobId::from(B256::from_slice(&answers::asked_for(body)))];
                Row::of(job, RELAYED).with(&Signed::by(&OPERATOR, answers::result(job, b"output"))).encode()
            }
            other => panic!("{other} was called"),
        }))
    });
    (node, requests)
}

/// A client of it, which has room for one job in a lane.
fn ordered(node: &Scripted) -> ClientBuilder {
    let nonces = NonceManager::new(Sequential::starting_at(1)).with_window(1);
    node.client(Revision::Relay, answers::operator()).signer(SIGNER.clone()).nonce_manager(nonces)
}

/// A job that its run saw relayed at once makes room in its lane: the next one enters without a look at the lane.
#[tokio::test(start_paused = true)]
async fn a_run_that_ends_at_once_keeps_no_place_in_the_window() {
    for until in [Until::Executed, Until::Relayed] {
        let (node, jobs) = relayed_at_once(3);
        let client = ordered(&node).refuse_when_full(true).connect().await.unwrap();
        for job in jobs {
            within(client.run(job, until).into_future()).await.unwrap();
        }
        let calls = (node.count(Method::SubmitJob), node.count(Method::GetResult));
        assert_eq!(calls, (3, 3), "{until:?}");
    }
}

/// The stages that are told.
#[derive(Clone, Debug, Default)]
struct Stages(Arc<Mutex<Vec<Stage>>>);

impl Observer for Stages {
    fn observe(&self, event: ClientEvent<'_>) {
        if let ClientEvent::StageReached { stage, .. } = event {
            self.0.lock().unwrap().push(stage);
        }
    }
}

/// That a job is relayed is the node's word only where there is no chain to ask.
#[tokio::test(start_paused = true)]
async fn a_run_tells_no_stage_that_only_the_chain_can_show() {
    for has_chain in [false, true] {
        let (node, mut jobs) = relayed_at_once(1);
        let stages = Stages::default();
        let client = ordered(&node).observer(stages.clone());
        let client =
            if has_chain { client.chain(FakeChain::new(Revision::Relay, answers::operator()).chain()) } else { client };
        let client = client.connect().await.unwrap();
        within(client.run(jobs.remove(0), Until::Executed).into_future()).await.unwrap();
        let told = stages.0.lock().unwrap().clone();
        let expected = if has_chain {
            &[Stage::Accepted, Stage::Executed][..]
        } else {
            &[Stage::Accepted, Stage::Executed, Stage::Relayed]
        };
        assert_eq!(told, expected, "with a chain: {has_chain}");
    }
}
