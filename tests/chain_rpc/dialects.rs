//! The dialects of JSON-RPC that nodes and free tiers speak: what each takes, and the words and forms in which it
//! refuses the rest, as their sources and public reports have it. The same jobs are read through each of them: once
//! with the bounds that it comes with, and once with narrow ones in the same words, as operators set them.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use infinityvm_sdk::{
    Cause, Client, LocalSigner, OffchainJobRequest, ProgramId, Revision, Until,
    chain::{Answer, At, Call, Chain, ChainReader, Question, RpcReader, RpcTraits},
    devnode::{ConsumerRules, DevNode, ProgramOutput},
    nonce::Sequential,
    primitives::{Address, B256},
};
use serde_json::{Value, json};

use crate::{
    http1::{self, Reply},
    json_chain::{self, Rules, refusal},
    rig::{answering, each, failure},
};

const CONSUMER: Address = Address::repeat_byte(0xc0);

/// A refusal of a batch: of these questions, by an RPC that takes so many.
type TooMany = fn(&[Value], usize) -> Reply;
/// A refusal of logs of more than so many blocks: the HTTP status where it was the only question, the code, the text.
type TooWide = fn(u64) -> (u16, i64, String);
/// The error of a call that reverts with these bytes, which are hex.
type Reverted = fn(&str) -> Value;

struct Dialect {
    name: &'static str,
    /// The most questions at once, if that is known.
    batch: Option<(usize, TooMany)>,
    /// The most blocks of one question for logs, if there is a bound.
    range: Option<(u64, TooWide)>,
    /// What it says of a block that it does not have, or not yet.
    unknown_block: Vec<(i64, &'static str)>,
    /// How calls revert; the last form is the one of the whole scenario.
    reverted: Vec<Reverted>,
    /// How it refuses what is too much in a time.
    throttled: Option<fn() -> Reply>,
}

fn whole(status: u16, id: &Value, code: i64, message: &str) -> Reply {
    http1::json(status, refusal(&json!({ "id": id }), code, message).to_string())
}

/// go-ethereum, since 2022 (execution-apis#600); anvil since foundry#2034 (hardhat#8043 records both).
fn code_three(data: &str) -> Value {
    json!({ "code": 3, "message": "execution reverted", "data": data })
}

fn table() -> Vec<Dialect> {
    vec![
        Dialect {
            name: "geth",
            // go-ethereum#26681: 1000 items; the error stands for the first of them. The code and words: base/node#234.
            batch: Some((1000, |batch, _| {
                http1::json(200, json!([refusal(&batch[0], -32600, "batch too large")]).to_string())
            })),
            range: None,
            // nethermind#11173 (what geth says); reth#7368 (mevblocker's, by hash).
            unknown_block: vec![
                (-32000, "header not found"),
                (-32000, "block 230d842afd1faceaa3c5c0dacd24228747565c441ed5e1e3a9306c2c6b55d619 not found"),
            ],
            reverted: vec![code_three],
            throttled: None,
        },
        Dialect {
            name: "reth",
            // Unbounded by default (bnb-chain/reth#210). The words of its server library: AcalaNetwork/subway#183.
            batch: Some((1000, |_, most| {
                let mut error = refusal(&json!({ "id": null }), -32010, "The batch request was too large");
                error["error"]["data"] = json!(format!("Exceeded max limit of {most}"));
                http1::json(200, error.to_string())
            })),
            // reth#8558; 100000 by default: foundry#12687.
            range: Some((100_000, |most| (200, -32602, format!("query exceeds max block range {most}")))),
            // reth#7368, #5696.
            unknown_block: vec![(-32001, "unknown block number")],
            reverted: vec![code_three],
            throttled: None,
        },
        Dialect {
            name: "Erigon",
            // erigon#17245: 100, and an object in place of the list; erigon#7072: the older words.
            batch: Some((100, |batch, most| {
                let text = format!(
                    "batch limit {most} exceeded (can increase by --rpc.batch.limit). Requested batch of size: {}",
                    batch.len()
                );
                whole(200, &Value::Null, -32000, &text)
            })),
            // erigon#20784: 1000 since 3.4.
            range: Some((1000, |most| {
                (200, -32000, format!("query block range exceeds server limit, narrow your filter: {most}"))
            })),
            unknown_block: vec![],
            // bsc-erigon#279, erigon#17132: before, without data and with another code; geth's since then.
            reverted: vec![code_three, |data| match data {
                "0x" => json!({ "code": -32000, "message": "execution reverted" }),
                data => code_three(data),
            }],
            throttled: None,
        },
        Dialect {
            name: "Nethermind",
            // nethermind#5122, and JsonRpcProcessor.cs: an object without an id, LimitExceeded.
            batch: Some((100, |_, _| whole(200, &Value::Null, -32005, "Batch size limit exceeded"))),
            range: None,
            // nethermind#11173.
            unknown_block: vec![(-32000, "4294967295 could not be found")],
            reverted: vec![
                // nethermind#11176.
                |data| json!({ "code": 3, "message": "execution reverted: revert", "data": data }),
                // viem#4092.
                |data| json!({ "code": -32000, "message": "execution reverted", "data": data }),
                // watch-tower#11 of cowprotocol; nethermind#5740 and #6024 for no data.
                |data| json!({ "code": -32015, "message": "VM execution error.", "data": format!("Reverted {data}") }),
                // nethermind#8813.
                |data| {
                    let what = if data == "0x" { "revert" } else { data };
                    let what = format!("err: {what} (supplied gas 36000000)");
                    json!({ "code": -32015, "message": "VM execution error.", "data": what })
                },
            ],
            throttled: None,
        },
        Dialect {
            name: "Besu",
            // JsonRpcArrayExecutor.java, RpcErrorType.java: an object without an id. The option and 50: besu#4951.
            batch: Some((50, |_, _| whole(200, &Value::Null, -32005, "Number of requests exceeds max batch size"))),
            // besu#4597, RpcErrorType.java; the number is this table's.
            range: Some((5000, |_| (200, -32005, "Requested range exceeds maximum RPC range limit".into()))),
            // RpcErrorType.java.
            unknown_block: vec![
                (-39001, "Unknown block"),
                (-32000, "Block not found"),
                (-32000, "World state unavailable"),
            ],
            // RpcErrorType.java; hiero-json-rpc-relay#2829 shows the whole.
            reverted: vec![|data| json!({ "code": -32000, "message": "Execution reverted", "data": data })],
            throttled: None,
        },
        Dialect {
            name: "anvil",
            batch: None,
            range: None,
            // foundry#10709, #4082, #4843.
            unknown_block: vec![(-32602, "BlockOutOfRangeError: block height is 105 but requested was 106")],
            // foundry#1917 before foundry#2034.
            reverted: vec![
                |data| json!({ "code": -32003, "message": "execution reverted: !authorized", "data": data }),
                code_three,
            ],
            throttled: None,
        },
        Dialect {
            name: "Alchemy's free tier",
            // Its page on batches: 1000, "less reliable" above; no words are known, so none is refused here.
            batch: None,
            // boundless#838 (with the status), rollups-node#655 of cartesi.
            range: Some((499, |_| {
                let text = "You can make eth_getLogs requests with up to a 500 block range. Based on your parameters, \
                            this block range should work: [0x1a30dfd, 0x1a30ff0]";
                (400, -32600, text.into())
            })),
            unknown_block: vec![],
            reverted: vec![code_three],
            // kwenta#40 of Synthetixio, conduitxyz/node#36.
            throttled: Some(|| {
                let text = "Your app has exceeded its compute units per second capacity. If you have retries enabled, \
                            you can safely ignore this message.";
                whole(429, &json!(50), 429, text)
            }),
        },
        Dialect {
            name: "dRPC's free tier",
            // hemilabs/ui-monorepo#887 (500 above 3); words and code: getRpcProvider.ts of AmbireTech/ambire-common.
            batch: Some((3, |_, most| {
                let text = format!("Batch of more than {most} requests are not allowed on free tier");
                whole(500, &Value::Null, 31, &text)
            })),
            // foundry#12687.
            range: Some((10_000, |most| (200, 35, format!("ranges over {most} blocks are not supported on freetier")))),
            unknown_block: vec![],
            reverted: vec![code_three],
            // hyperindex#715: a timeout of the tier's own.
            throttled: Some(|| {
                let text = "Request timeout on the free tier, please upgrade your tier to the paid one";
                whole(200, &Value::Null, 30, text)
            }),
        },
        Dialect {
            name: "QuickNode's free tier",
            batch: None,
            // The documentation of its eth_getLogs: 5 blocks. Status, code and words: arbitrum-sdk#609, eternalsafe#57.
            range: Some((5, |most| (413, -32614, format!("eth_getLogs is limited to a {most} range")))),
            unknown_block: vec![],
            reverted: vec![code_three],
            throttled: None,
        },
        Dialect {
            name: "Infura's free tier",
            batch: None,
            // infura#237.
            range: Some((10_000, |most| (200, -32602, format!("range 1000000 exceeds limit of {most}")))),
            unknown_block: vec![],
            reverted: vec![code_three],
            // infura#201.
            throttled: Some(|| {
                let rate = json!({ "allowed_rps": 50, "backoff_seconds": 0, "current_rps": 52.3 });
                let mut error = refusal(&json!({ "id": 3419 }), -32005, "project ID request rate exceeded");
                error["error"]["data"] = json!({ "rate": rate });
                http1::json(429, error.to_string())
            }),
        },
    ]
}

/// How wide a question for logs is.
fn span(request: &Value) -> Option<u64> {
    let number = |name: &str| {
        let text = request["params"][0][name].as_str()?;
        u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
    };
    (request["method"] == "eth_getLogs").then(|| Some(number("toBlock")? + 1 - number("fromBlock")?))?
}

/// The dialect as rules, with these bounds. The ninth request of all is refused for the rate, if it has one.
fn spoken(dialect: &Dialect, most: Option<usize>, widest: Option<u64>) -> Rules {
    let too_many = dialect.batch.map(|(_, form)| form).zip(most);
    let too_wide = dialect.range.map(|(_, form)| form).zip(widest);
    let (throttled, asked) = (dialect.throttled, AtomicUsize::new(0));
    let refused = move |request: &Value| {
        let (form, widest) = too_wide.filter(|(_, widest)| span(request).is_some_and(|span| span > *widest))?;
        Some(form(widest))
    };
    let reverted = *dialect.reverted.last().expect("a form");
    let rules = Rules::none().packets(move |packet| {
        if let Some(form) = throttled.filter(|_| asked.fetch_add(1, SeqCst) == 8) {
            return Some(form());
        }
        match packet {
            Value::Array(batch) => {
                too_many.filter(|(_, most)| batch.len() > *most).map(|(form, most)| form(batch, most))
            }
            one => refused(one).map(|(status, code, text)| whole(status, &one["id"], code, &text)),
        }
    });
    let items = move |request: &Value| refused(request).map(|(_, code, text)| refusal(request, code, &text));
    rules.items(items).reverts(reverted)
}

/// A job that landed so many blocks ago, whose node does not know by which transaction, is read through the dialect
/// with these bounds: everything comes out as it is. Returns the requests that it took, and what was learnt.
async fn scenario(dialect: &Dialect, blocks: u64, most: Option<usize>, widest: Option<u64>) -> (usize, RpcTraits) {
    let (name, revision) = (dialect.name, Revision::Relay);
    let (signer, stranger) = (LocalSigner::random().expect("a key"), LocalSigner::random().expect("a key"));
    let node = DevNode::builder(revision).consumer(CONSUMER, ConsumerRules::signed_by(signer.address()));
    let node = node.start().await.expect("a node");
    let program = ProgramId::new(node.register_program(|_| Ok(ProgramOutput::new(vec![1]))));
    let request = |input: u8| {
        let job = OffchainJobRequest::builder(CONSUMER, program.clone()).max_cycles(1000);
        job.onchain_input(vec![input]).build().expect("a job")
    };
    let server = json_chain::serve(node.chain().to_chain(), spoken(dialect, most, widest)).await;
    let chain = Chain::new(RpcReader::http(server.url()).expect("a reader"), node.chain().job_manager());
    let client = Client::builder().grpc(node.grpc_url()).revision(revision).signer(signer).chain(chain.clone());
    let client = client.nonces(Sequential::starting_at(1)).connect().await.expect("a client");
    node.chain().mine(40);

    let job = client.sign(request(1)).await.expect("signed");
    let report = client.preflight(&job).await.unwrap_or_else(|error| panic!("{name}: {}", error.report()));
    assert!(report.will_land(), "{name}: {report}");
    let refused = request(2).prepare(revision, 9).expect("prepared").sign(&stranger).await.expect("signed");
    let report = client.preflight(&refused).await.unwrap_or_else(|error| panic!("{name}: {}", error.report()));
    assert!(!report.will_land(), "{name}: a stranger's: {report}");

    node.faults().lose_relayed_records(1);
    let handle = client.submit_signed(job.clone()).await.expect("submitted");
    node.wait_until(|view| view.stats().relay_attempts(job.id().into()) == 1).await;
    let landed = node.chain().completed(job.id().into()).expect("it landed");
    node.chain().mine(blocks);

    let nonces = (chain.next_nonce(CONSUMER).await, chain.max_nonce(CONSUMER).await);
    let nonces = (nonces.0.expect("a nonce"), nonces.1.expect("a nonce"));
    let truth = (node.chain().next_nonce(CONSUMER), node.chain().max_nonce(CONSUMER));
    assert_eq!((Some(nonces.0), Some(nonces.1)), truth, "{name}");
    // The consumer has no state, so the call reverts.
    let state = chain.latest_state(CONSUMER, revision).await;
    assert_eq!(state.unwrap_or_else(|error| panic!("{name}: {}", error.report())), None, "{name}");

    let wait = handle.wait(Until::Finalized { confirmations: 3 }).await;
    let result = wait.unwrap_or_else(|error| panic!("{name}: {}", error.report()));
    let finality = result.finality().expect("final");
    assert_eq!(finality.confirmations, blocks + 1, "{name}: {landed:?}");
    let diagnosis = client.diagnose(&job).await.unwrap_or_else(|error| panic!("{name}: {}", error.report()));
    assert_eq!(diagnosis.cause(), &Cause::Complete, "{name}: {diagnosis}");
    (server.requests(), chain.rpc_traits())
}

#[tokio::test]
async fn every_dialect_is_read_right_with_the_bounds_that_it_comes_with() {
    for dialect in table() {
        let (most, widest) = (dialect.batch.map(|(most, _)| most), dialect.range.map(|(widest, _)| widest));
        let (requests, traits) = scenario(&dialect, 600, most, widest).await;
        // Nothing is met by most, and then no list is taken apart.
        let met = most.is_some_and(|most| most < LARGEST) || widest.is_some_and(|widest| widest < 600);
        bounded(&dialect, requests, if met || dialect.throttled.is_some() { 100 } else { 25 });
        learnt(&dialect, &traits, most, widest.filter(|widest| *widest < 600));
    }
}

#[tokio::test]
async fn every_dialect_is_read_right_with_narrow_bounds_in_the_same_words() {
    for dialect in table() {
        for most in [3, 1] {
            let (most, widest) = (dialect.batch.map(|_| most), dialect.range.map(|_| 4));
            let (requests, traits) = scenario(&dialect, 30, most, widest).await;
            bounded(&dialect, requests, 180);
            learnt(&dialect, &traits, most, widest);
        }
    }
}

/// More questions than this are in no request of the scenario's.
const LARGEST: usize = 20;

fn bounded(dialect: &Dialect, requests: usize, most: usize) {
    assert!(requests <= most, "{}: {requests} requests", dialect.name);
}

/// What was learnt is true, and not more than was met.
fn learnt(dialect: &Dialect, traits: &RpcTraits, most: Option<usize>, widest: Option<u64>) {
    let name = dialect.name;
    assert_eq!(traits.block_hashes, Some(true), "{name}: {traits:?}");
    let batch = most.filter(|most| *most < LARGEST).map(|most| most as u64);
    match dialect.throttled {
        // A list that is refused for the rate, without a pause, may as well have been too long. Larger ones are tried
        // again later, so what is kept until then is only never too much.
        Some(_) => {
            assert!(batch.is_none_or(|most| traits.max_batch.is_some_and(|it| it <= most)), "{name}: {traits:?}")
        }
        None => assert_eq!(traits.max_batch, batch, "{name}: {traits:?}"),
    }
    assert_eq!(traits.log_range.is_some(), widest.is_some(), "{name}: {traits:?}");
    assert!(traits.log_range <= widest, "{name}: {traits:?}");
}

#[tokio::test]
async fn the_words_for_a_block_that_is_not_there_are_worth_another_try_in_every_dialect() {
    for dialect in table() {
        for (code, text) in dialect.unknown_block {
            let error = json!({ "code": code, "message": text });
            let (_server, reader) = answering(move |packet| each(packet, |it| failure(it, error.clone()))).await;
            let call = Question::Call(Call::new(Address::ZERO, vec![]), At::Hash(B256::repeat_byte(1)));
            let error = reader.ask(&[call]).await.expect("asked").remove(0).expect_err("no such block");
            assert!(error.is_retryable(), "{}: {text}: {}", dialect.name, error.report());
        }
    }
}

#[tokio::test]
async fn what_a_call_reverted_with_is_read_in_every_dialect() {
    for dialect in table() {
        for (number, form) in dialect.reverted.iter().copied().enumerate() {
            for data in ["0x", "0xdf2d9b42"] {
                let (_server, reader) = answering(move |packet| each(packet, |it| failure(it, form(data)))).await;
                let call = Question::Call(Call::new(Address::ZERO, vec![]), At::Latest);
                let answer = reader.ask(&[call]).await.expect("asked").remove(0);
                let expected = Answer::Reverted(data.parse().expect("hex"));
                let shown = format!("{}, form {number}, {data}", dialect.name);
                assert_eq!(answer.unwrap_or_else(|error| panic!("{shown}: {}", error.report())), expected, "{shown}");
            }
        }
    }
}
