//! `ivm node`.

use std::{
    error::{self, Error as _},
    fmt,
    time::Instant,
};

use clap::Subcommand;
use infinityvm_sdk::{Error, ErrorKind, JobId, Result};
use serde_json::json;

use crate::{
    cli::Globals,
    connect,
    output::{Output, Page},
};

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Print the node's protocol revision, how fast it answers, and what the chain says, if one was named
    Info,
}

/// The same error, of no job.
fn of_the_node(error: Error, endpoint: &str) -> Error {
    let text = error.to_string();
    let message = text.strip_prefix(&format!("{}: ", error.kind())).unwrap_or(&text).to_owned();
    let told = Error::new(error.kind(), message)
        .with_outcome(error.outcome())
        .with_retryable(error.is_retryable())
        .with_attempts(error.attempts())
        .with_endpoint(endpoint);
    let told = match error.hint() {
        Some(hint) => told.with_hint(hint.to_owned()),
        None => told,
    };
    if error.source().is_some() { told.with_source(Cause(error)) } else { told }
}

/// What an error was caused by, without the error itself.
#[derive(Debug)]
struct Cause(Error);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.source().map_or(Ok(()), |cause| write!(f, "{cause}"))
    }
}

impl error::Error for Cause {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.0.source()?.source()
    }
}

impl NodeCommand {
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        let Self::Info = self;
        let client = connect::builder(globals).await?.connect().await?;
        let begun = Instant::now();
        // A job that there cannot be: that the node does not know it is an answer.
        match client.get_result(JobId::from_slice(&[0; 32])?).await {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(of_the_node(error, client.endpoint())),
            _ => {}
        }
        let millis = begun.elapsed().as_secs_f64() * 1000.0;
        let said = globals.revision.is_none();
        let mut page = Page::default()
            .row("node", client.endpoint())
            .row("revision", format!("{} ({})", client.revision(), if said { "said by the node" } else { "as given" }))
            .row("answered in", format!("{millis:.1} ms"));
        let mut value = json!({
            "endpoint": client.endpoint(),
            "transport": if globals.rest { "rest" } else { "grpc" },
            "revision": client.revision(),
            "revision_said_by_node": said,
            "round_trip_ms": millis,
            "chain": null,
        });
        if let Some(chain) = client.chain() {
            let (identity, operator) = (chain.identity().await?, chain.operator().await?);
            page = page
                .row("chain id", identity.chain_id)
                .row("JobManager", chain.job_manager())
                .row("operator", operator);
            value["chain"] = json!({
                "chain_id": identity.chain_id,
                "genesis_hash": identity.genesis_hash,
                "job_manager": chain.job_manager(),
                "operator": operator,
            });
        }
        output.answer(&value, page);
        Ok(())
    }
}
