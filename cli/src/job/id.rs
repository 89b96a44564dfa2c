//! `ivm job id`.

use clap::Args;
use infinityvm_sdk::{JobId, Result, SignedJob, primitives::Address};
use serde_json::json;

use crate::{input::Source, output::Output, text};

#[derive(Args, Debug)]
pub struct IdArgs {
    /// A signed job's file, or - for standard input
    #[arg(value_name = "FILE", required_unless_present_all = ["consumer", "nonce"], conflicts_with_all = ["consumer", "nonce"])]
    file: Option<Source>,

    /// The app's contract
    #[arg(long, value_name = "ADDRESS", value_parser = text::address, requires = "nonce")]
    consumer: Option<Address>,

    /// The job's nonce
    #[arg(long, value_name = "NUMBER", requires = "consumer")]
    nonce: Option<u64>,
}

impl IdArgs {
    pub fn run(self, output: &Output) -> Result<()> {
        let (id, nonce, consumer) = match (&self.file, self.nonce, self.consumer) {
            (None, Some(nonce), Some(consumer)) => (JobId::derive(nonce, consumer), nonce, consumer),
            (file, ..) => {
                let job: SignedJob = file.as_ref().unwrap_or(&Source::Stdin).json("a signed job")?;
                (job.id(), job.nonce(), job.consumer())
            }
        };
        output.answer(&json!({ "id": id, "nonce": nonce, "consumer": consumer }), id);
        Ok(())
    }
}
