//! The contracts of `contracts/`, deployed. Stands beside `anvil` and `rpc`.
//!
//! ```ignore
//! let world = World::start(Revision::Relay).await;
//! let job = world.job(world.square_root, 1, U256::from(9).abi_encode(), vec![]);
//! let receipt = world.settle(&job, &(U256::from(9), U256::from(3)).abi_encode()).await?;
//! ```

use alloy_sol_types::{SolValue, sol};
use infinityvm_sdk::{
    LocalSigner, OffchainJobRequest, ProgramId, Revision, SignedJob,
    primitives::{Address, B256, Bytes, U256, hex, keccak256},
};
use serde_json::Value;

use crate::{
    anvil::Anvil,
    rpc::{Rpc, RpcError},
};

sol! {
    #[derive(Debug, PartialEq, Eq)]
    struct JobMetadata { bytes programID; uint64 maxCycles; address consumer; uint8 status; }

    interface JobManager {
        event JobCreated(
            bytes32 indexed jobID, uint64 indexed nonce, address indexed consumer, uint64 maxCycles, bytes programID,
            bytes onchainInput
        );
        event JobCancelled(bytes32 indexed jobID);
        event JobCompleted(bytes32 indexed jobID, bytes result);

        function submitResultForOffchainJob(bytes result, bytes operatorSig, bytes request, bytes requestSig) external;
        function getJobMetadata(bytes32 jobID) external view returns (JobMetadata memory);
        function getCoprocessorOperator() external view returns (address);
        function setCoprocessorOperator(address next) external;
        function cancelJob(bytes32 jobID) external;
    }

    /// What every consumer has, or one of them, in either revision.
    interface Consumer {
        error Refused(bytes32 jobID, uint256 length);

        function getNextNonce() external view returns (uint64);
        function maxNonce() external view returns (uint64);
        function getJobManager() external view returns (address);
        function getOnchainInputForJob(bytes32 jobID) external view returns (bytes);
        function getOffchainInputHashForJob(bytes32 jobID) external view returns (bytes32);
        function getStateHashForJob(bytes32 jobID) external view returns (bytes32);
        function isValidSignature(bytes32 hash, bytes signature) external view returns (bytes4);
        function getOffchainSigner() external view returns (address);
        function getLatestStateRoot() external view returns (bytes32);
        function getLatestStateHash() external view returns (bytes32);
        function getLatestResult() external view returns (bytes);
        function getRoot(uint256 number) external view returns (uint256);
        function requestSquareRoot(bytes programID, uint256 number, uint64 maxCycles) external returns (bytes32);
        function cancel(bytes32 jobID) external;
        function setOffchainSigner(address next) external;
        function allow(address signer, bool allowed) external;
        function isAllowed(address signer) external view returns (bool);
        function getResult(bytes32 jobID) external view returns (bytes);
        function getPartner(uint64 number, address user) external view returns (address);
        function setMode(uint8 mode) external;
    }

    /// What the operator signs, written down once more: the crate's own definition is under test.
    struct RelayResult {
        bytes32 jobID; bytes32 onchainInputHash; bytes32 offchainInputHash; uint64 maxCycles; bytes programID;
        bytes result; bytes32[] versionedBlobHashes;
    }
    struct StateResult {
        bytes32 jobID; bytes32 onchainInputHash; bytes32 offchainInputHash; bytes32 stateHash; uint64 maxCycles;
        bytes programID; bytes result;
    }
}

macro_rules! artifacts {
    ($($path:literal),* $(,)?) => {
        /// Every artifact: its path below `contracts/artifacts`, without ending, and its text.
        pub const ARTIFACTS: &[(&str, &str)] = &[$(
            ($path, include_str!(concat!("../../../contracts/artifacts/", $path, ".json"))),
        )*];
    };
}

artifacts!(
    "check/RelayChecker",
    "check/StateChecker",
    "common/TestToken",
    "common/Wallet",
    "relay/AllowListConsumer",
    "relay/ClobConsumer",
    "relay/JobManager",
    "relay/MatchingGameConsumer",
    "relay/RevertingConsumer",
    "relay/SquareRootConsumer",
    "relay/StatefulSumConsumer",
    "relay/WalletConsumer",
    "state/AllowListConsumer",
    "state/JobManager",
    "state/MatchingGameConsumer",
    "state/RevertingConsumer",
    "state/SquareRootConsumer",
    "state/StatefulSumConsumer",
    "state/WalletConsumer",
);

/// The creation bytecode of an artifact, such as `relay/JobManager`.
pub fn bytecode(path: &str) -> Vec<u8> {
    let (_, text) = ARTIFACTS.iter().find(|(known, _)| *known == path).unwrap_or_else(|| panic!("no {path}"));
    let artifact: Value = serde_json::from_str(text).expect("JSON");
    hex::decode(artifact["bytecode"].as_str().expect("bytecode")).expect("hex")
}

/// Deploys an artifact with its ABI-encoded constructor arguments, in the name of an account that the chain signs for.
pub async fn deploy(rpc: &Rpc, from: Address, path: &str, arguments: &[u8]) -> Address {
    let code = [bytecode(path), arguments.to_vec()].concat();
    let hash = rpc.send(from, None, &code).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    let receipt = rpc.receipt(hash).await;
    assert_eq!(receipt["status"], "0x1", "{path}: the constructor reverted");
    receipt["contractAddress"].as_str().and_then(|address| address.parse().ok()).expect("an address")
}

/// What the operator signs for a job.
pub fn result(job: &SignedJob, output: &[u8], blob_hashes: &[B256]) -> Vec<u8> {
    let (job_id, onchain) = (B256::from(job.id()), keccak256(job.onchain_input()));
    let (program, result) = (job.program_id().as_bytes().clone(), Bytes::copy_from_slice(output));
    match job.revision() {
        Revision::State => StateResult {
            jobID: job_id,
            onchainInputHash: onchain,
            offchainInputHash: keccak256(job.offchain_input()),
            stateHash: keccak256(job.state()),
            maxCycles: job.max_cycles(),
            programID: program,
            result,
        }
        .abi_encode(),
        _ => RelayResult {
            jobID: job_id,
            onchainInputHash: onchain,
            offchainInputHash: keccak256(job.offchain_input()),
            maxCycles: job.max_cycles(),
            programID: program,
            result,
            versionedBlobHashes: blob_hashes.to_vec(),
        }
        .abi_encode(),
    }
}

/// A chain with a job manager and one consumer of each kind. All consumers have one signer, and no nonce seen.
pub struct World {
    pub anvil: Anvil,
    pub rpc: Rpc,
    pub revision: Revision,
    /// Deployed everything, so owns what has an owner. Anvil signs for it.
    pub owner: Address,
    pub operator: LocalSigner,
    pub signer: LocalSigner,
    pub job_manager: Address,
    pub square_root: Address,
    pub stateful_sum: Address,
    pub allow_list: Address,
    pub reverting: Address,
}

impl World {
    /// The state that the stateful consumer starts with: what is empty, hashed.
    pub const INITIAL_STATE: B256 = infinityvm_sdk::job::EMPTY_HASH;

    pub async fn start(revision: Revision) -> Self {
        Self::on(Anvil::start(), revision).await
    }

    /// Deploys on a chain that mines. Owner, operator and signer are its first three accounts.
    pub async fn on(anvil: Anvil, revision: Revision) -> Self {
        let rpc = Rpc::new(anvil.http_url());
        let (owner, operator, signer) = (anvil.address(0), anvil.signer(1), anvil.signer(2));
        let path = |name: &str| format!("{revision}/{name}");
        let job_manager = deploy(&rpc, owner, &path("JobManager"), &operator.address().abi_encode()).await;
        let plain = (job_manager, signer.address(), 0_u64).abi_encode_params();
        let stateful = (job_manager, signer.address(), 0_u64, Self::INITIAL_STATE).abi_encode_params();
        let square_root = deploy(&rpc, owner, &path("SquareRootConsumer"), &plain).await;
        let stateful_sum = deploy(&rpc, owner, &path("StatefulSumConsumer"), &stateful).await;
        let allow_list = deploy(&rpc, owner, &path("AllowListConsumer"), &plain).await;
        let reverting = deploy(&rpc, owner, &path("RevertingConsumer"), &plain).await;
        Self {
            anvil,
            rpc,
            revision,
            owner,
            operator,
            signer,
            job_manager,
            square_root,
            stateful_sum,
            allow_list,
            reverting,
        }
    }

    /// Another consumer of this job manager, which has seen nonces up to `max_nonce`. `name` is one with a single signer
    /// and no state.
    pub async fn consumer(&self, name: &str, signer: Address, max_nonce: u64) -> Address {
        let arguments = (self.job_manager, signer, max_nonce).abi_encode_params();
        deploy(&self.rpc, self.owner, &format!("{}/{name}", self.revision), &arguments).await
    }

    /// A job without a state, signed by [`signer`](Self::signer).
    pub fn job(
        &self,
        consumer: Address,
        nonce: u64,
        onchain_input: impl Into<Bytes>,
        offchain_input: impl Into<Bytes>,
    ) -> SignedJob {
        let job = OffchainJobRequest::builder(consumer, ProgramId::from(B256::repeat_byte(0x17)))
            .max_cycles(32_000_000)
            .onchain_input(onchain_input)
            .offchain_input(offchain_input);
        self.sign(&job.build().expect("a job"), nonce)
    }

    pub fn sign(&self, job: &OffchainJobRequest, nonce: u64) -> SignedJob {
        let unsigned = job.prepare(self.revision, nonce).expect("fits the revision");
        let signature = self.signer.sign_message_sync(unsigned.signing_bytes());
        unsigned.with_signature(Bytes::copy_from_slice(&signature)).expect("signed")
    }

    /// Brings the job's result on chain as a node does, without blobs, and returns the receipt.
    pub async fn settle(&self, job: &SignedJob, output: &[u8]) -> Result<Value, RpcError> {
        self.submit(&result(job, output, &[]), job).await
    }

    /// Brings any result on chain, signed by the operator.
    pub async fn submit(&self, result: &[u8], job: &SignedJob) -> Result<Value, RpcError> {
        self.rpc.transact(self.owner, self.job_manager, &self.submission(result, job)).await
    }

    /// The call that brings a result on chain, for transactions of one's own.
    pub fn submission(&self, result: &[u8], job: &SignedJob) -> JobManager::submitResultForOffchainJobCall {
        JobManager::submitResultForOffchainJobCall {
            result: Bytes::copy_from_slice(result),
            operatorSig: Bytes::copy_from_slice(&self.operator.sign_message_sync(result)),
            request: job.request().clone(),
            requestSig: job.signature().clone(),
        }
    }

    /// Calls a function of the job manager or a consumer without a transaction.
    pub async fn view<C: alloy_sol_types::SolCall>(&self, to: Address, call: &C) -> C::Return {
        self.rpc.view(to, call).await.unwrap_or_else(|error| panic!("{}: {error}", C::SIGNATURE))
    }

    pub async fn root_of(&self, number: u64) -> U256 {
        self.view(self.square_root, &Consumer::getRootCall { number: U256::from(number) }).await
    }
}
