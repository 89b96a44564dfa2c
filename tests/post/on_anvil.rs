//! Posting a result oneself, and diagnoses, on a real chain: anvil, with the contracts of both revisions and a node that relays to it.
#![cfg(all(feature = "blobs", feature = "devnode", feature = "grpc"))]

use std::{collections::HashSet, future::IntoFuture, time::Duration};

use infinityvm_sdk::{
    Cause, Client, Confidence, Diagnosis, ErrorKind, JobHandle, LocalSigner, OffchainJobRequest, Outcome, ProgramId,
    RelayStrategy, RetryPolicy, Revision, SignedJob, Until, Verified,
    chain::{Chain, OnchainStatus, Revert, RevertCause, RpcPoster, RpcReader},
    client::{ClientBuilder, Stage},
    devnode::{DevNode, JobState, ProgramOutput, RealChain},
    job::{OffchainJobRequestBuilder, abi::relay::StatefulAppOnchainInput, input_hash},
    nonce::Sequential,
    primitives::{Address, B256, Bytes, SolValue, U256, keccak256},
};
use serde_json::json;

use support::{anvil, contracts, facts, json_chain::number};

use anvil::Anvil;
use contracts::{Consumer, JobManager, World};

/// The accounts that post: the node's, and a stranger's.
pub const NODE: usize = 4;
pub const STRANGER: usize = 5;

pub struct Rig {
    pub world: World,
    pub node: DevNode,
    reader: RpcReader,
    pub client: Client,
    /// Square roots, as the consumer wants them.
    root: ProgramId,
    /// Counts up a state of one byte; the empty one is 0.
    count: ProgramId,
}

impl Rig {
    pub async fn on(anvil: Anvil, revision: Revision) -> Self {
        let world = World::on(anvil, revision).await;
        let node = DevNode::builder(revision)
            .operator_key(world.anvil.keys()[1].0)
            .relay_to(RealChain::new(world.anvil.http_url(), world.anvil.keys()[NODE].0, world.job_manager))
            .start()
            .await
            .unwrap();
        assert_eq!(node.operator(), world.operator.address());
        let root = node.register_program(|input| {
            let number = U256::from_be_slice(input.onchain);
            Ok((number, number.root(2)).abi_encode_params())
        });
        let count = node.register_program(move |input| {
            let before = match revision {
                Revision::State => input.state.to_vec(),
                _ => StatefulAppOnchainInput::abi_decode(input.onchain).unwrap().onchainInput.to_vec(),
            };
            let next = [before.first().copied().unwrap_or_default() + 1];
            Ok(ProgramOutput::stateful(keccak256(next), next.to_vec()))
        });
        // Anvil takes long over its first blob, and longer on a busy machine: the dev node gives it as much.
        let reader = RpcReader::builder(world.anvil.http_url()).timeout(Duration::from_secs(60));
        let reader = reader.connect().await.unwrap();
        let builder = Self::builder(&world, &node, &reader);
        let client = builder.connect().await.unwrap();
        Self { world, node, reader, client, root: ProgramId::new(root), count: ProgramId::new(count) }
    }

    pub fn builder(world: &World, node: &DevNode, reader: &RpcReader) -> ClientBuilder {
        let key = RpcPoster::key(world.anvil.keys()[STRANGER].0).unwrap();
        Client::builder()
            .grpc(node.grpc_url())
            .revision(world.revision)
            .retry(RetryPolicy::default())
            .signer(world.signer.clone())
            .nonces(Sequential::starting_at(1))
            .operator(world.operator.address())
            .chain(Chain::new(reader.clone(), world.job_manager))
            .poster(RpcPoster::over(reader.clone(), key))
    }

    fn is_relay(&self) -> bool {
        self.world.revision == Revision::Relay
    }

    pub fn job(&self, consumer: Address, number: u64) -> OffchainJobRequestBuilder {
        let job = OffchainJobRequest::builder(consumer, self.root.clone()).max_cycles(1_000_000);
        let job = job.onchain_input(U256::from(number).abi_encode());
        if self.is_relay() { job.relay(RelayStrategy::Ordered) } else { job }
    }

    fn counting(&self, state: &[u8]) -> OffchainJobRequest {
        let job = OffchainJobRequest::builder(self.world.stateful_sum, self.count.clone()).max_cycles(1_000_000);
        let input =
            StatefulAppOnchainInput { inputStateRoot: input_hash(state), onchainInput: Bytes::copy_from_slice(state) };
        match self.world.revision {
            Revision::State => job.state(state.to_vec()).build().unwrap(),
            _ => job.onchain_input(input.abi_encode()).relay(RelayStrategy::Ordered).build().unwrap(),
        }
    }

    /// Executed, and not relayed.
    pub async fn done(&self, job: &SignedJob) -> (JobHandle, Verified) {
        self.node.faults().stall_relays(true);
        let handle = self.client.submit_signed(job.clone()).await.unwrap();
        self.node.wait_until(|view| view.job_state(job.id().into()) == Some(JobState::Done)).await;
        let verified = handle.wait(Until::Executed).await.unwrap();
        (handle, verified)
    }

    pub async fn status(&self, job: &SignedJob) -> u8 {
        let call = JobManager::getJobMetadataCall { jobID: job.id().into() };
        self.world.view(self.world.job_manager, &call).await.status
    }

    pub async fn sent_by(&self, account: usize) -> u64 {
        let count =
            self.world.rpc.call("eth_getTransactionCount", json!([self.world.anvil.address(account), "latest"]));
        number(&count.await)
    }

    async fn diagnose(&self, job: &SignedJob) -> Diagnosis {
        self.client.diagnose(job).await.unwrap()
    }
}

async fn both<F: Future<Output = ()>>(test: impl Fn(Rig) -> F) {
    both_on(Anvil::start, test).await;
}

pub async fn both_on<F: Future<Output = ()>>(anvil: impl Fn() -> Anvil, test: impl Fn(Rig) -> F) {
    for revision in Revision::ALL {
        let rig = Rig::on(anvil(), revision).await;
        tokio::time::timeout(Duration::from_secs(300), test(rig)).await.expect("the test hangs");
    }
}

#[track_caller]
fn named(diagnosis: &Diagnosis, cause: impl Into<facts::Facts>) {
    assert_eq!(*diagnosis.cause(), cause.into(), "{diagnosis}");
    assert_eq!(diagnosis.confidence(), Confidence::Shown, "{diagnosis}");
}

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_stranger_posts_what_the_node_does_not() {
    both(|rig| async move {
        let job = rig.world.sign(&rig.job(rig.world.square_root, 144).build().unwrap(), 1);
        let (handle, verified) = rig.done(&job).await;
        let post = handle.post_result(&verified).await.unwrap();
        assert!(!post.already && post.tx_hash.is_some() && post.block_number.is_some());
        assert_eq!(rig.world.root_of(144).await, U256::from(12));
        assert_eq!(rig.status(&job).await, 3);
        assert_eq!((rig.sent_by(STRANGER).await, rig.sent_by(NODE).await), (1, 0));
        named(&rig.diagnose(&job).await, Cause::Complete);
        // Finality, a second relay, and the node's own one.
        handle.wait(Until::Relayed).await.unwrap_or_else(|error| panic!("{}", error.report()));
        let again = rig.client.post_result(&job, &verified).await.unwrap();
        assert_eq!((again.already, again.tx_hash, again.block_number), (true, post.tx_hash, post.block_number));
        assert_eq!(rig.sent_by(STRANGER).await, 1);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_fee_above_the_bound_is_not_paid() {
    both(|rig| async move {
        let job = rig.world.sign(&rig.job(rig.world.square_root, 144).build().unwrap(), 1);
        let (_, verified) = rig.done(&job).await;
        let key = RpcPoster::key(rig.world.anvil.keys()[STRANGER].0).unwrap();
        let poster = RpcPoster::over(rig.reader.clone(), key).with_max_fee(1);
        let client = Rig::builder(&rig.world, &rig.node, &rig.reader).poster(poster.clone()).connect().await.unwrap();
        let error = client.post_result(&job, &verified).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome(), error.is_retryable()), (ErrorKind::Chain, Outcome::NotSent, true));
        assert!(error.to_string().contains("more than the 1 allowed"), "{}", error.report());
        assert!(client.open_posts().is_empty());
        assert_eq!((rig.sent_by(STRANGER).await, rig.status(&job).await), (0, 0));
        let _ = poster.with_max_fee(1_000_000_000_000);
        assert!(!client.post_result(&job, &verified).await.unwrap().already);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn offchain_inputs_travel_in_blobs() {
    for hardfork in ["cancun", "prague", "osaka"] {
        for revision in Revision::ALL {
            let rig = Rig::on(Anvil::builder().hardfork(hardfork).start(), revision).await;
            // Incompressible, for two blobs; and a small one.
            let mut large = Vec::new();
            let mut seed = B256::ZERO;
            while large.len() < 150_000 {
                seed = keccak256(seed);
                large.extend_from_slice(seed.as_slice());
            }
            for (nonce, input) in [(1, large), (2, b"small".to_vec())] {
                let job = rig.job(rig.world.square_root, nonce * 100).offchain_input(input).build().unwrap();
                let job = rig.world.sign(&job, nonce);
                let (handle, verified) = rig.done(&job).await;
                assert_eq!(verified.needs_blobs(), revision == Revision::Relay);
                let post = handle.post_result(&verified).await.unwrap_or_else(|error| {
                    panic!("{hardfork}: {}", error.report());
                });
                let transaction = rig.world.rpc.call("eth_getTransactionByHash", json!([post.tx_hash])).await;
                let carried = transaction["blobVersionedHashes"].as_array().cloned().unwrap_or_default();
                assert_eq!(json!(carried), json!(verified.blob_hashes()));
                assert_eq!(rig.world.root_of(nonce * 100).await, U256::from((nonce * 100).isqrt()));
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn reverts_are_decoded_and_cost_nothing() {
    both(|rig| async move {
        let refused = async |job: &SignedJob, verified: &Verified, cause: RevertCause, text: &str| {
            let error = rig.client.post_result(job, verified).await.unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Reverted, Outcome::NotSent), "{}", error.report());
            let revert = Revert::of(&error).unwrap();
            assert_eq!(revert.cause(), cause);
            assert!(revert.to_string().contains(text), "{revert}");
            assert_eq!(rig.sent_by(STRANGER).await, 0);
        };
        let mallory = LocalSigner::random().unwrap();
        let job = rig.job(rig.world.square_root, 9).build().unwrap().prepare(rig.world.revision, 1).unwrap();
        let job = job.sign(&mallory).await.unwrap();
        let (_, verified) = rig.done(&job).await;
        refused(&job, &verified, RevertCause::RequestSignature, "Invalid signature on job request").await;

        let stale = rig.world.sign(&rig.counting(&[7]), 1);
        let (_, verified) = rig.done(&stale).await;
        refused(&stale, &verified, RevertCause::StaleState, "Invalid state").await;

        for (nonce, mode, text) in
            [(1, 1, "told to"), (2, 2, "custom error 0x"), (3, 3, "panic 0x01"), (4, 4, "no reason given")]
        {
            let call = Consumer::setModeCall { mode };
            rig.world.rpc.transact(rig.world.owner, rig.world.reverting, &call).await.unwrap();
            let job = rig.world.sign(&rig.job(rig.world.reverting, 9).build().unwrap(), nonce);
            let (_, verified) = rig.done(&job).await;
            refused(&job, &verified, RevertCause::Other, text).await;
        }
    })
    .await;
}

/// Many at once, over one account: no nonce is used twice, and each result is there.
#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn many_relays_do_not_collide() {
    for block_time in [None, Some(1)] {
        let builder = Anvil::builder();
        let builder = match block_time {
            Some(seconds) => builder.block_time(seconds),
            None => builder,
        };
        let rig = Rig::on(builder.start(), Revision::Relay).await;
        let mut relays = Vec::new();
        for nonce in 1..=20 {
            let job = rig.world.sign(&rig.job(rig.world.square_root, nonce * nonce).build().unwrap(), nonce);
            let (_, verified) = rig.done(&job).await;
            relays.push((job, verified));
        }
        let tasks: Vec<_> = relays
            .iter()
            .map(|(job, verified)| tokio::spawn(rig.client.post_result(job, verified).into_future()))
            .collect();
        let mut hashes = HashSet::new();
        for task in tasks {
            let post = task.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report()));
            assert!(!post.already && hashes.insert(post.tx_hash));
        }
        assert_eq!((rig.sent_by(STRANGER).await, hashes.len()), (20, 20));
        for nonce in 1..=20 {
            assert_eq!(rig.world.root_of(nonce * nonce).await, U256::from(nonce));
        }
    }
}

/// Two strangers post one result: one of the transactions is in the block after the other, and reverts.
#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_race_is_lost_without_harm() {
    both(|rig| async move {
        let job = rig.world.sign(&rig.job(rig.world.square_root, 16).build().unwrap(), 1);
        let (_, verified) = rig.done(&job).await;
        let key = RpcPoster::key(rig.world.anvil.keys()[6].0).unwrap();
        let other = Rig::builder(&rig.world, &rig.node, &rig.reader).poster(RpcPoster::over(rig.reader.clone(), key));
        let other = other.connect().await.unwrap();
        rig.world.rpc.call("evm_setAutomine", json!([false])).await;
        let relays =
            [&rig.client, &other].map(|client| tokio::spawn(client.post_result(&job, &verified).into_future()));
        while rig.client.open_posts().is_empty() || other.open_posts().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Said before they are sent.
        tokio::time::sleep(Duration::from_millis(500)).await;
        rig.world.rpc.call("evm_mine", json!([])).await;
        let mut landed = Vec::new();
        for relay in relays {
            landed.push(relay.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report())));
        }
        assert_eq!(landed.iter().filter(|post| post.already).count(), 1);
        let [first, second] = &landed[..] else { panic!() };
        assert_eq!(first.tx_hash, second.tx_hash);
        let loser = landed.iter().find(|post| post.already).unwrap();
        assert!(loser.wasted.is_some() && loser.wasted != loser.tx_hash);
        assert_eq!(rig.world.root_of(16).await, U256::from(4));
    })
    .await;
}

/// The consumer changes its mind between the trial and the block; a transaction waits in the pool, and none is sent beside it.
#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn what_becomes_of_a_transaction_in_the_pool_is_told() {
    both(|rig| async move {
        let works = Consumer::setModeCall { mode: 0 };
        rig.world.rpc.transact(rig.world.owner, rig.world.reverting, &works).await.unwrap();
        let job = rig.world.sign(&rig.job(rig.world.reverting, 16).build().unwrap(), 1);
        let (handle, verified) = rig.done(&job).await;
        rig.world.rpc.call("evm_setAutomine", json!([false])).await;
        let error = handle.post_result(&verified).timeout(Duration::from_secs(2)).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::DeadlineExceeded, Outcome::Unknown));
        let hash = error.tx_hash().unwrap();
        assert_eq!(rig.client.open_posts(), [(job.id(), hash)]);
        let again = tokio::spawn(handle.post_result(&verified).into_future());
        tokio::time::sleep(Duration::from_millis(500)).await;
        // Mined before ours, by its tip.
        let revert = json!([{
            "from": rig.world.owner, "to": rig.world.reverting, "gas": "0x100000",
            "data": infinityvm_sdk::primitives::hex::encode_prefixed(alloy_sol_types::SolCall::abi_encode(
                &Consumer::setModeCall { mode: 1 })),
            "maxFeePerGas": "0xba43b7400", "maxPriorityFeePerGas": "0x4a817c800",
        }]);
        rig.world.rpc.call("eth_sendTransaction", revert).await;
        rig.world.rpc.call("evm_mine", json!([])).await;
        let error = again.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Reverted, Outcome::Rejected), "{}", error.report());
        assert_eq!(error.tx_hash(), Some(hash));
        assert!(Revert::of(&error).unwrap().to_string().contains("told to"));
        assert!(rig.client.open_posts().is_empty());
        assert_eq!(rig.sent_by(STRANGER).await, 1);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_relayer_without_funds_or_on_another_chain_sends_nothing() {
    both(|rig| async move {
        let job = rig.world.sign(&rig.job(rig.world.square_root, 16).build().unwrap(), 1);
        let (_, verified) = rig.done(&job).await;
        let elsewhere = Anvil::builder().arg("--chain-id").arg("77").start();
        let relayers = [
            RpcPoster::over(rig.reader.clone(), RpcPoster::key([0x5c; 32]).unwrap()),
            RpcPoster::new(elsewhere.http_url(), RpcPoster::key(elsewhere.keys()[5].0).unwrap()).unwrap(),
        ];
        for (poster, kind) in relayers.into_iter().zip([ErrorKind::Chain, ErrorKind::WrongChain]) {
            let builder = Rig::builder(&rig.world, &rig.node, &rig.reader).poster(poster);
            let client = builder.connect().await.unwrap();
            let error = client.post_result(&job, &verified).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{}", error.report());
            assert_ne!(error.outcome(), Outcome::Unknown, "{}", error.report());
            assert!(client.open_posts().is_empty());
        }
        assert!(RpcPoster::key([0; 32]).is_err());
        assert_eq!(rig.status(&job).await, 0);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn every_cause_of_the_chain_is_induced_and_named() {
    both(|rig| async move {
        let (world, relay) = (&rig.world, rig.is_relay());
        // A signer that is refused.
        let mallory = LocalSigner::random().unwrap();
        let job = rig.job(world.square_root, 9).build().unwrap().prepare(world.revision, 1).unwrap();
        let job = job.sign(&mallory).await.unwrap();
        let signer = facts!(SignerRefused { recovered: Some(mallory.address()), named: Some(world.signer.address()) });
        named(&rig.diagnose(&job).await, signer.clone());
        rig.done(&job).await;
        named(&rig.diagnose(&job).await, signer);

        // Requested on chain under the nonce, then cancelled.
        let request = Consumer::requestSquareRootCall {
            programID: rig.root.as_bytes().clone(),
            number: U256::from(25),
            maxCycles: 1_000_000,
        };
        world.rpc.transact(world.owner, world.square_root, &request).await.unwrap();
        let taken = |status| facts!(NonceTakenOnChain { status });
        named(&rig.diagnose(&job).await, taken(OnchainStatus::Pending));
        let cancel = Consumer::cancelCall { jobID: job.id().into() };
        world.rpc.transact(world.owner, world.square_root, &cancel).await.unwrap();
        named(&rig.diagnose(&job).await, taken(OnchainStatus::Cancelled));

        // Another payload landed; this one is complete.
        let landed = world.sign(&rig.job(world.square_root, 36).build().unwrap(), 2);
        world.settle(&landed, &(U256::from(36), U256::from(6)).abi_encode_params()).await.unwrap();
        let late = world.sign(&rig.job(world.square_root, 49).build().unwrap(), 2);
        named(&rig.diagnose(&late).await, taken(OnchainStatus::Completed));
        named(&rig.diagnose(&landed).await, Cause::Complete);

        // A state that is not the latest.
        let stale = world.sign(&rig.counting(&[7]), 1);
        let (handle, _) = rig.done(&stale).await;
        let cause = facts!(StaleState { given: keccak256([7]), latest: World::INITIAL_STATE });
        match relay {
            true => named(&rig.diagnose(&stale).await, cause),
            false => {
                named(&rig.diagnose(&stale).await, facts!(InProgress { stage: Stage::Executed }));
                let diagnosis = handle.diagnose().stalled_after(Duration::ZERO).await.unwrap();
                assert_eq!(diagnosis.cause(), &cause, "{diagnosis}");
            }
        }

        // The consumer's own reason.
        let closed = world.sign(&rig.job(world.reverting, 9).build().unwrap(), 1);
        let (handle, _) = rig.done(&closed).await;
        let diagnosis = handle.diagnose().stalled_after(Duration::ZERO).await.unwrap();
        let reason = "RevertingConsumer: told to".to_owned();
        assert_eq!(diagnosis.cause(), &facts!(RelayReverts { cause: RevertCause::Other, reason }), "{diagnosis}");

        // It would land: then it is advised to be posted.
        let works = Consumer::setModeCall { mode: 0 };
        world.rpc.transact(world.owner, world.reverting, &works).await.unwrap();
        let diagnosis = handle.diagnose().stalled_after(Duration::ZERO).await.unwrap();
        assert!(matches!(diagnosis.cause(), Cause::RelayStalled { .. }), "{diagnosis}");
        assert!(diagnosis.advice().contains("Client::post_result"), "{diagnosis}");

        // Another operator.
        let other = Address::repeat_byte(7);
        let replace = JobManager::setCoprocessorOperatorCall { next: other };
        world.rpc.transact(world.owner, world.job_manager, &replace).await.unwrap();
        let signed_by = world.operator.address();
        let cause = facts!(OtherOperator { signed_by, pinned: Some(signed_by), named: other });
        named(&rig.diagnose(&closed).await, cause);
    })
    .await;
}
