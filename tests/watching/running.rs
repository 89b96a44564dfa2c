//! A job in one call: what it keeps of a submission's promises and of a wait's.

use std::time::Duration;

use futures_util::future::join_all;
use infinityvm_sdk::{ErrorKind, Outcome, PollPolicy, Revision, Until, client::DeadlineExceeded, rpc::Method};
use tokio::time::{Instant, timeout};

use crate::{
    answers,
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
