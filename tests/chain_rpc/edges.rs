//! RPCs that lack a form, or take little of it at once: a job lands all the same, and what was learnt is kept.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use infinityvm_sdk::{
    Client, Error, ErrorKind, FindingKind, JobHandle, LocalSigner, OffchainJobRequest, PollPolicy, RetryPolicy,
    Revision, SignedJob, Until, Verified,
    chain::{Answer, Block, Chain, ChainReader, Question, RpcReader},
    devnode::{ConsumerRules, DevNode, ProgramOutput},
    primitives::B256,
};
use serde_json::{Value, json};

use crate::{
    answers::{self, Signed},
    fake_chain::{FakeChain, JOB_MANAGER, Tx},
    http1::{self, Reply, Server},
    json_chain::{self, Rules, refusal},
    node::{Node, Says},
    scripted::{CONSUMER, job},
};

/// A job that is complete on a chain so many blocks ago, behind an RPC with an edge.
struct Scene {
    chain: Chain,
    handle: JobHandle,
    server: Server,
}

impl Scene {
    /// `named`, if the node knows the transaction.
    async fn new(rules: Rules, blocks: u64, named: bool) -> Self {
        Self::waiting(Duration::from_secs(20), rules, blocks, named).await
    }

    async fn waiting(deadline: Duration, rules: Rules, blocks: u64, named: bool) -> Self {
        let revision = Revision::Relay;
        let world = FakeChain::new(revision, answers::operator());
        world.mine_empty(40);
        let job = job(revision, CONSUMER, 7);
        let result = Signed::by(&answers::OPERATOR, answers::result(&job, b"out"));
        let tx = Tx::post(&job, &result.result, &result.signature, b"out");
        let node = Node::default();
        node.say(&job, if named { Says::Relayed(result, tx.hash) } else { Says::Done(result) });
        world.mine(vec![tx]);
        world.mine_empty(blocks);
        let server = json_chain::serve(world.chain(), rules).await;
        let chain = Chain::new(RpcReader::http(server.url()).expect("a reader"), JOB_MANAGER);
        let polling = PollPolicy::default().with_timeout(deadline);
        let client = Client::builder().transport(node.scripted(false)).revision(revision).chain(chain.clone());
        let client = client.polling(polling).connect().await.expect("a client");
        Self { chain, handle: client.resume(job).expect("resumed"), server }
    }

    async fn landed(&self) -> Result<Verified, Error> {
        self.handle.wait(Until::Finalized { confirmations: 3 }).await
    }
}

fn object_as_block(request: &Value) -> bool {
    matches!(request["method"].as_str(), Some("eth_call" | "eth_getCode")) && request["params"][1].is_object()
}

#[tokio::test]
async fn an_rpc_without_hashes_of_blocks_is_asked_by_number_and_that_is_kept() {
    type Form = (&'static str, Rules);
    let item = |code: i64, message: &'static str| {
        Rules::none().items(move |request| object_as_block(request).then(|| refusal(request, code, message)))
    };
    let whole = |reply: Reply| {
        Rules::none().packets(move |packet| {
            let mut all = packet.as_array().into_iter().flatten().chain(packet.is_object().then_some(packet));
            all.any(object_as_block).then(|| reply.clone())
        })
    };
    let forms: Vec<Form> = vec![
        // polygon-edge#253
        ("invalid params", item(-32602, "json: cannot unmarshal object into Go value of type string")),
        ("another code", item(-32600, "invalid block number or tag")),
        ("internal", item(-32603, "unexpected type")),
        ("as if it were behind", item(-32000, "header not found")),
        ("unknown block", item(-32001, "Unknown block")),
        (
            "null",
            Rules::none().items(|request| {
                object_as_block(request).then(|| json!({ "jsonrpc": "2.0", "id": request["id"], "result": null }))
            }),
        ),
        ("a status of its own", whole(http1::answer(500, "text/plain", "unexpected token"))),
        ("parse error", item(-32700, "Parse error")),
        ("unsupported", item(-32004, "block hash is not supported")),
        ("a text alone", item(0, "expected a string")),
        ("a status for all of it", whole(http1::answer(400, "text/plain", "Bad Request"))),
        (
            "an object for all of it",
            whole(http1::json(200, r#"{"id":null,"error":{"code":-32602,"message":"params"}}"#)),
        ),
    ];
    for (form, rules) in forms {
        let scene = Scene::new(rules, 5, true).await;
        scene.landed().await.unwrap_or_else(|error| panic!("{form}: {}", error.report()));
        let traits = scene.chain.rpc_traits();
        assert_eq!(traits.block_hashes, Some(false), "{form}: {traits:?}");
        assert_eq!(traits.max_batch, None, "{form}: it takes batches: {traits:?}");
        assert!(format!("{:?}", scene.chain).contains("block_hashes: Some(false)"), "{form}: {:?}", scene.chain);
        let asked = |server: &Server| {
            let seen = server.seen.lock().expect("seen");
            seen.iter().filter(|it| String::from_utf8_lossy(&it.body).contains("requireCanonical")).count()
        };
        let before = asked(&scene.server);
        scene.landed().await.expect("again");
        assert_eq!(asked(&scene.server), before, "{form}: nothing is asked by hash any more");
    }
    let scene = Scene::new(Rules::none(), 5, true).await;
    scene.landed().await.expect("landed");
    assert_eq!(scene.chain.rpc_traits().block_hashes, Some(true));
}

/// It takes hashes of blocks for calls, and none for code: bad news is not lost for that.
#[tokio::test]
async fn an_rpc_that_takes_hashes_for_some_questions_is_asked_by_number() {
    let (revision, signer) = (Revision::Relay, LocalSigner::random().expect("a key"));
    let node = DevNode::builder(revision).consumer(CONSUMER, ConsumerRules::signed_by(signer.address()));
    let node = node.start().await.expect("a node");
    let world = node.chain().to_chain();
    let rules = Rules::none().items(|request| {
        let code = request["method"] == "eth_getCode" && object_as_block(request);
        code.then(|| refusal(request, -32602, "invalid argument 1: json: cannot unmarshal object"))
    });
    let server = json_chain::serve(world.clone(), rules).await;
    let chain = Chain::new(RpcReader::http(server.url()).expect("a reader"), world.job_manager());
    let client = Client::builder().grpc(node.grpc_url()).revision(revision).signer(signer).chain(chain.clone());
    let client = client.connect().await.expect("a client");
    let program = node.register_program(|_| Ok(ProgramOutput::new(vec![1])));
    let job = OffchainJobRequest::builder(CONSUMER, program).nonce(1).max_cycles(1_000).build().expect("a job");
    let job = client.sign(job).await.expect("signed");
    node.chain().take_nonce(CONSUMER);
    for _ in 0..2 {
        let report = client.preflight(&job).await.unwrap_or_else(|error| panic!("{}", error.report()));
        let taken = report.findings().iter().any(|it| matches!(it.kind(), FindingKind::NonceTakenOnChain { .. }));
        assert!(taken && !report.will_land(), "{report}");
    }
    assert_eq!(chain.rpc_traits().block_hashes, Some(false));
}

/// Refuses logs of more than so many blocks, and counts both.
fn logs_of(most: u64, refuse: impl Fn(&Value) -> Value + Send + Sync + 'static) -> (Rules, Arc<[AtomicU64; 2]>) {
    let counts = Arc::<[AtomicU64; 2]>::default();
    let count = Arc::clone(&counts);
    let rules = Rules::none().items(move |request| {
        let span = span(request)?;
        count[usize::from(span > most)].fetch_add(1, SeqCst);
        (span > most).then(|| refuse(request))
    });
    (rules, counts)
}

#[tokio::test]
async fn ranges_of_logs_become_as_small_as_the_rpc_takes_whatever_it_says() {
    let texts = [
        (-32600, "You can make eth_getLogs requests with up to a 10 block range"),
        (-32602, "limited to 10,000 blocks"),
        (-32005, "query returned more than 10000 results"),
        (-32000, "query timeout exceeded"),
        (-32000, "block range is too wide"),
        (-32012, "eth_getLogs is limited to a 10 range"),
        (35, "ranges over 10 blocks are not supported on freetier"),
        (-32603, "Internal error"),
        // BNB Chain's public RPCs.
        (-32005, "limit exceeded"),
        (-32005, "query exceeds limit"),
        (429, "block range limit exceeded"),
        (-32000, "context deadline exceeded"),
        (-32000, "response size exceeded 10MB"),
        (-32016, "maximum block range: 10"),
        (3, "exceed maximum block range: 10"),
        // As limits of a rate are told.
        (429, "query returned more than 10000 results"),
        (429, "too many results: narrow the range"),
        (-32005, "query returned more than 10000 results. Try again in 1s with a narrower range"),
        (-32016, "rate limit: eth_getLogs takes a range of 10 blocks on the free plan"),
    ];
    for (code, text) in texts {
        let (rules, counts) = logs_of(10, move |request| refusal(request, code, text));
        let scene = Scene::new(rules, 17, false).await;
        let landed = scene.landed().await.unwrap_or_else(|error| panic!("{text}: {}", error.report()));
        assert_eq!(landed.finality().map(|finality| finality.confirmations), Some(18), "{text}");
        let [_, refused] = [0, 1].map(|index| counts[index].load(SeqCst));
        assert!((1..=10).contains(&refused), "{text}: {refused} refused");
        assert!(scene.chain.rpc_traits().log_range.is_some_and(|range| range <= 10), "{text}: {:?}", scene.chain);
        assert_eq!(scene.chain.rpc_traits().max_rate, None, "{text}: it was no rate");
        for _ in 0..5 {
            scene.landed().await.expect("again");
        }
        assert_eq!(counts[1].load(SeqCst), refused, "{text}: nothing is refused any more");
    }
}

/// The same where it is the whole request that is refused, or comes to nothing, if it asks for too many blocks.
#[tokio::test]
async fn ranges_of_logs_become_small_also_where_all_that_is_asked_with_them_is_refused() {
    let limit = |code: i64| {
        http1::json(200, json!({ "id": null, "error": { "code": code, "message": "limit exceeded" } }).to_string())
    };
    let forms: Vec<(&str, Reply)> = vec![
        ("400", http1::answer(400, "text/plain", "Bad Request")),
        ("403", http1::answer(403, "text/html", "<html>blocked</html>")),
        ("413", http1::answer(413, "text/plain", "eth_getLogs is limited to a 10 range")),
        ("422", http1::answer(422, "", "")),
        ("500", http1::answer(500, "text/plain", "Internal Server Error")),
        ("503", http1::answer(503, "", "")),
        ("504", http1::answer(504, "text/html", "<html>gateway time-out</html>")),
        ("closed", Reply::Close(Vec::new())),
        ("an object", limit(-32602)),
        ("a limit", limit(-32005)),
        ("no JSON", http1::answer(200, "text/plain", "query timeout")),
        // By the status of a rate, or of overload, and with a pause, which would change nothing.
        ("429", http1::answer(429, "text/plain", "query returned more than 10000 results")),
        ("429 and a pause", paused(429, "the block range is too wide for the free tier")),
        ("429 in JSON", paused(429, &code_and_text(-32005, "eth_getLogs: more than 10 blocks"))),
        ("413 and a pause", paused(413, "response too large: too many logs")),
        ("503 and a pause", paused(503, "the range of blocks is too large, try a smaller one")),
        ("an object with 429", limit_of_results()),
    ];
    for (form, reply) in forms {
        let refused = Arc::<AtomicU64>::default();
        let count = Arc::clone(&refused);
        let rules = Rules::none().packets(move |packet| {
            let mut all = packet.as_array().into_iter().flatten().chain(packet.is_object().then_some(packet));
            let wide = all.any(|request| span(request).is_some_and(|span| span > 10));
            count.fetch_add(u64::from(wide), SeqCst);
            wide.then(|| reply.clone())
        });
        let scene = Scene::new(rules, 17, false).await;
        let landed = scene.landed().await.unwrap_or_else(|error| panic!("{form}: {}", error.report()));
        assert_eq!(landed.finality().map(|finality| finality.confirmations), Some(18), "{form}");
        assert!(scene.chain.rpc_traits().log_range.is_some_and(|range| range <= 10), "{form}: {:?}", scene.chain);
        // Those that come to nothing may have taken some reads more.
        for _ in 0..3 {
            scene.landed().await.unwrap_or_else(|error| panic!("{form}: {}", error.report()));
        }
        let before = refused.load(SeqCst);
        for _ in 0..3 {
            scene.landed().await.unwrap_or_else(|error| panic!("{form}: {}", error.report()));
        }
        assert_eq!(refused.load(SeqCst), before, "{form}: nothing is refused any more");
        assert_eq!(scene.chain.rpc_traits().max_rate, None, "{form}: it was no rate");
    }
}

/// A refusal with a pause that no test waits for.
fn paused(status: u16, text: &str) -> Reply {
    let head = format!("HTTP/1.1 {status} Some\r\ncontent-type: application/json\r\nretry-after: 600\r\n");
    Reply::Keep(format!("{head}content-length: {}\r\n\r\n{text}", text.len()).into())
}

fn code_and_text(code: i64, text: &str) -> String {
    json!({ "id": null, "error": { "code": code, "message": text } }).to_string()
}

fn limit_of_results() -> Reply {
    http1::json(200, code_and_text(429, "query returned more than 10000 results"))
}

/// The same where nothing tells it from a limit of a rate: pauses are kept, and the range becomes small all the same.
#[tokio::test(start_paused = true)]
async fn ranges_of_logs_become_small_also_where_they_are_told_to_wait() {
    #[derive(Debug)]
    struct Told {
        chain: Chain,
        whole: bool,
        refused: Arc<AtomicU64>,
    }

    #[async_trait]
    impl ChainReader for Told {
        async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer, Error>>, Error> {
            let wide =
                |question: &Question| matches!(question, Question::Logs(it) if it.to_block - it.from_block >= 10);
            let wait = || {
                self.refused.fetch_add(1, SeqCst);
                let error = Error::new(ErrorKind::Chain, "Too Many Requests").with_retryable(true);
                error.with_retry_after(Duration::from_secs(1))
            };
            if self.whole && questions.iter().any(wide) {
                return Err(wait());
            }
            let mut answers = self.chain.reader().ask(questions).await?;
            for (question, answer) in questions.iter().zip(&mut answers) {
                if wide(question) {
                    *answer = Err(wait());
                }
            }
            Ok(answers)
        }

        async fn next_head(&self, known: Option<B256>) -> Result<Block, Error> {
            self.chain.reader().next_head(known).await
        }

        fn endpoint(&self) -> &str {
            "told"
        }
    }

    for whole in [false, true] {
        let (world, job, node) = (FakeChain::new(Revision::Relay, answers::operator()), seventh(), Node::default());
        world.mine_empty(40);
        let result = Signed::by(&answers::OPERATOR, answers::result(&job, b"out"));
        let tx = Tx::post(&job, &result.result, &result.signature, b"out");
        node.say(&job, Says::Done(result));
        world.mine(vec![tx]);
        world.mine_empty(17);
        let refused = Arc::<AtomicU64>::default();
        let reader = Told { chain: world.chain(), whole, refused: Arc::clone(&refused) };
        let chain = Chain::new(reader, JOB_MANAGER).with_retry(RetryPolicy::none());
        let client = Client::builder().transport(node.scripted(false)).revision(Revision::Relay).chain(chain.clone());
        let client = client.connect().await.expect("a client");
        let handle = client.resume(job).expect("resumed");
        let landed = async || handle.wait(Until::Finalized { confirmations: 3 }).await;
        for _ in 0..5 {
            landed().await.unwrap_or_else(|error| panic!("{whole}: {}", error.report()));
        }
        let before = refused.load(SeqCst);
        // Few enough that no larger range is tried again.
        for _ in 0..3 {
            landed().await.unwrap_or_else(|error| panic!("{whole}: {}", error.report()));
        }
        assert_eq!(refused.load(SeqCst), before, "{whole}: nothing is refused any more: {chain:?}");
        assert!((1..=24).contains(&before), "{whole}: {before}");
        assert!(chain.rpc_traits().log_range.is_some_and(|range| range <= 10), "{whole}: {chain:?}");
    }
}

fn seventh() -> SignedJob {
    job(Revision::Relay, CONSUMER, 7)
}

/// How many blocks a question for logs spans.
fn span(request: &Value) -> Option<u64> {
    let number = |name: &str| {
        let text = request["params"][0][name].as_str()?;
        u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
    };
    (request["method"] == "eth_getLogs").then(|| Some(number("toBlock")? + 1 - number("fromBlock")?))?
}

#[tokio::test]
async fn growing_a_range_again_costs_one_refusal_in_a_hundred() {
    let (rules, counts) = logs_of(10, |request| refusal(request, -32602, "too wide"));
    let scene = Scene::new(rules, 17, false).await;
    scene.landed().await.expect("landed");
    let learnt = counts[1].load(SeqCst);
    for _ in 0..120 {
        scene.landed().await.expect("landed");
    }
    let [taken, refused] = [0, 1].map(|index| counts[index].load(SeqCst));
    assert!(taken > 200 && (refused - learnt) * 100 <= taken, "{refused} - {learnt} of {taken}");
    assert!(scene.chain.rpc_traits().log_range.is_some_and(|range| range > 7), "{:?}", scene.chain);
}

#[tokio::test]
async fn an_rpc_that_refuses_the_logs_of_one_block_is_told_with_the_remedy() {
    let (rules, counts) = logs_of(0, |request| refusal(request, -32601, "eth_getLogs is not available"));
    let scene = Scene::waiting(Duration::from_secs(4), rules, 5, false).await;
    let wait = scene.handle.wait(Until::Finalized { confirmations: 3 });
    let error = match tokio::time::timeout(Duration::from_secs(60), wait).await.expect("a deadline") {
        Ok(result) => panic!("{result:?}"),
        Err(error) => error,
    };
    let report = error.report().to_string();
    assert!(report.contains("Chain::with_log_range") && report.contains("eth_getLogs is not available"), "{report}");
    assert!(counts[0].load(SeqCst) == 0);
}
