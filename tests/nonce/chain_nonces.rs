//! Nonces from the chain: no nonce twice, no gap, and none that others have.
#![cfg(feature = "client")]

use std::{collections::BTreeSet, future::Future, pin::pin, sync::Arc, task::Poll, time::Duration};

use infinityvm_sdk::{
    ErrorKind, JobId, LocalSigner, OffchainJobRequest, ProgramId, Revision, SignedJob,
    chain::{Answer, ChainNonces, OnchainStatus, Question},
    devnode::{ConsumerRules, DevNode},
    nonce::{Lane, NonceManager, NonceSource, Settlement},
    primitives::{Address, B256, Bytes, SolValue},
};

use support::tapped::{Tapped, job_status, returning};

const A: Address = Address::repeat_byte(0xa);
const B: Address = Address::repeat_byte(0xb);
const LONG: Duration = Duration::from_secs(3600);
const NEXT_NONCE: &str = "getNextNonce()";

fn signer() -> LocalSigner {
    LocalSigner::from_bytes([1; 32]).unwrap()
}

fn rules() -> ConsumerRules {
    ConsumerRules::signed_by(signer().address())
}

/// The chain of a node that is gone.
async fn chain() -> Tapped {
    let node = DevNode::builder(Revision::Relay).consumer(A, rules()).consumer(B, rules()).start().await.unwrap();
    Tapped::new(node.chain())
}

/// The highest nonce that a consumer has seen.
fn seen(chain: &Tapped, consumer: Address, nonce: u64) {
    chain.sim.deploy(consumer, rules().with_max_nonce(nonce));
}

/// A request on chain has the nonce.
fn requested(chain: &Tapped, nonce: u64) {
    chain.request(A, rules(), nonce);
}

fn cancelled(chain: &Tapped, nonce: u64) {
    requested(chain, nonce);
    assert!(chain.sim.cancel(JobId::derive(nonce, A).into()));
}

fn source(chain: &Tapped, max_age: Duration) -> ChainNonces {
    ChainNonces::new(chain.chain()).with_max_age(max_age)
}

/// The word that A's next nonce is this, and the one before it the highest that A has seen.
fn next_is(nonce: u64) -> impl Fn(&Question) -> Option<infinityvm_sdk::Result<Answer>> + Send + Sync + 'static {
    let (next, highest) =
        (returning(NEXT_NONCE, nonce.abi_encode()), returning("maxNonce()", (nonce - 1).abi_encode()));
    move |question| next(question).or_else(|| highest(question))
}

async fn reserve(source: &ChainNonces, count: usize) -> Vec<u64> {
    let mut nonces = Vec::new();
    for _ in 0..count {
        nonces.push(source.reserve(A).await.unwrap());
    }
    nonces
}

async fn signed(nonce: u64, input: &[u8]) -> SignedJob {
    let job = OffchainJobRequest::builder(A, ProgramId::new(vec![1])).max_cycles(5).onchain_input(input.to_vec());
    job.build().unwrap().prepare(Revision::Relay, nonce).unwrap().sign(&signer()).await.unwrap()
}

#[tokio::test]
async fn it_begins_where_the_contract_says_and_reads_once_in_a_while() {
    let chain = chain().await;
    seen(&chain, A, 41);
    let source = source(&chain, LONG);
    assert_eq!(source.peek(A).await.unwrap(), Some(42));
    assert_eq!(reserve(&source, 5).await, [42, 43, 44, 45, 46]);
    // One to peek, and one with the candidate.
    assert_eq!(chain.rpc().asked, 2);
    assert_eq!(source.reserve(B).await.unwrap(), 1);
    assert_eq!(chain.rpc().asked, 4);
    assert!(!source.leaves_gaps());
}

#[tokio::test]
async fn what_is_under_way_is_not_handed_out_again() {
    let chain = chain().await;
    let source = source(&chain, Duration::ZERO);
    assert_eq!(reserve(&source, 3).await, [1, 2, 3]);
    // The chain has seen only the first: its next nonce is one that is under way.
    chain.land(&signed(1, b"another").await, b"out");
    source.settle(A, 1, Settlement::Commit);
    let asked = chain.rpc().asked;
    assert_eq!(reserve(&source, 2).await, [4, 5]);
    assert_eq!(chain.rpc().asked - asked, 2, "one round trip for each");
}

#[tokio::test]
async fn nonces_that_others_took_are_passed_over() {
    let chain = chain().await;
    let source = source(&chain, Duration::ZERO);
    assert_eq!(reserve(&source, 2).await, [1, 2]);
    for nonce in 3..=6 {
        requested(&chain, nonce);
    }
    assert_eq!(reserve(&source, 2).await, [7, 8]);
    // A job that exists although the next nonce does not show it.
    cancelled(&chain, 9);
    seen(&chain, A, 8);
    assert_eq!(reserve(&source, 2).await, [10, 11]);
}

#[tokio::test]
async fn holes_are_handed_out_first_unless_the_chain_has_passed_them() {
    let chain = chain().await;
    let source = source(&chain, Duration::ZERO);
    assert_eq!(reserve(&source, 6).await, [1, 2, 3, 4, 5, 6]);
    for nonce in [2, 4, 5] {
        source.settle(A, nonce, Settlement::Release);
    }
    assert_eq!(reserve(&source, 1).await, [2]);
    source.settle(A, 2, Settlement::Release);
    // An on-chain request took nonce 4: 2 and 4 are gone, for an Ordered lane at least.
    requested(&chain, 4);
    assert_eq!(reserve(&source, 2).await, [5, 7]);
    source.settle(A, 3, Settlement::Release);
    assert_eq!(reserve(&source, 1).await, [8]);
}

#[tokio::test]
async fn a_next_nonce_that_is_absurd_is_not_believed_and_not_remembered() {
    let chain = chain().await;
    let source = source(&chain, Duration::ZERO);
    assert_eq!(reserve(&source, 2).await, [1, 2]);
    for absurd in [u64::MAX - 1, (1 << 20) + 3] {
        seen(&chain, A, absurd);
        let refused = [source.reserve(A).await.unwrap_err(), source.reconcile(A, &[]).await.unwrap_err()];
        for error in refused {
            assert!(error.kind() == ErrorKind::Nonce && error.is_retryable(), "{}", error.report());
            assert!(error.to_string().contains(&(absurd + 1).to_string()), "{error}");
        }
        assert_eq!(source.peek(A).await.unwrap(), Some(3));
    }
    // As far as a consumer may have gone.
    seen(&chain, A, 1 << 20);
    assert_eq!(reserve(&source, 1).await, [(1 << 20) + 1]);
    // What callers chose themselves is known, too.
    source.settle(A, 2 << 20, Settlement::Quarantine);
    source.settle(A, 3 << 20, Settlement::Commit);
    seen(&chain, A, 3 << 20);
    assert_eq!(reserve(&source, 1).await, [(3 << 20) + 1]);
    // And what is allowed is.
    seen(&chain, A, 1 << 40);
    let clone = source.clone().with_max_jump(1 << 41);
    assert_eq!(reserve(&clone, 1).await, [(1 << 40) + 1]);
    assert_eq!(reserve(&source, 1).await, [(1 << 40) + 2], "they share what they know");
    // The first word is all that there is.
    seen(&chain, B, 1 << 40);
    assert_eq!(source.reserve(B).await.unwrap(), (1 << 40) + 1);
}

#[tokio::test]
async fn doubt_makes_it_look_again() {
    let chain = chain().await;
    let source = Arc::new(source(&chain, LONG));
    assert_eq!(reserve(&source, 2).await, [1, 2]);
    let asked = chain.rpc().asked;
    source.settle(A, 1, Settlement::Quarantine);
    requested(&chain, 3);
    assert_eq!(reserve(&source, 1).await, [4]);
    assert!(chain.rpc().asked > asked);
    requested(&chain, 5);
    assert_eq!(reserve(&source, 1).await, [5], "within its age it does not look");
    let through_arc: &dyn NonceSource = &source;
    through_arc.taken_by_others(A, 5);
    assert_eq!(reserve(&source, 1).await, [6]);
    requested(&chain, 7);
    through_arc.taken_by_others(A, 7);
    assert_eq!(reserve(&source, 1).await, [8]);
}

#[tokio::test]
async fn reconciling_tells_who_has_what() {
    let chain = chain().await;
    let source = source(&chain, LONG);
    assert_eq!(reserve(&source, 7).await, [1, 2, 3, 4, 5, 6, 7]);
    let (ours, other, unknown) = (signed(1, b"ours").await, signed(2, b"other").await, signed(7, b"open").await);
    chain.land(&ours, b"out");
    chain.land(&signed(2, b"not the other").await, b"out");
    chain.land(&signed(3, b"another").await, b"out");
    requested(&chain, 4);
    cancelled(&chain, 5);
    let clean = ChainNonces::new(chain.chain());
    clean.reserve(B).await.unwrap();
    let asked_for_b = chain.rpc().asked;
    clean.reconcile(B, &[]).await.unwrap();
    assert_eq!(chain.rpc().asked - asked_for_b, 1, "good news is told at once");
    let asked = chain.rpc().asked;
    let found = source.reconcile(A, &[ours.clone(), other, unknown]).await.unwrap();
    assert_eq!(chain.rpc().asked - asked, 2, "what others have is read once more");
    assert_eq!((found.next_on_chain, found.next), (6, 8));
    assert_eq!(found.relayed, [1]);
    let taken = [(2, OnchainStatus::Completed), (4, OnchainStatus::Pending), (5, OnchainStatus::Cancelled)];
    assert_eq!(found.taken, taken);
    assert_eq!(found.completed, [3]);
    assert_eq!(found.open, [6, 7]);
    // What is complete is told once, what others have again.
    let again = source.reconcile(A, &[ours]).await.unwrap();
    assert_eq!((again.relayed, again.completed, again.open), (vec![], vec![], vec![6, 7]));
    assert_eq!(
        again.taken.iter().map(|(nonce, _)| *nonce).collect::<Vec<_>>(),
        [4, 5],
        "of 2 the job is not given now"
    );
}

/// A nonce that is given up is never handed out again, and an Ordered lane waits for it: what was said once gives up
/// none.
#[tokio::test]
async fn what_is_said_once_gives_no_nonce_up() {
    // A next nonce of a block that was given up, at the first reading, before the source knows anything.
    let chain = chain().await;
    let fresh = source(&chain, Duration::ZERO);
    chain.mistake(0, next_is(7));
    assert_eq!(reserve(&fresh, 2).await, [1, 2]);
    // And later.
    chain.mistake(0, next_is(41));
    assert_eq!(reserve(&fresh, 1).await, [3]);
    chain.mistake(0, next_is(41));
    chain.mistake(0, next_is(21));
    assert_eq!(reserve(&fresh, 1).await, [21], "both said that 20 is used");
    // Somebody has the candidate, once.
    let taken = |nonce: u64| job_status(JobId::derive(nonce, A).into(), 1);
    seen(&chain, A, 20);
    chain.mistake(0, taken(22));
    assert_eq!(reserve(&fresh, 1).await, [22]);
    // And for good.
    chain.mistake(0, taken(23));
    chain.mistake(0, taken(23));
    assert_eq!(reserve(&fresh, 1).await, [24]);
}

#[tokio::test]
async fn what_is_said_once_is_not_told_by_a_reconciliation() {
    let ours = signed(1, b"ours").await;
    let id = B256::from(ours.id());
    // None of its inputs, some of them, another's; cancelled; in one batch.
    for mistake in 0..4 {
        // What is complete is told once, so each time by another source, to which the nonce was open.
        let chain = chain().await;
        let source = source(&chain, LONG);
        assert_eq!(reserve(&source, 2).await, [1, 2]);
        chain.land(&ours, b"out");
        let zero = || returning("getOffchainInputHashForJob(bytes32)", B256::ZERO.abi_encode());
        let input =
            |input: &[u8]| returning("getOnchainInputForJob(bytes32)", Bytes::copy_from_slice(input).abi_encode());
        match mistake {
            0 => {
                let (zero, empty) = (zero(), input(b""));
                chain.mistake(0, move |question| zero(question).or_else(|| empty(question)));
            }
            1 => chain.mistake(0, zero()),
            2 => chain.mistake(0, input(b"else")),
            _ => chain.mistake(0, job_status(id, 2)),
        }
        let found = source.reconcile(A, std::slice::from_ref(&ours)).await.unwrap();
        assert_eq!((&found.relayed[..], &found.open[..]), (&[1][..], &[2][..]), "{found:?}");
        assert!(found.taken.is_empty() && found.completed.is_empty(), "{found:?}");
    }
    // Of two minds for as long as it is asked: nothing is told.
    let chain = chain().await;
    let source = source(&chain, LONG);
    assert_eq!(chain.sim.take_nonce(B), Some(1));
    assert_eq!(source.reserve(B).await.unwrap(), 2);
    for after in [0, 1, 1] {
        chain.mistake(after, job_status(JobId::derive(2, B).into(), 1));
    }
    let error = source.reconcile(B, &[]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Chain && error.is_retryable(), "{}", error.report());
    assert!(error.to_string().contains("contradicts itself"), "{error}");
    chain.no_mistakes();
    assert_eq!(source.reconcile(B, &[]).await.unwrap().open, [2]);
}

#[tokio::test]
async fn a_contract_with_numbers_of_its_own_needs_a_source_with_gaps() {
    let chain = chain().await;
    chain.returns(NEXT_NONCE, 1_800_000_000_u64.abi_encode());
    let error = source(&chain, LONG).reserve(A).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Nonce);
    assert!(error.hint().unwrap().contains("with_gaps"));

    let sparse = source(&chain, Duration::ZERO).with_gaps();
    assert!(sparse.leaves_gaps());
    assert_eq!(reserve(&sparse, 2).await, [1_800_000_000, 1_800_000_001]);
    chain.returns(NEXT_NONCE, 1_800_000_060_u64.abi_encode());
    assert_eq!(reserve(&sparse, 1).await, [1_800_000_060]);
    let manager = NonceManager::new(sparse);
    assert_eq!(manager.lease(A, Lane::Ordered).await.unwrap_err().kind(), ErrorKind::InvalidConfig);
    chain.returns(NEXT_NONCE, 1_900_000_000_u64.abi_encode());
    assert_eq!(manager.lease(A, Lane::Unordered).await.unwrap().nonce(), 1_900_000_000);
}

#[tokio::test]
async fn a_chain_that_cannot_be_read_hands_out_nothing() {
    let chain = chain().await;
    let source = source(&chain, Duration::ZERO);
    assert_eq!(reserve(&source, 1).await, [1]);
    chain.rpc().down = true;
    let error = source.reserve(A).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Chain && error.is_retryable());
    assert!(source.reconcile(A, &[]).await.is_err());
    chain.rpc().down = false;
    assert_eq!(reserve(&source, 1).await, [2]);
    let nowhere = Address::repeat_byte(0xee);
    assert_eq!(source.reserve(nowhere).await.unwrap_err().kind(), ErrorKind::Chain);
}

#[tokio::test]
async fn the_largest_number_is_never_handed_out() {
    let chain = chain().await;
    seen(&chain, A, u64::MAX - 2);
    let source = source(&chain, Duration::ZERO);
    assert_eq!(reserve(&source, 1).await, [u64::MAX - 1]);
    for _ in 0..2 {
        assert_eq!(source.reserve(A).await.unwrap_err().kind(), ErrorKind::Nonce);
    }
}

/// Dropped at each of its awaits, a reservation keeps nothing, and leaves no gap.
#[tokio::test]
async fn a_reservation_that_is_dropped_keeps_nothing() {
    for polls in 0..12 {
        let chain = chain().await;
        let source = source(&chain, Duration::ZERO);
        {
            let mut reservation = pin!(source.reserve(A));
            for _ in 0..polls {
                let done = std::future::poll_fn(|cx| Poll::Ready(reservation.as_mut().poll(cx))).await;
                if let Poll::Ready(nonce) = done {
                    // It ended before it could be dropped.
                    source.settle(A, nonce.unwrap(), Settlement::Release);
                    break;
                }
            }
        }
        assert_eq!(reserve(&source, 3).await, [1, 2, 3], "after {polls} polls");
    }
}

/// 64 tasks, some of which give nonces back or go away, while the chain moves on below them and the consumer makes on-chain
/// requests. With and without an age.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_tasks_get_no_nonce_twice_and_leave_no_gap() {
    for max_age in [Duration::ZERO, Duration::from_millis(3), LONG] {
        let chain = chain().await;
        let manager = NonceManager::new(source(&chain, max_age));
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..64_u64 {
            let (manager, chain) = (manager.clone(), chain.clone());
            tasks.spawn(async move {
                let mut kept = Vec::new();
                for round in 0..20_u64 {
                    if (task + round).is_multiple_of(7) {
                        let dropped =
                            tokio::time::timeout(Duration::from_micros(round * 40), manager.lease(A, Lane::Ordered));
                        drop(dropped.await);
                        continue;
                    }
                    let mut lease = manager.lease(A, Lane::Ordered).await.unwrap();
                    if (task + round).is_multiple_of(5) {
                        continue;
                    }
                    lease.mark_signed();
                    kept.push(lease.nonce());
                    tokio::task::yield_now().await;
                    lease.commit();
                }
                _ = chain;
                kept
            });
        }
        let mut all = BTreeSet::new();
        while let Some(kept) = tasks.join_next().await {
            for nonce in kept.unwrap() {
                assert!(all.insert(nonce), "nonce {nonce} twice");
            }
        }
        // What was given back at the end is what is handed out next: all of it together is one run.
        let top = *all.last().unwrap();
        while all.len() < usize::try_from(top).unwrap() {
            let lease = manager.lease(A, Lane::Ordered).await.unwrap();
            assert!(lease.nonce() < top && all.insert(lease.nonce()), "nonce {}", lease.nonce());
            lease.commit();
        }
        assert!(all.iter().copied().eq(1..=top), "max age {max_age:?}");
    }
}

#[tokio::test]
async fn many_callers_of_a_slow_chain_wait_for_their_turn() {
    let chain = chain().await;
    let source = source(&chain, Duration::ZERO);
    assert_eq!(reserve(&source, 1).await, [1]);
    tokio::time::pause();
    // The last one waits for far longer than for one reader that hangs.
    chain.rpc().pause = Duration::from_millis(200);
    let before = chain.rpc().asked;
    let reserved = futures_util::future::join_all((0..200).map(|_| source.reserve(A))).await;
    let nonces: BTreeSet<_> = reserved.into_iter().map(|nonce| nonce.unwrap()).collect();
    assert_eq!(nonces, (2..=201).collect());
    assert_eq!(chain.rpc().asked - before, 200, "nobody reads for a nonce that another one takes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_tasks_beside_on_chain_requests() {
    let chain = chain().await;
    let manager = NonceManager::new(source(&chain, Duration::ZERO));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..64_u64 {
        let (manager, chain) = (manager.clone(), chain.clone());
        tasks.spawn(async move {
            let mut kept = Vec::new();
            for _ in 0..5 {
                if task % 8 == 0 {
                    // The consumer takes the next nonce far above, as others have been relayed meanwhile.
                    let next = chain.sim.max_nonce(A).unwrap() + 11;
                    requested(&chain, next);
                }
                let lease = manager.lease(A, Lane::Ordered).await.unwrap();
                kept.push(lease.nonce());
                lease.commit();
            }
            kept
        });
    }
    let mut all = BTreeSet::new();
    while let Some(kept) = tasks.join_next().await {
        for nonce in kept.unwrap() {
            assert!(all.insert(nonce), "nonce {nonce} twice");
        }
    }
    assert_eq!(all.len(), 64 * 5);
}

/// After a restart, what is under way is resumed first; then nothing of it is handed out again.
#[tokio::test]
async fn given_nonces_are_left_out() {
    let chain = chain().await;
    seen(&chain, A, 10);
    let manager = NonceManager::new(source(&chain, LONG));
    for nonce in [11, 12, 14] {
        manager.lease_exact(A, Lane::Ordered, nonce).await.unwrap().commit();
    }
    let mut nonces = Vec::new();
    for _ in 0..3 {
        let lease = manager.lease(A, Lane::Ordered).await.unwrap();
        nonces.push(lease.nonce());
        lease.commit();
    }
    assert_eq!(nonces, [13, 15, 16]);
}
