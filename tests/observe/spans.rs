//! Spans: who is whose parent, what they are called, and what they hold.

use infinityvm_sdk::{
    RetryPolicy, Until,
    chain::{At, ChainReader, Question, RpcReader},
    primitives::{Address, B256},
};
use serde_json::Value;
use support::canary::hides;
use tracing::{Instrument, Level, info_span};

use crate::{
    http1,
    json_chain::{self, Rules},
    rig::{Mood, Node, builder, connected, consumer, devnode, job},
    traces::{TEST, Traces},
};

pub const SUBMIT_JOB: &str = "coprocessor_node.v1.CoprocessorNode/SubmitJob";
pub const GET_RESULT: &str = "coprocessor_node.v1.CoprocessorNode/GetResult";

/// What the guide's trace shows of each span.
const SHOWN: [&str; 4] = ["infinityvm.attempt", "rpc.response.status_code", "error.type", "infinityvm.outcome"];

/// The trace of one job with a lost reply, as the guide prints it.
pub async fn lost_reply() -> (Traces, String) {
    let node = Node::default();
    let client = connected(builder(&node.scripted())).await;
    // With the first submission it asks the node who it is, once.
    client.submit(job()).await.unwrap();
    let (traces, _guard) = Traces::here();
    node.next([Mood::Loses]);
    let order = info_span!(target: TEST, "order");
    async {
        let handle = client.submit(job()).await.unwrap();
        handle.wait(Until::Executed).await.unwrap();
    }
    .instrument(order)
    .await;
    let root = traces.named("order").remove(0);
    let tree = traces.tree(root.id, &SHOWN);
    (traces, tree)
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_one_tree_below_the_callers_span() {
    let (traces, tree) = lost_reply().await;
    assert_eq!(traces.spans().iter().filter(|span| span.parent.is_none()).count(), 1, "{tree}");
    for span in traces.spans() {
        assert!(span.closed, "{} is still open: {tree}", span.name);
        let level = if ["order", "submit", "wait"].contains(&span.name) { Level::INFO } else { Level::DEBUG };
        assert_eq!(span.level, level, "{}", span.name);
    }
    let submit = &traces.named("submit")[0].fields;
    assert_eq!(submit.get("infinityvm.nonce"), Some("2"));
    assert_eq!(submit.get("infinityvm.lane"), Some("ordered"));
    assert_eq!(submit.get("infinityvm.consumer"), Some(&*consumer().to_string()));
    for name in ["flight", "wait", "look"] {
        assert_eq!(traces.named(name)[0].fields.get("infinityvm.job.id"), submit.get("infinityvm.job.id"), "{name}");
    }
    let call = &traces.named(SUBMIT_JOB)[0].fields;
    for (name, value) in [
        ("otel.kind", "client"),
        ("rpc.system.name", "grpc"),
        ("rpc.method", SUBMIT_JOB),
        ("rpc.response.status_code", "UNAVAILABLE"),
        ("error.type", "interrupted"),
        ("server.address", "scripted"),
        ("otel.status_code", "ERROR"),
    ] {
        assert_eq!(call.get(name), Some(value), "{name}");
    }
    assert!(call.get("server.port").is_none());
    let call = &traces.named(GET_RESULT)[0].fields;
    assert_eq!((call.get("rpc.response.status_code"), call.get("error.type")), (Some("OK"), None));
}

#[tokio::test(start_paused = true)]
async fn callers_who_share_a_flight_or_a_look_are_linked_to_it() {
    let (traces, _guard) = Traces::here();
    let node = Node::default();
    let client = connected(builder(&node.scripted())).await;
    let signed = client.sign(job()).await.unwrap();
    let submit = |name: u64| {
        let (client, signed) = (client.clone(), signed.clone());
        async move { client.submit_signed(signed).await.unwrap() }.instrument(info_span!(target: TEST, "caller", name))
    };
    let (one, two) = tokio::join!(submit(1), submit(2));
    let submits = traces.named("submit");
    let flights = traces.named("flight");
    assert_eq!((submits.len(), flights.len()), (2, 1));
    assert_eq!(flights[0].parent, Some(submits[0].id), "the first caller's");
    assert_eq!(submits[1].follows, [flights[0].id], "the other one is linked");

    let wait = |handle: infinityvm_sdk::JobHandle| async move { handle.wait(Until::Executed).await.unwrap() };
    tokio::join!(wait(one), wait(two));
    let (waits, looks) = (traces.named("wait"), traces.named("look"));
    assert_eq!((waits.len(), looks.len()), (2, 1));
    assert_eq!((looks[0].parent, &looks[0].follows), (Some(waits[0].id), &vec![waits[1].id]));
    assert_eq!(looks[0].fields.get("infinityvm.outcome"), Some("executed"));
    assert_eq!(traces.named(GET_RESULT).last().unwrap().parent, Some(looks[0].id));
}

#[tokio::test(start_paused = true)]
async fn events_stand_in_the_span_that_they_are_about() {
    let (traces, _guard) = Traces::here();
    let node = Node::default();
    let client = connected(builder(&node.scripted())).await;
    node.next([Mood::Away]);
    node.set_failing();
    let handle = client.submit(job()).await.unwrap();
    let repeated = traces.said("repeated");
    assert_eq!((repeated.len(), repeated[0].level), (1, Level::DEBUG));
    assert_eq!(repeated[0].span, Some(traces.named("flight")[0].id));
    assert_eq!(repeated[0].fields.get("rpc.method"), Some(SUBMIT_JOB));
    handle.wait(Until::Executed).await.unwrap_err();
    let stalled = traces.said("lane stalled");
    assert_eq!((stalled.len(), stalled[0].level), (1, Level::WARN));
    assert_eq!(stalled[0].fields.get("infinityvm.nonce"), Some("1"));
    assert_eq!(stalled[0].span, Some(traces.named("wait")[0].id));
    let wait = &traces.named("wait")[0].fields;
    assert_eq!((wait.get("error.type"), wait.get("otel.status_code")), (Some("job_failed"), Some("ERROR")));
    client.sign(job()).await.unwrap();
    let quarantined = traces.said("quarantined");
    assert_eq!((quarantined.len(), quarantined[0].level), (1, Level::INFO));
}

#[tokio::test]
async fn over_rest_calls_are_named_by_the_conventions_for_http_and_nothing_secret_shows() {
    let (traces, _guard) = Traces::here();
    let ((node, builder, job), secret) = (devnode().await, b"a payload that is nobody's business".to_vec());
    let builder = builder.rest(node.rest_url()).operator(node.operator());
    let builder = builder.chain(node.chain().to_chain()).poster(node.chain().account(consumer()));
    let client = builder.connect().await.unwrap();
    node.faults().stall_relays(true);
    let job = job.onchain_input(secret.clone());
    let with_more = job.clone().offchain_input(secret.clone()).build().unwrap();
    client.submit(with_more).await.unwrap().wait(Until::Executed).await.unwrap();
    let signed = client.sign(job.build().unwrap()).await.unwrap();
    client.preflight(&signed).await.unwrap();
    let handle = client.submit_signed(signed.clone()).await.unwrap();
    let result = handle.wait(Until::Executed).await.unwrap();
    // The second one joins the first.
    let (posted, joined) = tokio::join!(handle.post_result(&result), handle.post_result(&result));
    assert_eq!(posted.unwrap(), joined.unwrap());
    let posts = traces.named("post");
    assert_eq!((posts.len(), &posts[0].follows, &posts[1].follows), (2, &vec![], &vec![posts[0].id]));

    let url = url(&node.rest_url());
    let call = &traces.named("POST /v1/coprocessor_node/submit_job")[0].fields;
    for (name, value) in [
        ("otel.kind", "client"),
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
        ("url.template", "/v1/coprocessor_node/submit_job"),
        ("url.full", &*format!("http://{}:{}/v1/coprocessor_node/submit_job", url.0, url.1)),
        ("server.address", &*url.0),
        ("server.port", &*url.1),
    ] {
        assert_eq!(call.get(name), Some(value), "{name}");
    }
    assert!(call.get("rpc.system.name").is_none());
    for name in ["preflight", "submit", "flight", "wait", "look", "post"] {
        assert!(!traces.named(name).is_empty(), "{name}");
    }
    // One that finds nothing amiss, or says how severe the worst is.
    let worst = client.preflight(&signed).await.unwrap().worst().map_or("ok".to_owned(), |worst| worst.to_string());
    let outcome = traces.named("preflight").last().unwrap().fields.get("infinityvm.outcome").map(str::to_owned);
    assert_eq!(outcome, Some(worst));
    let printed = traces.printed();
    hides(signed.signature(), &printed, "a trace");
    hides(&secret, &printed, "a trace");
    hides(result.operator_signature(), &printed, "a trace");
}

/// As where a gateway knows who calls by the address.
#[tokio::test]
async fn a_key_in_the_path_of_a_gateway_does_not_show() {
    let (traces, _guard) = Traces::here();
    let (node, builder, job) = devnode().await;
    let client = builder.rest(format!("{}/a-key-of-the-users-own", node.rest_url())).revision(node.revision());
    let client = client.retry(RetryPolicy::none()).connect().await.unwrap();
    client.submit(job.build().unwrap()).await.unwrap_err();
    let call = &traces.named("POST /v1/coprocessor_node/submit_job")[0].fields;
    assert_eq!((call.get("url.full"), call.get("server.port").is_some()), (None, true));
    hides(b"a-key-of-the-users-own", &traces.printed(), "a trace");
}

#[tokio::test]
async fn a_request_to_the_chains_rpc_is_named_by_its_method_below_the_callers_span() {
    let (node, ..) = devnode().await;
    let fails = |packet: &Value| (packet["method"] == "eth_getCode").then(|| http1::json(403, "{}"));
    let server = json_chain::serve(node.chain().to_chain(), Rules::none().packets(fails)).await;
    let reader = RpcReader::http(server.url()).unwrap();
    let (traces, _guard) = Traces::here();
    let ask = async |questions: &[Question]| {
        let root = info_span!(target: TEST, "caller");
        let before = traces.spans().len();
        let answers = reader.ask(questions).instrument(root).await;
        (traces.spans().split_off(before), answers)
    };
    let (at, hash) = (At::Latest, B256::repeat_byte(1));
    for (name, question) in [
        ("eth_chainId", Question::ChainId),
        ("eth_getBlockByNumber", Question::Block(at)),
        ("eth_getTransactionReceipt", Question::Receipt(hash)),
        ("eth_getTransactionByHash", Question::Transaction(hash)),
    ] {
        let (spans, answers) = ask(&[question]).await;
        answers.unwrap().remove(0).unwrap();
        let ([span], caller) = (&spans[..], traces.named("caller")) else { panic!("{spans:?}") };
        assert_eq!((span.name, span.level, span.parent), (name, Level::DEBUG, caller.last().map(|span| span.id)));
        let (host, port) = url(&server.url());
        for (field, value) in [
            ("otel.kind", Some("client")),
            ("rpc.system.name", Some("jsonrpc")),
            ("rpc.method", Some(name)),
            ("infinityvm.questions", Some("1")),
            ("server.address", Some(&*host)),
            ("server.port", Some(&*port)),
            ("error.type", None),
            ("otel.status_code", None),
        ] {
            assert_eq!(span.fields.get(field), value, "{name}: {field}");
        }
        assert!(span.closed);
    }

    let (spans, answers) = ask(&[Question::ChainId, Question::Block(at), Question::Receipt(hash)]).await;
    assert_eq!(answers.unwrap().len(), 3);
    let [span] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((span.name, span.fields.get("rpc.method")), ("chain_request", None));
    assert_eq!(span.fields.get("infinityvm.questions"), Some("3"));

    let (spans, answers) = ask(&[Question::Code(Address::ZERO, at)]).await;
    assert!(answers.is_err());
    let failed = spans.last().unwrap();
    assert_eq!((failed.name, failed.fields.get("error.type")), ("eth_getCode", Some("chain")));
    assert_eq!(failed.fields.get("otel.status_code"), Some("ERROR"));
}

fn url(url: &str) -> (String, String) {
    let (address, port) = url.trim_start_matches("http://").trim_end_matches('/').rsplit_once(':').unwrap();
    (address.to_owned(), port.to_owned())
}
