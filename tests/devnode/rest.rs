//! The REST gateway: its own refusals, the words and statuses of the node's, its JSON against the golden vectors, and its
//! connections. What it does like the gRPC server is asked by the tests `over_rest`.

use std::{sync::Arc, time::Duration};

use alloy_primitives::{Address, Bytes, hex, keccak256};
use infinityvm_sdk::{
    Revision,
    devnode::{ConsumerRules, DevNode, JobState, Loss},
    rpc::{Method, StatusCode},
};
use prost::Message;
use serde_json::{Value, json};

use crate::{
    http::{Answer, GET_RESULT, Http, SUBMIT_JOB, SUBMIT_PROGRAM, address, submission},
    plain_client::{relay, state},
    rig::{self, CONSUMER, Grpc, Job, NO_CODE, ORDERED, Rest, within},
};

type Rig = rig::Rig<Rest>;

const JSON: Option<&str> = Some("application/json");

async fn send(node: &DevNode, request: &str, content_type: Option<&str>, body: &[u8]) -> Answer {
    let mut connection = Http::connect(node).await.unwrap();
    within(connection.send(request, content_type, body)).await.unwrap()
}

async fn post(node: &DevNode, path: &str, body: &str) -> Answer {
    send(node, &format!("POST {path}"), JSON, body.as_bytes()).await
}

/// A submission as JSON, of other bytes than the job's own where they are to be wrong.
fn body(job: &Job, request: &[u8], signature: &[u8]) -> String {
    submission(job.revision, request, signature, &job.offchain, &job.state, job.strategy)
}

fn signed(rig: &Rig, job: &Job) -> String {
    body(job, &job.abi(), &rig.sign(&job.abi()))
}

#[track_caller]
fn says(answer: &Answer, status: u16, grpc_code: i32, message: &str) {
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let text = format!(r#"{{"message":{},"grpc_code":{grpc_code}}}"#, json!(message));
    assert_eq!((answer.status, answer.text()), (status, text.as_str()));
}

#[track_caller]
fn says_plainly(answer: &Answer, status: u16, text: &str) {
    assert_eq!((answer.status, answer.text()), (status, text));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
}

#[tokio::test]
async fn what_is_no_request_is_refused_by_the_gateway_itself_in_plain_text() {
    const SYNTAX: &str = "Failed to parse the request body as JSON: ";
    const DATA: &str = "Failed to deserialize the JSON body into the target type: ";
    const TYPE: &str = "Expected request with `Content-Type: application/json`";
    for revision in Revision::ALL {
        let rig = Rig::start(revision, |builder| builder).await;
        let node = &rig.node;
        let last = if revision == Revision::State { "state" } else { "relayStrategy" };
        let rows: &[(&str, &str, u16, &str, &str)] = &[
            (SUBMIT_JOB, "{", 400, SYNTAX, "EOF while parsing an object at line 1 column 1"),
            (SUBMIT_JOB, "", 400, SYNTAX, "EOF while parsing a value at line 1 column 0"),
            // What is wrong within the value is found, whatever follows.
            (GET_RESULT, "{\"jobId\":[1}x", 400, SYNTAX, "jobId: expected `,` or `]` at line 1 column 12"),
            (
                GET_RESULT,
                "{\"jobId\":1}x",
                422,
                DATA,
                "jobId: invalid type: integer `1`, expected a sequence at line 1 column 10",
            ),
            (GET_RESULT, "{\"jobId\":[1]", 400, SYNTAX, "EOF while parsing an object at line 1 column 12"),
            (GET_RESULT, "x{\"jobId\":[1]}", 400, SYNTAX, "expected value at line 1 column 1"),
            (SUBMIT_JOB, "{}", 422, DATA, "missing field `request` at line 1 column 2"),
            (SUBMIT_JOB, r#"{"request":[]}"#, 422, DATA, "missing field `signature` at line 1 column 14"),
            (
                SUBMIT_JOB,
                "{\"request\":[],\n \"signature\":[]}",
                422,
                DATA,
                "missing field `offchainInput` at line 2 column 16",
            ),
            (
                SUBMIT_JOB,
                r#"{"request":[],"signature":[],"offchainInput":[]}"#,
                422,
                DATA,
                &format!("missing field `{last}` at line 1 column 48"),
            ),
            (GET_RESULT, "{}", 422, DATA, "missing field `jobId` at line 1 column 2"),
            (SUBMIT_PROGRAM, "{}", 422, DATA, "missing field `programElf` at line 1 column 2"),
            (
                SUBMIT_PROGRAM,
                r#"{"programElf":"","programId":""}"#,
                422,
                DATA,
                "missing field `vmType` at line 1 column 32",
            ),
            // Hex where numbers belong, and the other way round; the published page says hex everywhere.
            (
                GET_RESULT,
                r#"{"jobId":"0102"}"#,
                422,
                DATA,
                "jobId: invalid type: string \"0102\", expected a sequence at line 1 column 15",
            ),
            (
                GET_RESULT,
                r#"{"jobId":[1,256]}"#,
                422,
                DATA,
                "jobId[1]: invalid value: integer `256`, expected u8 at line 1 column 15",
            ),
            (
                SUBMIT_PROGRAM,
                r#"{"programElf":[1]}"#,
                422,
                DATA,
                "programElf: invalid type: sequence, expected a string at line 1 column 14",
            ),
            (
                SUBMIT_PROGRAM,
                r#"{"programElf":"0x01"}"#,
                422,
                DATA,
                "programElf: Invalid character 'x' at position 1 at line 1 column 21",
            ),
            (
                SUBMIT_PROGRAM,
                r#"{"programElf":"012"}"#,
                422,
                DATA,
                "programElf: Odd number of digits at line 1 column 20",
            ),
        ];
        for (path, sent, status, start, text) in rows {
            let answer = send(node, &format!("POST {path}"), JSON, sent.as_bytes()).await;
            says_plainly(&answer, *status, &format!("{start}{text}"));
        }
        for content_type in [None, Some("text/plain"), Some("application/jsonx"), Some("application/grpc")] {
            let answer = send(node, &format!("POST {GET_RESULT}"), content_type, b"{\"jobId\":[1]}").await;
            says_plainly(&answer, 415, TYPE);
        }
        for content_type in ["application/json; charset=utf-8", "application/vnd.node+json", "APPLICATION/JSON"] {
            let answer = send(node, &format!("POST {GET_RESULT}"), Some(content_type), b"{\"jobId\":[1]}").await;
            says(&answer, 409, 3, "job ID must be 32 bytes in length");
        }
        for (request, status) in [
            (format!("GET {SUBMIT_JOB}"), 405),
            (format!("PUT {GET_RESULT}"), 405),
            ("POST /v1/coprocessor_node/get_pending_jobs".to_owned(), 404),
            ("POST /v1/coprocessor_node/contains_program".to_owned(), 404),
            ("GET /".to_owned(), 404),
            (format!("POST {}", Method::SubmitJob.grpc_path()), 404),
        ] {
            let answer = send(node, &request, JSON, b"{}").await;
            assert_eq!((answer.status, answer.text()), (status, ""), "{request}");
        }
        assert_eq!(node.stats().calls(Method::GetPendingJobs), 0);
    }
}

#[tokio::test]
async fn what_follows_the_json_value_is_not_looked_at() {
    for revision in Revision::ALL {
        let rig = Rig::start(revision, |builder| builder).await;
        let (elf, vm) = (rig.node.add_elf(|_| Ok(vec![])), 0);
        let id = hex::encode(keccak256(&elf));
        for (nonce, more) in (1..).zip(["x", " \n", "}", "{", "{}", ",", "\0", "\u{feff}", r#" {"jobId":[2]}"#, "]]>"])
        {
            let job = rig.job(nonce);
            let answer = post(&rig.node, SUBMIT_JOB, &(signed(&rig, &job) + more)).await;
            assert_eq!((answer.status, answer.json()), (200, json!({ "jobId": job.id().0 })), "{more:?}");
            let answer = post(&rig.node, GET_RESULT, &(json!({ "jobId": job.id().0 }).to_string() + more)).await;
            assert_eq!(answer.status, 200, "{more:?}");
            let upload = json!({ "programElf": hex::encode(&elf), "programId": id, "vmType": vm }).to_string();
            let answer = post(&rig.node, SUBMIT_PROGRAM, &(upload + more)).await;
            assert_eq!(answer.status, if nonce == 1 { 200 } else { 400 }, "{more:?}: {}", answer.text());
            assert!(answer.text().contains(&id), "{more:?}: {}", answer.text());
        }
        // Bytes that are no text, too.
        let sent = [json!({ "jobId": rig.job(1).id().0 }).to_string().as_bytes(), &[0xff, 0xfe]].concat();
        assert_eq!(send(&rig.node, &format!("POST {GET_RESULT}"), JSON, &sent).await.status, 200);
    }
}

#[tokio::test]
async fn unknown_fields_are_ignored() {
    let rig = Rig::relay().await;
    let job = rig.job(1);
    let mut body: Value = serde_json::from_str(&signed(&rig, &job)).unwrap();
    body["state"] = json!("anything");
    body["more"] = json!({ "a": [1, null] });
    let answer = post(&rig.node, SUBMIT_JOB, &body.to_string()).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "jobId": job.id().0 })));
}

#[tokio::test]
async fn the_nodes_refusals_have_the_measured_statuses_and_bodies() {
    for revision in Revision::ALL {
        let rig = Rig::start(revision, |builder| builder.da_limit(100)).await;
        let node = &rig.node;
        let is_state = revision == Revision::State;
        says(&post(node, GET_RESULT, &json!({ "jobId": vec![1; 32] }).to_string()).await, 409, 5, "job not found");
        for id in [vec![], vec![1; 31], vec![1; 33]] {
            let answer = post(node, GET_RESULT, &json!({ "jobId": id }).to_string()).await;
            says(&answer, 409, 3, "job ID must be 32 bytes in length");
        }

        let job = rig.job(1);
        let invalid = |job: Job| {
            let text = signed(&rig, &job);
            async move { post(node, SUBMIT_JOB, &text).await }
        };
        says(
            &post(node, SUBMIT_JOB, &body(&job, &job.abi(), &[])).await,
            409,
            3,
            "job request signature must not be empty",
        );
        let answer = invalid(job.clone().with(|job| job.max_cycles = 0)).await;
        says(&answer, 409, 3, "job max cycles must be positive");
        let answer = invalid(job.clone().with(|job| job.program_id = Bytes::new())).await;
        let what = if is_state { "verification key" } else { "ID" };
        says(&answer, 409, 3, &format!("job program {what} must not be empty"));
        let other = job.clone().with(|job| job.offchain = vec![1]);
        let answer = post(node, SUBMIT_JOB, &body(&other, &job.abi(), &[1])).await;
        says(&answer, 409, 3, "offchain input hash does not match");
        let answer = post(node, SUBMIT_JOB, &body(&job, b"not ABI", &[1])).await;
        says(&answer, 409, 3, "invalid ABI-encoding of job request");

        rig.run(&job, JobState::Relayed).await;
        for again in [job.clone(), job.clone().with(|job| job.onchain = vec![0xbb])] {
            let text = if is_state { "job already exists" } else { "job has already been executed and relayed" };
            says(&invalid(again).await, 400, 13, &format!("failed to submit job: {text}"));
        }
        if is_state {
            let other = rig.job(2).with(|job| job.state = vec![1]);
            let answer = post(node, SUBMIT_JOB, &body(&other, &rig.job(2).abi(), &[1])).await;
            says(&answer, 409, 3, "state hash does not match");
            let relay = rig.job(2).with(|job| job.revision = Revision::Relay).abi();
            let answer = post(node, SUBMIT_JOB, &body(&rig.job(2), &relay, &[1])).await;
            says(&answer, 409, 3, "state hash does not match");
            continue;
        }
        rig.run(&rig.job(8), JobState::Relayed).await;
        node.restart();
        let answer = invalid(rig.job(3).with(|job| job.strategy = ORDERED)).await;
        says(&answer, 400, 13, "failed to submit job: nonce is too low for an ordered job");
        let answer = invalid(rig.job(9).with(|job| job.consumer = NO_CODE)).await;
        assert_eq!((answer.status, &answer.json()["grpc_code"]), (400, &json!(13)));
        let text = "failed to submit job: could not read the nonce from the consumer contract contract call to `getNextNonce` \
                    returned no data (\"0x\"); the called address might not be a contract";
        assert_eq!(answer.json()["message"], text);
        let noise: Vec<u8> = (0..120_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let answer = invalid(rig.job(9).with(|job| job.offchain = noise)).await;
        says(&answer, 400, 13, "failed to submit job: offchain input over max DA per job");
    }
}

#[tokio::test]
async fn programs_come_and_go_as_hex_without_0x() {
    for revision in Revision::ALL {
        let rig = Rig::start(revision, |builder| builder).await;
        let (is_state, vm) = (revision == Revision::State, 0);
        let submit = async |elf: &[u8], id: &str, vm: i32| {
            // An upper-case request; the id is ignored where the revision has none.
            let body = json!({ "programElf": hex::encode_upper(elf), "programId": id, "vmType": vm });
            post(&rig.node, SUBMIT_PROGRAM, &body.to_string()).await
        };
        let elf = rig.node.add_elf(|_| Ok(vec![1]));
        let id = hex::encode(keccak256(&elf));
        says(&submit(&[], &id, vm).await, 409, 3, "program elf must not be empty");
        let dies = if is_state { submit(&elf, &id, 1).await } else { submit(b"no elf", &id, vm).await };
        says(&dies, 409, 1, "h2 protocol error: http2 error");
        if is_state {
            let text = "failed to submit ELF: failed to create ELF in zkvm executor: failed to derive verifying key \
                        Risc0 error: Elf parse error: Could not read bytes in range [0x0, 0x10)";
            says(&submit(b"no elf", &id, vm).await, 400, 13, text);
        }
        says(&submit(&elf, &id, 7).await, 400, 13, "failed to submit ELF: invalid VM type");
        if revision == Revision::Relay {
            let text = format!(
                "failed to submit ELF: given program ID does not match derived program ID: given: 0102, derived: {id}"
            );
            says(&submit(&elf, "0102", vm).await, 400, 13, &text);
        }
        let answer = submit(&elf, &id.to_uppercase(), vm).await;
        assert_eq!((answer.status, answer.text()), (200, format!(r#"{{"programId":"{id}"}}"#).as_str()));
        let exists = if is_state {
            format!("elf with verifying key elf with verifying key \"{id}\" already exists already exists")
        } else {
            format!("elf with program ID {id} already exists")
        };
        says(&submit(&elf, &id, vm).await, 400, 13, &format!("failed to submit ELF: {exists}"));
    }
}

const LIMIT: usize = 4 << 20;

fn too_large(length: usize) -> String {
    format!("Error, decoded message length too large: found {length} bytes, the limit is: 4194304 bytes")
}

#[tokio::test]
async fn relay_messages_are_limited_by_their_length_in_protobuf_both_ways() {
    let rig = Rig::relay().await;
    let sized = |offchain| rig.job(1).with(|job| (job.offchain, job.strategy) = (vec![0; offchain], 7));
    let encoded = |job: &Job| {
        let (request, signature, offchain_input) = (job.abi(), vec![7; 65], job.offchain.clone());
        relay::SubmitJobRequest { request, signature, offchain_input, relay_strategy: 7 }.encoded_len()
    };
    let rest = encoded(&sized(LIMIT)) - LIMIT;
    let (at, over) = (sized(LIMIT - rest), sized(LIMIT - rest + 1));
    assert_eq!((encoded(&at), encoded(&over)), (LIMIT, LIMIT + 1));
    let answer = post(&rig.node, SUBMIT_JOB, &body(&over, &over.abi(), &[7; 65])).await;
    says(&answer, 409, 11, &too_large(LIMIT + 1));
    let answer = post(&rig.node, SUBMIT_JOB, &body(&at, &at.abi(), &[7; 65])).await;
    assert_eq!(answer.status, 200, "{}", answer.text());

    // The program repeats such an input, so the record has it twice: more than the gateway, as a client of the node, takes.
    let job = rig.job(2).with(|job| job.onchain = vec![1; LIMIT / 2]);
    assert_eq!(post(&rig.node, SUBMIT_JOB, &signed(&rig, &job)).await.status, 200);
    let id = job.id();
    within(rig.node.wait_until(|view| view.job_state(id) == Some(JobState::Relayed))).await;
    let grpc = rig::Rig::<Grpc>::connect(&rig.node).await;
    let refused = grpc.get(id.to_vec()).await.unwrap_err();
    assert!(refused.1.starts_with("Error, decoded message length too large: found 4195"), "{refused:?}");
    let answer = post(&rig.node, GET_RESULT, &json!({ "jobId": id.0 }).to_string()).await;
    says(&answer, 409, refused.0 as i32, &refused.1);
}

#[tokio::test]
async fn state_messages_are_limited_by_their_length_in_protobuf() {
    let rig = Rig::state().await;
    let encoded = |elf: &[u8]| state::SubmitProgramRequest { program_elf: elf.to_vec(), vm_type: 0 }.encoded_len();
    let mut elf = b"\x7fELF".to_vec();
    elf.resize(LIMIT, 0);
    elf.truncate(LIMIT - (encoded(&elf) - LIMIT));
    assert_eq!(encoded(&elf), LIMIT);
    let body = |elf: &[u8]| json!({ "programElf": hex::encode(elf), "vmType": 0 }).to_string();
    let answer = post(&rig.node, SUBMIT_PROGRAM, &body(&elf)).await;
    assert_eq!(answer.json(), json!({ "programId": hex::encode(keccak256(&elf)) }));
    elf.push(0);
    says(&post(&rig.node, SUBMIT_PROGRAM, &body(&elf)).await, 409, 11, &too_large(LIMIT + 1));
}

#[tokio::test]
async fn numbers_of_64_bits_are_json_numbers_to_the_last_digit() {
    let rig = Rig::relay().await;
    let job = rig.job(u64::MAX - 1).with(|job| job.max_cycles = u64::MAX);
    rig.run(&job, JobState::Relayed).await;
    let answer = post(&rig.node, GET_RESULT, &json!({ "jobId": job.id().0 }).to_string()).await;
    let text = r#""nonce":18446744073709551614,"maxCycles":18446744073709551615,"#;
    assert!(answer.text().contains(text), "{}", answer.text());
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn requests_and_answers_are_those_of_the_golden_vectors() {
    for revision in Revision::ALL {
        let path = format!("{}/tests/vectors/{revision}.json", env!("CARGO_MANIFEST_DIR"));
        let vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let mut compared = 0;
        for (number, case) in vectors["cases"].as_array().unwrap().iter().enumerate() {
            let (rest, result) = (&case["expect"]["rest"], &case["expect"]["result"]);
            let node = DevNode::builder(revision)
                .operator_key(bytes(&result["operator_key"]).try_into().unwrap())
                .consumer(
                    Address::from_slice(&bytes(&case["consumer"])),
                    ConsumerRules::signed_by(Address::from_slice(&bytes(&case["signer"]))),
                )
                .start()
                .await
                .unwrap();
            let output = bytes(&result["raw_output"]);
            node.register_program_as(bytes(&case["program_id"]), move |_| Ok(output.clone()));
            // Unordered, whatever the vector says: its nonce need not be the next.
            let mut request: Value = serde_json::from_str(rest["submit_job_request"].as_str().unwrap()).unwrap();
            if revision == Revision::Relay {
                request["relayStrategy"] = json!(0);
            }
            let golden = |name: &str| serde_json::from_str::<Value>(rest[name].as_str().unwrap()).unwrap();
            let answer = post(&node, SUBMIT_JOB, &request.to_string()).await;
            assert_eq!(answer.json(), golden("submit_job_response"), "{revision} {number}");
            let id = bytes(&case["expect"]["job_id"]).try_into().map(alloy_primitives::B256::new).unwrap();
            within(node.wait_until(|view| view.job_state(id) == Some(JobState::Relayed))).await;

            let request = rest["get_result_request"].as_str().unwrap();
            let answer = send(&node, &format!("POST {GET_RESULT}"), JSON, request.as_bytes()).await;
            let (mut ours, mut theirs) = (answer.json(), golden("get_result_response"));
            let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(&ours), ["jobResult"]);
            let (ours, theirs) = (&mut ours["jobResult"], &mut theirs["jobResult"]);
            // How far the job got is the vector's own choice, and the blob hashes in the result are stand-ins.
            assert_eq!(ours["status"], json!({ "status": 4, "failureReason": null, "retries": 0 }));
            assert_eq!(keys(&ours["status"]), keys(&theirs["status"]));
            assert_eq!(ours["relayTxHash"].as_str().unwrap().len(), 64);
            let finished = theirs["resultWithMetadata"] != "";
            let no_blobs = revision == Revision::State || case["offchain_input"] == "0x";
            compared += usize::from(finished && no_blobs);
            ours["status"] = theirs["status"].clone();
            ours["relayTxHash"] = theirs["relayTxHash"].clone();
            for key in ["resultWithMetadata", "zkvmOperatorSignature"] {
                if !(finished && no_blobs) {
                    assert!(ours[key].is_string() && theirs[key].is_string(), "{key}");
                    ours[key] = theirs[key].clone();
                }
            }
            assert_eq!(ours, theirs, "{revision} {number}");

            // The vectors' programs are no ELFs, so their upload is understood and refused. The node has the id already, which a
            // Relay node looks up first; a State node dies of what is for SP1.
            let request = rest["submit_program_request"].as_str().unwrap();
            let answer = send(&node, &format!("POST {SUBMIT_PROGRAM}"), JSON, request.as_bytes()).await;
            let code = answer.json()["grpc_code"].as_i64().unwrap();
            let refused = match (case["offchain_input"] == "0x", request.contains(r#""vmType":0"#)) {
                (true, _) => (409, 3),
                (false, true) => (400, 13),
                (false, false) => (409, 1),
            };
            assert_eq!((answer.status, code), refused, "{}", answer.text());
        }
        assert!(compared > 0, "{revision}: no result was compared");
    }
}

#[tokio::test]
async fn every_code_has_its_http_status() {
    let rig = Rig::relay().await;
    for code in 1..=16 {
        rig.node.faults().refuse(Method::GetResult, 1, StatusCode(code), "so \"be\" it");
        let status = match code {
            2 => 500,
            7 => 403,
            12 => 404,
            13 => 400,
            14 => 503,
            16 => 401,
            _ => 409,
        };
        let answer = post(&rig.node, GET_RESULT, &json!({ "jobId": [1] }).to_string()).await;
        says(&answer, status, i32::try_from(code).unwrap(), "so \"be\" it");
    }
    rig.node.faults().unimplemented(Method::SubmitProgram);
    says(&post(&rig.node, SUBMIT_PROGRAM, "{}").await, 404, 12, "");
    assert_eq!(rig.node.stats().calls(Method::GetResult), 16);
}

#[tokio::test]
async fn a_replaced_reply_is_the_body() {
    let rig = Rig::relay().await;
    let job = rig.job(1);
    rig.node.faults().replace_reply(Method::SubmitJob, &b"{\"jobId\":\"0x01\"}"[..]);
    let answer = post(&rig.node, SUBMIT_JOB, &signed(&rig, &job)).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "jobId": "0x01" })));
    rig.until(&job, JobState::Relayed).await;
}

#[tokio::test]
async fn faults_and_counts_are_of_both_front_ends() {
    let rig = Rig::relay().await;
    let grpc = rig::Rig::<Grpc>::connect(&rig.node).await;
    rig.node.faults().refuse(Method::GetResult, 2, StatusCode::UNAVAILABLE, "busy");
    for client in [&grpc, &rig.client, &grpc, &rig.client] {
        within(client.get(vec![1; 32])).await.unwrap_err();
    }
    assert_eq!(rig.node.stats().calls(Method::GetResult), 4);

    // One job by both at once.
    let gate = rig.node.faults().hold_intake();
    let rig = Arc::new(rig);
    let job = rig.job(1);
    let (by_rest, by_grpc) = (rig.spawn(&job), {
        let (request, signature) = (job.abi(), rig.sign(&job.abi()));
        tokio::spawn(async move { grpc.submit(request, signature, vec![], vec![], 0).await })
    });
    within(gate.arrived(2)).await;
    gate.open();
    assert_eq!((by_rest.await.unwrap(), by_grpc.await.unwrap()), (Ok(job.id()), Ok(job.id())));
    assert_eq!(rig.node.stats().max_concurrent_submissions_of_any_job(), 2);
}

#[tokio::test]
async fn a_connection_of_http_1_serves_call_after_call_whatever_their_answers() {
    let rig = Rig::relay().await;
    let mut connection = Http::connect(&rig.node).await.unwrap();
    for nonce in 1..=3 {
        let job = rig.job(nonce);
        let answer = within(connection.post(SUBMIT_JOB, &signed(&rig, &job))).await.unwrap();
        assert_eq!(answer.json(), json!({ "jobId": job.id().0 }));
        for (request, content_type, status) in [
            ("GET /nowhere", None, 404),
            (&*format!("GET {SUBMIT_JOB}"), None, 405),
            (&*format!("POST {SUBMIT_JOB}"), JSON, 400),
            (&*format!("POST {SUBMIT_JOB}"), None, 415),
        ] {
            assert_eq!(within(connection.send(request, content_type, b"{")).await.unwrap().status, status);
        }
    }
}

#[tokio::test]
async fn a_lost_reply_ends_its_connection_and_no_other() {
    let rig = Rig::relay().await;
    for (nonce, how) in [(1, Loss::ResetStream), (2, Loss::CloseConnection)] {
        let (mut one, mut other) = (Http::connect(&rig.node).await.unwrap(), Http::connect(&rig.node).await.unwrap());
        let ask = json!({ "jobId": [1] }).to_string();
        assert_eq!(within(other.post(GET_RESULT, &ask)).await.unwrap().status, 409);
        rig.node.faults().drop_replies(Method::SubmitJob, 1, how);
        let job = rig.job(nonce);
        within(one.post(SUBMIT_JOB, &signed(&rig, &job))).await.unwrap_err();
        rig.until(&job, JobState::Relayed).await;
        within(one.post(GET_RESULT, &ask)).await.unwrap_err();
        assert_eq!(within(other.post(GET_RESULT, &ask)).await.unwrap().status, 409);
    }
}

#[tokio::test]
async fn a_restart_breaks_connections_and_keeps_the_port() {
    let rig = Rig::relay().await;
    let url = rig.node.rest_url();
    assert_ne!(url, rig.node.grpc_url());
    let (mut idle, mut busy) = (Http::connect(&rig.node).await.unwrap(), Http::connect(&rig.node).await.unwrap());
    let ask = json!({ "jobId": vec![1; 32] }).to_string();
    within(idle.post(GET_RESULT, &ask)).await.unwrap();
    let gate = rig.node.faults().hold_reply(Method::GetResult);
    let held = async { busy.post(GET_RESULT, &ask).await };
    let restart = async {
        gate.arrived(1).await;
        rig.node.restart();
    };
    within(async { tokio::join!(held, restart) }).await.0.unwrap_err();
    within(idle.post(GET_RESULT, &ask)).await.unwrap_err();
    assert_eq!(rig.node.rest_url(), url);
    says(&post(&rig.node, GET_RESULT, &ask).await, 409, 5, "job not found");
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_held_request_along() {
    let rig = Rig::relay().await;
    let gate = rig.node.faults().hold_request(Method::SubmitJob);
    // Larger than what a server reads before anybody asks for it.
    let job = rig.job(1).with(|job| job.offchain = vec![0; 300_000]);
    let mut connection = Http::connect(&rig.node).await.unwrap();
    connection.write(&format!("POST {SUBMIT_JOB}"), JSON, signed(&rig, &job).as_bytes()).await.unwrap();
    within(gate.arrived(1)).await;
    connection.end().await.unwrap();
    // The gateway lets go of the connection, and so of the request, while the gate is closed.
    within(connection.read()).await.unwrap_err();
    gate.open();
    rig.run(&rig.job(2), JobState::Relayed).await;
    assert_eq!(rig.node.stats().submissions(job.id()), 0);
}

/// One connection of HTTP/2, begun without an upgrade.
async fn http2(node: &DevNode) -> h2::client::SendRequest<bytes::Bytes> {
    let stream = tokio::net::TcpStream::connect(address(&node.rest_url())).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn post2(
    client: &h2::client::SendRequest<bytes::Bytes>,
    path: &str,
    body: &str,
) -> Result<(u16, Value), h2::Error> {
    let mut client = client.clone().ready().await?;
    let request = http::Request::post(format!("http://node{path}")).header("content-type", "application/json");
    let (answer, mut stream) = client.send_request(request.body(()).unwrap(), false)?;
    stream.send_data(body.to_owned().into(), true)?;
    let (head, mut body) = answer.await?.into_parts();
    let mut read = Vec::new();
    while let Some(chunk) = body.data().await {
        read.extend_from_slice(&chunk?);
    }
    Ok((head.status.as_u16(), serde_json::from_slice(&read).unwrap()))
}

#[tokio::test]
async fn http_2_with_prior_knowledge_carries_calls_side_by_side() {
    let rig = Rig::relay().await;
    let client = http2(&rig.node).await;
    let ask = json!({ "jobId": [1] }).to_string();
    let gate = rig.node.faults().hold_reply(Method::SubmitJob);
    let (job, lost) = (rig.job(1), rig.job(2));
    let body = signed(&rig, &job);
    let held = post2(&client, SUBMIT_JOB, &body);
    let beside = async {
        gate.arrived(1).await;
        assert_eq!(post2(&client, GET_RESULT, &ask).await.unwrap().0, 409);
        // A stream that is reset takes nothing else along.
        rig.node.faults().drop_replies(Method::SubmitJob, 1, Loss::ResetStream);
        let error = post2(&client, SUBMIT_JOB, &signed(&rig, &lost)).await.unwrap_err();
        assert!(error.is_reset(), "{error}");
        gate.open();
    };
    let (answer, ()) = within(async { tokio::join!(held, beside) }).await;
    assert_eq!(answer.unwrap(), (200, json!({ "jobId": job.id().0 })));
    rig.until(&lost, JobState::Relayed).await;

    rig.node.faults().drop_replies(Method::GetResult, 1, Loss::CloseConnection);
    within(post2(&client, GET_RESULT, &ask)).await.unwrap_err();
    within(post2(&client, GET_RESULT, &ask)).await.unwrap_err();
    assert_eq!(within(post2(&http2(&rig.node).await, GET_RESULT, &ask)).await.unwrap().0, 409);
}

#[tokio::test]
async fn a_stream_of_http_2_that_is_reset_by_the_client_kills_the_consumers_task_too() {
    let rig = Rig::start(Revision::Relay, |builder| builder.max_pending_ordered(1)).await;
    rig.node.faults().stall_relays(true);
    rig.run(&rig.ordered(1), JobState::Done).await;
    let client = http2(&rig.node).await;
    let body = signed(&rig, &rig.ordered(2));
    let hanging = async {
        tokio::select! {
            answer = post2(&client, SUBMIT_JOB, &body) => panic!("{answer:?}"),
            () = rig.node.wait_until(|view| view.stats().hanging_calls() == 1) => {}
        }
    };
    within(hanging).await;
    within(rig.node.wait_until(|view| view.stats().hanging_calls() == 0)).await;
    let answer = within(post2(&client, SUBMIT_JOB, &body)).await.unwrap();
    assert_eq!(answer, (409, json!({ "message": "h2 protocol error: http2 error", "grpc_code": 1 })));
    assert_eq!(within(rig.client.pending(CONSUMER.as_slice())).await.unwrap_err().0, tonic::Code::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_outlives_any_time() {
    let rig = Rig::relay().await;
    let mut connection = Http::connect(&rig.node).await.unwrap();
    let ask = json!({ "jobId": [1] }).to_string();
    connection.post(GET_RESULT, &ask).await.unwrap();
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(connection.post(GET_RESULT, &ask).await.unwrap().status, 409);
}
