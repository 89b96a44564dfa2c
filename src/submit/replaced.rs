//! The failed jobs in whose place a client has put others. Waits for them send them no more.
//!
//! Whole jobs are kept of the nonces that were replaced last: they tell what a record shows. Of jobs before that only
//! digests are kept, which is enough to send none of them again.

use std::collections::{HashMap, HashSet, VecDeque};

use alloy_primitives::{B256, keccak256};

use crate::job::{JobId, SignedJob};

/// How many nonces whole jobs are kept of, and how many for a nonce.
const NONCES: usize = 4_096;
const EARLIER: usize = 16;
/// How many digests: 3 MB of them.
const DIGESTS: usize = 65_536;

#[derive(Default)]
pub(super) struct ReplacedJobs {
    places: HashMap<JobId, ReplacedPlace>,
    /// Those of `places`, the one that was replaced first in front.
    order: VecDeque<JobId>,
    digests: HashSet<B256>,
    digest_order: VecDeque<B256>,
}

/// What this client has put under a nonce.
struct ReplacedPlace {
    earlier: VecDeque<SignedJob>,
    now: SignedJob,
}

impl ReplacedJobs {
    /// A job is put in the place of one that has failed.
    pub(super) fn replace(&mut self, old: SignedJob, job: &SignedJob) {
        let id = job.id();
        let place = self.places.entry(id).or_insert_with(|| {
            self.order.push_back(id);
            ReplacedPlace { earlier: VecDeque::new(), now: old.clone() }
        });
        let before = std::mem::replace(&mut place.now, job.clone());
        // It may have been there before.
        place.earlier.retain(|earlier| earlier != job);
        let mut gone = Vec::new();
        for replaced in [before, old] {
            if replaced != *job && !place.earlier.contains(&replaced) {
                gone.push(digest(&replaced));
                place.earlier.push_back(replaced);
            }
        }
        while place.earlier.len() > EARLIER {
            place.earlier.pop_front();
        }
        if self.order.len() > NONCES
            && let Some(oldest) = self.order.pop_front()
        {
            self.places.remove(&oldest);
        }
        for digest in gone {
            if self.digests.insert(digest) {
                self.digest_order.push_back(digest);
            }
        }
        self.may_be_sent(job);
        while self.digest_order.len() > DIGESTS {
            if let Some(oldest) = self.digest_order.pop_front() {
                self.digests.remove(&oldest);
            }
        }
    }

    /// A job is sent, whatever was put in its place before.
    pub(super) fn may_be_sent(&mut self, job: &SignedJob) {
        if !self.digests.is_empty() && self.digests.remove(&digest(job)) {
            self.digest_order.retain(|known| *known != digest(job));
        }
    }

    /// Whether another job is in the place of this one.
    pub(super) fn has(&self, job: &SignedJob) -> bool {
        !self.digests.is_empty() && self.digests.contains(&digest(job))
    }

    /// The job in whose place there is another: that one.
    pub(super) fn replacement(&self, job: &SignedJob) -> Option<&SignedJob> {
        let place = self.places.get(&job.id()).filter(|place| place.earlier.contains(job))?;
        Some(&place.now)
    }

    /// The jobs in whose place this one is.
    pub(super) fn replaced_by(&self, job: &SignedJob) -> impl Iterator<Item = &SignedJob> {
        let place = self.places.get(&job.id()).filter(|place| place.now == *job);
        place.into_iter().flat_map(|place| &place.earlier)
    }
}

/// Of all that makes a job another one under its nonce.
fn digest(job: &SignedJob) -> B256 {
    keccak256([keccak256(job.request()), keccak256(job.signature())].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{OffchainJobRequest, ProgramId, Revision};

    fn job(nonce: u64, input: u64) -> SignedJob {
        let job = OffchainJobRequest::builder([7; 20].into(), ProgramId::new(vec![1])).max_cycles(9);
        let job = job.onchain_input(input.to_be_bytes().to_vec()).build().unwrap();
        job.prepare(Revision::Relay, nonce).unwrap().with_signature(vec![27; 65].into()).unwrap()
    }

    #[test]
    fn what_was_replaced_stays_replaced_however_many_follow() {
        let mut replaced = ReplacedJobs::default();
        let first = (job(1, 0), job(1, 1));
        replaced.replace(first.0.clone(), &first.1);
        assert_eq!(replaced.replacement(&first.0), Some(&first.1));
        assert_eq!(replaced.replaced_by(&first.1).collect::<Vec<_>>(), [&first.0]);
        for nonce in 2..NONCES as u64 + 10 {
            replaced.replace(job(nonce, 0), &job(nonce, 1));
        }
        assert_eq!(replaced.places.len(), NONCES);
        let last = NONCES as u64 + 9;
        assert_eq!(replaced.replacement(&job(last, 0)), Some(&job(last, 1)));
        // Whole jobs go one by one, and none of them may be sent again.
        assert_eq!(replaced.replacement(&first.0), None);
        for nonce in 1..=last {
            assert!(replaced.has(&job(nonce, 0)) && !replaced.has(&job(nonce, 1)), "{nonce}");
        }
    }

    #[test]
    fn a_nonce_that_is_replaced_over_and_over_takes_no_more_room() {
        let mut replaced = ReplacedJobs::default();
        for input in 0..200 {
            replaced.replace(job(1, input), &job(1, input + 1));
        }
        assert_eq!((replaced.places.len(), replaced.places[&job(1, 0).id()].earlier.len()), (1, EARLIER));
        assert!((0..200).all(|input| replaced.has(&job(1, input))) && !replaced.has(&job(1, 200)));
    }

    #[test]
    fn a_job_that_is_put_back_may_be_sent() {
        let mut replaced = ReplacedJobs::default();
        let (one, other) = (job(1, 1), job(1, 2));
        replaced.replace(one.clone(), &other);
        replaced.replace(other.clone(), &one);
        assert!(replaced.has(&other) && !replaced.has(&one));
        assert_eq!(replaced.replacement(&other), Some(&one));
        assert_eq!(replaced.replacement(&one), None);
        assert_eq!(replaced.replaced_by(&one).collect::<Vec<_>>(), [&other]);
    }

    #[test]
    fn a_job_that_is_submitted_again_may_be_sent_by_its_waits() {
        let mut replaced = ReplacedJobs::default();
        let (one, other) = (job(1, 1), job(1, 2));
        replaced.replace(one.clone(), &other);
        replaced.may_be_sent(&one);
        assert!(!replaced.has(&one) && replaced.digest_order.is_empty());
        // What a record shows of the two is still told.
        assert_eq!(replaced.replacement(&one), Some(&other));
    }

    #[test]
    fn digests_are_bounded() {
        let mut replaced = ReplacedJobs::default();
        let (one, other) = (job(1, 0), job(1, 1));
        replaced.replace(one, &other);
        for number in 0..DIGESTS as u64 {
            let digest = keccak256(number.to_be_bytes());
            replaced.digests.insert(digest);
            replaced.digest_order.push_back(digest);
        }
        replaced.replace(job(2, 0), &job(2, 1));
        assert_eq!((replaced.digests.len(), replaced.digest_order.len()), (DIGESTS, DIGESTS));
        assert!(replaced.has(&job(2, 0)) && !replaced.has(&job(1, 0)));
    }
}
