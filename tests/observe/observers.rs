//! Observers hear what happens, in the client's own words, and can do it no harm.

use std::sync::{Arc, OnceLock};

use infinityvm_sdk::{
    Client, ErrorKind, OffchainJobRequest, Until,
    devnode::DevNode,
    nonce::{NonceManager, Sequential, Settlement},
    observe::{ClientEvent, Observer},
    primitives::Address,
};
use tokio::time::Duration;

use crate::{
    rig::{Mood, Node, Told, builder, connected, consumer, devnode, job},
    scripted::within,
};

#[tokio::test(start_paused = true)]
async fn a_job_with_a_lost_reply_is_told_step_by_step() {
    let (node, told) = (Node::default(), Told::default());
    let client = connected(builder(&node.scripted()).observer(told.clone())).await;
    assert_eq!(told.take(), ["budget +100"]);
    node.next([Mood::Loses]);
    let handle = client.submit(job()).await.unwrap();
    assert_eq!(
        told.take(),
        [
            "nonces +1 +0",
            "SubmitJob failed",
            "connected true",
            "budget -1",
            "GetResult ok",
            "GetPendingJobs ok",
            "nonces -1 +0",
            "submission of 1 ok, 1",
            "1 accepted",
        ]
    );
    handle.wait(Until::Executed).await.unwrap();
    assert_eq!(
        told.take(),
        ["waiting +1", "GetResult ok", "waiting -1", "1 executed", "wait of 1 until executed ok, 1"]
    );
    // It is known, and told once.
    handle.wait(Until::Executed).await.unwrap();
    let again = told.take();
    assert!(!again.iter().any(|told| told == "1 executed"), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_told_with_how_far_it_came() {
    let (node, told) = (Node::default(), Told::default());
    let client = connected(builder(&node.scripted()).observer(told.clone())).await;
    node.next([Mood::Away, Mood::Away]);
    node.set_failing();
    let handle = client.submit(job()).await.unwrap();
    let heard = told.take();
    assert!(
        heard.contains(&"SubmitJob again, 2".to_owned()) && heard.contains(&"SubmitJob again, 3".to_owned()),
        "{heard:?}"
    );
    assert!(heard.contains(&"submission of 1 ok, 3".to_owned()), "{heard:?}");
    // Nobody was reached before the last.
    assert_eq!(heard.iter().filter(|told| told.starts_with("connected")).collect::<Vec<_>>(), ["connected true"]);
    let error = handle.wait(Until::Executed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JobFailed);
    let heard = told.take();
    assert_eq!(heard.iter().filter(|told| told.starts_with("wait")).count(), 3, "two changes and one end: {heard:?}");
    assert!(heard.contains(&"wait of 1 until executed failed, 3".to_owned()), "{heard:?}");
    assert!(heard.contains(&"lane of 1 stalled".to_owned()), "{heard:?}");
    node.next([Mood::Away]);
    client.submit(job()).await.unwrap();
    let heard = told.take();
    let connected: Vec<_> = heard.iter().filter(|told| told.starts_with("connected")).collect();
    assert_eq!(connected, ["connected false", "connected true"]);
}

#[tokio::test(start_paused = true)]
async fn quarantine_is_told_where_it_begins_and_where_it_ends() {
    let (node, told) = (Node::default(), Told::default());
    let nonces = NonceManager::new(Sequential::starting_at(1));
    let client = connected(builder(&node.scripted()).nonce_manager(nonces.clone()).observer(told.clone())).await;
    told.take();
    let signed = client.sign(job()).await.unwrap();
    assert_eq!(told.take(), ["nonces +1 +0", "1 quarantined", "nonces -1 +1"]);
    client.submit_signed(signed).await.unwrap();
    let heard = told.take();
    let nonces_told: Vec<_> =
        heard.iter().filter(|told| told.contains("nonces") || told.contains("released")).collect();
    assert_eq!(nonces_told, ["nonces +1 +0", "1 released", "nonces -1 -1"]);
    let signed = client.sign(job()).await.unwrap();
    told.take();
    nonces.resolve(signed.consumer(), signed.nonce(), Settlement::Release).unwrap();
    assert_eq!(told.take(), ["2 released", "nonces +0 -1"]);
}

struct Panics;

impl Observer for Panics {
    fn observe(&self, event: ClientEvent<'_>) {
        panic!("an observer's own fault, at {event:?}");
    }
}

/// Calls the client that tells it, which would hang if it was told under a lock.
#[derive(Clone, Default)]
struct CallsBack(Arc<OnceLock<Client>>);

impl Observer for CallsBack {
    fn observe(&self, _: ClientEvent<'_>) {
        if let Some(client) = self.0.get() {
            _ = (client.unresolved(), client.nonces().quarantined(consumer()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_panics_or_calls_back_changes_nothing() {
    let (node, told, calls_back) = (Node::default(), Told::default(), CallsBack::default());
    // So many panics would fill the log.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.to_string().contains("an observer's own fault") {
            hook(panic);
        }
    }));
    let builder = builder(&node.scripted()).observer(Panics).observer(calls_back.clone()).observer(told.clone());
    let client = connected(builder).await;
    assert!(calls_back.0.set(client.clone()).is_ok());
    node.next([Mood::Away, Mood::Loses]);
    within(async {
        for _ in 0..3 {
            let handle = client.submit(job()).await.unwrap();
            handle.wait(Until::Executed).await.unwrap();
        }
        assert!(client.close(Duration::from_secs(1)).await.is_empty());
    })
    .await;
    assert_eq!(told.all().iter().filter(|told| told.ends_with("until executed ok, 1")).count(), 3);
}

struct Followed {
    node: DevNode,
    client: Client,
    told: Told,
    job: OffchainJobRequest,
}

async fn followed() -> Followed {
    let ((node, builder, job), told) = (devnode().await, Told::default());
    let builder = builder.grpc(node.grpc_url()).chain(node.chain().to_chain()).operator_ttl(Duration::ZERO);
    let client = builder.observer(told.clone()).connect().await.unwrap();
    Followed { node, client, told, job: job.onchain_input(vec![5]).build().unwrap() }
}

#[tokio::test]
async fn a_job_that_the_node_had_lost_is_told() {
    let Followed { node, client, told, job } = followed().await;
    let gate = node.faults().hold_executions();
    let handle = client.submit(job).await.unwrap();
    node.restart();
    gate.open();
    within(handle.wait(Until::Executed)).await.unwrap();
    assert!(told.all().contains(&"1 sent again".to_owned()), "{:?}", told.all());
}

#[tokio::test]
async fn a_reorganisation_is_told() {
    let Followed { node, client, told, job } = followed().await;
    let handle = client.submit(job).await.unwrap();
    let wait = tokio::spawn(async move { handle.wait(Until::Finalized { confirmations: 50 }).await });
    // The wait has seen the result on chain. Then its block goes.
    within(told.hear("1 relayed")).await;
    node.chain().reorganise(1);
    node.chain().mine(2);
    within(told.hear("1 reorganised")).await;
    wait.abort();
}

#[tokio::test]
async fn another_operator_is_told() {
    let Followed { node, client, told, job } = followed().await;
    client.submit(job.clone()).await.unwrap().wait(Until::Executed).await.unwrap();
    node.chain().set_operator(Address::repeat_byte(3));
    let waiting = client.submit(job).await.unwrap();
    let wait = tokio::spawn(async move { waiting.wait(Until::Executed).await });
    within(told.hear("operator changed")).await;
    wait.abort();
}
