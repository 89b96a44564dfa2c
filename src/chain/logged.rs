//! Which jobs have come to their end, by the JobManager's events: one question for all jobs.
//!
//! An answer says only which jobs are worth a look. A server that lags has no events of the blocks that it lacks, and
//! does not say so; and whoever answers may invent some. So nothing follows from a job that is not in an answer, and
//! nothing but a look from one that is.

use alloy_primitives::B256;
use alloy_sol_types::SolEvent;

use super::{
    Chain, OneRpc,
    abi::JobManager::{JobCancelled, JobCompleted},
    reader::{Block, Log, LogFilter},
};
use crate::{error::Result, job::JobId};

/// The end of a job, as an event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoggedEnd {
    pub id: JobId,
    pub tx: B256,
}

/// What the events of some blocks say.
#[derive(Clone, Debug)]
pub(crate) enum LoggedEnds {
    /// These jobs have ended.
    Known(Vec<LoggedEnd>),
    /// The RPC has not come to the last of the blocks yet.
    Behind,
    /// It has no events, or not of so many blocks at once.
    Unknown,
}

/// The blocks whose events are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventRange {
    /// From this one on they were asked for before: they need not be in the answer.
    pub again: u64,
    /// From this one on they were not.
    pub since: u64,
    /// The last.
    pub to: Block,
}

/// Asks which jobs have ended in these blocks: one question beside the one for the head.
///
/// # Errors
/// If the chain cannot be read. An RPC that refuses this question alone is [`LoggedEnds::Unknown`].
pub(crate) async fn logged_ends(chain: &Chain, range: EventRange) -> Result<LoggedEnds> {
    chain.verdict(|one| async move { ask(&one, range).await }).await
}

async fn ask(chain: &OneRpc, EventRange { again, since, to }: EventRange) -> Result<LoggedEnds> {
    let most = chain.log_range().max(1);
    let first = again.max(to.number.saturating_add(1).saturating_sub(most));
    if first > since {
        return Ok(LoggedEnds::Unknown);
    }
    let span = to.number.saturating_add(1).saturating_sub(first);
    let job_manager = chain.job_manager();
    let topics = || vec![vec![JobCompleted::SIGNATURE_HASH, JobCancelled::SIGNATURE_HASH]];
    let filter = |batch: &mut super::Batch| batch.logs(LogFilter::new(job_manager, topics(), first, to.number));
    let mut glance = chain.glance(filter).await?;
    let logs = glance.answers.take(glance.asked);
    if glance.head.number < to.number {
        return Ok(LoggedEnds::Behind);
    }
    chain.learns_of_logs(span, &logs);
    Ok(match logs {
        Ok(logs) => {
            let of_manager = logs.iter().filter(|log| log.address == job_manager);
            LoggedEnds::Known(of_manager.filter_map(end_in).collect())
        }
        Err(_) => LoggedEnds::Unknown,
    })
}

fn end_in(log: &Log) -> Option<LoggedEnd> {
    match log.topics[..] {
        [event, id] if event == JobCompleted::SIGNATURE_HASH || event == JobCancelled::SIGNATURE_HASH => {
            Some(LoggedEnd { id: JobId::from(id), tx: log.tx_hash })
        }
        _ => None,
    }
}
