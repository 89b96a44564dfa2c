//! Clients that lose their node at the same moment and get it back, under a clock that is stopped: how many requests there
//! are in each second. `SWEEP=full`: a thousand clients, for minutes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use infinityvm_sdk::{
    JobId, Revision, SignedJob, Until,
    primitives::{Address, B256},
    rpc::{CallError, CallFailure, Method},
};
use prost::Message;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    answers::{self, PENDING, Row},
    plain_client::relay as pb,
    rig::{Random, Reply, Scripted, at_once, broken, down, job, not_found, seed, sweep, within},
};

/// Jobs that each of them waits for.
const JOBS: u64 = 2;
/// What comes before is the beginning of all the waits: jobs that are young are looked up often.
const STARTED: usize = 40;

#[derive(Clone, Copy, Debug)]
enum Outage {
    /// No connection.
    Refused,
    /// Connections break.
    Broken,
    /// No answer, until the transport gives up.
    Silent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The network was down: the node has all it had.
    Same,
    /// The node restarted: it has forgotten what it was working on.
    Forgotten,
}

/// When the node is away, in seconds.
fn times() -> (u64, u64, u64) {
    if sweep() { (240, 480, 720) } else { (60, 100, 140) }
}

fn clients() -> u64 {
    if sweep() { 1000 } else { 100 }
}

/// A node that works on every job for ever.
struct Node {
    begun: Instant,
    outage: Outage,
    after: After,
    records: BTreeMap<JobId, SignedJob>,
    /// By request.
    ids: BTreeMap<Vec<u8>, JobId>,
    /// By consumer.
    queue: Mutex<BTreeMap<Address, BTreeSet<u64>>>,
    forgot: Mutex<bool>,
}

impl Node {
    fn answer(&self, method: Method, body: &[u8]) -> Reply {
        let (gone, back, _) = times();
        let now = self.begun.elapsed().as_secs();
        if (gone..back).contains(&now) {
            return match self.outage {
                Outage::Refused => at_once(Err(down())),
                Outage::Broken => at_once(Err(broken())),
                Outage::Silent => (Duration::from_secs(20), Err(CallError::new(CallFailure::TimedOut, "no answer"))),
            };
        }
        let mut queue = self.queue.lock().unwrap();
        if now >= back && self.after == After::Forgotten && !std::mem::replace(&mut *self.forgot.lock().unwrap(), true)
        {
            queue.clear();
        }
        // A round trip.
        let trip = Duration::from_millis(20);
        let answer = match method {
            Method::GetResult => {
                let id = JobId::from(B256::from_slice(&answers::asked_for(body)));
                self.records.get(&id).map(|job| Row::of(job, PENDING).encode()).ok_or_else(not_found)
            }
            Method::GetPendingJobs => {
                let consumer = pb::GetPendingJobsRequest::decode(body).unwrap().consumer_address;
                let nonces = queue.get(&Address::from_slice(&consumer)).into_iter().flatten().copied();
                Ok(answers::pending_jobs(nonces))
            }
            Method::SubmitJob => {
                let (request, _) = answers::submitted(body);
                let job = &self.records[&self.ids[&request]];
                queue.entry(job.consumer()).or_default().insert(job.nonce());
                Ok(answers::taken(job.id().as_bytes()))
            }
            other => panic!("{other} was called"),
        };
        (trip, answer)
    }
}

async fn herd(list: bool, outage: Outage, after: After, spread: bool) {
    let consumer = |client: u64| {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&(client + 1).to_be_bytes());
        Address::from(bytes)
    };
    let jobs: Vec<Vec<SignedJob>> = (0..clients())
        .map(|client| (1..=JOBS).map(|nonce| job(Revision::Relay, consumer(client), nonce)).collect())
        .collect();
    let queue = (0..clients()).map(|client| (consumer(client), (1..=JOBS).collect())).collect();
    let ids = jobs.iter().flatten().map(|job| (job.request().to_vec(), job.id())).collect();
    let records = jobs.iter().flatten().map(|job| (job.id(), job.clone())).collect();
    let node = Arc::new(Node {
        begun: Instant::now(),
        outage,
        after,
        records,
        ids,
        queue: Mutex::new(queue),
        forgot: Mutex::new(false),
    });
    let scripted = {
        let node = Arc::clone(&node);
        Scripted::new(list, move |method, body| node.answer(method, body))
    };
    let (gone, back, end) = times();
    let mut random = Random::new(seed());
    let mut waits = JoinSet::new();
    for jobs in jobs {
        let client = scripted.client(Revision::Relay, answers::operator()).connect().await.unwrap();
        let begins = Duration::from_millis(if spread { random.next() % 30_000 } else { 0 });
        waits.spawn(async move {
            tokio::time::sleep(begins).await;
            let handles = jobs.into_iter().map(|job| client.resume(job).unwrap());
            let results = client.wait_all(handles, Until::Relayed).timeout(Duration::from_secs(end * 2)).await;
            panic!("a wait ended: {results:?}");
        });
    }
    tokio::select! {
        ended = waits.join_next() => panic!("{ended:?}"),
        () = tokio::time::sleep_until(node.begun + Duration::from_secs(end)) => {}
    }
    waits.shutdown().await;

    let seconds = scripted.seconds();
    let [gone, back, end] = [gone, back, end].map(|second| usize::try_from(second).unwrap());
    let of = |from: usize, to: usize| {
        let part = &seconds[from..to];
        (part.iter().sum::<usize>() as f64 / part.len() as f64, part.iter().copied().max().unwrap())
    };
    let (start, healthy, away, returned) = (of(0, STARTED), of(STARTED, gone), of(gone, back), of(back, end));
    let (mean, most) = of(STARTED, end);
    println!(
        "{} clients, {} {outage:?} {after:?}, waits begin {}: mean {mean:.0} requests a second, most {most} ({:.2} times the mean); mean and most \
         at the start {start:.0?}, with the node {healthy:.0?}, without {away:.0?}, after {returned:.0?}; lists {}, looks {}, \
         submissions {}",
        clients(),
        if list { "lists," } else { "no lists," },
        if spread { "within 30 s" } else { "at once" },
        most as f64 / mean,
        scripted.count(Method::GetPendingJobs),
        scripted.count(Method::GetResult),
        scripted.count(Method::SubmitJob),
    );
    assert!(most as f64 <= 3.0 * mean, "a herd: {most} requests in a second, {mean:.0} on average");
    assert!(away.0 <= healthy.0 * 1.1, "the outage brings more requests than the node: {away:?}, {healthy:?}");
    assert!(returned.0 >= healthy.0 / 2.0, "the clients did not come back: {returned:?}, {healthy:?}");
    if after == After::Forgotten {
        let queue = node.queue.lock().unwrap();
        let (count, all) = (queue.values().map(BTreeSet::len).sum::<usize>() as u64, clients() * JOBS);
        assert_eq!(count, all, "jobs were not sent again");
    }
}

macro_rules! every_herd {
    ($($name:ident $list:literal $outage:ident $after:ident $spread:literal,)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            within(herd($list, Outage::$outage, After::$after, $spread)).await;
        }
    )*};
}

every_herd! {
    lists_refused_at_once true Refused Same false,
    lists_refused_spread true Refused Same true,
    lists_broken_at_once true Broken Same false,
    lists_silent_at_once true Silent Same false,
    lists_forgotten_at_once true Refused Forgotten false,
    looks_refused_at_once false Refused Same false,
    looks_refused_spread false Refused Same true,
    looks_broken_at_once false Broken Same false,
    looks_silent_at_once false Silent Same false,
    looks_forgotten_at_once false Broken Forgotten false,
}
