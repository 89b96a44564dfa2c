//! `ivm outbox status` and `list`, which read only.

use std::fmt::Write as _;

use clap::Args;
use infinityvm_sdk::{
    Error, ErrorKind, Result,
    outbox::{JobTicket, LaneStatus, TicketStatus},
    primitives::Address,
};
use serde_json::{Value, json};

use super::store::StoreOptions;
use crate::{output::Output, text};

/// Jobs that are read at once.
const PAGE: u32 = 256;

#[derive(Args, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    store: StoreOptions,
}

#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    store: StoreOptions,

    /// The tickets of the jobs; without any, the jobs that have a nonce and no end
    #[arg(value_name = "TICKET", conflicts_with_all = ["consumer", "held"])]
    tickets: Vec<i64>,

    /// Only the lane of this consumer
    #[arg(long, value_name = "ADDRESS", value_parser = text::address)]
    consumer: Option<Address>,

    /// Only jobs that wait for a person
    #[arg(long)]
    held: bool,

    /// The most jobs to print
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl StatusArgs {
    pub async fn run(self, output: &Output) -> Result<()> {
        let status = self.store.view(output).await?.status().await?;
        let lanes: Vec<_> = status.lanes.iter().map(lane).collect();
        let text = if lanes.is_empty() { "no lane".to_owned() } else { lanes.join("\n\n") };
        output.answer(&status, text);
        Ok(())
    }
}

impl ListArgs {
    pub async fn run(self, output: &Output) -> Result<()> {
        let view = self.store.view(output).await?;
        let mut jobs = Vec::new();
        for ticket in &self.tickets {
            let job = view.job(JobTicket::from_number(*ticket)).await?;
            jobs.push(job.ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("the store has no job of the ticket {ticket}"))
                    .with_hint("`ivm outbox list` prints the tickets of jobs that are under way")
            })?);
        }
        if self.tickets.is_empty() {
            let lanes = view.status().await?.lanes.into_iter().map(|lane| lane.consumer);
            let lanes = self.consumer.map_or_else(|| lanes.collect(), |consumer| vec![consumer]);
            let most = self.limit as usize;
            for consumer in lanes {
                let mut above = None;
                while jobs.len() < most {
                    let page = view.unfinished(consumer, above, PAGE).await?;
                    let Some(last) = page.last() else { break };
                    above = last.nonce;
                    jobs.extend(page.into_iter().filter(|job| !self.held || job.held.is_some()));
                }
            }
            jobs.truncate(most);
        }
        let lines: Vec<_> = jobs.iter().map(line).collect();
        let text = if lines.is_empty() { "no job".to_owned() } else { lines.join("\n") };
        output.answer(&json!({ "jobs": jobs }), text);
        Ok(())
    }
}

/// A reason's name, as the JSON has it.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word.replace('_', " "),
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

fn line(job: &TicketStatus) -> String {
    let nonce = job.nonce.map_or("-".to_owned(), |nonce| nonce.to_string());
    let mut text = format!("ticket {}  {}  nonce {nonce}  {}", job.ticket, job.consumer, word(&job.progress));
    if let Some(key) = &job.key {
        _ = write!(text, "  key {key}");
    }
    if let Some(reason) = &job.held {
        _ = write!(text, "  HELD: {}", word(reason));
    }
    if let Some(note) = &job.note {
        _ = write!(text, "\n    {note}");
    }
    text
}

fn lane(lane: &LaneStatus) -> String {
    let order = if lane.ordered { "ordered" } else { "unordered" };
    let mut text = format!("{}  {order}, {} revision, network {}", lane.consumer, lane.revision, lane.network);
    let LaneStatus { next_nonce, queued, numbered, under_way, settling, over, held, .. } = lane;
    _ = write!(
        text,
        "\n  next nonce {next_nonce}: {queued} queued, {numbered} numbered, {under_way} under way, {settling} settling, {over} over"
    );
    if let Some(owner) = &lane.owner {
        _ = write!(text, "\n  instance {} acts for it", owner.instance);
    }
    if *held > 0 {
        _ = write!(text, "\n  {held} held: they wait for a person (`ivm outbox list --held`)");
    }
    if let Some(halt) = &lane.halted {
        let about = halt.ticket.map(|ticket| format!(" (ticket {ticket})")).unwrap_or_default();
        _ = write!(text, "\n  HALTED{about}: {}: {}", word(&halt.reason), halt.note);
    }
    for reader in &lane.readers {
        let lag = reader.lag.map(|lag| format!(", the oldest for {:.1} s", lag.as_secs_f64())).unwrap_or_default();
        _ = write!(text, "\n  reader {}: {} events wait{lag}", reader.name, reader.waiting);
    }
    for entry in lane.log.iter().take(5) {
        let about = entry.ticket.map(|ticket| format!(" ticket {ticket}")).unwrap_or_default();
        _ = write!(text, "\n  log: {}{about}: {}", entry.what, entry.note);
    }
    text
}
