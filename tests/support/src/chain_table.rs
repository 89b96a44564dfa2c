//! A chain in memory: what the contracts' view functions would say, from a table that tests write to. It counts round trips.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use alloy_signer::Signature;
use async_trait::async_trait;
use infinityvm_sdk::{
    Error, ErrorKind, Result, Revision, SignedJob,
    chain::{Answer, At, Block, Chain, ChainReader, Question},
    primitives::{
        Address, B256, Bytes, SolValue,
        alloy_sol_types::{Revert, SolCall, SolError},
        keccak256, sol,
    },
};

sol! {
    function getNextNonce() external view returns (uint64);
    function maxNonce() external view returns (uint64);
    function getOnchainInputForJob(bytes32 jobID) external view returns (bytes memory);
    function getOffchainInputHashForJob(bytes32 jobID) external view returns (bytes32);
    function getStateHashForJob(bytes32 jobID) external view returns (bytes32);
    function getJobManager() external view returns (address);
    function isValidSignature(bytes32 hash, bytes memory signature) external view returns (bytes4);
    function getOffchainSigner() external view returns (address);
    function getLatestStateRoot() external view returns (bytes32);
    function getLatestStateHash() external view returns (bytes32);
    function getJobMetadata(bytes32 jobID) external view returns (JobMetadata memory);
    function getCoprocessorOperator() external view returns (address);

    struct JobMetadata {
        bytes programID;
        uint64 maxCycles;
        address consumer;
        uint8 status;
    }
}

pub const MANAGER: Address = Address::repeat_byte(0x1a);

/// Whose signatures a consumer takes.
#[derive(Clone, Debug)]
pub enum Rule {
    /// One account, which `getOffchainSigner` names. The zero address takes what cannot be recovered.
    Single(Address),
    /// Several, and no `getOffchainSigner`.
    List(Vec<Address>),
}

#[derive(Clone, Debug)]
pub struct FakeConsumer {
    pub rule: Rule,
    /// What its check of signatures reverts with.
    pub paused: Option<&'static str>,
    /// Old ones have no `getJobManager`.
    pub manager: Option<Address>,
    pub max_nonce: u64,
    /// What `getNextNonce` says, where the contract overrides it.
    pub next_nonce: Option<u64>,
    pub revision: Revision,
    /// Of a stateful one.
    pub state: Option<B256>,
    pub inputs: HashMap<B256, (Bytes, B256, B256)>,
}

impl FakeConsumer {
    pub fn new(revision: Revision, signer: Address) -> Self {
        Self {
            rule: Rule::Single(signer),
            paused: None,
            manager: Some(MANAGER),
            max_nonce: 0,
            next_nonce: None,
            revision,
            state: None,
            inputs: HashMap::new(),
        }
    }

    fn takes(&self, hash: B256, signature: &[u8]) -> bool {
        let recovered = Signature::from_raw(signature).and_then(|it| it.recover_address_from_prehash(&hash)).ok();
        match &self.rule {
            Rule::Single(signer) => recovered.unwrap_or_default() == *signer,
            Rule::List(signers) => recovered.is_some_and(|signer| signers.contains(&signer)),
        }
    }
}

pub struct Table {
    pub chain_id: u64,
    pub genesis: B256,
    pub operator: Address,
    pub has_manager: bool,
    pub consumers: HashMap<Address, FakeConsumer>,
    pub jobs: HashMap<B256, JobMetadata>,
    /// The RPC does not answer.
    pub down: bool,
    /// It takes for ever.
    pub hangs: bool,
    /// It takes so long.
    pub pause: Duration,
    /// Calls of functions with this selector fail, each by itself.
    pub broken: Option<[u8; 4]>,
    /// Round trips so far.
    pub asked: usize,
    /// Questions so far.
    pub questions: usize,
    /// How often the operator was asked for.
    pub operator_asked: usize,
    /// What the RPC believes in place of the truth, in the batches to come: one entry for each.
    pub mistakes: VecDeque<Option<Mistake>>,
}

/// Changes the table for one batch.
pub type Mistake = Box<dyn FnOnce(&mut Table) + Send>;

/// What a mistake can be about.
type Kept = (HashMap<Address, FakeConsumer>, HashMap<B256, JobMetadata>, Address);

#[derive(Clone)]
pub struct FakeChain(Arc<Mutex<Table>>);

impl FakeChain {
    pub fn new(operator: Address) -> Self {
        Self(Arc::new(Mutex::new(Table {
            chain_id: 31337,
            genesis: B256::repeat_byte(0x60),
            operator,
            has_manager: true,
            consumers: HashMap::new(),
            jobs: HashMap::new(),
            down: false,
            hangs: false,
            pause: Duration::ZERO,
            broken: None,
            asked: 0,
            questions: 0,
            operator_asked: 0,
            mistakes: VecDeque::new(),
        })))
    }

    pub fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap()
    }

    pub fn chain(&self) -> Chain {
        Chain::new(self.clone(), MANAGER)
    }

    pub fn deploy(&self, address: Address, consumer: FakeConsumer) {
        self.table().consumers.insert(address, consumer);
    }

    pub fn change(&self, consumer: Address, change: impl FnOnce(&mut FakeConsumer)) {
        change(self.table().consumers.get_mut(&consumer).expect("a consumer"));
    }

    /// A job's result comes, and moves the state where the consumer has one.
    pub fn complete(&self, job: &SignedJob, next_state: Option<B256>) {
        self.put(job.consumer(), job.nonce(), 3, job.program_id().as_bytes().clone(), job.max_cycles());
        self.change(job.consumer(), |consumer| {
            let inputs = (job.onchain_input().clone(), job.offchain_input_hash(), job.state_hash());
            consumer.inputs.insert(job.id().into(), inputs);
            consumer.state = consumer.state.map(|state| next_state.unwrap_or(state));
        });
    }

    /// A job of this status has the nonce; 1 is an on-chain request.
    pub fn take(&self, consumer: Address, nonce: u64, status: u8) {
        self.put(consumer, nonce, status, Bytes::from_static(b"another program"), 7);
    }

    /// The RPC is wrong in one batch, after so many that are right.
    pub fn mistake(&self, after: usize, mistake: impl FnOnce(&mut Table) + Send + 'static) {
        let mut table = self.table();
        table.mistakes.extend((0..after).map(|_| None));
        table.mistakes.push_back(Some(Box::new(mistake)));
    }

    fn put(&self, consumer: Address, nonce: u64, status: u8, program: Bytes, cycles: u64) {
        let id = infinityvm_sdk::JobId::derive(nonce, consumer);
        let mut table = self.table();
        table.jobs.insert(id.into(), JobMetadata { programID: program, maxCycles: cycles, consumer, status });
        let consumer = table.consumers.get_mut(&consumer).expect("a consumer");
        consumer.max_nonce = consumer.max_nonce.max(nonce);
    }
}

impl fmt::Debug for FakeChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeChain")
    }
}

impl Table {
    fn answer(&mut self, question: &Question) -> Result<Answer> {
        Ok(match question {
            Question::ChainId => Answer::ChainId(self.chain_id),
            Question::Block(At::Number(0)) => Answer::Block(Some(Block::new(0, self.genesis, B256::ZERO, 0))),
            // One block lasts for ever.
            Question::Block(At::Latest | At::Number(1)) => {
                Answer::Block(Some(Block::new(1, B256::repeat_byte(0x61), self.genesis, 1)))
            }
            Question::Block(_) => Answer::Block(None),
            Question::Code(address, _) => {
                let contract = self.consumers.contains_key(address) || (*address == MANAGER && self.has_manager);
                Answer::Code(if contract { Bytes::from_static(&[0xfe]) } else { Bytes::new() })
            }
            Question::Call(call, _) => {
                if self.broken.is_some_and(|selector| call.data.starts_with(&selector)) {
                    return Err(Error::new(ErrorKind::Chain, "the RPC is busy").with_retryable(true));
                }
                match self.call(call.to, &call.data) {
                    Ok(returned) => Answer::Returned(returned.into()),
                    Err(reverted) => Answer::Reverted(reverted.into()),
                }
            }
            other => panic!("not in the table: {other:?}"),
        })
    }

    /// What a call returns, or reverts with.
    fn call(&mut self, to: Address, data: &[u8]) -> Result<Vec<u8>, Vec<u8>> {
        if to == MANAGER && self.has_manager {
            if let Ok(call) = getJobMetadataCall::abi_decode(data) {
                let none = JobMetadata { programID: Bytes::new(), maxCycles: 0, consumer: Address::ZERO, status: 0 };
                return Ok(self.jobs.get(&call.jobID).unwrap_or(&none).abi_encode());
            }
            if data.starts_with(&getCoprocessorOperatorCall::SELECTOR) {
                self.operator_asked += 1;
                return Ok(self.operator.abi_encode());
            }
            return Err(Vec::new());
        }
        // An account without code returns nothing.
        let Some(consumer) = self.consumers.get(&to) else { return Ok(Vec::new()) };
        let selector: [u8; 4] = data[..4].try_into().expect("a selector");
        let inputs = |id: B256| consumer.inputs.get(&id).cloned().unwrap_or_default();
        let state = consumer.state.map(|state| state.abi_encode()).ok_or_else(Vec::new);
        match selector {
            getNextNonceCall::SELECTOR => match consumer.next_nonce.or(consumer.max_nonce.checked_add(1)) {
                Some(next) => Ok(next.abi_encode()),
                None => Err(Revert { reason: "overflow".into() }.abi_encode()),
            },
            maxNonceCall::SELECTOR => Ok(consumer.max_nonce.abi_encode()),
            getJobManagerCall::SELECTOR => consumer.manager.map(|it| it.abi_encode()).ok_or_else(Vec::new),
            getLatestStateRootCall::SELECTOR if consumer.revision == Revision::Relay => state,
            getLatestStateHashCall::SELECTOR if consumer.revision == Revision::State => state,
            getOffchainSignerCall::SELECTOR => match consumer.rule {
                Rule::Single(signer) => Ok(signer.abi_encode()),
                Rule::List(_) => Err(Vec::new()),
            },
            isValidSignatureCall::SELECTOR => {
                if let Some(reason) = consumer.paused {
                    return Err(Revert { reason: reason.into() }.abi_encode());
                }
                let call = isValidSignatureCall::abi_decode(data).expect("a call");
                let valid = consumer.takes(call.hash, &call.signature);
                let magic: [u8; 4] = if valid { [0x16, 0x26, 0xba, 0x7e] } else { [0xff; 4] };
                Ok([&magic[..], &[0; 28]].concat())
            }
            getOnchainInputForJobCall::SELECTOR => {
                Ok(inputs(getOnchainInputForJobCall::abi_decode(data).expect("a call").jobID).0.abi_encode())
            }
            getOffchainInputHashForJobCall::SELECTOR => {
                Ok(inputs(getOffchainInputHashForJobCall::abi_decode(data).expect("a call").jobID).1.abi_encode())
            }
            getStateHashForJobCall::SELECTOR if consumer.revision == Revision::State => {
                Ok(inputs(getStateHashForJobCall::abi_decode(data).expect("a call").jobID).2.abi_encode())
            }
            _ => Err(Vec::new()),
        }
    }
}

#[async_trait]
impl ChainReader for FakeChain {
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        let (hangs, pause) = {
            let mut table = self.table();
            table.asked += 1;
            table.questions += questions.len();
            (table.hangs, table.pause)
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        if pause.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(pause).await;
        }
        let mut table = self.table();
        if table.down {
            return Err(Error::new(ErrorKind::Chain, "connection refused").with_retryable(true));
        }
        let Some(mistake) = table.mistakes.pop_front().flatten() else {
            return Ok(questions.iter().map(|question| table.answer(question)).collect());
        };
        let truth: Kept = (table.consumers.clone(), table.jobs.clone(), table.operator);
        mistake(&mut table);
        let answers = questions.iter().map(|question| table.answer(question)).collect();
        (table.consumers, table.jobs, table.operator) = truth;
        Ok(answers)
    }

    async fn next_head(&self, _: Option<B256>) -> Result<Block> {
        std::future::pending().await
    }

    fn endpoint(&self) -> &str {
        "fake chain"
    }
}

/// A root that stands for this text.
pub fn root(text: &str) -> B256 {
    keccak256(text)
}
