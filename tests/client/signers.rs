//! Signers outside of the process: services that throttle, devices that hang, libraries with forms of their own.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use infinityvm_sdk::{
    Client, Error, ErrorKind, JobSigner, LocalSigner, Outcome, Result, RetryPolicy, Revision, Until,
    devnode::JobState,
    primitives::{Address, Bytes, hex},
    rpc::Method,
};

use crate::rig::{CONSUMER, Mood, Moody, Rig, both, submitting, within};

/// Repeats at once.
fn eager() -> RetryPolicy {
    RetryPolicy::default().with_backoff(Duration::ZERO, Duration::ZERO)
}

/// A key elsewhere: its signatures come back in another form.
struct Elsewhere {
    key: LocalSigner,
    form: Arc<Mutex<Form>>,
}

type Form = Box<dyn Fn(&LocalSigner, &[u8]) -> Vec<u8> + Send>;

#[async_trait]
impl JobSigner for Elsewhere {
    fn address(&self) -> Address {
        self.key.address()
    }

    async fn sign_message(&self, message: &[u8]) -> Result<Bytes, Error> {
        Ok(self.form.lock().unwrap()(&self.key, message).into())
    }
}

async fn elsewhere(rig: &Rig) -> (Client, impl Fn(Form)) {
    let form: Arc<Mutex<Form>> = Arc::new(Mutex::new(Box::new(|key, message| key.sign_message_sync(message).to_vec())));
    let signer = Elsewhere { key: rig.signer.clone(), form: form.clone() };
    let client = rig.builder().signer(signer).connect().await.unwrap();
    (client, move |next| *form.lock().unwrap() = next)
}

fn with_v(key: &LocalSigner, message: &[u8], v: impl Fn(u8) -> u8) -> Vec<u8> {
    let mut signature = key.sign_message_sync(message);
    signature[64] = v(signature[64] - 27);
    signature.to_vec()
}

#[tokio::test]
async fn whatever_v_a_signer_gives_its_job_lands() {
    both(|rig| async move {
        let (client, set) = elsewhere(&rig).await;
        let forms: [(&str, Form); 7] = [
            ("v 27 or 28", Box::new(|key, message| with_v(key, message, |odd| 27 + odd))),
            ("v 0 or 1", Box::new(|key, message| with_v(key, message, |odd| odd))),
            ("v of EIP-155, chain 1", Box::new(|key, message| with_v(key, message, |odd| 37 + odd))),
            ("v of EIP-155, chain 100", Box::new(|key, message| with_v(key, message, |odd| 235 + odd))),
            ("the other v", Box::new(|key, message| with_v(key, message, |odd| 28 - odd))),
            ("no v", Box::new(|key, message| with_v(key, message, |odd| odd)[..64].to_vec())),
            ("a v that means nothing", Box::new(|key, message| with_v(key, message, |_| 0xff))),
        ];
        for (name, form) in forms {
            set(form);
            // Some signatures are odd and some are even.
            for input in ["a", "b", "c", "d", "e", "f"] {
                let handle = client.submit(rig.ordered(input)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
                let waited = handle.wait(Until::Relayed).timeout(Duration::from_secs(60)).await;
                waited.unwrap_or_else(|error| panic!("{name}: {}", error.report()));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_no_signature_of_the_account_is_not_sent_and_burns_no_nonce() {
    both(|rig| async move {
        let (client, set) = elsewhere(&rig).await;
        let stranger = LocalSigner::random().unwrap();
        let text = |text: fn(String) -> String| -> Form {
            Box::new(move |key, message| text(hex::encode(key.sign_message_sync(message))).into_bytes())
        };
        let forms: Vec<(&str, Form)> = vec![
            ("130 hex digits", text(|digits| digits)),
            ("0x and 130 hex digits", text(|digits| format!("0x{digits}"))),
            ("upper case", text(|digits| digits.to_uppercase())),
            ("a line", text(|digits| format!("0x{digits}\n"))),
            ("JSON", text(|digits| format!("\"0x{digits}\""))),
            ("128 hex digits", text(|digits| digits[..128].to_owned())),
            ("another key", Box::new(move |_, message| stranger.sign_message_sync(message).to_vec())),
            ("another message", Box::new(|key, message| key.sign_message_sync(&message[1..]).to_vec())),
            ("65 zeros", Box::new(|_, _| vec![0; 65])),
            ("nothing", Box::new(|_, _| Vec::new())),
            ("one byte too many", Box::new(|key, message| [&key.sign_message_sync(message)[..], &[0]].concat())),
        ];
        for (name, form) in forms {
            set(form);
            let error = client.submit(rig.ordered("abc")).await.expect_err(name);
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Signer, Outcome::NotSent), "{name}: {error}");
            assert!(!error.is_retryable() && error.hint().is_some() && error.job_id().is_some(), "{name}");
        }
        assert_eq!(rig.node.stats().calls(Method::SubmitJob), 0);
        set(Box::new(|key, message| key.sign_message_sync(message).to_vec()));
        assert_eq!(rig.next_nonce(&client).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_signer_that_hangs_does_not_stall_the_lane() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let mood = Arc::new(Mood::default());
        let signer = Moody { inner: rig.signer.clone(), mood: mood.clone() };
        let client = rig.builder().signer(signer).connect().await.unwrap();
        mood.hang.store(true, SeqCst);
        let hanging = submitting(&client, rig.ordered("first"));
        while mood.asked.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        mood.hang.store(false, SeqCst);
        let behind = client.submit(rig.ordered("behind")).await.unwrap();
        rig.reaches(behind.id(), JobState::Done).await;
        // Nothing is left to do but to wait for the signer, so its time is over at once.
        tokio::time::pause();
        let error = hanging.await.unwrap().unwrap_err();
        tokio::time::resume();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Signer, Outcome::NotSent), "{}", error.report());
        assert!(error.is_retryable() && error.to_string().contains("60s"));
        assert!(error.hint().unwrap().contains("nonce is free"), "{}", error.report());
        let again = client.submit(rig.ordered("again")).await.unwrap();
        assert_eq!((behind.signed_job().nonce(), again.signed_job().nonce()), (2, 1));
        again.wait(Until::Relayed).await.unwrap();
        behind.wait(Until::Relayed).await.unwrap();
        assert_eq!(rig.on_chain(), [1, 2]);
        assert!(client.nonces().quarantined(CONSUMER).is_empty() && client.unresolved().is_empty());
    })
    .await;
}

/// Fails the first times it is asked, each in its own way.
struct Throttled {
    key: LocalSigner,
    failures: usize,
    asked: AtomicUsize,
    error: fn() -> Error,
}

#[async_trait]
impl JobSigner for Throttled {
    fn address(&self) -> Address {
        self.key.address()
    }

    async fn sign_message(&self, message: &[u8]) -> Result<Bytes, Error> {
        // Of thirty callers ten are turned away, wherever they come in.
        let number = self.asked.fetch_add(1, SeqCst);
        tokio::task::yield_now().await;
        if number.is_multiple_of(3) && number / 3 < self.failures {
            return Err((self.error)());
        }
        self.key.sign_message(message).await
    }
}

#[tokio::test]
async fn a_signer_that_is_throttled_is_asked_again() {
    let errors: [fn() -> Error; 3] = [
        || Error::new(ErrorKind::Signer, "slow down").with_retryable(true),
        // Errors as an adapter may pass them on: nothing was sent to a node, whatever they say.
        || Error::new(ErrorKind::Unavailable, "reset").with_retryable(true).with_outcome(Outcome::Unknown),
        || Error::new(ErrorKind::CallTimeout, "late").with_retryable(true).with_source(std::io::Error::other("late")),
    ];
    for error in errors {
        both(|rig| async move {
            let signer = Throttled { key: rig.signer.clone(), failures: 10, asked: AtomicUsize::new(0), error };
            let signer = Arc::new(signer);
            let client = rig.builder().signer(signer.clone()).retry(eager()).connect().await.unwrap();
            let jobs: Vec<_> = (0..30_u8).map(|number| submitting(&client, rig.ordered([number]))).collect();
            let mut handles = Vec::new();
            for job in jobs {
                handles.push(job.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report())));
            }
            assert_eq!(signer.asked.load(SeqCst), 40);
            assert!(client.wait_all(handles, Until::Relayed).await.iter().all(Result::is_ok));
            assert_eq!(rig.on_chain(), (1..=30).collect::<Vec<_>>());
        })
        .await;
    }
}

#[tokio::test]
async fn the_error_of_a_signer_is_about_the_signature_alone_and_says_what_next() {
    both(|rig| async move {
        let errors: [fn() -> Error; 3] = [
            || Error::new(ErrorKind::Signer, "declined"),
            || Error::new(ErrorKind::Rejected, "403").with_outcome(Outcome::Rejected),
            || Error::new(ErrorKind::Unavailable, "gone").with_outcome(Outcome::Unknown).with_hint("call the operator"),
        ];
        for error in errors {
            let signer = Throttled { key: rig.signer.clone(), failures: 1, asked: AtomicUsize::new(0), error };
            let signer = Arc::new(signer);
            let client = rig.builder().signer(signer.clone()).retry(eager()).connect().await.unwrap();
            let (own, told) = (error(), client.submit(rig.build("abc")).await.unwrap_err());
            assert_eq!((told.kind(), told.outcome()), (ErrorKind::Signer, Outcome::NotSent), "{}", told.report());
            assert!(told.report().to_string().contains(&own.to_string()), "{}", told.report());
            let hint = told.hint().expect("what next");
            assert!(own.hint().is_none_or(|own| own == hint));
            assert_eq!(signer.asked.load(SeqCst), 1, "it does not call that retryable");
            let other = client.submit(rig.build("abc")).await.unwrap();
            assert_eq!(client.forget(other.id()).map(|job| job.nonce()), None);
        }
    })
    .await;
}
