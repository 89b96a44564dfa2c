//! A poster whose transactions somebody keeps: each is kept before it is sent, and a new process goes on with those that
//! were kept.
#![cfg(all(feature = "grpc", feature = "blobs"))]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
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
}

impl Ledger {
    fn new(chain: &PoolChain) -> Self {
        Self { chain: chain.clone(), kept: Arc::default(), crashes: Arc::default() }
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
