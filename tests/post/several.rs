//! Posting by one of several RPCs of a chain: whichever of them fails, lags, lies or keeps what it was sent to itself, one
//! transaction is signed for a result, unless the account's nonce shows that it cannot land.
#![cfg(all(feature = "grpc", feature = "blobs"))]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use infinityvm_sdk::{
    Client, ErrorKind, Outcome as Fate, RetryPolicy,
    chain::{RpcPoster, RpcReader, WhyLeft},
    primitives::{Address, B256},
};
use serde_json::{Value, json};

use crate::{
    edges::{Edge, KEY, SEND, both},
    pool::{Outcome, PoolChain, Raw, error},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Works,
    /// The connection breaks, and nothing arrives.
    Down,
    Hangs,
    /// So many blocks behind, and without a pool.
    Lags(usize),
    /// It is on another chain.
    Lies,
    /// The chain has what is sent, and the connection breaks before it says so.
    Breaks,
    /// It keeps what is sent to it to itself, and says that it has it; or the connection breaks before that.
    Keeps {
        says: bool,
    },
}

/// One of several RPCs of a chain.
#[derive(Clone)]
pub struct Rpc(Arc<Inner>);

struct Inner {
    mode: Mutex<Mode>,
    /// What it has kept to itself.
    kept: Mutex<Vec<(Raw, Value)>>,
    /// Requests that have come, and transactions among them.
    asked: AtomicUsize,
    sent: AtomicUsize,
}

impl Rpc {
    pub fn new(mode: Mode) -> Self {
        let (kept, asked, sent) = Default::default();
        Self(Arc::new(Inner { mode: Mutex::new(mode), kept, asked, sent }))
    }

    pub fn set(&self, mode: Mode) {
        *self.0.mode.lock().unwrap() = mode;
    }

    pub fn mode(&self) -> Mode {
        *self.0.mode.lock().unwrap()
    }

    pub fn asked(&self) -> (usize, usize) {
        (self.0.asked.load(SeqCst), self.0.sent.load(SeqCst))
    }

    /// What it has kept to itself is everybody's.
    pub fn give_away(&self, chain: &PoolChain) {
        for (_, params) in std::mem::take(&mut *self.0.kept.lock().unwrap()) {
            chain.forward(SEND, &params);
        }
    }

    /// It drops what it has kept.
    pub fn forget(&self) {
        self.0.kept.lock().unwrap().clear();
    }

    pub fn reader(&self, chain: &PoolChain) -> RpcReader {
        let rpc = self.clone();
        chain.reader_by(move |method, params, chain| rpc.answer(method, params, chain))
    }

    pub fn answer(&self, method: &str, params: &Value, chain: &PoolChain) -> (Duration, Outcome) {
        self.0.asked.fetch_add(1, SeqCst);
        self.0.sent.fetch_add(usize::from(method == SEND), SeqCst);
        let outcome = match (self.mode(), method) {
            (Mode::Down, _) => Outcome::Broken,
            (Mode::Hangs, _) => return (Duration::from_secs(30), Outcome::Broken),
            (Mode::Lags(blocks), _) => chain.forward_lagging(method, params, blocks),
            (Mode::Lies, _) => lie(method, params, chain),
            (Mode::Breaks, SEND) => {
                chain.forward(method, params);
                Outcome::Broken
            }
            (Mode::Keeps { says }, SEND) => {
                let raw = Raw::of(params);
                let hash = raw.hash;
                let mut kept = self.0.kept.lock().unwrap();
                if kept.iter().all(|(known, _)| known.hash != hash) {
                    kept.push((raw, params.clone()));
                }
                if says { Outcome::Result(json!(hash)) } else { Outcome::Broken }
            }
            _ => self.with_kept(method, params, chain),
        };
        (Duration::from_millis(20), outcome)
    }

    /// What the chain says, and what the RPC alone has beside that.
    fn with_kept(&self, method: &str, params: &Value, chain: &PoolChain) -> Outcome {
        let (kept, told) = (self.0.kept.lock().unwrap(), chain.forward(method, params));
        match (method, &told) {
            ("eth_getTransactionByHash", Outcome::Result(Value::Null)) => {
                let hash: B256 = params[0].as_str().unwrap().parse().unwrap();
                let known = kept.iter().find(|(raw, _)| raw.hash == hash);
                Outcome::Result(known.map_or(Value::Null, |(raw, _)| {
                    json!({ "hash": hash, "to": raw.to, "input": raw.data, "blockNumber": null, "blockHash": null })
                }))
            }
            ("eth_getTransactionCount", Outcome::Result(count)) if params[1] == "pending" => {
                let of: Address = params[0].as_str().unwrap().parse().unwrap();
                let count = u64::from_str_radix(count.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
                let has = |nonce: &u64| kept.iter().any(|(raw, _)| (raw.from, raw.nonce) == (of, *nonce));
                Outcome::Result(json!(format!("{:#x}", (count..).find(|nonce| !has(nonce)).unwrap())))
            }
            _ => told,
        }
    }
}

/// What an RPC of another chain says.
fn lie(method: &str, params: &Value, chain: &PoolChain) -> Outcome {
    let told = chain.forward(method, params);
    match (method, told) {
        ("eth_chainId", _) => Outcome::Result(json!("0x1")),
        ("eth_getTransactionCount", _) => Outcome::Result(json!("0x25")),
        ("eth_getTransactionByHash" | "eth_getTransactionReceipt", _) => Outcome::Result(Value::Null),
        (SEND, _) => error(-32000, "invalid chain id for signer"),
        ("eth_getBlockByNumber" | "eth_getBlockByHash", Outcome::Result(Value::Object(mut block))) => {
            block.insert("hash".into(), json!(B256::repeat_byte(0xee)));
            block.insert("number".into(), json!("0xfffff"));
            Outcome::Result(Value::Object(block))
        }
        (_, told) => told,
    }
}

impl Edge {
    /// A client that reads and posts by these RPCs.
    pub async fn by(&self, rpcs: &[Rpc]) -> (Client, RpcPoster) {
        let readers = || rpcs.iter().map(|rpc| rpc.reader(&self.chain)).collect::<Vec<_>>();
        let poster = RpcPoster::over_any(readers(), RpcPoster::key(KEY).unwrap()).unwrap();
        (self.reading_by(readers(), poster.clone()).await, poster)
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_is_carried_on_by_another_rpc_with_the_same_transaction() {
    let modes = [
        (Mode::Down, Some(WhyLeft::Failed)),
        (Mode::Hangs, Some(WhyLeft::Failed)),
        (Mode::Lags(6), None),
        (Mode::Lies, None),
        (Mode::Breaks, Some(WhyLeft::Failed)),
        (Mode::Keeps { says: false }, Some(WhyLeft::Failed)),
    ];
    for (mode, why) in modes {
        for first in [0, 1, 2] {
            both(|edge| async move {
                (0..8).for_each(|_| edge.chain.mine());
                let rpcs = [Rpc::new(Mode::Works), Rpc::new(Mode::Works), Rpc::new(Mode::Works)];
                // All but one are of no use.
                rpcs.iter().enumerate().filter(|(at, _)| *at != first).for_each(|(_, rpc)| rpc.set(mode));
                let (client, poster) = edge.by(&rpcs).await;
                let (job, verified) = edge.result(1).await;
                let post = client.post_result(&job, &verified).await;
                let post = post.unwrap_or_else(|error| panic!("{mode:?}, {first} works: {}", error.report()));
                assert!(!post.already && post.wasted.is_none(), "{mode:?} {first}");
                assert_eq!((edge.chain.results(), edge.signed()), ((1, 0), 1), "{mode:?} {first}");
                assert!(client.open_posts().is_empty());
                if let (Some(why), true) = (why, first > 0) {
                    let states = poster.rpcs();
                    assert!(
                        states[0].left.as_ref().is_some_and(|left| left.why == why),
                        "{mode:?} {first}: {states:?}"
                    );
                }
            })
            .await;
        }
    }
}

/// Nothing of an RPC that is left out counts for a transaction, and the first that works is used again once it does.
#[tokio::test(start_paused = true)]
async fn one_that_lags_or_is_on_another_chain_is_left_for_a_while() {
    both(|edge| async move {
        (0..20).for_each(|_| edge.chain.mine());
        let rpcs = [Rpc::new(Mode::Lies), Rpc::new(Mode::Lags(9)), Rpc::new(Mode::Works)];
        let (client, poster) = edge.by(&rpcs).await;
        for nonce in 1..=3 {
            let (job, verified) = edge.result(nonce).await;
            assert!(!client.post_result(&job, &verified).await.unwrap().already);
        }
        let why: Vec<_> = poster.rpcs().into_iter().map(|rpc| rpc.left.map(|left| left.why)).collect();
        assert!(
            matches!(why[..], [Some(WhyLeft::WrongChain { chain_id: 1, .. }), Some(WhyLeft::Lags { .. }), None]),
            "{why:?}"
        );
        assert_eq!(edge.signed(), 3);
        assert_eq!(rpcs[0].asked().1 + rpcs[1].asked().1, 0, "nothing was sent there");
        rpcs.iter().for_each(|rpc| rpc.set(Mode::Works));
        for nonce in 4..=9 {
            tokio::time::sleep(Duration::from_secs(300)).await;
            let (job, verified) = edge.result(nonce).await;
            assert!(!client.post_result(&job, &verified).await.unwrap().already);
        }
        assert!(poster.rpcs()[0].in_use, "{:?}", poster.rpcs());
        assert_eq!(edge.signed(), 9);
    })
    .await;
}

/// It says that it has the transaction, tells nobody, and is gone.
#[tokio::test(start_paused = true)]
async fn what_an_rpc_took_along_is_sent_again_by_another_one() {
    for after in [Mode::Down, Mode::Hangs, Mode::Lags(9), Mode::Lies] {
        both(|edge| async move {
            (0..20).for_each(|_| edge.chain.mine());
            let rpcs = [Rpc::new(Mode::Keeps { says: true }), Rpc::new(Mode::Works)];
            let (client, _) = edge.by(&rpcs).await;
            let (job, verified) = edge.result(1).await;
            let post = tokio::spawn(std::future::IntoFuture::into_future(client.post_result(&job, &verified)));
            while rpcs[0].asked().1 == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            rpcs[0].set(after);
            let post = post.await.unwrap().unwrap_or_else(|error| panic!("{after:?}: {}", error.report()));
            assert!(!post.already);
            assert_eq!((edge.chain.results(), edge.signed()), ((1, 0), 1), "{after:?}");
            // Too late, what it kept is told to all.
            rpcs[0].give_away(&edge.chain);
            edge.chain.mine();
            assert_eq!(edge.chain.results(), (1, 0), "{after:?}");
        })
        .await;
    }
}

/// The account's nonce is of an RPC that has lost sight of the transaction which used it; another one shows it.
#[tokio::test(start_paused = true)]
async fn a_transaction_that_another_rpc_shows_is_not_signed_again() {
    both(|edge| async move {
        let blind = edge.chain.reader_by(|method, params, chain| {
            let outcome = match method {
                SEND => {
                    chain.forward(method, params);
                    chain.mine();
                    chain.forward(method, params)
                }
                "eth_getTransactionByHash" | "eth_getTransactionReceipt" => Outcome::Result(Value::Null),
                _ => chain.forward(method, params),
            };
            (Duration::ZERO, outcome)
        });
        let sees = Rpc::new(Mode::Works);
        let readers = vec![blind, sees.reader(&edge.chain)];
        let poster = RpcPoster::over_any(readers, RpcPoster::key(KEY).unwrap()).unwrap();
        let client = edge.posting(poster).await;
        let (job, verified) = edge.result(1).await;
        let post = client.post_result(&job, &verified).await.unwrap();
        assert!(!post.already);
        assert_eq!((edge.chain.results(), edge.signed()), ((1, 0), 1));
    })
    .await;
}

/// The pool of one has a stranger's transaction under the account nonce. The one that may have ours does not answer.
#[tokio::test(start_paused = true)]
async fn a_strangers_transaction_in_one_pool_says_nothing_of_another() {
    both(|edge| async move {
        let (first, stranger) = (Rpc::new(Mode::Keeps { says: false }), Arc::new(AtomicBool::new(true)));
        let readers = || {
            let (goes, waits) = (first.clone(), Arc::clone(&stranger));
            let goes = edge.chain.reader_by(move |method, params, chain| {
                let answer = goes.answer(method, params, chain);
                if method == SEND {
                    goes.set(Mode::Down);
                }
                answer
            });
            let other = edge.chain.reader_by(move |method, params, chain| {
                let outcome = match method {
                    SEND if waits.load(SeqCst) => error(-32000, "replacement transaction underpriced"),
                    "txpool_contentFrom" if waits.load(SeqCst) => {
                        Outcome::Result(json!({ "pending": { "0": { "nonce": "0x0", "hash": B256::repeat_byte(7) } } }))
                    }
                    _ => chain.forward(method, params),
                };
                (Duration::ZERO, outcome)
            });
            vec![goes, other]
        };
        let poster = RpcPoster::over_any(readers(), RpcPoster::key(KEY).unwrap()).unwrap();
        let client = edge.reading_by(readers(), poster).await;
        let (job, verified) = edge.result(1).await;
        let error = client.post_result(&job, &verified).timeout(Duration::from_secs(60)).await.unwrap_err();
        assert_eq!(error.outcome(), Fate::Unknown, "{}", error.report());
        assert_eq!(client.open_posts().len(), 1, "none beside it");
        // The stranger's lands, so that ours cannot.
        stranger.store(false, SeqCst);
        edge.chain.put_strangers(edge.account(), 0);
        edge.chain.mine();
        let post = client.post_result(&job, &verified).await.unwrap_or_else(|error| panic!("{}", error.report()));
        assert!(!post.already);
        assert_eq!(edge.chain.results(), (1, 0));
        first.give_away(&edge.chain);
        edge.chain.mine();
        assert_eq!(edge.chain.mined(&verified.post_calldata(), edge.account()), [true]);
    })
    .await;
}

/// Between its introduction and the account's nonce, something else is put behind the address.
#[tokio::test(start_paused = true)]
async fn a_nonce_of_another_chain_is_not_signed_with() {
    both(|edge| async move {
        let changes = Rpc::new(Mode::Works);
        let first = {
            let rpc = changes.clone();
            edge.chain.reader_by(move |method, params, chain| {
                if method == "eth_getTransactionCount" {
                    rpc.set(Mode::Lies);
                }
                rpc.answer(method, params, chain)
            })
        };
        let works = Rpc::new(Mode::Works);
        let readers = vec![first, works.reader(&edge.chain)];
        let poster = RpcPoster::over_any(readers, RpcPoster::key(KEY).unwrap()).unwrap();
        let client = edge.posting(poster).await;
        let (job, verified) = edge.result(1).await;
        assert!(!client.post_result(&job, &verified).await.unwrap().already);
        let nonces: Vec<_> = edge.chain.sent().iter().map(|sent| sent.nonce).collect();
        assert_eq!(nonces, [0], "{:?}", edge.chain.sent());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn where_none_answers_nothing_is_signed_and_the_next_post_lands() {
    both(|edge| async move {
        let rpcs = [Rpc::new(Mode::Down), Rpc::new(Mode::Down)];
        let (_, poster) = edge.by(&rpcs).await;
        let client = edge.posting(poster.with_retry(RetryPolicy::default().with_attempts(3))).await;
        let (job, verified) = edge.result(1).await;
        let error = client.post_result(&job, &verified).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Chain, Fate::NotSent), "{}", error.report());
        assert!(error.is_retryable() && client.open_posts().is_empty());
        rpcs[1].set(Mode::Works);
        // Longer than either is left alone.
        tokio::time::sleep(Duration::from_secs(120)).await;
        let post = client.post_result(&job, &verified).await.unwrap();
        assert!(!post.already);
        assert_eq!(edge.signed(), 1);
    })
    .await;
}

/// Account nonces go on where the next RPC does not know of those before.
#[tokio::test(start_paused = true)]
async fn posts_at_once_get_nonces_of_their_own_while_rpcs_change() {
    both(|edge| async move {
        let rpcs = [Rpc::new(Mode::Keeps { says: true }), Rpc::new(Mode::Works)];
        let (client, _) = edge.by(&rpcs).await;
        let mut posts = Vec::new();
        for nonce in 1..=6 {
            let (job, verified) = edge.result(nonce).await;
            let client = client.clone();
            posts.push(tokio::spawn(async move { client.post_result(&job, &verified).await }));
        }
        while rpcs[0].asked().1 < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        rpcs[0].set(Mode::Down);
        for post in posts {
            assert!(!post.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report())).already);
        }
        assert_eq!((edge.chain.results(), edge.signed()), ((6, 0), 6));
    })
    .await;
}

/// Nothing in the way: one RPC is asked, and the others once in a while how they stand.
#[tokio::test(start_paused = true)]
async fn a_good_post_leaves_the_others_alone() {
    both(|edge| async move {
        let rpcs = [Rpc::new(Mode::Works), Rpc::new(Mode::Works)];
        let (client, _) = edge.by(&rpcs).await;
        let (job, verified) = edge.result(1).await;
        assert!(!client.post_result(&job, &verified).await.unwrap().already);
        let [(first, sent), (other, none)] = [rpcs[0].asked(), rpcs[1].asked()];
        assert_eq!((sent, none), (1, 0));
        assert!(other <= 20 && other < first, "{first} {other}");
    })
    .await;
}
