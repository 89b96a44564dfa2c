//! Several attempts, one truth: what a client may say and do once any of them may have reached the node.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use infinityvm_sdk::{
    Client, ErrorKind, LocalSigner, Outcome, ProgramUpload, RetryPolicy, Revision, SignedJob,
    nonce::Sequential,
    rpc::{CallError, CallFailure, Capabilities, Encoding, Method, RequestBody, StatusCode},
    transport::Transport,
};
use tokio::time::{Instant, sleep};

use crate::{
    retries::{broken, down, not_found, record, request},
    rig::CONSUMER,
};

pub type Answer = Result<Bytes, CallError>;

/// A node that answers the calls of each method by their number, from 0.
pub struct Acts<F> {
    act: F,
    calls: std::sync::Mutex<Vec<Method>>,
}

impl<F> Acts<F>
where
    F: Fn(Method, usize) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync + 'static,
{
    pub fn new(act: F) -> Arc<Self> {
        Arc::new(Self { act, calls: std::sync::Mutex::default() })
    }

    pub fn count(&self, method: Method) -> usize {
        self.calls.lock().unwrap().iter().filter(|call| **call == method).count()
    }
}

impl<F> fmt::Debug for Acts<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acts")
    }
}

#[async_trait]
impl<F> Transport for Acts<F>
where
    F: Fn(Method, usize) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync + 'static,
{
    fn encoding(&self) -> Encoding {
        Encoding::Protobuf
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn endpoint(&self) -> &str {
        "acts"
    }

    async fn call(&self, method: Method, _: RequestBody) -> Answer {
        let before = self.count(method);
        self.calls.lock().unwrap().push(method);
        (self.act)(method, before).await
    }
}

pub fn at_once(answer: Answer) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
    Box::pin(async { answer })
}

fn stored() -> CallError {
    let text = "failed to submit job: could not read the nonce from the consumer contract: no route";
    CallError::new(CallFailure::Status(StatusCode::INTERNAL), text)
}

/// The answer of a node that works on nonce 1.
pub fn listed() -> Answer {
    Ok(b"\x0a\x01\x01".as_slice().into())
}

const SIGNER: [u8; 32] = [7; 32];

/// The job that the client signs first: signatures are deterministic.
pub async fn job() -> SignedJob {
    let signer = LocalSigner::from_slice(&SIGNER).unwrap();
    request().prepare(Revision::Relay, 1).unwrap().sign(&signer).await.unwrap()
}

pub async fn client(node: &Arc<impl Transport>, policy: RetryPolicy) -> Client {
    let builder = Client::builder().transport(Arc::clone(node)).revision(Revision::Relay).retry(policy);
    let builder = builder.signer(LocalSigner::from_slice(&SIGNER).unwrap());
    builder.nonces(Sequential::starting_at(1)).connect().await.unwrap()
}

/// The node has stored the job, and runs it as soon as it comes again: it is not unsent because a later attempt was.
#[tokio::test(start_paused = true)]
async fn a_job_that_the_node_stored_is_not_unsent_although_later_attempts_were() {
    let node = Acts::new(|method, before| {
        at_once(Err(match method {
            Method::SubmitJob if before == 0 => stored(),
            Method::SubmitJob => down(),
            _ => not_found(),
        }))
    });
    let client = client(&node, RetryPolicy::default()).await;
    let error = client.submit(request()).await.unwrap_err();
    assert_eq!((error.outcome(), error.attempts()), (Outcome::Unknown, 6), "{}", error.report());
    assert_eq!(client.nonces().quarantined(CONSUMER), [1]);
    assert_eq!(client.unresolved(), [job().await]);
}

/// The first attempt arrives late, while the second finds nobody: the third must not be made.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_may_have_arrived_is_asked_for_before_every_later_one() {
    let found = record(&job().await, 1);
    let node = Acts::new(move |method, before| {
        at_once(match (method, before) {
            (Method::SubmitJob, 0) => Err(broken()),
            (Method::SubmitJob, _) => Err(down()),
            (Method::GetPendingJobs, _) => listed(),
            (_, 0) => Err(not_found()),
            _ => Ok(found.clone()),
        })
    });
    let client = client(&node, RetryPolicy::default()).await;
    client.submit(request()).await.unwrap();
    assert_eq!((node.count(Method::SubmitJob), node.count(Method::GetResult)), (2, 2));
}

/// It is stored and does not run, so its record proves nothing: it has to come again.
#[tokio::test(start_paused = true)]
async fn a_job_that_the_node_stored_and_does_not_run_comes_again_whatever_happened_before_and_after() {
    let found = record(&job().await, 1);
    let node = Acts::new(move |method, before| {
        at_once(match (method, before) {
            (Method::SubmitJob, 0) => Err(broken()),
            (Method::SubmitJob, 1) => Err(stored()),
            (Method::SubmitJob, 2) => Err(down()),
            (Method::SubmitJob, _) => Ok([&[10, 32], &job_id()[..]].concat().into()),
            (_, 0) => Err(not_found()),
            _ => Ok(found.clone()),
        })
    });
    let client = client(&node, RetryPolicy::default()).await;
    client.submit(request()).await.unwrap();
    assert_eq!((node.count(Method::SubmitJob), node.count(Method::GetResult)), (4, 2));
}

/// The record may be of the attempt that was stored, so it does not show that a later one arrived: nobody may be told that
/// the job is under way, unless the node lists it, or has relayed it.
#[tokio::test(start_paused = true)]
async fn the_record_of_a_job_that_the_node_stored_does_not_prove_a_later_attempt() {
    for policy in [RetryPolicy::default(), RetryPolicy::default().with_attempts(2)] {
        for (status, lists) in [1, 2, 4, 9].into_iter().flat_map(|status| [(status, true), (status, false)]) {
            let found = record(&job().await, status);
            let node = Acts::new(move |method, before| {
                at_once(match (method, before) {
                    // With two attempts for each call, the second call begins knowing what the first was told.
                    (Method::SubmitJob, 0 | 1) => Err(stored()),
                    (Method::SubmitJob, _) => Err(broken()),
                    (Method::GetPendingJobs, _) if lists => listed(),
                    (Method::GetPendingJobs, _) => Ok(bytes::Bytes::new()),
                    _ => Ok(found.clone()),
                })
            });
            let client = client(&node, policy.clone()).await;
            let mut submitted = client.submit(request()).await;
            if node.count(Method::SubmitJob) == 2 {
                submitted = client.submit_signed(client.unresolved().pop().unwrap()).await;
            }
            let proof = lists || status == 4;
            assert_eq!(submitted.is_ok(), proof, "status {status}");
            match submitted {
                Ok(_) => assert_eq!(node.count(Method::SubmitJob), 3),
                Err(error) => {
                    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown));
                    assert_eq!(client.unresolved(), [job().await]);
                    assert!(node.count(Method::SubmitJob) > 3, "it is sent again as long as that is allowed");
                }
            }
        }
    }
}

pub fn job_id() -> [u8; 32] {
    infinityvm_sdk::JobId::derive(1, CONSUMER).as_bytes().as_slice().try_into().unwrap()
}

/// Told that the outcome is open, the caller asks about the job by its id. So nothing else may get that id.
#[tokio::test(start_paused = true)]
async fn a_caller_who_left_finds_the_job_again_also_if_nothing_was_sent() {
    let node = Acts::new(|_, _| {
        Box::pin(async {
            sleep(Duration::from_secs(90)).await;
            Err(down())
        })
    });
    let client = client(&node, RetryPolicy::default()).await;
    let error = client.submit(request()).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::CallTimeout, Outcome::Unknown));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(client.unresolved(), [job().await]);
    assert_eq!(client.nonces().quarantined(CONSUMER), [1]);
}

/// A caller that did not leave word is not told anything, and the nonce is free.
#[tokio::test(start_paused = true)]
async fn a_caller_who_dropped_the_submission_leaves_nothing_behind_if_nothing_was_sent() {
    let node = Acts::new(|_, _| {
        Box::pin(async {
            sleep(Duration::from_secs(90)).await;
            Err(down())
        })
    });
    let client = client(&node, RetryPolicy::default()).await;
    tokio::time::timeout(Duration::from_secs(10), client.submit(request())).await.unwrap_err();
    sleep(Duration::from_secs(100)).await;
    assert!(client.unresolved().is_empty() && client.nonces().quarantined(CONSUMER).is_empty());
}

/// The job failed before and is submitted again. The record of then says nothing of the attempt of now.
#[tokio::test(start_paused = true)]
async fn a_failed_job_that_comes_again_is_not_taken_for_its_earlier_self() {
    let found = record(&job().await, 3);
    let node = Acts::new(move |method, _| {
        at_once(match method {
            Method::SubmitJob => Err(broken()),
            _ => Ok(found.clone()),
        })
    });
    let client = client(&node, RetryPolicy::default()).await;
    let error = client.submit_signed(job().await).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown), "{}", error.report());
    assert_eq!((node.count(Method::SubmitJob), client.unresolved().len()), (1, 1));
}

/// A failed job's place can be taken by another, and the attempt may be on its way to do so.
#[tokio::test(start_paused = true)]
async fn a_failed_job_of_another_does_not_have_the_nonce() {
    let signer = LocalSigner::random().unwrap();
    let other = request().prepare(Revision::Relay, 1).unwrap().sign(&signer).await.unwrap();
    let (failed, mine) = (record(&other, 3), record(&job().await, 1));
    let node = Acts::new(move |method, before| {
        at_once(match (method, before) {
            (Method::SubmitJob, 0) => Err(broken()),
            (Method::SubmitJob, _) => Ok([&[10, 32], &job_id()[..]].concat().into()),
            (_, 0) => Ok(failed.clone()),
            _ => Ok(mine.clone()),
        })
    });
    let client = client(&node, RetryPolicy::default()).await;
    client.submit_signed(job().await).await.unwrap();
    assert_eq!(node.count(Method::SubmitJob), 2);
}

/// Asking took longer than there was time: nothing is begun again after the caller was told that the time is over.
#[tokio::test(start_paused = true)]
async fn nothing_is_sent_again_after_the_deadline() {
    let node = Acts::new(|method, _| {
        Box::pin(async move {
            if method == Method::GetResult {
                sleep(Duration::from_secs(8)).await;
                return Err(not_found());
            }
            Err(broken())
        })
    });
    let client = client(&node, RetryPolicy::default().with_submit_deadline(Duration::from_secs(5))).await;
    let error = client.submit(request()).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::CallTimeout, Outcome::Unknown));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(node.count(Method::SubmitJob), 1);
    assert_eq!(client.unresolved().len(), 1);
}

/// No slot came free, but the job was sent before.
#[tokio::test(start_paused = true)]
async fn a_job_that_may_have_run_is_not_unsent_because_its_turn_did_not_come() {
    let node = Acts::new(|method, before| match (method, before) {
        (Method::SubmitJob, 0) => at_once(Err(broken())),
        (Method::SubmitJob, _) => Box::pin(std::future::pending()),
        _ => at_once(Err(broken())),
    });
    let client = client(&node, RetryPolicy::none().with_submit_deadline(Duration::from_secs(1))).await;
    assert_eq!(client.submit(request()).await.unwrap_err().outcome(), Outcome::Unknown);
    for _ in 0..512 {
        let client = client.clone();
        tokio::spawn(async move { client.submit(request()).await });
    }
    sleep(Duration::from_secs(2)).await;
    let error = client.submit_signed(job().await).await.unwrap_err();
    assert!(error.to_string().contains("its turn did not come"), "{error}");
    assert_eq!(error.outcome(), Outcome::Unknown, "{}", error.report());
}

fn program() -> ProgramUpload {
    ProgramUpload::sp1(b"\x7fELF".to_vec()).with_id(infinityvm_sdk::ProgramId::new(vec![2]))
}

/// As with jobs, the outcome is that of all attempts.
#[tokio::test(start_paused = true)]
async fn an_upload_that_may_have_arrived_is_not_unsent_although_later_attempts_were() {
    let node = Acts::new(|_, before| at_once(Err(if before == 0 { broken() } else { down() })));
    let client = client(&node, RetryPolicy::default()).await;
    let error = client.submit_program(program()).await.unwrap_err();
    assert_eq!((error.outcome(), error.attempts()), (Outcome::Unknown, 6), "{}", error.report());
}

/// An attempt may take the node minutes, but none is begun after the time is over.
#[tokio::test(start_paused = true)]
async fn uploads_are_not_begun_again_for_hours() {
    let node = Acts::new(|_, _| {
        Box::pin(async {
            sleep(Duration::from_secs(600)).await;
            Err(CallError::new(CallFailure::TimedOut, "no answer"))
        })
    });
    let client = client(&node, RetryPolicy::default()).await;
    let begun = Instant::now();
    let error = client.submit_program(program()).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::CallTimeout, Outcome::Unknown));
    assert_eq!(begun.elapsed().as_secs(), 600);
}

/// Every call says that there is no runtime; none panics.
#[test]
fn outside_of_a_runtime_every_call_is_an_error() {
    let node = Acts::new(|_, _| at_once(Err(down())));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (client, job) = runtime.block_on(async { (client(&node, RetryPolicy::default()).await, job().await) });
    drop(runtime);
    fn end<T>(call: impl Future<Output = infinityvm_sdk::Result<T>>) -> ErrorKind {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match Box::pin(call).as_mut().poll(&mut context) {
            std::task::Poll::Ready(Err(error)) => error.kind(),
            _ => panic!("it neither ended nor failed"),
        }
    }
    assert_eq!(end(client.submit_program(program())), ErrorKind::InvalidConfig);
    assert_eq!(end(client.submit(request())), ErrorKind::InvalidConfig);
    assert_eq!(end(client.submit_signed(job.clone())), ErrorKind::InvalidConfig);
    assert_eq!(end(client.get_result(job.id())), ErrorKind::InvalidConfig);
    assert_eq!(end(client.pending_jobs(CONSUMER)), ErrorKind::InvalidConfig);
    assert_eq!(end(async { client.resume(job).unwrap().record().await }), ErrorKind::InvalidConfig);
}

/// The node took the job, ran it, and lost it in a restart; then another took its place and was relayed.
#[tokio::test(start_paused = true)]
async fn a_job_that_the_node_had_has_perhaps_run_although_another_has_its_nonce_now() {
    let stranger = LocalSigner::random().unwrap();
    let other = request().prepare(Revision::Relay, 1).unwrap().sign(&stranger).await.unwrap();
    let (mine, other) = (record(&job().await, 1), record(&other, 4));
    let relayed = || {
        let text = "failed to submit job: job has already been executed and relayed";
        CallError::new(CallFailure::Status(StatusCode::INTERNAL), text)
    };
    for first_answer_is_lost in [false, true] {
        let (mine, other) = (mine.clone(), other.clone());
        let node = Acts::new(move |method, before| {
            at_once(match (method, before) {
                (Method::SubmitJob, 0) if first_answer_is_lost => Err(broken()),
                (Method::SubmitJob, 0) => Ok([&[10, 32], &job_id()[..]].concat().into()),
                (Method::SubmitJob, _) => Err(relayed()),
                (_, 0) if !first_answer_is_lost => Ok(mine.clone()),
                _ => Ok(other.clone()),
            })
        });
        let client = client(&node, RetryPolicy::none()).await;
        assert_eq!(client.submit(request()).await.is_err(), first_answer_is_lost);
        let error = client.submit_signed(job().await).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::NonceTaken, Outcome::Unknown), "{}", error.report());
    }
}
