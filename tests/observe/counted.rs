//! What the feature `metrics` counts.

use infinityvm_sdk::{ErrorKind, ProgramId, Until, client::ClientBuilder, observe::Metrics};

use crate::{
    recorder::Recorder,
    rig::{Mood, Node, PROGRAM, builder, connected, job},
};

/// Of one process all recorders are one, so each test has its own while the metrics are registered.
pub fn recorded(builder: ClientBuilder) -> (Recorder, ClientBuilder) {
    let recorder = Recorder::default();
    let metrics = metrics::with_local_recorder(&recorder, Metrics::new);
    (recorder, builder.observer(metrics))
}

#[tokio::test(start_paused = true)]
async fn a_job_is_counted_at_each_stage_and_timed() {
    let node = Node::default();
    let (recorder, builder) = recorded(builder(&node.scripted()));
    let client = connected(builder).await;
    assert_eq!(recorder.sum("infinityvm_retry_budget", &[]), 100.0);
    assert_eq!(recorder.sum("infinityvm_connected", &[]), 0.0);
    node.next([Mood::Away, Mood::Loses]);
    let handle = client.submit(job()).await.unwrap();
    handle.wait(Until::Executed).await.unwrap();

    let sum = |name: &str, labels: &[&str]| recorder.sum(name, labels);
    assert_eq!(sum("infinityvm_jobs_total", &["outcome=ok", "stage=accepted"]), 1.0);
    assert_eq!(sum("infinityvm_jobs_total", &["outcome=ok", "stage=executed"]), 1.0);
    assert_eq!(sum("infinityvm_jobs_total", &["outcome=ok", "stage=relayed"]), 0.0);
    assert_eq!(sum("infinityvm_calls_total", &["method=SubmitJob", "outcome=not_sent"]), 1.0);
    assert_eq!(sum("infinityvm_calls_total", &["method=SubmitJob", "outcome=interrupted"]), 1.0);
    assert_eq!(sum("infinityvm_calls_total", &["method=GetResult", "outcome=ok"]), 2.0);
    assert_eq!(sum("infinityvm_notices_total", &["notice=repeated"]), 1.0);
    assert_eq!(recorder.values("infinityvm_submission_attempts", &[]), [2.0]);
    assert_eq!(recorder.values("infinityvm_job_looks", &[]), [1.0]);
    // The client paused before it went on, by the paused clock.
    let accepted = recorder.values("infinityvm_job_stage_seconds", &["stage=accepted"]);
    let executed = recorder.values("infinityvm_job_stage_seconds", &["stage=executed"]);
    assert!(accepted.len() == 1 && executed.len() == 1 && 0.0 < accepted[0] && accepted[0] <= executed[0]);
    assert_eq!(recorder.values("infinityvm_call_seconds", &["method=SubmitJob"]), [0.0, 0.0]);
    assert_eq!(sum("infinityvm_connected", &[]), 1.0);
    assert_eq!(sum("infinityvm_retry_budget", &[]), 99.0);
    for gauge in ["infinityvm_jobs_waiting", "infinityvm_nonces_open", "infinityvm_nonces_quarantined"] {
        assert_eq!(sum(gauge, &[]), 0.0, "{gauge}");
    }
}

#[tokio::test(start_paused = true)]
async fn gauges_follow_what_is_waited_for_and_held_and_are_taken_back_with_the_client() {
    let node = Node::default();
    let (recorder, builder) = recorded(builder(&node.scripted()));
    let client = connected(builder).await;
    node.set_slow(true);
    let handles = [client.submit(job()).await.unwrap(), client.submit(job()).await.unwrap()];
    let waits = handles.map(|handle| tokio::spawn(async move { handle.wait(Until::Executed).await }));
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    assert_eq!(recorder.sum("infinityvm_jobs_waiting", &[]), 2.0);
    let signed = client.sign(job()).await.unwrap();
    assert_eq!(recorder.sum("infinityvm_nonces_quarantined", &[]), 1.0);
    assert_eq!(recorder.sum("infinityvm_notices_total", &["notice=quarantined"]), 1.0);
    node.set_slow(false);
    client.submit_signed(signed).await.unwrap();
    assert_eq!(recorder.sum("infinityvm_nonces_quarantined", &[]), 0.0);
    assert_eq!(recorder.sum("infinityvm_nonces_open", &[]), 0.0);
    for wait in waits {
        wait.await.unwrap().unwrap();
    }
    assert_eq!(recorder.sum("infinityvm_jobs_waiting", &[]), 0.0);
    assert_eq!(recorder.sum("infinityvm_connected", &[]), 1.0);
    drop(client);
    // Its last tasks end with the next turns of the runtime.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(recorder.sum("infinityvm_connected", &[]), 0.0);
    assert_eq!(recorder.sum("infinityvm_retry_budget", &[]), 0.0);
}

#[tokio::test(start_paused = true)]
async fn failures_are_counted_by_what_they_were() {
    let node = Node::default();
    let (recorder, builder) = recorded(builder(&node.scripted()));
    let client = connected(builder).await;
    node.set_failing();
    let handle = client.submit(job()).await.unwrap();
    let error = handle.wait(Until::Relayed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JobFailed);
    assert_eq!(recorder.sum("infinityvm_jobs_total", &["outcome=failed", "stage=relayed"]), 1.0);
    assert_eq!(recorder.sum("infinityvm_notices_total", &["notice=lane_stalled"]), 1.0);
    node.set_slow(true);
    let handle = client.submit(job()).await.unwrap();
    let error = handle.wait(Until::Executed).timeout(std::time::Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(recorder.sum("infinityvm_jobs_total", &["outcome=deadline", "stage=executed"]), 1.0);
    node.next([Mood::Away; 10_000]);
    let error = client.submit(job()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(recorder.sum("infinityvm_jobs_total", &["outcome=not_sent", "stage=accepted"]), 1.0);
    assert_eq!(recorder.sum("infinityvm_connected", &[]), 0.0);
}

#[tokio::test(start_paused = true)]
async fn programs_are_told_apart_only_if_that_is_asked_for() {
    let node = Node::default();
    for named in [true, false] {
        let recorder = Recorder::default();
        let program = if named { PROGRAM.to_vec() } else { vec![9] };
        let metrics =
            metrics::with_local_recorder(&recorder, || Metrics::by_program([(ProgramId::new(program), "square_root")]));
        let client = connected(builder(&node.scripted()).observer(metrics)).await;
        client.submit(job()).await.unwrap();
        let count = |program| recorder.sum("infinityvm_jobs_total", &["outcome=ok", program, "stage=accepted"]);
        let counts = [count("program=square_root"), count("program=other")];
        assert_eq!(counts, if named { [1.0, 0.0] } else { [0.0, 1.0] });
        drop(client);
    }
    let (recorder, _builder) = recorded(builder(&node.scripted()));
    let metrics = recorder.metrics();
    let labels = metrics.values().flat_map(|metric| metric.series.keys()).flatten();
    assert!(!labels.into_iter().any(|label| label.starts_with("program=")));
}
