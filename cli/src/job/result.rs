//! What is told of a job and of its verified result, and what can be done with that.

use std::path::PathBuf;

use alloy_dyn_abi::DynSolType;
use clap::Args;
use infinityvm_sdk::{Outcome, Result, SignedJob, Stage, Verified};
use serde_json::{Value, json};

use crate::{
    abi, input,
    output::{Output, Page},
    text::refused,
};

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "The result")]
pub struct ResultOptions {
    /// The Solidity type of the output, such as uint256 or "(uint256,string)"
    #[arg(long, value_name = "TYPE", value_parser = abi::kind)]
    decode: Option<DynSolType>,

    /// Write the proof to this file: the signed job, the result and the operator's signature
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
}

impl ResultOptions {
    /// Whether a result is asked for.
    pub fn are_given(&self) -> bool {
        self.decode.is_some() || self.proof.is_some()
    }

    /// Refuses a proof's file that could not be written, before anything is sent.
    pub fn check(&self) -> Result<()> {
        self.proof.as_ref().map_or(Ok(()), |path| input::check_writable(path))
    }

    /// Prints a verified result, and writes its proof where that was asked for. What fails here comes after the job.
    pub fn tell(&self, verified: &Verified, stage: Option<Stage>, output: &Output) -> Result<()> {
        self.try_tell(verified, stage, output)
            .map_err(|error| error.with_outcome(Outcome::Accepted).with_job(verified.job().id()))
    }

    fn try_tell(&self, verified: &Verified, stage: Option<Stage>, output: &Output) -> Result<()> {
        if let Some(path) = &self.proof {
            let text = serde_json::to_string(verified)
                .map_err(|error| refused("the proof cannot be written as JSON").with_source(error))?;
            input::write(path, &(text + "\n"))?;
        }
        let decoded = self.decode.as_ref().map(|kind| abi::decode(kind, verified)).transpose()?;
        let place = verified.finality();
        let page = page_of(verified.job(), stage)
            .row("operator", verified.operator())
            .maybe("block", place.map(|place| place.block_number))
            .maybe("transaction", place.map(|place| place.tx_hash))
            .row("output", verified.output())
            .maybe("decoded", decoded.as_ref().map(abi::line))
            .maybe("proof", self.proof.as_ref().map(|path| path.display()));
        let mut value = value_of(verified.job(), stage);
        value["result"] = json!({
            "output": verified.output(),
            "decoded": decoded,
            "operator": verified.operator(),
            "blob_hashes": verified.blob_hashes(),
            "finality": place,
            // A path that is no text is shown as far as it is.
            "proof_file": self.proof.as_ref().map(|path| path.display().to_string()),
        });
        output.answer(&value, page);
        Ok(())
    }
}

/// What a person wants to know of a job.
pub fn page_of(job: &SignedJob, stage: Option<Stage>) -> Page {
    Page::default().row("job", job.id()).row("nonce", job.nonce()).row("consumer", job.consumer()).maybe("stage", stage)
}

/// The same for a program.
pub fn value_of(job: &SignedJob, stage: Option<Stage>) -> Value {
    json!({
        "id": job.id(),
        "nonce": job.nonce(),
        "consumer": job.consumer(),
        "revision": job.revision(),
        "stage": stage,
        "result": null,
    })
}
