//! The simulated chain says what the contracts say on a real one, byte for byte: what calls return, and what they revert with.
#![cfg(all(feature = "devnode", feature = "chain"))]

use support::contracts;

use alloy_sol_types::{SolCall, SolValue};
use infinityvm_sdk::{
    LocalSigner, OffchainJobRequest, ProgramId, Revision, SignedJob,
    chain::{Answer, At, Call, ChainReader, Question, RpcReader},
    devnode::{ConsumerRules, DevNode, SimChain},
    job::{abi, eip191_hash},
    primitives::{Address, B256, Bytes, U256},
};

use contracts::{Consumer, JobManager, World, result};

/// Both chains, with the same contracts at the same addresses, but for the JobManager.
struct Pair {
    world: World,
    reader: RpcReader,
    node: DevNode,
    sim: SimChain,
    compared: usize,
}

impl Pair {
    async fn start(revision: Revision) -> Self {
        let world = World::start(revision).await;
        let rules = ConsumerRules::signed_by(world.signer.address());
        let node = DevNode::builder(revision)
            .consumer(world.square_root, rules.clone())
            .consumer(world.stateful_sum, rules.with_state(World::INITIAL_STATE))
            .start()
            .await
            .unwrap();
        let sim = node.chain();
        sim.set_operator(world.operator.address());
        let reader = RpcReader::http(world.anvil.http_url()).unwrap();
        Self { world, reader, node, sim, compared: 0 }
    }

    /// Asks both, and returns the answer.
    async fn call(&mut self, what: &str, to: Option<Address>, data: Vec<u8>, blobs: &[B256]) -> Answer {
        let question = |to: Address| {
            let mut call = Call::new(to, data.clone());
            call.blob_hashes = blobs.to_vec();
            [Question::Call(call, At::Latest)]
        };
        let real = self.reader.ask(&question(to.unwrap_or(self.world.job_manager))).await.unwrap().remove(0);
        let sim = self.sim.ask(&question(to.unwrap_or(self.sim.job_manager()))).await.unwrap().remove(0);
        let (real, sim) = (real.unwrap_or_else(|error| panic!("{what}: {}", error.report())), sim.unwrap());
        assert_eq!(real, sim, "{what}");
        self.compared += 1;
        sim
    }

    async fn views(&mut self, jobs: &[&SignedJob]) {
        let consumers = [self.world.square_root, self.world.stateful_sum, Address::repeat_byte(9)];
        for consumer in consumers {
            for (name, data) in [
                ("getNextNonce", Consumer::getNextNonceCall {}.abi_encode()),
                ("maxNonce", Consumer::maxNonceCall {}.abi_encode()),
                ("getOffchainSigner", Consumer::getOffchainSignerCall {}.abi_encode()),
                ("getLatestStateRoot", Consumer::getLatestStateRootCall {}.abi_encode()),
                ("getLatestStateHash", Consumer::getLatestStateHashCall {}.abi_encode()),
                ("an unknown function", vec![1, 2, 3, 4]),
                ("no function", vec![]),
            ] {
                self.call(name, Some(consumer), data, &[]).await;
            }
            for job in jobs {
                let job_id = B256::from(job.id());
                for (name, data) in [
                    ("getOnchainInputForJob", Consumer::getOnchainInputForJobCall { jobID: job_id }.abi_encode()),
                    (
                        "getOffchainInputHashForJob",
                        Consumer::getOffchainInputHashForJobCall { jobID: job_id }.abi_encode(),
                    ),
                    ("getStateHashForJob", Consumer::getStateHashForJobCall { jobID: job_id }.abi_encode()),
                ] {
                    self.call(name, Some(consumer), data, &[]).await;
                }
                let hash = eip191_hash(job.request());
                let signature = job.signature().to_vec();
                let stranger = LocalSigner::random().unwrap().sign_message_sync(job.request()).to_vec();
                let with_v = |v: u8| [&signature[..64], &[v]].concat();
                for signature in [
                    signature.clone(),
                    stranger,
                    signature[..64].to_vec(),
                    compact(&signature),
                    with_v(0),
                    with_v(1),
                    with_v(55 - signature[64]),
                    vec![],
                    vec![27; 65],
                    [signature.clone(), vec![0]].concat(),
                ] {
                    let data = Consumer::isValidSignatureCall { hash, signature: signature.into() }.abi_encode();
                    self.call("isValidSignature", Some(consumer), data, &[]).await;
                }
            }
        }
        self.call("getCoprocessorOperator", None, JobManager::getCoprocessorOperatorCall {}.abi_encode(), &[]).await;
        self.call("an unknown function", None, vec![1, 2, 3, 4], &[]).await;
        for job in jobs {
            let data = JobManager::getJobMetadataCall { jobID: job.id().into() }.abi_encode();
            self.call("getJobMetadata", None, data, &[]).await;
        }
    }

    /// Tries to bring a result on both chains, in a call.
    async fn try_relay(&mut self, what: &str, relay: &Relay) -> Answer {
        let operator = relay.operator.as_ref().unwrap_or(&self.world.operator);
        let signature = Bytes::copy_from_slice(&operator.sign_message_sync(&relay.result));
        let call = JobManager::submitResultForOffchainJobCall {
            result: relay.result.clone().into(),
            operatorSig: relay.operator_signature.clone().unwrap_or(signature),
            request: relay.request.clone(),
            requestSig: relay.request_signature.clone(),
        };
        self.call(what, None, call.abi_encode(), &relay.blobs).await
    }

    /// Brings it there.
    async fn relay(&mut self, job: &SignedJob, output: &[u8]) {
        let result = result(job, output, &[]);
        self.world.submit(&result, job).await.unwrap();
        let signature = self.world.operator.sign_message_sync(&result);
        self.sim.submit_result(&result, &signature, job.request(), job.signature(), &[]).unwrap();
    }
}

fn compact(signature: &[u8]) -> Vec<u8> {
    let mut compact = signature[..64].to_vec();
    compact[32] |= (signature[64] - 27) << 7;
    compact
}

#[derive(Clone)]
struct Relay {
    result: Vec<u8>,
    operator: Option<LocalSigner>,
    operator_signature: Option<Bytes>,
    request: Bytes,
    request_signature: Bytes,
    blobs: Vec<B256>,
}

impl Relay {
    fn of(job: &SignedJob, output: &[u8]) -> Self {
        Self {
            result: result(job, output, &[]),
            operator: None,
            operator_signature: None,
            request: job.request().clone(),
            request_signature: job.signature().clone(),
            blobs: Vec::new(),
        }
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut relay = self.clone();
        change(&mut relay);
        relay
    }
}

/// The results that differ from what was requested in one thing each.
fn mismatches(revision: Revision, result: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let other = B256::repeat_byte(0xee);
    macro_rules! changed {
        ($type:path; $($name:literal => $field:ident = $value:expr),* $(,)?) => {{
            let plain = <$type>::abi_decode(result).unwrap();
            vec![$(($name, { let mut it = plain.clone(); it.$field = $value; it.abi_encode() })),*]
        }};
    }
    match revision {
        Revision::State => changed!(abi::state::OffchainResultWithMetadata;
            "another job" => jobID = other, "another onchain input" => onchainInputHash = other,
            "another offchain input" => offchainInputHash = other, "another state" => stateHash = other,
            "other cycles" => maxCycles = 1, "another program" => programID = vec![1].into()),
        _ => changed!(abi::relay::OffchainResultWithMetadata;
            "another job" => jobID = other, "another onchain input" => onchainInputHash = other,
            "another offchain input" => offchainInputHash = other, "other cycles" => maxCycles = 1,
            "another program" => programID = vec![1].into(), "blobs that are not there" => versionedBlobHashes = vec![blob()]),
    }
}

fn blob() -> B256 {
    let mut hash = B256::repeat_byte(0xb1);
    hash[0] = 1;
    hash
}

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn answers_are_those_of_the_contracts() {
    for revision in Revision::ALL {
        let mut pair = Pair::start(revision).await;
        let square_root = pair.world.square_root;
        let output = (U256::from(9), U256::from(3)).abi_encode();
        let first = pair.world.job(square_root, 1, U256::from(9).abi_encode(), vec![]);
        let second = pair.world.job(square_root, 7, vec![], vec![]);
        pair.views(&[&first, &second]).await;

        let good = Relay::of(&first, &output);
        assert_eq!(pair.try_relay("a good one", &good).await, Answer::Returned(Bytes::new()));
        let stranger = LocalSigner::random().unwrap();
        let signature = |message: &[u8]| Bytes::copy_from_slice(&stranger.sign_message_sync(message));
        for (what, relay) in [
            ("a stranger's request", good.with(|it| it.request_signature = signature(&first.request().clone()))),
            ("an unreadable signature", good.with(|it| it.request_signature = Bytes::from_static(&[1]))),
            ("a stranger's result", good.with(|it| it.operator = Some(stranger.clone()))),
            ("an unreadable operator's", good.with(|it| it.operator_signature = Some(Bytes::new()))),
            ("no request", good.with(|it| it.request = Bytes::new())),
            ("a request that is none", good.with(|it| it.request = vec![0xff; 64].into())),
            (
                "a request with something behind it",
                good.with(|it| it.request = [&it.request[..], &[0; 32]].concat().into()),
            ),
            ("a result that is none", good.with(|it| it.result = vec![0xff; 64])),
            ("no result", good.with(|it| it.result = Vec::new())),
            ("a compact signature", good.with(|it| it.request_signature = compact(&it.request_signature).into())),
        ] {
            pair.try_relay(what, &relay).await;
        }
        for (what, result) in mismatches(revision, &good.result) {
            let answer = pair.try_relay(what, &good.with(|it| it.result = result)).await;
            assert!(matches!(&answer, Answer::Reverted(data) if !data.is_empty()), "{what}: {answer:?}");
        }
        let elsewhere = pair.world.job(Address::repeat_byte(9), 1, vec![], vec![]);
        pair.try_relay("no consumer", &Relay::of(&elsewhere, &output)).await;

        pair.relay(&first, &output).await;
        pair.try_relay("once more", &good).await;
        pair.relay(&second, &output).await;
        pair.views(&[&first, &second]).await;
        assert_eq!(pair.sim.max_nonce(square_root), Some(7));
        assert!(pair.compared > 150, "{}", pair.compared);
        assert_eq!(pair.node.revision(), revision);
    }
}

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_consumer_with_a_state_is_one_on_both() {
    for revision in Revision::ALL {
        let mut pair = Pair::start(revision).await;
        let consumer = pair.world.stateful_sum;
        let state = b"the next state";
        let job = |pair: &Pair, nonce: u64, root: B256, state: &[u8]| {
            let job = OffchainJobRequest::builder(consumer, ProgramId::from(B256::repeat_byte(0x17))).max_cycles(1_000);
            let job = match revision {
                Revision::State => job.state(state.to_vec()),
                _ => job.onchain_input(
                    abi::relay::StatefulAppOnchainInput { inputStateRoot: root, onchainInput: vec![1].into() }
                        .abi_encode(),
                ),
            };
            pair.world.sign(&job.build().unwrap(), nonce)
        };
        let next = infinityvm_sdk::primitives::keccak256(state);
        let output = abi::relay::StatefulAppResult { outputStateRoot: next, result: vec![5].into() }.abi_encode();
        let first = job(&pair, 1, World::INITIAL_STATE, &[]);
        for (what, output) in [("no output", vec![]), ("an output that is none", vec![0xff; 40])] {
            pair.try_relay(what, &Relay::of(&first, &output)).await;
        }
        if revision == Revision::Relay {
            let none = pair.world.job(consumer, 1, vec![1, 2, 3], vec![]);
            pair.try_relay("an input without a state", &Relay::of(&none, &output)).await;
        }
        let stale = job(&pair, 2, next, state);
        pair.try_relay("a state that is not the latest", &Relay::of(&stale, &output)).await;
        pair.views(&[&first, &stale]).await;
        pair.relay(&first, &output).await;
        pair.views(&[&first, &stale]).await;
        let answer = pair.try_relay("the state that came", &Relay::of(&stale, &output)).await;
        assert_eq!(answer, Answer::Returned(Bytes::new()));
        assert_eq!(pair.sim.latest_state_root(consumer), Some(next));
    }
}
