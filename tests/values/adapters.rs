//! Signers of the alloy ecosystem: a key at hand, an encrypted keystore, and a device that signs no hashes and asks a
//! person.

use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use alloy_primitives::{Address, B256, ChainId, Signature};
use alloy_signer::{Signer, UnsupportedSignerOperation};
use alloy_signer_local::PrivateKeySigner;
use infinityvm_sdk::{
    AlloySigner, ErrorKind, JobSigner, OffchainJobRequest, Outcome, ProgramId, Revision, job::SignerKind,
};
use support::canary::{CANARY, assert_hidden, canary, hides, printed, signed};

fn same_key() -> PrivateKeySigner {
    PrivateKeySigner::from_slice(&CANARY).expect("a key")
}

#[tokio::test]
async fn signs_the_same_bytes() {
    let alloy: Arc<dyn JobSigner> = Arc::new(AlloySigner::new(same_key()));
    let boxed = AlloySigner::new(Box::new(same_key()) as Box<dyn Signer + Send + Sync>);
    assert_eq!(alloy.address(), canary().address());
    for len in [0, 1, 9, 10, 99, 100, 1_000] {
        let message = vec![0xab; len];
        let expected = signed(&message);
        assert_eq!(alloy.sign_message(&message).await.expect("signs"), expected);
        assert_eq!(boxed.sign_message(&message).await.expect("signs"), expected);
    }
    assert_eq!(alloy.kind(), SignerKind::Account, "what stands behind it is not known");
    assert_hidden(&format!("{boxed:?} {:?}", AlloySigner::new(same_key())), "the adapter");
}

/// The canary in the form that geth, Foundry's cast and others write (Web3 Secret Storage, version 3), made by none of
/// the code that reads it here. With a cheap scrypt, as the tests are not optimised.
const KEYSTORE: &str = r#"{
    "version": 3,
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": { "iv": "fc351da0fbd286f250d5b28ba0e8763b" },
        "ciphertext": "06fdb2aa774a31f6558cc75e1d56749f63ca9e8e4efae460a2450205ca5153be",
        "kdf": "scrypt",
        "kdfparams": {
            "dklen": 32,
            "n": 1024,
            "p": 1,
            "r": 8,
            "salt": "a05e334153147e75f3f416139b5109d1179cb56fef6a4ecb4c4cbc92a7c37b70"
        },
        "mac": "76595a52b25bb8061b7be33f9bd9c0aaab684fe0774fd7dc6410644160953653"
    }
}"#;

#[tokio::test]
async fn a_keystore_is_opened_by_its_password_and_signs() {
    const PASSWORD: &str = "correct horse battery staple";
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("jobs.json");
    std::fs::write(&path, KEYSTORE).expect("written");

    let error = PrivateKeySigner::decrypt_keystore(&path, "wrong").expect_err("another password");
    let text = format!("{error} {error:?}");
    assert_hidden(&text, "the keystore");
    hides(PASSWORD.as_bytes(), &text, "the keystore");

    let signer = AlloySigner::new(PrivateKeySigner::decrypt_keystore(&path, PASSWORD).expect("the password"));
    assert_eq!(signer.address(), canary().address());
    let job = OffchainJobRequest::builder(Address::repeat_byte(7), ProgramId::new(vec![1])).max_cycles(1);
    let job = job.build().expect("a job").prepare(Revision::State, 1).expect("prepared");
    let message = job.signing_bytes().clone();
    assert_eq!(job.sign(&signer).await.expect("signs").signature()[..], signed(&message));
    assert_hidden(&format!("{signer:?}"), "the adapter");
}

/// As a hardware wallet: it refuses hashes, may be locked, and a person may decline.
struct Wallet {
    key: PrivateKeySigner,
    says: Option<&'static str>,
    asked: AtomicUsize,
}

impl Wallet {
    fn new(says: Option<&'static str>) -> Self {
        Self { key: same_key(), says, asked: AtomicUsize::new(0) }
    }
}

#[async_trait::async_trait]
impl Signer for Wallet {
    async fn sign_hash(&self, _hash: &B256) -> alloy_signer::Result<Signature> {
        Err(alloy_signer::Error::UnsupportedOperation(UnsupportedSignerOperation::SignHash))
    }

    async fn sign_message(&self, message: &[u8]) -> alloy_signer::Result<Signature> {
        self.asked.fetch_add(1, SeqCst);
        match self.says {
            Some(text) => Err(alloy_signer::Error::message(text)),
            None => self.key.sign_message(message).await,
        }
    }

    fn address(&self) -> Address {
        Signer::address(&self.key)
    }

    fn chain_id(&self) -> Option<ChainId> {
        None
    }

    fn set_chain_id(&mut self, _chain_id: Option<ChainId>) {}
}

/// Takes messages in no form.
struct HashesOnly;

#[async_trait::async_trait]
impl Signer for HashesOnly {
    async fn sign_hash(&self, _hash: &B256) -> alloy_signer::Result<Signature> {
        Err(alloy_signer::Error::UnsupportedOperation(UnsupportedSignerOperation::SignHash))
    }

    fn address(&self) -> Address {
        Address::ZERO
    }

    fn chain_id(&self) -> Option<ChainId> {
        None
    }

    fn set_chain_id(&mut self, _chain_id: Option<ChainId>) {}
}

#[tokio::test]
async fn needs_no_hash_signing() {
    let wallet = AlloySigner::new(Wallet::new(None));
    let signature = wallet.sign_message(b"message").await.expect("signs");
    assert_eq!(signature, signed(b"message"));
    let error = AlloySigner::new(HashesOnly).sign_message(b"message").await.expect_err("it cannot");
    assert!(error.hint().expect("a hint").contains("another") && !error.is_retryable());
}

#[tokio::test]
async fn keeps_the_cause_of_a_refusal() {
    let wallet = AlloySigner::new(Wallet::new(Some("locked")));
    let error = wallet.sign_message(b"message").await.expect_err("locked");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Signer, Outcome::NotSent));
    assert!(error.hint().expect("a hint").contains("locked"));
    let cause = error.source().and_then(|cause| cause.downcast_ref::<alloy_signer::Error>());
    assert_eq!(cause.expect("alloy's error").to_string(), "locked");
    assert_hidden(&printed(&error), "the adapter");
}

/// A person who said no is not asked again by a machine; a service may be, if its user says so.
#[tokio::test]
async fn passes_is_said_by_the_user() {
    let error = AlloySigner::new(Wallet::new(Some("declined"))).sign_message(b"m").await.expect_err("declined");
    assert!(!error.is_retryable());
    let throttled = |error: &alloy_signer::Error| error.to_string().contains("throttled");
    for (says, passing) in [("throttled", true), ("disabled", false)] {
        let signer = AlloySigner::new(Wallet::new(Some(says))).with_retry_if(throttled);
        assert_eq!(signer.sign_message(b"m").await.expect_err(says).is_retryable(), passing);
    }
}
