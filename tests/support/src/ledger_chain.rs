//! A chain in memory: the contracts' checks and getters, written by hand, and an account that posts to it.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use infinityvm_sdk::{
    Error, ErrorKind, JobId, Outcome, Revision, SignedJob,
    chain::{Answer, At, Block, Call, ChainReader, Log, PostTransaction, Poster, Question, Receipt, Transaction},
    job::{abi, eip191_hash, input_hash, recover_signer},
    primitives::{Address, B256, Bytes, SolValue, alloy_sol_types::SolCall, keccak256, sol},
};

sol! {
    function getNextNonce() returns (uint64);
    function maxNonce() returns (uint64);
    function getOnchainInputForJob(bytes32 jobID) returns (bytes);
    function getOffchainInputHashForJob(bytes32 jobID) returns (bytes32);
    function getStateHashForJob(bytes32 jobID) returns (bytes32);
    function getJobManager() returns (address);
    function isValidSignature(bytes32 hash, bytes signature) returns (bytes4);
    function getOffchainSigner() returns (address);
    function getLatestStateRoot() returns (bytes32);
    function getLatestStateHash() returns (bytes32);
    function getJobMetadata(bytes32 jobID) returns (bytes, uint64, address, uint8);
    function getCoprocessorOperator() returns (address);
    function submitResultForOffchainJob(bytes result, bytes resultSignature, bytes request, bytes requestSignature);
    function submitResult(bytes resultWithMetadata, bytes resultSignature);
}

pub const JOB_MANAGER: Address = Address::repeat_byte(0x1a);
pub const CHAIN_ID: u64 = 31_337;

/// What the chain holds.
#[derive(Clone, Default)]
pub struct World {
    pub operator: Address,
    pub consumers: HashMap<Address, ConsumerState>,
    pub jobs: HashMap<B256, JobState>,
    pub receipts: HashMap<B256, Receipt>,
    /// In the pool, and not in a block.
    pub pool: HashMap<B256, Transaction>,
    /// What the transactions in blocks called.
    pub included: HashMap<B256, Transaction>,
    /// Who signed what.
    pub signed: HashMap<(B256, Bytes), Address>,
    pub number: u64,
    /// The hash of block 0, of a chain that was begun anew.
    pub genesis: Option<B256>,
}

#[derive(Clone, Debug, Default)]
pub struct ConsumerState {
    pub signer: Address,
    pub state: Option<B256>,
    pub max_nonce: u64,
    /// Of every result.
    pub reverts_with: Option<&'static str>,
    pub job_manager: Option<Address>,
}

#[derive(Clone, Debug, Default)]
pub struct JobState {
    pub status: u8,
    pub program_id: Bytes,
    pub max_cycles: u64,
    pub consumer: Address,
    pub onchain_input: Bytes,
    pub offchain_input_hash: B256,
    pub state_hash: B256,
    pub tx_hash: B256,
    pub block: u64,
    pub result: Bytes,
}

type Hook = Box<dyn FnMut(&mut World) + Send>;

struct Inner {
    revision: Revision,
    world: Mutex<World>,
    round_trips: AtomicUsize,
    unreachable: AtomicBool,
}

#[derive(Clone)]
pub struct FakeChain(Arc<Inner>);

impl fmt::Debug for FakeChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeChain")
    }
}

fn hash(number: u64) -> B256 {
    keccak256([b"block".as_slice(), &number.to_be_bytes()].concat())
}

fn error_string(text: &str) -> Bytes {
    let mut data = vec![0x08, 0xc3, 0x79, 0xa0];
    data.extend((text.to_owned(),).abi_encode_params());
    data.into()
}

/// The fields of a request of either revision.
pub struct Request {
    pub nonce: u64,
    pub job: JobState,
    pub id: B256,
}

impl Request {
    pub fn decode(revision: Revision, bytes: &[u8]) -> Self {
        let (nonce, job) = match revision {
            Revision::State => {
                let it = abi::state::OffchainJobRequest::abi_decode(bytes).unwrap();
                let job = JobState {
                    program_id: it.programID,
                    max_cycles: it.maxCycles,
                    consumer: it.consumer,
                    onchain_input: it.onchainInput,
                    offchain_input_hash: it.offchainInputHash,
                    state_hash: it.stateHash,
                    ..JobState::default()
                };
                (it.nonce, job)
            }
            _ => {
                let it = abi::relay::OffchainJobRequest::abi_decode(bytes).unwrap();
                let job = JobState {
                    program_id: it.programID,
                    max_cycles: it.maxCycles,
                    consumer: it.consumer,
                    onchain_input: it.onchainInput,
                    offchain_input_hash: it.offchainInputHash,
                    ..JobState::default()
                };
                (it.nonce, job)
            }
        };
        Self { nonce, id: JobId::derive(nonce, job.consumer).into(), job }
    }
}

impl World {
    /// `submitResultForOffchainJob`: what it reverts with, or the job as it is then, its consumer's state and its nonce.
    fn settle(
        &self,
        revision: Revision,
        data: &[u8],
        blobs: &[B256],
    ) -> Result<(B256, JobState, u64, Option<B256>), &'static str> {
        let call = submitResultForOffchainJobCall::abi_decode(data).unwrap();
        let Request { nonce, id, mut job } = Request::decode(revision, &call.request);
        let consumer = self.consumers.get(&job.consumer).ok_or("")?;
        if recover_signer(&call.request, &call.requestSignature).ok() != Some(consumer.signer) {
            return Err("JobManager.submitResultForOffchainJob: Invalid signature on job request");
        }
        if recover_signer(&call.result, &call.resultSignature).ok() != Some(self.operator) {
            return Err("JobManager.submitResultForOffchainJob: Invalid signature on result");
        }
        if self.jobs.get(&id).is_some_and(|job| job.status != 0) {
            return Err("JobManager.createJob: job already exists with this nonce and consumer");
        }
        let (same, output, hashes) = match revision {
            Revision::State => {
                let it = abi::state::OffchainResultWithMetadata::abi_decode(&call.result).unwrap();
                (it.jobID == id && it.programID == job.program_id, it.result, Vec::new())
            }
            _ => {
                let it = abi::relay::OffchainResultWithMetadata::abi_decode(&call.result).unwrap();
                (it.jobID == id && it.programID == job.program_id, it.result, it.versionedBlobHashes)
            }
        };
        if !same {
            return Err(
                "JobManager.submitResult: program ID signed by coprocessor doesn't match program ID submitted with job",
            );
        }
        if hashes != blobs {
            return Err(
                "JobManager.submitResultForOffchainJob: blob hashes signed by coprocessor don't match blob hashes of transaction",
            );
        }
        if let Some(text) = consumer.reverts_with {
            return Err(text);
        }
        let mut state = None;
        if let Some(latest) = consumer.state {
            let input = match revision {
                Revision::State => Some(job.state_hash),
                _ => {
                    abi::relay::StatefulAppOnchainInput::abi_decode(&job.onchain_input).ok().map(|it| it.inputStateRoot)
                }
            };
            if input != Some(latest) {
                return Err(match revision {
                    Revision::State => "Invalid state hash passed as input",
                    _ => "Invalid state root passed as input",
                });
            }
            state = Some(abi::relay::StatefulAppResult::abi_decode(&output).unwrap().outputStateRoot);
        }
        job.status = 3;
        job.result = output;
        Ok((id, job, nonce, state))
    }

    /// Puts a transaction into a block. Returns whether it succeeded.
    pub fn include(&mut self, revision: Revision, tx_hash: B256, data: &[u8], blobs: &[B256]) -> bool {
        self.number += 1;
        self.pool.remove(&tx_hash);
        let called = Transaction::new(tx_hash, Some(JOB_MANAGER), Bytes::copy_from_slice(data));
        self.included.insert(tx_hash, called);
        let settled = self.settle(revision, data, blobs);
        let succeeded = settled.is_ok();
        let mut logs = Vec::new();
        if let Ok((id, mut job, nonce, state)) = settled {
            (job.tx_hash, job.block) = (tx_hash, self.number);
            logs.push(completed(id, &job));
            let consumer = self.consumers.get_mut(&job.consumer).unwrap();
            consumer.max_nonce = consumer.max_nonce.max(nonce);
            consumer.state = state.or(consumer.state);
            self.jobs.insert(id, job);
        }
        let receipt = Receipt::new(tx_hash, self.number, hash(self.number), succeeded, logs);
        self.receipts.insert(tx_hash, receipt);
        succeeded
    }

    /// A request made on chain is completed by a transaction of its own kind.
    pub fn complete_request(&mut self, tx_hash: B256, id: B256, mut job: JobState) {
        self.number += 1;
        let call = submitResultCall { resultWithMetadata: Bytes::new(), resultSignature: Bytes::new() };
        let called = Transaction::new(tx_hash, Some(JOB_MANAGER), call.abi_encode().into());
        self.included.insert(tx_hash, called);
        (job.status, job.tx_hash, job.block) = (3, tx_hash, self.number);
        let logs = vec![completed(id, &job)];
        self.receipts.insert(tx_hash, Receipt::new(tx_hash, self.number, hash(self.number), true, logs));
        self.jobs.insert(id, job);
    }

    fn call(&self, revision: Revision, call: &Call) -> Answer {
        let data = &call.data;
        let is = |selector: [u8; 4]| data[..4] == selector;
        let returned = |bytes: Vec<u8>| Answer::Returned(bytes.into());
        if call.to == JOB_MANAGER {
            if is(getCoprocessorOperatorCall::SELECTOR) {
                return returned(self.operator.abi_encode());
            }
            if is(getJobMetadataCall::SELECTOR) {
                let id = getJobMetadataCall::abi_decode(data).unwrap().jobID;
                let job = self.jobs.get(&id).cloned().unwrap_or_default();
                // As the contract returns it: a struct.
                let values = (job.program_id, job.max_cycles, job.consumer, u32::from(job.status));
                return returned([vec![0; 31], vec![0x20], values.abi_encode_params()].concat());
            }
            assert!(is(submitResultForOffchainJobCall::SELECTOR));
            return match self.settle(revision, data, &call.blob_hashes) {
                Ok(_) => Answer::Returned(Bytes::new()),
                Err("") => Answer::Reverted(Bytes::new()),
                Err(text) => Answer::Reverted(error_string(text)),
            };
        }
        let Some(consumer) = self.consumers.get(&call.to) else { return Answer::Returned(Bytes::new()) };
        let job = |id: B256| self.jobs.get(&id).cloned().unwrap_or_default();
        if is(getNextNonceCall::SELECTOR) {
            returned((consumer.max_nonce + 1).abi_encode())
        } else if is(maxNonceCall::SELECTOR) {
            returned(consumer.max_nonce.abi_encode())
        } else if is(getOffchainSignerCall::SELECTOR) {
            returned(consumer.signer.abi_encode())
        } else if is(getJobManagerCall::SELECTOR) {
            returned(consumer.job_manager.unwrap_or(JOB_MANAGER).abi_encode())
        } else if is(getOnchainInputForJobCall::SELECTOR) {
            returned(job(getOnchainInputForJobCall::abi_decode(data).unwrap().jobID).onchain_input.abi_encode())
        } else if is(getOffchainInputHashForJobCall::SELECTOR) {
            returned(
                job(getOffchainInputHashForJobCall::abi_decode(data).unwrap().jobID).offchain_input_hash.abi_encode(),
            )
        } else if is(getStateHashForJobCall::SELECTOR) && revision == Revision::State {
            returned(job(getStateHashForJobCall::abi_decode(data).unwrap().jobID).state_hash.abi_encode())
        } else if is(isValidSignatureCall::SELECTOR) {
            let it = isValidSignatureCall::abi_decode(data).unwrap();
            let valid = self.signed.get(&(it.hash, it.signature)) == Some(&consumer.signer);
            let mut word = vec![0; 32];
            word[..4].copy_from_slice(if valid { &[0x16, 0x26, 0xba, 0x7e] } else { &[0xff; 4] });
            returned(word)
        } else {
            let state = match revision {
                Revision::State => getLatestStateHashCall::SELECTOR,
                _ => getLatestStateRootCall::SELECTOR,
            };
            match consumer.state {
                Some(root) if is(state) => returned(root.abi_encode()),
                _ => Answer::Reverted(Bytes::new()),
            }
        }
    }

    /// What it answers at its latest block.
    pub fn answer(&self, revision: Revision, question: &Question) -> Answer {
        match question {
            Question::ChainId => Answer::ChainId(CHAIN_ID),
            Question::Block(At::Latest) => Answer::Block(Some(block(self.number))),
            Question::Block(At::Number(0)) if self.genesis.is_some() => {
                let hash = self.genesis.unwrap_or_default();
                Answer::Block(Some(Block::new(0, hash, B256::ZERO, 0)))
            }
            Question::Block(At::Number(number)) => Answer::Block((*number <= self.number).then(|| block(*number))),
            Question::Code(address, _) => {
                let code = *address == JOB_MANAGER || self.consumers.contains_key(address);
                Answer::Code(if code { Bytes::from_static(&[1]) } else { Bytes::new() })
            }
            Question::Call(call, _) => self.call(revision, call),
            Question::Receipt(hash) => Answer::Receipt(self.receipts.get(hash).cloned()),
            Question::Transaction(hash) => {
                Answer::Transaction(self.pool.get(hash).or(self.included.get(hash)).cloned())
            }
            Question::Logs(filter) => {
                let in_range = |job: &JobState| (filter.from_block..=filter.to_block).contains(&job.block);
                let wanted = |id: &B256| filter.topics[1].contains(id);
                let jobs = self.jobs.iter().filter(|(id, job)| job.status == 3 && wanted(id) && in_range(job));
                Answer::Logs(jobs.map(|(id, job)| completed(*id, job)).collect())
            }
            other => panic!("{other:?}"),
        }
    }
}

fn block(number: u64) -> Block {
    Block::new(number, hash(number), hash(number.wrapping_sub(1)), number)
}

fn completed(id: B256, job: &JobState) -> Log {
    let topics = vec![keccak256("JobCompleted(bytes32,bytes)"), id];
    Log::new(JOB_MANAGER, topics, job.result.abi_encode().into(), job.block, hash(job.block), job.tx_hash)
}

impl FakeChain {
    pub fn new(revision: Revision, operator: Address) -> Self {
        let world = World { operator, number: 10, ..World::default() };
        Self(Arc::new(Inner {
            revision,
            world: Mutex::new(world),
            round_trips: AtomicUsize::new(0),
            unreachable: AtomicBool::new(false),
        }))
    }

    pub fn revision(&self) -> Revision {
        self.0.revision
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.world.lock().unwrap()
    }

    pub fn deploy(&self, consumer: Address, signer: Address, state: Option<B256>) {
        self.world().consumers.insert(consumer, ConsumerState { signer, state, ..ConsumerState::default() });
    }

    /// Who signed what, as `isValidSignature` is asked with hashes.
    pub fn knows(&self, job: &SignedJob) {
        let signer = job.recover().unwrap_or_default();
        self.world().signed.insert((eip191_hash(job.request()), job.signature().clone()), signer);
    }

    /// Puts a job on chain under another's nonce, or its own.
    pub fn put(&self, job: &SignedJob, status: u8) {
        let Request { nonce, id, job } = Request::decode(self.0.revision, job.request());
        let mut world = self.world();
        let consumer = world.consumers.get_mut(&job.consumer).unwrap();
        consumer.max_nonce = consumer.max_nonce.max(nonce);
        let (tx_hash, block) = (keccak256(id), world.number);
        world.jobs.insert(id, JobState { status, tx_hash, block, ..job });
    }

    pub fn set_unreachable(&self, unreachable: bool) {
        self.0.unreachable.store(unreachable, SeqCst);
    }

    pub fn round_trips(&self) -> usize {
        self.0.round_trips.load(SeqCst)
    }
}

#[async_trait]
impl ChainReader for FakeChain {
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer, Error>>, Error> {
        self.0.round_trips.fetch_add(1, SeqCst);
        if self.0.unreachable.load(SeqCst) {
            return Err(Error::new(ErrorKind::Chain, "the RPC is down").with_retryable(true));
        }
        let world = self.world().clone();
        Ok(questions.iter().map(|question| Ok(world.answer(self.0.revision, question))).collect())
    }

    async fn next_head(&self, known: Option<B256>) -> Result<Block, Error> {
        loop {
            let now = block(self.world().number);
            if known != Some(now.hash) {
                return Ok(now);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn endpoint(&self) -> &str {
        "memory"
    }
}

/// What becomes of a transaction that is posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in the next block.
    Included,
    /// It stays in the pool.
    Pooled,
    /// Refused by the RPC.
    Refused,
    /// The connection breaks; the pool has it and includes it.
    LostIncluded,
    /// The connection breaks, and the pool never gets it.
    Lost,
    /// The poster never answers.
    Hangs,
}

struct Account {
    chain: FakeChain,
    fate: Mutex<Fate>,
    before: Mutex<Option<Hook>>,
    posted: Mutex<Vec<(B256, PostTransaction)>>,
}

/// An account of a stranger to all contracts.
#[derive(Clone)]
pub struct FakePoster(Arc<Account>);

impl fmt::Debug for FakePoster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakePoster")
    }
}

impl FakePoster {
    pub fn new(chain: &FakeChain) -> Self {
        let (chain, fate) = (chain.clone(), Mutex::new(Fate::Included));
        Self(Arc::new(Account { chain, fate, before: Mutex::default(), posted: Mutex::default() }))
    }

    pub fn fate(&self, fate: Fate) {
        *self.0.fate.lock().unwrap() = fate;
    }

    /// What happens on chain between the look and the block of the transaction.
    pub fn before(&self, hook: impl FnMut(&mut World) + Send + 'static) {
        *self.0.before.lock().unwrap() = Some(Box::new(hook));
    }

    pub fn posted(&self) -> Vec<(B256, PostTransaction)> {
        self.0.posted.lock().unwrap().clone()
    }

    /// Puts a transaction of the pool into a block.
    pub fn include(&self, hash: B256) -> bool {
        let posted = self.posted();
        let (_, transaction) = posted.iter().find(|(posted, _)| *posted == hash).unwrap();
        let blobs = transaction.blobs.as_ref().map(|blobs| blobs.hashes().to_vec()).unwrap_or_default();
        let revision = self.0.chain.revision();
        self.0.chain.world().include(revision, hash, &transaction.data, &blobs)
    }
}

#[async_trait]
impl Poster for FakePoster {
    fn address(&self) -> Address {
        Address::repeat_byte(0x77)
    }

    async fn post(&self, transaction: &PostTransaction, signed: &(dyn Fn(B256) + Send + Sync)) -> Result<B256, Error> {
        assert_eq!((transaction.chain_id, transaction.to), (CHAIN_ID, JOB_MANAGER));
        let fate = *self.0.fate.lock().unwrap();
        if fate == Fate::Refused {
            return Err(Error::new(ErrorKind::Chain, "insufficient funds").with_outcome(Outcome::Rejected));
        }
        let number = self.0.posted.lock().unwrap().len() as u64;
        let hash = keccak256([transaction.data.as_ref(), &number.to_be_bytes()].concat());
        signed(hash);
        self.0.posted.lock().unwrap().push((hash, transaction.clone()));
        if let Some(before) = &mut *self.0.before.lock().unwrap() {
            before(&mut self.0.chain.world());
        }
        let in_pool = Transaction::new(hash, Some(transaction.to), transaction.data.clone());
        match fate {
            Fate::Pooled | Fate::Hangs => _ = self.0.chain.world().pool.insert(hash, in_pool),
            Fate::Included | Fate::LostIncluded => _ = self.include(hash),
            Fate::Lost | Fate::Refused => {}
        }
        match fate {
            Fate::Hangs => std::future::pending().await,
            Fate::Lost | Fate::LostIncluded => Err(Error::new(ErrorKind::Chain, "the connection broke")
                .with_outcome(Outcome::Unknown)
                .with_tx_hash(hash)),
            _ => Ok(hash),
        }
    }
}

/// What the operator signs.
pub fn result(job: &SignedJob, output: &[u8], blobs: &[B256]) -> Vec<u8> {
    match job.revision() {
        Revision::State => abi::state::OffchainResultWithMetadata {
            jobID: job.id().into(),
            onchainInputHash: input_hash(job.onchain_input()),
            offchainInputHash: job.offchain_input_hash(),
            stateHash: job.state_hash(),
            maxCycles: job.max_cycles(),
            programID: job.program_id().as_bytes().clone(),
            result: Bytes::copy_from_slice(output),
        }
        .abi_encode(),
        _ => abi::relay::OffchainResultWithMetadata {
            jobID: job.id().into(),
            onchainInputHash: input_hash(job.onchain_input()),
            offchainInputHash: job.offchain_input_hash(),
            maxCycles: job.max_cycles(),
            programID: job.program_id().as_bytes().clone(),
            result: Bytes::copy_from_slice(output),
            versionedBlobHashes: blobs.to_vec(),
        }
        .abi_encode(),
    }
}
