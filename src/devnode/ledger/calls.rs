//! What the contracts of the simulated chain answer.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{Panic, SolError, SolInterface, SolValue};

use super::{ConsumerRules, JOB_MANAGER, Job, SimLedger};
use crate::{
    chain::{Answer, At, Call, Question},
    devnode::{
        abi::contracts::{
            Consumer::ConsumerCalls,
            JobManager::{self, JobManagerCalls, Metadata},
        },
        crypto,
    },
    error::{Error, ErrorKind, Result},
    job::Revision,
};

/// What `isValidSignature` answers (EIP-1271).
const ACCEPTED: [u8; 4] = [0x16, 0x26, 0xba, 0x7e];
const REFUSED: [u8; 4] = [0xff; 4];

/// The arithmetic overflow of Solidity.
const OVERFLOW: u8 = 0x11;

/// What a contract has for code: nobody runs it.
const CODE: Bytes = Bytes::from_static(&[0xfe]);

/// What a call returns, or what it reverts with.
type Returned = Result<Vec<u8>, Vec<u8>>;

impl SimLedger {
    /// Answers a batch: of one moment, unless the test has torn it.
    pub(in crate::devnode) fn answer_all(&mut self, questions: &[Question]) -> Vec<Result<Answer>> {
        let Some((old, by)) = self.tears.apply(questions) else {
            return questions.iter().map(|question| self.answer(question)).collect();
        };
        let one =
            |(question, old): (&Question, bool)| if old { self.older(question, by) } else { self.answer(question) };
        questions.iter().zip(old).map(one).collect()
    }

    /// The answer of so many blocks before.
    fn older(&self, question: &Question, by: u64) -> Result<Answer> {
        let last = self.height().saturating_sub(by);
        let before = |at: At| self.number(at).map(|number| At::Number(number.saturating_sub(by)));
        Ok(match (self.answer(question)?, question) {
            (_, Question::Block(At::Latest)) => Answer::Block(self.blocks.block(At::Number(last))),
            (Answer::Block(Some(block)), Question::Block(At::Finalized)) => {
                Answer::Block(self.blocks.block(At::Number(block.number.saturating_sub(by))))
            }
            (Answer::Block(block), _) => Answer::Block(block.filter(|block| block.number <= last)),
            (_, Question::Code(address, at)) => self.answer(&Question::Code(*address, before(*at)?))?,
            (_, Question::Call(call, at)) => self.answer(&Question::Call(call.clone(), before(*at)?))?,
            (Answer::Receipt(receipt), _) => Answer::Receipt(receipt.filter(|receipt| receipt.block_number <= last)),
            (transaction @ Answer::Transaction(_), Question::Transaction(hash)) => {
                let there = self.blocks.receipt(*hash).is_some_and(|receipt| receipt.block_number <= last);
                if there { transaction } else { Answer::Transaction(None) }
            }
            (Answer::Logs(logs), _) => Answer::Logs(logs.into_iter().filter(|log| log.block_number <= last).collect()),
            (answer, _) => answer,
        })
    }

    fn answer(&self, question: &Question) -> Result<Answer> {
        Ok(match question {
            Question::ChainId => Answer::ChainId(self.chain_id),
            Question::Block(at) => Answer::Block(self.blocks.block(*at)),
            Question::Code(address, at) => {
                let at = self.number(*at)?;
                let contract = *address == JOB_MANAGER || self.rules(*address, at).is_some();
                Answer::Code(if contract { CODE } else { Bytes::new() })
            }
            Question::Call(call, at) => match self.call(call, self.number(*at)?) {
                Ok(returned) => Answer::Returned(returned.into()),
                Err(reverted) => Answer::Reverted(reverted.into()),
            },
            Question::Gas(_) => return Err(Error::new(ErrorKind::Chain, "the simulated chain counts no gas")),
            Question::Receipt(hash) => Answer::Receipt(self.blocks.receipt(*hash)),
            Question::Transaction(hash) => Answer::Transaction(self.blocks.transaction(*hash)),
            Question::Logs(filter) => Answer::Logs(self.blocks.logs(filter)),
        })
    }

    fn number(&self, at: At) -> Result<u64> {
        let missing = || Error::new(ErrorKind::Chain, "the chain has no such block").with_retryable(true);
        self.blocks.block(at).map(|block| block.number).ok_or_else(missing)
    }

    fn call(&self, call: &Call, at: u64) -> Returned {
        if call.to == JOB_MANAGER {
            return self.job_manager(&call.data, &call.blob_hashes, at);
        }
        match self.rules(call.to, at) {
            Some(rules) => self.consumer(call.to, rules, &call.data, at),
            // There is no code.
            None => Ok(Vec::new()),
        }
    }

    fn job_manager(&self, data: &[u8], blob_hashes: &[B256], at: u64) -> Returned {
        let unknown = |_| Vec::new();
        match JobManagerCalls::abi_decode(data).map_err(unknown)? {
            JobManagerCalls::getCoprocessorOperator(_) => Ok(self.operator(at).abi_encode()),
            JobManagerCalls::getJobMetadata(JobManager::getJobMetadataCall { jobID }) => {
                let metadata = self.job(jobID, at).map(|job| Metadata {
                    programID: job.program_id.clone(),
                    maxCycles: job.max_cycles,
                    consumer: job.consumer,
                    status: job.status as u8,
                });
                let none = || Metadata { programID: Bytes::new(), maxCycles: 0, consumer: Address::ZERO, status: 0 };
                Ok(metadata.unwrap_or_else(none).abi_encode())
            }
            JobManagerCalls::submitResultForOffchainJob(call) => {
                self.dry_run(&call, blob_hashes, at).map(|_| Vec::new()).map_err(|refusal| refusal.data())
            }
        }
    }

    fn consumer(&self, address: Address, rules: &ConsumerRules, data: &[u8], at: u64) -> Returned {
        // Of a function that it does not have.
        let none = Vec::new;
        let job = |id| self.job(id, at).filter(|job| job.consumer == address);
        let state = |revision| rules.state.filter(|_| self.revision == revision).map(|state| state.abi_encode());
        let input = |job: Option<&Job>| job.map(|job| job.onchain_input.clone()).unwrap_or_default();
        Ok(match ConsumerCalls::abi_decode(data).map_err(|_| none())? {
            ConsumerCalls::maxNonce(_) => rules.max_nonce.abi_encode(),
            ConsumerCalls::getNextNonce(_) => {
                let overflow = || Panic { code: U256::from(OVERFLOW) }.abi_encode();
                rules.max_nonce.checked_add(1).ok_or_else(overflow)?.abi_encode()
            }
            ConsumerCalls::getJobManager(_) => JOB_MANAGER.abi_encode(),
            ConsumerCalls::getOffchainSigner(_) => rules.signer.abi_encode(),
            ConsumerCalls::isValidSignature(call) => {
                let signer = crypto::recover_hash(call.hash, &call.signature).unwrap_or(Address::ZERO);
                let answer = if signer == rules.signer { ACCEPTED } else { REFUSED };
                B256::right_padding_from(&answer).to_vec()
            }
            ConsumerCalls::getLatestStateRoot(_) => state(Revision::Relay).ok_or_else(none)?,
            ConsumerCalls::getLatestStateHash(_) => state(Revision::State).ok_or_else(none)?,
            ConsumerCalls::getOnchainInputForJob(call) => input(job(call.jobID)).abi_encode(),
            ConsumerCalls::getOffchainInputHashForJob(call) => {
                job(call.jobID).map(|job| job.offchain_input_hash).unwrap_or_default().abi_encode()
            }
            ConsumerCalls::getStateHashForJob(call) if self.revision == Revision::State => {
                job(call.jobID).map(|job| job.state_hash).unwrap_or_default().abi_encode()
            }
            ConsumerCalls::getStateHashForJob(_) => return Err(none()),
        })
    }
}
