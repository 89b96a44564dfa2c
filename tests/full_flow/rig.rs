//! Anvil with the contracts, a dev node that relays to it, and a client.

use std::{future::Future, time::Duration};

use alloy_sol_types::SolValue;
use infinityvm_sdk::{
    Client, JobHandle, JobRecord, OffchainJobRequest, ProgramId, RelayStrategy, Revision, SignedJob,
    chain::{Chain, ChainNonces},
    client::ClientBuilder,
    devnode::{DevNode, JobState, ProgramError, ProgramOutput, RealChain},
    primitives::{Address, B256, Bytes, U256, keccak256},
};
use serde_json::{Value, json};

pub use support::harness::within;

use crate::{
    anvil::{Anvil, AnvilBuilder},
    contracts::{Consumer, World},
};

/// The account that relays: none of those that [`World`] uses.
pub const RELAYER: usize = 3;

/// Runs a test in both revisions.
pub async fn both<F: Future<Output = ()>>(test: impl Fn(Rig) -> F) {
    for revision in Revision::ALL {
        within(async { test(Rig::start(revision).await).await }).await;
    }
}

pub struct Rig {
    pub world: World,
    pub node: DevNode,
    pub client: Client,
    /// Square roots, for `SquareRootConsumer` and whoever takes any bytes.
    pub square_root: ProgramId,
    /// Adds to its state, for `StatefulSumConsumer`.
    pub sum: ProgramId,
}

impl Rig {
    pub async fn start(revision: Revision) -> Self {
        Self::on(Anvil::builder(), revision).await
    }

    pub async fn on(anvil: AnvilBuilder, revision: Revision) -> Self {
        let world = World::on(anvil.start(), revision).await;
        let chain = RealChain::new(world.anvil.http_url(), world.anvil.keys()[RELAYER].0, world.job_manager);
        let operator = world.anvil.keys()[1].0;
        let node = DevNode::builder(revision).operator_key(operator).relay_to(chain).start().await.expect("starts");
        assert_eq!(node.operator(), world.operator.address());
        let square_root = node.register_program(|input| {
            let number = U256::abi_decode(input.onchain).map_err(|error| ProgramError::new(error.to_string()))?;
            Ok((number, number.root(2)).abi_encode())
        });
        let sum = node.register_program(move |input| add(revision, input.onchain, input.state));
        let client = Client::builder().grpc(node.grpc_url()).revision(revision);
        let client = client.signer(world.signer.clone()).operator(node.operator()).connect().await.expect("connects");
        Self { world, node, client, square_root: ProgramId::new(square_root), sum: ProgramId::new(sum) }
    }

    /// A client that reads the chain: the operator and the nonces come from there.
    pub async fn on_chain(&self, builder: ClientBuilder) -> Client {
        let chain = Chain::connect(self.world.anvil.http_url(), self.world.job_manager).await.expect("a chain");
        let builder = builder.nonces(ChainNonces::new(chain.clone())).chain(chain);
        builder.revision(self.world.revision).signer(self.world.signer.clone()).connect().await.expect("connects")
    }

    /// A square root for a consumer, unordered.
    pub fn root_job(&self, consumer: Address, nonce: u64, number: u64) -> SignedJob {
        self.job(consumer, nonce, number, RelayStrategy::Unordered)
    }

    pub fn ordered(&self, consumer: Address, nonce: u64, number: u64) -> SignedJob {
        self.job(consumer, nonce, number, RelayStrategy::Ordered)
    }

    fn job(&self, consumer: Address, nonce: u64, number: u64, relay: RelayStrategy) -> SignedJob {
        let job = OffchainJobRequest::builder(consumer, self.square_root.clone())
            .max_cycles(1_000)
            .onchain_input(U256::from(number).abi_encode());
        let job = match self.world.revision {
            Revision::State => job,
            _ => job.relay(relay),
        };
        self.world.sign(&job.build().expect("a job"), nonce)
    }

    /// A job that adds `number` to a state; the state is the sum so far, or nothing.
    pub fn sum_job(&self, nonce: u64, state: &[u8], number: u64) -> SignedJob {
        let job = OffchainJobRequest::builder(self.world.stateful_sum, self.sum.clone()).max_cycles(1_000);
        let number = U256::from(number);
        let job = match self.world.revision {
            Revision::State => job.state(state.to_vec()).onchain_input(number.abi_encode()),
            _ => {
                let inner = (Bytes::copy_from_slice(state), number).abi_encode();
                job.stateful_onchain_input(keccak256(state), inner)
            }
        };
        self.world.sign(&job.build().expect("a job"), nonce)
    }

    pub async fn submit(&self, job: &SignedJob) -> JobHandle {
        self.client.submit_signed(job.clone()).await.expect("accepted")
    }

    /// Submits a job and waits until the node has it so.
    pub async fn run(&self, job: &SignedJob, state: JobState) -> JobRecord {
        self.submit(job).await;
        self.until(job, state).await
    }

    pub async fn until(&self, job: &SignedJob, state: JobState) -> JobRecord {
        let id = B256::from(job.id());
        within(self.node.wait_until(|view| view.job_state(id) == Some(state))).await;
        self.client.get_result(job.id()).await.expect("a record")
    }

    /// Waits until the result was sent to the chain, or tried to be, so many times.
    pub async fn attempted(&self, job: &SignedJob, times: usize) {
        let id = B256::from(job.id());
        within(self.node.wait_until(|view| view.stats().relay_attempts(id) >= times)).await;
    }

    /// Waits until the relay has failed for this reason.
    pub async fn failed(&self, job: &SignedJob, reason: &str) {
        let id = B256::from(job.id());
        let wanted =
            self.node.wait_until(|view| view.stats().last_relay_error(id).is_some_and(|error| error.contains(reason)));
        let found = tokio::time::timeout(Duration::from_secs(60), wanted).await;
        let said = self.node.stats().last_relay_error(id);
        assert!(found.is_ok(), "{reason:?} was not said, but {said:?}");
    }

    pub async fn state(&self, job: &SignedJob) -> JobState {
        let id = B256::from(job.id());
        let mut state = None;
        // Asked at once, and the answer is always yes.
        self.node
            .wait_until(|view| {
                state = view.job_state(id);
                true
            })
            .await;
        state.expect("known")
    }

    /// The receipt of the transaction that the node names for a job.
    pub async fn receipt(&self, record: &JobRecord) -> Value {
        let hash = record.relay_tx_hash().expect("relayed");
        self.world.rpc.call("eth_getTransactionReceipt", json!([hash])).await
    }

    /// Mines each transaction at once, or only when told.
    pub async fn automine(&self, on: bool) {
        self.world.rpc.call("evm_setAutomine", json!([on])).await;
    }

    pub async fn mine(&self) {
        self.world.rpc.call("evm_mine", json!([])).await;
    }

    /// Waits until so many transactions are in the pool.
    pub async fn pooled(&self, count: u64) {
        within(async {
            loop {
                let status = self.world.rpc.call("txpool_status", json!([])).await;
                let pending = status["pending"].as_str().expect("a number").trim_start_matches("0x");
                if u64::from_str_radix(pending, 16).expect("hex") >= count {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    pub async fn max_nonce(&self, consumer: Address) -> u64 {
        self.world.view(consumer, &Consumer::maxNonceCall {}).await
    }

    pub async fn root(&self, number: u64) -> u64 {
        self.world.root_of(number).await.to()
    }
}

fn add(revision: Revision, onchain: &[u8], state: &[u8]) -> Result<ProgramOutput, ProgramError> {
    let bad = |error: alloy_sol_types::Error| ProgramError::new(error.to_string());
    let (state, number) = match revision {
        Revision::State => (Bytes::copy_from_slice(state), U256::abi_decode(onchain).map_err(bad)?),
        _ => {
            let (_, inner) = <(B256, Bytes)>::abi_decode(onchain).map_err(bad)?;
            <(Bytes, U256)>::abi_decode(&inner).map_err(bad)?
        }
    };
    let before = if state.is_empty() { U256::ZERO } else { U256::abi_decode(&state).map_err(bad)? };
    let after = (before + number).abi_encode();
    Ok(ProgramOutput::stateful(keccak256(&after), after))
}
