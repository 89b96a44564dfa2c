//! The structure of the arguments.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use infinityvm_sdk::{Result, Revision, primitives::Address};

#[cfg(unix)]
use crate::{devnode::DevnodeArgs, ffi::FfiCommand};
use crate::{
    exit::{self, Exit},
    job::JobCommand,
    node::NodeCommand,
    nonce::NonceArgs,
    outbox::OutboxCommand,
    output::Output,
    program::ProgramCommands,
    shell::{self, CompletionsArgs},
    text,
};

const FOOTER: &str = "\
Options that every command takes:
  --json            one JSON document on standard output, errors as JSON on standard error
  --timeout TIME    how long to wait at most, such as 90s or 5m
  --node URL        the coprocessor node [IVM_NODE]; --rest if it is a REST gateway
  --rpc-url URL     the chain's RPC [ETH_RPC_URL]; --job-manager ADDRESS [IVM_JOB_MANAGER]

Exit codes: 0 done; 1 failed for good; 2 usage; 3 outcome unknown, send the same file again;
  4 deadline, the job goes on; 5 nothing was sent, safe to repeat";

/// Build, sign, send, watch and verify InfinityVM offchain jobs.
#[derive(Debug, Parser)]
#[command(
    name = "ivm",
    version,
    help_template = "{about}\n\nUsage: {usage}\n\nCommands:\n{subcommands}{after-help}\n",
    after_help = FOOTER,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build, sign, send, watch, verify, post and replace jobs
    #[command(subcommand)]
    Job(JobCommand),
    /// Upload programs to the node, and ask for them
    #[command(subcommand)]
    Program(ProgramCommands),
    /// Ask the node what it is
    #[command(subcommand)]
    Node(NodeCommand),
    /// Read the next nonce of a consumer from the chain
    Nonce(NonceArgs),
    /// See how a service's outbox stands, and act on its jobs and lanes
    #[command(subcommand)]
    Outbox(OutboxCommand),
    /// Run a development node, with a chain if you like, and make it go wrong
    #[cfg(unix)]
    Devnode(DevnodeArgs),
    /// Run programs for forge's tests
    #[cfg(unix)]
    #[command(subcommand)]
    Ffi(FfiCommand),
    /// Print what a shell needs to complete commands
    Completions(CompletionsArgs),
    /// Print the manual page
    Man,
}

/// What every command takes, before its name or after.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of every command")]
pub struct Globals {
    /// Print one JSON document on standard output, and errors as JSON on standard error
    #[arg(long, global = true)]
    pub json: bool,

    /// How long to wait at most, such as 500ms, 90s, 5m or 1h
    #[arg(long, global = true, value_name = "TIME", value_parser = text::duration)]
    pub timeout: Option<Duration>,

    /// The coprocessor node: http(s)://HOST[:PORT], by default http://127.0.0.1:50051
    #[arg(long, global = true, value_name = "URL", env = "IVM_NODE", hide_env_values = true)]
    pub node: Option<String>,

    /// The node's URL is that of a REST gateway, and not of gRPC
    #[arg(long, global = true)]
    pub rest: bool,

    /// A header for the node, such as "authorization: @token.txt"; may come more than once
    #[arg(long = "header", global = true, value_name = "NAME: VALUE")]
    pub headers: Vec<String>,

    /// The node's protocol revision, relay or state; a node is asked for it over gRPC
    #[arg(long, global = true, value_name = "NAME", env = "IVM_REVISION", value_parser = text::value::<Revision>)]
    pub revision: Option<Revision>,

    /// The operator whose results are believed, if it is not to be read from the chain
    #[arg(long, global = true, value_name = "ADDRESS", env = "IVM_OPERATOR", value_parser = text::address)]
    pub operator: Option<Address>,

    /// The chain's RPC, http(s):// or ws(s)://; several with commas between them
    #[arg(long, global = true, value_name = "URL", env = "ETH_RPC_URL", hide_env_values = true, value_delimiter = ',')]
    pub rpc_url: Vec<String>,

    /// A header for the chain's RPC, such as "authorization: @token.txt"; several with commas between them
    #[arg(
        long,
        global = true,
        value_name = "NAME: VALUE",
        env = "ETH_RPC_HEADERS",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub rpc_headers: Vec<String>,

    /// The JobManager contract on the chain
    #[arg(long, global = true, value_name = "ADDRESS", env = "IVM_JOB_MANAGER", value_parser = text::address)]
    pub job_manager: Option<Address>,

    /// Allow plain http to other hosts than this one
    #[arg(long, global = true)]
    pub allow_plaintext: bool,
}

impl Cli {
    /// Whether it changes something elsewhere, and is not undone by giving it again.
    pub fn leaves_traces(&self) -> bool {
        match &self.command {
            Command::Job(command) => !command.only_reads() && !command.needs_no_network(),
            Command::Program(_) | Command::Outbox(_) => !self.command.only_reads(),
            _ => false,
        }
    }

    pub async fn run(self, output: &Output) -> Result<Exit> {
        let Self { globals, command } = self;
        if command.only_reads() {
            return exit::read_within(globals.timeout, command.run(&globals, output)).await;
        }
        command.run(&globals, output).await
    }
}

impl Command {
    /// Whether it asks, and changes nothing.
    fn only_reads(&self) -> bool {
        match self {
            Self::Job(command) => command.only_reads(),
            Self::Program(command) => command.only_reads(),
            Self::Outbox(command) => command.only_reads(),
            Self::Node(_) | Self::Nonce(_) => true,
            _ => false,
        }
    }

    async fn run(self, globals: &Globals, output: &Output) -> Result<Exit> {
        match self {
            Self::Job(command) => return command.run(globals, output).await,
            Self::Program(command) => return command.run(globals, output).await,
            Self::Node(command) => command.run(globals, output).await,
            Self::Nonce(args) => args.run(globals, output).await,
            Self::Outbox(command) => command.run(globals, output).await,
            #[cfg(unix)]
            Self::Devnode(args) => args.run(globals, output).await,
            #[cfg(unix)]
            Self::Ffi(command) => command.run(globals).await,
            Self::Completions(args) => args.run(),
            Self::Man => shell::man(),
        }
        .map(|()| Exit::Done)
    }
}
