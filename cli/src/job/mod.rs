//! `ivm job`: a job from its inputs to its verified result.

mod build;
mod id;
mod sign;

use clap::Subcommand;
use infinityvm_sdk::Result;

use crate::{cli::Globals, output::Output};

#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// Build a job from its inputs, without a network, and print it or write it to a file
    Build(build::BuildCommand),
    /// Sign a built job, without a network: the signed job is a file that can be sent from anywhere
    Sign(sign::SignArgs),
    /// Print the id of a job: of a signed job's file, or of a nonce and a consumer
    Id(id::IdArgs),
}

impl JobCommand {
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        match self {
            Self::Build(args) => args.run(globals, output),
            Self::Sign(args) => args.run(globals, output).await,
            Self::Id(args) => args.run(output),
        }
    }
}
