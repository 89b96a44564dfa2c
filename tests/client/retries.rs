//! Calls that are made again, calls that must not be, and how much of it a client allows itself.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use infinityvm_sdk::{
    Client, Error, ErrorKind, JobId, LocalSigner, OffchainJobRequest, Outcome, ProgramId, RelayStrategy, RetryPolicy,
    Revision, SignedJob, Until,
    devnode::Loss,
    nonce::Sequential,
    primitives::Address,
    rpc::{CallError, CallFailure, Capabilities, Encoding, Method, RequestBody, StatusCode},
    transport::Transport,
};
use prost::Message;

use crate::{
    plain_client::relay as pb,
    rig::{CONSUMER, Rig, both, within},
};

/// Repeats at once, so that a test against a real node does not wait.
fn eager() -> RetryPolicy {
    RetryPolicy::default().with_backoff(Duration::ZERO, Duration::ZERO)
}

async fn eager_client(rig: &Rig) -> Client {
    rig.builder().retry(eager()).connect().await.unwrap()
}

#[tokio::test]
async fn a_submission_whose_reply_is_lost_is_found_at_the_node_and_not_sent_again() {
    for loss in [Loss::ResetStream, Loss::CloseConnection] {
        both(|rig| async move {
            let client = eager_client(&rig).await;
            rig.node.faults().drop_replies(Method::SubmitJob, 1, loss);
            let handle = client.submit(rig.build("abc")).await.unwrap();
            handle.wait(Until::Relayed).await.unwrap();
            assert_eq!(rig.node.stats().submissions(handle.id().into()), 1);
            assert_eq!(rig.executions(handle.id()), 1);
            rig.settled(&client).await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_submission_that_the_node_does_not_know_is_sent_again() {
    both(|rig| async move {
        let client = eager_client(&rig).await;
        rig.node.faults().refuse(Method::SubmitJob, 3, StatusCode::UNAVAILABLE, "overloaded");
        let handle = client.submit(rig.build("abc")).await.unwrap();
        handle.wait(Until::Relayed).await.unwrap();
        let stats = rig.node.stats();
        assert_eq!((stats.calls(Method::SubmitJob), stats.submissions(handle.id().into())), (4, 1));
        assert_eq!(rig.executions(handle.id()), 1);
        rig.never_two_in_flight();
        rig.settled(&client).await;
    })
    .await;
}

/// The record that the node still has is from before its restart: no attempt that failed can have left it.
#[tokio::test]
async fn a_job_that_a_restarted_node_forgot_is_sent_again_although_an_attempt_failed() {
    let rig = Rig::new(Revision::Relay).await;
    let client = eager_client(&rig).await;
    let gate = rig.node.faults().hold_executions();
    let handle = client.submit(rig.build("abc")).await.unwrap();
    gate.arrived(1).await;
    rig.node.restart();
    gate.open();
    rig.node.faults().refuse(Method::SubmitJob, 1, StatusCode::UNAVAILABLE, "starting");
    within(client.submit_signed(handle.signed_job().clone())).await.unwrap();
    // Nobody waits for it, so nobody else sends it.
    within(rig.reaches(handle.id(), infinityvm_sdk::devnode::JobState::Relayed)).await;
    assert_eq!(rig.node.stats().submissions(handle.id().into()), 2);
    rig.never_two_in_flight();
}

/// The same with a record of another job: one that is in no queue does not have the nonce, one that is in it does.
#[tokio::test]
async fn a_job_of_another_that_a_restart_left_behind_does_not_have_the_nonce() {
    use infinityvm_sdk::devnode::JobState;
    for (done, restarts) in [(false, true), (true, true), (false, false), (true, false)] {
        let case = format!("executed: {done}, the node restarts: {restarts}");
        let rig = Rig::new(Revision::Relay).await;
        rig.node.faults().stall_relays(true);
        let gate = (!done).then(|| rig.node.faults().hold_executions());
        let evil = rig.another().await.submit_signed(rig.sign(1, "evil").await).await.unwrap();
        match &gate {
            Some(gate) => gate.arrived(1).await,
            None => rig.reaches(evil.id(), JobState::Done).await,
        }
        if restarts {
            rig.node.restart();
        }
        rig.node.faults().refuse(Method::SubmitJob, 1, StatusCode::UNAVAILABLE, "starting");
        let client = eager_client(&rig).await;
        let submitted = within(client.submit_signed(rig.sign(1, "good").await)).await;
        if let Some(gate) = gate {
            gate.open();
        }
        rig.node.faults().stall_relays(false);
        if restarts {
            let handle = submitted.unwrap_or_else(|error| panic!("{case}: {}", error.report()));
            let result = within(handle.wait(Until::Relayed).into_future()).await.unwrap();
            assert_eq!(result.output()[..], *b"doog", "{case}");
            assert!(client.unresolved().is_empty(), "{case}");
        } else {
            let error = submitted.unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::NonceTaken, Outcome::Unknown), "{case}");
            assert_eq!(rig.node.stats().submissions(evil.id().into()), 1, "{case}");
        }
    }
}

#[tokio::test]
async fn a_job_that_the_node_stored_and_does_not_run_is_sent_again() {
    both(|rig| async move {
        let client = eager_client(&rig).await;
        let text = "failed to submit job: could not read the nonce from the consumer contract: no route";
        rig.node.faults().refuse(Method::SubmitJob, 1, StatusCode::INTERNAL, text);
        let handle = client.submit(rig.build("abc")).await.unwrap();
        handle.wait(Until::Relayed).await.unwrap();
        assert_eq!(rig.node.stats().calls(Method::SubmitJob), 2);
    })
    .await;
}

#[tokio::test]
async fn what_the_node_refuses_for_good_is_not_sent_again() {
    both(|rig| async move {
        let client = eager_client(&rig).await;
        let refusals = [
            (StatusCode::INVALID_ARGUMENT, "job max cycles must be positive"),
            (StatusCode::INTERNAL, "a text of a later release"),
            (StatusCode::CANCELLED, "h2 protocol error: http2 error"),
            (StatusCode::UNIMPLEMENTED, ""),
        ];
        for (sent, (code, text)) in refusals.into_iter().enumerate() {
            rig.node.faults().refuse(Method::SubmitJob, 1, code, text);
            let error = client.submit(rig.build("abc")).await.unwrap_err();
            assert_eq!((rig.node.stats().calls(Method::SubmitJob), error.attempts()), (sent + 1, 1), "{text}");
        }
    })
    .await;
}

#[tokio::test]
async fn reads_are_made_again_and_say_how_often() {
    both(|rig| async move {
        let client = eager_client(&rig).await;
        let handle = client.submit(rig.build("abc")).await.unwrap();
        let before = rig.node.stats().calls(Method::GetResult);
        rig.node.faults().refuse(Method::GetResult, 5, StatusCode::UNAVAILABLE, "busy");
        client.get_result(handle.id()).await.unwrap();
        assert_eq!(rig.node.stats().calls(Method::GetResult) - before, 6);

        rig.node.faults().refuse(Method::GetResult, 7, StatusCode::UNAVAILABLE, "busy");
        let error = client.get_result(handle.id()).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Unavailable, 6));
        assert!(error.report().to_string().contains("attempts:  6"), "{}", error.report());
        rig.node.faults().clear();

        rig.node.faults().refuse(Method::GetResult, 1, StatusCode::INTERNAL, "a broken database");
        assert_eq!(client.get_result(handle.id()).await.unwrap_err().attempts(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_caller_of_a_submission_without_an_answer_leaves_and_can_join_it_again() {
    both(|rig| async move {
        let policy = RetryPolicy::default().with_submit_deadline(Duration::from_secs(5));
        let client = rig.builder().retry(policy).connect().await.unwrap();
        let gate = rig.node.faults().hold_reply(Method::SubmitJob);
        // Once the node keeps the answer back, there is nothing to do but to wait for the deadline.
        let held = async {
            gate.arrived(1).await;
            tokio::time::pause();
        };
        let error = tokio::join!(client.submit(rig.build("abc")), held).0.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::CallTimeout, Outcome::Unknown), "{}", error.report());
        let [job] = &client.unresolved()[..] else { panic!("{:?}", client.unresolved()) };
        let again = client.submit_signed(job.clone()).await.unwrap_err();
        assert_eq!((again.kind(), again.outcome()), (ErrorKind::CallTimeout, Outcome::Unknown));
        tokio::time::resume();
        gate.open();
        client.submit_signed(job.clone()).await.unwrap().wait(Until::Relayed).await.unwrap();
        rig.never_two_in_flight();
        assert_eq!(rig.executions(job.id()), 1);
        rig.settled(&client).await;
    })
    .await;
}

/// A node that does what the test says, in no time.
#[derive(Clone)]
struct Scripted(Arc<Script>);

type Answer = dyn Fn(Method, &[u8]) -> Result<Bytes, CallError> + Send + Sync;

struct Script {
    answer: Box<Answer>,
    begun: tokio::time::Instant,
    /// Calls by second and method.
    calls: Mutex<BTreeMap<(u64, &'static str), usize>>,
}

impl Scripted {
    fn new(answer: impl Fn(Method, &[u8]) -> Result<Bytes, CallError> + Send + Sync + 'static) -> Self {
        let begun = tokio::time::Instant::now();
        Self(Arc::new(Script { answer: Box::new(answer), begun, calls: Mutex::default() }))
    }

    fn second(&self) -> u64 {
        self.0.begun.elapsed().as_secs()
    }

    fn count(&self, method: Method) -> usize {
        let calls = self.0.calls.lock().unwrap();
        calls.iter().filter(|((_, name), _)| *name == method.name()).map(|(_, count)| count).sum()
    }

    /// All calls within these seconds, and the most within one.
    fn between(&self, from: u64, to: u64) -> (usize, usize) {
        let mut seconds = vec![0; usize::try_from(to - from).unwrap()];
        for ((second, _), count) in &*self.0.calls.lock().unwrap() {
            if (from..to).contains(second) {
                seconds[usize::try_from(second - from).unwrap()] += count;
            }
        }
        (seconds.iter().sum(), seconds.into_iter().max().unwrap())
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

#[async_trait]
impl Transport for Scripted {
    fn encoding(&self) -> Encoding {
        Encoding::Protobuf
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn endpoint(&self) -> &str {
        "scripted"
    }

    async fn call(&self, method: Method, body: RequestBody) -> Result<Bytes, CallError> {
        *self.0.calls.lock().unwrap().entry((self.second(), method.name())).or_default() += 1;
        (self.0.answer)(method, &body.to_bytes())
    }
}

pub fn down() -> CallError {
    CallError::new(CallFailure::NotSent, "connection refused")
}

pub fn broken() -> CallError {
    CallError::new(CallFailure::Interrupted, "connection reset")
}

/// The record of a job that a node is working on.
fn pending(job: &SignedJob) -> Bytes {
    record(job, 1)
}

/// The record of a job, with this status.
pub fn record(job: &SignedJob, status: i32) -> Bytes {
    let record = pb::JobResult {
        id: job.id().as_bytes().to_vec(),
        nonce: job.nonce(),
        max_cycles: job.max_cycles(),
        consumer_address: job.consumer().to_vec(),
        program_id: job.program_id().as_bytes().to_vec(),
        onchain_input: job.onchain_input().to_vec(),
        offchain_input_hash: job.offchain_input_hash().to_vec(),
        request_signature: job.signature().to_vec(),
        status: Some(pb::JobStatus { status, failure_reason: None, retries: 0 }),
        ..Default::default()
    };
    pb::GetResultResponse { job_result: Some(record) }.encode_to_vec().into()
}

pub fn not_found() -> CallError {
    CallError::new(CallFailure::Status(StatusCode::NOT_FOUND), "job not found")
}

pub fn request() -> OffchainJobRequest {
    OffchainJobRequest::builder(CONSUMER, ProgramId::new(vec![1])).max_cycles(1).build().unwrap()
}

async fn client(node: &Scripted, policy: RetryPolicy) -> Client {
    let builder = Client::builder().transport(node.clone()).revision(Revision::Relay).retry(policy);
    let builder = builder.signer(LocalSigner::random().unwrap()).operator(Address::repeat_byte(1));
    builder.nonces(Sequential::starting_at(1)).connect().await.unwrap()
}

async fn submit(node: &Scripted, policy: RetryPolicy) -> Error {
    client(node, policy).await.submit(request()).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_may_have_arrived_is_not_forgotten_by_later_ones() {
    let answers = Mutex::new(vec![down(), down(), broken(), down()]);
    let node = Scripted::new(move |method, _| match method {
        Method::SubmitJob => Err(answers.lock().unwrap().pop().unwrap()),
        _ => Err(not_found()),
    });
    let error = submit(&node, RetryPolicy::default().with_attempts(4)).await;
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown), "{}", error.report());
    assert_eq!((error.attempts(), node.count(Method::SubmitJob)), (4, 4));
    assert_eq!(node.count(Method::GetResult), 2, "looked up from the attempt on that may have arrived");
}

#[tokio::test(start_paused = true)]
async fn attempts_that_were_all_not_sent_leave_nothing_behind() {
    let node = Scripted::new(|_, _| Err(down()));
    let client = client(&node, RetryPolicy::default()).await;
    let error = client.submit(request()).await.unwrap_err();
    assert_eq!((error.outcome(), error.attempts() as usize), (Outcome::NotSent, node.count(Method::SubmitJob)));
    assert!(client.unresolved().is_empty() && client.nonces().quarantined(CONSUMER).is_empty());
}

#[tokio::test(start_paused = true)]
async fn where_the_record_cannot_be_read_nothing_is_sent_again() {
    let node = Scripted::new(|_, _| Err(broken()));
    let error = submit(&node, RetryPolicy::default()).await;
    assert_eq!((error.outcome(), node.count(Method::SubmitJob)), (Outcome::Unknown, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_deadline_whatever_the_node_does() {
    #[derive(Debug)]
    struct Silent;

    #[async_trait]
    impl Transport for Silent {
        fn encoding(&self) -> Encoding {
            Encoding::Protobuf
        }
        fn capabilities(&self) -> Capabilities {
            Capabilities::ALL
        }
        fn endpoint(&self) -> &str {
            "silent"
        }
        async fn call(&self, _: Method, _: RequestBody) -> Result<Bytes, CallError> {
            std::future::pending().await
        }
    }

    let builder = Client::builder().transport(Silent).revision(Revision::Relay).nonces(Sequential::starting_at(1));
    let client = builder.signer(LocalSigner::random().unwrap()).connect().await.unwrap();
    let begun = tokio::time::Instant::now();
    let error = client.get_result(JobId::derive(1, CONSUMER)).await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed().as_secs()), (ErrorKind::CallTimeout, 30), "{}", error.report());
    assert!(error.attempts() > 1);

    let begun = tokio::time::Instant::now();
    let error = client.pending_jobs(CONSUMER).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::CallTimeout, 1), "the first one still runs");
    assert_eq!(begun.elapsed().as_secs(), 30);

    let begun = tokio::time::Instant::now();
    let error = client.submit(request()).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::CallTimeout, Outcome::Unknown));
    assert_eq!(begun.elapsed().as_secs(), 60);
}

/// 1,000 waits over 5 minutes with a node and 5 minutes without: the outage brings no more requests than the node's
/// presence, and no second stands out, neither in it nor when the node is back.
#[tokio::test(start_paused = true)]
async fn waits_do_not_press_harder_on_a_node_that_is_down() {
    let signer = LocalSigner::random().unwrap();
    let mut jobs = Vec::new();
    for nonce in 1..=1000 {
        jobs.push(request().prepare(Revision::Relay, nonce).unwrap().sign(&signer).await.unwrap());
    }
    let records: BTreeMap<Vec<u8>, Bytes> =
        jobs.iter().map(|job| (job.id().as_bytes().to_vec(), pending(job))).collect();
    let begun = tokio::time::Instant::now();
    let node = Scripted::new(move |method, body| {
        if (400..700).contains(&begun.elapsed().as_secs()) {
            return Err(broken());
        }
        if method == Method::GetPendingJobs {
            return Ok(pb::GetPendingJobsResponse { pending_jobs: (1..=1000).collect() }.encode_to_vec().into());
        }
        Ok(records[&*pb::GetResultRequest::decode(body).unwrap().job_id].clone())
    });
    let client = client(&node, RetryPolicy::default()).await;
    let waits: Vec<_> = jobs
        .into_iter()
        .map(|job| {
            let handle = client.resume(job).unwrap();
            tokio::spawn(async move { handle.wait(Until::Executed).timeout(Duration::from_secs(800)).await })
        })
        .collect();
    for wait in waits {
        assert_eq!(wait.await.unwrap().unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    }
    let ((healthy, _), (outage, most), (after, most_after)) =
        (node.between(100, 400), node.between(400, 700), node.between(700, 800));
    println!(
        "requests: {healthy} in 300 s with the node, {outage} in 300 s without (most in a second: {most}); after: {after}, {most_after}"
    );
    assert!(outage * 10 <= healthy * 11, "{outage} after {healthy}");
    // In seconds of the node's presence, as an outage brings next to none.
    assert!(most * 300 <= 3 * healthy && most_after * 300 <= 3 * healthy, "a burst: {most}, {most_after}");
}

/// The same for calls that the client itself makes again: reads in a loop, and submissions.
#[tokio::test(start_paused = true)]
async fn the_budget_bounds_what_an_outage_costs() {
    let node = Scripted::new(|_, _| Err(down()));
    let client = client(&node, RetryPolicy::default()).await;
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut calls = 0;
                let begun = tokio::time::Instant::now();
                while begun.elapsed() < Duration::from_secs(300) {
                    client.get_result(JobId::derive(1, CONSUMER)).await.unwrap_err();
                    calls += 1;
                    tokio::time::sleep(Duration::from_secs(10)).await;
                }
                calls
            })
        })
        .collect();
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.unwrap();
    }
    let attempts = node.count(Method::GetResult);
    println!("{attempts} requests for {calls} reads");
    assert!(attempts > calls && attempts * 10 <= calls * 11);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_submissions_to_a_node_that_is_down_make_the_attempts_of_a_few() {
    let node = Scripted::new(|_, _| Err(down()));
    let client = client(&node, RetryPolicy::default()).await;
    let submissions: Vec<_> = (0..1000)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.submit(request()).await.unwrap_err().outcome() })
        })
        .collect();
    for submission in submissions {
        assert_eq!(submission.await.unwrap(), Outcome::NotSent);
    }
    // 8 in the 5 seconds that a node has which was never reached, for those under way at once, and as many for the rest.
    let attempts = node.count(Method::SubmitJob);
    assert!((6..=24).contains(&attempts), "{attempts}");
}

#[tokio::test]
async fn an_ordered_job_that_is_sent_again_keeps_its_place() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let client = eager_client(&rig).await;
        rig.node.faults().refuse(Method::SubmitJob, 2, StatusCode::UNAVAILABLE, "overloaded");
        let first = client.submit(rig.ordered("one")).await.unwrap();
        let second = client.submit(rig.ordered("two")).await.unwrap();
        assert_eq!(first.signed_job().relay_strategy(), RelayStrategy::Ordered);
        second.wait(Until::Relayed).await.unwrap();
        assert_eq!(rig.on_chain(), [1, 2]);
    })
    .await;
}

#[tokio::test]
async fn a_verified_result_settles_a_job_of_unknown_fate() {
    both(|rig| async move {
        rig.node.faults().drop_replies(Method::SubmitJob, 1, Loss::ResetStream);
        rig.client.submit(rig.build("abc")).await.unwrap_err();
        let [job] = &rig.client.unresolved()[..] else { panic!("{:?}", rig.client.unresolved()) };
        let handle = rig.client.resume(job.clone()).unwrap();
        assert_eq!(rig.client.unresolved().len(), 1, "to resume says nothing of the job");
        handle.wait(Until::Executed).await.unwrap();
        rig.settled(&rig.client).await;
        assert_eq!(rig.next_nonce(&rig.client).await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_policy_without_time_is_refused() {
    let none = Duration::ZERO;
    for policy in [
        RetryPolicy::default().with_deadline(none),
        RetryPolicy::default().with_submit_deadline(none),
        RetryPolicy::none().with_attempt_timeout(none),
    ] {
        let builder = Client::builder().grpc("http://127.0.0.1:1").revision(Revision::Relay).retry(policy);
        assert_eq!(builder.connect().await.unwrap_err().kind(), ErrorKind::InvalidConfig);
    }
}
