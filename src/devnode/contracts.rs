//! The protocol's contracts, deployed on a test's own chain, such as anvil. An app's test needs no other tool for that.
//!
//! They are those in this crate's `contracts/`, written anew for tests. They have the functions, events and checks of
//! the real ones, and are not for production. Needs the feature `chain`.
//!
//! Anvil makes a block for each transaction, and none in between. To wait for `Until::Finalized` with more than one
//! confirmation, start it with `--block-time 1`. With the node's [`relay_to`](super::DevNodeBuilder::relay_to) the
//! whole flow runs on such a chain:
//!
//! ```no_run
//! use infinityvm_sdk::devnode::{DEV_OPERATOR, DevNode, RealChain, contracts::{ANVIL_KEYS, Deployer}};
//! use infinityvm_sdk::{LocalSigner, Revision};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (rpc, signer) = ("http://127.0.0.1:8545", LocalSigner::random()?);
//! let deployer = Deployer::new(rpc, ANVIL_KEYS[0])?;
//! let job_manager = deployer.job_manager(Revision::Relay, DEV_OPERATOR).await?;
//! let consumer = deployer.square_root(Revision::Relay, job_manager, signer.address()).await?;
//! let node = DevNode::builder(Revision::Relay)
//!     .relay_to(RealChain::new(rpc, ANVIL_KEYS[1], job_manager))
//!     .start()
//!     .await?;
//! # drop((consumer, node));
//! # Ok(())
//! # }
//! ```

use std::{fmt, time::Duration};

use alloy_primitives::{Address, B256, Bytes, TxKind, hex};
use alloy_sol_types::SolValue;
use serde_json::Value;

use super::real::Account;
use crate::{
    chain::Draft,
    error::{Error, ErrorKind, Result},
    job::Revision,
};

/// The keys of anvil's first three accounts, which own ether on every chain that anvil makes. Everybody knows them.
/// Take one to deploy, one for the node, and one to post results yourself: two who send at the same time must not share
/// an account.
pub const ANVIL_KEYS: [[u8; 32]; 3] = [
    hex!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"),
    hex!("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"),
    hex!("5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"),
];

/// How long a transaction may wait for its block.
const INCLUSION: Duration = Duration::from_secs(60);

const RELAY_JOB_MANAGER: &str = include_str!("../../contracts/artifacts/relay/JobManager.json");
const STATE_JOB_MANAGER: &str = include_str!("../../contracts/artifacts/state/JobManager.json");
const RELAY_SQUARE_ROOT: &str = include_str!("../../contracts/artifacts/relay/SquareRootConsumer.json");
const STATE_SQUARE_ROOT: &str = include_str!("../../contracts/artifacts/state/SquareRootConsumer.json");
const RELAY_STATEFUL_SUM: &str = include_str!("../../contracts/artifacts/relay/StatefulSumConsumer.json");
const STATE_STATEFUL_SUM: &str = include_str!("../../contracts/artifacts/state/StatefulSumConsumer.json");

/// An account that deploys contracts and calls them. Each method but [`read`](Self::read) sends a transaction, waits
/// until it is in a block, and fails if it reverted.
pub struct Deployer {
    account: Account,
}

impl fmt::Debug for Deployer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deployer").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl Deployer {
    /// The account of a secp256k1 key, on the chain behind this RPC (HTTP). Do not share it with the node or with
    /// another sender: two who send from one account use the same transaction nonces.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if the URL or the key is not a valid one. The chain is not asked yet.
    pub fn new(rpc_url: impl AsRef<str>, key: [u8; 32]) -> Result<Self> {
        Ok(Self { account: Account::new(rpc_url.as_ref(), &key)? })
    }

    /// The account's address: the owner of the JobManagers it deploys.
    #[must_use]
    pub fn address(&self) -> Address {
        self.account.address()
    }

    /// Deploys a JobManager that takes results signed by this operator: [`DEV_OPERATOR`](super::DEV_OPERATOR) for a
    /// node without a key of its own.
    ///
    /// # Errors
    /// [`ErrorKind::Chain`], as with all methods, if the chain cannot be asked, if the transaction reverts, or if it is
    /// in no block after a minute.
    pub async fn job_manager(&self, revision: Revision, operator: Address) -> Result<Address> {
        let artifact = match revision {
            Revision::State => STATE_JOB_MANAGER,
            Revision::Relay => RELAY_JOB_MANAGER,
        };
        self.deploy_artifact(artifact, (operator,).abi_encode_params()).await
    }

    /// Deploys a consumer that keeps square roots: its program's output is `abi.encode(uint256 number, uint256 root)`,
    /// and `getRoot(uint256 number)` tells the root. `signer` may sign its jobs; the next nonce is 1.
    ///
    /// # Errors
    /// As [`job_manager`](Self::job_manager).
    pub async fn square_root(&self, revision: Revision, job_manager: Address, signer: Address) -> Result<Address> {
        let artifact = match revision {
            Revision::State => STATE_SQUARE_ROOT,
            Revision::Relay => RELAY_SQUARE_ROOT,
        };
        self.deploy_artifact(artifact, (job_manager, signer, 0_u64).abi_encode_params()).await
    }

    /// Deploys a stateful consumer, at this state root (State revision: state hash). It takes outputs as
    /// [`ProgramOutput::stateful`](super::ProgramOutput::stateful) makes them; `getLatestResult()` tells the latest
    /// result.
    ///
    /// # Errors
    /// As [`job_manager`](Self::job_manager).
    pub async fn stateful_sum(
        &self,
        revision: Revision,
        job_manager: Address,
        signer: Address,
        state: B256,
    ) -> Result<Address> {
        let artifact = match revision {
            Revision::State => STATE_STATEFUL_SUM,
            Revision::Relay => RELAY_STATEFUL_SUM,
        };
        self.deploy_artifact(artifact, (job_manager, signer, 0_u64, state).abi_encode_params()).await
    }

    /// Deploys a contract of your own from the JSON that a compiler wrote: `bytecode` is 0x-hex, or an object that
    /// holds it as `object`, as forge has it. The arguments are ABI-encoded (`SolValue::abi_encode_params` of a tuple).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if there is no bytecode, or if libraries must be linked into it; else as
    /// [`job_manager`](Self::job_manager).
    pub async fn deploy_artifact(&self, json: &str, constructor_args: impl AsRef<[u8]>) -> Result<Address> {
        let invalid = |what| {
            Error::new(ErrorKind::InvalidInput, what)
                .with_hint("give the artifact's JSON as the compiler wrote it, with its libraries linked")
        };
        let artifact: Value = serde_json::from_str(json)
            .map_err(|error| invalid("the contract's artifact is no JSON").with_source(error))?;
        let bytecode = &artifact["bytecode"];
        let bytecode = bytecode.as_str().or_else(|| bytecode["object"].as_str());
        let bytecode = bytecode.ok_or_else(|| invalid("the contract's artifact holds no bytecode"))?;
        let bytecode = hex::decode(bytecode)
            .map_err(|error| invalid("the bytecode in the contract's artifact is no hex").with_source(error))?;
        self.deploy(bytecode, constructor_args).await
    }

    /// Deploys a contract of your own from its creation bytecode and the ABI-encoded arguments of its constructor.
    ///
    /// # Errors
    /// As [`job_manager`](Self::job_manager).
    pub async fn deploy(&self, bytecode: impl Into<Vec<u8>>, constructor_args: impl AsRef<[u8]>) -> Result<Address> {
        let mut input: Vec<u8> = bytecode.into();
        input.extend_from_slice(constructor_args.as_ref());
        let (_, created) = self.send("deploy the contract", TxKind::Create, input.into()).await?;
        created.ok_or_else(|| Error::new(ErrorKind::Chain, "the chain created no contract"))
    }

    /// Calls a contract by a transaction; `input` is the ABI-encoded call. Returns the transaction's hash.
    ///
    /// # Errors
    /// As [`job_manager`](Self::job_manager).
    pub async fn call(&self, to: Address, input: impl Into<Bytes>) -> Result<B256> {
        Ok(self.send("call the contract", TxKind::Call(to), input.into()).await?.0)
    }

    /// What a call of a contract returns at the latest block, without a transaction.
    ///
    /// # Errors
    /// [`ErrorKind::Chain`] if the chain cannot be asked, or if the call reverts.
    pub async fn read(&self, to: Address, input: impl Into<Bytes>) -> Result<Bytes> {
        let answer = self.account.call(to, input.into()).await;
        answer.map_err(|failure| Error::new(ErrorKind::Chain, format!("could not read the contract: {failure}")))
    }

    async fn send(&self, what: &str, to: TxKind, input: Bytes) -> Result<(B256, Option<Address>)> {
        let failed = |why: String| Error::new(ErrorKind::Chain, format!("could not {what}: {why}"));
        let draft = Draft { chain_id: None, to, data: input, blobs: None, keeper: None };
        let hash = self.account.send(&draft).await.map_err(|failure| failed(failure.to_string()))?;
        let landed = tokio::time::timeout(INCLUSION, self.account.land(&draft, hash)).await.map_err(|_| {
            failed(format!("transaction {hash} is in no block after {INCLUSION:?}")).with_hint("does the chain mine?")
        })?;
        let (hash, included) = landed.map_err(|failure| failed(failure.to_string()))?;
        if included.succeeded() {
            Ok((hash, included.contract_address))
        } else {
            Err(failed(format!("transaction {hash} reverted in its block")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn artifacts_that_are_none_say_so() {
        // Nobody listens there, and nobody is asked.
        let deployer = Deployer::new("http://127.0.0.1:1", ANVIL_KEYS[0]).unwrap();
        assert_eq!(deployer.address().to_string(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
        for (json, text) in [
            ("bytecode", "no JSON"),
            ("{}", "holds no bytecode"),
            (r#"{"bytecode":{"object":7}}"#, "holds no bytecode"),
            (r#"{"bytecode":"0x60__$library$__"}"#, "no hex"),
        ] {
            let error = deployer.deploy_artifact(json, []).await.unwrap_err();
            assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn keys_and_urls_are_checked() {
        for (url, key) in
            [("ws://127.0.0.1:8545", ANVIL_KEYS[0]), ("here", ANVIL_KEYS[0]), ("http://localhost", [0; 32])]
        {
            assert_eq!(Deployer::new(url, key).unwrap_err().kind(), ErrorKind::InvalidConfig);
        }
    }
}
