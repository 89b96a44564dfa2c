//! What a client has learnt of its programs: how long their jobs take until they are executed, and until they are
//! relayed.

use std::collections::HashMap;

use alloy_primitives::Address;
use tokio::time::{Duration, Instant};

use super::{
    durations::Durations,
    foresight::{Foreseen, next_look},
};
use crate::{
    job::{ProgramId, SignedJob},
    sync::Lock,
};

/// Programs of consumers that a client remembers. Beyond that the one that was used least recently is forgotten.
const MAX_PROGRAMS: usize = 1024;

/// What a job is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Milestone {
    Executed,
    Relayed,
}

/// A job between two looks: when it began, how long after that it was not done yet, and how long after that it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Between {
    pub begun: Instant,
    pub not_after: Option<Duration>,
    pub done_after: Duration,
}

/// The programs of a client, by consumer: what a program takes depends on what a consumer gives it.
#[derive(Debug, Default)]
pub(crate) struct ProgramTimes(Lock<Programs>);

#[derive(Debug, Default)]
struct Programs {
    known: HashMap<(Address, ProgramId), Times>,
    /// Counts uses.
    clock: u64,
    /// How long looks take, on average.
    trip: Duration,
}

#[derive(Debug, Default)]
struct Times {
    used: u64,
    executed: Durations,
    /// Often nobody waits for that.
    relayed: Option<Durations>,
}

impl ProgramTimes {
    /// A job was seen to have come so far.
    pub(super) fn saw(&self, job: &SignedJob, step: Milestone, seen: Between, now: Instant) {
        let mut programs = self.0.lock();
        let times = programs.entry(job);
        let durations = match step {
            Milestone::Executed => &mut times.executed,
            Milestone::Relayed => times.relayed.get_or_insert_default(),
        };
        durations.saw(seen.begun, seen.not_after, seen.done_after, now);
    }

    /// A look took so long.
    pub(super) fn looked(&self, trip: Duration) {
        let mut programs = self.0.lock();
        programs.trip = if programs.trip.is_zero() { trip } else { (programs.trip * 7 + trip) / 8 };
    }

    /// When to look at a job next that was not so far at the last of so many looks: see [`next_look`].
    pub(super) fn next_look(
        &self,
        job: &SignedJob,
        step: Milestone,
        last: Option<Duration>,
        looks: u32,
        most: Duration,
    ) -> Option<Foreseen> {
        let mut programs = self.0.lock();
        let trip = programs.trip;
        let times = programs.get(job)?;
        let durations = match step {
            Milestone::Executed => &times.executed,
            Milestone::Relayed => times.relayed.as_ref()?,
        };
        next_look(durations, last, looks, trip, most)
    }
}

impl Programs {
    fn get(&mut self, job: &SignedJob) -> Option<&mut Times> {
        self.clock += 1;
        let times = self.known.get_mut(&(job.consumer(), job.program_id().clone()))?;
        times.used = self.clock;
        Some(times)
    }

    fn entry(&mut self, job: &SignedJob) -> &mut Times {
        let key = (job.consumer(), job.program_id().clone());
        if self.known.len() >= MAX_PROGRAMS && !self.known.contains_key(&key) {
            let oldest = self.known.iter().min_by_key(|(_, times)| times.used).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| self.known.remove(&oldest));
        }
        self.clock += 1;
        let times = self.known.entry(key).or_default();
        times.used = self.clock;
        times
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Bytes;

    use super::*;
    use crate::job::{LocalSigner, OffchainJobRequest, RelayStrategy, Revision};

    async fn job(program: u32) -> SignedJob {
        let job = OffchainJobRequest::builder(Address::repeat_byte(1), ProgramId::new(program.to_be_bytes().to_vec()))
            .max_cycles(1)
            .onchain_input(Bytes::from_static(b"input"))
            .relay(RelayStrategy::Unordered)
            .build()
            .unwrap();
        let signer = LocalSigner::from_slice(&[1; 32]).unwrap();
        job.prepare(Revision::Relay, 1).unwrap().sign(&signer).await.unwrap()
    }

    #[tokio::test]
    async fn the_program_that_was_used_least_recently_is_forgotten() {
        let (times, now) = (ProgramTimes::default(), Instant::now());
        let seen = Between { begun: now, not_after: None, done_after: Duration::from_millis(50) };
        let learn = |job: &SignedJob| (0..10).for_each(|_| times.saw(job, Milestone::Executed, seen, now));
        let knows =
            |job: &SignedJob| times.next_look(job, Milestone::Executed, None, 0, Duration::from_secs(2)).is_some();
        let (first, second) = (job(0).await, job(1).await);
        learn(&first);
        learn(&second);
        for program in 2..MAX_PROGRAMS as u32 {
            learn(&job(program).await);
        }
        assert!(knows(&first));
        learn(&job(u32::MAX).await);
        assert!(knows(&first), "it was used");
        assert!(!knows(&second));
        assert_eq!(times.0.lock().known.len(), MAX_PROGRAMS);
        assert_eq!(times.next_look(&first, Milestone::Relayed, None, 0, Duration::from_secs(2)), None);
    }
}
