//! A real chain in place of the simulated one: how the node reads it and relays results to it.
//!
//! The node's world stays synchronous, behind one lock. On the simulated chain a change relays what it can before the
//! lock is released. With `relay_to` it only moves results to the relayer's queues. A task beside the world, one for
//! each life of the node, takes them from there: the first of each lane, and every unordered one, each in a task of its
//! own. So a result that reverts, or that waits in the pool, holds up its own lane alone.
//!
//! A result leaves its queue when its transaction is in a block, unless a restart or `give_up_relay` took it away
//! before. Transactions are sent as a client sends them that posts results itself (`chain/rpc/sender`): one that waits
//! for long is priced again, and if it is open whether one arrived, it is looked for before the result is sent again,
//! as a second one would revert for ever.

mod account;
mod relayer;

use std::fmt;

use alloy_primitives::{Address, Bytes, TxKind};
use alloy_sol_types::SolCall;

pub(super) use self::{
    account::{Account, AccountFailure},
    relayer::start,
};
use super::{
    abi::contracts::{Consumer, JobManager},
    blobs,
    record::{Finished, Submission},
    words,
};
use crate::{
    chain::{Blobs, Draft},
    error::Result,
    job::Revision,
};

/// A chain for [`DevNodeBuilder::relay_to`](super::DevNodeBuilder::relay_to): its RPC, the account that sends results
/// there, and the JobManager that receives them.
#[derive(Clone)]
pub struct RealChain {
    rpc_url: String,
    relayer_key: [u8; 32],
    job_manager: Address,
}

impl RealChain {
    /// A chain, by the address of its RPC (HTTP), the secp256k1 key of the node's account, and the address of the
    /// JobManager. The account pays for the transactions; nothing else should use it. The JobManager must name the
    /// node's [operator](super::DevNode::operator).
    #[must_use]
    pub fn new(rpc_url: impl Into<String>, relayer_key: [u8; 32], job_manager: Address) -> Self {
        Self { rpc_url: rpc_url.into(), relayer_key, job_manager }
    }

    pub(super) fn connect(&self) -> Result<Real> {
        Ok(Real { relayer: Account::new(&self.rpc_url, &self.relayer_key)?, job_manager: self.job_manager })
    }
}

impl fmt::Debug for RealChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the key nor the URL, which may hold one.
        f.debug_struct("RealChain").field("job_manager", &self.job_manager).finish_non_exhaustive()
    }
}

/// How often the next nonce is read at most until two readings in a row agree.
const READINGS: u32 = 5;

/// A [`RealChain`] with its connection.
pub(super) struct Real {
    relayer: Account,
    job_manager: Address,
}

impl Real {
    /// `getNextNonce()` of a consumer, or why it could not be read. A lane begins at it, and stays there until the
    /// node is restarted. So two readings in a row must agree.
    pub(super) async fn next_nonce(&self, consumer: Address) -> Result<u64, String> {
        let mut last = self.read_next_nonce(consumer).await?;
        for _ in 1..READINGS {
            let next = self.read_next_nonce(consumer).await?;
            if next == last {
                return Ok(next);
            }
            last = next;
        }
        Err("the RPC has told another nonce each time".to_owned())
    }

    async fn read_next_nonce(&self, consumer: Address) -> Result<u64, String> {
        let input = Consumer::getNextNonceCall {}.abi_encode();
        let returned = self.relayer.call(consumer, input.into()).await.map_err(|failure| failure.to_string())?;
        if returned.is_empty() {
            return Err(words::NO_DATA.to_owned());
        }
        Consumer::getNextNonceCall::abi_decode_returns(&returned).map_err(|error| error.to_string())
    }

    /// The blobs that carry a job's offchain input, if it has one and this build can make them.
    pub(super) async fn blobs(&self, job: &Submission) -> Option<Blobs> {
        if job.blob_hashes.is_empty() {
            return None;
        }
        let input = job.offchain_input.clone();
        // KZG takes its time.
        tokio::task::spawn_blocking(move || blobs::of(&lz4_flex::block::compress_prepend_size(&input))).await.ok()?
    }

    fn draft(&self, revision: Revision, finished: &Finished) -> Result<Draft, AccountFailure> {
        let job = &finished.job;
        if finished.blobs.is_none() && !job.blob_hashes.is_empty() {
            return Err(AccountFailure::Rpc(blobs::MISSING.to_owned()));
        }
        let data: Bytes = JobManager::submitResultForOffchainJobCall {
            result: finished.result.clone(),
            operatorSignature: finished.operator_signature.clone(),
            request: job.request.encode(revision),
            requestSignature: job.signature.clone(),
        }
        .abi_encode()
        .into();
        let (to, blobs) = (TxKind::Call(self.job_manager), finished.blobs.clone());
        Ok(Draft { chain_id: None, to, data, blobs, keeper: None })
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;
    use crate::devnode::{DEV_OPERATOR_KEY, abi::Request};

    #[test]
    fn a_result_without_the_blobs_it_needs_is_not_sent() {
        let real = RealChain::new("http://127.0.0.1:1", DEV_OPERATOR_KEY, Address::ZERO).connect().unwrap();
        let request = Request {
            nonce: 1,
            max_cycles: 1,
            consumer: Address::ZERO,
            program_id: Bytes::from_static(b"p"),
            onchain_input: Bytes::new(),
            offchain_input_hash: B256::ZERO,
            state_hash: B256::ZERO,
        };
        let job = Submission {
            id: request.job_id(),
            request,
            signature: Bytes::new(),
            offchain_input: Bytes::from_static(b"input"),
            state: Bytes::new(),
            ordered: false,
            blob_hashes: Vec::new(),
        };
        let mut finished =
            Finished { serial: 1, job, result: Bytes::new(), operator_signature: Bytes::new(), blobs: None };
        assert!(real.draft(Revision::Relay, &finished).is_ok());
        finished.job.blob_hashes.push(B256::ZERO);
        let failure = real.draft(Revision::Relay, &finished).err().unwrap();
        assert_eq!(failure.to_string(), blobs::MISSING);
    }
}
