//! What a person does about lanes and jobs, while the service is stopped.

use clap::Args;
use infinityvm_sdk::{
    Error, ErrorKind, OffchainJobRequest, RelayStrategy, Result,
    nonce::Given,
    outbox::{JobTicket, LaneConfig, LaneStatus, Outbox, StoreView},
    primitives::Address,
};
use serde_json::json;

use super::StoreOptions;
use crate::{cli::Globals, connect, input::Source, output::Output};

/// What is done, and why.
#[derive(Args, Debug)]
pub struct ActOptions {
    #[command(flatten)]
    store: StoreOptions,

    /// Why, for the lane's log
    #[arg(long, value_name = "TEXT", default_value = "by ivm")]
    reason: String,
}

#[derive(Args, Debug)]
pub struct TicketArgs {
    /// The job's ticket
    #[arg(value_name = "TICKET")]
    ticket: i64,

    #[command(flatten)]
    act: ActOptions,
}

#[derive(Args, Debug)]
pub struct ReplaceArgs {
    /// The ticket of the job that failed
    #[arg(value_name = "TICKET")]
    ticket: i64,

    /// The file of the built job that takes its place, or - for standard input
    #[arg(value_name = "FILE")]
    job: Source,

    #[command(flatten)]
    act: ActOptions,
}

#[derive(Args, Debug)]
pub struct AbandonArgs {
    /// The job's ticket
    #[arg(value_name = "TICKET")]
    ticket: i64,

    /// The file of the built job that fills the nonce, or - for standard input. Needed in an ordered lane
    #[arg(long, value_name = "FILE")]
    filler: Option<Source>,

    #[command(flatten)]
    act: ActOptions,
}

#[derive(Args, Debug)]
pub struct LaneArgs {
    /// The lane's consumer
    #[arg(value_name = "CONSUMER")]
    consumer: Address,

    #[command(flatten)]
    act: ActOptions,
}

impl TicketArgs {
    pub async fn retry(self, globals: &Globals, output: &Output) -> Result<()> {
        let (outbox, ticket) = self.act.of_job(self.ticket, None, globals).await?;
        outbox.retry(ticket, &self.act.reason).await?;
        told(&outbox, ticket, output).await
    }

    pub async fn renumber(self, globals: &Globals, output: &Output) -> Result<()> {
        let (outbox, ticket) = self.act.of_job(self.ticket, None, globals).await?;
        outbox.renumber(ticket, &self.act.reason).await?;
        told(&outbox, ticket, output).await
    }
}

impl ReplaceArgs {
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        let job: OffchainJobRequest = self.job.json("a job that `ivm job build` has written")?;
        let (outbox, ticket) = self.act.of_job(self.ticket, None, globals).await?;
        outbox.replace(ticket, job, &self.act.reason).await?;
        told(&outbox, ticket, output).await
    }
}

impl AbandonArgs {
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        let filler = self.filler.map(|file| file.json("a job that `ivm job build` has written")).transpose()?;
        let (outbox, ticket) = self.act.of_job(self.ticket, filler, globals).await?;
        outbox.abandon(ticket, &self.act.reason).await?;
        told(&outbox, ticket, output).await
    }
}

impl LaneArgs {
    pub async fn pause(self, globals: &Globals, output: &Output) -> Result<()> {
        let outbox = self.act.of_lane(self.consumer, globals).await?;
        let changed = outbox.pause(self.consumer, &self.act.reason).await?;
        self.told(changed, if changed { "paused" } else { "was halted already" }, output)
    }

    pub async fn resume(self, globals: &Globals, output: &Output) -> Result<()> {
        let outbox = self.act.of_lane(self.consumer, globals).await?;
        let changed = outbox.resume(self.consumer, &self.act.reason).await?;
        self.told(changed, if changed { "goes on" } else { "was not halted" }, output)
    }

    fn told(&self, changed: bool, text: &str, output: &Output) -> Result<()> {
        let consumer = self.consumer;
        output.answer(
            &json!({ "consumer": consumer, "changed": changed }),
            format_args!("the lane of {consumer} {text}"),
        );
        Ok(())
    }
}

impl ActOptions {
    /// The outbox of a job's lane, whose owner this process is from now on.
    async fn of_job(
        &self,
        ticket: i64,
        filler: Option<OffchainJobRequest>,
        globals: &Globals,
    ) -> Result<(Outbox, JobTicket)> {
        let (store, ticket) = (self.store.open().await?, JobTicket::from_number(ticket));
        let view = StoreView::of(store.clone());
        let job = view.job(ticket).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the store has no job of the ticket {ticket}"))
                .with_hint("`ivm outbox list` prints the tickets of jobs that are under way")
        })?;
        let lane = lane_of(&view, job.consumer).await?;
        let mut config = config_of(&lane);
        if let Some(filler) = filler {
            config = config.with_filler(move |_| Ok(filler.clone()));
        }
        Ok((self.attend(store, &lane, config, globals).await?, ticket))
    }

    async fn of_lane(&self, consumer: Address, globals: &Globals) -> Result<Outbox> {
        let store = self.store.open().await?;
        let lane = lane_of(&StoreView::of(store.clone()), consumer).await?;
        self.attend(store, &lane, config_of(&lane), globals).await
    }

    async fn attend(
        &self,
        store: infinityvm_sdk::outbox::sqlite::SqliteStore,
        lane: &LaneStatus,
        config: LaneConfig,
        globals: &Globals,
    ) -> Result<Outbox> {
        // Nothing is asked of the node but by acts that need to know of a job there.
        let client = connect::builder(globals).await?.revision(lane.revision).nonces(Given).connect().await?;
        let attended = Outbox::builder(client, store).lane(config).attend().await;
        attended.map_err(|error| match error.kind() {
            ErrorKind::Store if error.is_retryable() => error.with_hint(
                "the service runs: stop it and give this command again, or have the service do it; `status` and `list` work beside it",
            ),
            _ => error,
        })
    }
}

async fn lane_of(view: &StoreView, consumer: Address) -> Result<LaneStatus> {
    let lane = view.status().await?.lanes.into_iter().find(|lane| lane.consumer == consumer);
    lane.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("the store has no lane for the consumer {consumer}"))
            .with_hint("`ivm outbox status` prints the lanes")
    })
}

fn config_of(lane: &LaneStatus) -> LaneConfig {
    let strategy = if lane.ordered { RelayStrategy::Ordered } else { RelayStrategy::Unordered };
    LaneConfig::new(lane.consumer, strategy)
}

/// How the job stands now.
async fn told(outbox: &Outbox, ticket: JobTicket, output: &Output) -> Result<()> {
    let job = outbox.job(ticket).await?;
    output.answer(
        &json!({ "job": job }),
        format_args!("done: the service goes on with ticket {ticket} when it is started"),
    );
    Ok(())
}
