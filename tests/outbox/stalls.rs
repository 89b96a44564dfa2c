//! Jobs that do not move, or never come to an end by themselves: what shows, and what a person can do.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use infinityvm_sdk::{
    ErrorKind, HealPolicy, OffchainJobRequest, ProgramId, RelayStrategy, Revision, Until,
    devnode::ProgramOutput,
    outbox::{AfterFailure, EventKind, HoldReason, JobProgress, JobTicket, LaneStatus, Outbox, TicketStatus},
    rpc::{Method, StatusCode},
};
use support::harness::within;
use tokio::sync::Notify;

use crate::{
    posting,
    rig::{FAILS, Rig, hear, told},
};

const ORDERED: RelayStrategy = RelayStrategy::Ordered;
const UNORDERED: RelayStrategy = RelayStrategy::Unordered;
const SHORT: Duration = Duration::from_millis(300);

/// Until the lane is as wanted.
async fn until(outbox: &Outbox, wanted: impl Fn(&LaneStatus) -> bool) -> LaneStatus {
    loop {
        let lane = outbox.status().await.unwrap().lanes.remove(0);
        if wanted(&lane) {
            return lane;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Until a job is as wanted.
async fn until_job(outbox: &Outbox, ticket: JobTicket, wanted: impl Fn(&TicketStatus) -> bool) -> TicketStatus {
    loop {
        let job = outbox.job(ticket).await.unwrap().unwrap();
        if wanted(&job) {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn has(lane: &LaneStatus, what: &str) -> bool {
    lane.log.iter().any(|entry| entry.what == what)
}

#[tokio::test]
async fn credentials_that_have_expired_end_no_job() {
    within(async {
        for rest in [false, true] {
            let rig = Rig { rest, ..Rig::new(Revision::Relay).await };
            let faults = rig.node.faults();
            faults.refuse(Method::SubmitJob, 2, StatusCode::UNAUTHENTICATED, "the token has expired");
            let outbox = rig.outbox(rig.lane(UNORDERED).with_repetitions(0)).await;
            let mut results = outbox.results("bill").await.unwrap();
            let ticket = outbox.enqueue(rig.job(UNORDERED, b"1")).await.unwrap();
            until_job(&outbox, ticket, |job| job.note.is_some() || job.progress == JobProgress::Over).await;
            let event = &hear(&mut results, 1).await[0];
            assert_eq!(told(event), (EventKind::Result, Some(b"1".to_vec())), "rest: {rest}");
            assert!(has(&until(&outbox, |lane| lane.over == 1).await, "stalled"));
            assert_eq!(outbox.job(ticket).await.unwrap().unwrap().note, None);
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_keeps_none_of_what_the_outbox_has_done_with() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let client = rig.client().await;
        rig.node.faults().refuse(Method::SubmitJob, 3, StatusCode::INVALID_ARGUMENT, "not this one");
        let lane = rig.lane(UNORDERED).with_repetitions(0);
        let outbox = Outbox::builder(client.clone(), rig.store().await).lane(lane).start().await.unwrap();
        for input in [b"1", b"2", b"3", b"4"] {
            outbox.enqueue(rig.job(UNORDERED, input)).await.unwrap();
        }
        let mut results = outbox.results("bill").await.unwrap();
        let failed = hear(&mut results, 4).await.iter().filter(|event| event.kind() == EventKind::Failed).count();
        until(&outbox, |lane| lane.over == 4).await;
        assert_eq!((failed, client.unresolved()), (3, Vec::new()));
    })
    .await;
}

#[tokio::test]
async fn what_fails_under_every_payload_has_an_end() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (noted, again) = (Arc::clone(&seen), rig.job(UNORDERED, &[FAILS]));
        let lane = rig.lane(UNORDERED).with_repetitions(0).with_after_failure(AfterFailure::Replace);
        let lane = lane.with_replacement(move |failed| {
            noted.lock().unwrap().push(failed.payloads);
            Ok(again.clone())
        });
        let outbox = rig.outbox(lane).await;
        outbox.enqueue(rig.job(UNORDERED, &[FAILS])).await.unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        assert_eq!(hear(&mut results, 1).await[0].kind(), EventKind::Failed);
        assert_eq!((rig.node.stats().executions(rig.id(1)), seen.lock().unwrap().clone()), (3, vec![1, 2]));

        let rig = Rig::new(Revision::State).await;
        let lane = rig.lane(UNORDERED).with_after_failure(AfterFailure::Renumber).with_payloads(2);
        let outbox = rig.outbox(lane.with_patience(Duration::from_secs(60))).await;
        let ticket = outbox.enqueue(rig.job(UNORDERED, &[FAILS])).await.unwrap();
        let job = until_job(&outbox, ticket, |job| job.held.is_some()).await;
        assert_eq!((job.held, job.payloads.len()), (Some(HoldReason::Failed), 2));
    })
    .await;
}

/// A process that only enqueues sees no job leave the queue.
#[tokio::test]
async fn an_outbox_without_a_worker_has_room_again_and_finds_keys_while_it_has_none() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let lane = || rig.lane(ORDERED).with_backlog(2);
        let worker = rig.outbox(lane()).await;
        let outbox = Outbox::builder(rig.client().await, rig.store().await).lane(lane()).open().await.unwrap();
        for round in 0..3 {
            outbox.enqueue(rig.job(ORDERED, &[round])).await.unwrap();
            outbox.enqueue(rig.job(ORDERED, &[round + 10])).idempotency_key(format!("order {round}")).await.unwrap();
            until(&worker, |lane| lane.queued == 0).await;
        }
        worker.pause(rig.consumer, "full").await.unwrap();
        let first = outbox.enqueue(rig.job(ORDERED, b"1")).idempotency_key("1").await.unwrap();
        outbox.enqueue(rig.job(ORDERED, b"2")).await.unwrap();
        assert_eq!(outbox.enqueue(rig.job(ORDERED, b"1")).idempotency_key("1").await.unwrap(), first);
        let other = outbox.enqueue(rig.job(ORDERED, b"other")).idempotency_key("1").await.unwrap_err();
        assert_eq!(other.kind(), ErrorKind::InvalidInput);
        let full = outbox.enqueue(rig.job(ORDERED, b"3")).idempotency_key("3").await.unwrap_err();
        assert!(full.kind() == ErrorKind::Store && full.is_retryable());
        let waits = tokio::spawn(outbox.enqueue(rig.job(ORDERED, b"3")).wait_for_room().into_future());
        worker.resume(rig.consumer, "room").await.unwrap();
        waits.await.unwrap().unwrap();
    })
    .await;
}

/// What has the slots waits for the nonce of the job that is to be mended.
#[tokio::test]
async fn a_lane_that_is_resumed_before_its_job_is_mended_goes_on() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let outbox = rig.outbox(rig.lane(ORDERED).with_repetitions(0).with_window(2)).await;
        let first = outbox.enqueue(rig.job(ORDERED, &[FAILS])).await.unwrap();
        until(&outbox, |lane| lane.held == 1 && lane.halted.is_some()).await;
        for input in [b"2", b"3", b"4"] {
            outbox.enqueue(rig.job(ORDERED, input)).await.unwrap();
        }
        outbox.resume(rig.consumer, "too early").await.unwrap();
        until(&outbox, |lane| lane.queued == 1).await;
        // Nobody has used its nonce up, and the lane would wait for it.
        let error = outbox.renumber(first, "out of the way").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        outbox.replace(first, rig.job(ORDERED, b"1"), "mended").await.unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        let nonces: Vec<_> = hear(&mut results, 4).await.iter().map(|event| event.nonce()).collect();
        assert_eq!(nonces, [Some(1), Some(2), Some(3), Some(4)]);
    })
    .await;
}

#[tokio::test]
async fn an_unordered_job_whose_relay_does_not_come_shows_and_can_be_acted_upon() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        rig.node.faults().stall_relays(true);
        let outbox = rig.outbox(rig.lane(UNORDERED).with_patience(SHORT)).await;
        let mut results = outbox.results("bill").await.unwrap();
        let mut tickets = Vec::new();
        for input in [b"1", b"2", b"3"] {
            tickets.push(outbox.enqueue(rig.job(UNORDERED, input)).await.unwrap());
        }
        for ticket in &tickets {
            until_job(&outbox, *ticket, |job| job.note.is_some()).await;
        }
        let lane = until(&outbox, |_| true).await;
        assert!(has(&lane, "stalled") && lane.halted.is_none() && lane.held == 0);
        // What is refused leaves the job to its worker.
        let error = outbox.replace(tickets[0], rig.job(UNORDERED, b"other"), "impatient").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        outbox.retry(tickets[1], "look again").await.unwrap();
        outbox.abandon(tickets[2], "of no use").await.unwrap();
        let given_up = &hear(&mut results, 1).await[0];
        assert_eq!((given_up.ticket(), given_up.kind()), (tickets[2], EventKind::Abandoned));
        rig.node.faults().stall_relays(false);
        let mut heard: Vec<_> = hear(&mut results, 2).await.iter().map(|event| event.ticket()).collect();
        heard.sort();
        assert_eq!(heard, tickets[..2]);
        until(&outbox, |lane| lane.over == 3).await;
    })
    .await;
}

#[tokio::test]
async fn a_node_that_does_not_run_a_job_halts_an_ordered_lane_until_it_does() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let gate = rig.node.faults().hold_executions();
        let outbox = rig.outbox(rig.lane(ORDERED).with_patience(SHORT)).await;
        let ticket = outbox.enqueue(rig.job(ORDERED, b"1")).await.unwrap();
        let halt = until(&outbox, |lane| lane.halted.is_some()).await.halted.unwrap();
        assert_eq!((halt.reason, halt.ticket), (HoldReason::Stalled, Some(ticket)));
        outbox.enqueue(rig.job(ORDERED, b"2")).await.unwrap();
        gate.open();
        let mut results = outbox.results("bill").await.unwrap();
        hear(&mut results, 2).await;
        assert!(until(&outbox, |lane| lane.over == 2).await.halted.is_none());
    })
    .await;
}

#[tokio::test]
async fn a_pause_outlasts_a_relay_that_does_not_come() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        rig.node.faults().stall_relays(true);
        let outbox = rig.outbox(rig.lane(ORDERED).with_patience(SHORT)).await;
        outbox.enqueue(rig.job(ORDERED, b"1")).await.unwrap();
        until(&outbox, |lane| lane.halted.is_some()).await;
        assert!(outbox.pause(rig.consumer, "maintenance").await.unwrap());
        rig.node.faults().stall_relays(false);
        let mut results = outbox.results("bill").await.unwrap();
        hear(&mut results, 1).await;
        let halt = until(&outbox, |lane| lane.over == 1).await.halted.unwrap();
        assert_eq!((halt.reason, halt.note.as_str()), (HoldReason::Manual, "maintenance"));
    })
    .await;
}

#[tokio::test]
async fn a_payload_that_runs_under_its_old_nonce_is_gone_on_with() {
    within(async {
        let rig = Rig::new(Revision::State).await;
        let gate = rig.node.faults().hold_executions();
        let outbox = rig.outbox(rig.lane(UNORDERED).with_patience(SHORT).with_after_failure(AfterFailure::Hold)).await;
        let ticket = outbox.enqueue(rig.job(UNORDERED, b"x")).await.unwrap();
        gate.arrived(1).await;
        // The node shows it as pending, and a person gives up hope.
        outbox_stands(&rig, &outbox, ticket).await;
        rig.node.faults().refuse(Method::SubmitJob, 100, StatusCode::INVALID_ARGUMENT, "not this one");
        outbox.renumber(ticket, "forgotten").await.unwrap();
        let job = until_job(&outbox, ticket, |job| job.held.is_some()).await;
        assert_eq!((job.nonce, job.held), (Some(2), Some(HoldReason::Failed)));
        gate.open();
        while rig.landed().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        outbox.retry(ticket, "once more").await.unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        let event = &hear(&mut results, 1).await[0];
        assert_eq!((event.nonce(), told(event)), (Some(1), (EventKind::Result, Some(b"x".to_vec()))));
        assert!(has(&until(&outbox, |lane| lane.over == 1).await, "switched"));
    })
    .await;
}

#[tokio::test]
async fn a_job_that_landed_under_two_nonces_says_so() {
    within(async {
        let rig = Rig::new(Revision::State).await;
        let gate = rig.node.faults().hold_executions();
        let outbox = rig.outbox(rig.lane(UNORDERED).with_patience(SHORT)).await;
        let ticket = outbox.enqueue(rig.job(UNORDERED, b"x")).await.unwrap();
        outbox_stands(&rig, &outbox, ticket).await;
        outbox.renumber(ticket, "forgotten").await.unwrap();
        gate.arrived(2).await;
        rig.node.faults().stall_relays(true);
        gate.open();
        // Both are executed before either is relayed, and the lane tells only after a relay.
        while rig.node.stats().executions(rig.id(1)) + rig.node.stats().executions(rig.id(2)) < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        rig.node.faults().stall_relays(false);
        let lane = until(&outbox, |lane| lane.over == 1).await;
        assert_eq!(rig.landed().len(), 2);
        let entry = lane.log.iter().find(|entry| entry.what == "landed twice").expect("it is not said");
        assert!(entry.note.contains("nonces 2 and 1") || entry.note.contains("nonces 1 and 2"), "{}", entry.note);
    })
    .await;
}

async fn outbox_stands(rig: &Rig, outbox: &Outbox, ticket: JobTicket) {
    let job = until_job(outbox, ticket, |job| job.note.is_some()).await;
    assert_eq!((job.nonce, rig.landed()), (Some(1), Vec::new()));
}

/// Without anybody who takes the nonce: the result is just not there any more.
#[tokio::test]
async fn a_result_that_a_reorganisation_drops_is_retracted_and_told_once_it_is_back() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let soon = Duration::from_millis(200);
        let lane = rig.lane(ORDERED).with_finality(3).with_patience(SHORT).with_posting(soon).with_later_posts(soon);
        let outbox = Outbox::builder(posting::client(&rig).await, rig.store().await).lane(lane).start().await.unwrap();
        let ticket = outbox.enqueue(posting::job(&rig, rig.consumer, ORDERED, b"x")).await.unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        assert_eq!(told(&hear(&mut results, 1).await[0]), (EventKind::Result, Some(b"x".to_vec())));
        rig.node.chain().reorganise(1);
        rig.node.chain().mine(1);
        let gone = &hear(&mut results, 1).await[0];
        assert_eq!((gone.ticket(), gone.kind()), (ticket, EventKind::Retracted));
        // The node does not relay it again, so it is posted.
        assert_eq!(told(&hear(&mut results, 1).await[0]), (EventKind::Result, Some(b"x".to_vec())));
        rig.node.chain().mine(3);
        until(&outbox, |lane| lane.over == 1).await;
        assert_eq!(rig.landed(), [(1, b"x".to_vec())]);
    })
    .await;
}

/// A good result of which the finality takes longer than the lane has patience.
#[tokio::test]
async fn a_result_that_is_only_not_deep_yet_is_not_retracted() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let lane = rig.lane(ORDERED).with_finality(3).with_patience(Duration::from_millis(50));
        let (rested, mut rests) = tokio::sync::mpsc::unbounded_channel();
        let builder = Outbox::builder(rig.client().await, rig.store().await).lane(lane);
        let builder = builder.at_points(move |point| _ = (point == "rest").then(|| rested.send(())));
        let outbox = builder.start().await.unwrap();
        let ticket = outbox.enqueue(rig.job(ORDERED, b"x")).await.unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        hear(&mut results, 1).await;
        // At two looks the chain cannot be read.
        rig.node.chain().set_reachable(false);
        for _ in 0..2 {
            rests.recv().await.unwrap();
        }
        rig.node.chain().set_reachable(true);
        let job = outbox.job(ticket).await.unwrap().unwrap();
        assert!(job.note.is_none(), "{:?}", job.note);
        rig.node.chain().mine(3);
        let lane = until(&outbox, |lane| lane.over == 1).await;
        assert!(!has(&lane, "retracted"));
    })
    .await;
}

/// A program that is not the same each time, and a node that forgets after the result was told.
#[tokio::test]
async fn a_final_result_that_is_not_the_one_that_was_told_is_told_anew() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let runs = AtomicUsize::new(0);
        let program =
            rig.node.register_program(move |_| Ok(ProgramOutput::new(vec![runs.fetch_add(1, Ordering::SeqCst) as u8])));
        rig.node.faults().stall_relays(true);
        let outbox = rig.outbox(rig.lane(ORDERED).with_until(Until::Executed)).await;
        let job = OffchainJobRequest::builder(rig.consumer, ProgramId::new(program)).max_cycles(1_000).relay(ORDERED);
        outbox.enqueue(job.build().unwrap()).await.unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        assert_eq!(told(&hear(&mut results, 1).await[0]), (EventKind::Result, Some(vec![0])));
        rig.node.restart();
        rig.node.faults().stall_relays(false);
        assert_eq!(hear(&mut results, 1).await[0].kind(), EventKind::Retracted);
        assert_eq!(told(&hear(&mut results, 1).await[0]), (EventKind::Result, Some(vec![1])));
        until(&outbox, |lane| lane.over == 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_crash_before_it_is_sent_is_gone_on_with_though_the_client_does_not_heal() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let crashed = Arc::new(Notify::new());
        let there = Arc::clone(&crashed);
        let builder = Outbox::builder(rig.client().await, rig.store().await).lane(rig.lane(ORDERED));
        let builder = builder.at_points(move |point| {
            if point == "before_send" {
                there.notify_one();
                std::panic::panic_any("crashed");
            }
        });
        let outbox = builder.start().await.unwrap();
        outbox.enqueue(rig.job(ORDERED, b"1")).await.unwrap();
        crashed.notified().await;
        drop(outbox);
        let client = rig.client_builder().healing(HealPolicy::off()).connect().await.unwrap();
        let outbox = crate::restarts::started_again(&rig, &client, &[rig.lane(ORDERED)]).await;
        let mut results = outbox.results("bill").await.unwrap();
        assert_eq!(told(&hear(&mut results, 1).await[0]), (EventKind::Result, Some(b"1".to_vec())));
    })
    .await;
}

#[tokio::test]
async fn a_client_that_cannot_see_what_a_lane_waits_for_starts_no_outbox() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let client = || {
            let client = infinityvm_sdk::Client::builder().grpc(rig.node.grpc_url()).revision(Revision::Relay);
            client.signer(rig.signer.clone()).nonces(infinityvm_sdk::nonce::Given)
        };
        let with_operator = client().operator(rig.node.operator());
        for (client, until) in [(client(), Until::Relayed), (with_operator, Until::Finalized { confirmations: 1 })] {
            let builder = Outbox::builder(client.connect().await.unwrap(), rig.store().await).network("a");
            let error = builder.lane(rig.lane(ORDERED).with_until(until)).start().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{until:?}");
        }
        let builder =
            Outbox::builder(client().operator(rig.node.operator()).connect().await.unwrap(), rig.store().await);
        builder.network("a").lane(rig.lane(ORDERED)).start().await.unwrap();
    })
    .await;
}
