//! Starts the node, says where it is, and runs until it is told to end.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use clap::Args;
use infinityvm_sdk::{
    LocalSigner, Result, Revision,
    chain::{Chain, RpcReader},
    devnode::{DEV_OPERATOR_KEY, DevNode, RealChain},
    primitives::{Address, hex},
};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    GRPC_PORT,
    anvil::Anvil,
    chain::{Contracts, DEPLOYER, RELAYER, SIGNER},
    control::{self, Control},
    example::{Example, REVISION},
    fault::FaultCommand,
    program::{How, ProgramArg},
    state::{Session, StateFile, StateLock},
};
use crate::{
    chain,
    cli::Globals,
    input, keys,
    output::{Output, Page},
    text::{self, refused},
};

/// How a node is started. Its revision is --revision, relay unless set.
#[derive(Args, Clone, Debug)]
pub struct StartArgs {
    /// Where both front ends listen; 0.0.0.0 for all of the machine's addresses
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    host: IpAddr,

    /// The gRPC server's port; 0 is any free one
    #[arg(long, value_name = "PORT", default_value_t = GRPC_PORT)]
    grpc_port: u16,

    /// The REST gateway's port
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    rest_port: u16,

    /// Start anvil, deploy a JobManager and two consumers there, and relay to it
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "anvil", group = "chain")]
    anvil: Option<PathBuf>,

    /// The port of anvil's RPC
    #[arg(long, value_name = "PORT", default_value_t = 8545, requires = "anvil")]
    anvil_port: u16,

    /// An argument for anvil; may come more than once
    #[arg(long = "anvil-arg", value_name = "ARG", allow_hyphen_values = true, requires = "anvil")]
    anvil_args: Vec<String>,

    /// Relay to the chain behind this RPC, to the contract that --job-manager names
    #[arg(long, value_name = "URL", group = "chain")]
    relay_to: Option<String>,

    /// The file with the key of the account that relays there; the key of anvil's second account unless set
    #[arg(long, value_name = "PATH", requires = "relay_to")]
    relayer_key_file: Option<PathBuf>,

    /// The file with the key that signs results; a key that everybody knows unless set
    #[arg(long, value_name = "PATH")]
    operator_key_file: Option<PathBuf>,

    /// Who may sign jobs of the example consumers; anvil's third account unless set
    #[arg(long, value_name = "ADDRESS", value_parser = text::address)]
    signer: Option<Address>,

    /// A program: [ID=]COMMAND, where the command is asked for an id that is not given; [ID=]FILE of an ELF, which
    /// ivm-sp1 on the path runs; or [ID=]example:NAME
    #[arg(long = "program", value_name = "[ID=]COMMAND", value_parser = ProgramArg::parse)]
    programs: Vec<ProgramArg>,

    /// Commands read the onchain input and write the output, instead of speaking the protocol
    #[arg(long)]
    raw: bool,

    /// How long a command may take for a job
    #[arg(long, value_name = "TIME", value_parser = text::duration)]
    program_timeout: Option<Duration>,

    /// Keep the state in this file: load it if it is there, and write it at the end
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,

    /// A fault from the start, in the words of `ivm devnode fault`; may come more than once
    #[arg(long = "fault", value_name = "WORDS", value_parser = FaultCommand::parse)]
    faults: Vec<FaultCommand>,

    /// The socket for `ivm devnode fault`
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl StartArgs {
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        // Before anything is started, so that no signal is lost that comes meanwhile.
        let signals = |kind| signal(kind).map_err(|error| refused("signals cannot be heard").with_source(error));
        let (mut interrupt, mut terminate) = (signals(SignalKind::interrupt())?, signals(SignalKind::terminate())?);
        let (session, mut anvil, page) = self.start(globals).await?;
        let session = Arc::new(session);
        let grpc_port = session.node.grpc_address().port();
        let socket = self.socket.clone().unwrap_or_else(|| control::default_socket(grpc_port));
        let control = Control::listen(socket.clone(), &session).await?;
        let Said { value, page } = page.with("control socket", "socket", socket.display().to_string());
        output.answer(&value, page);
        let ended = async {
            match &mut anvil {
                Some(anvil) => anvil.ended().await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
            error = ended => Err(error),
        };
        drop(control);
        session.save()?;
        if let Some(anvil) = anvil {
            anvil.end().await;
        }
        ended
    }

    async fn start(&self, globals: &Globals) -> Result<(Session, Option<Anvil>, Said)> {
        let revision = globals.revision.unwrap_or(REVISION);
        if let Some(file) = &self.state {
            input::check_writable(file)?;
        }
        let lock = self.state.as_deref().map(StateLock::take).transpose()?;
        let operator_key = self.operator_key_file.as_deref().map_or(Ok(DEV_OPERATOR_KEY), key_of)?;
        let operator = address_of(operator_key)?;
        let signer = self.signer.map_or_else(|| address_of(SIGNER), Ok)?;
        let saved = self.state.as_deref().map(StateFile::read).transpose()?.flatten();
        let mut said = Said::default();
        let mut builder = DevNode::builder(revision)
            .grpc_address((self.host, self.grpc_port))
            .rest_address((self.host, self.rest_port))
            .operator_key(operator_key);
        let (mut anvil, mut contracts) = (None, None);
        if let Some(program) = &self.anvil {
            // Where it keeps its chain.
            let chain = self.state.as_deref().map(|state| input::beside(state, ".anvil"));
            let known = saved.as_ref().and_then(|saved| saved.contracts);
            if let (Some(_), Some(missing)) = (known, chain.as_ref().filter(|path| !path.exists())) {
                return Err(refused(format!("the state's chain is missing: {}", missing.display()))
                    .with_hint("anvil writes that file when the node ends; remove the state file to begin anew"));
            }
            let started = Anvil::start(program, self.anvil_port, chain.as_deref(), &self.anvil_args).await?;
            let there = match known {
                Some(known) => known,
                None => Contracts::deploy(&started.url, revision, operator, signer).await?,
            };
            builder = there.relay(builder, &started.url);
            said = said.with("chain's RPC", "rpc", started.url.clone());
            (anvil, contracts) = (Some(started), Some(there));
        } else if let Some(rpc) = &self.relay_to {
            let job_manager = globals.job_manager.ok_or_else(|| {
                refused("--relay-to needs the JobManager").with_hint("name the contract with --job-manager")
            })?;
            let key = self.relayer_key_file.as_deref().map_or(Ok(RELAYER), key_of)?;
            names(rpc, job_manager, operator).await?;
            builder = builder.relay_to(RealChain::new(rpc, key, job_manager));
            said = said.with("JobManager", "job_manager", job_manager.to_string());
        } else {
            builder = Contracts::simulate(builder, signer);
        }
        let loaded = saved.is_some();
        if let Some(saved) = saved {
            builder = builder.load(saved.node);
        }
        let node = builder.start().await?;
        let shown = match (&contracts, &self.relay_to) {
            (None, None) => Some(Contracts::simulated(node.chain().job_manager())),
            (contracts, _) => *contracts,
        };
        said = said.node(&node, revision, shown, signer, self.signer.is_none(), anvil.is_some());
        said = self.register(&node, revision, said).await?;
        let real_chain = contracts.is_some() || self.relay_to.is_some();
        let session =
            Session { node, file: self.state.clone(), _lock: lock, contracts, saving: Mutex::default(), real_chain };
        for fault in &self.faults {
            session.apply(fault)?;
        }
        if let Some(file) = &self.state {
            said = said.with(
                if loaded { "state, loaded from" } else { "state, kept in" },
                "state",
                file.display().to_string(),
            );
        }
        Ok((session, anvil, said))
    }

    /// The examples, and then what was named.
    async fn register(&self, node: &DevNode, revision: Revision, mut said: Said) -> Result<Said> {
        let mut programs = serde_json::Map::new();
        let examples =
            Example::ALL.map(|example| ProgramArg { id: None, what: super::program::Runs::Example(example) });
        let how = How { revision, raw: self.raw, time_limit: self.program_timeout };
        for program in examples.iter().chain(&self.programs) {
            let (id, name) = program.register(node, how).await?;
            said.page = said.page.row("program", format_args!("{id}  {name}"));
            if let Some(other) = programs.insert(id.to_string(), name.clone().into()) {
                let what = format!("two programs have the id {id}: {} and {name}", other.as_str().unwrap_or_default());
                return Err(refused(what).with_hint("give one of them another id: --program ID=COMMAND"));
            }
        }
        said.value["programs"] = programs.into();
        Ok(said)
    }
}

/// What the node says of itself once it listens: for scripts and for people.
#[derive(Default)]
struct Said {
    value: Value,
    page: Page,
}

impl Said {
    fn with(mut self, label: &'static str, key: &str, text: String) -> Self {
        self.page = self.page.row(label, &text);
        self.value[key] = text.into();
        self
    }

    fn node(
        mut self,
        node: &DevNode,
        revision: Revision,
        contracts: Option<Contracts>,
        signer: Address,
        ours: bool,
        anvil: bool,
    ) -> Self {
        self = self
            .with("revision", "revision", revision.to_string())
            .with("gRPC", "grpc", node.grpc_url())
            .with("REST", "rest", node.rest_url())
            .with("operator", "operator", node.operator().to_string());
        if let Some(Contracts { job_manager, square_root, sum }) = contracts {
            self = self
                .with("JobManager", "job_manager", job_manager.to_string())
                .with("square root consumer", "square_root_consumer", square_root.to_string())
                .with("sum consumer (stateful)", "sum_consumer", sum.to_string())
                .with("their signer", "signer", signer.to_string());
        }
        let mut keys = serde_json::Map::new();
        let all = [
            ("signer", SIGNER, ours && contracts.is_some()),
            ("deployer", DEPLOYER, anvil),
            ("relayer", RELAYER, anvil),
        ];
        for (name, key, _) in all.into_iter().filter(|(_, _, shown)| *shown) {
            let text = hex::encode_prefixed(key);
            self.page = self.page.row("key", format_args!("{text}  {name}; everybody knows it"));
            keys.insert(name.to_owned(), text.into());
        }
        self.value["keys"] = keys.into();
        self
    }
}

fn address_of(key: [u8; 32]) -> Result<Address> {
    LocalSigner::from_bytes(key).map(|signer| signer.address())
}

fn key_of(path: &Path) -> Result<[u8; 32]> {
    keys::from_file(path).map(|key| *key)
}

/// Refuses a chain whose JobManager would take no result of this operator's.
async fn names(rpc: &str, job_manager: Address, operator: Address) -> Result<()> {
    let named = chain::first_contact(None, async {
        Chain::over_any([RpcReader::builder(rpc).connect().await?], job_manager)?.operator().await
    });
    let named = named.await?;
    if named == operator {
        return Ok(());
    }
    Err(refused(format!("the JobManager {job_manager} names the operator {named}, and this node signs as {operator}"))
        .with_hint("give the key of that operator with --operator-key-file, or name another JobManager"))
}
