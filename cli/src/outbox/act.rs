//! What a person does about lanes and jobs, while no service acts for them.

use std::time::Duration;

use clap::Args;
use infinityvm_sdk::{
    Error, ErrorKind, OffchainJobRequest, RelayStrategy, Result,
    nonce::Given,
    outbox::{JobTicket, LaneConfig, LaneStatus, Outbox, StoreView},
    primitives::Address,
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::store::{Store, StoreOptions};
use crate::{cli::Globals, connect, input::Source, output::Output, text};

/// What begins the name of this command as an owner of lanes.
const INSTANCE: &str = "ivm";
/// How long giving the lane back may take. Where that fails, a service waits for the lease's end.
const PATIENCE: Duration = Duration::from_secs(5);

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
    #[arg(value_name = "CONSUMER", value_parser = text::address)]
    consumer: Address,

    #[command(flatten)]
    act: ActOptions,
}

impl TicketArgs {
    pub async fn retry(self, globals: &Globals, output: &Output) -> Result<()> {
        let (outbox, ticket) = self.act.of_job(self.ticket, None, globals, output).await?;
        let done = outbox.retry(ticket, &self.act.reason).await;
        told(outbox, ticket, done, output).await
    }

    pub async fn renumber(self, globals: &Globals, output: &Output) -> Result<()> {
        let (outbox, ticket) = self.act.of_job(self.ticket, None, globals, output).await?;
        let done = outbox.renumber(ticket, &self.act.reason).await;
        told(outbox, ticket, done, output).await
    }
}

impl ReplaceArgs {
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        let job: OffchainJobRequest = self.job.json("a job that `ivm job build` has written")?;
        let (outbox, ticket) = self.act.of_job(self.ticket, None, globals, output).await?;
        let done = outbox.replace(ticket, job, &self.act.reason).await;
        told(outbox, ticket, done, output).await
    }
}

impl AbandonArgs {
    pub async fn run(self, globals: &Globals, output: &Output) -> Result<()> {
        let filler = self.filler.map(|file| file.json("a job that `ivm job build` has written")).transpose()?;
        let (outbox, ticket) = self.act.of_job(self.ticket, filler, globals, output).await?;
        let done = outbox.abandon(ticket, &self.act.reason).await;
        told(outbox, ticket, done, output).await
    }
}

impl LaneArgs {
    pub async fn pause(self, globals: &Globals, output: &Output) -> Result<()> {
        let outbox = self.act.of_lane(self.consumer, globals, output).await?;
        let changed = outbox.pause(self.consumer, &self.act.reason).await;
        give_back(outbox).await;
        let changed = changed?;
        self.told(changed, if changed { "paused" } else { "was halted already" }, output)
    }

    pub async fn resume(self, globals: &Globals, output: &Output) -> Result<()> {
        let outbox = self.act.of_lane(self.consumer, globals, output).await?;
        let changed = outbox.resume(self.consumer, &self.act.reason).await;
        give_back(outbox).await;
        let changed = changed?;
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
        output: &Output,
    ) -> Result<(Outbox, JobTicket)> {
        let (store, ticket) = (self.store.open(output).await?, JobTicket::from_number(ticket));
        let view = store.view();
        let job = view.job(ticket).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the store has no job of the ticket {ticket}"))
                .with_hint("`ivm outbox list` prints the tickets of jobs that are under way")
        })?;
        let lane = lane_of(&view, job.consumer).await?;
        let mut config = config_of(&lane);
        if let Some(filler) = filler {
            config = config.with_filler(move |_| Ok(filler.clone()));
        }
        Ok((attend(store, &lane, config, globals).await?, ticket))
    }

    async fn of_lane(&self, consumer: Address, globals: &Globals, output: &Output) -> Result<Outbox> {
        let store = self.store.open(output).await?;
        let lane = lane_of(&store.view(), consumer).await?;
        attend(store, &lane, config_of(&lane), globals).await
    }
}

/// Has the lane for this command. A lane has one owner at a time, who decides by what it has in memory as well: so nobody
/// else acts on the lane of a service that runs.
async fn attend(store: Store, lane: &LaneStatus, config: LaneConfig, globals: &Globals) -> Result<Outbox> {
    // Nothing is asked of the node but by acts that need to know of a job there.
    let client = connect::builder(globals).await?.revision(lane.revision).nonces(Given).connect().await?;
    let view = store.view();
    let builder = store.outbox(client).instance(INSTANCE).longest_call(Duration::ZERO);
    let error = match builder.lane(config).attend().await {
        Err(error) if error.kind() == ErrorKind::Store && error.is_retryable() => error,
        attended => return attended,
    };
    let owner = match lane_of(&view, lane.consumer).await {
        Ok(LaneStatus { owner: Some(owner), .. }) => format!("instance {} of the service", owner.instance),
        _ => "the service".to_owned(),
    };
    Err(error.with_hint(format!(
        "{owner} acts for this lane: have it do this (Outbox::retry and its like), or stop the service and give this command again (if it was killed, once its lease has ended, which is 15 s unless it has set another); `status` and `list` work beside it"
    )))
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

/// How the job stands now, if it was done.
async fn told(outbox: Outbox, ticket: JobTicket, done: Result<()>, output: &Output) -> Result<()> {
    let job = match done {
        Ok(()) => outbox.job(ticket).await,
        Err(error) => Err(error),
    };
    give_back(outbox).await;
    output.answer(
        &json!({ "job": job? }),
        format_args!("done: the service goes on with ticket {ticket} when it is started"),
    );
    Ok(())
}

/// Leaves the lane to whoever comes next.
async fn give_back(outbox: Outbox) {
    _ = outbox.drain(PATIENCE).await;
    // Where several share a store, the lane is given back by a task that would end with this process.
    let given_back = async {
        let ours = |lane: &LaneStatus| lane.owner.as_ref().is_some_and(|owner| owner.instance.starts_with(INSTANCE));
        while outbox.status().await.is_ok_and(|status| status.lanes.iter().any(ours)) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    _ = timeout(PATIENCE, given_back).await;
}
