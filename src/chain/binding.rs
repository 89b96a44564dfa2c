//! What a client is bound to. Signed bytes hold no chain id, so what was signed for one chain is good on any other with
//! the same contract's address; nothing but the client can keep the two apart.

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use super::{Chain, ChainIdentity};
use crate::{
    error::{Error, ErrorKind, Result},
    job::SignedJob,
};

/// One chain, its JobManager, one app contract and its signer: what a client works for, and nothing else. Given to a
/// client with [`ClientBuilder::bind`](crate::client::ClientBuilder::bind).
///
/// Serialises with serde, so that a service can store it beside its jobs when it is set up, and check it at every
/// start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Binding {
    /// The chain id (EIP-155).
    pub chain_id: u64,
    /// The hash of block 0. A development chain that is begun anew has the same id and, as a rule, another block 0; one
    /// whose block 0 is made with a fixed timestamp has the same again, and cannot be told from the one before.
    pub genesis_hash: B256,
    /// The JobManager.
    pub job_manager: Address,
    /// The app's contract.
    pub consumer: Address,
    /// The account that signs its jobs. Jobs that come in signed must have a plain ECDSA signature of it.
    pub signer: Address,
}

impl Binding {
    /// A binding to what is known already.
    #[must_use]
    pub fn new(identity: ChainIdentity, job_manager: Address, consumer: Address, signer: Address) -> Self {
        let ChainIdentity { chain_id, genesis_hash } = identity;
        Self { chain_id, genesis_hash, job_manager, consumer, signer }
    }

    /// A binding to the chain as it is now. It believes what the chain's RPC says: make it once, where you know that
    /// this is the right one, and store it.
    ///
    /// # Errors
    /// [`ErrorKind::Chain`] if the chain cannot be read.
    pub async fn read(chain: &Chain, consumer: Address, signer: Address) -> Result<Self> {
        Ok(Self::new(chain.identity().await?, chain.job_manager(), consumer, signer))
    }

    /// Which chain it is.
    #[must_use]
    pub fn identity(&self) -> ChainIdentity {
        ChainIdentity::new(self.chain_id, self.genesis_hash)
    }

    /// Checks that this is the chain.
    ///
    /// # Errors
    /// [`ErrorKind::WrongChain`] if it is another.
    pub fn check_identity(&self, found: ChainIdentity) -> Result<()> {
        if found.chain_id != self.chain_id {
            let what = format!("the chain has id {}, the client is bound to {}", found.chain_id, self.chain_id);
            return Err(wrong(what).with_hint("give the client the RPC of the chain that it is bound to"));
        }
        if found.genesis_hash != self.genesis_hash {
            let what = format!(
                "the chain with id {} begins with block {}, and the client is bound to the one with block {}",
                found.chain_id, found.genesis_hash, self.genesis_hash
            );
            return Err(wrong(what)
                .with_hint("another chain of the same id: if a development chain was begun anew, make a new Binding"));
        }
        Ok(())
    }

    /// Checks that this is the JobManager.
    ///
    /// # Errors
    /// [`ErrorKind::WrongChain`] if it is another.
    pub fn check_job_manager(&self, job_manager: Address) -> Result<()> {
        self.same("JobManager", job_manager, self.job_manager)
    }

    /// Checks that this is the app's contract.
    ///
    /// # Errors
    /// [`ErrorKind::WrongChain`] if it is another.
    pub fn check_consumer(&self, consumer: Address) -> Result<()> {
        self.same("consumer", consumer, self.consumer)
    }

    /// Checks that this is the account that signs.
    ///
    /// # Errors
    /// [`ErrorKind::WrongChain`] if it is another.
    pub fn check_signer(&self, signer: Address) -> Result<()> {
        self.same("signer", signer, self.signer)
    }

    /// Checks the app's contract and who signed.
    ///
    /// # Errors
    /// [`ErrorKind::WrongChain`] if either is another, or if it cannot be recovered who signed.
    pub fn check_job(&self, job: &SignedJob) -> Result<()> {
        let check = || {
            self.check_consumer(job.consumer())?;
            let signer = job.recover().map_err(|error| {
                wrong(format!(
                    "no account can be recovered from the job's signature, and the client is bound to {}",
                    self.signer
                ))
                .with_source(error)
                .with_hint("a client that is bound takes plain ECDSA signatures of the account that it is bound to")
            })?;
            self.check_signer(signer)
        };
        check().map_err(|error| error.with_job(job.id()))
    }

    fn same(&self, what: &str, found: Address, bound: Address) -> Result<()> {
        if found == bound {
            return Ok(());
        }
        Err(wrong(format!("the {what} is {found}, the client is bound to {bound}")).with_hint(
            "use a client that is bound to it; signed jobs are good on every chain, so check where it comes from",
        ))
    }
}

fn wrong(what: String) -> Error {
    Error::new(ErrorKind::WrongChain, what)
}
