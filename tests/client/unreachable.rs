//! A node that cannot be reached: one attempt at a time for the whole client, and nothing is lost by waiting.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use infinityvm_sdk::{
    Client, Error, ErrorKind, LocalSigner, OffchainJobRequest, Outcome, RetryPolicy, Revision, Until,
    client::ClientBuilder,
    nonce::Sequential,
    rpc::{CallError, Capabilities, Encoding, Method, RequestBody},
    transport::Transport,
};
use prost::Message;
use support::{
    answers::{self, Row},
    scripted::{self, Scripted, at_once},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    closed_port::closed_port,
    plain_client::relay as pb,
    retries::{broken, down, not_found, record, request},
    rig::{CONSUMER, Rig, submitting, within},
};

/// What the way to the node is like from a second on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Connections are refused at once.
    Refused,
    /// They hang for so many milliseconds, and then come to nothing.
    Hangs(u64),
    Open,
    /// Something answers, which breaks off.
    Breaks,
}

/// A node in memory behind such a way. What reaches it is kept, and shown.
#[derive(Clone)]
struct Node(Arc<Inside>);

struct Inside {
    begun: Instant,
    ways: Vec<(u64, Way)>,
    /// Their records, by id.
    jobs: Mutex<BTreeMap<Vec<u8>, Bytes>>,
    attempts: AtomicUsize,
    now: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Node {
    fn new(ways: impl Into<Vec<(u64, Way)>>) -> Self {
        Self(Arc::new(Inside {
            begun: Instant::now(),
            ways: ways.into(),
            jobs: Mutex::default(),
            attempts: AtomicUsize::new(0),
            now: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
        }))
    }

    fn way(&self) -> Way {
        let second = self.0.begun.elapsed().as_secs();
        self.0.ways.iter().rev().find(|(from, _)| *from <= second).map_or(Way::Open, |(_, way)| *way)
    }

    /// Attempts to submit that reached nobody.
    fn attempts(&self) -> usize {
        self.0.attempts.load(SeqCst)
    }

    fn submitted(&self) -> usize {
        self.0.jobs.lock().unwrap().len()
    }

    fn client(&self, policy: RetryPolicy) -> ClientBuilder {
        let builder = Client::builder().transport(self.clone()).revision(Revision::Relay).retry(policy);
        builder.signer(LocalSigner::random().unwrap()).nonces(Sequential::starting_at(1))
    }

    async fn connect(&self, policy: RetryPolicy) -> Client {
        self.client(policy).connect().await.unwrap()
    }

    fn answer(&self, method: Method, body: &[u8]) -> Result<Bytes, CallError> {
        match method {
            Method::SubmitJob => {
                let sent = pb::SubmitJobRequest::decode(body).unwrap();
                // After the offset of the one tuple.
                let nonce = u64::from_be_bytes(sent.request[56..64].try_into().unwrap());
                let job = request().prepare(Revision::Relay, nonce).unwrap();
                let job = job.with_signature(sent.signature.into()).unwrap();
                let id = job.id().as_bytes().to_vec();
                self.0.jobs.lock().unwrap().insert(id.clone(), record(&job, 1));
                Ok(pb::SubmitJobResponse { job_id: id }.encode_to_vec().into())
            }
            _ => {
                let asked = pb::GetResultRequest::decode(body).unwrap();
                self.0.jobs.lock().unwrap().get(&asked.job_id).cloned().ok_or_else(not_found)
            }
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Node")
    }
}

#[async_trait]
impl Transport for Node {
    fn encoding(&self) -> Encoding {
        Encoding::Protobuf
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL.without(Method::GetPendingJobs)
    }

    fn endpoint(&self) -> &str {
        "in memory"
    }

    async fn call(&self, method: Method, body: RequestBody) -> Result<Bytes, CallError> {
        match self.way() {
            Way::Open => self.answer(method, &body.to_bytes()),
            Way::Breaks => Err(broken()),
            way => {
                if method == Method::SubmitJob {
                    self.0.attempts.fetch_add(1, SeqCst);
                    let now = self.0.now.fetch_add(1, SeqCst) + 1;
                    self.0.most_at_once.fetch_max(now, SeqCst);
                }
                if let Way::Hangs(millis) = way {
                    sleep(Duration::from_millis(millis)).await;
                }
                if method == Method::SubmitJob {
                    self.0.now.fetch_sub(1, SeqCst);
                }
                Err(down())
            }
        }
    }
}

async fn many(client: &Client, count: usize) -> Vec<Result<(), Error>> {
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.submit(request()).await.map(drop) })
        })
        .collect();
    let mut ended = Vec::new();
    for task in tasks {
        ended.push(task.await.unwrap());
    }
    ended
}

fn all_free(client: &Client) {
    assert!(client.unresolved().is_empty() && client.nonces().quarantined(CONSUMER).is_empty());
}

#[tokio::test(start_paused = true)]
async fn many_submissions_make_no_more_attempts_to_connect_than_one() {
    for (ways, seconds) in [(Way::Refused, 4..=5), (Way::Hangs(300), 4..=5), (Way::Hangs(900), 4..=6)] {
        let mut attempts = Vec::new();
        for count in [1, 512] {
            let node = Node::new([(0, ways)]);
            let client = node.connect(RetryPolicy::default().with_budget(0)).await;
            let begun = Instant::now();
            for ended in many(&client, count).await {
                let error = ended.unwrap_err();
                assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotSent));
                assert!(error.is_retryable());
                let report = error.report().to_string();
                assert!(report.contains("never reached") && report.contains("with_first_contact"), "{report}");
            }
            assert!(seconds.contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
            all_free(&client);
            assert_eq!(node.0.most_at_once.load(SeqCst), 1);
            attempts.push(node.attempts());
        }
        // Where attempts take time, jitter decides whether the last one comes in time.
        let slack = usize::from(ways != Way::Refused);
        assert!(attempts[1] <= attempts[0] + slack, "{ways:?}: {attempts:?}");
    }
}

/// Those that come while others wait bring no attempts of their own.
#[tokio::test(start_paused = true)]
async fn late_comers_wait_for_the_attempt_that_is_due() {
    let node = Node::new([(0, Way::Open), (10, Way::Refused), (50, Way::Open)]);
    let client = node.connect(RetryPolicy::default().with_budget(0)).await;
    client.submit(request()).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    let mut tasks = Vec::new();
    for _ in 0..200 {
        let client = client.clone();
        tasks.push(tokio::spawn(async move { client.submit(request()).await }));
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(node.submitted(), 1);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(node.submitted(), 201);
    assert_eq!(node.0.most_at_once.load(SeqCst), 1);
    // The pauses double from 0.1 to 5 seconds: 6 of them, and one in 4 to 5 seconds for the other 34.
    assert!((10..=18).contains(&node.attempts()), "{}", node.attempts());
}

/// Away for 2 seconds or 55, for one job or many; nothing of it costs the budget, and nothing is sent twice.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_away_is_waited_for_until_the_deadline() {
    for away in [2, 20, 50] {
        for way in [Way::Refused, Way::Hangs(10), Way::Hangs(900)] {
            for count in [1, 100] {
                let node = Node::new([(0, Way::Open), (1, way), (1 + away, Way::Open)]);
                let client = node.connect(RetryPolicy::default().with_budget(0)).await;
                client.submit(request()).await.unwrap();
                sleep(Duration::from_secs(1)).await;
                for ended in many(&client, count).await {
                    ended.unwrap();
                }
                assert_eq!(node.submitted(), 1 + count, "{away} s, {way:?}");
                assert_eq!(node.0.most_at_once.load(SeqCst), 1);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_by_the_deadline_is_told_as_that_and_its_nonce_is_free() {
    for way in [Way::Refused, Way::Hangs(10), Way::Hangs(900), Way::Hangs(7000)] {
        for seconds in [1, 10, 60] {
            let node = Node::new([(0, Way::Open), (1, way)]);
            let policy = RetryPolicy::default().with_submit_deadline(Duration::from_secs(seconds));
            let client = node.connect(policy).await;
            client.submit(request()).await.unwrap();
            sleep(Duration::from_secs(1)).await;
            let begun = Instant::now();
            let ended = many(&client, 20).await;
            assert!(begun.elapsed() <= Duration::from_secs(seconds), "{:?}", begun.elapsed());
            let count = |outcome| ended.iter().filter(|it| it.as_ref().unwrap_err().outcome() == outcome).count();
            // Of those the attempt is still under way, and may yet succeed: one, and one more for each second that it takes.
            let unknown = count(Outcome::Unknown);
            let at_most = match way {
                Way::Hangs(millis) => 1 + millis as usize / 1000,
                _ => 0,
            };
            assert!(unknown <= at_most, "{unknown}: {way:?}, {seconds} s");
            assert_eq!(count(Outcome::NotSent), 20 - unknown, "{way:?}, {seconds} s");
            assert_eq!(client.unresolved().len(), unknown);
            sleep(Duration::from_secs(60)).await;
            assert_eq!(client.nonces().quarantined(CONSUMER).len(), unknown);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_it_waits_for_a_node_that_is_yet_to_start() {
    for patience in [Duration::from_secs(60), Duration::MAX] {
        let node = Node::new([(0, Way::Refused), (40, Way::Open)]);
        let client = node.connect(RetryPolicy::default().with_first_contact(patience)).await;
        for ended in many(&client, 10).await {
            ended.unwrap();
        }
        assert_eq!(node.submitted(), 10);
    }
    // And by default for one that starts soon.
    let node = Node::new([(0, Way::Refused), (4, Way::Open)]);
    let client = node.connect(RetryPolicy::default()).await;
    client.submit(request()).await.unwrap();
    let none = RetryPolicy::default().with_first_contact(Duration::ZERO);
    assert_eq!(node.client(none).connect().await.unwrap_err().kind(), ErrorKind::InvalidConfig);
}

#[tokio::test(start_paused = true)]
async fn a_number_of_attempts_that_is_set_counts_those_that_others_make() {
    for (attempts, known) in [(1, false), (1, true), (3, false), (3, true), (12, true)] {
        let node = Node::new(if known { vec![(0, Way::Open), (1, Way::Refused)] } else { vec![(0, Way::Refused)] });
        let client = node.connect(RetryPolicy::default().with_attempts(attempts)).await;
        if known {
            client.submit(request()).await.unwrap();
            sleep(Duration::from_secs(1)).await;
        }
        for ended in many(&client, 100).await {
            let error = ended.unwrap_err();
            assert_eq!((error.outcome(), error.attempts()), (Outcome::NotSent, attempts));
        }
        // Those that come after the first one has failed wait for one more.
        assert!((attempts as usize..=attempts as usize + 1).contains(&node.attempts()), "{}", node.attempts());
        all_free(&client);
    }
}

/// As before: within budget and number, and told as what it is.
#[tokio::test(start_paused = true)]
async fn what_may_have_arrived_is_not_tried_for_ever() {
    for (policy, attempts) in [(RetryPolicy::default(), 1), (RetryPolicy::default().with_budget(0), 1)] {
        let node = Node::new([(0, Way::Breaks), (1, Way::Refused)]);
        let client = node.connect(policy).await;
        let error = client.submit(request()).await.unwrap_err();
        assert_eq!((error.outcome(), error.attempts()), (Outcome::Unknown, attempts), "{}", error.report());
        assert_eq!(client.unresolved().len(), 1);
    }
}

/// Whoever goes ahead is waited for until there is a connection, and no longer, over both transports.
#[tokio::test]
async fn a_call_that_the_node_does_not_answer_holds_up_no_other() {
    for revision in Revision::ALL {
        for rest in [false, true] {
            for large in [false, true] {
                let rig = Rig::new(revision).await;
                let builder = rig.builder();
                let builder = if rest { builder.rest(rig.node.rest_url()) } else { builder };
                let client = builder.connect().await.unwrap();
                let build = |input: &[u8]| -> OffchainJobRequest {
                    let job = rig.job("a").offchain_input(input.repeat(if large { 100_000 } else { 1 }));
                    job.build().unwrap()
                };
                let gate = rig.node.faults().hold_request(Method::SubmitJob);
                let first = submitting(&client, build(b"x"));
                within(gate.arrived(1)).await;
                let second = within(client.submit(build(b"y"))).await.unwrap();
                within(second.wait(Until::Relayed).into_future()).await.unwrap();
                gate.open();
                within(first).await.unwrap().unwrap();
            }
        }
    }
}

/// Attempts that reached nobody have cost nothing: what comes after them is tried as often as ever.
#[tokio::test(start_paused = true)]
async fn after_any_number_of_attempts_that_reached_nobody_a_call_that_breaks_is_made_again() {
    let job = scripted::job(Revision::Relay, CONSUMER, 1);
    let (taken, row) = (answers::taken(job.id().as_bytes()), Row::of(&job, answers::DONE).encode());
    let submitted = AtomicUsize::new(0);
    let node = Scripted::new(false, move |method, _| {
        at_once(match method {
            Method::SubmitJob => match submitted.fetch_add(1, SeqCst) {
                0..10 => Err(down()),
                10 => Err(broken()),
                _ => Ok(taken.clone()),
            },
            _ if submitted.load(SeqCst) < 12 => Err(not_found()),
            _ => Ok(row.clone()),
        })
    });
    let policy = RetryPolicy::default().with_first_contact(Duration::from_secs(60));
    let client = node.client(Revision::Relay, answers::operator()).retry(policy).connect().await.unwrap();
    client.submit_signed(job).await.unwrap();
    assert_eq!(node.count(Method::SubmitJob), 12);
}

/// Over real sockets: nobody listens, and all are told the same at the end of the time for that.
#[tokio::test]
async fn a_port_that_is_closed_is_given_up_by_all_at_once() {
    let rig = Rig::new(Revision::Relay).await;
    for rest in [false, true] {
        let url = format!("http://{}", closed_port());
        let policy = RetryPolicy::default().with_first_contact(Duration::from_millis(500)).with_budget(0);
        let builder = rig.builder().retry(policy);
        let client = if rest { builder.rest(&url) } else { builder.grpc(&url) }.connect().await.unwrap();
        let ended = timeout(Duration::from_secs(60), many(&client, 512)).await.unwrap();
        let outcome = |it: &Result<(), Error>| it.as_ref().unwrap_err().outcome();
        assert!(ended.iter().all(|it| outcome(it) == Outcome::NotSent));
        all_free(&client);
    }
}
