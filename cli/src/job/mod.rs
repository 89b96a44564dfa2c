//! `ivm job`: a job from its inputs to its verified result.

mod build;
mod follow;
mod id;
mod look;
mod result;
mod send;
mod settle;
mod sign;

use clap::Subcommand;
use infinityvm_sdk::Result;

use crate::{cli::Globals, exit::Exit, output::Output};

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one value, made once")]
pub enum JobCommand {
    /// Build a job from its inputs, without a network, and print it or write it to a file
    Build(build::BuildCommand),
    /// Sign a built job, without a network: the signed job is a file that can be sent from anywhere
    Sign(sign::SignArgs),
    /// Send a signed job. Safe to repeat: the same bytes are sent
    Send(send::SendArgs),
    /// Build, sign and send a job
    Submit(send::SubmitArgs),
    /// Wait for the verified result of a job that was sent
    Wait(follow::WaitArgs),
    /// Print the node's record of a job, which is not verified
    Get(look::GetArgs),
    /// Print what happens to a job, one line for each event
    Events(follow::EventsArgs),
    /// Verify a proof, without a network if the operator is given
    Verify(settle::VerifyArgs),
    /// Find out whether a signed job will land; exit code 1 if it will not
    Preflight(look::FileArgs),
    /// Find out why a job does not move
    Diagnose(look::FileArgs),
    /// Post a verified result to the chain from an account of one's own
    Post(settle::PostArgs),
    /// Put another job in the place of one that failed (Relay revision)
    Replace(settle::ReplaceArgs),
    /// Print the id of a job: of a signed job's file, or of a nonce and a consumer
    Id(id::IdArgs),
}

impl JobCommand {
    pub fn only_reads(&self) -> bool {
        matches!(self, Self::Get(_) | Self::Verify(_) | Self::Preflight(_) | Self::Diagnose(_))
    }

    pub fn needs_no_network(&self) -> bool {
        matches!(self, Self::Build(_) | Self::Sign(_) | Self::Id(_))
    }

    pub async fn run(self, globals: &Globals, output: &Output) -> Result<Exit> {
        match self {
            Self::Build(args) => args.run(globals, output),
            Self::Sign(args) => args.run(globals, output).await,
            Self::Send(args) => args.run(globals, output).await,
            Self::Submit(args) => args.run(globals, output).await,
            Self::Wait(args) => args.run(globals, output).await,
            Self::Get(args) => args.run(globals, output).await,
            Self::Events(args) => args.run(globals, output).await,
            Self::Verify(args) => args.run(globals, output).await,
            Self::Preflight(args) => return args.preflight(globals, output).await,
            Self::Diagnose(args) => args.diagnose(globals, output).await,
            Self::Post(args) => args.run(globals, output).await,
            Self::Replace(args) => args.run(globals, output).await,
            Self::Id(args) => args.run(output),
        }
        .map(|()| Exit::Done)
    }
}
