//! The dev node's simulated chain behind an RPC of the test's: one that counts, that can be down, hang, take its time or lag
//! behind, and that says something else than the contracts where it is told to.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use infinityvm_sdk::{
    Error, ErrorKind, LocalSigner, Result, SignedJob,
    chain::{Answer, At, Block, Chain, ChainReader, Question},
    devnode::{ConsumerRules, DEV_OPERATOR_KEY, SimChain},
    primitives::{
        Address, B256, Bytes, SolValue,
        alloy_sol_types::{Revert, SolError},
        keccak256,
    },
};

use crate::answers;

type Word = Arc<dyn Fn(&Question) -> Option<Result<Answer>> + Send + Sync>;

/// How the RPC is, and what it was asked.
#[derive(Default)]
pub struct Rpc {
    /// It does not answer.
    pub down: bool,
    /// It takes for ever.
    pub hangs: bool,
    /// It takes so long.
    pub pause: Duration,
    /// Round trips so far.
    pub asked: usize,
    /// How often the operator was asked for.
    pub operator_asked: usize,
    /// How much gas its blocks have, if it says so.
    pub gas_limit: Option<u64>,
    /// What it shows as the latest block.
    head: Option<u64>,
    /// What it says in place of the truth, by the name under which that is taken back.
    words: Vec<(&'static str, Word)>,
    /// What it says in the batches to come, one entry for each.
    mistakes: VecDeque<Option<Word>>,
}

#[derive(Clone)]
pub struct Tapped {
    pub sim: SimChain,
    rpc: Arc<Mutex<Rpc>>,
}

impl Tapped {
    pub fn new(sim: SimChain) -> Self {
        Self { sim, rpc: Arc::default() }
    }

    /// For a client.
    pub fn chain(&self) -> Chain {
        Chain::new(self.clone(), self.sim.job_manager())
    }

    pub fn rpc(&self) -> MutexGuard<'_, Rpc> {
        self.rpc.lock().unwrap()
    }

    /// From now on it shows the chain as it was so many blocks ago, until [`catch_up`](Self::catch_up).
    pub fn lag(&self, blocks: u64) {
        let head = self.sim.head().number;
        self.rpc().head = Some(head.checked_sub(blocks).expect("the chain is as long"));
    }

    pub fn catch_up(&self) {
        self.rpc().head = None;
    }

    /// Says this wherever it has something to say, until the name's [`truth`](Self::truth) is told again.
    pub fn say(&self, name: &'static str, word: impl Fn(&Question) -> Option<Result<Answer>> + Send + Sync + 'static) {
        self.truth(name);
        self.rpc().words.push((name, Arc::new(word)));
    }

    pub fn truth(&self, name: &'static str) {
        self.rpc().words.retain(|(known, _)| *known != name);
    }

    /// Says this in one batch, after so many others.
    pub fn mistake(&self, after: usize, word: impl Fn(&Question) -> Option<Result<Answer>> + Send + Sync + 'static) {
        let mut rpc = self.rpc();
        rpc.mistakes.extend((0..after).map(|_| None));
        rpc.mistakes.push_back(Some(Arc::new(word)));
    }

    /// Takes back the mistakes that are still to come.
    pub fn no_mistakes(&self) {
        self.rpc().mistakes.clear();
    }

    /// What calls of a function return, such as `getJobManager()`.
    pub fn returns(&self, function: &'static str, data: impl Into<Bytes>) {
        self.say(function, returning(function, data));
    }

    /// What calls of a function revert with. No text: they revert without data, as where there is no such function.
    pub fn reverts(&self, function: &'static str, text: &str) {
        let data = if text.is_empty() { Vec::new() } else { Revert { reason: text.to_owned() }.abi_encode() };
        self.say(function, reverting(function, data));
    }

    /// Calls of a function fail for now, each by itself.
    pub fn fails(&self, function: &'static str) {
        self.fails_with(function, || Error::new(ErrorKind::Chain, "the RPC is busy").with_retryable(true));
    }

    /// The RPC refuses calls of a function for good.
    pub fn refuses(&self, function: &'static str) {
        self.fails_with(function, || Error::new(ErrorKind::Chain, "the RPC has no such method on this plan"));
    }

    fn fails_with(&self, function: &'static str, error: fn() -> Error) {
        self.say(function, move |question| is_call(question, function).then(|| Err(error())));
    }

    /// Another hash of block 0: the chain was begun anew. It has got further than that.
    pub fn begin_anew(&self, hash: B256) {
        self.sim.mine(1);
        self.say("genesis", move |question| {
            let is_first = matches!(question, Question::Block(At::Number(0)));
            is_first.then(|| Ok(Answer::Block(Some(Block::new(0, hash, B256::ZERO, 0)))))
        });
    }

    /// A result for the job comes by somebody's hand, signed by the dev node's operator. Returns the transaction.
    #[track_caller]
    pub fn land(&self, job: &SignedJob, output: &[u8]) -> B256 {
        let operator = LocalSigner::from_bytes(DEV_OPERATOR_KEY).unwrap();
        let signed = answers::Signed::by(&operator, answers::result(job, output));
        let landed = self.sim.submit_result(&signed.result, &signed.signature, job.request(), job.signature(), &[]);
        landed.unwrap_or_else(|reason| panic!("it reverts: {reason}"))
    }

    /// The consumer, by these rules, requests a job on chain under this nonce.
    pub fn request(&self, consumer: Address, rules: ConsumerRules, nonce: u64) {
        self.sim.deploy(consumer, rules.with_max_nonce(nonce - 1));
        self.sim.take_nonce(consumer);
    }
}

/// The word that calls of a function return this.
pub fn returning(
    function: &'static str,
    data: impl Into<Bytes>,
) -> impl Fn(&Question) -> Option<Result<Answer>> + Send + Sync + 'static {
    let data = data.into();
    move |question| is_call(question, function).then(|| Ok(Answer::Returned(data.clone())))
}

/// The word that calls of a function revert with this.
pub fn reverting(
    function: &'static str,
    data: impl Into<Bytes>,
) -> impl Fn(&Question) -> Option<Result<Answer>> + Send + Sync + 'static {
    let data = data.into();
    move |question| is_call(question, function).then(|| Ok(Answer::Reverted(data.clone())))
}

/// The word that `getJobMetadata` of this job returns a status, and nothing of what the job is.
pub fn job_status(id: B256, status: u32) -> impl Fn(&Question) -> Option<Result<Answer>> + Send + Sync + 'static {
    let metadata = (Bytes::new(), 1_u64, Address::ZERO, status).abi_encode();
    let word = returning("getJobMetadata(bytes32)", metadata);
    move |question| match question {
        Question::Call(call, _) if call.data.ends_with(id.as_slice()) => word(question),
        _ => None,
    }
}

/// Whether this is a call of a function, such as `getJobManager()`.
pub fn is_call(question: &Question, function: &str) -> bool {
    matches!(question, Question::Call(call, _) if call.data.starts_with(&keccak256(function)[..4]))
}

/// The question, of an RPC whose latest block is this.
fn of_block(question: &Question, head: u64) -> Question {
    let at = |at: At| if at == At::Latest { At::Number(head) } else { at };
    match question.clone() {
        Question::Block(block) => Question::Block(at(block)),
        Question::Code(address, block) => Question::Code(address, at(block)),
        Question::Call(call, block) => Question::Call(call, at(block)),
        Question::Logs(mut filter) => {
            filter.to_block = filter.to_block.min(head);
            Question::Logs(filter)
        }
        other => other,
    }
}

/// The answer, of an RPC whose latest block is this: it has nothing of later ones.
fn known_at(answer: Answer, head: u64) -> Answer {
    match answer {
        Answer::Block(Some(block)) if block.number > head => Answer::Block(None),
        Answer::Receipt(Some(receipt)) if receipt.block_number > head => Answer::Receipt(None),
        other => other,
    }
}

impl fmt::Debug for Tapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tapped")
    }
}

#[async_trait]
impl ChainReader for Tapped {
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        let (hangs, pause) = {
            let mut rpc = self.rpc();
            rpc.asked += 1;
            rpc.operator_asked += questions.iter().filter(|it| is_call(it, "getCoprocessorOperator()")).count();
            (rpc.hangs, rpc.pause)
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        // As every RPC, it does not answer at once.
        tokio::task::yield_now().await;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let (head, gas_limit, words) = {
            let mut rpc = self.rpc();
            if rpc.down {
                return Err(Error::new(ErrorKind::Chain, "the RPC is down").with_retryable(true));
            }
            let mistake = rpc.mistakes.pop_front().flatten();
            let words = mistake.into_iter().chain(rpc.words.iter().map(|(_, word)| Arc::clone(word)));
            (rpc.head, rpc.gas_limit, words.collect::<Vec<_>>())
        };
        let asked: Vec<_> =
            questions.iter().map(|question| head.map_or(question.clone(), |head| of_block(question, head))).collect();
        let answers = self.sim.ask(&asked).await?;
        let told = answers.into_iter().zip(questions).map(|(answer, question)| {
            let word = words.iter().find_map(|word| word(question));
            let told =
                word.unwrap_or_else(|| answer.map(|answer| head.map_or(answer.clone(), |head| known_at(answer, head))));
            told.map(|answer| match (answer, gas_limit) {
                (Answer::Block(Some(block)), Some(limit)) => Answer::Block(Some(block.with_gas_limit(limit))),
                (answer, _) => answer,
            })
        });
        Ok(told.collect())
    }

    async fn next_head(&self, known: Option<B256>) -> Result<Block> {
        self.sim.next_head(known).await
    }

    fn endpoint(&self) -> &str {
        "tapped"
    }
}
