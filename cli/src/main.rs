//! `ivm`, the command line of InfinityVM: one command is one call of the library's public interface, its answer on
//! standard output, and its errors on standard error.

mod abi;
mod chain;
mod cli;
mod connect;
#[cfg(unix)]
mod devnode;
mod executor;
mod exit;
#[cfg(unix)]
mod ffi;
mod input;
mod job;
mod keys;
mod node;
mod nonce;
mod outbox;
mod output;
mod program;
mod shell;
mod text;
mod words;

use std::process::ExitCode;

use clap::Parser as _;
use infinityvm_sdk::Outcome;

use crate::{cli::Cli, output::Output};

fn main() -> ExitCode {
    #[cfg(unix)]
    if let Some(command) = devnode::guard::asked_for() {
        return runtime().map_or(ExitCode::FAILURE, |runtime| runtime.block_on(devnode::guard::run(command)));
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    let output = Output::new(cli.globals.json);
    let leaves_traces = cli.leaves_traces();
    let done = runtime().and_then(|runtime| runtime.block_on(cli.run(&output)));
    // What was done is done, though nobody is told.
    let done = done.and_then(|exit| match output.failure() {
        Some(error) if leaves_traces => Err(error
            .with_outcome(Outcome::Accepted)
            .with_hint("what was asked for is done, and only the answer is lost: `ivm job get` has the job's record")),
        Some(error) => Err(error.with_hint("write it where there is room; nothing else was done")),
        None => Ok(exit),
    });
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            output.error(&error);
            exit::code(&error).into()
        }
    }
}

/// Several threads, as the development node serves while a command waits.
fn runtime() -> infinityvm_sdk::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| text::refused("the runtime cannot be started").with_source(error))
}
