//! A node, a consumer, its signer and a raw client of either front end.

use std::{marker::PhantomData, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::{SolValue, sol};
use infinityvm_sdk::{
    Revision,
    devnode::{ConsumerRules, DevNode, DevNodeBuilder, JobState, ProgramError, ProgramOutput},
};
use tonic::{Code, Status, transport::Channel};

pub use support::harness::within;

use crate::{
    http::{RestClient, no_answer},
    plain_client::{
        relay::{self, coprocessor_node_client::CoprocessorNodeClient as RelayClient},
        state::{self, coprocessor_node_client::CoprocessorNodeClient as StateClient},
    },
};

pub mod relay_abi {
    use super::sol;
    sol! {
        struct OffchainJobRequest {
            uint64 nonce; uint64 maxCycles; address consumer; bytes programID; bytes onchainInput;
            bytes32 offchainInputHash;
        }
        struct OffchainResultWithMetadata {
            bytes32 jobID; bytes32 onchainInputHash; bytes32 offchainInputHash; uint64 maxCycles; bytes programID;
            bytes result; bytes32[] versionedBlobHashes;
        }
        struct Stateful { bytes32 root; bytes rest; }
    }
}

pub mod state_abi {
    use super::sol;
    sol! {
        struct OffchainJobRequest {
            uint64 nonce; uint64 maxCycles; address consumer; bytes programID; bytes onchainInput;
            bytes32 offchainInputHash; bytes32 stateHash;
        }
        struct OffchainResultWithMetadata {
            bytes32 jobID; bytes32 onchainInputHash; bytes32 offchainInputHash; bytes32 stateHash; uint64 maxCycles;
            bytes programID; bytes result;
        }
    }
}

pub const CONSUMER: Address = Address::repeat_byte(0xc0);
pub const STATEFUL: Address = Address::repeat_byte(0xc1);
pub const NO_CODE: Address = Address::repeat_byte(0xc2);
pub const ROOT: B256 = B256::repeat_byte(0x07);

pub const UNORDERED: i32 = 0;
pub const ORDERED: i32 = 1;

pub async fn channel(node: &DevNode) -> Channel {
    Channel::from_shared(node.grpc_url()).unwrap().connect().await.unwrap()
}

#[derive(Clone, Debug)]
pub struct Job {
    pub revision: Revision,
    pub nonce: u64,
    pub max_cycles: u64,
    pub consumer: Address,
    pub program_id: Bytes,
    pub onchain: Vec<u8>,
    pub offchain: Vec<u8>,
    pub state: Vec<u8>,
    pub strategy: i32,
}

impl Job {
    pub fn id(&self) -> B256 {
        keccak256((self.nonce, self.consumer).abi_encode_packed())
    }

    pub fn abi(&self) -> Vec<u8> {
        let offchain_input_hash = keccak256(&self.offchain);
        match self.revision {
            Revision::State => state_abi::OffchainJobRequest {
                nonce: self.nonce,
                maxCycles: self.max_cycles,
                consumer: self.consumer,
                programID: self.program_id.clone(),
                onchainInput: self.onchain.clone().into(),
                offchainInputHash: offchain_input_hash,
                stateHash: keccak256(&self.state),
            }
            .abi_encode(),
            _ => relay_abi::OffchainJobRequest {
                nonce: self.nonce,
                maxCycles: self.max_cycles,
                consumer: self.consumer,
                programID: self.program_id.clone(),
                onchainInput: self.onchain.clone().into(),
                offchainInputHash: offchain_input_hash,
            }
            .abi_encode(),
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// The fields of a record that both revisions have.
#[derive(Clone, Debug, PartialEq)]
pub struct Rec {
    pub id: Vec<u8>,
    pub nonce: u64,
    pub max_cycles: u64,
    pub consumer: Vec<u8>,
    pub program_id: Vec<u8>,
    pub onchain: Vec<u8>,
    pub offchain_hash: Vec<u8>,
    pub state_hash: Option<Vec<u8>>,
    pub signature: Vec<u8>,
    pub result: Vec<u8>,
    pub operator_signature: Vec<u8>,
    pub status: i32,
    pub failure: Option<String>,
    pub retries: u32,
    pub tx: Vec<u8>,
}

pub const PENDING: i32 = 1;
pub const DONE: i32 = 2;
pub const FAILED: i32 = 3;
pub const RELAYED: i32 = 4;

#[derive(Clone)]
pub enum Client {
    State(StateClient<Channel>),
    Relay(RelayClient<Channel>),
    /// With a client of gRPC for what the gateway has no route for.
    Rest(RestClient, Box<Self>),
}

/// A status, as far as a test compares it.
pub type Refused = (Code, String);

fn refused(status: Status) -> Refused {
    (status.code(), status.message().to_owned())
}

pub fn internal(text: &str) -> Refused {
    (Code::Internal, text.to_owned())
}

pub fn invalid(text: &str) -> Refused {
    (Code::InvalidArgument, text.to_owned())
}

/// What a client sees of a handler that died.
pub fn died() -> Refused {
    (Code::Cancelled, "h2 protocol error: http2 error".to_owned())
}

impl Client {
    pub async fn submit(
        &self,
        request: Vec<u8>,
        signature: Vec<u8>,
        offchain_input: Vec<u8>,
        state: Vec<u8>,
        relay_strategy: i32,
    ) -> Result<B256, Refused> {
        let id = match self.clone() {
            Self::Rest(client, _) => {
                return client.submit(request, signature, offchain_input, state, relay_strategy).await;
            }
            Self::State(mut client) => {
                let message = state::SubmitJobRequest { request, signature, offchain_input, state };
                client.submit_job(message).await.map_err(refused)?.into_inner().job_id
            }
            Self::Relay(mut client) => {
                let message = relay::SubmitJobRequest { request, signature, offchain_input, relay_strategy };
                client.submit_job(message).await.map_err(refused)?.into_inner().job_id
            }
        };
        Ok(B256::from_slice(&id))
    }

    pub async fn get(&self, job_id: Vec<u8>) -> Result<Rec, Refused> {
        macro_rules! record {
            ($client:ident, $module:ident, $state_hash:expr) => {{
                let message = $module::GetResultRequest { job_id };
                let r = $client.get_result(message).await.map_err(refused)?.into_inner().job_result.unwrap();
                let status = r.status.clone().unwrap();
                Rec {
                    state_hash: $state_hash(&r),
                    id: r.id,
                    nonce: r.nonce,
                    max_cycles: r.max_cycles,
                    consumer: r.consumer_address,
                    program_id: r.program_id,
                    onchain: r.onchain_input,
                    offchain_hash: r.offchain_input_hash,
                    signature: r.request_signature,
                    result: r.result_with_metadata,
                    operator_signature: r.zkvm_operator_signature,
                    status: status.status,
                    failure: status.failure_reason,
                    retries: status.retries,
                    tx: r.relay_tx_hash,
                }
            }};
        }
        Ok(match self.clone() {
            Self::Rest(client, _) => return client.get(job_id).await,
            Self::State(mut client) => record!(client, state, |r: &state::JobResult| Some(r.state_hash.clone())),
            Self::Relay(mut client) => record!(client, relay, |_: &relay::JobResult| None),
        })
    }

    pub async fn submit_program(&self, elf: &[u8], id: &[u8], vm_type: i32) -> Result<Vec<u8>, Refused> {
        let program_elf = elf.to_vec();
        Ok(match self.clone() {
            Self::Rest(client, _) => return client.submit_program(elf, id, vm_type).await,
            Self::State(mut client) => {
                let message = state::SubmitProgramRequest { program_elf, vm_type };
                client.submit_program(message).await.map_err(refused)?.into_inner().program_id
            }
            Self::Relay(mut client) => {
                let message = relay::SubmitProgramRequest { program_elf, program_id: id.to_vec(), vm_type };
                client.submit_program(message).await.map_err(refused)?.into_inner().program_id
            }
        })
    }

    pub fn relay(&self) -> RelayClient<Channel> {
        match self {
            Self::Relay(client) => client.clone(),
            Self::Rest(_, client) => client.relay(),
            Self::State(_) => panic!("only the Relay revision has this call"),
        }
    }

    pub async fn pending(&self, consumer: &[u8]) -> Result<Vec<u64>, Refused> {
        let message = relay::GetPendingJobsRequest { consumer_address: consumer.to_vec() };
        Ok(self.relay().get_pending_jobs(message).await.map_err(refused)?.into_inner().pending_jobs)
    }

    pub async fn contains(&self, program_id: &[u8]) -> Result<bool, Refused> {
        let message = relay::ContainsProgramRequest { program_id: program_id.to_vec() };
        Ok(self.relay().contains_program(message).await.map_err(refused)?.into_inner().contains)
    }
}

/// By which front end a rig calls the node.
pub trait Over: Send + Sync + 'static {
    async fn connect(node: &DevNode) -> Client;
    /// What a client sees of a reply lost with its stream.
    fn reset() -> Refused;
}

pub struct Grpc;

impl Over for Grpc {
    async fn connect(node: &DevNode) -> Client {
        let channel = channel(node).await;
        match node.revision() {
            Revision::State => Client::State(StateClient::new(channel)),
            _ => Client::Relay(RelayClient::new(channel)),
        }
    }

    fn reset() -> Refused {
        died()
    }
}

pub struct Rest;

impl Over for Rest {
    async fn connect(node: &DevNode) -> Client {
        Client::Rest(RestClient::new(node), Box::new(Grpc::connect(node).await))
    }

    fn reset() -> Refused {
        no_answer()
    }
}

/// What both front ends do alike: each test twice, over gRPC and over REST. A test that is not listed is unused code, which
/// the lints refuse.
macro_rules! over_both {
    ($($test:ident,)*) => {
        mod over_grpc {
            $(#[tokio::test]
            async fn $test() {
                super::$test::<$crate::rig::Grpc>().await;
            })*
        }

        mod over_rest {
            $(#[tokio::test]
            async fn $test() {
                super::$test::<$crate::rig::Rest>().await;
            })*
        }
    };
}

pub struct Rig<O> {
    pub over: PhantomData<O>,
    pub node: DevNode,
    pub client: Client,
    pub signer: PrivateKeySigner,
    /// Repeats the onchain input, 0xff and the offchain input, 0xff and the state; exits with an error on the
    /// onchain input `fail`, and panics on `panic`.
    pub program: Bytes,
}

pub fn signer() -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(0x51)).unwrap()
}

impl<O: Over> Rig<O> {
    pub async fn relay() -> Self {
        Self::start(Revision::Relay, |builder| builder).await
    }

    pub async fn state() -> Self {
        Self::start(Revision::State, |builder| builder).await
    }

    pub async fn start(revision: Revision, setup: impl FnOnce(DevNodeBuilder) -> DevNodeBuilder) -> Self {
        let signer = signer();
        let builder = DevNode::builder(revision)
            .consumer(CONSUMER, ConsumerRules::signed_by(signer.address()))
            .consumer(STATEFUL, ConsumerRules::signed_by(signer.address()).with_state(ROOT));
        let node = setup(builder).start().await.unwrap();
        let program = node.register_program(|input| match input.onchain {
            b"fail" => Err(ProgramError::new("told to")),
            b"panic" => std::panic::resume_unwind(Box::new("told to")),
            b"1000 cycles" => Ok(ProgramOutput::new(vec![1]).with_cycles(1000)),
            onchain if input.state.is_empty() => Ok([onchain, &[0xff], input.offchain].concat().into()),
            onchain => Ok([onchain, &[0xff], input.offchain, &[0xff], input.state].concat().into()),
        });
        let client = Self::connect(&node).await;
        Self { over: PhantomData, node, client, signer, program }
    }

    pub async fn connect(node: &DevNode) -> Client {
        O::connect(node).await
    }

    pub fn reset() -> Refused {
        O::reset()
    }

    pub fn job(&self, nonce: u64) -> Job {
        Job {
            revision: self.node.revision(),
            nonce,
            max_cycles: 100,
            consumer: CONSUMER,
            program_id: self.program.clone(),
            onchain: vec![0xaa],
            offchain: Vec::new(),
            state: Vec::new(),
            strategy: UNORDERED,
        }
    }

    pub fn ordered(&self, nonce: u64) -> Job {
        self.job(nonce).with(|job| job.strategy = ORDERED)
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.signer.sign_message_sync(message).unwrap().as_bytes().to_vec()
    }

    pub async fn send(&self, job: &Job) -> Result<B256, Refused> {
        let signature = self.sign(&job.abi());
        self.send_signed(job, signature).await
    }

    pub async fn send_signed(&self, job: &Job, signature: Vec<u8>) -> Result<B256, Refused> {
        let (offchain, state) = (job.offchain.clone(), job.state.clone());
        within(self.client.submit(job.abi(), signature, offchain, state, job.strategy)).await
    }

    pub async fn record(&self, job: &Job) -> Rec {
        within(self.client.get(job.id().to_vec())).await.unwrap()
    }

    pub async fn pending(&self) -> Vec<u64> {
        within(self.client.pending(CONSUMER.as_slice())).await.unwrap()
    }

    pub async fn until(&self, job: &Job, state: JobState) -> Rec {
        let id = job.id();
        within(self.node.wait_until(|view| view.job_state(id) == Some(state))).await;
        self.record(job).await
    }

    /// Sends a job and waits for its state.
    pub async fn run(&self, job: &Job, state: JobState) -> Rec {
        assert_eq!(self.send(job).await, Ok(job.id()));
        self.until(job, state).await
    }

    /// Waits until the job's result was sent to the chain so often. It tells "held at DONE because it reverts" from "not
    /// there yet".
    pub async fn attempted(&self, job: &Job, times: usize) {
        let id = job.id();
        within(self.node.wait_until(|view| view.stats().relay_attempts(id) >= times)).await;
    }

    pub fn executions(&self, job: &Job) -> usize {
        self.node.stats().executions(job.id())
    }

    pub fn output(&self, record: &Rec) -> Vec<u8> {
        match self.node.revision() {
            Revision::State => {
                state_abi::OffchainResultWithMetadata::abi_decode_validate(&record.result).unwrap().result.to_vec()
            }
            _ => relay_abi::OffchainResultWithMetadata::abi_decode_validate(&record.result).unwrap().result.to_vec(),
        }
    }

    /// Starts a submission in the background.
    pub fn spawn(self: &Arc<Self>, job: &Job) -> tokio::task::JoinHandle<Result<B256, Refused>> {
        let (rig, job) = (Arc::clone(self), job.clone());
        tokio::spawn(async move { rig.send(&job).await })
    }
}
