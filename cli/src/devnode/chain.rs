//! The chain that the node relays to, and the contracts on it.

use infinityvm_sdk::{
    Result, Revision,
    devnode::{
        ConsumerRules, DevNodeBuilder, RealChain,
        contracts::{ANVIL_KEYS, Deployer},
    },
    primitives::{Address, B256, keccak256},
};
use serde::{Deserialize, Serialize};

/// The accounts of an anvil: who deploys, who relays, and who signs jobs and may post results.
pub const DEPLOYER: [u8; 32] = ANVIL_KEYS[0];
pub const RELAYER: [u8; 32] = ANVIL_KEYS[1];
pub const SIGNER: [u8; 32] = ANVIL_KEYS[2];

/// Where the consumers of the examples are on the simulated chain.
const SQUARE_ROOT: Address = Address::new([0xc0; 20]);
const SUM: Address = Address::new([0xc1; 20]);

/// The contracts that the node has brought.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Contracts {
    pub job_manager: Address,
    pub square_root: Address,
    pub sum: Address,
}

impl Contracts {
    /// Deploys them on an anvil.
    pub async fn deploy(rpc: &str, revision: Revision, operator: Address, signer: Address) -> Result<Self> {
        let deployer = Deployer::new(rpc, DEPLOYER)?;
        let job_manager = deployer.job_manager(revision, operator).await?;
        let square_root = deployer.square_root(revision, job_manager, signer).await?;
        let sum = deployer.stateful_sum(revision, job_manager, signer, first_state()).await?;
        Ok(Self { job_manager, square_root, sum })
    }

    pub fn relay(self, builder: DevNodeBuilder, rpc: &str) -> DevNodeBuilder {
        builder.relay_to(RealChain::new(rpc, RELAYER, self.job_manager))
    }

    /// Puts the consumers on the simulated chain.
    pub fn simulate(builder: DevNodeBuilder, signer: Address) -> DevNodeBuilder {
        let rules = ConsumerRules::signed_by(signer);
        builder.consumer(SQUARE_ROOT, rules.clone()).consumer(SUM, rules.with_state(first_state()))
    }

    /// Where they are on the simulated chain.
    pub fn simulated(job_manager: Address) -> Self {
        Self { job_manager, square_root: SQUARE_ROOT, sum: SUM }
    }
}

/// Of a sum of zero: the hash of `abi.encode(0)`, in either revision.
fn first_state() -> B256 {
    keccak256([0; 32])
}
