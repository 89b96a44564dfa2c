//! Jobs that go well.

use std::time::{Duration, SystemTime};

use infinityvm_sdk::{
    Client, ErrorKind, RelayStrategy, Revision, Until,
    nonce::Given,
    outbox::{EventKind, JobProgress, LaneConfig, MemoryStore, Outbox},
};
use support::harness::within;

use crate::rig::{Rig, hear, told};

async fn whole(revision: Revision, rest: bool) {
    let rig = Rig { rest, ..Rig::new(revision).await };
    let strategy = *rig.strategies().last().unwrap();
    let outbox = rig.outbox(rig.lane(strategy)).await;
    let mut results = outbox.results("bill").await.unwrap();
    let mut tickets = Vec::new();
    for number in 0..20u8 {
        let job = rig.job(strategy, &[number]);
        tickets.push(outbox.enqueue(job).idempotency_key(format!("order {number}")).await.unwrap());
    }
    let mut events = hear(&mut results, 20).await;
    if strategy == RelayStrategy::Ordered {
        assert!(events.is_sorted_by_key(|event| event.nonce()), "by nonce");
    }
    events.sort_by_key(|event| event.nonce());
    for (number, event) in (0..20u8).zip(&events) {
        assert_eq!((event.ticket(), event.nonce()), (tickets[number as usize], Some(u64::from(number) + 1)));
        assert_eq!(event.key(), Some(&*format!("order {number}")));
        assert_eq!(told(event), (EventKind::Result, Some(vec![number])));
        assert_eq!(event.result().unwrap().job().nonce(), u64::from(number) + 1);
    }
    assert!(results.try_next().await.unwrap().is_none());
    assert_eq!(rig.landed().len(), 20);
    // Once it is final the job is over.
    while outbox.status().await.unwrap().lanes[0].over < 20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let status = outbox.job(tickets[3]).await.unwrap().unwrap();
    assert_eq!((status.progress, status.nonce), (JobProgress::Over, Some(4)));
    let lane = &outbox.status().await.unwrap().lanes[0];
    assert_eq!((lane.queued, lane.under_way, lane.settling, lane.held, lane.next_nonce), (0, 0, 0, 0, 21));
    assert!(lane.halted.is_none() && lane.trouble.is_none() && lane.log.is_empty(), "{lane:?}");
    assert_eq!((lane.readers[0].name.as_str(), lane.readers[0].waiting), ("bill", 0));
    for number in 1..=20 {
        assert_eq!(rig.node.stats().executions(rig.id(number)), 1);
    }
}

/// The client's own window has as many places as the outbox's: neither waits for the other, before a restart and after.
#[tokio::test]
async fn more_jobs_wait_than_may_be_unrelayed() {
    const ORDERED: RelayStrategy = RelayStrategy::Ordered;
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        rig.node.faults().stall_relays(true);
        let mut outbox = rig.outbox(rig.lane(ORDERED)).await;
        for number in 0..300u32 {
            outbox.enqueue(rig.job(ORDERED, &number.to_be_bytes())).await.unwrap();
        }
        for restarts in [true, false] {
            rig.node.wait_until(|view| view.stats().executions(rig.id(128)) == 1).await;
            // Long enough that one more would have been sent.
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(rig.node.stats().executions(rig.id(129)), 0);
            let lane = outbox.status().await.unwrap().lanes.remove(0);
            assert_eq!((lane.queued, lane.next_nonce), (172, 129));
            if restarts {
                drop(outbox);
                outbox = rig.outbox(rig.lane(ORDERED)).await;
            }
        }
        rig.node.faults().stall_relays(false);
        let events = hear(&mut outbox.results("bill").await.unwrap(), 300).await;
        let outputs = events.iter().map(|event| event.result().unwrap().output().to_vec());
        assert!(outputs.eq((0..300u32).map(|number| number.to_be_bytes().to_vec())));
        assert_eq!(rig.landed().len(), 300);
    })
    .await;
}

#[tokio::test]
async fn over_grpc_in_the_relay_revision() {
    within(whole(Revision::Relay, false)).await;
}

#[tokio::test]
async fn over_rest_in_the_relay_revision() {
    within(whole(Revision::Relay, true)).await;
}

#[tokio::test]
async fn over_grpc_in_the_state_revision() {
    within(whole(Revision::State, false)).await;
}

#[tokio::test]
async fn over_rest_in_the_state_revision() {
    within(whole(Revision::State, true)).await;
}

/// In memory, without a chain, told as soon as a result is signed.
#[tokio::test]
async fn without_a_chain_the_network_has_a_name() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let client = || async {
            let client = Client::builder().grpc(rig.node.grpc_url()).signer(rig.signer.clone()).nonces(Given);
            client.operator(rig.node.operator()).connect().await.unwrap()
        };
        let lane = LaneConfig::new(rig.consumer, RelayStrategy::Unordered).with_until(Until::Executed);
        let nameless = Outbox::builder(client().await, MemoryStore::new()).lane(lane.clone()).start().await;
        assert_eq!(nameless.unwrap_err().kind(), ErrorKind::InvalidConfig);
        let outbox = Outbox::builder(client().await, MemoryStore::new()).lane(lane).network("test").start();
        let outbox = outbox.await.unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        outbox.enqueue(rig.job(RelayStrategy::Unordered, b"x")).await.unwrap();
        let events = hear(&mut results, 1).await;
        assert_eq!(told(&events[0]), (EventKind::Result, Some(b"x".to_vec())));
        // The bytes are kept for a time after the node has said that it was relayed.
        while outbox.status().await.unwrap().lanes[0].settling != 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_stands_for_one_job() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let outbox = rig.outbox(rig.lane(RelayStrategy::Unordered)).await;
        let job = |input: &[u8]| rig.job(RelayStrategy::Unordered, input);
        let first = outbox.enqueue(job(b"a")).idempotency_key("k").await.unwrap();
        assert_eq!(outbox.enqueue(job(b"a")).idempotency_key("k").await.unwrap(), first);
        let other = outbox.enqueue(job(b"b")).idempotency_key("k").await.unwrap_err();
        assert_eq!(other.kind(), ErrorKind::InvalidInput);
        let mut results = outbox.results("bill").await.unwrap();
        hear(&mut results, 1).await;
        // Also once it is over.
        assert_eq!(outbox.enqueue(job(b"a")).idempotency_key("k").await.unwrap(), first);
        let status = outbox.job_by_key(rig.consumer, "k").await.unwrap().unwrap();
        assert_eq!(status.ticket, first);
        assert_eq!(rig.landed().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_a_node_would_refuse_is_refused_at_once() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let outbox = rig.outbox(rig.lane(RelayStrategy::Ordered).with_backlog(2)).await;
        outbox.pause(rig.consumer, "to fill the queue").await.unwrap();
        let ordered = |input: &[u8]| rig.job(RelayStrategy::Ordered, input);
        let kind = |result: infinityvm_sdk::Result<_>| {
            Result::<infinityvm_sdk::outbox::JobTicket, _>::unwrap_err(result).kind()
        };
        assert_eq!(kind(outbox.enqueue(rig.job(RelayStrategy::Unordered, b"x")).await), ErrorKind::InvalidInput);
        let build = || infinityvm_sdk::OffchainJobRequest::builder(rig.consumer, rig.echo.clone());
        let build = || build().max_cycles(1).relay(RelayStrategy::Ordered);
        assert_eq!(kind(outbox.enqueue(build().nonce(9).build().unwrap()).await), ErrorKind::InvalidInput);
        let huge = build().onchain_input(vec![0; 5 << 20]).build();
        if let Ok(huge) = huge {
            assert_eq!(kind(outbox.enqueue(huge).await), ErrorKind::TooLarge);
        }
        let elsewhere = infinityvm_sdk::OffchainJobRequest::builder(
            infinityvm_sdk::primitives::Address::repeat_byte(1),
            rig.echo.clone(),
        );
        let elsewhere = elsewhere.max_cycles(1).build().unwrap();
        assert_eq!(kind(outbox.enqueue(elsewhere).await), ErrorKind::InvalidConfig);
        assert_eq!(kind(outbox.enqueue(ordered(b"x")).idempotency_key("").await), ErrorKind::InvalidInput);
        let state = infinityvm_sdk::OffchainJobRequest::builder(rig.consumer, rig.echo.clone()).max_cycles(1);
        assert!(outbox.enqueue(state.state(vec![1]).build().unwrap()).await.is_err());
        // Back-pressure, as an error or by waiting.
        for input in [b"1", b"2"] {
            outbox.enqueue(ordered(input)).await.unwrap();
        }
        let full = outbox.enqueue(ordered(b"3")).await.unwrap_err();
        assert_eq!((full.kind(), full.is_retryable()), (ErrorKind::Store, true));
        let waiting = tokio::spawn({
            let (outbox, job) = (outbox.clone(), ordered(b"3"));
            async move { outbox.enqueue(job).wait_for_room().await }
        });
        assert!(outbox.resume(rig.consumer, "it was full").await.unwrap());
        waiting.await.unwrap().unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        let events = hear(&mut results, 3).await;
        let inputs: Vec<_> = events.iter().map(|event| told(event).1.unwrap()).collect();
        assert_eq!(inputs, [b"1", b"2", b"3"]);
    })
    .await;
}

#[tokio::test]
async fn a_job_lapses_unless_it_has_a_nonce_by_then() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let outbox = rig.outbox(rig.lane(RelayStrategy::Ordered)).await;
        let job = |input: &[u8]| rig.job(RelayStrategy::Ordered, input);
        let past = SystemTime::now() - Duration::from_secs(1);
        let late = outbox.enqueue(job(b"late")).not_after(past).await.unwrap();
        outbox.enqueue(job(b"fine")).not_after(SystemTime::now() + Duration::from_secs(3600)).await.unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        let events = hear(&mut results, 2).await;
        assert_eq!((events[0].ticket(), told(&events[0])), (late, (EventKind::Lapsed, None)));
        assert_eq!((events[1].nonce(), told(&events[1])), (Some(1), (EventKind::Result, Some(b"fine".to_vec()))));
    })
    .await;
}

#[tokio::test]
async fn every_reader_hears_everything_until_it_has_acknowledged_it() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let outbox = rig.outbox(rig.lane(RelayStrategy::Unordered)).await;
        let mut bill = outbox.results("bill").await.unwrap();
        let held = outbox.results("bill").await.unwrap_err();
        assert_eq!(held.kind(), ErrorKind::InvalidConfig);
        outbox.enqueue(rig.job(RelayStrategy::Unordered, b"x")).await.unwrap();
        let event = bill.next().await.unwrap();
        assert!(bill.try_next().await.unwrap().is_none(), "once in each Results");
        drop(bill);
        let mut bill = outbox.results("bill").await.unwrap();
        let again = bill.next().await.unwrap();
        assert_eq!((again.number(), told(&again)), (event.number(), told(&event)));
        again.ack().await.unwrap();
        assert_eq!(event.ack().await.unwrap_err().kind(), ErrorKind::Store, "twice");
        let mut late = outbox.results("late").await.unwrap();
        assert_eq!(late.next().await.unwrap().ticket(), event.ticket());
        assert_eq!(outbox.status().await.unwrap().lanes[0].readers.len(), 2);
        drop(late);
        assert!(outbox.remove_reader("late").await.unwrap());
        assert!(!outbox.remove_reader("late").await.unwrap());
        assert!(serde_json::to_string(&outbox.status().await.unwrap()).unwrap().contains("bill"));
    })
    .await;
}
