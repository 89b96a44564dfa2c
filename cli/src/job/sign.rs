//! `ivm job sign`.

use std::path::PathBuf;

use clap::Args;
use infinityvm_sdk::{
    Error, ErrorKind, OffchainJobRequest, RelayStrategy, Result, Revision,
    nonce::{Lane, NonceManager, UnixMillis},
};

use super::result::page_of;
use crate::{cli::Globals, input::Source, keys::KeyOptions, output::Output, text::refused};

#[derive(Args, Debug)]
pub struct SignArgs {
    /// The built job's file, or - for standard input
    #[arg(value_name = "FILE")]
    file: Source,

    /// The nonce to sign under. Left out, it is the job's own, or else for an unordered job the time in milliseconds
    #[arg(long, value_name = "NUMBER")]
    nonce: Option<u64>,

    #[command(flatten)]
    keys: KeyOptions,

    /// Write the signed job to this file, and not to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl SignArgs {
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        let job: OffchainJobRequest = self.file.json("a job that `ivm job build` has written")?;
        let revision = revision_of(globals, &job)?;
        let nonce = nonce_of(&job, self.nonce).await?;
        if nonce == u64::MAX {
            return Err(refused("the nonce is the largest there is: the contract's next nonce would overflow")
                .with_hint("give a smaller --nonce, or none: the consumer could never be used again"));
        }
        // Before the key is asked for.
        let prepared = job.prepare(revision, nonce)?;
        let signed = prepared.sign(&self.keys.signer(output)?).await?;
        output.file(&signed, self.out.as_deref(), page_of(&signed, None).row("signed by", signed.recover()?))
    }
}

/// The revision that is signed for. It is never guessed, as the two sign different bytes.
fn revision_of(globals: &Globals, job: &OffchainJobRequest) -> Result<Revision> {
    globals.revision.ok_or_else(|| {
        let hint = if job.state().is_some() {
            "the job has a state, so give --revision state"
        } else {
            "give --revision relay for the released nodes, or --revision state; `ivm node info` asks a node"
        };
        Error::new(ErrorKind::InvalidConfig, "the protocol revision that is to be signed for is not known")
            .with_hint(hint)
    })
}

/// The nonce that was given, the job's own, or the time.
async fn nonce_of(job: &OffchainJobRequest, given: Option<u64>) -> Result<u64> {
    if let Some(nonce) = given.or(job.nonce()) {
        return Ok(nonce);
    }
    if job.relay_strategy() == RelayStrategy::Ordered {
        return Err(Error::new(ErrorKind::Nonce, "an ordered job needs its nonce, as a gap stalls its lane for ever")
            .with_hint("give --nonce with the number that `ivm nonce` prints, or the one after your last job"));
    }
    let lease = NonceManager::new(UnixMillis::new()).lease(job.consumer(), Lane::Unordered).await?;
    let nonce = lease.nonce();
    lease.commit();
    Ok(nonce)
}
