//! `ivm outbox`: how a service's outbox stands, and what a person does about it.

mod act;
mod look;
mod store;

use clap::Subcommand;
use infinityvm_sdk::Result;

use crate::{cli::Globals, output::Output};

#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    /// Print how every lane stands; the service may run meanwhile
    Status(look::StatusArgs),
    /// Print jobs that are under way, or those of some tickets; the service may run meanwhile
    List(look::ListArgs),
    /// Go on with a held job as it is. No service may have the job's lane meanwhile, as for everything below
    Retry(act::TicketArgs),
    /// Put another job in the place of a held one that failed, under its nonce (Relay revision)
    Replace(act::ReplaceArgs),
    /// Put a held job under the lane's next nonce
    Renumber(act::TicketArgs),
    /// Give a held or queued job up
    Abandon(act::AbandonArgs),
    /// Have a lane give out no further nonces
    Pause(act::LaneArgs),
    /// Go on with a lane that was halted
    Resume(act::LaneArgs),
}

impl OutboxCommand {
    pub fn only_reads(&self) -> bool {
        matches!(self, Self::Status(_) | Self::List(_))
    }

    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        match self {
            Self::Status(args) => args.run(output).await,
            Self::List(args) => args.run(output).await,
            Self::Retry(args) => args.retry(globals, output).await,
            Self::Replace(args) => args.run(globals, output).await,
            Self::Renumber(args) => args.renumber(globals, output).await,
            Self::Abandon(args) => args.run(globals, output).await,
            Self::Pause(args) => args.pause(globals, output).await,
            Self::Resume(args) => args.resume(globals, output).await,
        }
    }
}
