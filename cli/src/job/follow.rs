//! `ivm job wait` and `ivm job events`, and the wait of every command that sends.

use std::time::{Duration, Instant};

use clap::Args;
use infinityvm_sdk::{
    Client, Error, ErrorKind, HealPolicy, JobEvent, JobHandle, Outcome, Result, SignedJob, Until, Verified,
};
use serde_json::json;

use super::result::{ResultOptions, value_of};
use crate::{
    cli::Globals,
    connect,
    exit::{closing, interrupted, read_within},
    input::Source,
    output::Output,
    text::{self, refused},
};

/// How long a job is waited for unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Args, Debug)]
pub struct WaitArgs {
    /// The signed job's file, or - for standard input
    #[arg(value_name = "FILE")]
    file: Source,

    /// How far: executed, relayed, or finalized:CONFIRMATIONS
    #[arg(long, value_name = "STAGE", default_value = "executed", value_parser = text::value::<Until>)]
    until: Until,

    /// Do not send the job again if the node has lost it
    #[arg(long)]
    no_heal: bool,

    #[command(flatten)]
    result: ResultOptions,
}

#[derive(Args, Debug)]
pub struct EventsArgs {
    /// The signed job's file, or - for standard input
    #[arg(value_name = "FILE")]
    file: Source,

    /// How far: executed, relayed, or finalized:CONFIRMATIONS
    #[arg(long, value_name = "STAGE", default_value = "relayed", value_parser = text::value::<Until>)]
    until: Until,

    /// Do not send the job again if the node has lost it
    #[arg(long)]
    no_heal: bool,
}

impl WaitArgs {
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        self.result.check()?;
        let (client, handle) = resumed(globals, &self.file, self.until, self.no_heal).await?;
        let waiting = async {
            let verified = follow(&handle, self.until, globals, output).await?;
            self.result.tell(&verified, Some(handle.stage()), output)
        };
        closing(&client, unless_interrupted(&handle, waiting)).await
    }
}

impl EventsArgs {
    /// One line for each event, as it comes.
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        let (client, handle) = resumed(globals, &self.file, self.until, self.no_heal).await?;
        closing(&client, unless_interrupted(&handle, self.tell(&handle, globals, output))).await
    }

    async fn tell(&self, handle: &JobHandle, globals: &Globals, output: &Output) -> Result<()> {
        let (begun, mut events) = (Instant::now(), handle.events_until(self.until).timeout(patience(globals)));
        while let Some(event) = events.next().await {
            let event = event?;
            let mut value = value_of(handle.signed_job(), event.stage());
            value["event"] = json!(name(&event));
            if let Some(result) = event.result() {
                value["result"] = json!({ "output": result.output(), "finality": result.finality() });
            }
            let place = event.result().and_then(Verified::finality);
            let place = place.map(|place| format!(" in block {}", place.block_number)).unwrap_or_default();
            output.answer(&value, format_args!("{:>8.3} s  {}{place}", begun.elapsed().as_secs_f64(), name(&event)));
            if output.is_unread() {
                break;
            }
        }
        Ok(())
    }
}

/// A job that was sent before, at a node that answers.
async fn resumed(globals: &Globals, file: &Source, until: Until, no_heal: bool) -> Result<(Client, JobHandle)> {
    let job: SignedJob = file.json("a signed job")?;
    connect::require_operator(globals, until).await?;
    let mut builder = connect::builder(globals).await?.revision(connect::revision(globals, &job)?);
    if no_heal {
        builder = builder.healing(HealPolicy::off());
    }
    // A wait is patient with a node that is away; one that was never reached is told of at once.
    let (client, record) = read_within(globals.timeout, async {
        let client = builder.connect().await?;
        let record = client.get_result(job.id()).await;
        match record {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            record => Ok((client, record)),
        }
    })
    .await?;
    match record {
        Err(error) if error.kind() == ErrorKind::NotFound && no_heal => {
            Err(error.with_hint("the node does not have the job: send it with `ivm job send`"))
        }
        _ => client.resume(job).map(|handle| (client, handle)),
    }
}

/// Waits for a job until the process is told to end. The job goes on, and so may the wait.
async fn unless_interrupted(handle: &JobHandle, waiting: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::select! {
        biased;
        () = interrupted() => Err(Error::new(ErrorKind::Closed, "interrupted")
            .with_outcome(Outcome::Accepted)
            .with_retryable(true)
            .with_job(handle.id())
            .with_hint("wait again with the same file: the job goes on")),
        done = waiting => done,
    }
}

/// Waits for a job's verified result, and tells a person how far it is.
pub async fn follow(handle: &JobHandle, until: Until, globals: &Globals, output: &Output) -> Result<Verified> {
    let progress = output.progress(format!("waiting until it is {until}"));
    let (mut last, mut events) = (None, handle.events_until(until).timeout(patience(globals)));
    while let Some(event) = events.next().await {
        let event = event?;
        progress.step(name(&event));
        last = event.result().cloned().or(last);
    }
    last.ok_or_else(|| refused("the job has come to no result").with_job(handle.id()))
}

fn patience(globals: &Globals) -> Duration {
    globals.timeout.unwrap_or(PATIENCE)
}

fn name(event: &JobEvent) -> &'static str {
    match event {
        JobEvent::Accepted => "accepted",
        JobEvent::SentAgain => "sent again",
        JobEvent::Executed(_) => "executed",
        JobEvent::Relayed(_) => "relayed",
        JobEvent::Finalized(_) => "finalized",
        _ => "moved on",
    }
}
