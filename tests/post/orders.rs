//! What happens in an order that nobody expects: around a signer, an account nonce, a pool, a reorganisation.
#![cfg(all(feature = "grpc", feature = "blobs"))]

use std::{
    future::IntoFuture,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use alloy_consensus::SignableTransaction;
use alloy_network::TxSigner;
use alloy_primitives::Signature;
use infinityvm_sdk::{Client, ErrorKind, Outcome as Fate, SignedJob, Verified, chain::RpcPoster, primitives::Address};
use serde_json::{Value, json};

use crate::{
    edges::{Edge, KEY, SEND, both, once, until},
    pool::{BASE_FEE, Outcome, PoolChain, TIP, error},
};

#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Signs,
    Fails,
    Hangs,
}

/// A signer outside of this process.
#[derive(Clone)]
struct Moody(Arc<Mutex<Mood>>);

impl Moody {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Mood::Signs)))
    }

    fn is(&self, mood: Mood) {
        *self.0.lock().unwrap() = mood;
    }
}

#[async_trait::async_trait]
impl TxSigner<Signature> for Moody {
    fn address(&self) -> Address {
        RpcPoster::key(KEY).unwrap().address()
    }

    async fn sign_transaction(&self, tx: &mut dyn SignableTransaction<Signature>) -> alloy_signer::Result<Signature> {
        let mood = *self.0.lock().unwrap();
        match mood {
            Mood::Signs => RpcPoster::key(KEY).unwrap().sign_transaction(tx).await,
            Mood::Fails => Err(alloy_signer::Error::message("the device was unplugged")),
            Mood::Hangs => std::future::pending().await,
        }
    }
}

/// An edge that swallows what is sent as long as this is set.
fn swallowing(chain: &PoolChain) -> Arc<AtomicBool> {
    let swallows = Arc::new(AtomicBool::new(true));
    let it = Arc::clone(&swallows);
    chain.edge(move |method, params, chain| match method {
        SEND if it.load(SeqCst) => error(-32000, "the moon is in the wrong house"),
        _ => chain.forward(method, params),
    });
    swallows
}

/// A transaction that no pool takes, until nobody looks after it any more and others may have its nonce.
async fn given_up(edge: &Edge, client: &Client, nonce: u64) -> (SignedJob, Verified) {
    let (job, result) = edge.result(nonce).await;
    let error = client.post_result(&job, &result).await.unwrap_err();
    assert_eq!(error.outcome(), Fate::Unknown, "{}", error.report());
    tokio::time::sleep(Duration::from_secs(15)).await;
    (job, result)
}

/// A second post is to use the account nonce of a first one, which no pool has shown, and does not come to it. The
/// first one is still looked after.
#[tokio::test(start_paused = true)]
async fn a_nonce_that_is_not_taken_over_after_all_stays_with_its_transaction() {
    for mood in [Mood::Fails, Mood::Hangs] {
        both(|edge| async move {
            let signer = Moody::new();
            let client = edge.signing(signer.clone()).await;
            let swallows = swallowing(&edge.chain);
            let (job, result) = given_up(&edge, &client, 1).await;
            signer.is(mood);
            let (other, other_result) = edge.result(2).await;
            let second = tokio::spawn(client.post_result(&other, &other_result).into_future());
            tokio::time::sleep(Duration::from_secs(2)).await;
            swallows.store(false, SeqCst);
            let post = client.post_result(&job, &result).await.unwrap_or_else(|error| panic!("{}", error.report()));
            assert!(!post.already);
            assert_eq!((edge.signed(), edge.chain.results()), (1, (1, 0)));
            let error = second.await.unwrap().unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Signer, Fate::NotSent), "{}", error.report());
        })
        .await;
    }
}

/// The second one has the nonce then, and is lost as well. Whichever of them comes through, both results land.
#[tokio::test(start_paused = true)]
async fn a_nonce_that_two_transactions_have_is_used_by_one_and_the_other_is_signed_anew() {
    for text in ["the moon is in the wrong house", "insufficient funds", "transaction underpriced"] {
        both(|edge| async move {
            let swallows = swallowing(&edge.chain);
            let (job, result) = given_up(&edge, &edge.client, 1).await;
            let (other, other_result) = edge.result(2).await;
            let refused = Arc::clone(&swallows);
            edge.chain.edge(move |method, params, chain| match method {
                SEND if refused.load(SeqCst) => error(-32000, text),
                _ => chain.forward(method, params),
            });
            let second = tokio::spawn(edge.client.post_result(&other, &other_result).into_future());
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert_eq!(edge.chain.sent().len(), 0);
            swallows.store(false, SeqCst);
            let first = tokio::spawn(edge.client.post_result(&job, &result).into_future());
            for post in [first, second] {
                let post = post.await.unwrap().unwrap_or_else(|error| panic!("{text}: {}", error.report()));
                assert!(!post.already, "{text}");
            }
            assert_eq!(edge.chain.results(), (2, 0), "{text}");
            // Each has two at most: under the nonce that both had, or priced again.
            let sent = edge.chain.sent();
            assert!(sent.iter().all(|it| it.nonce < 2) && edge.signed() <= 4, "{text}: {sent:?}");
        })
        .await;
    }
}

/// What cannot be priced again, for the bound or for any other reason, is sent again as it is.
#[tokio::test(start_paused = true)]
async fn what_the_pool_drops_is_sent_again_although_it_cannot_be_priced_again() {
    for reason in ["bound", "market", "fails", "hangs"] {
        both(|edge| async move {
            let signer = Moody::new();
            let poster = RpcPoster::over(edge.chain.reader(), signer.clone());
            let poster = poster.with_repricing(Duration::from_secs(1), 9);
            let poster = if reason == "bound" { poster.with_max_fee((2 * BASE_FEE + TIP) as u64) } else { poster };
            let client = edge.posting(poster).await;
            let (job, verified) = edge.result(1).await;
            let posting = tokio::spawn(client.post_result(&job, &verified).into_future());
            until(|| edge.chain.pooled() > 0).await;
            edge.chain.drop_pool();
            match reason {
                "fails" => signer.is(Mood::Fails),
                "hangs" => signer.is(Mood::Hangs),
                "market" => edge.chain.edge(|method, params, chain| match method {
                    "eth_maxPriorityFeePerGas" | "eth_feeHistory" => error(-32603, "Internal error"),
                    _ => chain.forward(method, params),
                }),
                _ => {}
            }
            let post = posting.await.unwrap().unwrap_or_else(|error| panic!("{reason}: {}", error.report()));
            assert_eq!((post.already, edge.signed(), edge.chain.results()), (false, 1, (1, 0)), "{reason}");
        })
        .await;
    }
}

/// One signature that never comes holds up nobody else.
#[tokio::test(start_paused = true)]
async fn a_signer_that_hangs_holds_up_its_own_post() {
    both(|edge| async move {
        let signer = Moody::new();
        let client = edge.signing(signer.clone()).await;
        signer.is(Mood::Hangs);
        let (job, result) = edge.result(1).await;
        let hanging = tokio::spawn(client.post_result(&job, &result).into_future());
        tokio::time::sleep(Duration::from_secs(1)).await;
        signer.is(Mood::Signs);
        let begun = tokio::time::Instant::now();
        let posts: Vec<_> = futures(&edge, &client, 2..=6).await;
        for post in posts {
            assert!(!post.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report())).already);
        }
        assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
        assert!(!hanging.is_finished());
        let error = hanging.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Signer, Fate::NotSent), "{}", error.report());
        assert!(error.is_retryable() && client.open_posts().is_empty());
        assert_eq!((edge.signed(), edge.chain.results()), (5, (5, 0)), "each was signed once");
    })
    .await;
}

type Posts = Vec<tokio::task::JoinHandle<Result<infinityvm_sdk::client::Posted, infinityvm_sdk::Error>>>;

async fn futures(edge: &Edge, client: &Client, nonces: std::ops::RangeInclusive<u64>) -> Posts {
    let mut posts = Vec::new();
    for nonce in nonces {
        let (job, result) = edge.result(nonce).await;
        posts.push(tokio::spawn(client.post_result(&job, &result).into_future()));
    }
    posts
}

/// The pool has it, and a server that is not at one with it refuses it in words that are known well. For a while no
/// look finds it.
#[tokio::test(start_paused = true)]
async fn a_known_refusal_decides_no_more_than_an_unknown_one() {
    for text in [
        "insufficient funds for gas * price + value",
        "transaction underpriced",
        "exceeds block gas limit",
        "nonce too high",
        "transaction type not supported",
        "replacement transaction underpriced",
        "could not replace existing tx",
    ] {
        for hidden in [1, 2, 4, 8, 12] {
            both(|edge| async move {
                edge.hide(hidden, text, |_| {});
                let (job, verified) = edge.result(1).await;
                let post = edge.client.post_result(&job, &verified).await;
                let post = post.unwrap_or_else(|error| panic!("{text}, {hidden}: {}", error.report()));
                assert!(!post.already, "{text}, {hidden}");
                assert_eq!((edge.signed(), edge.chain.results()), (1, (1, 0)), "{text}, {hidden}");
            })
            .await;
        }
    }
}

/// A block with the transaction is replaced by one without it, before it was told, and no pool has it any more.
#[tokio::test(start_paused = true)]
async fn a_reorganisation_takes_out_what_had_landed() {
    for lost in [true, false] {
        both(|edge| async move {
            let first = once();
            edge.chain.edge(move |method, params, chain| {
                let there = method == "eth_getTransactionReceipt" && chain.forward(method, params) != null();
                if there && first() {
                    chain.reorganise(1, lost);
                }
                chain.forward(method, params)
            });
            let (job, verified) = edge.result(1).await;
            let post = edge.client.post_result(&job, &verified).await;
            let post = post.unwrap_or_else(|error| panic!("{lost}: {}", error.report()));
            assert_eq!((post.already, edge.signed(), edge.chain.results()), (false, 1, (1, 0)), "{lost}");
        })
        .await;
    }
}

fn null() -> Outcome {
    Outcome::Result(Value::Null)
}

/// A transaction that had landed, and was told so, is taken out of its block and lost. Those that were sent after it
/// wait behind its account nonce, so it is sent again.
#[tokio::test(start_paused = true)]
async fn what_a_reorganisation_takes_out_does_not_block_what_comes_after_it() {
    both(|edge| async move {
        let (job, result) = edge.result(1).await;
        edge.client.post_result(&job, &result).await.unwrap();
        let posts = futures(&edge, &edge.client, 2..=3).await;
        until(|| edge.chain.pooled() == 2).await;
        edge.chain.reorganise(1, true);
        for post in posts {
            assert!(!post.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report())).already);
        }
        assert_eq!((edge.signed(), edge.chain.results()), (3, (3, 0)));
    })
    .await;
}

/// The pool's count is ahead of the pool, so the first transaction waits behind a nonce that nobody has.
#[tokio::test(start_paused = true)]
async fn a_count_that_is_ahead_leaves_a_gap_which_the_next_one_fills() {
    both(|edge| async move {
        let first = once();
        edge.chain.edge(move |method, params, chain| match method {
            "eth_getTransactionCount" if first() => Outcome::Result(json!("0x1")),
            _ => chain.forward(method, params),
        });
        for post in futures(&edge, &edge.client, 1..=2).await {
            assert!(!post.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report())).already);
        }
        assert_eq!((edge.signed(), edge.chain.results()), (2, (2, 0)));
    })
    .await;
}

/// An RPC that never finds a transaction by its hash: while it is in the pool, or even once it is in a block.
#[tokio::test(start_paused = true)]
async fn an_rpc_that_finds_no_transaction_by_its_hash() {
    for text in [None, Some("nonce too low"), Some("already known"), Some("replacement transaction underpriced")] {
        both(|edge| async move {
            edge.chain.edge(move |method, params, chain| match (method, text) {
                ("eth_getTransactionByHash", _) => null(),
                (SEND, Some(text)) => {
                    chain.forward(method, params);
                    if text == "nonce too low" {
                        chain.mine();
                    }
                    error(-32000, text)
                }
                _ => chain.forward(method, params),
            });
            let (job, verified) = edge.result(1).await;
            let post = edge.client.post_result(&job, &verified).await;
            let post = post.unwrap_or_else(|error| panic!("{text:?}: {}", error.report()));
            assert_eq!((post.already, edge.signed(), edge.chain.results()), (false, 1, (1, 0)), "{text:?}");
        })
        .await;
    }
}

/// The base fee doubles with each block, beyond all that is allowed, and falls again.
#[tokio::test(start_paused = true)]
async fn a_base_fee_that_doubles_with_each_block() {
    both(|edge| async move {
        let bound = 40 * BASE_FEE as u64;
        let poster = RpcPoster::over(edge.chain.reader(), RpcPoster::key(KEY).unwrap());
        let client = edge.posting(poster.with_repricing(Duration::from_secs(10), 4).with_max_fee(bound)).await;
        let (job, verified) = edge.result(1).await;
        let posting = tokio::spawn(client.post_result(&job, &verified).into_future());
        until(|| edge.chain.pooled() > 0).await;
        for block in 2..=20 {
            edge.chain.set_base_fee(BASE_FEE << block);
            tokio::time::sleep(Duration::from_secs(6)).await;
        }
        edge.chain.set_base_fee(BASE_FEE);
        let post = posting.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report()));
        let sent = edge.chain.sent();
        assert_eq!((post.already, edge.chain.results()), (false, (1, 0)));
        assert!(sent.iter().all(|it| it.nonce == 0 && it.most <= u128::from(bound)), "{sent:?}");
    })
    .await;
}

/// Both are in one block, and the other's came first.
#[tokio::test(start_paused = true)]
async fn a_transaction_that_reverts_because_anothers_came_first() {
    both(|edge| async move {
        let rival = edge.another_account().await;
        let (job, verified) = edge.result(1).await;
        let client = edge.another(|poster| poster.with_tip(1)).await;
        let posts = [&client, &rival].map(|client| tokio::spawn(client.post_result(&job, &verified).into_future()));
        let [ours, theirs] = posts;
        let theirs = theirs.await.unwrap().unwrap();
        let ours = ours.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report()));
        assert_eq!((theirs.already, ours.already, ours.tx_hash), (false, true, theirs.tx_hash));
        assert!(ours.wasted.is_some() && ours.wasted != ours.tx_hash);
        assert_eq!((edge.signed(), edge.chain.results()), (2, (1, 1)));
        assert!(client.open_posts().is_empty() && rival.open_posts().is_empty());
    })
    .await;
}

/// Row 10, of the fees themselves.
#[tokio::test(start_paused = true)]
async fn a_chain_without_a_base_fee() {
    both(|edge| async move {
        edge.chain.edge(|method, params, chain| match (method, chain.forward(method, params)) {
            ("eth_getBlockByNumber" | "eth_getBlockByHash", Outcome::Result(mut block)) if block.is_object() => {
                block.as_object_mut().unwrap().remove("baseFeePerGas");
                Outcome::Result(block)
            }
            ("eth_gasPrice", _) => Outcome::Result(json!("0x77359400")),
            ("eth_maxPriorityFeePerGas" | "eth_feeHistory", _) => error(-32601, "Method not found"),
            (_, answer) => answer,
        });
        let (job, verified) = edge.result(1).await;
        let post = edge.client.post_result(&job, &verified).await.unwrap_or_else(|error| panic!("{}", error.report()));
        assert!(!post.already);
        let sent = edge.chain.sent()[0];
        assert!(sent.most >= 2_000_000_000 && sent.most < 4_000_000_000 && sent.tip == 0, "{sent:?}");
    })
    .await;
}
