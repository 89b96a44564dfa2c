//! Faults of the watcher that were hunted down: each test shows one that was there.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use infinityvm_sdk::{
    Client, ErrorKind, HealPolicy, JobHandle, LocalSigner, OffchainJobRequest, ProgramId, RetryPolicy, Revision,
    SignedJob, Until,
    client::{ClientBuilder, Counts},
    nonce::Sequential,
    primitives::Address,
    rpc::{CallError, CallFailure, Capabilities, Encoding, Method, RequestBody, StatusCode},
    transport::Transport,
};
use prost::Message;
use tokio::time::{Instant, sleep};

use crate::{
    plain_client::relay as pb,
    retries::{broken, down, not_found, record},
    rig::{CONSUMER, poll_once, within},
};

const PENDING: i32 = 1;
const FAILED: i32 = 3;

/// What a node does with a call.
enum Reply {
    Say(Result<Bytes, CallError>),
    Late(Duration, Bytes),
    Hang,
    Panic,
}

impl From<Bytes> for Reply {
    fn from(answer: Bytes) -> Self {
        Self::Say(Ok(answer))
    }
}

impl From<CallError> for Reply {
    fn from(error: CallError) -> Self {
        Self::Say(Err(error))
    }
}

/// A node that does what the test says.
#[derive(Clone)]
struct Scripted(Arc<Script>);

type Answer = dyn Fn(Method, &[u8]) -> Reply + Send + Sync;

struct Script {
    answer: Box<Answer>,
    calls: Mutex<Vec<(Instant, Method)>>,
}

impl Scripted {
    fn new(answer: impl Fn(Method, &[u8]) -> Reply + Send + Sync + 'static) -> Self {
        Self(Arc::new(Script { answer: Box::new(answer), calls: Mutex::default() }))
    }

    fn count(&self, method: Method) -> usize {
        self.0.calls.lock().unwrap().iter().filter(|(_, called)| *called == method).count()
    }

    fn builder(&self) -> ClientBuilder {
        Client::builder()
            .transport(self.clone())
            .revision(Revision::Relay)
            .signer(LocalSigner::random().unwrap())
            .operator(Address::repeat_byte(1))
            .retry(RetryPolicy::none())
            .nonces(Sequential::starting_at(1))
    }

    async fn client(&self) -> Client {
        self.builder().connect().await.unwrap()
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
        self.0.calls.lock().unwrap().push((Instant::now(), method));
        match (self.0.answer)(method, &body.to_bytes()) {
            Reply::Say(answer) => answer,
            Reply::Late(pause, answer) => {
                sleep(pause).await;
                Ok(answer)
            }
            Reply::Hang => std::future::pending().await,
            Reply::Panic => panic!("a transport with a fault"),
        }
    }
}

fn list(nonces: impl IntoIterator<Item = u64>) -> Bytes {
    pb::GetPendingJobsResponse { pending_jobs: nonces.into_iter().collect() }.encode_to_vec().into()
}

fn taken(job: &SignedJob) -> Bytes {
    pb::SubmitJobResponse { job_id: job.id().as_bytes().to_vec() }.encode_to_vec().into()
}

fn no_list() -> CallError {
    CallError::new(CallFailure::Status(StatusCode::UNIMPLEMENTED), "")
}

fn asks_for(body: &[u8], job: &SignedJob) -> bool {
    pb::GetResultRequest::decode(body).unwrap().job_id == job.id().as_bytes()
}

async fn sign(consumer: Address, nonce: u64) -> SignedJob {
    let request = OffchainJobRequest::builder(consumer, ProgramId::new(vec![1])).max_cycles(1).build().unwrap();
    request.prepare(Revision::Relay, nonce).unwrap().sign(&LocalSigner::random().unwrap()).await.unwrap()
}

fn long(handle: &JobHandle, until: Until) -> infinityvm_sdk::client::Wait {
    handle.wait(until).timeout(Duration::from_secs(100_000))
}

/// Its place was the first of an entry that was gone, and so was the next one's.
#[tokio::test(start_paused = true)]
async fn a_wait_that_is_over_ends_no_other_when_it_is_dropped() {
    let job = sign(CONSUMER, 1).await;
    let shown = job.clone();
    let node = Scripted::new(move |method, _| match method {
        Method::GetPendingJobs => list([1]).into(),
        _ => record(&shown, PENDING).into(),
    });
    let handle = node.client().await.resume(job).unwrap();
    let mut first = handle.wait(Until::Relayed).timeout(Duration::from_secs(1));
    assert!(poll_once(&mut first).await.is_pending());
    // Its deadline passes, and it is not polled for that.
    sleep(Duration::from_secs(2)).await;
    let mut second = handle.wait(Until::Relayed).timeout(Duration::from_secs(10));
    assert!(poll_once(&mut second).await.is_pending());
    drop(first);
    let error = tokio::time::timeout(Duration::from_secs(60), second).await.expect("it hangs").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
}

/// The look at one job panics each time: the others' looks and lists have nothing to do with that.
#[tokio::test(start_paused = true)]
async fn a_look_that_panics_is_only_its_own_jobs_trouble() {
    let other = Address::repeat_byte(0xd0);
    let (poison, slow, listed) = (sign(CONSUMER, 1).await, sign(CONSUMER, 2).await, sign(other, 3).await);
    let (bad, good) = (poison.clone(), slow.clone());
    let node = Scripted::new(move |method, body| match method {
        Method::GetPendingJobs
            if pb::GetPendingJobsRequest::decode(body).unwrap().consumer_address == other.as_slice() =>
        {
            Reply::Hang
        }
        Method::GetPendingJobs => list([1, 2]).into(),
        _ if asks_for(body, &bad) => Reply::Panic,
        _ if asks_for(body, &good) => Reply::Late(Duration::from_secs(3), record(&good, FAILED)),
        _ => not_found().into(),
    });
    let client = node.builder().healing(HealPolicy::off()).connect().await.unwrap();
    let waits: Vec<_> = [(poison, Until::Executed), (listed, Until::Relayed)]
        .into_iter()
        .map(|(job, until)| {
            let handle = client.resume(job).unwrap();
            tokio::spawn(async move { handle.wait(until).timeout(Duration::from_secs(50)).await })
        })
        .collect();
    let slow = client.resume(slow).unwrap();
    let error = slow.wait(Until::Executed).timeout(Duration::from_secs(50)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JobFailed, "the answer to its look was thrown away each time");
    for (wait, kind) in waits.into_iter().zip([ErrorKind::DeadlineExceeded, ErrorKind::NotFound]) {
        assert_eq!(wait.await.unwrap().unwrap_err().kind(), kind);
    }
    let hanging = node.0.calls.lock().unwrap().len();
    assert!(hanging < 1000, "{hanging} calls");
}

/// The list that hangs is asked for once, however the looks at other jobs end.
#[tokio::test(start_paused = true)]
async fn a_list_that_hangs_is_not_asked_for_again_because_a_look_panics() {
    let job = sign(CONSUMER, 1).await;
    let node = Scripted::new(move |method, _| match method {
        Method::GetPendingJobs => Reply::Hang,
        _ => Reply::Panic,
    });
    let handle = node.client().await.resume(job).unwrap();
    let error = handle.wait(Until::Relayed).timeout(Duration::from_secs(100)).await.unwrap_err();
    assert_eq!((error.kind(), node.count(Method::GetPendingJobs)), (ErrorKind::DeadlineExceeded, 1));
    assert!(node.count(Method::GetResult) > 10);
}

/// Nor by the next wait, when the one that had it asked for is over.
#[tokio::test(start_paused = true)]
async fn a_list_that_hangs_is_not_asked_for_again_by_the_next_wait() {
    let job = sign(CONSUMER, 1).await;
    let shown = job.clone();
    let node = Scripted::new(move |method, _| match method {
        Method::GetPendingJobs => Reply::Hang,
        _ => record(&shown, PENDING).into(),
    });
    let handle = node.client().await.resume(job).unwrap();
    for _ in 0..20 {
        let error = handle.wait(Until::Relayed).timeout(Duration::from_secs(8)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    }
    assert_eq!(node.count(Method::GetPendingJobs), 1);
}

/// A consumer whose task in the node is blocked: whatever is submitted for it hangs, and kills the task when it is given up.
#[tokio::test(start_paused = true)]
async fn nothing_is_sent_to_a_consumer_whose_list_hangs() {
    let job = sign(CONSUMER, 1).await;
    let shown = job.clone();
    let node = Scripted::new(move |method, _| match method {
        Method::GetPendingJobs | Method::SubmitJob => Reply::Hang,
        _ => record(&shown, PENDING).into(),
    });
    let handle = node.client().await.resume(job).unwrap();
    let error = handle.wait(Until::Relayed).timeout(Duration::from_secs(500)).await.unwrap_err();
    assert_eq!((error.kind(), node.count(Method::SubmitJob)), (ErrorKind::DeadlineExceeded, 0));
}

#[tokio::test(start_paused = true)]
async fn no_patience_is_no_reason_to_send_without_a_pause() {
    let job = sign(CONSUMER, 1).await;
    let shown = job.clone();
    let node = Scripted::new(move |method, _| match method {
        Method::GetPendingJobs => no_list().into(),
        Method::SubmitJob => taken(&shown).into(),
        _ => record(&shown, PENDING).into(),
    });
    let client = node.builder().healing(HealPolicy::default().with_patience(Duration::ZERO)).connect().await.unwrap();
    let handle = client.resume(job).unwrap();
    handle.wait(Until::Relayed).timeout(Duration::from_secs(60)).await.unwrap_err();
    let sent = node.count(Method::SubmitJob);
    assert!((3..=8).contains(&sent), "sent {sent} times in a minute");
}

/// While one job that the node does not know is not to be sent again yet, its looks grow rare, list or no list.
#[tokio::test(start_paused = true)]
async fn a_job_that_the_node_never_knows_is_not_looked_up_with_every_list() {
    let job = sign(CONSUMER, 1).await;
    let node = Scripted::new(move |method, _| match method {
        Method::GetPendingJobs => list([]).into(),
        Method::SubmitJob => CallError::new(CallFailure::Status(StatusCode::INVALID_ARGUMENT), "no").into(),
        _ => not_found().into(),
    });
    let handle = node.client().await.resume(job).unwrap();
    long(&handle, Until::Relayed).timeout(Duration::from_secs(600)).await.unwrap_err();
    let looks = node.count(Method::GetResult);
    assert!(looks < 600, "{looks} looks in 10 minutes");
}

/// A list that holds the jobs every other time brings no more looks than the rate allows.
#[tokio::test(start_paused = true)]
async fn lists_that_change_their_mind_bring_no_storm_of_looks() {
    let mut jobs = Vec::new();
    for nonce in 1..=500 {
        jobs.push(sign(CONSUMER, nonce).await);
    }
    let known = jobs.clone();
    let lists = Mutex::new(0);
    let node = Scripted::new(move |method, body| match method {
        Method::GetPendingJobs => {
            let mut lists = lists.lock().unwrap();
            *lists += 1;
            if *lists % 2 == 0 { list([]).into() } else { list(1..=500).into() }
        }
        _ => record(known.iter().find(|job| asks_for(body, job)).unwrap(), PENDING).into(),
    });
    let client = node.builder().polling(infinityvm_sdk::PollPolicy::default().with_rate(10)).connect().await.unwrap();
    let handles: Vec<_> = jobs.into_iter().map(|job| client.resume(job).unwrap()).collect();
    for result in client.wait_all(handles, Until::Relayed).timeout(Duration::from_secs(120)).await {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    }
    let looks = node.count(Method::GetResult);
    // One that shows the job, three for having left the list, and then the rate.
    assert!(looks <= 500 * 4 + 10 * 121, "{looks} looks");
}

/// An outage in which thousands of jobs are to be sent again.
#[tokio::test(start_paused = true)]
async fn lost_jobs_do_not_press_on_a_node_that_is_down() {
    let mut jobs = Vec::new();
    for nonce in 1..=800 {
        jobs.push(sign(CONSUMER, nonce).await);
    }
    let begun = Instant::now();
    let up = move || begun.elapsed() < Duration::from_secs(5);
    let node = Scripted::new(move |method, _| match method {
        Method::GetPendingJobs if up() => list([]).into(),
        Method::GetResult if up() => not_found().into(),
        // So that most of them are still to be sent when the node goes down.
        Method::SubmitJob if up() => Reply::Late(Duration::from_secs(4), Bytes::new()),
        _ => down().into(),
    });
    let client = node.client().await;
    let handles: Vec<_> = jobs.into_iter().map(|job| client.resume(job).unwrap()).collect();
    client.wait_all(handles, Until::Relayed).timeout(Duration::from_secs(305)).await;
    let calls = node.0.calls.lock().unwrap();
    let in_outage = calls.iter().filter(|(at, _)| *at - begun > Duration::from_secs(5)).count();
    assert!(in_outage > 10 && in_outage < 700, "{in_outage} calls in 5 minutes");
    let minute = |(at, _): &&(Instant, Method)| (6..66).contains(&(*at - begun).as_secs());
    let most = calls.iter().filter(minute).count();
    assert!(most < 200, "{most} calls in a minute");
}

/// A submission that hangs does not keep the watcher from noticing that the node is back.
#[tokio::test(start_paused = true)]
async fn a_submission_that_hangs_does_not_hide_that_the_node_is_back() {
    let (lost, other) = (sign(CONSUMER, 1).await, sign(Address::repeat_byte(0xd0), 2).await);
    let begun = Instant::now();
    let (gone, shown) = (lost.clone(), other.clone());
    let node = Scripted::new(move |method, body| match (method, begun.elapsed().as_secs()) {
        (Method::SubmitJob, _) => Reply::Hang,
        (_, 2..10) => broken().into(),
        (Method::GetPendingJobs, _) => no_list().into(),
        (_, _) if asks_for(body, &gone) => not_found().into(),
        (_, 0..10) => record(&shown, PENDING).into(),
        _ => record(&shown, FAILED).into(),
    });
    let client = node.client().await;
    let lost = client.resume(lost).unwrap();
    tokio::spawn(async move { long(&lost, Until::Relayed).await });
    let error = long(&client.resume(other).unwrap(), Until::Relayed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JobFailed);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// The list does not show executions: one who waits for them is not to wait for the rare look at a listed job.
#[tokio::test(start_paused = true)]
async fn who_joins_right_after_a_look_is_looked_for_as_soon_as_others() {
    let job = sign(CONSUMER, 1).await;
    let begun = Instant::now();
    let shown = job.clone();
    let node = Scripted::new(move |method, _| match method {
        Method::GetPendingJobs => list([1]).into(),
        _ if begun.elapsed() < Duration::from_secs(1) => record(&shown, PENDING).into(),
        _ => record(&shown, FAILED).into(),
    });
    let handle = node.client().await.resume(job).unwrap();
    let (mut first, mut second) = (long(&handle, Until::Relayed), long(&handle, Until::Relayed));
    assert!(poll_once(&mut first).await.is_pending() && poll_once(&mut second).await.is_pending());
    sleep(Duration::from_millis(2)).await;
    assert_eq!(node.count(Method::GetResult), 1, "the second waiter's");
    let error = long(&handle, Until::Executed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JobFailed);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// `submit_signed` refuses it, and so must a wait.
#[tokio::test(start_paused = true)]
async fn the_largest_nonce_is_not_sent_by_a_wait_either() {
    let job = sign(CONSUMER, u64::MAX).await;
    let node = Scripted::new(move |method, _| match method {
        Method::GetPendingJobs => no_list().into(),
        _ => not_found().into(),
    });
    let client = node.client().await;
    assert_eq!(client.submit_signed(job.clone()).await.unwrap_err().kind(), ErrorKind::Nonce);
    let handle = client.resume(job).unwrap();
    handle.wait(Until::Relayed).timeout(Duration::from_secs(30)).await.unwrap_err();
    assert_eq!(node.count(Method::SubmitJob), 0);
}

/// Sending lost jobs again is the client's own doing: that fails must not use up the room for jobs of unknown fate.
#[tokio::test(start_paused = true)]
async fn jobs_that_are_sent_again_in_vain_leave_room_for_others() {
    let mut jobs = Vec::new();
    for nonce in 1..=20 {
        jobs.push(sign(CONSUMER, nonce).await);
    }
    let refused = || CallError::new(CallFailure::Status(StatusCode::INVALID_ARGUMENT), "no").into();
    let node = Scripted::new(move |method, _| match method {
        Method::GetPendingJobs => list([]).into(),
        Method::SubmitJob => refused(),
        _ => not_found().into(),
    });
    let client = node.client().await;
    let handles: Vec<_> = jobs.into_iter().map(|job| client.resume(job).unwrap()).collect();
    client.wait_all(handles, Until::Relayed).timeout(Duration::from_secs(60)).await;
    assert!(node.count(Method::SubmitJob) >= 20);
    assert_eq!(client.unresolved().len(), 0);
    let error = client.submit_signed(sign(CONSUMER, 5000).await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert_eq!(client.unresolved().len(), 1, "what the caller sends is kept");
}

/// Its turn to be sent again comes late, and meanwhile its nonce was given to another job, which failed: in that state a node
/// would let itself be overwritten.
#[tokio::test(start_paused = true)]
async fn a_job_that_was_replaced_before_its_turn_is_not_sent() {
    let mut jobs = Vec::new();
    for nonce in 1..=9 {
        jobs.push(sign(CONSUMER, nonce).await);
    }
    let (last, other) = (jobs[8].clone(), sign(CONSUMER, 9).await);
    let begun = Instant::now();
    let sent = Arc::new(Mutex::new(0));
    let (counted, replaced) = (Arc::clone(&sent), last.clone());
    let node = Scripted::new(move |method, body| match method {
        Method::GetPendingJobs => list([]).into(),
        Method::SubmitJob => {
            if pb::SubmitJobRequest::decode(body).unwrap().signature == replaced.signature()[..] {
                *counted.lock().unwrap() += 1;
            }
            Reply::Hang
        }
        _ if asks_for(body, &other) && begun.elapsed() > Duration::from_secs(10) => record(&other, FAILED).into(),
        _ => not_found().into(),
    });
    let client = node.client().await;
    for job in jobs {
        let handle = client.resume(job).unwrap();
        if handle.signed_job() != &last {
            tokio::spawn(async move { long(&handle, Until::Relayed).await });
            continue;
        }
        // After the others.
        sleep(Duration::from_secs(5)).await;
        let error = long(&handle, Until::Relayed).await.unwrap_err();
        assert_eq!((error.kind(), *sent.lock().unwrap()), (ErrorKind::NonceTaken, 0));
        assert!(begun.elapsed() > Duration::from_secs(30), "the others are in its way: {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_of_jobs_that_are_added() {
    let job = sign(CONSUMER, 1).await;
    let shown = job.clone();
    let node = Scripted::new(move |method, _| match method {
        Method::GetPendingJobs => list([1]).into(),
        _ => record(&shown, PENDING).into(),
    });
    let client = node.client().await;
    let last = Arc::new(Mutex::new(Counts::default()));
    let told = Arc::clone(&last);
    let mut many = client.watch_many([], Until::Relayed).on_progress(move |counts| *told.lock().unwrap() = *counts);
    many.insert(client.resume(job).unwrap());
    assert!(poll_once(&mut Box::pin(many.next())).await.is_pending());
    assert_eq!(last.lock().unwrap().total, 1);
}

/// A runtime that is gone cannot watch, and to begin there again and again would keep a core busy for nothing.
#[test]
fn a_wait_in_a_runtime_that_is_gone_ends() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let outside = runtime();
    let inside = runtime();
    let job = outside.block_on(sign(CONSUMER, 1));
    let node = Scripted::new(move |_, _| down().into());
    let handle = outside.block_on(node.client()).resume(job).unwrap();
    let gone = inside.handle().clone();
    inside.shutdown_background();
    let error = gone.block_on(async { handle.wait(Until::Relayed).await }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{}", error.report());
    // Elsewhere it goes on.
    let error = outside.block_on(within(async { handle.wait(Until::Relayed).timeout(Duration::from_millis(1)).await }));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
}
