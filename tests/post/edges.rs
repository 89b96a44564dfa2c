//! RPCs as there are: each test puts an edge before a chain in memory, which forwards everything but what the test is about.
#![cfg(all(feature = "grpc", feature = "blobs"))]

use std::{
    future::IntoFuture,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use alloy_network::TxSigner;
use alloy_primitives::Signature;
use infinityvm_sdk::{
    Client, ErrorKind, LocalSigner, OffchainJobRequest, Outcome as Fate, ProgramId, RelayStrategy, Revision, SignedJob,
    Verified,
    chain::{Blobs, Chain, Revert, RevertCause, RpcPoster, RpcReader},
    primitives::{Address, B256, hex, keccak256},
};
use serde_json::{Value, json};
use support::ledger_chain::{self, CHAIN_ID, ConsumerState, JOB_MANAGER, World};

use crate::{
    in_memory::verified,
    pool::{BASE_FEE, Outcome, PoolChain, TIP, error},
};

pub const CONSUMER: Address = Address::repeat_byte(0xc0);

/// A chain that makes a block every 6 seconds, and an account that posts to it.
pub struct Edge {
    pub chain: PoolChain,
    pub client: Client,
    revision: Revision,
    signer: LocalSigner,
    operator: LocalSigner,
    blocks: tokio::task::JoinHandle<()>,
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.blocks.abort();
    }
}

pub const KEY: [u8; 32] = [0x42; 32];

impl Edge {
    pub async fn new(revision: Revision) -> Self {
        let [signer, operator] = [[0x51; 32], [0x52; 32]].map(|key| LocalSigner::from_bytes(key).unwrap());
        let mut world = World { operator: operator.address(), ..World::default() };
        world.consumers.insert(CONSUMER, ConsumerState { signer: signer.address(), ..ConsumerState::default() });
        let chain = PoolChain::new(revision, world);
        let ticking = chain.clone();
        let blocks = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(6)).await;
                ticking.mine();
            }
        });
        let client = Self::client(&chain, revision, operator.address(), |poster| poster).await;
        Self { chain, client, revision, signer, operator, blocks }
    }

    async fn client(
        chain: &PoolChain,
        revision: Revision,
        operator: Address,
        set: impl FnOnce(RpcPoster) -> RpcPoster,
    ) -> Client {
        let poster = set(RpcPoster::over(chain.reader(), RpcPoster::key(KEY).unwrap()));
        Self::with_poster(chain, revision, operator, poster).await
    }

    async fn with_poster(chain: &PoolChain, revision: Revision, operator: Address, poster: RpcPoster) -> Client {
        Self::of(Chain::new(chain.reader(), JOB_MANAGER), revision, operator, poster).await
    }

    async fn of(chain: Chain, revision: Revision, operator: Address, poster: RpcPoster) -> Client {
        let builder = Client::builder().grpc("http://127.0.0.1:9").revision(revision).operator(operator);
        builder.chain(chain).poster(poster).connect().await.unwrap()
    }

    /// A client that reads the chain by these RPCs.
    pub async fn reading_by(&self, readers: Vec<RpcReader>, poster: RpcPoster) -> Client {
        let chain = Chain::over_any(readers, JOB_MANAGER).unwrap().with_chain_id(CHAIN_ID);
        Self::of(chain, self.revision, self.operator.address(), poster).await
    }

    /// A client whose account signs in its own way.
    pub async fn signing(&self, signer: impl TxSigner<Signature> + Send + Sync + 'static) -> Client {
        self.posting(RpcPoster::over(self.chain.reader(), signer)).await
    }

    pub async fn posting(&self, poster: RpcPoster) -> Client {
        Self::with_poster(&self.chain, self.revision, self.operator.address(), poster).await
    }

    /// Another client with the same account, or another setting of the poster.
    pub async fn another(&self, set: impl FnOnce(RpcPoster) -> RpcPoster) -> Client {
        Self::client(&self.chain, self.revision, self.operator.address(), set).await
    }

    /// A client with another account.
    pub async fn another_account(&self) -> Client {
        self.signing(RpcPoster::key([0x43; 32]).unwrap()).await
    }

    pub async fn result(&self, nonce: u64) -> (SignedJob, Verified) {
        self.result_of(nonce, nonce.to_be_bytes().to_vec()).await
    }

    pub async fn result_of(&self, nonce: u64, input: Vec<u8>) -> (SignedJob, Verified) {
        let job = OffchainJobRequest::builder(CONSUMER, ProgramId::from(B256::repeat_byte(5)));
        let job = job.max_cycles(1000).onchain_input(input);
        let job = match self.revision {
            Revision::State => job.state(vec![1, 2, 3]),
            _ => job.relay(RelayStrategy::Unordered),
        };
        let job = job.build().unwrap().prepare(self.revision, nonce).unwrap().sign(&self.signer).await.unwrap();
        let verified = verified(&job, &self.operator, &ledger_chain::result(&job, b"out", &[]), None);
        (job, verified)
    }

    /// One that has to be posted with blobs.
    async fn result_with_blobs(&self, nonce: u64) -> (SignedJob, Verified) {
        let input = vec![7; 1_000];
        let job = OffchainJobRequest::builder(CONSUMER, ProgramId::from(B256::repeat_byte(5)));
        let job = job.max_cycles(1000).offchain_input(input.clone()).relay(RelayStrategy::Unordered);
        let job = job.build().unwrap().prepare(self.revision, nonce).unwrap().sign(&self.signer).await.unwrap();
        let blobs = Blobs::of_input(&input).unwrap();
        let verified = verified(&job, &self.operator, &ledger_chain::result(&job, b"out", blobs.hashes()), None);
        (job, verified)
    }

    pub fn account(&self) -> Address {
        RpcPoster::key(KEY).unwrap().address()
    }

    /// What is sent is taken and then refused in these words, and so many looks do not find it.
    pub fn hide(&self, looks: usize, text: &'static str, taken: fn(&PoolChain)) {
        let left = AtomicUsize::new(0);
        self.chain.edge(move |method, params, chain| match method {
            SEND => {
                chain.forward(method, params);
                taken(chain);
                left.store(looks, SeqCst);
                error(-32000, text)
            }
            "eth_getTransactionByHash" if left.load(SeqCst) > 0 => {
                left.fetch_sub(1, SeqCst);
                Outcome::Result(Value::Null)
            }
            _ => chain.forward(method, params),
        });
    }

    /// How many transactions were signed: their hashes.
    pub fn signed(&self) -> usize {
        let mut hashes: Vec<B256> = self.chain.sent().iter().map(|sent| sent.hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes.len()
    }
}

pub async fn both<F: Future<Output = ()>>(test: impl Fn(Edge) -> F) {
    for revision in Revision::ALL {
        test(Edge::new(revision).await).await;
    }
}

pub async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether this is the first time.
pub fn once() -> impl Fn() -> bool + Send + Sync + 'static {
    let asked = AtomicUsize::new(0);
    move || asked.fetch_add(1, SeqCst) == 0
}

pub const SEND: &str = "eth_sendRawTransaction";

/// Nothing in the way: what a post costs.
#[tokio::test(start_paused = true)]
async fn a_good_post_asks_no_more_than_before() {
    both(|edge| async move {
        let (job, verified) = edge.result(1).await;
        let post = edge.client.post_result(&job, &verified).await.unwrap();
        assert!(!post.already && post.wasted.is_none());
        assert_eq!((edge.chain.results(), edge.chain.sent().len()), ((1, 0), 1));
        let methods = edge.chain.methods();
        let count = |method: &str| methods.iter().filter(|it| *it == method).count();
        for once in ["eth_maxPriorityFeePerGas", "eth_estimateGas", SEND] {
            assert_eq!(count(once), 1, "{once}");
        }
        // The pool's count for the nonce, and no look by hash but those for the receipt.
        assert_eq!((count("eth_getTransactionCount"), count("eth_feeHistory")), (1, 0));
        assert_eq!(count("eth_getTransactionByHash"), count("eth_getTransactionReceipt"));
        assert!(edge.client.open_posts().is_empty());
    })
    .await;
}

/// Row 1. The trial runs on the pool's state, whatever it is asked for, and the node's own relay is in the pool.
#[tokio::test(start_paused = true)]
async fn a_trial_on_the_pools_state_is_not_the_chains_word() {
    for methods in [&["eth_estimateGas"][..], &["eth_estimateGas", "eth_call"]] {
        for text in [
            "execution reverted",
            "VM execution error.",
            "always failing transaction",
            "simulation failed",
            "cannot estimate gas; transaction may fail or may require manual gas limit",
        ] {
            for data in [true, false] {
                both(|edge| async move {
                    let (job, verified) = edge.result(1).await;
                    // The node's.
                    let node = edge.another_account().await;
                    let relayed = tokio::spawn(node.post_result(&job, &verified).into_future());
                    until(|| edge.chain.pooled() > 0).await;
                    edge.chain.edge(move |method, params, chain| {
                        // Trials have a sender; what is read of the contracts has none.
                        if !methods.contains(&method) || params[0]["from"].is_null() {
                            return chain.forward(method, params);
                        }
                        match chain.on_pending(method, params) {
                            Outcome::Error(code, _, it) if data || method == "eth_call" => {
                                Outcome::Error(code, text.into(), it)
                            }
                            Outcome::Error(code, ..) => error(code, text),
                            other => other,
                        }
                    });
                    let post = edge.client.post_result(&job, &verified).await;
                    let post = post.unwrap_or_else(|error| panic!("{methods:?} {text}: {}", error.report()));
                    assert!(post.already && post.wasted.is_none());
                    assert_eq!(post.tx_hash, relayed.await.unwrap().unwrap().tx_hash);
                    assert_eq!(edge.chain.sent().len(), 1, "none beside the node's");
                })
                .await;
            }
        }
    }
}

/// Row 1, where it does not land: nothing is told that costs.
#[tokio::test(start_paused = true)]
async fn a_result_that_stays_in_the_pool_is_never_advised_to_be_signed_again() {
    both(|edge| async move {
        let (job, verified) = edge.result(1).await;
        edge.chain.edge(|method, params, chain| match method {
            "eth_estimateGas" => Outcome::Error(3, "execution reverted".into(), Some(json!(exists()))),
            _ => chain.forward(method, params),
        });
        let error = edge.client.post_result(&job, &verified).await.unwrap_err();
        assert_eq!((error.outcome(), error.is_retryable()), (Fate::NotSent, true), "{}", error.report());
        assert!(error.hint().unwrap().contains("do not sign"), "{}", error.report());
        assert!(edge.chain.sent().is_empty() && edge.client.open_posts().is_empty());
    })
    .await;
}

fn exists() -> infinityvm_sdk::primitives::Bytes {
    use alloy_sol_types::{Revert, SolError};
    Revert::from("JobManager.createJob: job already exists with this nonce and consumer").abi_encode().into()
}

/// Row 2. The edge forwards the transaction, waits until it is mined, and forwards it again.
#[tokio::test(start_paused = true)]
async fn nonce_too_low_about_ones_own_transaction() {
    for text in [
        None,
        Some("nonce too low"),
        Some("NONCE_TOO_LOW: nonce too low"),
        Some("OldNonce"),
        Some("Transaction nonce is too low. Try incrementing the nonce."),
        Some("nonce has already been used"),
        Some("invalid nonce; got 5, expected 6: invalid sequence"),
    ] {
        both(|edge| async move {
            edge.chain.edge(move |method, params, chain| match method {
                SEND => {
                    chain.forward(method, params);
                    chain.mine();
                    let again = chain.forward(method, params);
                    text.map_or(again, |text| error(-32000, text))
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

/// Row 2, where the servers that look it up lag behind the one that took it.
#[tokio::test(start_paused = true)]
async fn nonce_too_low_and_a_server_that_does_not_show_the_transaction_yet() {
    for looks in 0..8 {
        both(|edge| async move {
            edge.hide(looks, "nonce too low", PoolChain::mine);
            let (job, verified) = edge.result(1).await;
            let post = edge.client.post_result(&job, &verified).await;
            let post = post.unwrap_or_else(|error| panic!("{looks}: {}", error.report()));
            assert!(!post.already, "by its receipt, or by the log");
            assert_eq!((edge.signed(), edge.chain.results()), (1, (1, 0)), "{looks}");
        })
        .await;
    }
}

/// Row 3. The edge forwards the transaction, and answers with something else.
#[tokio::test(start_paused = true)]
async fn a_refusal_of_what_is_in_the_pool_decides_nothing() {
    for (code, text) in [
        (-32000, "INTERNAL_ERROR: existing tx with same hash"),
        (-32000, "existing tx with same hash"),
        (-32000, "already known"),
        (-32010, "Transaction with the same hash was already imported."),
        (-32000, "tx already exists in cache"),
        (-32003, "transaction rejected"),
        (-32603, "Internal error"),
        (-32603, "internal server error, please retry"),
        (-32000, "context deadline exceeded"),
        (-32005, "daily request count exceeded, request rate limited"),
        (-32016, "your app has exceeded its compute units per second capacity"),
        (-32000, "could not coalesce error"),
        (-32000, "insufficient funds for gas * price + value"),
        (-32000, "transaction underpriced"),
        (-32602, "Invalid params"),
        (0, ""),
        (-32000, "une erreur est survenue"),
    ] {
        both(|edge| async move {
            edge.chain.edge(move |method, params, chain| match (method, chain.forward(method, params)) {
                (SEND, _) => error(code, text),
                (_, answer) => answer,
            });
            let (job, verified) = edge.result(1).await;
            let post = edge.client.post_result(&job, &verified).await;
            let post = post.unwrap_or_else(|error| panic!("{text:?}: {}", error.report()));
            assert!(!post.already && post.wasted.is_none(), "{text:?}");
            assert_eq!((edge.signed(), edge.chain.results()), (1, (1, 0)), "{text:?}");
        })
        .await;
    }
}

/// The same, and a connection that breaks after or before the transaction has gone through.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_decides_nothing() {
    for arrives in [true, false] {
        for outcome in [Outcome::Broken, Outcome::Result(Value::Null), error(-32603, "Internal error")] {
            both(|edge| {
                let (outcome, first) = (outcome.clone(), once());
                async move {
                    edge.chain.edge(move |method, params, chain| match method {
                        SEND if first() => {
                            if arrives {
                                chain.forward(method, params);
                            }
                            outcome.clone()
                        }
                        _ => chain.forward(method, params),
                    });
                    let (job, verified) = edge.result(1).await;
                    let post = edge.client.post_result(&job, &verified).await;
                    let post = post.unwrap_or_else(|error| panic!("{arrives}: {}", error.report()));
                    assert!(!post.already);
                    assert_eq!((edge.signed(), edge.chain.results()), (1, (1, 0)), "the same bytes again");
                }
            })
            .await;
        }
    }
}

/// A refusal that never ends, of a transaction that never comes into a pool.
#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_as_open_whether_its_words_are_known_or_not() {
    both(|edge| async move {
        let text = Arc::new(std::sync::Mutex::new("the moon is in the wrong house"));
        let said = Arc::clone(&text);
        edge.chain.edge(move |method, params, chain| match method {
            SEND => error(-32000, &said.lock().unwrap()),
            _ => chain.forward(method, params),
        });
        let (job, verified) = edge.result(1).await;
        let error = edge.client.post_result(&job, &verified).await.unwrap_err();
        assert_eq!(error.outcome(), Fate::Unknown, "{}", error.report());
        assert!(error.to_string().contains("moon") && error.tx_hash().is_some(), "{}", error.report());
        assert_eq!(edge.client.open_posts(), [(job.id(), error.tx_hash().unwrap())]);
        // It went away, and the next post has its nonce: one of them can land.
        edge.chain.edge(|method, params, chain| chain.forward(method, params));
        assert!(!edge.client.post_result(&job, &verified).await.unwrap().already);
        assert_eq!(edge.chain.results(), (1, 0));

        let known = ["insufficient funds for gas * price + value", "transaction type not supported", "fee too low"];
        for (known, nonce) in known.into_iter().zip([2, 4, 6]) {
            let said = known.to_owned();
            edge.chain.edge(move |method, params, chain| match method {
                SEND => super::pool::error(-32000, &said),
                _ => chain.forward(method, params),
            });
            let (job, verified) = edge.result(nonce).await;
            let error = edge.client.post_result(&job, &verified).await.unwrap_err();
            // Another server may have taken it.
            assert_eq!(error.outcome(), Fate::Unknown, "{}", error.report());
            assert_eq!(edge.client.open_posts(), [(job.id(), error.tx_hash().unwrap())]);
            assert!(error.to_string().contains(known), "{}", error.report());
            assert_eq!(error.is_retryable(), known == "fee too low", "{}", error.report());
            if known.starts_with("insufficient") {
                assert!(error.hint().unwrap().contains("needs funds"), "{}", error.report());
            }
            // The next post has its account nonce at once.
            edge.chain.edge(|method, params, chain| chain.forward(method, params));
            let (next, result) = edge.result(nonce + 1).await;
            let posts = [(&job, &verified), (&next, &result)]
                .map(|(job, result)| tokio::spawn(edge.client.post_result(job, result).into_future()));
            for post in posts {
                assert!(!post.await.unwrap().unwrap_or_else(|error| panic!("{known}: {}", error.report())).already);
            }
            assert_eq!(edge.chain.results(), (nonce as usize + 1, 0));
        }
    })
    .await;
}

/// What the account cannot pay for is not signed, by the chain's own word.
#[tokio::test(start_paused = true)]
async fn an_account_that_cannot_pay_signs_nothing() {
    both(|edge| async move {
        let needed = 187_500 * (2 * BASE_FEE + TIP);
        for balance in [0, needed - 1, needed] {
            edge.chain.edge(move |method, params, chain| match method {
                "eth_getBalance" => Outcome::Result(json!(format!("{balance:#x}"))),
                _ => chain.forward(method, params),
            });
            let (job, verified) = edge.result(1).await;
            let post = edge.client.post_result(&job, &verified).await;
            if balance == needed {
                assert!(!post.unwrap_or_else(|error| panic!("{}", error.report())).already);
                continue;
            }
            let error = post.unwrap_err();
            assert_eq!((error.outcome(), error.tx_hash()), (Fate::NotSent, None), "{}", error.report());
            assert!(
                error.to_string().contains(&format!("may cost {needed}")) && error.hint().unwrap().contains("funds")
            );
            assert!(edge.chain.sent().is_empty() && edge.client.open_posts().is_empty());
        }
    })
    .await;
}

/// Row 4. Two clients with one account: the edge answers the second with this.
#[tokio::test(start_paused = true)]
async fn clashes_of_two_clients_go_on_under_the_next_nonce() {
    for text in [
        None,
        Some("could not replace existing tx"),
        Some("INTERNAL_ERROR: could not replace existing tx"),
        Some("replacement transaction underpriced"),
        Some("REPLACEMENT_TRANSACTION_UNDERPRICED"),
        Some("ReplacementNotAllowed"),
        Some("There is another transaction with same nonce in the queue."),
        Some("nonce too low"),
        Some("nonce already in use"),
    ] {
        both(|edge| async move {
            let other = edge.another(|poster| poster).await;
            // Both read the same count.
            let stale = Arc::new(AtomicUsize::new(0));
            edge.chain.edge(move |method, params, chain| match method {
                "eth_getTransactionCount" if params[1] == "pending" && stale.fetch_add(1, SeqCst) < 2 => {
                    Outcome::Result(json!("0x0"))
                }
                SEND => match (chain.forward(method, params), text) {
                    (Outcome::Error(..), Some(text)) => error(-32000, text),
                    (answer, _) => answer,
                },
                _ => chain.forward(method, params),
            });
            let ((job, result), (other_job, other_result)) = (edge.result(1).await, edge.result(2).await);
            let posts = tokio::join!(
                edge.client.post_result(&job, &result).into_future(),
                other.post_result(&other_job, &other_result).into_future(),
            );
            for post in [posts.0, posts.1] {
                let post = post.unwrap_or_else(|error| panic!("{text:?}: {}", error.report()));
                assert!(!post.already, "{text:?}");
            }
            assert_eq!(edge.chain.results(), (2, 0), "{text:?}");
        })
        .await;
    }
}

/// A stranger's transaction with a better price takes the nonce after ours was in the pool.
#[tokio::test(start_paused = true)]
async fn a_transaction_that_a_stranger_replaces_is_sent_anew() {
    both(|edge| async move {
        let (job, verified) = edge.result(1).await;
        let posting = tokio::spawn(edge.client.post_result(&job, &verified).into_future());
        until(|| edge.chain.pooled() > 0).await;
        edge.chain.put_strangers(edge.account(), 0);
        let post = posting.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report()));
        assert_eq!((post.already, edge.signed(), edge.chain.results()), (false, 2, (1, 0)));
        assert_eq!(edge.chain.sent().last().unwrap().nonce, 1);
    })
    .await;
}

/// Row 10. Methods that not all have.
#[tokio::test(start_paused = true)]
async fn a_tip_is_found_without_the_method_for_it() {
    for (missing, tip) in
        [(&["eth_maxPriorityFeePerGas"][..], 7), (&["eth_maxPriorityFeePerGas", "eth_feeHistory"], 1_000_000_000)]
    {
        for (code, text) in [
            (-32601, "the method eth_maxPriorityFeePerGas does not exist/is not available"),
            (-32601, "Method not found"),
            (-32600, "Unsupported method: eth_maxPriorityFeePerGas"),
            (-32004, "this request method is not supported"),
            (-32000, "unknown RPC method"),
            (-32603, "Internal error"),
        ] {
            // That may be a fault which passes, so only the history tells.
            if missing.len() == 2 && code == -32603 {
                continue;
            }
            both(|edge| async move {
                edge.chain.edge(move |method, params, chain| match method {
                    method if missing.contains(&method) => error(code, text),
                    _ => chain.forward(method, params),
                });
                for nonce in 1..3 {
                    let (job, verified) = edge.result(nonce).await;
                    let post = edge.client.post_result(&job, &verified).await;
                    assert!(!post.unwrap_or_else(|error| panic!("{text}: {}", error.report())).already);
                }
                assert!(edge.chain.sent().iter().all(|sent| sent.tip == tip && sent.most == 2 * BASE_FEE + tip));
            })
            .await;
        }
    }
    // Set, it is not asked for.
    both(|edge| async move {
        let client = edge.another(|poster| poster.with_tip(77)).await;
        let (job, verified) = edge.result(1).await;
        client.post_result(&job, &verified).await.unwrap();
        assert_eq!(edge.chain.sent()[0].tip, 77);
        assert!(!edge.chain.methods().iter().any(|method| method == "eth_maxPriorityFeePerGas"));
    })
    .await;
}

/// An optional form of a method.
#[tokio::test(start_paused = true)]
async fn an_estimate_without_a_block() {
    for (code, text) in
        [(-32602, "too many arguments, want at most 1"), (-32602, "invalid argument 1"), (-32000, "too many arguments")]
    {
        both(|edge| async move {
            edge.chain.edge(move |method, params, chain| match method {
                "eth_estimateGas" if !params[1].is_null() => error(code, text),
                _ => chain.forward(method, params),
            });
            let (job, verified) = edge.result(1).await;
            edge.client.post_result(&job, &verified).await.unwrap_or_else(|error| panic!("{}", error.report()));
        })
        .await;
    }
}

/// An RPC that does not tell of its pool: what is there is clashed with.
#[tokio::test(start_paused = true)]
async fn a_count_without_the_pool() {
    for text in ["pending block is not available", "invalid block tag", "unknown block"] {
        both(|edge| async move {
            edge.chain.edge(move |method, params, chain| match method {
                "eth_getTransactionCount" if params[1] == "pending" => error(-32602, text),
                _ => chain.forward(method, params),
            });
            let mut posts = Vec::new();
            for nonce in 1..=5 {
                let client = edge.another(|poster| poster).await;
                let (job, verified) = edge.result(nonce).await;
                posts.push(tokio::spawn(client.post_result(&job, &verified).into_future()));
            }
            for post in posts {
                let post = post.await.unwrap().unwrap_or_else(|error| panic!("{text}: {}", error.report()));
                assert!(!post.already);
            }
            assert_eq!(edge.chain.results(), (5, 0));
        })
        .await;
    }
}

/// Row 29.
#[tokio::test(start_paused = true)]
async fn more_gas_than_a_block_has() {
    both(|edge| async move {
        edge.chain.set_gas(48_000_000, 30_000_000);
        let (job, verified) = edge.result(1).await;
        let says = async |words: &str| {
            let error = edge.client.post_result(&job, &verified).await.unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::TooLarge, Fate::NotSent), "{}", error.report());
            let text = error.to_string();
            assert!(text.contains(words) && text.contains("a block of this chain has 30000000"), "{text}");
            assert!(edge.chain.sent().is_empty() && edge.client.open_posts().is_empty());
        };
        says("about 48000000").await;
        // An RPC that allows no more than so much, and those that say nothing, or little.
        edge.chain.edge(|method, params, chain| match method {
            "eth_estimateGas" if params[0]["gas"].is_null() => {
                error(-32000, "gas required exceeds allowance (30000000)")
            }
            "eth_estimateGas" => error(-32000, "gas required exceeds allowance (40000000)"),
            _ => chain.forward(method, params),
        });
        says("more than 40000000").await;
        for (code, text, data) in [(-32000, "out of gas", None), (3, "execution reverted", Some(json!("0x")))] {
            edge.chain.edge(move |method, params, chain| match method {
                "eth_estimateGas" if params[0]["gas"].is_null() => Outcome::Error(code, text.into(), data.clone()),
                _ => chain.forward(method, params),
            });
            says("about 48000000").await;
        }
        // Its estimate is above the block's.
        edge.chain.edge(|method, params, chain| match method {
            "eth_estimateGas" => Outcome::Result(json!("0x2dc6c00")),
            _ => chain.forward(method, params),
        });
        says("about 48000000").await;
    })
    .await;
}

/// Row 29, by an RPC that holds calls and estimates to what a block has, or a transaction (EIP-7825), whatever is asked.
#[tokio::test(start_paused = true)]
async fn more_gas_than_an_rpc_allows_any_call() {
    let texts = [
        ("out of gas", "more than 30000000 gas, and a block"),
        ("EVM error OutOfGas", "more than 30000000 gas, and a block"),
        ("out of gas: gas required exceeds: 30000000", "more than 30000000 gas, and a block"),
        ("gas required exceeds allowance (30000000)", "more than 30000000 gas, and a block"),
        ("gas required exceeds allowance (16777216)", "which is the most that one may have"),
    ];
    for (text, told) in texts {
        // Calls are told otherwise than estimates.
        let by_calls = text.to_lowercase().contains("out");
        for calls in [false, true].into_iter().filter(|calls| !calls || by_calls) {
            both(|edge| async move {
                edge.chain.set_gas(48_000_000, 30_000_000);
                edge.chain.edge(move |method, params, chain| match method {
                    "eth_estimateGas" => error(-32000, text),
                    "eth_call" if calls && is_post(params) => error(-32000, text),
                    _ => chain.forward(method, params),
                });
                let (job, verified) = edge.result(1).await;
                let error = edge.client.post_result(&job, &verified).await.unwrap_err();
                let what = (error.kind(), error.outcome());
                assert_eq!(what, (ErrorKind::TooLarge, Fate::NotSent), "{text}: {}", error.report());
                let told = if calls { "more gas than a block" } else { told };
                assert!(error.to_string().contains(told), "{text}: {}", error.report());
                assert!(edge.chain.sent().is_empty() && edge.client.open_posts().is_empty());
            })
            .await;
        }
    }
}

/// EIP-7825: a transaction may have less gas than a block. Some RPCs say so of an estimate, some only of what is sent.
#[tokio::test(start_paused = true)]
async fn more_gas_than_a_transaction_may_have() {
    const CAP: u64 = 1 << 24;
    let texts = [
        // geth and those made from it; anvil and reth; revm; Nethermind; Besu.
        "transaction gas limit too high (cap: 16777216, tx: 20000000)",
        "intrinsic gas too high -- tx.gas_limit > env.cfg.tx_gas_limit_cap",
        "intrinsic gas too high",
        "transaction gas limit (20000000) is greater than the cap (16777216)",
        "TxGasLimitCapExceeded: Gas limit 20000000 exceeded cap of 16777216.",
        "Transaction gas limit must be at most 16777216",
    ];
    for text in texts {
        // Estimates are made with the gas of a block, and refused for that: also of what needs little.
        for (needed, fits) in [(20_000_000, false), (5_000_000, true)] {
            both(|edge| async move {
                edge.chain.set_gas(needed, 36_000_000);
                edge.chain.edge(move |method, params, chain| match method {
                    "eth_estimateGas" if params[0]["gas"] != json!(format!("{CAP:#x}")) => error(-32000, text),
                    _ => chain.forward(method, params),
                });
                let (job, verified) = edge.result(1).await;
                match edge.client.post_result(&job, &verified).await {
                    Ok(post) => assert!(fits && !post.already && edge.chain.sent().len() == 1, "{text}"),
                    Err(error) => {
                        let what = (error.kind(), error.outcome(), fits);
                        assert_eq!(what, (ErrorKind::TooLarge, Fate::NotSent, false), "{text}: {}", error.report());
                        assert!(error.to_string().contains("EIP-7825"), "{text}: {error}");
                        assert!(edge.chain.sent().is_empty() && edge.client.open_posts().is_empty());
                    }
                }
            })
            .await;
        }
        // Estimates know of no such bound. What was signed may land, by the RPC's own word or against it, so that stays
        // open; of the next result nothing is signed.
        both(|edge| async move {
            edge.chain.set_gas(20_000_000, 36_000_000);
            let sent = Arc::<Mutex<std::collections::BTreeSet<String>>>::default();
            let note = Arc::clone(&sent);
            edge.chain.edge(move |method, params, chain| match method {
                "eth_sendRawTransaction" => {
                    note.lock().unwrap().insert(params[0].to_string());
                    error(-32000, text)
                }
                _ => chain.forward(method, params),
            });
            let signed = || sent.lock().unwrap().len();
            let (job, verified) = edge.result(1).await;
            let first = edge.client.post_result(&job, &verified).await.unwrap_err();
            assert_eq!((first.kind(), first.outcome()), (ErrorKind::TooLarge, Fate::Unknown), "{}", first.report());
            let report = first.report().to_string();
            assert!(report.contains("EIP-7825") && report.contains("the program write less"), "{report}");
            let (job, verified) = edge.result(2).await;
            let before = signed();
            let second = edge.client.post_result(&job, &verified).await.unwrap_err();
            assert_eq!((second.kind(), second.outcome()), (ErrorKind::TooLarge, Fate::NotSent), "{}", second.report());
            assert_eq!((before, signed()), (1, 1), "{text}");
            // A chain without the bound takes it.
            let free = edge.another_account().await;
            edge.chain.edge(|method, params, chain| chain.forward(method, params));
            let (job, verified) = edge.result(3).await;
            free.post_result(&job, &verified).await.unwrap_or_else(|error| panic!("{}", error.report()));
        })
        .await;
    }
}

/// Whether a call posts a result.
fn is_post(params: &Value) -> bool {
    let function = "submitResultForOffchainJob(bytes,bytes,bytes,bytes)";
    let selector = hex::encode_prefixed(&keccak256(function)[..4]);
    params[0]["data"].as_str().is_some_and(|data| data.starts_with(&selector))
}

/// A contract's own refusal stays one.
#[tokio::test(start_paused = true)]
async fn a_revert_without_a_reason_is_not_taken_for_a_lack_of_gas() {
    both(|edge| async move {
        edge.chain.world(|world| world.consumers.get_mut(&CONSUMER).unwrap().reverts_with = Some(""));
        let (job, verified) = edge.result(1).await;
        let error = edge.client.post_result(&job, &verified).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Reverted, "{}", error.report());
        assert_eq!(Revert::of(&error).unwrap().cause(), RevertCause::Other);
    })
    .await;
}

/// What waits is priced again, with the same nonce, and any of them may land.
#[tokio::test(start_paused = true)]
async fn what_waits_for_long_is_priced_again() {
    both(|edge| async move {
        let (job, verified) = edge.result(1).await;
        let posting = tokio::spawn(edge.client.post_result(&job, &verified).into_future());
        until(|| edge.chain.pooled() > 0).await;
        // Three times what it bids.
        edge.chain.set_base_fee(7 * BASE_FEE);
        let post = posting.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report()));
        let sent = edge.chain.sent();
        assert_eq!((post.already, edge.chain.results()), (false, (1, 0)));
        assert!(sent.len() == 2 && sent.iter().all(|it| it.nonce == 0), "{sent:?}");
        assert!(sent[1].most >= 14 * BASE_FEE && sent[1].tip >= sent[0].tip / 8 * 9, "{sent:?}");
        assert_eq!(post.tx_hash, Some(sent[1].hash));
        assert!(edge.client.open_posts().is_empty());
    })
    .await;
}

/// With blobs by twice as much, as their pools want it.
#[tokio::test(start_paused = true)]
async fn what_waits_with_blobs_is_priced_again() {
    let edge = Edge::new(Revision::Relay).await;
    let (job, verified) = edge.result_with_blobs(1).await;
    // Chains since Osaka take the other form only, and say so in words of their own.
    edge.chain.set_cells(true);
    let posting = tokio::spawn(edge.client.post_result(&job, &verified).into_future());
    until(|| edge.chain.pooled() > 0).await;
    edge.chain.set_base_fee(4 * BASE_FEE);
    let post = posting.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report()));
    let sent = edge.chain.sent();
    assert_eq!((post.already, edge.chain.results(), edge.signed()), (false, (1, 0), 2), "{sent:?}");
    let (first, last) = (sent[0], sent[sent.len() - 1]);
    assert!(last.nonce == 0 && last.most >= 2 * first.most && last.tip >= 2 * first.tip, "{sent:?}");
    assert_eq!(post.tx_hash, Some(last.hash));
}

#[tokio::test(start_paused = true)]
async fn the_bounds_of_pricing_again_hold() {
    both(|edge| async move {
        // Never; three times, each by an eighth; and no more than is allowed.
        let bound = 2 * (2 * BASE_FEE + TIP) as u64;
        for (nonce, after, times, max, priced) in
            [(1, 20, 0, u64::MAX, 0), (2, 20, 3, u64::MAX, 3), (3, 50, 9, u64::MAX, 3), (4, 20, 9, bound, 5)]
        {
            edge.chain.drop_pool();
            let client =
                edge.another(|poster| poster.with_repricing(Duration::from_secs(after), times).with_max_fee(max)).await;
            let before = edge.chain.sent().len();
            // Nothing of it is ever mined, and the market says the same all the time.
            edge.chain.edge(|method, params, chain| {
                let answer = chain.forward(method, params);
                match (method, answer) {
                    ("eth_getBlockByNumber", Outcome::Result(mut block)) => {
                        block["baseFeePerGas"] = json!(format!("{BASE_FEE:#x}"));
                        Outcome::Result(block)
                    }
                    (_, answer) => answer,
                }
            });
            edge.chain.set_base_fee(u128::MAX);
            let (job, verified) = edge.result(nonce).await;
            let error = client.post_result(&job, &verified).await.unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::DeadlineExceeded, Fate::Unknown));
            let sent = edge.chain.sent()[before..].to_vec();
            let mut hashes: Vec<_> = sent.iter().map(|it| it.hash).collect();
            hashes.dedup();
            assert_eq!(hashes.len(), priced + 1, "{nonce}: {sent:?}");
            assert!(sent.iter().all(|it| it.nonce == 0 && it.most <= u128::from(max)));
            for pair in sent.windows(2).filter(|pair| pair[0].hash != pair[1].hash) {
                assert!((pair[1].most - pair[0].most) * 8 >= pair[0].most, "{pair:?}");
                assert!((pair[1].tip - pair[0].tip) * 8 >= pair[0].tip, "{pair:?}");
            }
            // All of them may land, and are known.
            let open: Vec<_> = client.open_posts().into_iter().map(|(_, hash)| hash).collect();
            assert_eq!(open, hashes);
        }
    })
    .await;
}

/// The first one lands although a second one was sent in its place.
#[tokio::test(start_paused = true)]
async fn the_first_of_several_lands() {
    both(|edge| async move {
        let (job, verified) = edge.result(1).await;
        edge.chain.set_base_fee(u128::MAX);
        edge.chain.edge(|method, params, chain| match (method, chain.forward(method, params)) {
            ("eth_getBlockByNumber", Outcome::Result(mut block)) => {
                block["baseFeePerGas"] = json!(format!("{BASE_FEE:#x}"));
                Outcome::Result(block)
            }
            (_, answer) => answer,
        });
        let posting = tokio::spawn(edge.client.post_result(&job, &verified).into_future());
        let first = loop {
            match &edge.chain.sent()[..] {
                [first, _, ..] => break first.hash,
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        assert!(edge.chain.put_back(first), "as the pool of a miner has it");
        edge.chain.set_base_fee(BASE_FEE);
        let post = posting.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report()));
        assert_eq!((post.already, post.tx_hash, edge.chain.results()), (false, Some(first), (1, 0)));
    })
    .await;
}

/// A pool that forgets.
#[tokio::test(start_paused = true)]
async fn what_the_pool_drops_is_sent_again_with_the_same_nonce() {
    both(|edge| async move {
        let (job, verified) = edge.result(1).await;
        let posting = tokio::spawn(edge.client.post_result(&job, &verified).into_future());
        until(|| edge.chain.pooled() > 0).await;
        edge.chain.drop_pool();
        let post = posting.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report()));
        assert_eq!((post.already, edge.signed(), edge.chain.results()), (false, 1, (1, 0)));
    })
    .await;
}
