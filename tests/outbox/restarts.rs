//! Workers that end between two steps, and the next one that goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use infinityvm_sdk::{
    Error, JobSigner, RelayStrategy, Revision,
    outbox::{EventKind, LaneConfig, Outbox, sqlite::SqliteStore},
    primitives::{Address, Bytes},
};
use support::harness::{OUTBOX_POINTS, within};
use tokio::sync::Notify;

use crate::rig::{Rig, hear, told};

/// An outbox whose worker stops for good at the named point, the so-manieth time that it comes there.
async fn outbox_until(
    rig: &Rig,
    store: SqliteStore,
    strategy: RelayStrategy,
    point: &'static str,
) -> (Outbox, Arc<Notify>) {
    let (reached, passed) = (Arc::new(Notify::new()), AtomicUsize::new(0));
    let there = Arc::clone(&reached);
    let builder = Outbox::builder(rig.client().await, store).lane(rig.lane(strategy));
    let outbox = builder.at_points(move |name| {
        let nth = if name.contains("number") { 0 } else { 2 };
        if name == point && passed.fetch_add(1, Ordering::SeqCst) == nth {
            there.notify_one();
            // The worker's task ends here, as if the process had.
            std::panic::panic_any("crashed");
        }
    });
    (outbox.start().await.unwrap(), reached)
}

#[tokio::test]
async fn a_worker_that_ends_between_two_steps_is_gone_on_with() {
    within(async {
        for revision in [Revision::Relay, Revision::State] {
            for point in OUTBOX_POINTS {
                let rig = Rig::new(revision).await;
                let strategy = *rig.strategies().last().unwrap();
                let (outbox, reached) = outbox_until(&rig, rig.store().await, strategy, point).await;
                let mut tickets = Vec::new();
                for number in 0..6u8 {
                    tickets.push(outbox.enqueue(rig.job(strategy, &[number])).await.unwrap());
                }
                let mut results = outbox.results("bill").await.unwrap();
                reached.notified().await;
                drop((results.try_next().await, results, outbox));
                let outbox = again(&rig, rig.client().await, strategy).await;
                let mut results = outbox.results("bill").await.unwrap();
                let mut events = hear(&mut results, 6).await;
                events.sort_by_key(|event| event.ticket());
                for (number, event) in (0..6u8).zip(&events) {
                    assert_eq!(told(event), (EventKind::Result, Some(vec![number])), "{revision} {point}");
                    assert_eq!(event.ticket(), tickets[number as usize]);
                }
                let landed: Vec<_> = (0..6u8).map(|number| (u64::from(number) + 1, vec![number])).collect();
                assert_eq!(rig.landed(), landed, "{revision} {point}");
            }
        }
    })
    .await;
}

/// Never signs twice the same way.
struct Fickle {
    inner: infinityvm_sdk::LocalSigner,
    times: AtomicUsize,
}

#[async_trait]
impl JobSigner for Fickle {
    fn address(&self) -> Address {
        self.inner.address()
    }

    fn kind(&self) -> infinityvm_sdk::job::SignerKind {
        infinityvm_sdk::job::SignerKind::Contract
    }

    async fn sign_message(&self, message: &[u8]) -> Result<Bytes, Error> {
        let mut signature = self.inner.sign_message_sync(message).to_vec();
        if self.times.fetch_add(1, Ordering::SeqCst) > 0 {
            // The other form of the same signature.
            let s = infinityvm_sdk::primitives::U256::from_be_slice(&signature[32..64]);
            let order = "115792089237316195423570985008687907852837564279074904382605163141518161494337";
            let flipped: infinityvm_sdk::primitives::U256 = order.parse().unwrap();
            signature[32..64].copy_from_slice(&(flipped - s).to_be_bytes::<32>());
            signature[64] ^= 7;
        }
        Ok(signature.into())
    }
}

/// What a crash has taken before it was stored was never sent: or the next signature, which differs, would be a second one
/// under the nonce.
#[tokio::test]
async fn only_the_stored_signature_is_sent_however_often_it_is_signed() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let strategy = RelayStrategy::Ordered;
        let signer = Arc::new(Fickle { inner: rig.signer.clone(), times: AtomicUsize::new(0) });
        let client = || async {
            let client = infinityvm_sdk::Client::builder()
                .grpc(rig.node.grpc_url())
                .signer(Arc::clone(&signer))
                .chain(rig.node.chain().to_chain())
                .nonces(infinityvm_sdk::nonce::Given);
            client.connect().await.unwrap()
        };
        let crashed = Arc::new(Notify::new());
        let there = Arc::clone(&crashed);
        let builder = Outbox::builder(client().await, rig.store().await).lane(rig.lane(strategy));
        let builder = builder.at_points(move |name| {
            if name == "before_store_signature" {
                there.notify_one();
                std::panic::panic_any("crashed");
            }
        });
        let outbox = builder.start().await.unwrap();
        let ticket = outbox.enqueue(rig.job(strategy, b"x")).await.unwrap();
        crashed.notified().await;
        drop(outbox);
        assert_eq!(rig.node.stats().submissions(rig.id(1)), 0, "it was sent before it was stored");
        let outbox = again(&rig, client().await, strategy).await;
        let mut results = outbox.results("bill").await.unwrap();
        let event = &hear(&mut results, 1).await[0];
        let stored = outbox.job(ticket).await.unwrap().unwrap().payloads[0].signature.clone();
        assert_eq!(stored.as_ref(), Some(event.result().unwrap().job().signature()));
        assert_eq!(signer.times.load(Ordering::SeqCst), 2);
    })
    .await;
}

/// The next worker, once the lock has gone with the last of the tasks of the one before.
async fn again(rig: &Rig, client: infinityvm_sdk::Client, strategy: RelayStrategy) -> Outbox {
    started_again(rig, &client, &[rig.lane(strategy)]).await
}

/// The same with these lanes.
pub async fn started_again(rig: &Rig, client: &infinityvm_sdk::Client, lanes: &[LaneConfig]) -> Outbox {
    loop {
        let builder = Outbox::builder(client.clone(), rig.store().await);
        let builder = lanes.iter().cloned().fold(builder, infinityvm_sdk::outbox::OutboxBuilder::lane);
        match builder.start().await {
            Ok(outbox) => return outbox,
            Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_drained_outbox_says_what_is_left_and_the_next_one_goes_on() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let strategy = RelayStrategy::Ordered;
        let outbox = rig.outbox(rig.lane(strategy).with_window(2)).await;
        let held = rig.node.faults().hold_executions();
        for number in 0..5u8 {
            outbox.enqueue(rig.job(strategy, &[number])).await.unwrap();
        }
        held.arrived(2).await;
        let drained = outbox.drain(Duration::from_secs(30)).await.unwrap();
        let lane = &drained.status.lanes[0];
        assert_eq!((lane.queued, lane.under_way, drained.open.len()), (3, 2, 0));
        drop((drained, outbox));
        held.open();
        let outbox = rig.outbox(rig.lane(strategy)).await;
        let mut results = outbox.results("bill").await.unwrap();
        assert_eq!(hear(&mut results, 5).await.len(), 5);
        assert_eq!(rig.landed().len(), 5);
    })
    .await;
}

/// As long as a signature cannot be stored, nothing is sent; the status says what is wrong, and it goes on by itself.
#[tokio::test]
async fn nothing_is_sent_while_the_store_cannot_be_written() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let strategy = RelayStrategy::Ordered;
        let outbox = rig.outbox(rig.lane(strategy)).await;
        let mut conn = rig.connection().await;
        let full = "CREATE TRIGGER full BEFORE UPDATE ON ivm_payloads WHEN NEW.signature IS NOT NULL \
                    BEGIN SELECT RAISE(ABORT, 'as if the disk were full'); END";
        sqlx::query(full).execute(&mut conn).await.unwrap();
        let ticket = outbox.enqueue(rig.job(strategy, b"x")).await.unwrap();
        loop {
            let lane = outbox.status().await.unwrap().lanes.remove(0);
            if let Some(trouble) = lane.trouble {
                assert_eq!((trouble.kind(), trouble.is_retryable()), (infinityvm_sdk::ErrorKind::Store, true));
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(rig.node.stats().submissions(rig.id(1)), 0);
        // Others can still enqueue: it is not their step that fails.
        outbox.enqueue(rig.job(strategy, b"y")).await.unwrap();
        sqlx::query("DROP TRIGGER full").execute(&mut conn).await.unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        let events = hear(&mut results, 2).await;
        assert_eq!((events[0].ticket(), events[0].nonce(), events[1].nonce()), (ticket, Some(1), Some(2)));
        assert_eq!(rig.landed().len(), 2);
    })
    .await;
}
