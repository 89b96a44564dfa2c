//! The same as `edges.rs` on a real chain: a proxy before anvil, which forwards everything but what the test is about.
#![cfg(all(feature = "blobs", feature = "devnode", feature = "grpc"))]

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::{join_all, try_join_all};
use infinityvm_sdk::{
    Cause, Client, ErrorKind, Outcome, Revision, SignedJob, Until, Verified,
    chain::{RevertCause, RpcPoster, RpcReader},
    primitives::Address,
};
use serde_json::{Value, json};
use support::{
    anvil::Anvil,
    http1::{self, Reply, Server},
    json_chain::{number, refusal},
    rpc::{Rpc, http_client},
    scripted::{Random, seed, within},
};

use crate::on_anvil::{NODE, Rig, STRANGER, both_on};

/// What is behind the proxy.
#[derive(Clone)]
struct Behind {
    client: reqwest::Client,
    url: String,
}

impl Behind {
    async fn forward(&self, request: &Value) -> Value {
        let post = self.client.post(&self.url).header("content-type", "application/json").body(request.to_string());
        let answer = post.send().await.expect("an answer").bytes().await.expect("all of it");
        serde_json::from_slice(&answer).expect("JSON")
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        let answer = self.forward(&json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })).await;
        answer["result"].clone()
    }
}

/// Nothing, if the connection breaks.
type Answered = Pin<Box<dyn Future<Output = Option<Value>> + Send>>;

/// A proxy before anvil. The client reads and posts through it, the node does not.
async fn proxy(url: String, edge: impl Fn(Value, Behind) -> Answered + Clone + Send + Sync + 'static) -> Server {
    let behind = Behind { client: http_client(), url };
    Server::start(move |seen| {
        let (edge, behind) = (edge.clone(), behind.clone());
        async move {
            let packet: Value = serde_json::from_slice(&seen.body).expect("JSON");
            let requests = packet.as_array().cloned().unwrap_or_else(|| vec![packet.clone()]);
            let mut answers = Vec::new();
            for request in requests {
                match edge(request, behind.clone()).await {
                    Some(answer) => answers.push(answer),
                    None => return Reply::Close(Vec::new()),
                }
            }
            let answer = if packet.is_array() { Value::Array(answers) } else { answers.remove(0) };
            http1::json(200, answer.to_string())
        }
    })
    .await
}

const SEND: &str = "eth_sendRawTransaction";

impl Rig {
    /// A client that reads and posts through a proxy.
    async fn through(&self, server: &Server, set: impl FnOnce(RpcPoster) -> RpcPoster) -> Client {
        let reader = RpcReader::builder(server.url()).timeout(Duration::from_secs(60)).poll_interval(SOON);
        let reader = reader.connect().await.unwrap();
        let key = RpcPoster::key(self.world.anvil.keys()[STRANGER].0).unwrap();
        let builder = Self::builder(&self.world, &self.node, &reader);
        builder.poster(set(RpcPoster::over(reader, key))).connect().await.unwrap()
    }

    async fn pooled(&self) -> u64 {
        let status = self.world.rpc.call("txpool_status", json!([])).await;
        number(&status["pending"])
    }

    async fn until_pooled(&self, count: u64) {
        while self.pooled().await < count {
            tokio::time::sleep(SOON).await;
        }
    }
}

const SOON: Duration = Duration::from_millis(50);

/// Row 1: an estimate without a block, so that it runs on the pool's state, where the node's own relay is.
#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn the_nodes_relay_in_the_pool_is_waited_for() {
    both_on(
        || Anvil::builder().block_time(3).start(),
        |rig| async move {
            let server = proxy(rig.world.anvil.http_url(), |mut request, behind| {
                Box::pin(async move {
                    if request["method"] == "eth_estimateGas" {
                        request["params"].as_array_mut().unwrap().truncate(1);
                    }
                    Some(behind.forward(&request).await)
                })
            })
            .await;
            let client = rig.through(&server, |poster| poster).await;
            let job = rig.world.sign(&rig.job(rig.world.square_root, 144).build().unwrap(), 1);
            let handle = client.submit_signed(job).await.unwrap();
            let result = handle.wait(Until::Executed).await.unwrap();
            rig.until_pooled(1).await;
            let post = handle.post_result(&result).await.unwrap_or_else(|error| panic!("{}", error.report()));
            assert!(post.already && post.wasted.is_none());
            assert_eq!((rig.sent_by(STRANGER).await, rig.sent_by(NODE).await), (0, 1));
        },
    )
    .await;
}

/// Rows 2, 3 and 10, and the like: what is answered in place of the chain's own word.
#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn answers_that_say_something_else() {
    type Edge = fn(Value, Behind) -> Answered;
    /// Forwarded, mined, and forwarded again.
    fn twice(request: Value, behind: Behind) -> Answered {
        Box::pin(async move {
            let first = behind.forward(&request).await;
            if request["method"] != SEND {
                return Some(first);
            }
            while behind.call("eth_getTransactionReceipt", json!([first["result"]])).await.is_null() {
                tokio::time::sleep(SOON).await;
            }
            Some(behind.forward(&request).await)
        })
    }
    fn known(request: Value, behind: Behind) -> Answered {
        Box::pin(async move {
            let answer = behind.forward(&request).await;
            let text = "INTERNAL_ERROR: existing tx with same hash";
            Some(if request["method"] == SEND { refusal(&request, -32000, text) } else { answer })
        })
    }
    fn unknown(request: Value, behind: Behind) -> Answered {
        Box::pin(async move {
            let answer = behind.forward(&request).await;
            Some(if request["method"] == SEND { refusal(&request, -32000, "une erreur") } else { answer })
        })
    }
    fn lost(request: Value, behind: Behind) -> Answered {
        Box::pin(async move {
            let answer = behind.forward(&request).await;
            (request["method"] != SEND).then_some(answer)
        })
    }
    fn without_tips(request: Value, behind: Behind) -> Answered {
        Box::pin(async move {
            if request["method"] == "eth_maxPriorityFeePerGas" {
                return Some(refusal(&request, -32601, "Method not found"));
            }
            Some(behind.forward(&request).await)
        })
    }
    fn without_history(request: Value, behind: Behind) -> Answered {
        Box::pin(async move {
            if request["method"] == "eth_maxPriorityFeePerGas" || request["method"] == "eth_feeHistory" {
                return Some(refusal(&request, -32601, "Method not found"));
            }
            Some(behind.forward(&request).await)
        })
    }
    both_on(Anvil::start, |rig| async move {
        let edges: [Edge; 6] = [twice, known, unknown, lost, without_tips, without_history];
        for (nonce, edge) in (1..).zip(edges) {
            let server = proxy(rig.world.anvil.http_url(), edge).await;
            let client = rig.through(&server, |poster| poster).await;
            let job = rig.world.sign(&rig.job(rig.world.square_root, nonce * nonce).build().unwrap(), nonce);
            let (_, result) = rig.done(&job).await;
            let post = client.post_result(&job, &result).await;
            let post = post.unwrap_or_else(|error| panic!("{nonce}: {}", error.report()));
            assert!(!post.already && post.wasted.is_none(), "{nonce}");
            assert_eq!((rig.sent_by(STRANGER).await, rig.status(&job).await), (nonce, 3));
            assert!(client.open_posts().is_empty());
        }
    })
    .await;
}

/// Row 4: two clients with one account, which both read the same count.
#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn two_clients_with_one_account() {
    for text in ["could not replace existing tx", "replacement transaction underpriced", ""] {
        both_on(
            || Anvil::builder().block_time(1).start(),
            |rig| async move {
                let stale = Arc::new(AtomicUsize::new(0));
                let server = proxy(rig.world.anvil.http_url(), move |request, behind| {
                    let stale = Arc::clone(&stale);
                    Box::pin(async move {
                        let count = request["method"] == "eth_getTransactionCount" && request["params"][1] == "pending";
                        let mut answer = behind.forward(&request).await;
                        if count && stale.fetch_add(1, SeqCst) < 2 {
                            answer["result"] = json!("0x0");
                        }
                        if request["method"] == SEND && answer.get("error").is_some() && !text.is_empty() {
                            return Some(refusal(&request, -32000, text));
                        }
                        Some(answer)
                    })
                })
                .await;
                let mut posts = Vec::new();
                for nonce in 1..=2 {
                    let job = rig.world.sign(&rig.job(rig.world.square_root, nonce * nonce).build().unwrap(), nonce);
                    let (_, result) = rig.done(&job).await;
                    let client = rig.through(&server, |poster| poster).await;
                    posts.push(tokio::spawn(client.post_result(&job, &result).into_future()));
                }
                for post in posts {
                    let post = post.await.unwrap().unwrap_or_else(|error| panic!("{text}: {}", error.report()));
                    assert!(!post.already && post.wasted.is_none());
                }
                assert_eq!(rig.sent_by(STRANGER).await, 2);
            },
        )
        .await;
    }
}

/// Row 29.
#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn more_gas_than_a_block_has() {
    both_on(Anvil::start, |rig| async move {
        let job = rig.world.sign(&rig.job(rig.world.square_root, 144).build().unwrap(), 1);
        let (handle, result) = rig.done(&job).await;
        rig.world.rpc.call("evm_setBlockGasLimit", json!(["0x15f90"])).await;
        rig.world.rpc.call("evm_mine", json!([])).await;
        let error = rig.client.post_result(&job, &result).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::TooLarge, Outcome::NotSent), "{}", error.report());
        assert!(error.to_string().contains("more gas than a block"), "{}", error.report());
        assert_eq!(rig.sent_by(STRANGER).await, 0);
        // A diagnosis finds the same.
        let diagnosis = handle.diagnose().stalled_after(Duration::ZERO).await.unwrap();
        assert!(matches!(diagnosis.cause(), Cause::RelayReverts { cause: RevertCause::TooMuchGas, .. }), "{diagnosis}");
    })
    .await;
}

/// Stuck transactions are priced again, and the pool takes them.
#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_transaction_that_pays_too_little_is_priced_again() {
    both_on(Anvil::start, |rig| async move {
        let job = rig.world.sign(&rig.job(rig.world.square_root, 144).build().unwrap(), 1);
        let (_, result) = rig.done(&job).await;
        rig.world.rpc.call("evm_setAutomine", json!([false])).await;
        let server = proxy(rig.world.anvil.http_url(), |request, behind| {
            Box::pin(async move { Some(behind.forward(&request).await) })
        })
        .await;
        let client = rig.through(&server, |poster| poster.with_repricing(Duration::from_millis(500), 2)).await;
        let posting = tokio::spawn(client.post_result(&job, &result).into_future());
        rig.until_pooled(1).await;
        let first = client.open_posts()[0].1;
        // More than twice the base fee: the first one has no place in the blocks to come.
        for _ in 0..3 {
            rig.world.rpc.call("anvil_setNextBlockBaseFeePerGas", json!(["0x2540be400"])).await;
            rig.world.rpc.call("evm_mine", json!([])).await;
        }
        assert_eq!(rig.sent_by(STRANGER).await, 0);
        while client.open_posts().len() < 2 {
            tokio::time::sleep(SOON).await;
            rig.world.rpc.call("anvil_setNextBlockBaseFeePerGas", json!(["0x2540be400"])).await;
            rig.world.rpc.call("evm_mine", json!([])).await;
        }
        rig.world.rpc.call("evm_setAutomine", json!([true])).await;
        while !posting.is_finished() {
            rig.world.rpc.call("evm_mine", json!([])).await;
            tokio::time::sleep(SOON).await;
        }
        let post = posting.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report()));
        assert!(!post.already && post.tx_hash != Some(first), "{post:?}");
        assert_eq!((rig.sent_by(STRANGER).await, rig.status(&job).await), (1, 3));
        assert!(client.open_posts().is_empty());
    })
    .await;
}

/// What `chaos.rs` does, on anvil: 100 posts in both revisions together.
#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn whatever_an_rpc_does_nothing_wrong_is_told() {
    println!("seed {}", seed());
    within(join_all(Revision::ALL.map(|revision| chaotic(revision, false)))).await;
}

/// The same on a chain that takes blocks back.
#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn whatever_a_chain_takes_back_nothing_wrong_is_told() {
    println!("seed {}", seed());
    within(join_all(Revision::ALL.map(|revision| chaotic(revision, true)))).await;
}

/// The chain takes blocks back as long as this is set.
#[derive(Default)]
struct Forks {
    on: AtomicBool,
    /// How often it has, and how many transactions of the account were in those blocks.
    times: AtomicUsize,
    taken: AtomicUsize,
}

impl Forks {
    async fn reorganise(&self, depth: usize, rpc: &Rpc, account: Address) {
        let sent = async || number(&rpc.call("eth_getTransactionCount", json!([account, "latest"])).await);
        let before = sent().await;
        rpc.call("anvil_reorg", json!([depth, []])).await;
        self.times.fetch_add(1, SeqCst);
        self.taken.fetch_add(before.saturating_sub(sent().await) as usize, SeqCst);
    }
}

async fn chaotic(revision: Revision, forks: bool) {
    let rig = Rig::on(Anvil::builder().block_time(1).start(), revision).await;
    let (account, on) = (rig.world.anvil.address(STRANGER), Arc::new(Forks::default()));
    if forks {
        // None of them reaches back to the contracts.
        rig.world.rpc.call("anvil_mine", json!(["0xa"])).await;
        on.on.store(true, SeqCst);
    }
    let random = Arc::new(Mutex::new(Random::new(seed())));
    let weather = Arc::clone(&on);
    let rpc = rig.world.rpc.clone();
    let server = proxy(rig.world.anvil.http_url(), move |request, behind| {
        let (random, forks, rpc) = (Arc::clone(&random), Arc::clone(&weather), rpc.clone());
        Box::pin(async move {
            let (now, depth) = {
                let mut random = random.lock().unwrap();
                (random.up_to(12) == 1, random.up_to(3))
            };
            let now = now && request["method"] == SEND && forks.on.load(SeqCst);
            let answer = chaos(&random, &request, &behind).await;
            if now {
                forks.reorganise(depth, &rpc, account).await;
            }
            answer
        })
    })
    .await;
    let clients = [rig.through(&server, |it| it).await, rig.through(&server, |it| it).await];
    let (rig, again, open) = (Arc::new(rig), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(50)));
    let mut posts = Vec::new();
    for nonce in 1..=50 {
        let job = rig.world.sign(&rig.job(rig.world.square_root, nonce * nonce).build().unwrap(), nonce);
        let (_, result) = rig.done(&job).await;
        let client = clients[nonce as usize % 2].clone();
        let (rig, again, open) = (Arc::clone(&rig), Arc::clone(&again), Arc::clone(&open));
        posts.push(tokio::spawn(async move {
            lands(&client, &job, &result, forks).await;
            open.fetch_sub(1, SeqCst);
            // What is taken back since it was told is posted again, as a service would: the other client shares the
            // account, and its posts wait behind the nonce that only this one has a transaction for.
            while open.load(SeqCst) > 0 {
                tokio::time::sleep(10 * SOON).await;
                if rig.status(&job).await != 3 {
                    assert!(forks, "told as landed, and it is not there");
                    again.fetch_add(1, SeqCst);
                    lands(&client, &job, &result, forks).await;
                }
            }
            (client, job, result)
        }));
    }
    let landed = try_join_all(posts).await.unwrap();
    on.on.store(false, SeqCst);
    // Where the random ones met empty blocks only, one that reaches back to a post.
    for depth in 1.. {
        if !forks || on.taken.load(SeqCst) > 0 {
            break;
        }
        on.reorganise(depth, &rig.world.rpc, account).await;
    }
    // The last of what was taken back.
    for (client, job, result) in &landed {
        while rig.status(job).await != 3 {
            assert!(forks, "told as landed, and it is not there");
            again.fetch_add(1, SeqCst);
            lands(client, job, result, forks).await;
        }
    }
    let again = again.load(SeqCst);
    // Each transaction in a block is a post, and none is there twice, unless the chain took the first one back.
    let (sent, times, taken) = (rig.sent_by(STRANGER).await as usize, on.times.load(SeqCst), on.taken.load(SeqCst));
    println!("{revision:?}: {sent} transactions for 50 results; {times} forks took {taken} back; {again} posted again");
    assert!((50..=50 + taken).contains(&sent), "{sent}, {taken}");
    assert!(!forks || taken > 0, "no block with a post was taken back");
}

async fn lands(client: &Client, job: &SignedJob, result: &Verified, forks: bool) {
    for _ in 0..20 {
        match client.post_result(job, result).await {
            Ok(post) => {
                // Nobody else posts.
                assert!(forks || !post.already && post.wasted.is_none(), "{}: {post:?}", job.nonce());
                return;
            }
            Err(error) => {
                let wrong = matches!(error.kind(), ErrorKind::NonceTaken | ErrorKind::Reverted);
                assert!(!wrong, "{}: {}", job.nonce(), error.report());
            }
        }
    }
    panic!("{} does not land", job.nonce());
}

async fn chaos(random: &Mutex<Random>, request: &Value, behind: &Behind) -> Option<Value> {
    let up_to = |most| random.lock().unwrap().up_to(most);
    let text = || {
        let texts = ["could not coalesce error", "INTERNAL_ERROR: EOF", "request rate limited", "une erreur"];
        Some(refusal(request, -32000, texts[up_to(4) - 1]))
    };
    let method = request["method"].as_str().unwrap();
    match (method, up_to(100)) {
        (SEND, 1..=8) => None,
        (SEND, 9..=16) => text(),
        (SEND, 17..=45) => {
            let first = behind.forward(request).await;
            match up_to(4) {
                1 => Some(behind.forward(request).await),
                2 => None,
                3 => text(),
                // A pool that forgets.
                _ => {
                    behind.call("anvil_dropTransaction", json!([first["result"]])).await;
                    Some(first)
                }
            }
        }
        ("eth_getTransactionByHash", 1..=10) => Some(json!({ "jsonrpc": "2.0", "id": request["id"], "result": null })),
        ("eth_estimateGas", 1..=10) => {
            let mut request = request.clone();
            request["params"].as_array_mut().unwrap().truncate(1);
            Some(behind.forward(&request).await)
        }
        (_, 100) if up_to(3) == 1 => None,
        (_, 99) if up_to(3) == 1 => text(),
        _ => Some(behind.forward(request).await),
    }
}
