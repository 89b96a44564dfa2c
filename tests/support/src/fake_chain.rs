//! A chain in memory: blocks, transactions, reorganisations, and the contracts' answers by a decoding of its own. Its RPC can be down, slow
//! or behind, and the chain can change between two questions of one batch.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use infinityvm_sdk::{
    Error, ErrorKind, Result, Revision, SignedJob,
    chain::{Answer, At, Block, Call, Chain, ChainReader, Log, LogFilter, Question, Receipt, Transaction},
    primitives::{Address, B256, Bytes, keccak256},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

pub const JOB_MANAGER: Address = Address::repeat_byte(0x3a);
/// A contract that is not the JobManager.
pub const OTHER: Address = Address::repeat_byte(0x77);

/// What a transaction does if it succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Nothing,
    Complete(Completion),
    Request(B256),
    Cancel(B256),
    SetOperator(Address),
    /// An event as the JobManager's, of another contract.
    FalseEvent(B256, Vec<u8>),
}

/// A job as the contracts keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    pub id: B256,
    pub program: Vec<u8>,
    pub cycles: u64,
    pub consumer: Address,
    pub onchain_input: Vec<u8>,
    pub offchain_hash: B256,
    pub state_hash: B256,
    pub output: Vec<u8>,
}

impl Completion {
    pub fn of(job: &SignedJob, output: &[u8]) -> Self {
        Self {
            id: job.id().into(),
            program: job.program_id().as_bytes().to_vec(),
            cycles: job.max_cycles(),
            consumer: job.consumer(),
            onchain_input: job.onchain_input().to_vec(),
            offchain_hash: job.offchain_input_hash(),
            state_hash: job.state_hash(),
            output: output.to_vec(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tx {
    pub hash: B256,
    pub to: Address,
    pub input: Vec<u8>,
    pub effect: Effect,
    pub succeeds: bool,
}

impl Tx {
    /// A transaction with a hash of its own.
    pub fn new(to: Address, input: Vec<u8>, effect: Effect) -> Self {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let hash = keccak256([b"tx".as_slice(), &number.to_be_bytes()].concat());
        Self { hash, to, input, effect, succeeds: true }
    }

    /// The plain call that posts a result.
    pub fn post(job: &SignedJob, result: &[u8], signature: &[u8], output: &[u8]) -> Self {
        let input = abi_call(
            "submitResultForOffchainJob(bytes,bytes,bytes,bytes)",
            &[result, signature, job.request(), job.signature()],
        );
        Self::new(JOB_MANAGER, input, Effect::Complete(Completion::of(job, output)))
    }

    pub fn failing(mut self) -> Self {
        self.succeeds = false;
        self
    }

    /// Posted by way of another contract.
    pub fn by_way_of_another(mut self) -> Self {
        (self.to, self.input) = (OTHER, vec![1, 2, 3, 4]);
        self
    }
}

#[derive(Debug)]
struct Mined {
    header: Block,
    txs: Vec<Tx>,
}

/// The blocks of one chain, from the first on.
#[derive(Clone, Debug)]
pub struct Blocks(Vec<Arc<Mined>>);

/// Where a job was completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landed {
    pub block: Block,
    pub tx: Tx,
    pub completion: Completion,
    pub depth: u64,
}

impl Blocks {
    pub fn head(&self) -> Block {
        self.0.last().unwrap().header
    }

    pub fn behind(&self, lag: u64) -> Self {
        let keep = self.0.len().saturating_sub(usize::try_from(lag).unwrap()).max(1);
        Self(self.0[..keep].to_vec())
    }

    /// The block of a question, if it is in this chain.
    fn at(&self, at: At) -> Option<Block> {
        match at {
            At::Number(number) => self.0.get(usize::try_from(number).ok()?).map(|mined| mined.header),
            At::Hash(hash) => self.0.iter().map(|mined| mined.header).find(|header| header.hash == hash),
            _ => Some(self.head()),
        }
    }

    /// What has taken effect up to a block.
    fn effects(&self, upto: u64) -> impl DoubleEndedIterator<Item = (&Mined, &Tx)> {
        let upto = usize::try_from(upto).unwrap();
        let blocks = self.0[..=upto].iter();
        blocks.flat_map(|mined| mined.txs.iter().filter(|tx| tx.succeeds).map(|tx| (&**mined, tx)))
    }

    /// The job's completion under its id, whatever the payload.
    pub fn landed(&self, id: B256) -> Option<Landed> {
        let head = self.head().number;
        self.effects(head).find_map(|(mined, tx)| match &tx.effect {
            Effect::Complete(done) if done.id == id => Some(Landed {
                block: mined.header,
                tx: tx.clone(),
                completion: done.clone(),
                depth: head + 1 - mined.header.number,
            }),
            _ => None,
        })
    }

    /// How deep the id is cancelled.
    pub fn cancelled(&self, id: B256) -> Option<u64> {
        let head = self.head().number;
        let mut effects = self.effects(head);
        effects.find(|(_, tx)| tx.effect == Effect::Cancel(id)).map(|(mined, _)| head + 1 - mined.header.number)
    }

    /// How deep a transaction is.
    pub fn depth_of(&self, hash: B256) -> Option<u64> {
        self.receipt(hash).map(|receipt| self.head().number + 1 - receipt.block_number)
    }

    /// The newest transaction of all.
    pub fn any_tx(&self) -> Option<B256> {
        self.0.iter().rev().find_map(|mined| mined.txs.first()).map(|tx| tx.hash)
    }

    fn status(&self, id: B256, upto: u64) -> (u8, Option<&Completion>) {
        let mut status = (0, None);
        for (_, tx) in self.effects(upto) {
            match &tx.effect {
                Effect::Complete(done) if done.id == id => status = (3, Some(done)),
                Effect::Request(requested) if *requested == id => status = (1, None),
                Effect::Cancel(cancelled) if *cancelled == id => status = (2, None),
                _ => {}
            }
        }
        status
    }

    fn operator(&self, first: Address, upto: u64) -> Address {
        let mut effects = self.effects(upto).rev();
        let set = effects.find_map(|(_, tx)| if let Effect::SetOperator(to) = tx.effect { Some(to) } else { None });
        set.unwrap_or(first)
    }

    fn logs_of(mined: &Mined, tx: &Tx) -> Vec<Log> {
        let log = |address, event: &str, id: B256, data: Vec<u8>| {
            let topics = vec![keccak256(event), id];
            Log::new(address, topics, data.into(), mined.header.number, mined.header.hash, tx.hash)
        };
        const COMPLETED: &str = "JobCompleted(bytes32,bytes)";
        match &tx.effect {
            _ if !tx.succeeds => Vec::new(),
            Effect::Complete(done) => vec![log(JOB_MANAGER, COMPLETED, done.id, abi_bytes(&done.output))],
            Effect::Cancel(id) => vec![log(JOB_MANAGER, "JobCancelled(bytes32)", *id, Vec::new())],
            Effect::FalseEvent(id, output) => vec![log(OTHER, COMPLETED, *id, abi_bytes(output))],
            _ => Vec::new(),
        }
    }

    fn receipt(&self, hash: B256) -> Option<Receipt> {
        let (mined, tx) =
            self.0.iter().find_map(|mined| mined.txs.iter().find(|tx| tx.hash == hash).map(|tx| (mined, tx)))?;
        let logs = Self::logs_of(mined, tx);
        Some(Receipt::new(hash, mined.header.number, mined.header.hash, tx.succeeds, logs))
    }

    fn logs(&self, filter: &LogFilter) -> Vec<Log> {
        let all = self.0.iter().flat_map(|mined| mined.txs.iter().flat_map(|tx| Self::logs_of(mined, tx)));
        let fits = |log: &Log| {
            let in_range = (filter.from_block..=filter.to_block).contains(&log.block_number);
            let topic = |(at, any): (usize, &Vec<B256>)| any.is_empty() || any.contains(&log.topics[at]);
            in_range && log.address == filter.address && filter.topics.iter().enumerate().all(topic)
        };
        all.filter(fits).collect()
    }
}

/// What is wrong with the RPC.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub down: bool,
    pub delay: Duration,
    /// So many blocks behind.
    pub lag: u64,
    /// It has no logs.
    pub no_logs: bool,
    /// It leaves out the logs of these blocks, and tells of jobs that have not ended, where it is asked for the logs of all jobs.
    pub hidden_logs: Vec<u64>,
    pub invented_ends: Vec<B256>,
}

/// A change of the chain before this question (counted over all batches).
pub type Ambush = Box<dyn FnOnce(&mut World) + Send>;

pub struct World {
    blocks: Blocks,
    /// Transactions that wait to be included again.
    pub pool: Vec<Tx>,
    pub faults: Faults,
    pub operator: Address,
    revision: Revision,
    ambushes: BTreeMap<u64, Ambush>,
    forks: u64,
    /// The chain, as the last batches saw it at their end, and when: all of the same instant.
    answered: Vec<(Instant, Blocks)>,
    pub chain_id: u64,
    /// The chain as every batch has seen it, at its end and before a change in its middle.
    seen: Vec<(Instant, Blocks)>,
    pub counts: Counts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub batches: u64,
    pub questions: u64,
    pub heads: u64,
    pub failed: u64,
    pub ambushed: u64,
    /// The most blocks that a question for logs spanned, and how many there were.
    pub widest: u64,
    pub searches: u64,
    pub largest: u64,
    /// Readings of the operator alone, which are not in the other counts.
    pub operators: u64,
}

impl World {
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// The chain, as the last batch saw it.
    pub fn answered(&self) -> &Blocks {
        self.answered.last().map_or(&self.blocks, |(_, blocks)| blocks)
    }

    /// For a test that fails: what the last batches have seen of a job, and when.
    pub fn story(&self, id: B256) -> Vec<String> {
        let now = Instant::now();
        let tell = |at: Instant, blocks: &Blocks| {
            let landed = blocks.landed(id).map(|landed| (landed.block.number, landed.block.hash, landed.tx.hash));
            format!("{:?} ago: head {:?}, landed {landed:?}", now - at, blocks.head())
        };
        let seen = self.seen.iter().rev().take(12).map(|(at, blocks)| tell(*at, blocks));
        std::iter::once(format!("{:?} {:?}", self.faults, self.counts))
            .chain(seen)
            .chain([tell(now, &self.blocks)])
            .collect()
    }

    /// The chain as batches have seen it since then.
    pub fn seen_since(&self, then: Instant) -> impl Iterator<Item = &Blocks> {
        self.seen.iter().filter(move |(at, _)| *at >= then).map(|(_, blocks)| blocks)
    }

    /// The chain as it is, and as the last batches saw it that were answered at one and the same time: whoever is told of one may come to run
    /// after the next.
    pub fn views(&self) -> Vec<Blocks> {
        let seen = self.answered.iter().map(|(_, blocks)| blocks);
        std::iter::once(&self.blocks).chain(seen).cloned().collect()
    }

    pub fn mine(&mut self, txs: Vec<Tx>) -> Block {
        let parent = self.blocks.head();
        let number = parent.number + 1;
        let seed = [parent.hash.as_slice(), &number.to_be_bytes(), &self.forks.to_be_bytes()].concat();
        let header = Block::new(number, keccak256(seed), parent.hash, 1_700_000_000 + number);
        self.blocks.0.push(Arc::new(Mined { header, txs }));
        header
    }

    pub fn mine_empty(&mut self, blocks: u64) {
        for _ in 0..blocks {
            self.mine(Vec::new());
        }
    }

    /// Drops so many blocks and returns their transactions; the first block always stays.
    pub fn drop_blocks(&mut self, depth: usize) -> Vec<Tx> {
        let keep = self.blocks.0.len().saturating_sub(depth).max(1);
        let dropped = self.blocks.0.split_off(keep);
        self.forks += 1;
        dropped.iter().flat_map(|mined| mined.txs.clone()).collect()
    }

    /// The chain is this one again.
    pub fn restore(&mut self, blocks: Blocks) {
        self.blocks = blocks;
    }

    /// Before the question that comes after so many others from now on.
    pub fn ambush(&mut self, after: u64, what: Ambush) {
        self.ambushes.insert(self.counts.questions + after, what);
    }

    pub fn clear_ambushes(&mut self) {
        self.ambushes.clear();
    }

    fn visible(&self) -> Blocks {
        self.blocks.behind(self.faults.lag)
    }

    fn answer(&mut self, question: &Question) -> Result<Answer> {
        let seen = self.visible();
        let block = |at: At| seen.at(at).ok_or_else(|| Error::new(ErrorKind::Chain, "hash is not currently canonical"));
        Ok(match question {
            Question::ChainId => Answer::ChainId(self.chain_id),
            Question::Block(at) => Answer::Block(seen.at(*at)),
            Question::Code(_, at) => {
                block(*at)?;
                Answer::Code(Bytes::from_static(&[0xfe]))
            }
            Question::Call(call, at) => self.call(&seen, call, block(*at)?.number),
            Question::Receipt(hash) => Answer::Receipt(seen.receipt(*hash)),
            Question::Transaction(hash) => {
                let mut all = seen.0.iter().flat_map(|mined| &mined.txs);
                let tx = all.find(|tx| tx.hash == *hash);
                Answer::Transaction(tx.map(|tx| Transaction::new(tx.hash, Some(tx.to), tx.input.clone().into())))
            }
            Question::Logs(_) if self.faults.no_logs => {
                return Err(Error::new(ErrorKind::Chain, "block range is too wide"));
            }
            Question::Logs(filter) => {
                self.counts.searches += 1;
                self.counts.widest = self.counts.widest.max(filter.to_block + 1 - filter.from_block);
                let mut logs = seen.logs(filter);
                if filter.topics.len() == 1 {
                    logs.retain(|log| !self.faults.hidden_logs.contains(&log.block_number));
                    logs.extend(self.faults.invented_ends.iter().map(|id| {
                        let topics = vec![keccak256("JobCompleted(bytes32,bytes)"), *id];
                        let (block, tx) = (keccak256("a block"), keccak256("a transaction"));
                        Log::new(JOB_MANAGER, topics, abi_bytes(b"output").into(), filter.from_block, block, tx)
                    }));
                }
                Answer::Logs(logs)
            }
            other => panic!("{other:?} was asked"),
        })
    }

    fn call(&self, blocks: &Blocks, call: &Call, at: u64) -> Answer {
        let (selector, id) = (&call.data[..4], call.data.get(4..36).map(B256::from_slice).unwrap_or_default());
        let is = |signature: &str| keccak256(signature)[..4] == *selector;
        let (status, done) = blocks.status(id, at);
        let returned = |bytes: Vec<u8>| Answer::Returned(bytes.into());
        if call.to == JOB_MANAGER {
            if is("getCoprocessorOperator()") {
                return returned(abi_address(blocks.operator(self.operator, at)).to_vec());
            }
            assert!(is("getJobMetadata(bytes32)"), "another call of the JobManager");
            let program = done.map(|done| done.program.clone()).unwrap_or_default();
            let words = [
                abi_number(0x20),
                abi_number(0x80),
                abi_number(done.map_or(0, |done| done.cycles)),
                abi_address(done.map_or(Address::ZERO, |done| done.consumer)),
                abi_number(status.into()),
            ];
            return returned([words.concat(), abi_tail(&program)].concat());
        }
        if is("getOnchainInputForJob(bytes32)") {
            let input = done.map(|done| done.onchain_input.clone()).unwrap_or_default();
            returned([abi_number(0x20).to_vec(), abi_tail(&input)].concat())
        } else if is("getOffchainInputHashForJob(bytes32)") {
            returned(done.map(|done| done.offchain_hash).unwrap_or_default().to_vec())
        } else if is("getStateHashForJob(bytes32)") && self.revision == Revision::State {
            returned(done.map(|done| done.state_hash).unwrap_or_default().to_vec())
        } else {
            Answer::Reverted(Bytes::new())
        }
    }
}

fn abi_number(number: u64) -> [u8; 32] {
    let mut word = [0; 32];
    word[24..].copy_from_slice(&number.to_be_bytes());
    word
}

fn abi_address(address: Address) -> [u8; 32] {
    let mut word = [0; 32];
    word[12..].copy_from_slice(address.as_slice());
    word
}

/// Length and bytes, padded.
fn abi_tail(bytes: &[u8]) -> Vec<u8> {
    let mut tail = abi_number(bytes.len() as u64).to_vec();
    tail.extend_from_slice(bytes);
    tail.resize(tail.len().next_multiple_of(32), 0);
    tail
}

fn abi_bytes(bytes: &[u8]) -> Vec<u8> {
    [abi_number(0x20).to_vec(), abi_tail(bytes)].concat()
}

fn abi_call(signature: &str, arguments: &[&[u8]]) -> Vec<u8> {
    let mut call = keccak256(signature)[..4].to_vec();
    let mut tails = Vec::new();
    for argument in arguments {
        call.extend_from_slice(&abi_number((arguments.len() * 32 + tails.len()) as u64));
        tails.extend_from_slice(&abi_tail(argument));
    }
    call.extend_from_slice(&tails);
    call
}

/// The chain and its RPC; clones are the same.
#[derive(Clone)]
pub struct FakeChain {
    world: Arc<Mutex<World>>,
    changed: Arc<Notify>,
}

impl FakeChain {
    pub fn new(revision: Revision, operator: Address) -> Self {
        let header = Block::new(0, keccak256(b"genesis"), B256::ZERO, 1_700_000_000);
        let blocks = Blocks(vec![Arc::new(Mined { header, txs: Vec::new() })]);
        let world = World {
            chain_id: 31337,
            answered: Vec::new(),
            seen: Vec::new(),
            blocks,
            pool: Vec::new(),
            faults: Faults::default(),
            operator,
            revision,
            ambushes: BTreeMap::new(),
            forks: 0,
            counts: Counts::default(),
        };
        Self { world: Arc::new(Mutex::new(world)), changed: Arc::default() }
    }

    pub fn chain(&self) -> Chain {
        Chain::new(self.clone(), JOB_MANAGER)
    }

    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Changes the chain, and tells those who wait for its head.
    pub fn with<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let value = change(&mut self.lock());
        self.changed.notify_waiters();
        value
    }

    pub fn mine(&self, txs: Vec<Tx>) -> Block {
        self.with(|world| world.mine(txs))
    }

    pub fn mine_empty(&self, blocks: u64) {
        self.with(|world| world.mine_empty(blocks));
    }

    pub fn counts(&self) -> Counts {
        self.lock().counts
    }
}

impl fmt::Debug for FakeChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeChain")
    }
}

fn down() -> Error {
    Error::new(ErrorKind::Chain, "connection refused").with_retryable(true)
}

#[async_trait]
impl ChainReader for FakeChain {
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        let delay = self.lock().faults.delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if let [Question::Call(call, At::Latest)] = questions
            && call.to == JOB_MANAGER
            && call.data[..] == keccak256("getCoprocessorOperator()")[..4]
        {
            // Whose results are believed: read every few minutes, and no look at jobs.
            let mut world = self.lock();
            if world.faults.down {
                return Err(down());
            }
            world.counts.operators += 1;
            return Ok(vec![world.answer(&questions[0])]);
        }
        let mut ambushed = false;
        let answers = {
            let mut world = self.lock();
            // The client's own reading of who the operator is, once in a while. It has nothing to do with finality.
            if let [question @ Question::Call(call, _)] = questions
                && call.to == JOB_MANAGER
                && call.data[..] == keccak256("getCoprocessorOperator()")[..4]
            {
                if world.faults.down {
                    return Err(down());
                }
                world.counts.operators += 1;
                return Ok(vec![world.answer(question)]);
            }
            world.counts.batches += 1;
            world.counts.largest = world.counts.largest.max(questions.len() as u64);
            if world.faults.down {
                world.counts.failed += 1;
                return Err(down());
            }
            let mut answers = Vec::new();
            for question in questions {
                let number = world.counts.questions;
                if let Some(ambush) = world.ambushes.remove(&number) {
                    world.counts.ambushed += 1;
                    let (now, seen) = (Instant::now(), world.visible());
                    world.seen.push((now, seen));
                    ambushed = true;
                    ambush(&mut world);
                }
                world.counts.questions += 1;
                answers.push(world.answer(question));
            }
            let (now, seen) = (Instant::now(), world.visible());
            world.answered.retain(|(at, _)| *at == now);
            world.answered.push((now, seen.clone()));
            world.seen.push((now, seen));
            answers
        };
        if ambushed {
            self.changed.notify_waiters();
        }
        Ok(answers)
    }

    async fn next_head(&self, known: Option<B256>) -> Result<Block> {
        loop {
            let changed = self.changed.notified();
            {
                let mut world = self.lock();
                if world.faults.down {
                    return Err(down());
                }
                let head = world.visible().head();
                if known != Some(head.hash) {
                    world.counts.heads += 1;
                    return Ok(head);
                }
            }
            // A lag ends without a block.
            tokio::select! {
                () = changed => {}
                () = sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    fn endpoint(&self) -> &str {
        "fake chain"
    }
}
