//! A key service over HTTP, as clouds have them: it signs digests, answers in DER with a high s in half of the cases,
//! knows no v, throttles, fails and hangs. And an adapter for it, as a user writes one.

use std::{
    fmt,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use alloy_primitives::{Address, B256, Bytes, hex};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use async_trait::async_trait;
use infinityvm_sdk::{
    Client, Error, ErrorKind, JobSigner, OffchainJobRequest, Outcome, ProgramId, RelayStrategy, RetryPolicy, Revision,
    Until,
    client::ClientBuilder,
    devnode::{ConsumerRules, DevNode},
    job::{eip191_hash, signature},
    nonce::Sequential,
    rpc::Method,
};
use serde_json::{Value, json};
use support::{
    canary::{CANARY, assert_hidden, canary, hides, printed},
    http1::{Reply, Seen, Server, json},
    rpc,
    signatures::{der, high},
    traces::Traces,
};

use crate::rig::submitting;

/// What lets the adapter in. It must not show either.
const TOKEN: &str = "Bearer 9f3d77c1e05b4a2896ad1ce8730f6b54";

/// What the service does with the next requests to sign.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Throttles,
    /// 429 with `Retry-After`, in seconds.
    ThrottlesFor(u32),
    Fails(u16),
    Denies,
    Hangs,
    /// With another key than the one it names.
    Strays,
    Garbles,
}

#[derive(Default)]
struct State {
    moods: Mutex<Vec<Mood>>,
    asked: AtomicUsize,
}

struct KeyService {
    server: Server,
    state: Arc<State>,
}

impl KeyService {
    async fn start() -> Self {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let server = Server::start(move |request| answer(Arc::clone(&shared), request)).await;
        Self { server, state }
    }

    /// For the next requests, the first one first; after them it is well.
    fn next(&self, moods: impl IntoIterator<Item = Mood>) {
        *self.state.moods.lock().unwrap() = moods.into_iter().collect();
    }

    fn asked(&self) -> usize {
        self.state.asked.load(SeqCst)
    }

    async fn signer(&self) -> ServiceSigner {
        ServiceSigner::connect(&self.server.url(), TOKEN).await.unwrap()
    }
}

async fn answer(state: Arc<State>, request: Seen) -> Reply {
    if request.header("authorization") != Some(TOKEN) {
        return json(401, r#"{"error":"who are you?"}"#);
    }
    let key = PrivateKeySigner::from_slice(&CANARY).unwrap();
    if request.line.starts_with("GET /keys/jobs ") {
        // SubjectPublicKeyInfo of secp256k1: what the algorithm is, and the point, uncompressed.
        let head = hex!("3056301006072a8648ce3d020106052b8104000a034200" "04");
        let point = key.credential().verifying_key().to_encoded_point(false);
        return json(
            200,
            json!({ "publicKey": hex::encode([&head[..], &point.as_bytes()[1..]].concat()) }).to_string(),
        );
    }
    assert!(request.line.starts_with("POST /keys/jobs/sign "), "{}", request.line);
    let number = state.asked.fetch_add(1, SeqCst);
    let mood = {
        let mut moods = state.moods.lock().unwrap();
        if moods.is_empty() { None } else { Some(moods.remove(0)) }
    };
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let digest: B256 = body["digest"].as_str().unwrap().parse().unwrap();
    let by = match mood {
        Some(Mood::Throttles) => return json(429, r#"{"error":"slow down"}"#),
        Some(Mood::ThrottlesFor(seconds)) => {
            let head = format!("HTTP/1.1 429 Too Many\r\nretry-after: {seconds}\r\ncontent-length: 0\r\n\r\n");
            return Reply::Keep(head.into_bytes());
        }
        Some(Mood::Fails(status)) => return json(status, r#"{"error":"our fault"}"#),
        Some(Mood::Denies) => return json(403, r#"{"error":"the key is disabled"}"#),
        Some(Mood::Hangs) => pending().await,
        Some(Mood::Garbles) => return json(200, json!({ "signature": "30060201010201" }).to_string()),
        Some(Mood::Strays) => PrivateKeySigner::from_slice(&[5; 32]).unwrap(),
        None => key,
    };
    let signature = by.sign_hash_sync(&digest).unwrap().as_bytes();
    let signature = if number.is_multiple_of(2) { high(&signature) } else { signature.to_vec() };
    json(200, json!({ "signature": hex::encode(der(&signature)) }).to_string())
}

/// The adapter.
struct ServiceSigner {
    http: reqwest::Client,
    url: String,
    token: String,
    address: Address,
}

impl ServiceSigner {
    async fn connect(url: &str, token: &str) -> Result<Self, Error> {
        let mut signer = Self {
            http: rpc::http_client(),
            url: format!("{url}/keys/jobs"),
            token: token.to_owned(),
            address: Address::ZERO,
        };
        let key = signer.ask(signer.http.get(&signer.url), "publicKey").await?;
        // The point is what the public key ends with.
        signer.address = Address::from_raw_public_key(&key[key.len() - 64..]);
        Ok(signer)
    }

    async fn ask(&self, request: reqwest::RequestBuilder, field: &str) -> Result<Vec<u8>, Error> {
        let failed = |what: String| Error::new(ErrorKind::Signer, what);
        let lost = |error: reqwest::Error| failed("no answer".into()).with_retryable(true).with_source(error);
        let response = request.header("authorization", &self.token).send().await.map_err(lost)?;
        let status = response.status();
        let pause = response.headers().get("retry-after").and_then(|pause| pause.to_str().ok()?.parse().ok());
        if !status.is_success() {
            let passing = status.as_u16() == 429 || status.is_server_error();
            let error = failed(format!("the key service says {status}")).with_retryable(passing);
            return Err(pause.into_iter().map(Duration::from_secs).fold(error, Error::with_retry_after));
        }
        let body: Value = serde_json::from_slice(&response.bytes().await.map_err(lost)?).unwrap_or_default();
        hex::decode(body[field].as_str().unwrap_or_default())
            .map_err(|error| failed("no hex".into()).with_source(error))
    }
}

#[async_trait]
impl JobSigner for ServiceSigner {
    fn address(&self) -> Address {
        self.address
    }

    async fn sign_message(&self, message: &[u8]) -> Result<Bytes, Error> {
        let body = json!({ "digest": eip191_hash(message) }).to_string();
        let der = self.ask(self.http.post(format!("{}/sign", self.url)).body(body), "signature").await?;
        Ok(signature::from_der(&der, message, self.address)?.into())
    }
}

impl fmt::Debug for ServiceSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceSigner").field("address", &self.address).finish_non_exhaustive()
    }
}

const CONSUMER: Address = Address::repeat_byte(0xc0);

struct Rig {
    node: DevNode,
    service: KeyService,
    job: OffchainJobRequest,
}

impl Rig {
    async fn new() -> Self {
        let rules = ConsumerRules::signed_by(canary().address());
        let node = DevNode::builder(Revision::Relay).consumer(CONSUMER, rules).start().await.unwrap();
        let program = node.register_program(|input| Ok(input.onchain.to_vec()));
        let job = OffchainJobRequest::builder(CONSUMER, ProgramId::new(program)).max_cycles(1000);
        let job = job.onchain_input(vec![1, 2, 3]).relay(RelayStrategy::Ordered).build().unwrap();
        Self { node, service: KeyService::start().await, job }
    }

    async fn builder(&self) -> ClientBuilder {
        let builder = Client::builder().grpc(self.node.grpc_url()).revision(Revision::Relay);
        builder.operator(self.node.operator()).signer(self.service.signer().await).nonces(Sequential::starting_at(1))
    }

    async fn client(&self, policy: RetryPolicy) -> Client {
        self.builder().await.retry(policy).connect().await.unwrap()
    }
}

fn eager() -> RetryPolicy {
    RetryPolicy::default().with_backoff(Duration::ZERO, Duration::ZERO)
}

#[tokio::test]
async fn the_adapter_finds_its_address_and_signs_as_the_key_does() {
    let service = KeyService::start().await;
    let signer = service.signer().await;
    assert_eq!(signer.address(), canary().address());
    for message in [&b""[..], b"message", &[0xab; 1000], b"another", b"one more", b"and one"] {
        assert_eq!(signer.sign_message(message).await.unwrap()[..], canary().sign_message_sync(message));
    }
    let error = ServiceSigner::connect(&service.server.url(), "Bearer nobody").await.unwrap_err();
    assert!(error.to_string().contains("401"), "{error}");
}

#[tokio::test]
async fn jobs_are_signed_by_the_service_and_land_in_spite_of_its_moods() {
    let rig = Rig::new().await;
    let client = rig.client(eager()).await;
    rig.service.next([
        Mood::Throttles,
        Mood::Throttles,
        Mood::Fails(503),
        Mood::ThrottlesFor(0),
        Mood::Fails(500),
        Mood::Throttles,
        Mood::Fails(502),
        Mood::Throttles,
        Mood::Throttles,
        Mood::Throttles,
    ]);
    let mut submitted = Vec::new();
    for _ in 0..30 {
        submitted.push(submitting(&client, rig.job.clone()));
    }
    let mut handles = Vec::new();
    for submitted in submitted {
        handles.push(submitted.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report())));
    }
    assert_eq!(rig.service.asked(), 40, "ten failed, and each of those was asked for again");
    for result in client.wait_all(handles, Until::Relayed).await {
        result.unwrap_or_else(|error| panic!("{}", error.report()));
    }
    assert_eq!(rig.node.chain().all_completed().len(), 30);
}

#[tokio::test]
async fn a_pause_that_the_service_asks_for_is_kept() {
    let rig = Rig::new().await;
    let client = rig.client(eager()).await;
    rig.service.next([Mood::ThrottlesFor(1)]);
    let began = std::time::Instant::now();
    client.submit(rig.job.clone()).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(rig.service.asked(), 2);
    // One that is longer than what is left is not waited for.
    rig.service.next([Mood::ThrottlesFor(3600)]);
    let error = client.submit(rig.job.clone()).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Signer, Outcome::NotSent));
    assert_eq!((error.retry_after(), error.is_retryable()), (Some(Duration::from_secs(3600)), true));
    assert!(error.report().to_string().contains("3600s"), "{}", error.report());
    assert_eq!(rig.service.asked(), 3);
    assert_eq!(client.submit(rig.job.clone()).await.unwrap().signed_job().nonce(), 2);
}

#[tokio::test]
async fn a_service_that_hangs_is_given_up_and_its_late_signature_counts_for_nothing() {
    let rig = Rig::new().await;
    let client = rig.client(eager()).await;
    rig.service.next([Mood::Throttles, Mood::Hangs]);
    let submitting = submitting(&client, rig.job.clone());
    while rig.service.asked() < 2 {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    let error = submitting.await.unwrap().unwrap_err();
    tokio::time::resume();
    assert_eq!((error.kind(), error.outcome(), error.attempts()), (ErrorKind::Signer, Outcome::NotSent, 2));
    assert!(error.report().to_string().contains("429"), "what it said before: {}", error.report());
    assert_eq!(rig.node.stats().calls(Method::SubmitJob), 0);
    let handle = client.submit(rig.job.clone()).await.unwrap();
    assert_eq!(handle.signed_job().nonce(), 1, "the nonce is free again");
    handle.wait(Until::Relayed).await.unwrap();
}

#[tokio::test]
async fn what_does_not_pass_ends_at_once_and_is_not_sent() {
    let rig = Rig::new().await;
    let client = rig.client(eager()).await;
    for (asked, (mood, says)) in
        [(Mood::Denies, "403"), (Mood::Strays, "recovers to"), (Mood::Garbles, "not DER")].into_iter().enumerate()
    {
        rig.service.next([mood]);
        let error = client.submit(rig.job.clone()).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Signer, Outcome::NotSent), "{mood:?}");
        let report = error.report().to_string();
        assert!(report.contains(says) && error.hint().is_some() && !error.is_retryable(), "{mood:?}: {report}");
        assert_eq!(rig.service.asked(), asked + 1, "{mood:?}");
        for text in [printed(&error), format!("{client:?} {:?}", rig.builder().await)] {
            assert_hidden(&text, "the client");
            hides(TOKEN.as_bytes(), &text, "the client");
        }
    }
    assert_eq!(rig.node.stats().calls(Method::SubmitJob), 0);
    assert_eq!(client.submit(rig.job.clone()).await.unwrap().signed_job().nonce(), 1);
}

#[tokio::test]
async fn nothing_signed_shows_in_what_is_printed_or_traced() {
    let (traces, _guard) = Traces::here();
    let rig = Rig::new().await;
    let client = rig.client(eager()).await;
    rig.service.next([Mood::Throttles]);
    let handle = client.submit(rig.job.clone()).await.unwrap();
    let signed = handle.signed_job();
    handle.wait(Until::Executed).await.unwrap();
    assert!(traces.spans().len() > 5);
    for text in [format!("{signed:?} {signed:#?}"), format!("{handle:?}"), format!("{client:?}"), traces.printed()] {
        hides(signed.signature(), &text, "a signed job");
        hides(TOKEN.as_bytes(), &text, "a signed job");
        assert_hidden(&text, "a signed job");
    }
}
