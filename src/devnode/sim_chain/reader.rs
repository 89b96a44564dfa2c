//! The simulated chain as clients see a chain: through the seam of [`ChainReader`] and [`Poster`].

use std::{fmt, sync::Arc, time::Duration};

use alloy_primitives::{Address, B256, keccak256};
use async_trait::async_trait;

use super::SimChain;
use crate::{
    chain::{
        Answer, Block, ChainReader, FollowUp, PostKeeper, PostTransaction, Poster, Question, SignedPost, keep_within,
    },
    error::{Error, ErrorKind, Outcome, Result},
};

const ENDPOINT: &str = "the dev node's simulated chain";
/// How long whoever keeps a transaction may take.
const KEEPING: Duration = Duration::from_secs(60);

fn unreachable() -> Error {
    Error::new(ErrorKind::Chain, "the RPC is unreachable")
        .with_retryable(true)
        .with_endpoint(ENDPOINT)
        .with_hint("the test said so: SimChain::set_reachable")
}

/// Every call of [`ask`](ChainReader::ask) sees the chain at one moment, unless the test [tears](SimChain::tear) it.
/// Heads are told as they come, without a look.
#[async_trait]
impl ChainReader for SimChain {
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        let chain = &mut self.0.lock().chain;
        if chain.reachable { Ok(chain.answer_all(questions)) } else { Err(unreachable()) }
    }

    async fn next_head(&self, known: Option<B256>) -> Result<Block> {
        let mut changes = self.0.changed.subscribe();
        loop {
            changes.borrow_and_update();
            let head = self.read(|chain| chain.reachable.then(|| chain.head())).ok_or_else(unreachable)?;
            if known != Some(head.hash) {
                return Ok(head);
            }
            // The sender is in `self`, so this cannot fail.
            let _ = changes.changed().await;
        }
    }

    fn endpoint(&self) -> &str {
        ENDPOINT
    }
}

/// An account on the simulated chain that posts results, for
/// [`ClientBuilder::poster`](crate::client::ClientBuilder::poster); made by [`SimChain::account`]. Its transactions
/// are in the next block at once, even those that revert there. Kept by somebody ([`Poster::kept_by`]), it puts those
/// that a reorganisation took back into a block again.
///
/// On the simulated chain the blob hashes of jobs with an offchain input (Relay revision) are stand-ins. So only
/// [`SimChain::submit_result`] can post the results of such jobs.
#[derive(Clone)]
pub struct SimAccount {
    chain: SimChain,
    address: Address,
    keeper: Option<Arc<dyn PostKeeper>>,
}

impl SimAccount {
    pub(super) fn new(chain: SimChain, address: Address) -> Self {
        Self { chain, address, keeper: None }
    }
}

impl SimAccount {
    fn include(&self, hash: B256, transaction: &PostTransaction) {
        let blobs = transaction.blobs.as_ref().map(|blobs| blobs.hashes().to_vec()).unwrap_or_default();
        self.chain.write(|chain| chain.include(hash, transaction.to, transaction.data.clone(), &blobs));
    }
}

impl fmt::Debug for SimAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimAccount").field("address", &self.address).finish_non_exhaustive()
    }
}

#[async_trait]
impl Poster for SimAccount {
    fn address(&self) -> Address {
        self.address
    }

    async fn post(&self, transaction: &PostTransaction, signed: &(dyn Fn(B256) + Send + Sync)) -> Result<B256> {
        let number = self.chain.write(|chain| {
            if !chain.reachable {
                return Err(unreachable().with_outcome(Outcome::NotSent));
            }
            if chain.chain_id != transaction.chain_id {
                let what = format!("the simulated chain has the id {}, not {}", chain.chain_id, transaction.chain_id);
                return Err(Error::new(ErrorKind::WrongChain, what).with_outcome(Outcome::NotSent));
            }
            Ok(chain.count())
        })?;
        let hash = keccak256([self.address.as_slice(), &number.to_be_bytes(), &transaction.data].concat());
        if let Some(keeper) = &self.keeper {
            keep_within(&**keeper, &SignedPost::new(hash, number, transaction.data.clone()), KEEPING).await?;
        }
        signed(hash);
        self.include(hash, transaction);
        Ok(hash)
    }

    /// Of a transaction that is in no block, it is in the next one.
    async fn follow_up(
        &self,
        transaction: &PostTransaction,
        sent: &[B256],
        _: &(dyn Fn(B256) + Send + Sync),
    ) -> Result<FollowUp> {
        let Some(hash) = sent.last().filter(|_| self.keeper.is_some()) else { return Ok(FollowUp::Unable) };
        match self.chain.ask(&[Question::Receipt(*hash)]).await?.pop() {
            Some(Ok(Answer::Receipt(None))) => {
                self.include(*hash, transaction);
                Ok(FollowUp::Sent(*hash))
            }
            _ => Ok(FollowUp::Wait),
        }
    }

    fn kept_by(&self, keeper: Arc<dyn PostKeeper>, _: &[SignedPost]) -> Option<Arc<dyn Poster>> {
        Some(Arc::new(Self { keeper: Some(keeper), ..self.clone() }))
    }
}
