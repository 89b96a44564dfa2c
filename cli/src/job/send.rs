//! `ivm job submit` and `ivm job send`.

use std::path::{Path, PathBuf};

use clap::Args;
use infinityvm_sdk::{
    Client, Error, ErrorKind, JobHandle, OffchainJobRequest, Outcome, RelayStrategy, Result, Severity, SignedJob,
    Until,
    chain::ChainNonces,
    client::ClientBuilder,
    nonce::{Given, UnixMillis},
};

use super::{
    build::BuildArgs,
    follow::follow,
    result::{ResultOptions, page_of, value_of},
};
use crate::{
    chain,
    cli::Globals,
    connect,
    exit::{closing, interrupted},
    input,
    input::Source,
    keys::KeyOptions,
    output::Output,
    text::{self, refused},
};

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("source").args(["file", "consumer"]).required(true))]
pub struct SubmitArgs {
    /// The built job's file, or - for standard input; without it the job is built from the options
    #[arg(value_name = "FILE", conflicts_with_all = ["consumer", "program", "max_cycles", "onchain_input", "offchain_input", "state", "state_root", "relay", "nonce"])]
    file: Option<Source>,

    #[command(flatten)]
    job: BuildArgs,

    #[command(flatten)]
    keys: KeyOptions,

    /// Write the signed job to this file before it is sent. Else it is written only if the outcome is unknown
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,

    #[command(flatten)]
    send: SendOptions,
}

#[derive(Args, Debug)]
pub struct SendArgs {
    /// The signed job's file, or - for standard input
    #[arg(value_name = "FILE")]
    file: Source,

    #[command(flatten)]
    send: SendOptions,
}

#[derive(Args, Debug)]
pub struct SendOptions {
    /// Wait for the verified result: until executed, relayed, or finalized:CONFIRMATIONS
    #[arg(long, value_name = "STAGE", value_parser = text::value::<Until>)]
    wait: Option<Until>,

    /// Look first whether the job will land, and send nothing if it will not. Needs the chain
    #[arg(long)]
    preflight: bool,

    #[command(flatten)]
    result: ResultOptions,
}

impl SubmitArgs {
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        self.send.check(globals).await?;
        let job: OffchainJobRequest = match &self.file {
            Some(file) => file.json("a job that `ivm job build` has written")?,
            None => self.job.job(globals.revision)?,
        };
        let builder = self.send.builder(globals).await?.signer(self.keys.signer(output)?);
        let client = with_nonces(builder, &job, globals).await?.connect().await?;
        let signed = client.sign(job).await?;
        if let Some(path) = &self.save {
            save(&signed, path)?;
        }
        let file = self.save.as_deref();
        self.send.send(&client, signed, file, globals, output).await
    }
}

impl SendArgs {
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        self.send.check(globals).await?;
        let job: SignedJob = self.file.json("a signed job")?;
        let revision = connect::revision(globals, &job)?;
        let client = self.send.builder(globals).await?.revision(revision).connect().await?;
        let file = match &self.file {
            Source::File(path) => Some(path.as_path()),
            Source::Stdin => None,
        };
        self.send.send(&client, job, file, globals, output).await
    }
}

impl SendOptions {
    /// Refuses what cannot work before anything is read or sent.
    pub async fn check(&self, globals: &Globals) -> Result<()> {
        match self.wait {
            Some(until) => {
                self.result.check()?;
                connect::require_operator(globals, until).await
            }
            None if self.result.are_given() => Err(refused("--decode and --proof need a result")
                .with_hint("add --wait executed, or --wait relayed; or use `ivm job wait` afterwards")),
            None => Ok(()),
        }
    }

    /// The client of a command that sends.
    pub async fn builder(&self, globals: &Globals) -> Result<ClientBuilder> {
        let builder = connect::builder(globals).await?;
        if !self.preflight {
            return Ok(builder);
        }
        chain::required(globals).await?;
        Ok(builder.require_preflight(Severity::Error))
    }

    /// Sends a signed job, waits if that was asked for, and says what came of it.
    pub async fn send(
        &self,
        client: &Client,
        job: SignedJob,
        file: Option<&Path>,
        globals: &Globals,
        output: &Output,
    ) -> Result<()> {
        self.finish(client.submit_signed(job.clone()), client, &job, file, globals, output).await
    }

    /// Has a job sent, waits if that was asked for, and says what came of it. Whatever ends that, also Ctrl-C, the
    /// signed job is in a file if it may run.
    pub async fn finish(
        &self,
        sent: impl IntoFuture<Output = Result<JobHandle>>,
        client: &Client,
        job: &SignedJob,
        file: Option<&Path>,
        globals: &Globals,
        output: &Output,
    ) -> Result<()> {
        let answered = async { self.answer(sent.await?, globals, output).await };
        let sending = async {
            let done = tokio::select! {
                // It hears before anything is sent.
                biased;
                () = interrupted() => Err(Error::new(ErrorKind::Closed, "interrupted")
                    .with_outcome(Outcome::Unknown)
                    .with_retryable(true)
                    .with_job(job.id())),
                done = answered => done,
            };
            done.map_err(|error| with_file(error, job, file))
        };
        closing(client, sending).await
    }

    async fn answer(&self, handle: JobHandle, globals: &Globals, output: &Output) -> Result<()> {
        let Some(until) = self.wait else {
            let (job, stage) = (handle.signed_job(), Some(handle.stage()));
            output.answer(&value_of(job, stage), page_of(job, stage));
            return Ok(());
        };
        let verified = follow(&handle, until, globals, output).await?;
        self.result.tell(&verified, Some(handle.stage()), output)
    }
}

/// Where the nonce comes from, if the job has none.
async fn with_nonces(builder: ClientBuilder, job: &OffchainJobRequest, globals: &Globals) -> Result<ClientBuilder> {
    match (job.nonce(), job.relay_strategy()) {
        (Some(_), _) => Ok(builder.nonces(Given)),
        (None, RelayStrategy::Ordered) => match chain::of(globals).await? {
            Some(chain) => Ok(builder.nonces(ChainNonces::new(chain))),
            None => {
                Err(Error::new(ErrorKind::InvalidConfig, "an ordered job needs its nonce, as a gap stalls its lane")
                    .with_hint("give --nonce, or --rpc-url and --job-manager to read it from the chain"))
            }
        },
        (None, _) => Ok(builder.nonces(UnixMillis::new())),
    }
}

/// Writes a signed job where it will be found.
pub fn save(job: &SignedJob, path: &Path) -> Result<()> {
    let text = serde_json::to_string(job)
        .map_err(|error| refused("the signed job cannot be written as JSON").with_source(error))?;
    input::write(path, &(text + "\n"))
}

/// An error after which the same bytes are to be sent again says where they are.
fn with_file(error: Error, job: &SignedJob, file: Option<&Path>) -> Error {
    let verb = match error.outcome() {
        _ if error.kind() == ErrorKind::DeadlineExceeded => "wait",
        Outcome::Unknown => "send",
        // What came after it was sent has failed, or the job itself: the file is what goes on with it.
        Outcome::Accepted => "wait",
        _ => return error,
    };
    let path = match file {
        Some(path) => path.to_owned(),
        None => {
            let path = PathBuf::from(format!("{}.job.json", job.id()));
            if let Err(failed) = save(job, &path) {
                return error
                    .with_hint(format!("the signed job could not be kept ({failed}); look at the job's record"));
            }
            path
        }
    };
    let kept = format!("the signed job is in {0}; go on with `ivm job {verb} {0}`", path.display());
    let hint = match (error.outcome(), error.hint()) {
        (Outcome::Accepted, Some(hint)) => format!("{hint}; {kept}"),
        _ => kept,
    };
    error.with_hint(hint)
}
