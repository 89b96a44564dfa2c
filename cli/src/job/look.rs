//! `ivm job get`, `preflight` and `diagnose`: what node and chain say of a job.

use std::path::Path;

use clap::Args;
use infinityvm_sdk::{JobId, Result, SignedJob, job::echo_difference};
use serde_json::json;

use crate::{
    chain,
    cli::Globals,
    connect,
    exit::{Exit, closing},
    input::Source,
    output::{Output, Page},
    text::refused,
};

#[derive(Args, Debug)]
pub struct GetArgs {
    /// The job's id, the signed job's file, or - for a signed job on standard input
    #[arg(value_name = "ID|FILE")]
    job: String,
}

#[derive(Args, Debug)]
pub struct FileArgs {
    /// The signed job's file, or - for standard input
    #[arg(value_name = "FILE")]
    file: Source,
}

impl GetArgs {
    /// The node's record of a job: its claims, none of them verified.
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        let (id, job) = match self.job.parse::<JobId>() {
            Ok(id) => (id, None),
            // The file of a job that was kept is named by its id.
            Err(_) if self.job.starts_with("0x") && !Path::new(&self.job).exists() => {
                return Err(refused(format!("{:?} is no job id", self.job)).with_hint("an id is 0x and 64 hex digits"));
            }
            Err(_) => {
                let job: SignedJob = Source::from(self.job.as_str()).json("a signed job")?;
                (job.id(), Some(job))
            }
        };
        let mut builder = connect::builder(globals).await?;
        if let Some(job) = &job {
            builder = builder.revision(connect::revision(globals, job)?);
        }
        let record = builder.connect().await?.get_result(id).await?;
        let difference = job.as_ref().and_then(|job| echo_difference(job, &record));
        let same =
            job.as_ref().map(|_| difference.map_or("yes".to_owned(), |field| format!("no, it differs in {field}")));
        let page = Page::default()
            .row("job", record.id())
            .row("status", record.status())
            .row("nonce", record.nonce())
            .row("consumer", record.consumer())
            .row("program", record.program_id())
            .row("max cycles", record.max_cycles())
            .row("has a result", if record.has_result() { "yes, not verified" } else { "no" })
            .maybe("relayed in", record.relay_tx_hash())
            .maybe("is this job", same);
        let matches = job.as_ref().map(|_| difference.is_none());
        let value = json!({ "record": record, "matches": matches, "difference": difference });
        output.answer(&value, page);
        Ok(())
    }
}

impl FileArgs {
    /// Whether the job will land. Fails if it will not.
    pub async fn preflight(self, globals: &Globals, output: &Output) -> Result<Exit> {
        let job: SignedJob = self.file.json("a signed job")?;
        chain::required(globals).await?;
        let builder = connect::builder(globals).await?.revision(connect::revision(globals, &job)?);
        let client = builder.connect().await?;
        let report = closing(&client, client.preflight(&job).into_future()).await?;
        output.advice(&report, &report);
        Ok(if report.will_land() { Exit::Done } else { Exit::Failed })
    }

    /// Why the job does not move.
    pub async fn diagnose(self, globals: &Globals, output: &Output) -> Result<()> {
        let job: SignedJob = self.file.json("a signed job")?;
        let builder = connect::builder(globals).await?.revision(connect::revision(globals, &job)?);
        let client = builder.connect().await?;
        let diagnosis = closing(&client, client.diagnose(&job).into_future()).await?;
        output.advice(&diagnosis, &diagnosis);
        Ok(())
    }
}
