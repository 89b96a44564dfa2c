//! What of the acts upon lanes and jobs is worth telling the client's observers.

use alloy_primitives::Address;

use super::{
    decide::{Announced, HoldReason},
    store::{Act, Acted},
};
use crate::{
    client::Client,
    job::RelayStrategy,
    observe::{ClientEvent, ObservedTicket},
};

/// What an act is to observers, once it was carried out.
pub(super) enum ActNews {
    Nothing,
    /// A step of a job, by its name.
    Step(&'static str),
    /// A job waits for a person, and perhaps its lane.
    Held {
        reason: HoldReason,
        halts: bool,
    },
    Retracted,
    /// The lane was halted, perhaps for a job.
    Halted {
        reason: HoldReason,
        ticket: Option<i64>,
    },
    Resumed,
    /// The lane goes on with this nonce.
    Skipped(u64),
}

impl ActNews {
    pub(super) fn of(act: &Act) -> Self {
        Self::Step(match act {
            Act::Sign { .. } => "signed",
            Act::Failure { .. } => "failed",
            Act::Result(_) => "result",
            Act::Note { note: Some(_), .. } => "stalled",
            Act::Note { note: None, .. } => return Self::Nothing,
            Act::Post { .. } => "posting",
            Act::Posted { landed: true, .. } => "posted",
            Act::Posted { landed: false, .. } => "not_posted",
            Act::Tell { kind, .. } if kind.told() == Announced::NoResult => "told_of_none",
            Act::Tell { .. } => "told",
            Act::Switch { .. } => "switched",
            Act::Supersede { .. } => "superseded",
            Act::Renumber { .. } => "renumbered",
            Act::Close { keep_until: Some(_), .. } => "kept",
            Act::Close { keep_until: None, .. } => "over",
            Act::Retract { .. } => return Self::Retracted,
            Act::Hold { reason, halts, .. } => return Self::Held { reason: *reason, halts: *halts },
            Act::Halt { halt, .. } => return Self::Halted { reason: halt.reason, ticket: halt.ticket },
            Act::Release { .. } => "released",
            Act::Go { .. } => return Self::Resumed,
            Act::Skip { next_nonce, .. } => return Self::Skipped(*next_nonce),
            // What was numbered is told job by job.
            Act::Number { .. } | Act::Sweep { .. } => return Self::Nothing,
        })
    }
}

/// The lane that is acted for, and who hears of that.
#[derive(Clone, Copy)]
pub(super) struct LaneVoice<'a> {
    pub(super) client: &'a Client,
    pub(super) consumer: Address,
    pub(super) strategy: RelayStrategy,
}

impl LaneVoice<'_> {
    /// A job as observers know it.
    pub(super) fn job(&self, ticket: i64, nonce: Option<u64>) -> ObservedTicket {
        ObservedTicket::new(ticket, self.consumer, self.strategy, nonce)
    }

    /// Tells of an act that was carried out, upon the job with this ticket and nonce if it was upon one.
    pub(super) fn tell(&self, news: &ActNews, job: Option<(i64, Option<u64>)>, acted: &Acted) {
        if *acted == Acted::Stale {
            return;
        }
        let Self { client, consumer, strategy } = *self;
        if let Some(job) = job.map(|(ticket, nonce)| self.job(ticket, nonce)) {
            match *news {
                ActNews::Step(step) => client.tell(ClientEvent::OutboxStep { job, step }),
                ActNews::Retracted => client.tell(ClientEvent::Retracted { job }),
                ActNews::Held { reason, halts } => {
                    client.tell(ClientEvent::JobHeld { job, reason: reason.as_str() });
                    if halts {
                        self.halted(reason, Some(job.ticket));
                    }
                }
                _ => {}
            }
        }
        match *news {
            ActNews::Halted { reason, ticket } => self.halted(reason, ticket),
            ActNews::Resumed => client.tell(ClientEvent::LaneResumed { consumer, strategy }),
            ActNews::Skipped(next_nonce) => client.tell(ClientEvent::NoncesSkipped { consumer, strategy, next_nonce }),
            _ if *acted == Acted::Resumed => client.tell(ClientEvent::LaneResumed { consumer, strategy }),
            _ => {}
        }
    }

    fn halted(&self, reason: HoldReason, ticket: Option<i64>) {
        let Self { client, consumer, strategy } = *self;
        client.tell(ClientEvent::LaneHalted { consumer, strategy, ticket, reason: reason.as_str() });
    }
}
