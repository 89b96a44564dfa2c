//! `ivm job build`, and the options of every command that takes a job's inputs.

use std::path::PathBuf;

use clap::Args;
use infinityvm_sdk::{
    OffchainJobRequest, ProgramId, RelayStrategy, Result, Revision,
    primitives::{Address, B256},
};

use crate::{
    cli::Globals,
    input::{BytesArg, Source},
    output::{Output, Page},
    text::{self, refused},
};

#[derive(Args, Debug)]
#[command(mut_arg("consumer", |argument| argument.required(true)))]
pub struct BuildCommand {
    #[command(flatten)]
    job: BuildArgs,

    /// Write the job to this file, and not to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What a job consists of. BYTES are 0x and hex digits, abi:TYPE=VALUE, @FILE, or - for standard input.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "The job")]
pub struct BuildArgs {
    /// The app's contract, which receives the result
    #[arg(long, value_name = "ADDRESS", value_parser = text::address, requires_all = ["program", "max_cycles"])]
    consumer: Option<Address>,

    /// The id of the program to run
    #[arg(long, value_name = "ID", requires = "consumer", value_parser = text::value::<ProgramId>)]
    program: Option<ProgramId>,

    /// The most cycles the zkVM may take
    #[arg(long, value_name = "NUMBER", requires = "consumer", value_parser = clap::value_parser!(u64).range(1..))]
    max_cycles: Option<u64>,

    /// The input that is posted on chain, in clear: BYTES
    #[arg(long, value_name = "BYTES", value_parser = BytesArg::parse)]
    onchain_input: Option<BytesArg>,

    /// The input that is sent beside the job; its hash is signed: BYTES
    #[arg(long, value_name = "BYTES", value_parser = BytesArg::parse)]
    offchain_input: Option<BytesArg>,

    /// The state that a job of the State revision begins with: BYTES
    #[arg(long, value_name = "BYTES", value_parser = BytesArg::parse, conflicts_with_all = ["relay", "state_root"])]
    state: Option<BytesArg>,

    /// The root of the state that a stateful job of the Relay revision begins with
    #[arg(long, value_name = "HASH")]
    state_root: Option<B256>,

    /// How a node of the Relay revision relays: ordered or unordered
    #[arg(long, value_name = "STRATEGY", value_parser = text::value::<RelayStrategy>)]
    relay: Option<RelayStrategy>,

    /// The job's nonce, if it is not to be chosen when the job is signed
    #[arg(long, value_name = "NUMBER")]
    nonce: Option<u64>,
}

impl BuildArgs {
    pub fn job(&self, revision: Option<Revision>) -> Result<OffchainJobRequest> {
        let all = [&self.onchain_input, &self.offchain_input, &self.state];
        let from_stdin = all.iter().filter(|input| matches!(input, Some(BytesArg::From(Source::Stdin)))).count();
        if from_stdin > 1 {
            return Err(refused("two inputs are to come from standard input").with_hint("give one of them as @FILE"));
        }
        let read = |input: &Option<BytesArg>| input.as_ref().map(BytesArg::read).transpose();
        // What is missing is said by the library, with everything else.
        let (consumer, program) = (self.consumer.unwrap_or_default(), self.program.clone());
        let mut job = OffchainJobRequest::builder(consumer, program.unwrap_or_else(|| ProgramId::new(Vec::new())))
            .offchain_input(read(&self.offchain_input)?.unwrap_or_default());
        let onchain = read(&self.onchain_input)?.unwrap_or_default();
        job = match self.state_root {
            Some(root) => job.stateful_onchain_input(root, onchain),
            None => job.onchain_input(onchain),
        };
        if let Some(cycles) = self.max_cycles {
            job = job.max_cycles(cycles);
        }
        if let Some(state) = read(&self.state)? {
            job = job.state(state);
        }
        if let Some(strategy) = self.relay {
            job = job.relay(strategy);
        }
        if let Some(nonce) = self.nonce {
            job = job.nonce(nonce);
        }
        if let Some(revision) = revision {
            job = job.revision(revision);
        }
        job.build()
    }
}

impl BuildCommand {
    pub fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        let job = self.job.job(globals.revision)?;
        let page = Page::default()
            .row("consumer", job.consumer())
            .row("program", job.program_id())
            .row("max cycles", job.max_cycles())
            .row("onchain input", format!("{} bytes", job.onchain_input().len()))
            .row("offchain input", format!("{} bytes", job.offchain_input().len()))
            .maybe("nonce", job.nonce());
        output.file(&job, self.out.as_deref(), page)
    }
}
