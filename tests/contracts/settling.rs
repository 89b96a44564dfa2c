//! From a job built and signed by the SDK to what the contracts say of it.

use alloy_sol_types::{SolCall, SolEvent, SolValue};
use infinityvm_sdk::{
    OffchainJobRequest, ProgramId, Revision,
    primitives::{B256, Bytes, U256, hex, keccak256},
};
use serde_json::{Value, json};

use crate::{
    anvil::{Anvil, AnvilBuilder},
    contracts::{Consumer, JobManager, World, result},
    vectors,
};

fn root(number: u64) -> Vec<u8> {
    (U256::from(number), U256::from(number.isqrt())).abi_encode()
}

/// The receipt's events of one kind.
fn events<E: SolEvent>(receipt: &Value) -> Vec<E> {
    let logs = receipt["logs"].as_array().expect("logs");
    let read = |log: &Value| {
        let topics = log["topics"].as_array().expect("topics").iter().map(|topic| {
            let topic = topic.as_str().expect("text");
            topic.parse::<B256>().expect("a topic")
        });
        let data = hex::decode(log["data"].as_str().expect("data")).expect("hex");
        E::decode_raw_log_validate(topics, &data).ok()
    };
    logs.iter().filter_map(read).collect()
}

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_result_reaches_the_consumer() {
    for revision in Revision::ALL {
        let world = World::start(revision).await;
        for (nonce, number) in [(1, 49), (7, 1 << 40), (3, 2)] {
            let input = U256::from(number).abi_encode();
            let job = world.job(world.square_root, nonce, input.clone(), vec![]);
            let receipt = world.settle(&job, &root(number)).await.expect("settles");
            assert_eq!(receipt["status"], "0x1");
            let completed: Vec<JobManager::JobCompleted> = events(&receipt);
            assert_eq!(completed.len(), 1);
            assert_eq!((completed[0].jobID, &completed[0].result[..]), (job.id().into(), &root(number)[..]));
            assert!(events::<JobManager::JobCreated>(&receipt).is_empty(), "that event is for onchain requests");
            assert_eq!(world.root_of(number).await, U256::from(number.isqrt()));

            let id = B256::from(job.id());
            let metadata = world.view(world.job_manager, &JobManager::getJobMetadataCall { jobID: id }).await;
            assert_eq!((metadata.status, metadata.maxCycles), (3, job.max_cycles()));
            assert_eq!((metadata.consumer, metadata.programID), (job.consumer(), job.program_id().as_bytes().clone()));
            let kept = world.view(world.square_root, &Consumer::getOnchainInputForJobCall { jobID: id }).await;
            assert_eq!(kept, input);
            let hash = world.view(world.square_root, &Consumer::getOffchainInputHashForJobCall { jobID: id }).await;
            assert_eq!(hash, job.offchain_input_hash());

            let again = world.settle(&job, &root(number)).await.expect_err("taken");
            let reason = "JobManager.createJob: job already exists with this nonce and consumer";
            assert_eq!(again.reason().as_deref(), Some(reason));
        }
        assert_eq!(world.view(world.square_root, &Consumer::maxNonceCall {}).await, 7);
        assert_eq!(world.view(world.square_root, &Consumer::getNextNonceCall {}).await, 8);
        let operator = world.view(world.job_manager, &JobManager::getCoprocessorOperatorCall {}).await;
        assert_eq!(operator, world.operator.address());
    }
}

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn state_goes_from_job_to_job() {
    for revision in Revision::ALL {
        let world = World::start(revision).await;
        let job = |state: &[u8], nonce| {
            let job = OffchainJobRequest::builder(world.stateful_sum, ProgramId::from(B256::repeat_byte(0x18)));
            let job = job.max_cycles(1_000);
            let job = match revision {
                Revision::State => job.state(state.to_vec()),
                _ => job.stateful_onchain_input(keccak256(state), vec![1]),
            };
            world.sign(&job.build().expect("a job"), nonce)
        };
        // The state is the sum so far; the empty one is zero.
        let mut state = Vec::new();
        for sum in 1..4_u64 {
            let next = U256::from(sum).abi_encode();
            let job = job(&state, sum);
            let output = (keccak256(&next), Bytes::from(next.clone()));
            // One dynamic tuple, as structs are encoded.
            world.settle(&job, &output.abi_encode()).await.expect("settles");
            let latest = match revision {
                Revision::State => world.view(world.stateful_sum, &Consumer::getLatestStateHashCall {}).await,
                _ => world.view(world.stateful_sum, &Consumer::getLatestStateRootCall {}).await,
            };
            assert_eq!(latest, keccak256(&next));
            assert_eq!(world.view(world.stateful_sum, &Consumer::getLatestResultCall {}).await, next);
            state = next;
        }
        let stale = job(&[], 4);
        let refused = world.settle(&stale, &(B256::ZERO, Bytes::new()).abi_encode()).await.expect_err("stale");
        let reason = match revision {
            Revision::State => "Invalid state hash passed as input",
            _ => "Invalid state root passed as input",
        };
        assert_eq!(refused.reason().as_deref(), Some(reason));
    }
}

/// A result that names blobs needs a transaction that carries them.
#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn blobs_are_missed() {
    let world = World::start(Revision::Relay).await;
    let job = world.job(world.square_root, 1, U256::from(4).abi_encode(), vec![1; 100]);
    let refused = world.submit(&result(&job, &root(4), &[B256::repeat_byte(1)]), &job).await.expect_err("no blob");
    assert!(refused.reason().expect("a reason").ends_with("don't match blob hashes of transaction"), "{refused}");
}

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn consumers_revert_in_every_way() {
    for revision in Revision::ALL {
        let world = World::start(revision).await;
        let job = world.job(world.reverting, 1, vec![1, 2, 3], vec![]);
        let refused = world.settle(&job, b"out").await.expect_err("a message");
        assert_eq!(refused.reason().as_deref(), Some("RevertingConsumer: told to"));
        let mut data = Vec::new();
        for mode in 2..5 {
            let call = Consumer::setModeCall { mode };
            world.rpc.transact(world.owner, world.reverting, &call).await.expect("set");
            data.push(world.settle(&job, b"out").await.expect_err("a revert").data);
        }
        let custom = <Consumer::Refused as alloy_sol_types::SolError>::abi_decode(&data[0]).expect("the custom error");
        assert_eq!((custom.jobID, custom.length), (job.id().into(), U256::from(3)));
        assert_eq!(data[1][..], [&hex!("4e487b71")[..], &U256::from(1).abi_encode()].concat());
        assert!(data[2].is_empty());
        world.rpc.transact(world.owner, world.reverting, &Consumer::setModeCall { mode: 0 }).await.expect("set");
        world.settle(&job, b"out").await.expect("settles");
        assert_eq!(world.view(world.reverting, &Consumer::getLatestResultCall {}).await[..], *b"out");
    }
}

/// Consumers that have a past, and chains that mine when they like: for the tests of other things.
#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn worlds_can_be_arranged() {
    let world = World::on(Anvil::builder().args(["--accounts", "12"]).start(), Revision::Relay).await;
    assert_eq!(world.anvil.keys().len(), 12);
    let old = world.consumer("SquareRootConsumer", world.anvil.address(11), 1 << 40).await;
    assert_eq!(world.view(old, &Consumer::getNextNonceCall {}).await, (1 << 40) + 1);
    assert_eq!(world.view(old, &Consumer::getOffchainSignerCall {}).await, world.anvil.address(11));
    assert_eq!(world.view(old, &Consumer::getJobManagerCall {}).await, world.job_manager);

    world.rpc.call("evm_setAutomine", json!([false])).await;
    let job = world.job(world.square_root, 1, U256::from(9).abi_encode(), vec![]);
    let id = B256::from(job.id());
    let call = world.submission(&result(&job, &root(9), &[]), &job).abi_encode();
    let hash = world.rpc.send(world.owner, Some(world.job_manager), &call).await.expect("sent");
    assert_eq!(world.root_of(9).await, U256::ZERO);
    world.rpc.call("evm_mine", json!([])).await;
    assert_eq!(world.rpc.receipt(hash).await["status"], "0x1");
    assert_eq!(world.root_of(9).await, U256::from(3));
    let metadata = world.view(world.job_manager, &JobManager::getJobMetadataCall { jobID: id }).await;
    assert_eq!(metadata.status, 3);
}

#[test]
#[should_panic(expected = "does not start")]
fn a_missing_anvil_is_named() {
    let builder: AnvilBuilder = Anvil::builder().program("/nowhere/anvil");
    builder.start();
}

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn an_anvil_goes_when_dropped() {
    let anvil = Anvil::start();
    let address = format!("127.0.0.1:{}", anvil.port());
    tokio::net::TcpStream::connect(&address).await.expect("listens");
    drop(anvil);
    tokio::net::TcpStream::connect(&address).await.expect_err("gone");
}

/// What the nodes' own code encoded and signed, brought to a consumer at the address that the bytes name.
#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn the_vectors_settle() {
    for revision in Revision::ALL {
        let world = World::start(revision).await;
        let code = world.rpc.call("eth_getCode", json!([world.allow_list, "latest"])).await;
        let transact = async |to, call: Vec<u8>| {
            let hash = world.rpc.send(world.owner, Some(to), &call).await.expect("sent");
            assert_eq!(world.rpc.receipt(hash).await["status"], "0x1");
        };
        let mut with_blobs = 0;
        for case in vectors::all().iter().filter(|case| case.revision == revision) {
            let part = |name: &str| format!("/expect/result/{name}");
            let consumer = case.address("/consumer");
            world.rpc.call("anvil_setCode", json!([consumer, code])).await;
            let allow = Consumer::allowCall { signer: case.address("/signer"), allowed: true };
            transact(consumer, allow.abi_encode()).await;
            let operator = JobManager::setCoprocessorOperatorCall { next: case.address(&part("operator")) };
            transact(world.job_manager, operator.abi_encode()).await;

            let submission = JobManager::submitResultForOffchainJobCall {
                result: case.bytes(&part("result_with_metadata")),
                operatorSig: case.bytes(&part("operator_signature")),
                request: case.bytes("/expect/request_abi"),
                requestSig: case.bytes("/expect/signature"),
            };
            let settled = world.rpc.transact(world.owner, world.job_manager, &submission).await;
            let blobs = case.json.pointer(&part("versioned_blob_hashes")).and_then(Value::as_array);
            if blobs.is_some_and(|blobs| !blobs.is_empty()) {
                // The last check of all: everything else was right.
                let refused = settled.expect_err("no blob");
                assert!(refused.reason().expect("a reason").ends_with("blob hashes of transaction"), "{refused}");
                with_blobs += 1;
                continue;
            }
            settled.unwrap_or_else(|error| panic!("nonce {}: {error}", case.u64("/nonce")));
            let result = Consumer::getResultCall { jobID: case.b256("/expect/job_id") };
            assert_eq!(world.view(consumer, &result).await, case.bytes(&part("raw_output")));
        }
        assert_eq!(with_blobs > 0, revision == Revision::Relay);
    }
}
