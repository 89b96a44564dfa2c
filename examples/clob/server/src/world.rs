//! What the server needs, on a machine of one's own: a chain, the contracts, and a development node. All of it ends with
//! this process.

use std::{path::Path, process::Stdio};

use alloy_sol_types::SolValue;
use clob_core::Clob;
use infinityvm_sdk::{
    LocalSigner, ProgramId, Revision,
    app::stf::{Inputs, StateTransition},
    devnode::{
        DEV_OPERATOR, DevNode, ProgramError, RealChain,
        contracts::{ANVIL_KEYS, Deployer},
    },
    primitives::{Address, B256, U256},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{
    AnyError,
    config::{Config, Limit, Store},
};

const CLOB: &str = include_str!("../../../../contracts/artifacts/relay/ClobConsumer.json");
const TOKEN: &str = include_str!("../../../../contracts/artifacts/common/TestToken.json");
/// Signs the server's jobs. Everybody knows it: it is for a chain on this machine.
const KEY: [u8; 32] = [0x43; 32];

/// A chain, the contracts on it, and a node that relays to it.
pub struct World {
    /// The node. It ends when this is dropped.
    pub node: DevNode,
    /// The RPC of the chain.
    pub rpc: String,
    /// The contract.
    pub contract: Address,
    /// The two tokens, base and quote.
    pub tokens: [Address; 2],
    /// What the node knows the program by.
    pub program: ProgramId,
    /// Signs the server's jobs.
    pub signer: LocalSigner,
    _anvil: Option<Child>,
}

impl World {
    /// On this chain, whose first accounts are anvil's; or on an anvil of its own.
    ///
    /// # Errors
    ///
    /// That there is no anvil, or that the chain does not take the contracts.
    pub async fn start(rpc: Option<String>) -> Result<Self, AnyError> {
        let (rpc, anvil) = match rpc {
            Some(rpc) => (rpc, None),
            None => {
                let (rpc, anvil) = anvil().await?;
                (rpc, Some(anvil))
            }
        };
        let signer = LocalSigner::from_bytes(KEY)?;
        let deployer = Deployer::new(&rpc, ANVIL_KEYS[0])?;
        let token = async |name: &str, symbol: &str, decimals: u8| {
            let arguments = (name.to_owned(), symbol.to_owned(), U256::from(decimals)).abi_encode_params();
            deployer.deploy_artifact(TOKEN, arguments).await
        };
        // So that a price of 1 is a hundredth of a dollar for a whole coin.
        let tokens = [token("Test Coin", "COIN", 4).await?, token("Test Dollar", "USD", 6).await?];
        let job_manager = deployer.job_manager(Revision::Relay, DEV_OPERATOR).await?;
        let node = DevNode::builder(Revision::Relay).relay_to(RealChain::new(&rpc, ANVIL_KEYS[1], job_manager));
        let node = node.start().await?;
        let program = node.register_program(|input| {
            let inputs = Inputs { onchain: input.onchain.to_vec(), offchain: input.offchain.to_vec(), state: None };
            Clob::program(&inputs).map_err(|error| ProgramError::new(error.to_string()))
        });
        // The first root is the same for every contract.
        let first = B256::from(Clob::new(0, Address::ZERO).root());
        let [base, quote] = tokens;
        let arguments = (job_manager, signer.address(), 0_u64, first, base, quote, program.clone());
        let contract = deployer.deploy_artifact(CLOB, arguments.abi_encode_params()).await?;
        Ok(Self { node, rpc, contract, tokens, program: program.into(), signer, _anvil: anvil })
    }

    /// How a server works with all of this, and keeps everything there. It gives nothing away.
    #[must_use]
    pub fn config(&self, store: Store) -> Config {
        Config {
            node: self.node.grpc_url(),
            rpc: self.rpc.clone(),
            contract: self.contract,
            program: self.program.clone(),
            signer: self.signer.clone(),
            store,
            limit: Limit::default(),
            batches: Config::usual_batches(),
            confirmations: 2,
            faucet: false,
        }
    }
}

/// An anvil with a block each second, whose blocks are soon final.
async fn anvil() -> Result<(String, Child), AnyError> {
    let failed =
        |what: String| format!("anvil {what}: install foundry or run tests/tools.sh, or give a chain by --rpc");
    let mut anvil = Command::new("sh")
        // Once the pipe from this process is closed, however that ended, anvil ends, too.
        .args(["-c", r#""$@" & anvil=$!; exec >&-; cat > /dev/null; kill "$anvil""#, "sh"])
        .arg(program())
        .args(["--port", "0", "--color", "never", "--hardfork", "prague"])
        .args(["--block-time", "1", "--slots-in-an-epoch", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("does not start ({error})")))?;
    let mut lines = BufReader::new(anvil.stdout.take().ok_or("anvil has no pipe")?).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some(address) = line.strip_prefix("Listening on ") {
            let rpc = format!("http://{}", address.trim());
            // Else it would stand still once the pipe is full.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok((rpc, anvil));
        }
    }
    Err(failed("ends before it listens".to_owned()).into())
}

/// What the environment names, what `tests/tools.sh` installs, or what is on the path.
fn program() -> std::path::PathBuf {
    if let Some(named) = std::env::var_os("ANVIL") {
        return named.into();
    }
    let scope = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target/tools/node_modules/@foundry-rs");
    let packages = std::fs::read_dir(scope).into_iter().flatten().flatten();
    let mut programs = packages
        .filter(|package| package.file_name().to_string_lossy().starts_with("anvil-"))
        .map(|package| package.path().join("bin/anvil"));
    programs.find(|path| path.exists()).unwrap_or_else(|| "anvil".into())
}
