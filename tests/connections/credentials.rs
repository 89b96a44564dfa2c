//! Headers that change: asked for within each call, on every transport and for the RPC of the chain. After a 401
//! (UNAUTHENTICATED) they are asked for once more, and the call is repeated.
//!
//! The forms: a function, and a provider that waits; a token that expires between calls, and during one; one that is
//! refused for good; a provider that fails, for now or for good, that hangs, and that gives what it must not; over
//! gRPC a refusal as a status, and as a proxy's 401; a websocket, which shows credentials when it is opened.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use infinityvm_sdk::{
    Client, Error, ErrorKind, Outcome, Result, RetryPolicy, Revision, Until,
    chain::{Answer, Chain, ChainReader, Question, RpcReader},
    primitives::B256,
    rpc::{CallError, CallFailure, Method, StatusCode},
    transport::{GrpcTransport, HeaderProvider, HeaderRequest, RestTransport, Transport},
};
use serde_json::json;
use support::{
    http1::{Server, answer as reply, json as json_reply},
    scripted,
};
use tokio::{net::TcpListener, time::Instant};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
    },
};

use crate::{
    frames::headers_only,
    rig::{CONSUMER, Home, current_thread, multi_thread, paused, within},
};

/// Tokens that expire, and a provider that keeps one until it is refused.
#[derive(Clone, Default)]
struct Tokens {
    /// The one that servers take.
    valid: Arc<AtomicUsize>,
    kept: Arc<Mutex<Option<String>>>,
    /// What the provider was asked: for whom, and whether the last was refused.
    asked: Arc<Mutex<Vec<(String, bool)>>>,
    /// What servers were shown.
    shown: Arc<Mutex<Vec<String>>>,
}

impl Tokens {
    fn token(&self) -> String {
        format!("Bearer secret-token-{}", self.valid.load(SeqCst))
    }

    fn expire(&self) {
        self.valid.fetch_add(1, SeqCst);
    }

    /// Whether a server takes it.
    fn takes(&self, shown: Option<&str>) -> bool {
        let shown = shown.unwrap_or_default().to_owned();
        let takes = shown == self.token();
        self.shown.lock().unwrap().push(shown);
        takes
    }

    fn asked(&self) -> Vec<bool> {
        self.asked.lock().unwrap().drain(..).map(|(_, refused)| refused).collect()
    }
}

#[async_trait]
impl HeaderProvider for Tokens {
    async fn headers(&self, request: HeaderRequest<'_>) -> Result<Vec<(String, String)>> {
        self.asked.lock().unwrap().push((request.endpoint().to_owned(), request.was_refused()));
        tokio::task::yield_now().await;
        let mut kept = self.kept.lock().unwrap();
        if request.was_refused() {
            *kept = None;
        }
        let token = kept.get_or_insert_with(|| self.token()).clone();
        Ok(vec![("authorization".to_owned(), token)])
    }
}

async fn rest_server(tokens: &Tokens) -> Server {
    let tokens = tokens.clone();
    Server::start(move |seen| {
        let takes = tokens.takes(seen.header("authorization"));
        // Also the body must be there again.
        assert_eq!(seen.body, b"{\"a\":1}");
        std::future::ready(if takes { json_reply(200, "{}") } else { reply(401, "text/plain", "expired") })
    })
    .await
}

/// A gRPC server that refuses in this way.
async fn grpc_server(tokens: &Tokens, status: u16, refusal: Option<&'static str>) -> String {
    let tokens = tokens.clone();
    headers_only(move |headers| {
        let shown = headers.get("authorization").and_then(|value| value.to_str().ok());
        match (tokens.takes(shown), refusal) {
            (true, _) => (200, vec![]),
            (false, Some(code)) => (status, vec![("grpc-status", code.to_owned())]),
            (false, None) => (status, vec![("x-proxy", "yes".to_owned())]),
        }
    })
    .await
}

async fn call(transport: &dyn Transport) -> Result<Bytes, CallError> {
    within(transport.call(Method::SubmitJob, Bytes::from_static(b"{\"a\":1}").into())).await
}

/// Each transport to a server that wants these tokens, with this provider.
async fn transports(
    tokens: &Tokens,
    provider: impl HeaderProvider + Clone,
) -> Vec<(Box<dyn Transport>, Option<Server>)> {
    let server = rest_server(tokens).await;
    let rest =
        RestTransport::builder(server.url()).header("authorization", "Bearer of old").header_provider(provider.clone());
    let mut all: Vec<(Box<dyn Transport>, Option<Server>)> = vec![(Box::new(rest.build().unwrap()), Some(server))];
    for (status, refusal) in [(200, Some("16")), (401, None)] {
        let url = grpc_server(tokens, status, refusal).await;
        let grpc = GrpcTransport::builder(url).header_provider(provider.clone());
        all.push((Box::new(grpc.build().unwrap()), None));
    }
    all
}

#[tokio::test]
async fn a_token_that_expires_is_asked_for_once_more_and_the_call_is_repeated() {
    let tokens = Tokens::default();
    for (transport, _server) in transports(&tokens, tokens.clone()).await {
        tokens.kept.lock().unwrap().take();
        for _ in 0..2 {
            call(&*transport).await.unwrap();
        }
        assert_eq!(tokens.asked(), [false, false], "within every call");
        for _ in 0..3 {
            tokens.expire();
            call(&*transport).await.unwrap();
            assert_eq!(tokens.asked(), [false, true], "{transport:?}");
            call(&*transport).await.unwrap();
            assert_eq!(tokens.asked(), [false]);
        }
        assert!(!format!("{transport:?}").contains("secret"));
    }
    let shown = tokens.shown.lock().unwrap();
    assert!(shown.iter().all(|shown| shown.starts_with("Bearer secret")), "in place of the one of old: {shown:?}");
}

#[tokio::test]
async fn a_function_is_a_provider_and_what_is_refused_twice_is_told() {
    let tokens = Tokens::default();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let wrong = move |_: HeaderRequest<'_>| {
        count.fetch_add(1, SeqCst);
        Ok(vec![("authorization".to_owned(), "Bearer wrong-token-of-mine".to_owned())])
    };
    for (transport, _server) in transports(&tokens, wrong).await {
        tokens.shown.lock().unwrap().clear();
        asked.store(0, SeqCst);
        let error = call(&*transport).await.unwrap_err();
        let refused =
            matches!(error.failure, CallFailure::Http(401) | CallFailure::Status(StatusCode::UNAUTHENTICATED));
        assert!(refused, "{error:?}");
        assert_eq!((asked.load(SeqCst), tokens.shown.lock().unwrap().len()), (2, 2), "once more, and no more");
    }
}

#[tokio::test]
async fn without_a_provider_a_401_is_final() {
    let tokens = Tokens::default();
    let server = rest_server(&tokens).await;
    let rest = RestTransport::builder(server.url()).header("authorization", "Bearer 1").build().unwrap();
    assert!(matches!(call(&rest).await.unwrap_err().failure, CallFailure::Http(401)));
    assert_eq!(tokens.shown.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_provider_that_fails_sends_nothing() {
    let tokens = Tokens::default();
    for (retryable, misconfigured) in [(true, false), (false, true)] {
        let failing = move |_: HeaderRequest<'_>| {
            Err(Error::new(ErrorKind::Signer, "the key service is away").with_retryable(retryable))
        };
        for (transport, _server) in transports(&tokens, failing).await {
            let error = call(&*transport).await.unwrap_err();
            assert_eq!(matches!(error.failure, CallFailure::Misconfigured), misconfigured, "{error:?}");
            assert_eq!(matches!(error.failure, CallFailure::NotSent), !misconfigured, "{error:?}");
            assert!(error.to_string().contains("key service is away"), "{error}");
        }
    }
    // Headers of the protocol are not its to set.
    for (name, value) in [("content-type", "text/plain"), ("host", "a"), ("no name", "a"), ("x", "line\nbreak")] {
        let bad = move |_: HeaderRequest<'_>| Ok(vec![(name.to_owned(), value.to_owned())]);
        for (transport, _server) in transports(&tokens, bad).await {
            let error = call(&*transport).await.unwrap_err();
            assert!(matches!(error.failure, CallFailure::Misconfigured), "{name}: {error:?}");
        }
    }
    assert!(tokens.shown.lock().unwrap().is_empty(), "nothing was sent");
}

#[derive(Clone)]
struct Hanging;

#[async_trait]
impl HeaderProvider for Hanging {
    async fn headers(&self, _: HeaderRequest<'_>) -> Result<Vec<(String, String)>> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn the_time_of_a_provider_is_part_of_the_calls() {
    let server = Server::replying(json_reply(200, "{}")).await;
    let brief = Duration::from_millis(20);
    let rest = RestTransport::builder(server.url()).header_provider(Hanging).submit_timeout(brief).build().unwrap();
    let grpc = GrpcTransport::builder(server.url()).header_provider(Hanging).submit_timeout(brief).build().unwrap();
    for error in [call(&rest).await.unwrap_err(), call(&grpc).await.unwrap_err()] {
        assert!(matches!(error.failure, CallFailure::NotSent), "{error:?}");
    }
    assert_eq!(server.connections(), 0);
}

/// A client of a node that is there, whose headers come from this provider. Retries as by default.
async fn client(home: &Home, rest: bool, provider: impl HeaderProvider) -> Client {
    let builder = Client::builder().revision(Revision::Relay).signer(home.signer.clone()).retry(
        // What is no failure of the node's costs none of its budget.
        RetryPolicy::default().with_budget(0),
    );
    let builder =
        match rest {
            true => builder
                .transport(RestTransport::builder(home.node.rest_url()).header_provider(provider).build().unwrap()),
            false => builder
                .transport(GrpcTransport::builder(home.node.grpc_url()).header_provider(provider).build().unwrap()),
        };
    builder.operator(home.node.operator()).connect().await.unwrap()
}

fn away(pause: Option<Duration>) -> Error {
    let error = Error::new(ErrorKind::Signer, "the token service is away").with_retryable(true);
    pause.into_iter().fold(error, Error::with_retry_after)
}

/// Away for longer than a first contact may take, and for more attempts than a node is given.
#[test]
fn a_provider_that_is_away_for_a_while_is_waited_for() {
    let home = Home::new();
    for rest in [false, true] {
        for read in [false, true] {
            for pause in [None, Some(Duration::from_secs(3))] {
                paused().block_on(scripted::within(async {
                    let until = Instant::now() + Duration::from_secs(12);
                    let (asked, resumed) = (Arc::new(AtomicUsize::new(0)), AtomicBool::new(false));
                    let count = Arc::clone(&asked);
                    let provider = move |_: HeaderRequest<'_>| {
                        if Instant::now() < until {
                            count.fetch_add(1, SeqCst);
                            return Err(away(pause));
                        }
                        // From here on there is a node to be waited for.
                        if !resumed.swap(true, SeqCst) {
                            tokio::time::resume();
                        }
                        Ok(vec![("authorization".to_owned(), "Bearer 1".to_owned())])
                    };
                    let client = client(&home, rest, provider).await;
                    let ended = match read {
                        true => match client.get_result(B256::repeat_byte(7).into()).await {
                            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                            ended => ended.map(drop),
                        },
                        false => client.submit(home.job()).await.map(drop),
                    };
                    ended.unwrap_or_else(|error| panic!("REST {rest}, read {read}: {}", error.report()));
                    // Over gRPC a submission asks twice, as the node is asked for its revision first.
                    let asked = asked.load(SeqCst);
                    assert!(pause.is_none() || asked <= 10, "its own pause was not kept: asked {asked} times");
                }));
            }
        }
    }
}

#[test]
fn a_provider_that_stays_away_is_named_and_is_no_node_that_cannot_be_reached() {
    let home = Home::new();
    for rest in [false, true] {
        paused().block_on(scripted::within(async {
            let client = client(&home, rest, |_: HeaderRequest<'_>| Err(away(None))).await;
            let begun = Instant::now();
            let submissions = (0..20).map(|_| {
                let (client, job) = (client.clone(), home.job());
                tokio::spawn(async move { client.submit(job).await.unwrap_err() })
            });
            for submission in submissions.collect::<Vec<_>>() {
                let error = submission.await.unwrap();
                let report = error.report().to_string();
                assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotSent), "{report}");
                assert!(error.to_string().contains("the header provider failed"), "{error}");
                assert!(error.to_string().contains("the token service is away"), "{error}");
                assert!(!report.contains("never reached") && !report.contains("check that the node runs"), "{report}");
                assert!(error.is_retryable() && error.attempts() > 6, "{report}");
            }
            assert!(begun.elapsed() > Duration::from_secs(50), "{:?}", begun.elapsed());
            assert!(client.unresolved().is_empty() && client.nonces().quarantined(CONSUMER).is_empty());
            let error = client.get_result(B256::repeat_byte(7).into()).await.unwrap_err();
            assert!(error.to_string().contains("header provider failed"), "{}", error.report());
        }));
    }
}

/// Row 21: before, a wait ended with the first 401.
#[test]
fn a_wait_goes_on_when_a_token_expires() {
    let home = Home::new();
    for rest in [false, true] {
        multi_thread().block_on(within(async {
            let renewed = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&renewed);
            let provider = move |request: HeaderRequest<'_>| {
                let token = count.fetch_add(usize::from(request.was_refused()), SeqCst);
                Ok(vec![("authorization".to_owned(), format!("Bearer {token}"))])
            };
            let client = client(&home, rest, provider).await;
            let gate = home.node.faults().hold_executions();
            let handle = client.submit(home.job()).await.unwrap();
            let wait = tokio::spawn(handle.wait(Until::Relayed).into_future());
            home.node.faults().refuse(Method::GetResult, 1, StatusCode::UNAUTHENTICATED, "the token has expired");
            home.node.wait_until(|_| renewed.load(SeqCst) > 0).await;
            gate.open();
            let result = wait.await.unwrap().unwrap_or_else(|error| panic!("REST {rest}: {}", error.report()));
            assert_eq!(result.id(), handle.id());
        }));
    }
}

/// Hangs when it is asked first, and then never again.
#[derive(Clone, Default)]
struct HangsOnce(Arc<AtomicUsize>);

#[async_trait]
impl HeaderProvider for HangsOnce {
    async fn headers(&self, _: HeaderRequest<'_>) -> Result<Vec<(String, String)>> {
        match self.0.fetch_add(1, SeqCst) {
            0 => std::future::pending().await,
            _ => Ok(Vec::new()),
        }
    }
}

/// Over REST, where the submission is the first call.
#[test]
fn submissions_do_not_wait_for_a_provider_that_hangs_in_another_one() {
    let home = Home::new();
    current_thread().block_on(within(async {
        let provider = HangsOnce::default();
        let client = client(&home, true, provider.clone()).await;
        let (first, job) = (client.clone(), home.job());
        let first = tokio::spawn(async move { first.submit(job).await });
        while provider.0.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        client.submit(home.job()).await.unwrap();
        assert!(!first.is_finished());
    }));
}

#[test]
fn a_provider_that_hangs_is_given_up_and_named() {
    let home = Home::new();
    for rest in [false, true] {
        paused().block_on(scripted::within(async {
            let client = client(&home, rest, Hanging).await;
            let error = client.submit(home.job()).await.unwrap_err();
            let report = error.report().to_string();
            assert_eq!(error.outcome(), Outcome::NotSent, "{report}");
            assert!(error.to_string().contains("the header provider gave no headers"), "{report}");
        }));
    }
}

#[tokio::test]
async fn the_rpc_of_a_chain_over_http() {
    let tokens = Tokens::default();
    let checks = tokens.clone();
    let server = Server::start(move |seen| {
        let shown = seen.header("authorization").unwrap_or_default().to_owned();
        let takes = checks.takes(Some(&shown));
        let request: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
        let said = json!({ "jsonrpc": "2.0", "id": request["id"], "result": "0x7a69" });
        // As some do, it repeats what it was shown.
        std::future::ready(if takes { json_reply(200, said.to_string()) } else { reply(401, "text/plain", shown) })
    })
    .await;
    let reader = RpcReader::builder(server.url()).header_provider(tokens.clone()).connect().await.unwrap();
    let id = async |reader: &RpcReader| within(reader.ask(&[Question::ChainId])).await?.remove(0);
    for refused in [&[false][..], &[false, true], &[false, true]] {
        assert_eq!(id(&reader).await.unwrap(), Answer::ChainId(31337));
        assert_eq!(tokens.asked(), refused);
        tokens.expire();
    }
    let wrong = |_: HeaderRequest<'_>| Ok(vec![("authorization".to_owned(), "Bearer wrong-token-of-mine".to_owned())]);
    let reader = RpcReader::builder(server.url()).header_provider(wrong).connect().await.unwrap();
    let report = id(&reader).await.unwrap_err().report().to_string();
    assert!(report.contains("401") && !report.contains("wrong-token"), "{report}");
}

/// Credentials that are not taken any more, in other forms than status 401: by another status, and in an answer.
#[tokio::test]
async fn the_rpc_of_a_chain_that_says_otherwise_that_credentials_have_expired() {
    let said = |code: i64, text: &str| json!({ "jsonrpc": "2.0", "id": 0, "error": { "code": code, "message": text } });
    let forms = [
        (
            "403",
            reply(403, "application/json", r#"{"message":"The security token included in the request is expired"}"#),
        ),
        ("407", reply(407, "text/html", "<html>proxy authentication required</html>")),
        ("an answer", json_reply(200, said(-32000, "Unauthorized: authenticate your request with a key").to_string())),
        ("an answer with its own code", json_reply(200, said(-32001, "jwt expired").to_string())),
        ("a status and an answer", json_reply(400, said(401, "who are you").to_string())),
        ("an answer to each", json_reply(200, json!([said(-32603, "the token has expired")]).to_string())),
    ];
    for (form, refusal) in forms {
        let tokens = Tokens::default();
        let checks = tokens.clone();
        let server = Server::start(move |seen| {
            let takes = checks.takes(seen.header("authorization"));
            let request: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
            let said = json!({ "jsonrpc": "2.0", "id": request["id"], "result": "0x7a69" });
            std::future::ready(if takes { json_reply(200, said.to_string()) } else { refusal.clone() })
        })
        .await;
        let reader = RpcReader::builder(server.url()).header_provider(tokens.clone()).connect().await.unwrap();
        for refused in [&[false][..], &[false, true]] {
            let answers = within(reader.ask(&[Question::ChainId])).await;
            let answer = answers.unwrap_or_else(|error| panic!("{form}: {}", error.report())).remove(0);
            let answer = answer.unwrap_or_else(|error| panic!("{form}: {}", error.report()));
            assert_eq!(answer, Answer::ChainId(31337), "{form}");
            assert_eq!(tokens.asked(), refused, "{form}");
            tokens.expire();
        }
    }
}

/// As a gateway that has an authorizer says it. Of a submission it may be said of the answer as well.
#[tokio::test]
async fn a_right_that_is_denied_is_asked_for_once_more_by_what_only_reads() {
    for (method, again) in [(Method::GetResult, true), (Method::SubmitJob, false)] {
        let tokens = Tokens::default();
        let checks = tokens.clone();
        let server = Server::start(move |seen| {
            let takes = checks.takes(seen.header("authorization"));
            let denied =
                reply(403, "application/json", r#"{"Message":"User is not authorized to access this resource"}"#);
            std::future::ready(if takes { json_reply(200, "{}") } else { denied })
        })
        .await;
        let rest = RestTransport::builder(server.url()).header_provider(tokens.clone()).build().unwrap();
        let url = grpc_server(&tokens, 200, Some("7")).await;
        let grpc = GrpcTransport::builder(url).header_provider(tokens.clone()).build().unwrap();
        let transports: [&dyn Transport; 2] = [&rest, &grpc];
        for transport in transports {
            let call = async || within(transport.call(method, Bytes::from_static(b"{}").into())).await;
            call().await.unwrap();
            tokens.asked();
            tokens.expire();
            assert_eq!(call().await.is_ok(), again, "{method}, {transport:?}");
            assert_eq!(tokens.asked().len(), 1 + usize::from(again), "{method}, {transport:?}");
            tokens.kept.lock().unwrap().take();
        }
        // A proxy that wants to know who asks has sent nothing on.
        let checks = tokens.clone();
        let proxy = Server::start(move |seen| {
            let takes = checks.takes(seen.header("authorization"));
            std::future::ready(if takes { json_reply(200, "{}") } else { reply(407, "text/plain", "who are you") })
        })
        .await;
        let rest = RestTransport::builder(proxy.url()).header_provider(tokens.clone()).build().unwrap();
        for _ in 0..2 {
            within(rest.call(method, Bytes::from_static(b"{}").into())).await.unwrap();
            tokens.expire();
        }
    }
}

/// It says nothing of the RPC: as long as the deadline allows, it is asked again, and the RPC's budget is not for that.
#[tokio::test]
async fn a_provider_for_the_rpc_of_a_chain_that_fails_for_now_is_asked_again() {
    let server = Server::start(|seen| {
        let request: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
        let said = json!({ "jsonrpc": "2.0", "id": request["id"], "result": "0x6001" });
        std::future::ready(json_reply(200, said.to_string()))
    })
    .await;
    let policy = RetryPolicy::default().with_budget(0).with_backoff(Duration::ZERO, Duration::ZERO);
    for (retryable, failures) in [(true, 20), (false, 1)] {
        let asked = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&asked);
        let provider = move |_: HeaderRequest<'_>| match count.fetch_add(1, SeqCst) < failures {
            true => Err(Error::new(ErrorKind::Unavailable, "the vault is sealed").with_retryable(retryable)),
            false => Ok(Vec::new()),
        };
        let reader = RpcReader::builder(server.url()).header_provider(provider).connect().await.unwrap();
        let chain = Chain::new(reader, CONSUMER).with_retry(policy.clone());
        let code = within(chain.code(CONSUMER)).await;
        match code {
            Ok(code) => assert!(retryable && code[..] == [0x60, 1]),
            Err(error) => assert!(!retryable && error.report().to_string().contains("sealed"), "{}", error.report()),
        }
        assert_eq!(asked.load(SeqCst), failures + usize::from(retryable));
    }
}

#[tokio::test]
async fn a_websocket_shows_credentials_when_it_is_opened() {
    let tokens = Tokens::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let checks = tokens.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let checks = checks.clone();
            tokio::spawn(async move {
                #[expect(clippy::result_large_err, reason = "it is the library's")]
                let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
                    let shown = request.headers().get("authorization").and_then(|value| value.to_str().ok());
                    if checks.takes(shown) {
                        return Ok(response);
                    }
                    Err(http::Response::builder().status(401).body(None).unwrap())
                };
                let Ok(mut socket) = accept_hdr_async(tcp, check).await else { return };
                // One answer, and the end of this connection: the next question opens another.
                if let Some(Ok(Message::Text(text))) = socket.next().await {
                    let request: serde_json::Value = serde_json::from_str(&text).unwrap();
                    let said = json!({ "jsonrpc": "2.0", "id": request["id"], "result": "0x7a69" });
                    _ = socket.send(Message::text(said.to_string())).await;
                }
            });
        }
    });
    let reader = RpcReader::builder(&url).header_provider(tokens.clone()).connect().await.unwrap();
    assert_eq!(tokens.asked(), [false]);
    for _ in 0..3 {
        tokens.expire();
        let answers = async {
            loop {
                // One that is asked as the connection ends has to be asked again.
                if let Ok(mut answers) = reader.ask(&[Question::ChainId]).await {
                    return answers.remove(0);
                }
            }
        };
        assert_eq!(within(answers).await.unwrap(), Answer::ChainId(31337));
    }
    let asked = tokens.asked();
    assert!(asked.iter().filter(|refused| **refused).count() >= 2, "{asked:?}");
    let wrong = |_: HeaderRequest<'_>| Ok(vec![("authorization".to_owned(), "Bearer 1".to_owned())]);
    let error = RpcReader::builder(&url).header_provider(wrong).connect().await.unwrap_err();
    assert!(error.to_string().contains("401"), "{}", error.report());
}
