//! Jobs that a node fails, forgets, or has another payload for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use infinityvm_sdk::{
    JobStatus, LocalSigner, OffchainJobRequest, Outcome, ProgramId, RelayStrategy, Revision, SignedJob,
    devnode::{Loss, ProgramOutput},
    outbox::{AfterFailure, EventKind, HoldReason, JobProgress, LaneStatus, Outbox, PayloadKind},
    rpc::{Method, StatusCode},
};
use support::harness::within;

use crate::rig::{FAILS, Rig, hear, told, too_long};

const ORDERED: RelayStrategy = RelayStrategy::Ordered;
const UNORDERED: RelayStrategy = RelayStrategy::Unordered;
/// More than any of these jobs takes.
const MINUTE: Duration = Duration::from_secs(60);

async fn lane(outbox: &Outbox) -> LaneStatus {
    outbox.status().await.unwrap().lanes.remove(0)
}

/// Until the lane is as wanted.
async fn until(outbox: &Outbox, wanted: impl Fn(&LaneStatus) -> bool) -> LaneStatus {
    loop {
        let lane = lane(outbox).await;
        if wanted(&lane) {
            return lane;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A program that fails the first time, and how often it ran.
fn flaky(rig: &Rig) -> (ProgramId, Arc<AtomicUsize>) {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let program = rig.node.register_program(move |_| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => Ok(too_long()),
        _ => Ok(ProgramOutput::new(b"done".to_vec())),
    });
    (ProgramId::new(program), runs)
}

#[tokio::test]
async fn a_job_that_failed_is_sent_again_as_it_is() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let (flaky, runs) = flaky(&rig);
        let outbox = rig.outbox(rig.lane(ORDERED)).await;
        let job = OffchainJobRequest::builder(rig.consumer, flaky).max_cycles(1_000).relay(ORDERED);
        outbox.enqueue(job.build().unwrap()).await.unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        let event = &hear(&mut results, 1).await[0];
        assert_eq!((event.nonce(), told(event)), (Some(1), (EventKind::Result, Some(b"done".to_vec()))));
        assert_eq!(runs.load(Ordering::SeqCst), 2);
        assert_eq!(rig.node.stats().submissions(rig.id(1)), 2);
    })
    .await;
}

#[tokio::test]
async fn an_ordered_lane_stops_at_what_fails_for_good_and_a_person_mends_it() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let filler = rig.job(ORDERED, b"nothing");
        let outbox = rig.outbox(rig.lane(ORDERED).with_filler(move |_| Ok(filler.clone()))).await;
        let mut tickets = Vec::new();
        for input in [&[FAILS][..], b"2", &[FAILS, 3], b"4"] {
            tickets.push(outbox.enqueue(rig.job(ORDERED, input)).await.unwrap());
        }
        let mut results = outbox.results("bill").await.unwrap();
        let lane = until(&outbox, |lane| lane.held == 2).await;
        assert_eq!(lane.halted.as_ref().unwrap().reason, HoldReason::Failed);
        assert!(lane.log.iter().any(|entry| entry.what == "halted") && !lane.log.is_empty());
        let held = outbox.job(tickets[0]).await.unwrap().unwrap();
        assert_eq!((held.held, held.progress, held.failures), (Some(HoldReason::Failed), JobProgress::UnderWay, 1));
        assert!(held.note.is_some());
        assert!(results.try_next().await.unwrap().is_none(), "nothing is told out of order");
        // One gets another payload, the other is given up, and its nonce filled.
        outbox.replace(tickets[0], rig.job(ORDERED, b"1"), "the input was wrong").await.unwrap();
        outbox.abandon(tickets[2], "of no use").await.unwrap();
        assert!(outbox.resume(rig.consumer, "mended").await.unwrap());
        let events = hear(&mut results, 4).await;
        let heard: Vec<_> = events.iter().map(|event| (event.ticket(), told(event))).collect();
        let result = |output: &[u8]| (EventKind::Result, Some(output.to_vec()));
        assert_eq!(
            heard,
            [
                (tickets[0], result(b"1")),
                (tickets[1], result(b"2")),
                (tickets[2], (EventKind::Abandoned, None)),
                (tickets[3], result(b"4")),
            ]
        );
        assert_eq!(events[2].reason(), Some("of no use"));
        let lane = until(&outbox, |lane| lane.over == 4).await;
        assert!(lane.halted.is_none());
        // Every payload that was signed is known, and which one landed.
        let expected = [b"1".to_vec(), b"2".to_vec(), b"nothing".to_vec(), b"4".to_vec()];
        assert_eq!(rig.landed().into_iter().map(|(_, result)| result).collect::<Vec<_>>(), expected);
        let kinds = |status: &infinityvm_sdk::outbox::TicketStatus| {
            status.payloads.iter().map(|payload| (payload.kind, payload.current)).collect::<Vec<_>>()
        };
        let second = outbox.job(tickets[2]).await.unwrap().unwrap();
        assert_eq!(kinds(&second), [(PayloadKind::Original, false), (PayloadKind::Filler, true)]);
    })
    .await;
}

#[tokio::test]
async fn failures_are_mended_by_the_lanes_policy() {
    within(async {
        for (after, heard, landed) in [
            (AfterFailure::Replace, EventKind::Result, &b"instead"[..]),
            (AfterFailure::Fill, EventKind::Failed, b"nothing"),
        ] {
            let rig = Rig::new(Revision::Relay).await;
            let (instead, nothing) = (rig.job(ORDERED, b"instead"), rig.job(ORDERED, b"nothing"));
            let lane = rig.lane(ORDERED).with_after_failure(after);
            let lane = lane.with_replacement(move |failed| {
                assert_eq!((failed.nonce, failed.job.onchain_input().as_ref()), (1, &[FAILS][..]));
                assert!(!failed.reason.is_empty());
                Ok(instead.clone())
            });
            let outbox = rig.outbox(lane.with_filler(move |_| Ok(nothing.clone()))).await;
            outbox.enqueue(rig.job(ORDERED, &[FAILS])).await.unwrap();
            outbox.enqueue(rig.job(ORDERED, b"2")).await.unwrap();
            let mut results = outbox.results("bill").await.unwrap();
            let events = hear(&mut results, 2).await;
            assert_eq!((events[0].kind(), events[1].kind()), (heard, EventKind::Result), "{after:?}");
            until(&outbox, |lane| lane.over == 2).await;
            assert_eq!(rig.landed(), [(1, landed.to_vec()), (2, b"2".to_vec())], "{after:?}");
        }
    })
    .await;
}

/// As where another instance has put the payload in the place of one that this instance's client has tried to send.
#[tokio::test]
async fn what_a_client_holds_of_a_replaced_payload_is_in_nobodys_way() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let client = rig.client().await;
        let outbox = Outbox::builder(client.clone(), rig.store().await).lane(rig.lane(ORDERED)).start().await.unwrap();
        let ticket = outbox.enqueue(rig.job(ORDERED, &[FAILS])).await.unwrap();
        until(&outbox, |lane| lane.held == 1).await;
        let old = rig.job(ORDERED, &[FAILS]).prepare(Revision::Relay, 1).unwrap().sign(&rig.signer).await.unwrap();
        rig.node.faults().drop_replies(Method::SubmitJob, 1, Loss::ResetStream);
        rig.node.faults().refuse(Method::GetResult, 100, StatusCode::PERMISSION_DENIED, "not now");
        let error = client.submit_signed(old.clone()).await.unwrap_err();
        assert_eq!((error.outcome(), client.unresolved()), (Outcome::Unknown, vec![old.clone()]));
        rig.node.faults().clear();
        // The node has it run once more, and refuses another payload until that has failed, too.
        let seen = rig.client().await.resume(old).unwrap();
        while *seen.record().await.unwrap().status() == JobStatus::Pending {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        outbox.replace(ticket, rig.job(ORDERED, b"1"), "the input was wrong").await.unwrap();
        outbox.resume(rig.consumer, "mended").await.unwrap();
        until(&outbox, |lane| lane.over == 1).await;
        assert_eq!(rig.landed(), [(1, b"1".to_vec())]);
    })
    .await;
}

#[tokio::test]
async fn in_an_unordered_lane_a_failure_is_told() {
    within(async {
        for revision in [Revision::Relay, Revision::State] {
            let rig = Rig::new(revision).await;
            let outbox = rig.outbox(rig.lane(UNORDERED)).await;
            outbox.enqueue(rig.job(UNORDERED, &[FAILS])).await.unwrap();
            outbox.enqueue(rig.job(UNORDERED, b"2")).await.unwrap();
            let mut results = outbox.results("bill").await.unwrap();
            let mut events = hear(&mut results, 2).await;
            events.sort_by_key(|event| event.nonce());
            let kinds: Vec<_> = events.iter().map(|event| event.kind()).collect();
            assert_eq!(kinds, [EventKind::Failed, EventKind::Result]);
            let runs = rig.node.stats().executions(rig.id(1));
            assert_eq!(runs, if revision == Revision::Relay { 2 } else { 1 }, "{revision}");
        }
    })
    .await;
}

#[tokio::test]
async fn in_the_state_revision_a_failed_job_may_move_to_a_new_nonce() {
    within(async {
        let rig = Rig::new(Revision::State).await;
        let (flaky, _) = flaky(&rig);
        let outbox =
            rig.outbox(rig.lane(UNORDERED).with_after_failure(AfterFailure::Renumber).with_patience(MINUTE)).await;
        let job = OffchainJobRequest::builder(rig.consumer, flaky).max_cycles(1_000).build().unwrap();
        let ticket = outbox.enqueue(job).await.unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        let event = &hear(&mut results, 1).await[0];
        assert_eq!((event.nonce(), told(event)), (Some(2), (EventKind::Result, Some(b"done".to_vec()))));
        let status = outbox.job(ticket).await.unwrap().unwrap();
        let payloads: Vec<_> = status.payloads.iter().map(|payload| (payload.kind, payload.nonce)).collect();
        assert_eq!(payloads, [(PayloadKind::Original, Some(1)), (PayloadKind::Renumbered, Some(2))]);
        assert_eq!(lane(&outbox).await.log[0].what, "renumbered");
    })
    .await;
}

#[tokio::test]
async fn what_a_restarted_node_has_forgotten_is_sent_again() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let held = rig.node.faults().hold_executions();
        let outbox = rig.outbox(rig.lane(ORDERED)).await;
        for input in [b"1", b"2", b"3"] {
            outbox.enqueue(rig.job(ORDERED, input)).await.unwrap();
        }
        held.arrived(3).await;
        held.open();
        rig.node.faults().clear();
        rig.node.restart();
        let mut results = outbox.results("bill").await.unwrap();
        let events = hear(&mut results, 3).await;
        assert_eq!(events.iter().map(|event| event.nonce()).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
        assert_eq!(rig.landed().len(), 3);
    })
    .await;
}

/// Somebody else signs for the consumer, and takes the nonce first.
async fn stranger(rig: &Rig, nonce: u64, strategy: RelayStrategy) -> SignedJob {
    let job = rig.job(strategy, b"stranger");
    let signed = job.prepare(rig.node.revision(), nonce).unwrap().sign(&rig.signer).await.unwrap();
    let client = rig.client().await;
    let handle = client.submit_signed(signed.clone()).await.unwrap();
    handle.wait(infinityvm_sdk::Until::Relayed).await.unwrap();
    signed
}

#[tokio::test]
async fn a_nonce_that_somebody_took_moves_an_unordered_job_and_stops_an_ordered_lane() {
    within(async {
        for revision in [Revision::Relay, Revision::State] {
            let rig = Rig::new(revision).await;
            let outbox = rig.outbox(rig.lane(UNORDERED)).await;
            stranger(&rig, 1, UNORDERED).await;
            let ticket = outbox.enqueue(rig.job(UNORDERED, b"x")).await.unwrap();
            let mut results = outbox.results("bill").await.unwrap();
            let event = &hear(&mut results, 1).await[0];
            assert_eq!((event.ticket(), event.nonce()), (ticket, Some(2)), "{revision}");
            assert_eq!(rig.landed(), [(1, b"stranger".to_vec()), (2, b"x".to_vec())]);
        }
        let rig = Rig::new(Revision::Relay).await;
        let outbox = rig.outbox(rig.lane(ORDERED)).await;
        stranger(&rig, 1, ORDERED).await;
        let ticket = outbox.enqueue(rig.job(ORDERED, b"x")).await.unwrap();
        let lane = until(&outbox, |lane| lane.held == 1).await;
        assert_eq!(lane.halted.unwrap().reason, HoldReason::NonceTaken);
        // A person decides that the order does not matter.
        outbox.renumber(ticket, "taken by a stranger").await.unwrap();
        outbox.resume(rig.consumer, "moved").await.unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        assert_eq!(hear(&mut results, 1).await[0].nonce(), Some(2));
    })
    .await;
}

/// A node that is past a nonce refuses it, and the chain has nothing under it: the job never lands there, and sending it
/// again helps nobody.
#[tokio::test]
async fn an_ordered_lane_stops_at_a_nonce_that_the_node_is_past() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let outbox = rig.outbox(rig.lane(ORDERED)).await;
        // A nonce beyond a gap: the contract counts on from there, and with it a node that has just started.
        stranger(&rig, 2, UNORDERED).await;
        rig.node.restart();
        let ticket = outbox.enqueue(rig.job(ORDERED, b"x")).await.unwrap();
        let lane = until(&outbox, |lane| lane.held == 1).await;
        assert_eq!(lane.halted.unwrap().reason, HoldReason::NoncePassed);
        assert_eq!(rig.node.stats().submissions(rig.id(1)), 1);
        outbox.skip_nonces(rig.consumer, 3, "the contract is there").await.unwrap();
        outbox.renumber(ticket, "the node is past its nonce").await.unwrap();
        outbox.resume(rig.consumer, "moved").await.unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        assert_eq!(hear(&mut results, 1).await[0].nonce(), Some(3));
    })
    .await;
}

#[tokio::test]
async fn with_append_an_ordered_job_goes_to_the_end_of_its_lane() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let outbox = rig.outbox(rig.lane(ORDERED).with_append(true)).await;
        stranger(&rig, 1, ORDERED).await;
        outbox.enqueue(rig.job(ORDERED, b"x")).await.unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        let event = &hear(&mut results, 1).await[0];
        assert_eq!((event.nonce(), told(event)), (Some(2), (EventKind::Result, Some(b"x".to_vec()))));
    })
    .await;
}

#[tokio::test]
async fn a_signer_of_another_account_is_refused_before_anything_is_sent() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let chain = rig.node.chain().to_chain();
        let binding = infinityvm_sdk::chain::Binding::read(&chain, rig.consumer, rig.signer.address()).await.unwrap();
        let client = infinityvm_sdk::Client::builder()
            .grpc(rig.node.grpc_url())
            .revision(Revision::Relay)
            .chain(chain)
            .nonces(infinityvm_sdk::nonce::Given)
            .bind(binding)
            .signer(LocalSigner::random().unwrap());
        assert!(client.connect().await.is_err());
    })
    .await;
}
