//! How long a signer is waited for, and how often it is asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use infinityvm_sdk::{
    Client, Error, ErrorKind, JobSigner, LocalSigner, Outcome, Result, RetryPolicy, Revision,
    nonce::{NonceSource, Sequential, Settlement},
    primitives::{Address, Bytes},
    rpc::Method,
};
use tokio::time::Instant;

use crate::rig::{Mood, Moody, Rig, within};

/// Never signs, and says what it is told to.
struct Busy {
    key: LocalSigner,
    asked: AtomicUsize,
    says: fn() -> Error,
}

#[async_trait]
impl JobSigner for Busy {
    fn address(&self) -> Address {
        self.key.address()
    }

    async fn sign_message(&self, _message: &[u8]) -> Result<Bytes, Error> {
        self.asked.fetch_add(1, SeqCst);
        Err((self.says)())
    }
}

fn passing() -> Error {
    Error::new(ErrorKind::Signer, "busy").with_retryable(true)
}

/// Fails with the clock stopped, which goes on where all wait for it: says how long that took, and how often the signer
/// was asked.
async fn fails(rig: &Rig, policy: RetryPolicy, says: fn() -> Error) -> (Error, Duration, usize) {
    let signer = Arc::new(Busy { key: rig.signer.clone(), asked: AtomicUsize::new(0), says });
    let client = rig.builder().retry(policy).signer(signer.clone()).connect().await.unwrap();
    tokio::time::pause();
    let began = Instant::now();
    let error = client.submit(rig.ordered("abc")).await.unwrap_err();
    let took = began.elapsed();
    tokio::time::resume();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Signer, Outcome::NotSent), "{}", error.report());
    assert!(error.job_id().is_some() && error.hint().is_some());
    assert_eq!(client.nonces().quarantined(crate::rig::CONSUMER), Vec::<u64>::new());
    let asked = signer.asked.load(SeqCst);
    assert_eq!(error.attempts() as usize, asked);
    (error, took, asked)
}

/// A source of nonces that never answers, as a database that is locked.
#[derive(Debug)]
struct Locked;

#[async_trait]
impl NonceSource for Locked {
    async fn reserve(&self, _: Address) -> Result<u64> {
        std::future::pending().await
    }

    fn settle(&self, _: Address, _: u64, _: Settlement) {}

    fn leaves_gaps(&self) -> bool {
        false
    }

    fn name(&self) -> &'static str {
        "locked"
    }

    async fn peek(&self, _: Address) -> Result<Option<u64>> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_source_of_nonces_that_never_answers_is_given_up() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        for (policy, seconds) in
            [(RetryPolicy::default(), 60), (RetryPolicy::default().with_submit_deadline(Duration::from_secs(3)), 3)]
        {
            let client = rig.builder().retry(policy).nonces(Locked).connect().await.unwrap();
            for job in [rig.ordered("abc"), rig.job("abc").nonce(7).build().unwrap()] {
                tokio::time::pause();
                let began = Instant::now();
                let error = client.submit(job).await.unwrap_err();
                let took = began.elapsed();
                tokio::time::resume();
                let what = (error.kind(), error.outcome(), error.is_retryable());
                assert_eq!(what, (ErrorKind::Nonce, Outcome::NotSent, true), "{}", error.report());
                assert_eq!(took.as_secs(), seconds);
            }
        }
        assert_eq!(rig.node.stats().calls(Method::SubmitJob), 0);
    })
    .await;
}

#[tokio::test]
async fn a_signer_that_is_always_busy_is_asked_until_the_deadline() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let (error, took, asked) = fails(&rig, RetryPolicy::default(), passing).await;
        assert!(took <= Duration::from_secs(60) && took > Duration::from_secs(50), "{took:?}");
        assert!(asked > 10, "{asked}");
        assert!(error.is_retryable() && error.to_string().contains("busy"));

        let policy = RetryPolicy::default().with_signing_deadline(Duration::from_secs(3));
        let (_, took, asked) = fails(&rig, policy.clone(), passing).await;
        assert!(took <= Duration::from_secs(3) && asked > 2, "{took:?}, {asked} times");
        let (_, _, asked) = fails(&rig, policy.clone().with_attempts(3), passing).await;
        assert!(asked <= 3, "{asked}");
        let (_, took, asked) = fails(&rig, RetryPolicy::none(), passing).await;
        assert_eq!((took, asked), (Duration::ZERO, 1));
        let (_, took, asked) = fails(&rig, policy, || Error::new(ErrorKind::Signer, "no")).await;
        assert_eq!((took, asked), (Duration::ZERO, 1));
        assert_eq!(rig.node.stats().calls(Method::SubmitJob), 0);
    })
    .await;
}

/// A signer that is down must not eat what the node's own failures are repeated from.
#[tokio::test]
async fn a_signer_takes_nothing_from_the_budget() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let (_, took, asked) = fails(&rig, RetryPolicy::default().with_budget(0), passing).await;
        assert!(asked > 10 && took > Duration::from_secs(50), "{asked} times in {took:?}");
    })
    .await;
}

#[tokio::test]
async fn a_pause_that_the_signer_asks_for_is_kept_unless_the_deadline_comes_first() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let policy = RetryPolicy::default().with_signing_deadline(Duration::from_secs(60));
        let (error, took, asked) =
            fails(&rig, policy.clone(), || passing().with_retry_after(Duration::from_secs(25))).await;
        assert_eq!((asked, error.retry_after()), (3, Some(Duration::from_secs(25))));
        assert!(took >= Duration::from_secs(50), "{took:?}");
        for pause in [Duration::from_secs(61), Duration::MAX] {
            let says: fn() -> Error = match pause {
                Duration::MAX => || passing().with_retry_after(Duration::MAX),
                _ => || passing().with_retry_after(Duration::from_secs(61)),
            };
            let (error, took, asked) = fails(&rig, policy.clone(), says).await;
            assert_eq!((took, asked, error.retry_after()), (Duration::ZERO, 1, Some(pause)));
        }
        // Of another kind, as an adapter may pass it on.
        let (error, _, asked) = fails(&rig, policy, || {
            let hour = Duration::from_secs(3600);
            Error::new(ErrorKind::Rejected, "429").with_retryable(true).with_retry_after(hour)
        })
        .await;
        assert_eq!((asked, error.retry_after()), (1, Some(Duration::from_secs(3600))));
    })
    .await;
}

#[tokio::test]
async fn the_deadline_is_the_users() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let mood = Arc::new(Mood::default());
        mood.hang.store(true, SeqCst);
        for (deadline, text) in [(Duration::from_millis(1500), "1.5s"), (Duration::from_secs(200), "200s")] {
            let signer = Moody { inner: rig.signer.clone(), mood: mood.clone() };
            let policy = RetryPolicy::default().with_signing_deadline(deadline);
            let client = rig.builder().retry(policy).signer(signer).connect().await.unwrap();
            tokio::time::pause();
            for sends in [true, false] {
                let began = Instant::now();
                let error = match sends {
                    true => client.submit(rig.ordered("abc")).await.unwrap_err(),
                    false => client.sign(rig.ordered("abc")).await.unwrap_err(),
                };
                // The timer counts in milliseconds.
                assert!(began.elapsed() >= deadline && began.elapsed() < deadline + Duration::from_millis(3));
                assert!(error.is_retryable() && error.to_string().contains(text), "{error}");
                assert!(error.hint().unwrap().contains("Ordered lane"), "{}", error.report());
            }
            tokio::time::resume();
        }
        let zero = rig.builder().retry(RetryPolicy::default().with_signing_deadline(Duration::ZERO));
        assert_eq!(zero.connect().await.unwrap_err().kind(), ErrorKind::InvalidConfig);
    })
    .await;
}

/// Without a runtime there is no clock: said, and not a panic. A key at hand needs none.
#[test]
fn outside_of_a_runtime_a_key_at_hand_signs_and_others_say_why_not() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (rig, away): (Rig, Client) = runtime.block_on(async {
        let rig = Rig::new(Revision::State).await;
        let signer = Moody { inner: rig.signer.clone(), mood: Arc::default() };
        let away = rig.builder().nonces(Sequential::starting_at(9)).signer(signer).connect().await.unwrap();
        (rig, away)
    });
    let poll = |client: &Client| {
        let mut signing = Box::pin(client.sign(rig.build("abc")));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match signing.as_mut().poll(&mut context) {
            std::task::Poll::Ready(signed) => signed,
            std::task::Poll::Pending => panic!("it waits"),
        }
    };
    assert_eq!(poll(&rig.client).unwrap().nonce(), 1);
    let error = poll(&away).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", error.report());
    assert!(runtime.block_on(away.sign(rig.build("abc"))).is_ok());
    drop((rig, away, runtime));
}
