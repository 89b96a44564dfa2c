//! What is bound to the texts that enqueue a job.

use crate::outbox::store::NewJob;

/// The parameters of the texts of `ENQUEUE`, for callers on other drivers. Made by
/// [`Outbox::parameters`](crate::outbox::Outbox::parameters), which checks the job as `enqueue` does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EnqueueParameters {
    /// 1: the onchain input.
    pub onchain: Vec<u8>,
    /// 2: the offchain input.
    pub offchain: Vec<u8>,
    /// 3: the state.
    pub state: Option<Vec<u8>>,
    /// 4: the program id.
    pub program: Vec<u8>,
    /// 5: the cycle limit, as a signed integer.
    pub max_cycles: i64,
    /// 6: the digest.
    pub digest: Vec<u8>,
    /// 7: the lane's number.
    pub lane: i64,
    /// 8: the idempotency key.
    pub key: Option<String>,
    /// 9: the Unix time in milliseconds.
    pub now: i64,
    /// 10: the Unix time in milliseconds after which the job lapses.
    pub not_after: Option<i64>,
}

impl EnqueueParameters {
    pub(crate) fn of(lane: i64, job: &NewJob) -> Self {
        let content = &job.payload.content;
        Self {
            lane,
            key: job.key.clone(),
            digest: job.payload.digest.to_vec(),
            now: signed(job.now),
            not_after: job.not_after.map(signed),
            program: content.program.to_vec(),
            max_cycles: content.max_cycles.cast_signed(),
            onchain: content.onchain.to_vec(),
            offchain: content.offchain.to_vec(),
            state: content.state.as_ref().map(|state| state.to_vec()),
        }
    }
}

/// As the databases take it; what does not fit is the largest that does, which only a time can be.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
