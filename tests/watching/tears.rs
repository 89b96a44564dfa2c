//! Nodes whose replicas lag: an answer that another one contradicts ends nothing, and is told at the deadline.

use std::{sync::Mutex, time::Duration};

use infinityvm_sdk::{ErrorKind, JobHandle, Outcome, Revision, SignedJob, Until, rpc::Method};
use tokio::time::Instant;

use crate::{
    answers::{self, DONE, FAILED, OPERATOR, PENDING, RELAYED, Row, Signed},
    rig::{CONSUMER, Random, Scripted, at_once, job, seed, sweep},
};

/// What a look shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Pending,
    Done,
    Relayed,
    Failed,
    Foreign,
    /// Another job, which failed.
    ForeignFailed,
    Unproven,
}

use Shown::{Done, Failed, Foreign, ForeignFailed, Pending, Relayed, Unproven};

impl Shown {
    fn row(self, job: &SignedJob) -> Row {
        let row = |status| Row::of(job, status);
        let good = || Signed::by(&OPERATOR, answers::result(job, b"output"));
        match self {
            Pending => row(PENDING),
            Done => row(DONE).with(&good()),
            Relayed => row(RELAYED).with(&good()),
            Failed => row(FAILED),
            Foreign => Row { onchain_input: b"else".to_vec(), ..row(DONE) },
            ForeignFailed => Row { onchain_input: b"else".to_vec(), ..row(FAILED) },
            Unproven => row(DONE).with(&Signed { result: good().result, signature: vec![9; 65].into() }),
        }
    }
}

/// A node that shows these one after the other, and then these in turn.
async fn scene(revision: Revision, list: bool, first: Vec<Shown>, then: Vec<Shown>) -> (Scripted, JobHandle) {
    let job = job(revision, CONSUMER, 1);
    let (shown, looks) = (job.clone(), Mutex::new(0));
    let node = Scripted::new(list, move |method, _| {
        at_once(Ok(match method {
            Method::GetResult => {
                let mut looks = looks.lock().unwrap();
                let now = first.get(*looks).unwrap_or_else(|| &then[(*looks - first.len()) % then.len()]);
                *looks += 1;
                now.row(&shown).encode()
            }
            Method::GetPendingJobs => answers::pending_jobs([1]),
            other => panic!("{other} was called"),
        }))
    });
    let client = node.client(revision, answers::operator()).connect().await.unwrap();
    (node, client.resume(job).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_failed_job_that_was_replaced_is_shown_for_a_while_and_ends_nothing() {
    for first in [vec![ForeignFailed; 2], vec![Failed; 2], vec![Foreign], vec![Unproven], vec![Foreign, Done, Unproven]]
    {
        for list in [true, false] {
            let (_, handle) = scene(Revision::Relay, list, first.clone(), vec![Relayed]).await;
            assert_eq!(handle.wait(Until::Relayed).await.unwrap().output()[..], *b"output", "{first:?}");
        }
    }
}

/// A second look follows soon, and not at once; and is one more call.
#[tokio::test(start_paused = true)]
async fn bad_news_that_stays_ends_a_wait_after_a_short_pause() {
    for (shown, kind, revision, looks, pause) in [
        (Foreign, ErrorKind::NonceTaken, Revision::Relay, 2, 250),
        (Unproven, ErrorKind::Verification, Revision::Relay, 2, 250),
        (Failed, ErrorKind::JobFailed, Revision::Relay, 3, 750),
        (ForeignFailed, ErrorKind::NonceTaken, Revision::Relay, 3, 750),
        (Failed, ErrorKind::JobFailed, Revision::State, 2, 250),
        (ForeignFailed, ErrorKind::NonceTaken, Revision::State, 2, 250),
    ] {
        // Other waits that come meanwhile, and lists, make nothing sooner.
        let (node, handle) = scene(revision, revision == Revision::Relay, Vec::new(), vec![shown]).await;
        let begun = Instant::now();
        let others = (0..20).map(|wait| {
            let handle = handle.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(10 * wait)).await;
                handle.wait(Until::Executed).await.unwrap_err().kind()
            })
        });
        for other in others.collect::<Vec<_>>() {
            assert_eq!(other.await.unwrap(), kind, "{shown:?}");
        }
        assert_eq!(node.count(Method::GetResult), looks, "{shown:?}");
        let took = begun.elapsed();
        assert!(
            took >= Duration::from_millis(pause) && took < Duration::from_millis(pause + 100),
            "{shown:?}: {took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_contradict_each_other_to_the_end_are_told_as_such() {
    for (then, kind) in [
        (vec![Failed, Pending], ErrorKind::JobFailed),
        (vec![Foreign, Pending], ErrorKind::NonceTaken),
        (vec![ForeignFailed, Failed], ErrorKind::NonceTaken),
    ] {
        let (node, handle) = scene(Revision::Relay, false, Vec::new(), then.clone()).await;
        let error = handle.wait(Until::Executed).timeout(Duration::from_secs(60)).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::DeadlineExceeded, true));
        assert!(error.outcome() == Outcome::Accepted && error.to_string().contains("contradict each other"), "{error}");
        let report = error.report().to_string();
        assert!(report.contains(&kind.to_string()) || then[1] == Failed && report.contains("job failed"), "{report}");
        // Each ordinary look asks for one that confirms, 250 ms later, and no more: not a flood. Ordinary looks grow apart to
        // between one and two seconds, after a dozen that come sooner.
        let ordinary = 12 + 60_000 / 1250;
        assert!(node.count(Method::GetResult) <= 2 * ordinary, "{}", node.count(Method::GetResult));
    }
    // Or there is no time for a second look.
    let (_, handle) = scene(Revision::Relay, false, Vec::new(), vec![Foreign]).await;
    let error = handle.wait(Until::Executed).timeout(Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(error.to_string().contains("no time to confirm"), "{error}");
}

/// Whatever a replica that lags shows now and then, a job that is well is never said to be lost to another, failed or unproven.
#[tokio::test(start_paused = true)]
async fn no_tear_ends_a_wait_for_a_job_that_is_well() {
    let mut random = Random::new(seed());
    let mut torn = 0;
    for round in 0..if sweep() { 20_000 } else { 2000 } {
        let revision = Revision::ALL[round % 2];
        let mut shown = Vec::new();
        for truth in [Pending, Done, Relayed] {
            for _ in 0..random.up_to(4) {
                // Never so often in a row that it must be believed.
                if random.up_to(3) == 1 {
                    let tear = [Failed, Foreign, ForeignFailed, Unproven][random.up_to(4) - 1];
                    let most =
                        if revision == Revision::Relay && matches!(tear, Failed | ForeignFailed) { 2 } else { 1 };
                    shown.extend(std::iter::repeat_n(tear, random.up_to(most)));
                    torn += 1;
                }
                shown.push(truth);
            }
        }
        let (_, handle) = scene(revision, random.up_to(2) == 1, shown.clone(), vec![Relayed]).await;
        let until = if random.up_to(2) == 1 { Until::Executed } else { Until::Relayed };
        let result = handle.wait(until).timeout(Duration::from_secs(3600)).await;
        assert!(result.is_ok(), "{shown:?}: {}", result.unwrap_err().report());
    }
    assert!(torn > 1000);
}
