//! Whom the server works with: a development node in a process of its own, so that it and its chain outlive the server.
//! By default the chain is the node's simulated one; with `--rpc` the node relays to that chain, on which this deploys
//! the contracts. A real node would take the place of all this.

use std::{
    env, fs,
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

use infinityvm_sdk::{
    LocalSigner, Revision,
    devnode::{
        ConsumerRules, DEV_OPERATOR, DevNode, DevNodeBuilder, ProgramError, RealChain,
        contracts::{ANVIL_KEYS, Deployer},
    },
    primitives::{Address, B256, Bytes, SolValue, address},
};
use matching_game_program::{Form, Game};
use serde::{Deserialize, Serialize};

use super::AnyError;
use infinityvm_sdk::app::stf::{Inputs, StateTransition};

/// Signs the server's jobs. Everybody knows it: it is for a chain on this machine.
const KEY: [u8; 32] = [0x42; 32];
/// The consumer on the simulated chain.
const SIMULATED: Address = address!("c0ffee254729296a45a3885639AC7E10F9d54979");
const RELAY_ARTIFACT: &str = include_str!("../../../../contracts/artifacts/relay/MatchingGameConsumer.json");
const STATE_ARTIFACT: &str = include_str!("../../../../contracts/artifacts/state/MatchingGameConsumer.json");

/// The flags.
pub struct Options {
    /// The database. The node's notes are beside it.
    pub file: String,
    pub listen: SocketAddr,
    /// The chain that the node relays to. `None`: a simulated one.
    pub rpc: Option<String>,
    pub form: Form,
    /// Be the node, not the server.
    pub is_node: bool,
}

impl Options {
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, AnyError> {
        let mut options = Self {
            file: "game.db".to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            rpc: None,
            form: Form::Relay,
            is_node: false,
        };
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{flag} has no value"));
            match flag.as_str() {
                "--db" => options.file = value()?,
                "--listen" => options.listen = value()?.parse()?,
                "--rpc" => options.rpc = Some(value()?),
                "--state" => options.form = Form::State,
                "node" => options.is_node = true,
                _ => return Err(format!("{flag} is no flag: --db FILE, --listen ADDRESS, --rpc URL, --state").into()),
            }
        }
        Ok(options)
    }

    pub fn revision(&self) -> Revision {
        match self.form {
            Form::Relay => Revision::Relay,
            Form::State => Revision::State,
        }
    }

    fn notes(&self) -> String {
        format!("{}.node", self.file)
    }

    fn flags(&self) -> Vec<&str> {
        let mut flags = vec!["node", "--db", &self.file];
        flags.extend(self.rpc.iter().flat_map(|rpc| ["--rpc", rpc]));
        flags.extend((self.form == Form::State).then_some("--state"));
        flags
    }
}

/// What the node has noted of itself.
#[derive(Serialize, Deserialize)]
pub struct World {
    pub process: u32,
    pub node: String,
    pub operator: Address,
    pub job_manager: Address,
    pub consumer: Address,
    pub program: Bytes,
}

impl World {
    /// The node from before, or a new one.
    pub async fn of(options: &Options) -> Result<Self, AnyError> {
        if let Some(world) = Self::noted(options)
            && tokio::net::TcpStream::connect(world.node.trim_start_matches("http://")).await.is_ok()
        {
            return Ok(world);
        }
        if fs::exists(&options.file)? {
            return Err(format!("the node of {0} is gone, and what it knew with it: remove {0}*", options.file).into());
        }
        // Not waited for: it outlives the server, and holds none of its pipes open.
        let mut node = Command::new(env::current_exe()?)
            .args(options.flags())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if let Some(world) = Self::noted(options).filter(|world| world.process == node.id()) {
                return Ok(world);
            }
            if let Some(status) = node.try_wait()? {
                let command = options.flags().join(" ");
                return Err(format!("the node ended ({status}): run `matching-game {command}` to see why").into());
            }
        }
    }

    pub fn signer(&self) -> Result<LocalSigner, AnyError> {
        Ok(LocalSigner::from_bytes(KEY)?)
    }

    fn noted(options: &Options) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(options.notes()).ok()?).ok()
    }
}

/// A development node with the game's program, until it is killed.
pub async fn serve(options: &Options) -> Result<(), AnyError> {
    let (revision, anywhere) = (options.revision(), SocketAddr::from(([127, 0, 0, 1], 0)));
    let signer = LocalSigner::from_bytes(KEY)?.address();
    let first = B256::from(Game::new(options.form).root());
    let builder = DevNode::builder(revision).grpc_address(anywhere);
    let (builder, job_manager, consumer) = match &options.rpc {
        Some(rpc) => deploy(builder, rpc, revision, signer, first).await?,
        None => {
            let rules = ConsumerRules::signed_by(signer).with_state(first);
            (builder.consumer(SIMULATED, rules), Address::ZERO, SIMULATED)
        }
    };
    let node = builder.start().await?;
    let program = node.register_program(move |input| {
        let (onchain, offchain) = (input.onchain.to_vec(), input.offchain.to_vec());
        let state = (revision == Revision::State).then(|| input.state.to_vec());
        let inputs = Inputs { onchain, offchain, state };
        Game::program(&inputs).map_err(|error| ProgramError::new(error.to_string()))
    });
    let process = std::process::id();
    let world = World { process, node: node.grpc_url(), operator: node.operator(), job_manager, consumer, program };
    let notes = options.notes();
    fs::write(format!("{notes}.new"), serde_json::to_string(&world)?)?;
    fs::rename(format!("{notes}.new"), &notes)?;
    std::future::pending().await
}

/// The contracts, on a chain whose first accounts are anvil's.
async fn deploy(
    builder: DevNodeBuilder,
    rpc: &str,
    revision: Revision,
    signer: Address,
    first: B256,
) -> Result<(DevNodeBuilder, Address, Address), AnyError> {
    let artifact = if revision == Revision::State { STATE_ARTIFACT } else { RELAY_ARTIFACT };
    let deployer = Deployer::new(rpc, ANVIL_KEYS[0])?;
    let job_manager = deployer.job_manager(revision, DEV_OPERATOR).await?;
    let arguments = (job_manager, signer, 0_u64, first).abi_encode_params();
    let consumer = deployer.deploy_artifact(artifact, arguments).await?;
    Ok((builder.relay_to(RealChain::new(rpc, ANVIL_KEYS[1], job_manager)), job_manager, consumer))
}
