//! What waiting costs: calls and tasks, counted under a clock that is stopped.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    Stream, StreamExt,
    future::{BoxFuture, FutureExt, join_all},
    stream::FuturesUnordered,
};
use infinityvm_sdk::{
    Client, ErrorKind, JobHandle, JobId, PollPolicy, Revision, SignedJob, Stage, Until,
    client::ClientBuilder,
    primitives::{Address, B256},
    rpc::Method,
};
use prost::Message;
use tokio::{runtime::Handle, time::Instant};

use crate::{
    answers::{self, OPERATOR, PENDING, RELAYED, Row, Signed},
    plain_client::relay as pb,
    rig::{CONSUMER, Scripted, at_once, broken, job, not_found, within},
};

/// How long a round trip to the node takes.
const TRIP: Duration = Duration::from_millis(50);

/// A node whose jobs are all relayed at a given moment, if ever.
fn node(list: bool, jobs: &[SignedJob], relayed_after: Option<Duration>) -> Scripted {
    let begun = Instant::now();
    let mut consumers: BTreeMap<Address, Vec<u64>> = BTreeMap::new();
    let mut rows: BTreeMap<JobId, [Bytes; 2]> = BTreeMap::new();
    let ids: BTreeMap<Vec<u8>, JobId> = jobs.iter().map(|job| (job.request().to_vec(), job.id())).collect();
    for job in jobs {
        consumers.entry(job.consumer()).or_default().push(job.nonce());
        let pending = Row::of(job, PENDING).encode();
        let relayed = match relayed_after {
            Some(_) => Row::of(job, RELAYED).with(&Signed::by(&OPERATOR, answers::result(job, b"output"))).encode(),
            None => Bytes::new(),
        };
        rows.insert(job.id(), [pending, relayed]);
    }
    Scripted::new(list, move |method, body| {
        let relayed = relayed_after.is_some_and(|after| begun.elapsed() >= after);
        let answer = match method {
            Method::GetResult => {
                let id = JobId::from(B256::from_slice(&answers::asked_for(body)));
                rows.get(&id).map(|rows| rows[usize::from(relayed)].clone()).ok_or_else(not_found)
            }
            Method::GetPendingJobs => {
                let consumer = Address::from_slice(&pb::GetPendingJobsRequest::decode(body).unwrap().consumer_address);
                let nonces = consumers.get(&consumer).filter(|_| !relayed).into_iter().flatten().copied();
                Ok(answers::pending_jobs(nonces))
            }
            // It has every one of them.
            Method::SubmitJob => Ok(answers::taken(ids[&answers::submitted(body).0].as_bytes())),
            other => panic!("{other} was called"),
        };
        (TRIP, answer)
    })
}

fn builder(node: &Scripted) -> ClientBuilder {
    node.client(Revision::Relay, answers::operator())
}

async fn client(node: &Scripted) -> Client {
    builder(node).connect().await.unwrap()
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Waits of all kinds for a job.
fn waits(handle: &JobHandle, each: usize) -> Vec<BoxFuture<'static, ()>> {
    let mut waits: Vec<BoxFuture<'static, ()>> = Vec::new();
    for _ in 0..each {
        for until in [Until::Executed, Until::Relayed] {
            let wait = handle.wait(until);
            waits.push(async move { drop(wait.await.unwrap()) }.boxed());
        }
        let mut events = handle.events();
        let events = async move {
            let mut stages = Vec::new();
            while let Some(event) = events.next().await {
                stages.extend(event.unwrap().stage());
            }
            assert_eq!(stages, [Stage::Accepted, Stage::Executed, Stage::Relayed]);
        };
        waits.push(events.boxed());
    }
    waits
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_for_a_job_share_its_looks() {
    for list in [true, false] {
        let mut calls = Vec::new();
        for each in [1, 400] {
            let jobs = [job(Revision::Relay, CONSUMER, 1)];
            let node = node(list, &jobs, Some(Duration::from_secs(60)));
            let handle = client(&node).await.resume(jobs[0].clone()).unwrap();
            let before = tasks();
            within(join_all(waits(&handle, each))).await;
            calls.push((3 * each, node.calls()));
            // The watcher, and a list that is still under way, which is two tasks; they come to their end.
            assert!(tasks() <= before + 3);
            tokio::time::sleep(TRIP * 2).await;
            assert_eq!(tasks(), before);
        }
        println!("{}: waits and calls {calls:?}", if list { "lists" } else { "no lists" });
        let [(_, few), (_, many)] = calls[..] else { unreachable!() };
        assert!(many <= few * 13 / 10 + 3, "{many} calls for many, {few} for few");
    }
}

/// Other handles to the same job are the same job.
#[tokio::test(start_paused = true)]
async fn handles_of_one_job_share_its_looks_as_well() {
    for list in [true, false] {
        let mut calls = Vec::new();
        for handles in [1, 200] {
            let jobs = [job(Revision::Relay, CONSUMER, 1)];
            let node = node(list, &jobs, Some(Duration::from_secs(60)));
            let client = client(&node).await;
            let waits = (0..handles).map(|_| client.clone().resume(jobs[0].clone()).unwrap().wait(Until::Relayed));
            for result in within(join_all(waits)).await {
                result.unwrap();
            }
            calls.push(node.calls());
        }
        assert!(calls[1] <= calls[0] * 13 / 10 + 3, "{calls:?}");
    }
}

/// Jobs of 20 consumers.
fn many_jobs(count: u64) -> Vec<SignedJob> {
    let of = |number| (1..=count / 20).map(move |nonce| job(Revision::Relay, Address::repeat_byte(number), nonce));
    (1..=20).flat_map(of).collect()
}

/// The most tasks there were at once, beside those of before.
async fn most_tasks(list: bool, count: u64) -> usize {
    let jobs = many_jobs(count);
    let node = node(list, &jobs, None);
    let client = client(&node).await;
    let before = tasks();
    let mut waits: FuturesUnordered<_> =
        jobs.into_iter().map(|job| client.resume(job).unwrap().wait(Until::Relayed)).collect();
    let mut most = 0;
    for _ in 0..500 {
        let step = tokio::time::timeout(Duration::from_millis(10), waits.next()).await;
        assert!(step.is_err(), "a wait ended: {step:?}");
        most = most.max(tasks() - before);
    }
    assert!(node.calls() > 0);
    drop(waits);
    // Lists that are under way come to their end, and the watcher with them.
    tokio::time::sleep(TRIP * 2).await;
    assert_eq!(tasks(), before);
    most
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_waits_are_no_tasks() {
    for list in [true, false] {
        let (few, many) = (within(most_tasks(list, 20)).await, within(most_tasks(list, 10_000)).await);
        println!("{}: {few} tasks for 20 waits, {many} for 10,000", if list { "lists" } else { "no lists" });
        // The watcher, and calls under way: at most one list a consumer, which are two tasks, or 32 looks.
        assert!((1..=41).contains(&few) && many <= 41, "{few}, {many}");
    }
}

/// Looks of all kinds together keep to the rate, also when all of the waits begin at once.
#[tokio::test(start_paused = true)]
async fn no_second_has_more_looks_than_the_rate() {
    for rate in [1, 50, 500] {
        let jobs = many_jobs(2000);
        let node = node(false, &jobs, None);
        let client = builder(&node).polling(PollPolicy::default().with_rate(rate)).connect().await.unwrap();
        let handles = jobs.into_iter().map(|job| client.resume(job).unwrap());
        let waits = client.wait_all(handles, Until::Executed).timeout(Duration::from_secs(60));
        let results = within(waits).await;
        assert!(results.iter().all(|it| it.as_ref().is_err_and(|error| error.kind() == ErrorKind::DeadlineExceeded)));
        let seconds = node.seconds();
        let (most, all) = (seconds.iter().max().unwrap(), seconds.iter().sum::<usize>());
        println!("rate {rate}: at most {most} in a second, {all} in 60 s");
        assert!(*most <= rate as usize, "{seconds:?}");
        assert!(all >= 60 * rate as usize * 9 / 10, "what may be used is used: {all}");
    }
}

/// In whichever way somebody waits: once the last has gone, nobody asks, and the watcher is gone; the next begins it again.
#[tokio::test(start_paused = true)]
async fn when_the_last_wait_is_dropped_the_node_is_left_alone() {
    for list in [true, false] {
        let jobs: Vec<_> = (1..=3).map(|nonce| job(Revision::Relay, CONSUMER, nonce)).collect();
        let node = node(list, &jobs, Some(Duration::from_secs(4 * 3600 + 1800)));
        let client = client(&node).await;
        let handles: Vec<_> = jobs.into_iter().map(|job| client.resume(job).unwrap()).collect();
        let before = tasks();
        for kind in 0..4 {
            let calls = node.calls();
            {
                let mut waits: Vec<BoxFuture<'static, ()>> = match kind {
                    0 => handles.iter().map(|it| it.wait(Until::Relayed).map(|it| panic!("{it:?}")).boxed()).collect(),
                    1 => handles.iter().map(|it| endless(it.events().filter_map(async |it| it.err()))).collect(),
                    2 => vec![endless(client.watch_many(handles.clone(), Until::Executed))],
                    _ => vec![client.wait_all(handles.clone(), Until::Executed).map(|it| panic!("{it:?}")).boxed()],
                };
                let all = join_all(waits.drain(..));
                assert!(tokio::time::timeout(Duration::from_secs(60), all).await.is_err());
                assert!(node.calls() > calls && tasks() > before, "nobody asks in way {kind}");
            }
            // What is under way comes to its end.
            tokio::time::sleep(TRIP * 2).await;
            let calls = node.calls();
            tokio::time::sleep(Duration::from_secs(3600)).await;
            assert_eq!((node.calls() - calls, tasks()), (0, before), "somebody asks on in way {kind}");
        }
        // By now the jobs are relayed soon.
        tokio::time::sleep(Duration::from_secs(1500)).await;
        for result in within(client.wait_all(handles.clone(), Until::Relayed).timeout(Duration::from_secs(3600))).await
        {
            assert_eq!(&result.unwrap().output()[..], b"output");
        }
        let calls = node.calls();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!((node.calls() - calls, tasks()), (0, before), "somebody asks on after the end");
    }
}

fn endless<T: std::fmt::Debug>(stream: impl Stream<Item = T> + Send + 'static) -> BoxFuture<'static, ()> {
    let mut stream = Box::pin(stream);
    async move { panic!("{:?}", stream.next().await) }.boxed()
}

/// What was made and never polled costs nothing at all.
#[tokio::test(start_paused = true)]
async fn waits_that_are_not_polled_ask_nobody() {
    let jobs = [job(Revision::Relay, CONSUMER, 1)];
    let node = node(true, &jobs, None);
    let client = client(&node).await;
    let handle = client.resume(jobs[0].clone()).unwrap();
    let before = tasks();
    let unused = (
        handle.wait(Until::Relayed),
        handle.events(),
        client.watch_many([handle.clone()], Until::Relayed),
        client.wait_all([handle.clone()], Until::Relayed),
    );
    tokio::time::sleep(Duration::from_secs(3600)).await;
    drop(unused);
    assert_eq!((node.calls(), tasks(), handle.stage()), (0, before, Stage::Submitted));
}

/// One break of all connections under many looks is one failure, not as many as there were looks: the node is asked again soon.
#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_once_is_not_an_outage() {
    for list in [true, false] {
        for _ in 0..5 {
            let jobs = many_jobs(200);
            let healthy = node(list, &jobs, None);
            let (begun, breaks) = (Instant::now(), Duration::from_secs(20));
            let last = Arc::new(Mutex::new(None));
            let node = {
                let (healthy, last) = (healthy.clone(), Arc::clone(&last));
                Scripted::new(list, move |method, body| {
                    let (trip, answer) = healthy.answer(method, body);
                    // What is under way at that moment breaks.
                    let (now, lost) = (begun.elapsed(), begun.elapsed() < breaks && begun.elapsed() + trip >= breaks);
                    if now >= breaks {
                        last.lock().unwrap().get_or_insert(now - breaks);
                    }
                    if lost { (breaks - now, Err(broken())) } else { (trip, answer) }
                })
            };
            let client = client(&node).await;
            let handles = jobs.into_iter().map(|job| client.resume(job).unwrap());
            let waits = client.wait_all(handles, Until::Relayed).timeout(Duration::from_secs(25));
            let results = within(waits).await;
            assert!(results.iter().all(Result::is_err));
            let after = last.lock().unwrap().expect("nobody asked again");
            assert!(after <= Duration::from_secs(1), "the node is asked again after {after:?}");
        }
    }
}

/// A submission that hangs, as behind a stalled relay, keeps nobody from looking.
#[tokio::test(start_paused = true)]
async fn looks_go_on_while_a_job_that_is_sent_again_hangs() {
    let jobs: Vec<_> = (1..=2).map(|nonce| job(Revision::Relay, CONSUMER, nonce)).collect();
    let healthy = node(false, &jobs[1..], Some(Duration::from_secs(11)));
    let begun = Instant::now();
    let node = {
        let healthy = healthy.clone();
        Scripted::new(false, move |method, body| match method {
            // The first job is lost, and its submission never ends.
            Method::SubmitJob => (Duration::from_secs(3600), Err(broken())),
            // Some trouble while it hangs.
            _ if (10..12).contains(&begun.elapsed().as_secs()) => (TRIP, Err(broken())),
            _ => healthy.answer(method, body),
        })
    };
    let client = client(&node).await;
    let [lost, fine] = [0, 1].map(|number| client.resume(jobs[number].clone()).unwrap());
    let first = lost.wait(Until::Relayed).timeout(Duration::from_secs(200));
    let second = fine.wait(Until::Relayed).timeout(Duration::from_secs(20));
    let (first, second) = within(futures_util::future::join(first, second)).await;
    assert!(node.count(Method::SubmitJob) > 0);
    second.unwrap();
    assert_eq!(first.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
}

/// A lost job waits for its turn to be sent, a look at another one fails, and nobody waits for that one any more: then
/// nothing is left to look at that could show that the node is there.
#[tokio::test(start_paused = true)]
async fn a_lost_job_is_sent_when_nothing_else_is_to_be_asked() {
    let mut met = 0;
    for _ in 0..20 {
        let [broken_job, lost_job] = [1, 2].map(|nonce| job(Revision::Relay, CONSUMER, nonce));
        // Until when the last look at the one lasts, and how often the other was not found.
        let seen = Arc::new(Mutex::new((Instant::now(), 0)));
        let node = {
            let (seen, id) = (Arc::clone(&seen), lost_job.id());
            Scripted::new(false, move |method, body| {
                let (ends, not_found_so_often) = &mut *seen.lock().unwrap();
                let long = Duration::from_millis(1500);
                match method {
                    Method::GetResult if answers::asked_for(body) == id.as_bytes() => {
                        *not_found_so_often += 1;
                        at_once(Err(not_found()))
                    }
                    Method::GetResult => {
                        *ends = Instant::now() + long;
                        (long, Err(broken()))
                    }
                    Method::SubmitJob => at_once(Ok(answers::taken(id.as_bytes()))),
                    other => panic!("{other} was called"),
                }
            })
        };
        let client = builder(&node).polling(PollPolicy::default().with_rate(1)).connect().await.unwrap();
        let [broken_wait, lost_wait] =
            [broken_job, lost_job].map(|job| client.resume(job).unwrap().wait(Until::Executed));
        let lost_wait = tokio::spawn(lost_wait.timeout(Duration::from_secs(120)));
        let ends = async {
            loop {
                tokio::time::sleep(Duration::from_millis(10)).await;
                let (ends, not_found_so_often) = *seen.lock().unwrap();
                if not_found_so_often >= 3 && Instant::now() >= ends {
                    return Instant::now() - ends < Duration::from_millis(20);
                }
            }
        };
        tokio::select! {
            ended = broken_wait => panic!("{ended:?}"),
            just_now = ends => met += usize::from(just_now && node.count(Method::SubmitJob) == 0),
        }
        assert_eq!(within(lost_wait).await.unwrap().unwrap_err().kind(), ErrorKind::DeadlineExceeded);
        assert!(node.count(Method::SubmitJob) > 0, "it was never sent");
    }
    assert!(met > 0, "the moment was never met");
}
