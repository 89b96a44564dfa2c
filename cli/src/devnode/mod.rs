//! `ivm devnode`: the development node as a program, and what makes it go wrong while it runs.

mod anvil;
mod chain;
mod control;
pub mod example;
mod fault;
pub mod guard;
pub mod program;
mod start;
mod state;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use infinityvm_sdk::Result;

use self::{fault::FaultCommand, start::StartArgs};
use crate::{cli::Globals, output::Output};

/// The port of a node's gRPC server, unless told otherwise.
const GRPC_PORT: u16 = 50051;

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DevnodeArgs {
    #[command(subcommand)]
    command: Option<DevnodeCommand>,
    #[command(flatten)]
    start: StartArgs,
}

#[derive(Debug, Subcommand)]
enum DevnodeCommand {
    /// Make a running development node go wrong, or look at it
    Fault(FaultArgs),
}

#[derive(Args, Debug)]
struct FaultArgs {
    /// The node's control socket, if it is not that of a node with gRPC on port 50051
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    fault: FaultCommand,
}

impl DevnodeArgs {
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        match self.command {
            None => self.start.run(globals, output).await,
            Some(DevnodeCommand::Fault(FaultArgs { socket, fault })) => {
                let socket = socket.unwrap_or_else(|| control::default_socket(GRPC_PORT));
                let said = control::tell(&socket, &fault).await?;
                output.answer(&said, fault::text(&said));
                Ok(())
            }
        }
    }
}
