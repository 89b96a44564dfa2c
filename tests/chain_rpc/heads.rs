//! New blocks over HTTP: looked for, once for all who wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use infinityvm_sdk::{
    chain::{At, ChainReader, Question, RpcReader},
    primitives::B256,
};
use serde_json::json;

use crate::{
    http1::Server,
    rig::{answering, block},
};

const INTERVAL: Duration = Duration::from_millis(200);

async fn growing() -> (Server, RpcReader, Arc<AtomicU64>) {
    let height = Arc::new(AtomicU64::new(7));
    let at = Arc::clone(&height);
    let (server, _) = answering(move |request| json!({ "id": request["id"], "result": block(at.load(SeqCst)) })).await;
    let reader = RpcReader::builder(server.url()).poll_interval(INTERVAL).connect().await.expect("a reader");
    (server, reader, height)
}

fn hash(number: u64) -> Option<B256> {
    Some(B256::with_last_byte(number as u8 + 1))
}

#[tokio::test]
async fn the_latest_is_told_at_once_and_the_next_when_it_comes() {
    let (server, reader, height) = growing().await;
    let begun = Instant::now();
    assert_eq!(reader.next_head(None).await.expect("a head").number, 7);
    assert_eq!(reader.next_head(hash(3)).await.expect("a head").number, 7);
    assert_eq!(server.requests(), 1, "what was just seen is told again");
    assert!(begun.elapsed() < INTERVAL);
    let next = tokio::spawn(async move { reader.next_head(hash(7)).await });
    tokio::time::sleep(INTERVAL / 2).await;
    height.store(8, SeqCst);
    assert_eq!(next.await.expect("no panic").expect("a head").number, 8);
    assert!(begun.elapsed() >= INTERVAL, "not before the interval is over");
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn many_who_wait_look_once() {
    let (server, reader, height) = growing().await;
    let waits: Vec<_> = (0..50)
        .map(|_| {
            let reader = reader.clone();
            tokio::spawn(async move { reader.next_head(hash(7)).await.expect("a head").number })
        })
        .collect();
    tokio::time::sleep(INTERVAL * 4 + INTERVAL / 2).await;
    let looks = server.requests();
    assert!((3..=5).contains(&looks), "{looks} looks in 4.5 intervals");
    height.store(8, SeqCst);
    for wait in waits {
        assert_eq!(wait.await.expect("no panic"), 8);
    }
    assert!(server.requests() <= looks + 2);
}

#[tokio::test]
async fn a_block_of_another_branch_is_a_new_head() {
    let (_server, reader, height) = growing().await;
    reader.next_head(None).await.expect("a head");
    height.store(6, SeqCst);
    assert_eq!(reader.next_head(hash(7)).await.expect("a head").number, 6);
}

#[tokio::test]
async fn what_is_asked_for_anyhow_is_no_second_look() {
    let (server, reader, _) = growing().await;
    reader.ask(&[Question::Block(At::Latest)]).await.expect("asked");
    assert_eq!(reader.next_head(None).await.expect("a head").number, 7);
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn an_rpc_without_blocks_is_an_error() {
    let (_server, reader) = answering(|request| json!({ "id": request["id"], "result": null })).await;
    let error = reader.next_head(None).await.expect_err("none");
    assert!(error.to_string().contains("no latest block"), "{error}");
}
