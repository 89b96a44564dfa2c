//! Nonces under concurrency, injected failures and hostile sources.
#![cfg(feature = "client")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use alloy_primitives::Address;
use async_trait::async_trait;
use infinityvm_sdk::{
    Error, ErrorKind, Result,
    nonce::{
        GAP_FREE_MAX_JUMP, Given, Lane, NonceLease, NonceManager, NonceSource, SPARSE_MAX_JUMP, Sequential, Settlement,
        UnixMillis,
    },
};
use proptest::prelude::*;
use tokio::sync::Semaphore;

const A: Address = Address::repeat_byte(0xa);
const B: Address = Address::repeat_byte(0xb);

struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What a test believes of each nonce; panics where a nonce is handed out that is not free.
#[derive(Debug, Default)]
struct Seen(Mutex<BTreeMap<u64, &'static str>>);

impl Seen {
    fn leased(&self, nonce: u64) {
        let before = self.0.lock().unwrap().insert(nonce, "leased");
        assert_eq!(before, None, "nonce {nonce} was handed out twice");
    }

    fn set(&self, nonce: u64, state: &'static str) {
        assert_eq!(self.0.lock().unwrap().insert(nonce, state), Some("leased"));
    }

    fn free(&self, nonce: u64) {
        assert!(self.0.lock().unwrap().remove(&nonce).is_some());
    }

    fn all(&self, state: &str) -> Vec<u64> {
        self.0.lock().unwrap().iter().filter(|(_, is)| **is == state).map(|(nonce, _)| *nonce).collect()
    }

    /// Ends the lease somehow. What frees a nonce is noted before it happens, as another task may have it right after.
    fn end(&self, mut lease: NonceLease, how: u64) {
        let nonce = lease.nonce();
        match how {
            0 => {
                self.free(nonce);
                lease.release();
            }
            1 => {
                self.free(nonce);
                drop(lease);
            }
            2 => {
                lease.mark_signed();
                self.free(nonce);
                lease.release_unsent();
            }
            3 => {
                self.set(nonce, "quarantined");
                lease.quarantine();
            }
            4 => {
                lease.mark_signed();
                self.set(nonce, "quarantined");
                drop(lease);
            }
            5 => {
                lease.mark_signed();
                self.set(nonce, "quarantined");
                lease.release();
            }
            _ => {
                lease.mark_signed();
                self.set(nonce, "committed");
                lease.commit();
            }
        }
    }
}

/// 64 tasks of 50 leases each, which end in every way there is; every fourth lease is of a nonce that the task chooses.
async fn storm(
    nonces: &NonceManager,
    lane: Lane,
    exact: impl Fn(&mut SplitMix) -> Option<u64> + Send + Sync + 'static,
) -> Arc<Seen> {
    let seen = Arc::new(Seen::default());
    let exact = Arc::new(exact);
    let tasks: Vec<_> = (0..64)
        .map(|seed| {
            let (nonces, seen, exact) = (nonces.clone(), seen.clone(), exact.clone());
            tokio::spawn(async move {
                let mut rng = SplitMix(seed);
                for _ in 0..50 {
                    let lease = match exact(&mut rng) {
                        Some(nonce) => match nonces.lease_exact(A, lane, nonce).await {
                            Ok(lease) => lease,
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Nonce, "{error}");
                                continue;
                            }
                        },
                        None => nonces.lease(A, lane).await.unwrap(),
                    };
                    seen.leased(lease.nonce());
                    if rng.below(2) == 0 {
                        tokio::task::yield_now().await;
                    }
                    seen.end(lease, rng.below(12));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(nonces.quarantined(A), seen.all("quarantined"));
    assert!(seen.all("leased").is_empty());
    assert!(!seen.all("quarantined").is_empty() && !seen.all("committed").is_empty());
    seen
}

/// Resolves every quarantined nonce, fills every hole, and returns all committed nonces.
async fn fill(nonces: &NonceManager, lane: Lane, seen: &Seen) -> Vec<u64> {
    let mut rng = SplitMix(99);
    for nonce in nonces.quarantined(A) {
        seen.free(nonce);
        if rng.below(2) == 0 {
            nonces.resolve(A, nonce, Settlement::Release).unwrap();
        } else {
            seen.leased(nonce);
            seen.set(nonce, "committed");
            nonces.resolve(A, nonce, Settlement::Commit).unwrap();
        }
    }
    let highest = seen.all("committed").last().copied().unwrap();
    let mut previous = None;
    loop {
        let lease = nonces.lease(A, lane).await.unwrap();
        let nonce = lease.nonce();
        assert!(previous < Some(nonce), "not the lowest first");
        previous = Some(nonce);
        seen.leased(nonce);
        seen.end(lease, u64::MAX);
        if nonce > highest {
            return seen.all("committed");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn sequential_ends_without_gaps() {
    for lane in [Lane::Ordered, Lane::Unordered] {
        let nonces = NonceManager::new(Sequential::starting_at(1).with_next(A, 7));
        let seen = storm(&nonces, lane, |_| None).await;
        let committed = fill(&nonces, lane, &seen).await;
        assert_eq!(committed, (7..7 + committed.len() as u64).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn sequential_ends_without_gaps_also_among_given_nonces() {
    let nonces = NonceManager::new(Sequential::starting_at(1));
    let seen = storm(&nonces, Lane::Ordered, |rng| (rng.below(4) == 0).then(|| 1 + rng.below(3000))).await;
    let committed = fill(&nonces, Lane::Ordered, &seen).await;
    assert_eq!(committed, (1..=committed.len() as u64).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn milliseconds_are_unique_under_a_clock_that_goes_both_ways() {
    let ticks = AtomicU64::new(0);
    let clock = move || {
        let tick = ticks.fetch_add(1, Relaxed);
        1_700_000_000_000 + tick / 100 - if tick.is_multiple_of(7) { 50_000 } else { 0 } + SplitMix(tick).below(3)
    };
    let nonces = NonceManager::new(UnixMillis::with_clock(clock));
    storm(&nonces, Lane::Unordered, |rng| (rng.below(4) == 0).then(|| 1_700_000_000_000 + rng.below(3000))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn given_nonces_are_unique() {
    for lane in [Lane::Ordered, Lane::Unordered] {
        let seen = storm(&NonceManager::new(Given), lane, |rng| Some(rng.below(500))).await;
        assert!(seen.all("committed").last().is_some_and(|nonce| *nonce < 500));
    }
}

#[tokio::test]
async fn given_hands_out_none() {
    let error = NonceManager::new(Given).lease(A, Lane::Unordered).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Nonce);
    assert!(error.hint().unwrap().contains(".nonce(n)"));
}

#[tokio::test]
async fn many_leases_in_one_millisecond_while_the_clock_steps_back() {
    let clock = Arc::new(AtomicU64::new(5_000_000));
    let read = clock.clone();
    let nonces = NonceManager::new(UnixMillis::with_clock(move || read.load(Relaxed)));
    let mut previous = 0;
    for step in 0..1000 {
        let lease = nonces.lease(A, Lane::Unordered).await.unwrap();
        assert!(lease.nonce() > previous);
        previous = lease.nonce();
        if step == 500 {
            clock.store(1, Relaxed);
        }
        // Every other one is released, and none of those comes back.
        if step % 2 == 0 { lease.commit() } else { lease.release() }
    }
    assert_eq!(previous, 5_000_999);
}

#[tokio::test]
async fn a_given_nonce_is_refused_while_it_is_in_use_and_after() {
    let nonces = NonceManager::new(Given);
    let exact = |nonce| nonces.lease_exact(A, Lane::Ordered, nonce);
    let refused = |result: Result<NonceLease>| result.unwrap_err().kind() == ErrorKind::Nonce;

    let lease = exact(5).await.unwrap();
    assert!(refused(exact(5).await));
    lease.release();
    exact(5).await.unwrap().quarantine();
    assert!(refused(exact(5).await));
    nonces.resolve(A, 5, Settlement::Release).unwrap();
    exact(5).await.unwrap().commit();
    assert!(refused(exact(5).await));
    exact(4).await.unwrap().commit();
    assert!(nonces.lease_exact(B, Lane::Ordered, 5).await.is_ok());
}

#[tokio::test]
async fn the_source_leaves_out_given_nonces_and_takes_their_end_as_its_own() {
    let nonces = NonceManager::new(Sequential::starting_at(1));
    let exact = |nonce| nonces.lease_exact(A, Lane::Ordered, nonce);
    let (live, back) = (exact(1).await.unwrap(), exact(2).await.unwrap());
    exact(3).await.unwrap().commit();
    exact(4).await.unwrap().quarantine();
    let next = nonces.lease(A, Lane::Ordered).await.unwrap();
    assert_eq!(next.nonce(), 5);
    // The source had reserved 2 in vain: its release must not leave a gap.
    back.release();
    let refilled = nonces.lease(A, Lane::Ordered).await.unwrap();
    assert_eq!(refilled.nonce(), 2);
    nonces.resolve(A, 4, Settlement::Release).unwrap();
    assert_eq!(nonces.lease(A, Lane::Ordered).await.unwrap().nonce(), 4);
    live.commit();
    assert_eq!(nonces.lease(A, Lane::Ordered).await.unwrap().nonce(), 4);
}

#[tokio::test]
async fn the_largest_number_is_refused() {
    let nonces = NonceManager::new(Given).with_max_jump(u64::MAX);
    let error = nonces.lease_exact(A, Lane::Unordered, u64::MAX).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Nonce);
    nonces.lease_exact(A, Lane::Unordered, u64::MAX - 1).await.unwrap().commit();
    assert!(nonces.lease_exact(A, Lane::Unordered, u64::MAX - 1).await.is_err());

    let nonces = NonceManager::new(Sequential::starting_at(u64::MAX));
    assert_eq!(nonces.lease(A, Lane::Ordered).await.unwrap_err().kind(), ErrorKind::Nonce);
}

#[tokio::test]
async fn jumps_are_bounded() {
    // The first given nonce is measured against where the source stands.
    let nonces = NonceManager::new(Sequential::starting_at(1));
    for lane in [Lane::Ordered, Lane::Unordered] {
        let error = nonces.lease_exact(A, lane, 2 + GAP_FREE_MAX_JUMP).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Nonce);
        nonces.lease_exact(A, lane, 1 + GAP_FREE_MAX_JUMP).await.unwrap().release();
    }
    // A release does not raise the bound, a commit does.
    assert!(nonces.lease_exact(A, Lane::Ordered, 2 + GAP_FREE_MAX_JUMP).await.is_err());
    nonces.lease_exact(A, Lane::Ordered, 1 + GAP_FREE_MAX_JUMP).await.unwrap().commit();
    assert!(nonces.lease_exact(A, Lane::Ordered, 2 + GAP_FREE_MAX_JUMP).await.is_ok());
    assert_eq!(nonces.lease(A, Lane::Ordered).await.unwrap().nonce(), 1);

    let nonces = NonceManager::new(Sequential::starting_at(1)).with_max_jump(10);
    assert!(nonces.lease_exact(A, Lane::Ordered, 12).await.is_err());
    assert!(nonces.lease_exact(A, Lane::Ordered, 11).await.is_ok());

    // Timestamps: microseconds do not pass, numbers below do.
    let nonces = NonceManager::new(UnixMillis::with_clock(|| 1_700_000_000_000));
    assert!(nonces.lease_exact(A, Lane::Unordered, 1_700_000_000_000_000).await.is_err());
    assert!(nonces.lease_exact(A, Lane::Unordered, 1_700_000_000_000 + SPARSE_MAX_JUMP).await.is_ok());
    assert!(nonces.lease_exact(A, Lane::Unordered, 7).await.is_ok());

    // Given: the caller's first one is the baseline, and the bound is the lane's.
    for (lane, jump) in [(Lane::Ordered, GAP_FREE_MAX_JUMP), (Lane::Unordered, SPARSE_MAX_JUMP)] {
        let nonces = NonceManager::new(Given);
        nonces.lease_exact(A, lane, 1 << 50).await.unwrap().commit();
        assert!(nonces.lease_exact(A, lane, (1 << 50) + jump + 1).await.is_err());
        assert!(nonces.lease_exact(A, lane, (1 << 50) + jump).await.is_ok());
    }
}

#[tokio::test]
async fn lanes_do_not_mix() {
    let nonces = NonceManager::new(Sequential::starting_at(1));
    let lease = nonces.lease(A, Lane::Unordered).await.unwrap();
    for error in [
        nonces.check_lane(A, Lane::Ordered).unwrap_err(),
        nonces.lease(A, Lane::Ordered).await.unwrap_err(),
        nonces.lease_exact(A, Lane::Ordered, 9).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Nonce);
        assert!(error.hint().unwrap().contains("one lane per consumer"));
    }
    nonces.check_lane(A, Lane::Unordered).unwrap();
    nonces.check_lane(B, Lane::Ordered).unwrap();
    // Nothing was sent: the lane is open again, and the refusals cost no nonce.
    lease.release();
    let lease = nonces.lease(A, Lane::Ordered).await.unwrap();
    assert_eq!(lease.nonce(), 1);
    lease.commit();
    assert!(nonces.check_lane(A, Lane::Unordered).is_err());
}

#[tokio::test]
async fn an_ordered_lane_takes_no_source_with_gaps() {
    let nonces = NonceManager::new(UnixMillis::new());
    for error in [
        nonces.check_lane(A, Lane::Ordered).unwrap_err(),
        nonces.lease(A, Lane::Ordered).await.unwrap_err(),
        nonces.lease_exact(A, Lane::Ordered, 1).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.hint().is_some());
    }
    nonces.check_lane(A, Lane::Unordered).unwrap();
}

#[tokio::test]
async fn only_the_quarantined_can_be_resolved() {
    let nonces = NonceManager::new(Sequential::starting_at(1));
    let kind = |nonce, settlement| nonces.resolve(A, nonce, settlement).unwrap_err().kind();
    assert_eq!(kind(1, Settlement::Commit), ErrorKind::Nonce);
    let lease = nonces.lease(A, Lane::Ordered).await.unwrap();
    assert_eq!(kind(1, Settlement::Release), ErrorKind::Nonce);
    lease.quarantine();
    assert_eq!(nonces.quarantined(A), [1]);
    assert!(nonces.quarantined(B).is_empty());
    assert_eq!(kind(1, Settlement::Quarantine), ErrorKind::InvalidInput);
    assert_eq!(nonces.resolve(B, 1, Settlement::Commit).unwrap_err().kind(), ErrorKind::Nonce);
    nonces.resolve(A, 1, Settlement::Commit).unwrap();
    assert_eq!(kind(1, Settlement::Commit), ErrorKind::Nonce);
    assert_eq!(nonces.lease(A, Lane::Ordered).await.unwrap().nonce(), 2);
}

/// Three processes draw the numbers of one lane from a database: to each of them the lane has a gap at every number.
#[tokio::test]
async fn an_ordered_lane_numbered_for_several_processes_goes_on_without_end() {
    let nonces = NonceManager::new(Given);
    for nonce in (0..10_000).map(|number| 1 + 3 * number) {
        let mut lease = nonces.lease_exact(A, Lane::Ordered, nonce).await.unwrap();
        lease.mark_signed();
        lease.commit();
    }
    // The latest are known one by one, and none is signed with twice.
    for nonce in [1, 29_989, 29_998] {
        assert_eq!(nonces.lease_exact(A, Lane::Ordered, nonce).await.unwrap_err().kind(), ErrorKind::Nonce);
    }
    assert!(nonces.lease_exact(A, Lane::Ordered, 29_990).await.is_ok());
}

#[tokio::test]
async fn memory_of_an_unordered_lane_is_bounded_and_old_nonces_are_refused() {
    let nonces = NonceManager::new(Given);
    for nonce in (0..10_000).map(|n| n * 2) {
        nonces.lease_exact(A, Lane::Unordered, nonce).await.unwrap().commit();
    }
    let error = nonces.lease_exact(A, Lane::Unordered, 1).await.unwrap_err();
    assert!(error.to_string().contains("still remembered"), "{error}");
    assert!(nonces.lease_exact(A, Lane::Unordered, 19_997).await.is_ok());
}

/// Hands out what it is told to, one per permit, and writes down what it hears.
#[derive(Debug)]
struct Scripted {
    script: Mutex<VecDeque<u64>>,
    permits: Semaphore,
    heard: Mutex<Vec<(u64, Settlement)>>,
}

impl Scripted {
    fn new(script: impl IntoIterator<Item = u64>, permits: usize) -> Arc<Self> {
        let script = Mutex::new(script.into_iter().collect());
        Arc::new(Self { script, permits: Semaphore::new(permits), heard: Mutex::default() })
    }

    fn heard(&self) -> Vec<(u64, Settlement)> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

#[async_trait]
impl NonceSource for Scripted {
    async fn reserve(&self, _: Address) -> Result<u64> {
        self.permits.acquire().await.unwrap().forget();
        let next = self.script.lock().unwrap().pop_front();
        next.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the script is over"))
    }

    fn settle(&self, _: Address, nonce: u64, settlement: Settlement) {
        self.heard.lock().unwrap().push((nonce, settlement));
    }

    fn leaves_gaps(&self) -> bool {
        false
    }

    fn name(&self) -> &'static str {
        "scripted"
    }
}

#[tokio::test]
async fn the_source_hears_of_every_end() {
    use Settlement::{Commit, Quarantine, Release};
    let source = Scripted::new(1..=3, 4);
    let nonces = NonceManager::new(source.clone());
    nonces.lease(A, Lane::Ordered).await.unwrap().commit();
    nonces.lease(A, Lane::Ordered).await.unwrap().quarantine();
    nonces.resolve(A, 2, Release).unwrap();
    nonces.lease(A, Lane::Ordered).await.unwrap().release();
    assert_eq!(source.heard(), [(1, Commit), (2, Quarantine), (2, Release), (3, Release)]);
    // Of given ones: all but a release.
    nonces.lease_exact(A, Lane::Ordered, 10).await.unwrap().release();
    nonces.lease_exact(A, Lane::Ordered, 10).await.unwrap().quarantine();
    nonces.resolve(A, 10, Commit).unwrap();
    nonces.lease_exact(A, Lane::Ordered, 11).await.unwrap().commit();
    assert_eq!(source.heard(), [(10, Quarantine), (10, Commit), (11, Commit)]);
    // The source's own failure comes through as it is.
    assert_eq!(nonces.lease(A, Lane::Ordered).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(source.heard(), []);
}

#[tokio::test]
async fn a_source_that_runs_away_is_stopped_and_gets_its_nonce_back() {
    use Settlement::Release;
    let far = 5 + GAP_FREE_MAX_JUMP;
    let source = Scripted::new([4, u64::MAX, far + 1, far - 1], 4);
    let nonces = NonceManager::new(source.clone());
    assert_eq!(nonces.lease(A, Lane::Ordered).await.unwrap().nonce(), 4);
    for _ in 0..2 {
        assert_eq!(nonces.lease(A, Lane::Ordered).await.unwrap_err().kind(), ErrorKind::Nonce);
    }
    assert_eq!(source.heard(), [(4, Release), (u64::MAX, Release), (far + 1, Release)]);
    assert_eq!(nonces.lease(A, Lane::Ordered).await.unwrap().nonce(), far - 1);
}

#[tokio::test]
async fn a_source_that_repeats_itself_is_found_out() {
    let source = Scripted::new(std::iter::repeat_n(1, 1000), 1000);
    let nonces = NonceManager::new(source.clone());
    let lease = nonces.lease(A, Lane::Ordered).await.unwrap();
    let error = nonces.lease(A, Lane::Ordered).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Nonce);
    assert!(error.to_string().contains("scripted"), "{error}");
    lease.commit();
    assert!(nonces.lease(A, Lane::Ordered).await.is_err());
}

#[tokio::test]
async fn the_lane_is_checked_again_after_the_source_has_answered() {
    let source = Scripted::new([1, 2], 0);
    let nonces = NonceManager::new(source.clone());
    let start = |lane| {
        let nonces = nonces.clone();
        tokio::spawn(async move { nonces.lease(A, lane).await })
    };
    let (ordered, unordered) = (start(Lane::Ordered), start(Lane::Unordered));
    tokio::task::yield_now().await;
    source.permits.add_permits(2);
    let (ordered, unordered) = (ordered.await.unwrap().unwrap(), unordered.await.unwrap().unwrap_err());
    assert_eq!((ordered.nonce(), unordered.kind()), (1, ErrorKind::Nonce));
    assert_eq!(source.heard(), [(2, Settlement::Release)]);
}

#[tokio::test]
async fn a_given_nonce_that_the_source_hands_out_meanwhile_stays_one_lease() {
    let source = Scripted::new([1, 2], 0);
    let nonces = NonceManager::new(source.clone());
    let manager = nonces.clone();
    let waiting = tokio::spawn(async move { manager.lease(A, Lane::Ordered).await });
    tokio::task::yield_now().await;
    let given = nonces.lease_exact(A, Lane::Ordered, 1).await.unwrap();
    source.permits.add_permits(2);
    assert_eq!(waiting.await.unwrap().unwrap().nonce(), 2);
    given.release();
    assert_eq!(source.heard(), [(2, Settlement::Release), (1, Settlement::Release)]);
}

#[derive(Clone, Debug)]
enum Op {
    Lease,
    Exact(u64),
    End(usize, u64),
    Resolve(usize, bool),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => Just(Op::Lease),
        2 => (0_u64..40).prop_map(Op::Exact),
        4 => (any::<usize>(), 0_u64..9).prop_map(|(which, how)| Op::End(which, how)),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, commit)| Op::Resolve(which, commit)),
    ];
    prop::collection::vec(op, 0..120)
}

proptest! {
    /// The model: the next nonce is the lowest from the start that is not leased, committed or quarantined.
    #[test]
    fn sequential_does_as_the_model(start in 0_u64..8, ops in ops()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let nonces = NonceManager::new(Sequential::starting_at(start));
            let seen = Seen::default();
            let mut leases = Vec::new();
            for op in ops {
                let taken: BTreeSet<u64> = seen.0.lock().unwrap().keys().copied().collect();
                match op {
                    Op::Lease => {
                        let lease = nonces.lease(A, Lane::Ordered).await.unwrap();
                        prop_assert_eq!(Some(lease.nonce()), (start..).find(|nonce| !taken.contains(nonce)));
                        seen.leased(lease.nonce());
                        leases.push(lease);
                    }
                    Op::Exact(nonce) => {
                        let lease = nonces.lease_exact(A, Lane::Ordered, nonce).await;
                        prop_assert_eq!(lease.is_err(), taken.contains(&nonce));
                        if let Ok(lease) = lease {
                            seen.leased(nonce);
                            leases.push(lease);
                        }
                    }
                    Op::End(which, how) if !leases.is_empty() => {
                        let lease = leases.swap_remove(which % leases.len());
                        seen.end(lease, how);
                    }
                    Op::Resolve(which, commit) => {
                        let quarantined = nonces.quarantined(A);
                        prop_assert_eq!(&quarantined, &seen.all("quarantined"));
                        if !quarantined.is_empty() {
                            let nonce = quarantined[which % quarantined.len()];
                            seen.free(nonce);
                            if commit {
                                seen.leased(nonce);
                                seen.set(nonce, "committed");
                            }
                            let settlement = if commit { Settlement::Commit } else { Settlement::Release };
                            nonces.resolve(A, nonce, settlement).unwrap();
                        }
                    }
                    Op::End(..) => {}
                }
            }
            Ok(())
        })?;
    }
}
