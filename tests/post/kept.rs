//! A poster whose transactions somebody keeps: each is kept before it is sent, and a new process goes on with those that
//! were kept.
#![cfg(all(feature = "grpc", feature = "blobs"))]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use infinityvm_sdk::{
    Error, ErrorKind, Outcome as Fate, Result, Revision, Verified,
    chain::{Blobs, FollowUp, PostKeeper, PostTransaction, Poster, RpcPoster, SignedPost},
};
use serde_json::json;
use support::ledger_chain::{CHAIN_ID, JOB_MANAGER};

use crate::{
    edges::{Edge, KEY, SEND},
    pool::{Outcome, PoolChain, error},
};

/// Keeps what is signed, and ends the process after that, if it is told to.
#[derive(Clone)]
struct Ledger {
    chain: PoolChain,
    kept: Arc<Mutex<Vec<SignedPost>>>,
    crashes: Arc<AtomicBool>,
    /// How often it does not answer from now on, after it has kept what it was given.
    hangs: Arc<AtomicU32>,
}

impl Ledger {
    fn new(chain: &PoolChain) -> Self {
        Self { chain: chain.clone(), kept: Arc::default(), crashes: Arc::default(), hangs: Arc::default() }
    }

    fn kept(&self) -> Vec<SignedPost> {
        self.kept.lock().unwrap().clone()
    }

    /// The account as a process has it that has just begun.
    fn poster(&self, set: impl FnOnce(RpcPoster) -> RpcPoster) -> Arc<dyn Poster> {
        let poster = set(RpcPoster::over(self.chain.reader(), RpcPoster::key(KEY).unwrap()));
        poster.kept_by(Arc::new(self.clone()), &self.kept()).unwrap()
    }
}

#[async_trait]
impl PostKeeper for Ledger {
    async fn keep(&self, post: &SignedPost) -> Result<()> {
        let sent = self.chain.sent();
        assert!(sent.iter().all(|sent| sent.hash != post.hash), "it was sent before it was kept");
        self.kept.lock().unwrap().push(post.clone());
        if self.hangs.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            std::future::pending().await
        }
        match self.crashes.load(SeqCst) {
            true => Err(Error::new(ErrorKind::Store, "the process ends here").with_outcome(Fate::Unknown)),
            false => Ok(()),
        }
    }
}

fn transaction(result: &Verified) -> PostTransaction {
    PostTransaction::new(CHAIN_ID, JOB_MANAGER, result.post_calldata())
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_and_not_sent_is_sent_by_the_next_process_as_it_is() {
    for revision in Revision::ALL {
        let edge = Edge::new(revision).await;
        let result = edge.result(1).await.1;
        let ledger = Ledger::new(&edge.chain);
        ledger.crashes.store(true, SeqCst);
        let failed =
            ledger.poster(|it| it).post(&transaction(&result), &|_| panic!("it was not kept")).await.unwrap_err();
        assert_eq!((failed.kind(), failed.outcome()), (ErrorKind::Store, Fate::NotSent));
        let kept = ledger.kept();
        assert_eq!((kept.len(), kept[0].nonce, edge.chain.sent().len()), (1, 0, 0));
        ledger.crashes.store(false, SeqCst);
        let poster = ledger.poster(|it| it);
        tokio::time::sleep(Duration::from_secs(6)).await;
        let followed = poster.follow_up(&transaction(&result), &[kept[0].hash], &|_| ()).await.unwrap();
        assert_eq!(followed, FollowUp::Sent(kept[0].hash));
        assert_eq!((ledger.kept(), edge.signed()), (kept, 1), "signed again");
        // Another result of the account has the next nonce.
        let other = edge.result(2).await.1;
        poster.post(&transaction(&other), &|_| ()).await.unwrap();
        assert_eq!(ledger.kept()[1].nonce, 1);
    }
}

/// As a database whose server went away behind an open connection.
#[tokio::test(start_paused = true)]
async fn a_keeper_that_never_answers_is_given_up_and_nothing_was_sent() {
    for (deadline, seconds) in [(None, 60), (Some(Duration::from_secs(3)), 3)] {
        let set = |poster: RpcPoster| match deadline {
            Some(deadline) => poster.with_signing_deadline(deadline),
            None => poster,
        };
        let edge = Edge::new(Revision::Relay).await;
        let ledger = Ledger::new(&edge.chain);
        let (poster, result) = (ledger.poster(set), edge.result(1).await.1);
        ledger.hangs.store(1, SeqCst);
        let began = tokio::time::Instant::now();
        let error = poster.post(&transaction(&result), &|_| panic!("it was not kept")).await.unwrap_err();
        assert_eq!(began.elapsed().as_secs(), seconds);
        let what = (error.kind(), error.outcome(), error.is_retryable());
        assert_eq!(what, (ErrorKind::Store, Fate::NotSent, true), "{}", error.report());
        assert!(edge.chain.sent().is_empty());
        // Nothing is in the way of the next one, and it has the same account nonce.
        let hash = poster.post(&transaction(&result), &|_| ()).await.unwrap();
        let kept = ledger.kept();
        assert_eq!((kept.len(), kept[1].hash), (2, hash));
        assert!(kept.iter().all(|post| post.nonce == 0));
    }
}

/// A higher price that nobody keeps is not sent. What was sent before is looked after all the same.
#[tokio::test(start_paused = true)]
async fn a_keeper_that_never_answers_holds_up_no_follow_up() {
    let edge = Edge::new(Revision::Relay).await;
    let (ledger, result) = (Ledger::new(&edge.chain), edge.result(1).await.1);
    let set = |poster: RpcPoster| poster.with_repricing(Duration::from_secs(10), 2);
    let poster = ledger.poster(|it| set(it).with_signing_deadline(Duration::from_secs(3)));
    edge.chain.edge(|method, params, chain| match method {
        SEND => error(-32000, "not now"),
        _ => chain.forward(method, params),
    });
    let transaction = transaction(&result);
    let first = poster.post(&transaction, &|_| ()).await.unwrap_err().tx_hash().unwrap();
    tokio::time::sleep(Duration::from_secs(11)).await;
    ledger.hangs.store(1, SeqCst);
    let began = tokio::time::Instant::now();
    let followed = poster.follow_up(&transaction, &[first], &|hash| assert_eq!(hash, first)).await.unwrap();
    assert_eq!((followed, ledger.kept().len()), (FollowUp::Sent(first), 2));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// How often a transaction was priced again is known from what was kept, and so is its price.
#[tokio::test(start_paused = true)]
async fn the_bound_on_prices_outlives_the_process() {
    for blobs in [false, true] {
        let edge = Edge::new(Revision::Relay).await;
        let result = edge.result(1).await.1;
        let transaction = match blobs {
            false => transaction(&result),
            true => transaction(&result).with_blobs(Blobs::of_input(&[7; 100]).unwrap()),
        };
        let ledger = Ledger::new(&edge.chain);
        // Nobody takes it, so that nothing lands.
        edge.chain.edge(|method, params, chain| match method {
            SEND => error(-32000, "not now"),
            // With blobs that the operator did not sign it would revert.
            "eth_estimateGas" => Outcome::Result(json!("0x30d40")),
            _ => chain.forward(method, params),
        });
        let often = |poster: RpcPoster| poster.with_repricing(Duration::from_secs(10), 2);
        let posted = ledger.poster(often).post(&transaction, &|_| ()).await;
        assert_eq!(posted.unwrap_err().outcome(), Fate::Unknown);
        for _ in 0..8 {
            let poster = ledger.poster(often);
            tokio::time::sleep(Duration::from_secs(11)).await;
            let sent: Vec<_> = ledger.kept().iter().map(|post| post.hash).collect();
            poster.follow_up(&transaction, &sent, &|_| ()).await.unwrap();
        }
        let mut kept = ledger.kept();
        kept.dedup_by_key(|post| post.hash);
        assert_eq!(kept.len(), 3, "{blobs}: the first, and 2 prices");
        assert!(kept.iter().all(|post| post.nonce == 0));
    }
}
