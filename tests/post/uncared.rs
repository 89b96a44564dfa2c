//! A poster that cannot look after what it has sent: whatever becomes of the next transaction, the first one stays
//! known.
#![cfg(all(feature = "grpc", feature = "blobs"))]

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use infinityvm_sdk::{
    Client, Error, ErrorKind, Outcome, SignedJob, Verified,
    chain::{Chain, FollowUp, PostTransaction, Poster},
    primitives::{Address, B256},
};

use support::ledger_chain::{FakePoster, Fate, JOB_MANAGER, JobState};

use crate::in_memory::{CONSUMER, Case, both, is};

type Hook = Box<dyn Fn() + Send + Sync>;

/// A poster with the provided `follow_up`, and something that happens when it is asked for that.
#[derive(Clone)]
struct Careless {
    poster: FakePoster,
    asked: Arc<Mutex<Option<Hook>>>,
    slow: Arc<Mutex<Duration>>,
}

impl fmt::Debug for Careless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Careless")
    }
}

#[async_trait::async_trait]
impl Poster for Careless {
    fn address(&self) -> Address {
        self.poster.address()
    }

    async fn post(&self, transaction: &PostTransaction, signed: &(dyn Fn(B256) + Send + Sync)) -> Result<B256, Error> {
        self.poster.post(transaction, signed).await
    }

    async fn follow_up(
        &self,
        transaction: &PostTransaction,
        sent: &[B256],
        signed: &(dyn Fn(B256) + Send + Sync),
    ) -> Result<FollowUp, Error> {
        if let Some(hook) = &*self.asked.lock().unwrap() {
            hook();
        }
        let slow = *self.slow.lock().unwrap();
        tokio::time::sleep(slow).await;
        self.poster.follow_up(transaction, sent, signed).await
    }
}

/// A post whose transaction nobody knows, and a poster that has given it up.
struct Lost {
    case: Case,
    careless: Careless,
    client: Client,
    job: SignedJob,
    verified: Verified,
    hash: B256,
}

impl Lost {
    async fn new(case: Case) -> Self {
        let careless = Careless { poster: case.poster.clone(), asked: Arc::default(), slow: Arc::default() };
        let builder = Client::builder().grpc("http://127.0.0.1:9").revision(case.revision);
        let builder = builder.operator(case.operator.address()).chain(Chain::new(case.chain.clone(), JOB_MANAGER));
        let client = builder.poster(careless.clone()).connect().await.unwrap();
        let (job, verified) = case.job().await;
        case.poster.fate(Fate::Lost);
        client.post_result(&job, &verified).await.unwrap_err();
        let hash = case.poster.posted()[0].0;
        assert_eq!(client.open_posts(), [(job.id(), hash)]);
        Self { case, careless, client, job, verified, hash }
    }

    fn when_asked(&self, hook: impl Fn() + Send + Sync + 'static) {
        *self.careless.asked.lock().unwrap() = Some(Box::new(hook));
    }

    async fn again(&self) -> Error {
        self.client.post_result(&self.job, &self.verified).timeout(Duration::from_secs(90)).await.unwrap_err()
    }

    /// The first one is open, whatever else is told, and if it lands it is found.
    async fn stays_open(&self, error: &Error, kind: ErrorKind, lands: bool) {
        is(error, kind, Outcome::Unknown, Some(self.hash));
        assert_eq!(self.client.open_posts(), [(self.job.id(), self.hash)], "{}", error.report());
        let hint = error.hint().unwrap();
        assert!(!hint.contains("another nonce") || kind == ErrorKind::NonceTaken, "{}", error.report());
        if !lands {
            return;
        }
        assert!(self.case.poster.include(self.hash));
        let sent = self.case.poster.posted().len();
        let post = self.client.post_result(&self.job, &self.verified).await.unwrap();
        assert_eq!((post.tx_hash, post.already), (Some(self.hash), false));
        assert_eq!(self.case.poster.posted().len(), sent, "none beside it");
        assert!(self.client.open_posts().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_one_is_refused() {
    both(|case| async move {
        let lost = Lost::new(case).await;
        lost.case.poster.fate(Fate::Refused);
        let error = lost.again().await;
        assert!(error.to_string().contains("insufficient funds"));
        lost.stays_open(&error, ErrorKind::Chain, true).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_next_one_would_revert() {
    both(|case| async move {
        let lost = Lost::new(case).await;
        let closed = |why| lost.case.chain.world().consumers.get_mut(&CONSUMER).unwrap().reverts_with = why;
        closed(Some("closed"));
        let error = lost.again().await;
        assert_eq!(lost.case.poster.posted().len(), 1);
        closed(None);
        lost.stays_open(&error, ErrorKind::Reverted, true).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_next_one_reverts_in_its_block() {
    both(|case| async move {
        let lost = Lost::new(case).await;
        lost.case.poster.fate(Fate::Included);
        let closed = |world: &mut support::ledger_chain::World, why| {
            world.consumers.get_mut(&CONSUMER).unwrap().reverts_with = why;
        };
        lost.case.poster.before(move |world| closed(world, Some("closed")));
        let error = lost.again().await;
        assert_eq!(lost.case.poster.posted().len(), 2);
        closed(&mut lost.case.chain.world(), None);
        lost.stays_open(&error, ErrorKind::Reverted, true).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_nonce_goes_to_another_job() {
    both(|case| async move {
        let lost = Lost::new(case).await;
        let (chain, id) = (lost.case.chain.clone(), B256::from(lost.job.id()));
        lost.when_asked(move || {
            chain.world().jobs.insert(id, JobState { status: 1, ..JobState::default() });
        });
        let error = lost.again().await;
        lost.stays_open(&error, ErrorKind::NonceTaken, false).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_chain_cannot_be_read_any_more() {
    both(|case| async move {
        let lost = Lost::new(case).await;
        let chain = lost.case.chain.clone();
        lost.when_asked(move || chain.set_unreachable(true));
        let error = lost.again().await;
        lost.case.chain.set_unreachable(false);
        lost.stays_open(&error, ErrorKind::DeadlineExceeded, true).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_operator_is_another_by_then() {
    both(|case| async move {
        let lost = Lost::new(case).await;
        let (chain, operator) = (lost.case.chain.clone(), lost.case.operator.address());
        lost.when_asked(move || chain.world().operator = Address::repeat_byte(8));
        let error = lost.again().await;
        lost.case.chain.world().operator = operator;
        lost.stays_open(&error, ErrorKind::DeadlineExceeded, true).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_time_is_up() {
    both(|case| async move {
        let lost = Lost::new(case).await;
        *lost.careless.slow.lock().unwrap() = Duration::from_secs(90);
        let error = lost.again().await;
        *lost.careless.slow.lock().unwrap() = Duration::ZERO;
        lost.stays_open(&error, ErrorKind::DeadlineExceeded, true).await;
    })
    .await;
}

/// What the poster has certainly not sent does not stay open, and what it sent before does.
#[tokio::test(start_paused = true)]
async fn each_is_open_for_itself() {
    both(|case| async move {
        let lost = Lost::new(case).await;
        let error = lost.again().await;
        // A second one, as the first one is unknown for long; nobody knows that one either.
        let second = lost.case.poster.posted()[1].0;
        is(&error, ErrorKind::Chain, Outcome::Unknown, Some(second));
        assert_eq!(lost.client.open_posts(), [(lost.job.id(), lost.hash), (lost.job.id(), second)]);
        lost.case.poster.fate(Fate::Refused);
        is(&lost.again().await, ErrorKind::Chain, Outcome::Unknown, Some(second));
        assert_eq!(lost.client.open_posts().len(), 2);
        assert!(lost.case.poster.include(lost.hash));
        let post = lost.client.post_result(&lost.job, &lost.verified).await.unwrap();
        assert_eq!((post.tx_hash, post.already), (Some(lost.hash), false));
        assert!(lost.client.open_posts().is_empty());
    })
    .await;
}
