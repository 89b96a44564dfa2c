//! As much of AWS KMS as signing needs: two calls, over HTTP, with one key. It checks no credentials.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use alloy_signer::{Signer, SignerSync};
use alloy_signer_local::PrivateKeySigner;
use base64::{Engine, prelude::BASE64_STANDARD};
use infinityvm_sdk::primitives::{Address, B256, hex};
use serde_json::{Value, json};
use support::{
    http1::{Reply, Seen, Server, answer},
    signatures::{der, high},
};

pub const KEY_ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";

/// SubjectPublicKeyInfo of secp256k1, up to the point, which is uncompressed.
const PUBLIC_KEY: [u8; 24] = hex!("3056301006072a8648ce3d020106052b8104000a03420004");

/// What becomes of a request to sign.
#[derive(Clone, Copy)]
pub enum Mood {
    Throttles,
    Hangs,
}

pub struct StandIn {
    server: Server,
    inner: Arc<Inner>,
}

struct Inner {
    key: PrivateKeySigner,
    moods: Mutex<VecDeque<Mood>>,
    signed: AtomicUsize,
}

impl StandIn {
    pub async fn start() -> Self {
        let key = PrivateKeySigner::random();
        let inner = Arc::new(Inner { key, moods: Mutex::default(), signed: AtomicUsize::new(0) });
        let shared = Arc::clone(&inner);
        let server = Server::start(move |request| reply(Arc::clone(&shared), request)).await;
        Self { server, inner }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn account(&self) -> Address {
        Signer::address(&self.inner.key)
    }

    /// What becomes of the next requests to sign; those after them are answered.
    pub fn next(&self, moods: impl IntoIterator<Item = Mood>) {
        *self.inner.moods() = moods.into_iter().collect();
    }

    /// How many of those have not come yet.
    pub fn left(&self) -> usize {
        self.inner.moods().len()
    }
}

impl Inner {
    fn moods(&self) -> MutexGuard<'_, VecDeque<Mood>> {
        self.moods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn public_key(&self) -> String {
        let point = self.key.credential().verifying_key().to_encoded_point(false);
        BASE64_STANDARD.encode([&PUBLIC_KEY, &point.as_bytes()[1..]].concat())
    }

    fn sign(&self, request: &Value) -> Option<String> {
        let message = BASE64_STANDARD.decode(request["Message"].as_str()?).ok()?;
        let digest = B256::try_from(&message[..]).ok().filter(|_| request["MessageType"] == "DIGEST")?;
        let signature = self.key.sign_hash_sync(&digest).ok()?.as_bytes().to_vec();
        let even = self.signed.fetch_add(1, SeqCst).is_multiple_of(2);
        Some(BASE64_STANDARD.encode(der(&if even { high(&signature) } else { signature })))
    }
}

async fn reply(inner: Arc<Inner>, request: Seen) -> Reply {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    match request.header("x-amz-target") {
        _ if body["KeyId"] != KEY_ID => refuse("NotFoundException", "there is no such key"),
        Some("TrentService.GetPublicKey") => {
            let key = inner.public_key();
            accept(
                json!({ "KeyId": KEY_ID, "KeySpec": "ECC_SECG_P256K1", "KeyUsage": "SIGN_VERIFY", "PublicKey": key }),
            )
        }
        Some("TrentService.Sign") => {
            let mood = inner.moods().pop_front();
            match mood {
                Some(Mood::Throttles) => refuse("ThrottlingException", "Rate exceeded"),
                Some(Mood::Hangs) => pending().await,
                None => match inner.sign(&body) {
                    Some(signature) => accept(json!({
                        "KeyId": KEY_ID, "Signature": signature, "SigningAlgorithm": "ECDSA_SHA_256"
                    })),
                    None => refuse("ValidationException", "a digest has 32 bytes"),
                },
            }
        }
        _ => refuse("UnknownOperationException", "not of this stand-in"),
    }
}

fn accept(body: Value) -> Reply {
    answer(200, "application/x-amz-json-1.1", body.to_string())
}

fn refuse(kind: &str, message: &str) -> Reply {
    answer(400, "application/x-amz-json-1.1", json!({ "__type": kind, "message": message }).to_string())
}
