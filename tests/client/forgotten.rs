//! What a restart of the node leaves behind: records of jobs that are in no queue. None of them counts as accepted.

use std::time::Duration;

use infinityvm_sdk::{
    Client, JobId, RelayStrategy, RetryPolicy, Revision, SignedJob,
    devnode::{DevNode, JobState, Loss},
    rpc::{Method, StatusCode},
};

use crate::rig::{CONSUMER, Rig, within};

/// How the call ends that may have arrived.
#[derive(Clone, Copy, Debug)]
enum Interruption {
    Refused(StatusCode),
    /// It arrives at the node, which then restarts.
    Restart,
}

const INTERRUPTIONS: [Interruption; 4] = [
    Interruption::Refused(StatusCode::UNAVAILABLE),
    Interruption::Refused(StatusCode::RESOURCE_EXHAUSTED),
    Interruption::Refused(StatusCode::DEADLINE_EXCEEDED),
    Interruption::Restart,
];

/// How the node's record of the job reads when the node goes down.
const LEFT: [JobState; 2] = [JobState::Pending, JobState::Done];

async fn client(rig: &Rig, rest: bool) -> Client {
    let builder = rig.builder().retry(RetryPolicy::default().with_backoff(Duration::ZERO, Duration::ZERO));
    let builder = if rest { builder.rest(rig.node.rest_url()) } else { builder };
    builder.connect().await.unwrap()
}

/// Lets a job come as far as this, and no further.
fn hold(node: &DevNode, state: JobState) {
    match state {
        JobState::Pending => drop(node.faults().hold_executions()),
        _ => node.faults().stall_relays(true),
    }
}

/// Ends what held the job, once that job is lost.
fn restart(node: &DevNode) {
    node.restart();
    node.faults().clear();
    node.faults().stall_relays(false);
}

async fn scene(rest: bool, state: JobState, strategy: RelayStrategy) -> (Rig, Client, SignedJob) {
    let rig = Rig::new(Revision::Relay).await;
    let client = client(&rig, rest).await;
    let job = rig.job("abc").relay(strategy).build().unwrap().prepare(Revision::Relay, 1).unwrap();
    let job = job.sign(&rig.signer).await.unwrap();
    hold(&rig.node, state);
    (rig, client, job)
}

/// Every way of a job that was signed before: over both transports, in both lanes, with either record.
#[tokio::test]
async fn a_job_of_before_a_restart_is_sent_again_although_a_call_was_interrupted() {
    for rest in [false, true] {
        for state in LEFT {
            for strategy in [RelayStrategy::Unordered, RelayStrategy::Ordered] {
                for interruption in INTERRUPTIONS {
                    let what = format!("REST {rest}, {state:?}, {strategy:?}, {interruption:?}");
                    let (rig, client, job) = scene(rest, state, strategy).await;
                    within(client.submit_signed(job.clone())).await.unwrap();
                    rig.reaches(job.id(), state).await;
                    restart(&rig.node);
                    match interruption {
                        Interruption::Refused(code) => rig.node.faults().refuse(Method::SubmitJob, 1, code, "starting"),
                        Interruption::Restart => {
                            // It is taken up, does not get as far, and is lost once more.
                            hold(&rig.node, state);
                            let gate = rig.node.faults().hold_reply(Method::SubmitJob);
                            let again = tokio::spawn({
                                let (client, job) = (client.clone(), job.clone());
                                async move { client.submit_signed(job).await }
                            });
                            gate.arrived(1).await;
                            rig.reaches(job.id(), state).await;
                            restart(&rig.node);
                            within(again).await.unwrap().expect(&what);
                            within(rig.reaches(job.id(), JobState::Relayed)).await;
                            continue;
                        }
                    }
                    within(client.submit_signed(job.clone())).await.expect(&what);
                    // Nobody waits for it, so nobody else sends it.
                    let relayed =
                        tokio::time::timeout(Duration::from_secs(20), rig.reaches(job.id(), JobState::Relayed));
                    relayed.await.unwrap_or_else(|_| panic!("told as accepted and not sent: {what}"));
                    assert_eq!(rig.node.stats().submissions(job.id().into()), 2, "{what}");
                    rig.never_two_in_flight();
                }
            }
        }
    }
}

/// The call that is interrupted may be the job's first: what it left at the node went down with it.
#[tokio::test]
async fn a_new_job_whose_node_restarts_before_it_answers_is_sent_again() {
    for rest in [false, true] {
        for state in LEFT {
            for strategy in [RelayStrategy::Unordered, RelayStrategy::Ordered] {
                let what = format!("REST {rest}, {state:?}, {strategy:?}");
                let (rig, client, _) = scene(rest, state, strategy).await;
                let gate = rig.node.faults().hold_reply(Method::SubmitJob);
                let request = rig.job("abc").relay(strategy).build().unwrap();
                let submitted = tokio::spawn({
                    let client = client.clone();
                    async move { client.submit(request).await }
                });
                gate.arrived(1).await;
                let id = JobId::derive(1, CONSUMER);
                rig.reaches(id, state).await;
                restart(&rig.node);
                within(submitted).await.unwrap().expect(&what);
                let relayed = tokio::time::timeout(Duration::from_secs(20), rig.reaches(id, JobState::Relayed));
                relayed.await.unwrap_or_else(|_| panic!("told as accepted and not sent: {what}"));
            }
        }
    }
}

/// The other side of it: what the node works on is not executed a second time because an answer was lost.
#[tokio::test]
async fn a_job_that_the_node_works_on_is_executed_once_although_its_answer_was_lost() {
    for rest in [false, true] {
        for state in LEFT {
            let (rig, client, job) = scene(rest, state, RelayStrategy::Unordered).await;
            rig.node.faults().drop_replies(Method::SubmitJob, 1, Loss::CloseConnection);
            within(client.submit_signed(job.clone())).await.unwrap();
            rig.reaches(job.id(), state).await;
            rig.node.faults().clear();
            rig.node.faults().stall_relays(false);
            within(rig.reaches(job.id(), JobState::Relayed)).await;
            assert_eq!(rig.executions(job.id()), 1, "REST {rest}, {state:?}");
            rig.never_two_in_flight();
        }
    }
}
