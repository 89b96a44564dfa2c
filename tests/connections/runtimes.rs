//! A client in a static, and runtimes that come and go: a new one for each `block_on`, as in `#[tokio::test]` and in the
//! handlers of serverless platforms. Connections belong to the runtime on which they were opened, and every runtime has
//! its own. Each form of an end is tried on each way to a node, and calls are made once.
//!
//! The forms: dropped; ended in the background; one that stands still and is not dropped, also in the middle of a call;
//! several at the same time; one that ends during a call; and the same for the chain's RPC over HTTP and a websocket. tests/watching has the same of the watcher.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use infinityvm_sdk::{
    RetryPolicy, Until,
    chain::{Answer, At, ChainReader, Question, RpcReader},
    primitives::B256,
    rpc::Method,
};
use serde_json::{Value, json};
use support::{
    harness::poll_once,
    http1::{Server, json as json_answer},
};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_tungstenite::{accept_async, tungstenite::Message};

use crate::rig::{Home, Way, current_thread, multi_thread, within};

/// How a runtime is left behind.
#[derive(Clone, Copy, Debug)]
enum Left {
    Dropped,
    InTheBackground,
    /// Neither driven nor dropped.
    Standing,
}

impl Left {
    const ALL: [Self; 3] = [Self::Dropped, Self::InTheBackground, Self::Standing];

    fn leave(self, runtime: Runtime, standing: &mut Vec<Runtime>) {
        match self {
            Self::Dropped => drop(runtime),
            Self::InTheBackground => runtime.shutdown_background(),
            Self::Standing => standing.push(runtime),
        }
    }
}

const KINDS: [fn() -> Runtime; 2] = [current_thread, multi_thread];

#[test]
fn a_client_works_on_one_runtime_after_the_other() {
    let home = Home::new();
    for way in Way::ALL {
        for left in Left::ALL {
            let first = current_thread();
            let client = first.block_on(home.client(way).connect()).unwrap();
            let mut standing = Vec::new();
            left.leave(first, &mut standing);
            for kind in KINDS.into_iter().cycle().take(6) {
                let runtime = kind();
                let result =
                    runtime.block_on(within(async { client.submit(home.job()).await?.wait(Until::Executed).await }));
                result.unwrap_or_else(|error| panic!("{way:?}, {left:?}: {}", error.report()));
                left.leave(runtime, &mut standing);
            }
            standing.into_iter().for_each(Runtime::shutdown_background);
        }
    }
}

#[test]
fn runtimes_of_many_threads_share_a_client_and_no_connection() {
    let home = Arc::new(Home::new());
    for way in Way::ALL {
        let client = Arc::new(current_thread().block_on(home.client(way).connect()).unwrap());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (home, client) = (Arc::clone(&home), Arc::clone(&client));
                std::thread::spawn(move || {
                    for _ in 0..5 {
                        let submitted = current_thread().block_on(within(client.submit(home.job())));
                        submitted.unwrap_or_else(|error| panic!("{way:?}: {}", error.report()));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// A submission goes on in a task; its runtime ends under it, and the next one brings the job home.
#[test]
fn a_runtime_that_ends_during_a_call_leaves_a_job_that_the_next_one_can_bring_home() {
    let home = Home::new();
    for way in Way::ALL {
        let first = current_thread();
        let client = first.block_on(home.client(way).connect()).unwrap();
        let held = home.node.faults().hold_reply(Method::SubmitJob);
        let before = home.node.stats();
        first.block_on(within(async {
            let submitting = client.submit(home.job());
            tokio::pin!(submitting);
            loop {
                tokio::select! {
                    done = &mut submitting => panic!("{way:?}: {done:?}"),
                    () = tokio::time::sleep(Duration::from_millis(5)) => {}
                }
                if home.node.stats().calls(Method::SubmitJob) > before.calls(Method::SubmitJob) {
                    return;
                }
            }
        }));
        drop(first);
        held.open();
        home.node.faults().clear();
        let job = client.unresolved().pop().expect("its outcome is open");
        current_thread().block_on(within(async {
            let handle = client.submit_signed(job.clone()).await.unwrap();
            handle.wait(Until::Executed).await.unwrap();
        }));
        assert!(client.unresolved().is_empty());
    }
}

/// Nobody drives the first runtime any more, and its submission stands still wherever it was.
#[test]
fn a_runtime_that_stands_still_within_a_submission_holds_up_no_other() {
    let home = Home::new();
    let policy = RetryPolicy::default().with_submit_deadline(Duration::from_secs(15));
    for way in Way::ALL {
        for polls in 0..24 {
            let builder = home.client(way).retry(policy.clone());
            let standing = current_thread();
            let client = standing.block_on(builder.connect()).unwrap();
            standing.block_on(async {
                let mut submitting = Box::pin(client.submit(home.job()));
                for _ in 0..polls {
                    if poll_once(&mut submitting).await.is_ready() {
                        break;
                    }
                    // Its tasks take a step each.
                    tokio::task::yield_now().await;
                }
            });
            let submitted = current_thread().block_on(within(client.submit(home.job())));
            submitted.unwrap_or_else(|error| panic!("{way:?}, {polls} polls: {}", error.report()));
            standing.shutdown_background();
        }
    }
}

/// A list that a runtime which stands still has asked for is asked for again by the next one.
#[test]
fn a_list_of_a_runtime_that_stands_still_is_not_waited_for() {
    let home = Home::new();
    let client = current_thread().block_on(home.client(Way::Grpc).connect()).unwrap();
    let held_up = home.node.faults().hold_executions();
    let job = current_thread().block_on(within(client.submit(home.job()))).unwrap().signed_job().clone();
    let standing = current_thread();
    let calls = || home.node.stats().calls(Method::GetPendingJobs);
    standing.block_on(within(async {
        let mut diagnosing = Box::pin(client.diagnose(&job).into_future());
        let before = calls();
        while calls() == before {
            assert!(poll_once(&mut diagnosing).await.is_pending());
            tokio::task::yield_now().await;
        }
    }));
    let before = calls();
    let diagnosis = current_thread().block_on(within(client.diagnose(&job).into_future())).unwrap();
    assert!(calls() > before, "{diagnosis:?}");
    held_up.open();
    standing.shutdown_background();
}

fn answer(request: &Value) -> Value {
    let result = match request["method"].as_str().unwrap() {
        "eth_chainId" => json!("0x7a69"),
        "eth_subscribe" => json!("0xcafe"),
        "eth_getBlockByNumber" => {
            let (hash, parent) = (B256::with_last_byte(8), B256::with_last_byte(7));
            json!({ "number": "0x7", "hash": hash, "parentHash": parent, "timestamp": "0x64", "baseFeePerGas": "0x7" })
        }
        _ => Value::Null,
    };
    json!({ "jsonrpc": "2.0", "id": request["id"], "result": result })
}

async fn websocket() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = accept_async(tcp).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if let Message::Text(text) = message {
                        let said = answer(&serde_json::from_str(&text).unwrap());
                        _ = socket.send(Message::text(said.to_string())).await;
                    }
                }
            });
        }
    });
    url
}

#[test]
fn a_reader_of_a_chain_works_on_one_runtime_after_the_other() {
    let home = multi_thread();
    let http = home.block_on(Server::start(|seen| async move {
        let packet: Value = serde_json::from_slice(&seen.body).unwrap();
        let said = match &packet {
            Value::Array(requests) => requests.iter().map(answer).collect(),
            one => answer(one),
        };
        json_answer(200, said.to_string())
    }));
    let ws = home.block_on(websocket());
    for url in [http.url(), ws] {
        for left in Left::ALL {
            let first = current_thread();
            let reader = first.block_on(RpcReader::builder(url.as_str()).connect()).unwrap();
            let mut standing = Vec::new();
            first.block_on(within(reader.next_head(None))).unwrap();
            left.leave(first, &mut standing);
            for kind in KINDS.into_iter().cycle().take(4) {
                let runtime = kind();
                runtime.block_on(within(async {
                    let asked = reader.ask(&[Question::ChainId, Question::Block(At::Latest)]).await;
                    let answers = asked.unwrap_or_else(|error| panic!("{url}, {left:?}: {}", error.report()));
                    assert_eq!(answers[0].as_ref().unwrap(), &Answer::ChainId(31337));
                    assert_eq!(reader.next_head(None).await.unwrap().number, 7);
                    // And to wait for the next one is begun, as a watcher does.
                    let next = tokio::time::timeout(
                        Duration::from_millis(20),
                        reader.next_head(Some(B256::with_last_byte(8))),
                    );
                    assert!(next.await.is_err());
                }));
                left.leave(runtime, &mut standing);
            }
            standing.into_iter().for_each(Runtime::shutdown_background);
        }
    }
}
