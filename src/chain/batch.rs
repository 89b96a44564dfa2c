//! Typed reads of the contracts: each is one question, and any number of them is one round trip.

use std::marker::PhantomData;

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::SolCall;

use super::{
    Chain, OneRpc,
    abi::{Consumer, EIP1271_MAGIC, JobManager},
    fallback::EXTRA,
    reader::{Answer, At, Block, Call, ChainReader, Log, LogFilter, Question, Receipt, Transaction},
    returned::{JobMetadata, SignatureCheck, metadata, nonsense, optional, returned, unexpected, value},
};
use crate::{
    error::{Error, ErrorKind, Result},
    job::{JobId, Revision},
};

/// Reads that go out together; made by [`Chain::batch`].
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> doc::Outcome {
/// # let scene = doc::scene().await;
/// # let (chain, consumer) = (scene.node.chain().to_chain(), scene.job.consumer());
/// let mut batch = chain.batch();
/// let (next, operator) = (batch.next_nonce(consumer), batch.operator());
/// let mut answers = batch.send().await?; // one round trip
/// println!("next nonce {}, operator {}", answers.take(next)?, answers.take(operator)?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a batch asks nothing until it is sent"]
pub struct Batch {
    chain: Chain,
    at: At,
    questions: Vec<Question>,
    /// Where the head is asked for in between, if it is.
    fences: Option<Vec<usize>>,
    /// Whether blocks are named by their numbers, as the RPC takes no hashes.
    by_number: bool,
}

/// So many questions stand between two for the head: RPCs take a hundred in one request, and it is in each. A reader
/// that asks fewer at once has the first one answered before it asks another, and asks the last one at the end.
pub(super) const FENCED: usize = 99;

/// The place of an answer in a [`Batch`].
#[derive(Debug)]
pub struct Ticket<T> {
    index: usize,
    decode: Decode<T>,
    of: PhantomData<fn() -> T>,
}

type Decode<T> = fn(Answer) -> Result<T>;

/// The places of the answers that say which chain this is.
#[derive(Debug)]
pub(crate) struct IdentityTickets {
    chain_id: Ticket<u64>,
    genesis: Ticket<Option<Block>>,
}

impl IdentityTickets {
    pub(crate) fn take(self, answers: &mut Answers) -> Result<ChainIdentity> {
        let chain_id = answers.take(self.chain_id)?;
        let genesis = answers.take(self.genesis)?.ok_or_else(|| {
            nonsense("the chain has no block 0".into())
                .with_retryable(true)
                .with_hint("check the chain's RPC: it must have the whole chain")
        })?;
        Ok(ChainIdentity::new(chain_id, genesis.hash))
    }
}

/// What came back for a [`Batch`].
#[derive(Debug)]
pub struct Answers {
    answers: Vec<Option<Result<Answer>>>,
    endpoint: String,
    pinned: PinnedAnswers,
}

/// How those questions fared that are about the state of a block that is named.
#[derive(Clone, Copy, Debug, Default)]
struct PinnedAnswers {
    asked: usize,
    /// Failed for good.
    refused: usize,
    /// Failed for now.
    lacking: usize,
}

/// What an RPC answered of a block's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StateKnown {
    Unasked,
    /// All that it has of it, for now.
    Some,
    /// Some of it, and it refuses other questions for good.
    Partly,
    /// Nothing, for now: one of its servers may not have the block yet.
    Lacking,
    /// Nothing, and for good.
    Refused,
}

impl PinnedAnswers {
    fn of(questions: &[Question], answers: &[Result<Answer>]) -> Self {
        let mut all = Self::default();
        for (question, answer) in questions.iter().zip(answers) {
            if let Question::Call(_, At::Hash(_) | At::Number(_)) | Question::Code(_, At::Hash(_) | At::Number(_)) =
                question
            {
                all.asked += 1;
                match answer {
                    Ok(_) => {}
                    Err(error) if error.is_retryable() => all.lacking += 1,
                    Err(_) => all.refused += 1,
                }
            }
        }
        all
    }
}

/// Which chain this is: the id alone is not enough, as a development chain begins anew with the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ChainIdentity {
    /// The chain id (EIP-155).
    pub chain_id: u64,
    /// The hash of block 0.
    pub genesis_hash: B256,
}

impl ChainIdentity {
    /// The chain with this id and this block 0.
    #[must_use]
    pub fn new(chain_id: u64, genesis_hash: B256) -> Self {
        Self { chain_id, genesis_hash }
    }
}

impl Batch {
    pub(super) fn new(chain: Chain) -> Self {
        Self { chain, at: At::Latest, questions: Vec::new(), fences: None, by_number: false }
    }

    /// Asks for the head before the first question, after the last, and now and then in between.
    pub(super) fn fenced(mut self) -> Self {
        self.fences = Some(Vec::new());
        self
    }

    /// Has the contracts read in the state of this block.
    pub(super) fn pinned(mut self, block: Block, by_number: bool) -> Self {
        self.by_number = by_number;
        self.at = self.pin(block.number, block.hash);
        self
    }

    fn pin(&self, number: u64, hash: B256) -> At {
        if self.by_number { At::Number(number) } else { At::Hash(hash) }
    }

    /// Asks about the state of another block that leads to the one that this batch is about.
    pub(super) fn in_block<T>(&mut self, number: u64, hash: B256, ask: impl FnOnce(&mut Self) -> T) -> T {
        let (at, there) = (self.at, self.pin(number, hash));
        self.at = there;
        let asked = ask(self);
        self.at = at;
        asked
    }

    /// Has the contracts read at this block from here on; at the latest unless set.
    pub fn at(mut self, at: At) -> Self {
        self.at = at;
        self
    }

    /// How many questions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.questions.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// Asks all of them, in one call of [`ChainReader::ask`](super::ChainReader::ask).
    ///
    /// # Errors
    /// [`ErrorKind::Chain`] if the RPC cannot be asked. What goes wrong with one question only is told where its answer
    /// is taken.
    pub async fn send(self) -> Result<Answers> {
        let reader = self.chain.reader();
        let endpoint = reader.endpoint().to_owned();
        if self.questions.is_empty() {
            return Ok(Answers { answers: Vec::new(), endpoint, pinned: PinnedAnswers::default() });
        }
        let answers = self.ask(reader).await.map_err(|error| at_endpoint(error, &endpoint))?;
        if answers.len() != self.questions.len() {
            let (got, asked) = (answers.len(), self.questions.len());
            return Err(at_endpoint(nonsense(format!("the chain gave {got} answers to {asked} questions")), &endpoint));
        }
        let pinned = PinnedAnswers::of(&self.questions, &answers);
        Ok(Answers { answers: answers.into_iter().map(Some).collect(), endpoint, pinned })
    }

    /// Asks, again where that helps.
    async fn ask(&self, reader: &dyn ChainReader) -> Result<Vec<Result<Answer>>> {
        if self.chain.is_chosen_from() {
            let ask = |one: OneRpc| async move { one.reader().ask(&self.questions).await };
            return self.chain.verdict(ask).await;
        }
        // Without a runtime there is no clock to wait by.
        // One of several RPCs is not waited for.
        let waits = self.chain.session.is_none() && tokio::runtime::Handle::try_current().is_ok();
        let Some(retries) = self.chain.retries(0).filter(|_| waits) else {
            return reader.ask(&self.questions).await;
        };
        let whole = retries.read_deadline();
        let mut attempts = retries.attempts(whole);
        loop {
            // What no question has an answer to for now is asked again, and told question by question in the end.
            let (error, told) = match whole.bound(reader.ask(&self.questions)).await {
                Some(Ok(answers)) => match passing(&answers) {
                    None => {
                        retries.succeeded();
                        return Ok(answers);
                    }
                    Some(error) => (error, Some(answers)),
                },
                Some(Err(error)) => (error, None),
                None => {
                    let late = Error::new(ErrorKind::Chain, "the chain was not read within the deadline")
                        .with_retryable(true)
                        .with_hint("check the chain's RPC, or set a longer RetryPolicy::with_deadline");
                    (late, None)
                }
            };
            let failed = attempts.fail();
            if !error.is_retryable() || !attempts.again(&error).await {
                return told.map_or_else(|| Err(error.with_attempts(failed)), Ok);
            }
        }
    }

    /// Sends what is [fenced](Self::fenced), and tells where the head is answered.
    pub(super) async fn send_fenced(mut self) -> Result<(Vec<Ticket<Option<Block>>>, Answers)> {
        self.fence();
        let fences = self.fences.take().unwrap_or_default();
        let fences = fences.into_iter().map(|index| Ticket { index, decode: block, of: PhantomData }).collect();
        Ok((fences, self.send().await?))
    }

    fn fence(&mut self) {
        if let Some(fences) = &mut self.fences {
            fences.push(self.questions.len());
            self.questions.push(Question::Block(At::Latest));
        }
    }

    fn put<T>(&mut self, question: Question, decode: Decode<T>) -> Ticket<T> {
        let fenced = if self.chain.is_checked() { FENCED - EXTRA } else { FENCED };
        if self.questions.len().is_multiple_of(fenced) {
            self.fence();
        }
        self.questions.push(question);
        Ticket { index: self.questions.len() - 1, decode, of: PhantomData }
    }

    fn call<C: SolCall, T>(&mut self, to: Address, call: &C, decode: Decode<T>) -> Ticket<T> {
        self.put(Question::Call(Call::new(to, call.abi_encode()), self.at), decode)
    }

    /// `getNextNonce()` of a consumer: the highest nonce seen plus one, unless the contract overrides it. Jobs that are
    /// under way are not in it.
    pub fn next_nonce(&mut self, consumer: Address) -> Ticket<u64> {
        self.call(consumer, &Consumer::getNextNonceCall {}, |it| {
            value::<Consumer::getNextNonceCall>("getNextNonce", it)
        })
    }

    /// `maxNonce()` of a consumer: the highest nonce seen.
    pub fn max_nonce(&mut self, consumer: Address) -> Ticket<u64> {
        self.call(consumer, &Consumer::maxNonceCall {}, |it| value::<Consumer::maxNonceCall>("maxNonce", it))
    }

    /// The latest state of a consumer: `getLatestStateRoot()` in the Relay revision, `getLatestStateHash()` in the
    /// State revision. Nothing if the contract has no such function: then it is not a stateful one.
    pub fn latest_state(&mut self, consumer: Address, revision: Revision) -> Ticket<Option<B256>> {
        match revision {
            Revision::State => self.call(consumer, &Consumer::getLatestStateHashCall {}, |it| {
                optional(it, value::<Consumer::getLatestStateHashCall>, "getLatestStateHash")
            }),
            Revision::Relay => self.call(consumer, &Consumer::getLatestStateRootCall {}, |it| {
                optional(it, value::<Consumer::getLatestStateRootCall>, "getLatestStateRoot")
            }),
        }
    }

    /// `isValidSignature(bytes32, bytes)` of a consumer (EIP-1271), with the EIP-191 hash of a request.
    pub fn is_valid_signature(&mut self, consumer: Address, hash: B256, signature: Bytes) -> Ticket<SignatureCheck> {
        self.call(consumer, &Consumer::isValidSignatureCall { hash, signature }, |answer| match answer {
            Answer::Reverted(reason) => Ok(SignatureCheck::Reverted(reason)),
            answer => {
                let returned = returned("isValidSignature", answer)?;
                let valid = returned.len() >= 32 && returned[..4] == EIP1271_MAGIC && returned[4..32] == [0; 28];
                Ok(if valid { SignatureCheck::Valid } else { SignatureCheck::Invalid })
            }
        })
    }

    /// `getOffchainSigner()` of a `SingleOffchainSigner`. Nothing if the contract has no such function: it has another
    /// way to say who may sign.
    pub fn offchain_signer(&mut self, consumer: Address) -> Ticket<Option<Address>> {
        self.call(consumer, &Consumer::getOffchainSignerCall {}, |it| {
            optional(it, value::<Consumer::getOffchainSignerCall>, "getOffchainSigner")
        })
    }

    /// `getJobManager()` of a consumer. Nothing where the contract is from before that function.
    pub fn job_manager_of(&mut self, consumer: Address) -> Ticket<Option<Address>> {
        self.call(consumer, &Consumer::getJobManagerCall {}, |it| {
            optional(it, value::<Consumer::getJobManagerCall>, "getJobManager")
        })
    }

    /// `getOnchainInputForJob(bytes32)` of a consumer; empty for a job that it has not seen.
    pub fn onchain_input(&mut self, consumer: Address, job: JobId) -> Ticket<Bytes> {
        self.call(consumer, &Consumer::getOnchainInputForJobCall { jobID: job.into() }, |it| {
            value::<Consumer::getOnchainInputForJobCall>("getOnchainInputForJob", it)
        })
    }

    /// `getOffchainInputHashForJob(bytes32)` of a consumer; zero for a job that it has not seen.
    pub fn offchain_input_hash(&mut self, consumer: Address, job: JobId) -> Ticket<B256> {
        self.call(consumer, &Consumer::getOffchainInputHashForJobCall { jobID: job.into() }, |it| {
            value::<Consumer::getOffchainInputHashForJobCall>("getOffchainInputHashForJob", it)
        })
    }

    /// `getStateHashForJob(bytes32)` of a consumer (State revision); zero for a job that it has not seen.
    pub fn state_hash(&mut self, consumer: Address, job: JobId) -> Ticket<B256> {
        self.call(consumer, &Consumer::getStateHashForJobCall { jobID: job.into() }, |it| {
            value::<Consumer::getStateHashForJobCall>("getStateHashForJob", it)
        })
    }

    /// `getJobMetadata(bytes32)` of the JobManager.
    pub fn job_metadata(&mut self, job: JobId) -> Ticket<JobMetadata> {
        let to = self.chain.job_manager();
        self.call(to, &JobManager::getJobMetadataCall { jobID: job.into() }, |answer| {
            metadata(&returned("getJobMetadata", answer)?)
        })
    }

    /// `getCoprocessorOperator()` of the JobManager: whose signature under results it takes.
    pub fn operator(&mut self) -> Ticket<Address> {
        let to = self.chain.job_manager();
        self.call(to, &JobManager::getCoprocessorOperatorCall {}, |it| {
            value::<JobManager::getCoprocessorOperatorCall>("getCoprocessorOperator", it)
        })
    }

    /// Any call; the ticket holds what it returned or reverted with.
    pub fn raw_call(&mut self, call: Call) -> Ticket<std::result::Result<Bytes, Bytes>> {
        self.put(Question::Call(call, self.at), |answer| match answer {
            Answer::Returned(bytes) => Ok(Ok(bytes)),
            Answer::Reverted(bytes) => Ok(Err(bytes)),
            other => Err(unexpected("a call", &other)),
        })
    }

    /// How much gas a call needs as a transaction, as of the latest block.
    pub(crate) fn gas(&mut self, call: Call) -> Ticket<u64> {
        self.put(Question::Gas(call), |answer| match answer {
            Answer::Gas(gas) => Ok(gas),
            other => Err(unexpected("eth_estimateGas", &other)),
        })
    }

    /// The code at an address; empty where there is no contract.
    pub fn code(&mut self, address: Address) -> Ticket<Bytes> {
        self.put(Question::Code(address, self.at), |answer| match answer {
            Answer::Code(code) => Ok(code),
            other => Err(unexpected("eth_getCode", &other)),
        })
    }

    /// The chain id.
    pub fn chain_id(&mut self) -> Ticket<u64> {
        self.put(Question::ChainId, |answer| match answer {
            Answer::ChainId(id) => Ok(id),
            other => Err(unexpected("eth_chainId", &other)),
        })
    }

    /// Which chain this is: its id, and its block 0.
    pub(crate) fn identity(&mut self) -> IdentityTickets {
        IdentityTickets { chain_id: self.chain_id(), genesis: self.block(At::Number(0)) }
    }

    /// A block of the canonical chain; nothing if there is none.
    pub fn block(&mut self, at: At) -> Ticket<Option<Block>> {
        self.put(Question::Block(at), block)
    }

    /// The receipt of a transaction, if that is in a block.
    pub fn receipt(&mut self, tx_hash: B256) -> Ticket<Option<Receipt>> {
        self.put(Question::Receipt(tx_hash), |answer| match answer {
            Answer::Receipt(receipt) => Ok(receipt),
            other => Err(unexpected("a receipt", &other)),
        })
    }

    /// A transaction, if the RPC knows it.
    pub fn transaction(&mut self, tx_hash: B256) -> Ticket<Option<Transaction>> {
        self.put(Question::Transaction(tx_hash), |answer| match answer {
            Answer::Transaction(transaction) => Ok(transaction),
            other => Err(unexpected("a transaction", &other)),
        })
    }

    /// Logs. RPCs bound how many blocks one question may span.
    pub fn logs(&mut self, filter: LogFilter) -> Ticket<Vec<Log>> {
        self.put(Question::Logs(filter), |answer| match answer {
            Answer::Logs(logs) => Ok(logs),
            other => Err(unexpected("eth_getLogs", &other)),
        })
    }
}

impl Answers {
    /// What the RPC knows of the state of the block that was asked about.
    pub(super) fn state_known(&self) -> StateKnown {
        let PinnedAnswers { asked, refused, lacking } = self.pinned;
        match asked {
            0 => StateKnown::Unasked,
            _ if asked > refused + lacking && refused > 0 => StateKnown::Partly,
            _ if asked > refused + lacking => StateKnown::Some,
            _ if lacking > 0 => StateKnown::Lacking,
            _ => StateKnown::Refused,
        }
    }

    /// The first question that the RPC did not answer, by its error. What a contract said is an answer.
    pub(crate) fn unanswered(&self) -> Option<Error> {
        self.answers.iter().flatten().find_map(|answer| answer.as_ref().err().cloned())
    }

    /// How many questions about the state of the block that was asked about the RPC refuses for good.
    pub(super) fn refused(&self) -> usize {
        self.pinned.refused
    }

    /// Whether the block that was asked about may be missing on one of the RPC's servers, for now.
    pub(super) fn lacks_block(&self) -> bool {
        self.pinned.lacking > 0
    }

    /// Takes an answer out.
    ///
    /// # Errors
    /// [`ErrorKind::Chain`] if the question failed, if the call reverted, or if what it returned is not what the
    /// function returns: the address then belongs to no contract, or to another one.
    pub fn take<T>(&mut self, ticket: Ticket<T>) -> Result<T> {
        let answer = self.answers.get_mut(ticket.index).and_then(Option::take);
        let answer = answer.unwrap_or_else(|| Err(nonsense("no such answer in this batch".into())));
        answer.and_then(ticket.decode).map_err(|error| at_endpoint(error, &self.endpoint))
    }
}

fn block(answer: Answer) -> Result<Option<Block>> {
    match answer {
        Answer::Block(block) => Ok(block),
        other => Err(unexpected("a block", &other)),
    }
}

fn at_endpoint(error: Error, endpoint: &str) -> Error {
    if error.endpoint().is_some() { error } else { error.with_endpoint(endpoint) }
}

/// Why there is no answer for now, if there is not one.
fn passing(answers: &[Result<Answer>]) -> Option<Error> {
    let errors = answers.iter().map(|answer| answer.as_ref().err().filter(|error| error.is_retryable()));
    errors.collect::<Option<Vec<_>>>()?.first().map(|error| (*error).clone())
}
