//! The crate against the nodes' own bytes: hashes, ABI, EIP-191 hash, signature, job id, protobuf and JSON in both
//! directions, verification of results.

use support::{plain_client, vectors};

use infinityvm_sdk::{
    ErrorKind, JobId, JobStatus, LocalSigner, OffchainJobRequest, ProgramId, ProgramUpload, Revision, SignedJob, Wire,
    job::{eip191_hash, input_hash},
    primitives::B256,
    rpc::Encoding,
    verify,
};
use prost::Message;
use vectors::Case;

fn request(case: &Case) -> OffchainJobRequest {
    let program = ProgramId::new(case.bytes("/program_id"));
    let mut builder = OffchainJobRequest::builder(case.address("/consumer"), program)
        .max_cycles(case.u64("/max_cycles"))
        .onchain_input(case.bytes("/onchain_input"))
        .offchain_input(case.bytes("/offchain_input"))
        .revision(case.revision);
    if case.revision == Revision::State {
        builder = builder.state(case.bytes("/state"));
    }
    if let Some(strategy) = case.relay() {
        builder = builder.relay(strategy);
    }
    builder.build().expect("a vector is a valid job")
}

async fn signed(case: &Case) -> SignedJob {
    let signer = LocalSigner::from_hex(case.text("/private_key")).expect("a valid key");
    assert_eq!(signer.address(), case.address("/signer"));
    let unsigned = request(case).prepare(case.revision, case.u64("/nonce")).expect("a vector can be sent");
    unsigned.sign(&signer).await.expect("signs")
}

fn wire(case: &Case) -> Wire {
    Wire::new(case.revision, Encoding::Protobuf)
}

#[tokio::test]
async fn hashes_abi_and_signature() {
    for case in vectors::all() {
        let job = signed(&case).await;
        assert_eq!(job.id(), JobId::from(case.b256("/expect/job_id")));
        assert_eq!(job.offchain_input_hash(), case.b256("/expect/offchain_input_hash"));
        assert_eq!(input_hash(job.onchain_input()), case.b256("/expect/onchain_input_hash"));
        if case.revision == Revision::State {
            assert_eq!(job.state_hash(), case.b256("/expect/state_hash"));
        }
        assert_eq!(*job.request(), case.bytes("/expect/request_abi"));
        assert_eq!(eip191_hash(job.request()), case.b256("/expect/eip191_hash"));
        assert_eq!(*job.signature(), case.bytes("/expect/signature"));
        assert_eq!(job.recover().expect("recovers"), case.address("/signer"));
    }
}

#[tokio::test]
async fn stateful_onchain_input() {
    let mut seen = 0;
    for case in vectors::all() {
        if case.json["stateful_onchain_input"].is_object() {
            seen += 1;
            let job = OffchainJobRequest::builder(case.address("/consumer"), ProgramId::new(vec![1]))
                .max_cycles(1)
                .stateful_onchain_input(
                    case.b256("/stateful_onchain_input/input_state_root"),
                    case.bytes("/stateful_onchain_input/onchain_input"),
                )
                .build()
                .expect("builds");
            assert_eq!(*job.onchain_input(), case.bytes("/onchain_input"));
        }
    }
    assert!(seen > 0, "no vector is stateful");
}

#[tokio::test]
async fn protobuf_requests() {
    for case in vectors::all() {
        let (job, wire) = (signed(&case).await, wire(&case));
        let body = wire.submit_job(&job).expect("encodes").to_bytes();
        assert_eq!(body[..], case.bytes("/expect/grpc/submit_job_request")[..]);
        assert_eq!(wire.get_result(job.id()).to_bytes()[..], case.bytes("/expect/grpc/get_result_request")[..]);

        // The vectors' ELF is the offchain input; it is empty in one case, which the SDK refuses.
        let elf = program_elf(&case);
        let id = case.bytes("/program_id");
        let uploads =
            [ProgramUpload::sp1(elf.clone()).with_id(id.clone()), ProgramUpload::risc0(elf).with_id(id.clone())];
        let expected = case.bytes("/expect/grpc/submit_program_request");
        let encoded = uploads.iter().filter_map(|upload| wire.submit_program(upload).ok());
        let found = encoded.map(|body| body.to_bytes()).any(|body| body[..] == expected[..]);
        assert!(found || case.bytes("/offchain_input").is_empty(), "submit_program of {}", job.id());

        if case.revision == Revision::Relay {
            let pending = wire.get_pending_jobs(job.consumer()).expect("encodes").to_bytes();
            assert_eq!(pending[..], case.bytes("/expect/grpc/get_pending_jobs_request")[..]);
            let contains = wire.contains_program(job.program_id()).expect("encodes").to_bytes();
            assert_eq!(contains[..], case.bytes("/expect/grpc/contains_program_request")[..]);
        }
    }
}

fn program_elf(case: &Case) -> infinityvm_sdk::primitives::Bytes {
    case.bytes("/offchain_input")
}

#[tokio::test]
async fn protobuf_responses() {
    for case in vectors::all() {
        let (job, wire) = (signed(&case).await, wire(&case));
        let response = |name: &str| case.bytes(&format!("/expect/grpc/{name}")).0;
        assert_eq!(wire.submit_job_response(&response("submit_job_response")).expect("decodes"), job.id());
        let program = wire.submit_program_response(&response("submit_program_response")).expect("decodes");
        assert_eq!(program, *job.program_id());

        let record = wire.get_result_response(&response("get_result_response")).expect("decodes");
        assert_eq!(infinityvm_sdk::job::echo_difference(&job, &record), None);
        let status = match case.text("/expect/result/status") {
            "JOB_STATUS_TYPE_PENDING" => matches!(record.status(), JobStatus::Pending),
            "JOB_STATUS_TYPE_DONE" => matches!(record.status(), JobStatus::Done),
            "JOB_STATUS_TYPE_FAILED" => matches!(record.status(), JobStatus::Failed { .. }),
            "JOB_STATUS_TYPE_RELAYED" => matches!(record.status(), JobStatus::Relayed),
            other => panic!("status {other}"),
        };
        assert!(status, "{} read as {}", case.text("/expect/result/status"), record.status());
        let tx = case.json.pointer("/expect/result/relay_tx_hash").and_then(|hash| hash.as_str());
        assert_eq!(record.relay_tx_hash().map(|hash| hash.to_string()).as_deref(), tx);

        if case.revision == Revision::Relay {
            let pending = wire.get_pending_jobs_response(&response("get_pending_jobs_response")).expect("decodes");
            let known = case.json.pointer("/expect/grpc/get_pending_jobs_response").is_some();
            assert!(known, "{pending:?}");
        }
    }
}

fn parsed(text: &[u8]) -> serde_json::Value {
    serde_json::from_slice(text).expect("valid JSON")
}

#[tokio::test]
async fn rest_requests() {
    let mut uploads_seen = 0;
    for case in vectors::all() {
        let (job, wire) = (signed(&case).await, Wire::new(case.revision, Encoding::Json));
        // Not only the same values: the same bytes, in the same order.
        let body = wire.submit_job(&job).expect("encodes").to_bytes();
        let expected = case.text("/expect/rest/submit_job_request");
        assert_eq!(parsed(&body), parsed(expected.as_bytes()));
        assert_eq!(body, expected);
        assert_eq!(wire.get_result(job.id()).to_bytes(), case.text("/expect/rest/get_result_request"));

        let expected = case.text("/expect/rest/submit_program_request");
        let upload = match parsed(expected.as_bytes())["vmType"].as_i64() {
            Some(0) if case.revision == Revision::State => ProgramUpload::risc0(program_elf(&case)),
            Some(0 | 1) => ProgramUpload::sp1(program_elf(&case)),
            other => panic!("vmType {other:?}"),
        };
        match wire.submit_program(&upload.with_id(case.bytes("/program_id"))) {
            Ok(body) => {
                uploads_seen += 1;
                assert_eq!(body.to_bytes(), expected);
            }
            Err(error) => assert!(program_elf(&case).is_empty(), "{}", error.report()),
        }
    }
    assert!(uploads_seen >= 18, "{uploads_seen} uploads");
}

#[tokio::test]
async fn rest_responses() {
    for case in vectors::all() {
        let (job, wire) = (signed(&case).await, Wire::new(case.revision, Encoding::Json));
        let response = |name: &str| case.text(&format!("/expect/rest/{name}")).to_owned().into();
        assert_eq!(wire.submit_job_response(&response("submit_job_response")).expect("decodes"), job.id());
        let program = wire.submit_program_response(&response("submit_program_response")).expect("decodes");
        assert_eq!(program, *job.program_id());

        let record = wire.get_result_response(&response("get_result_response")).expect("decodes");
        let same = self::wire(&case).get_result_response(&case.bytes("/expect/grpc/get_result_response").0);
        assert!(record == same.expect("decodes"), "JSON and protobuf differ for {}", job.id());
        assert_eq!(infinityvm_sdk::job::echo_difference(&job, &record), None);
    }
}

#[tokio::test]
async fn results_verify() {
    for case in vectors::all() {
        let (job, wire) = (signed(&case).await, wire(&case));
        let operator = LocalSigner::from_hex(case.text("/expect/result/operator_key")).expect("a key").address();
        assert_eq!(operator, case.address("/expect/result/operator"));

        // As the node wrote it: only executed jobs hold a result.
        let response = case.bytes("/expect/grpc/get_result_response").0;
        let record = wire.get_result_response(&response).expect("decodes");
        let kind = verify(&job, &record, operator).err().map(|error| error.kind());
        let expected = match record.status() {
            JobStatus::Failed { .. } => Some(ErrorKind::JobFailed),
            JobStatus::Pending => Some(ErrorKind::Verification),
            _ => None,
        };
        assert_eq!(kind, expected, "{}", record.status());

        // The result that the vector gives for every job, whatever its status.
        let record = wire.get_result_response(&executed(&case, &response)).expect("decodes");
        let result = verify(&job, &record, operator).unwrap_or_else(|error| panic!("{}", error.report()));
        assert_eq!(*result.output(), case.bytes("/expect/result/raw_output"));
        assert_eq!(*result.result_with_metadata(), case.bytes("/expect/result/result_with_metadata"));
        assert_eq!(*result.operator_signature(), case.bytes("/expect/result/operator_signature"));
        let blobs: Vec<B256> = case.json["expect"]["result"]["versioned_blob_hashes"]
            .as_array()
            .map(|list| list.iter().map(|hash| hash.as_str().expect("hex").parse().expect("a hash")).collect())
            .unwrap_or_default();
        assert_eq!(result.blob_hashes(), blobs);
        if case.json["expect"]["result"]["stateful_result"].is_object() {
            let root = if case.revision == Revision::Relay { "output_state_root" } else { "next_state_hash" };
            let output = result.stateful().expect("stateful");
            assert_eq!(output.next_state, case.b256(&format!("/expect/result/stateful_result/{root}")));
            assert_eq!(output.result, case.bytes("/expect/result/stateful_result/result"));
        }
        // Any other operator is refused.
        let stranger = verify(&job, &record, job.consumer()).expect_err("a stranger signed");
        assert_eq!(stranger.kind(), ErrorKind::Verification);
    }
}

/// A vector's record, made to say that the job is done, with the vector's result.
fn executed(case: &Case, response: &[u8]) -> bytes::Bytes {
    macro_rules! done {
        ($revision:ident) => {{
            let mut message = plain_client::$revision::GetResultResponse::decode(response).expect("decodes");
            let job = message.job_result.as_mut().expect("a record");
            job.result_with_metadata = case.bytes("/expect/result/result_with_metadata").to_vec();
            job.zkvm_operator_signature = case.bytes("/expect/result/operator_signature").to_vec();
            job.status.as_mut().expect("a status").status = 2;
            message.encode_to_vec().into()
        }};
    }
    match case.revision {
        Revision::State => done!(state),
        _ => done!(relay),
    }
}

#[tokio::test]
async fn signed_jobs_survive_json() {
    for case in vectors::all() {
        let job = signed(&case).await;
        let text = serde_json::to_string(&job).expect("serialises");
        let back: SignedJob = serde_json::from_str(&text).expect("deserialises");
        assert_eq!(back, job);
        assert_eq!((back.id(), back.nonce(), back.state_hash()), (job.id(), job.nonce(), job.state_hash()));
    }
}
