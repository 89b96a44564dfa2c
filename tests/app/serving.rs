//! Requests and their answers.

use futures_util::{FutureExt, future::join_all};
use infinityvm_sdk::app::stf::StateTransition;
use infinityvm_sdk::{
    ErrorKind, Outcome, Until,
    app::{AppState, BatchPolicy, EntryKind},
    primitives::B256,
};
use tokio::time::timeout;

use crate::{
    both,
    ledger::{Ledger, Order},
    rig::{LONG, Rig, answers, never, quick},
};

fn add(account: u16, amount: u64) -> Order {
    Order::Add { account, amount }
}

both!(
    requests_are_answered_in_order_and_land,
    async fn landing<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        let server = rig.server::<RELAY>(&rig.outbox().await).start().await.unwrap();
        let mut last = 0;
        for number in 1..=20 {
            let answer = server.request(add(1, 1)).await.unwrap();
            assert_eq!((answer.place, answer.outcome), (number, Ok(number)));
            assert!(answer.time >= last);
            last = answer.time;
        }
        // A rejection is an answer, and has a place.
        let answer = server.request(Order::Move { from: 1, to: 2, amount: 21 }).await.unwrap();
        assert_eq!((answer.place, answer.outcome), (21, Err("1 has only 20".to_owned())));
        let answers = join_all((0..100).map(|_| async { server.request(add(3, 2)).await.unwrap() })).await;
        let mut places: Vec<_> = answers.iter().map(|answer| (answer.place, answer.outcome.clone().unwrap())).collect();
        places.sort_unstable();
        // Each rests on those before it.
        assert_eq!(places, (1..=100).map(|number| (21 + number, 2 * number)).collect::<Vec<_>>());

        for until in [Until::Executed, Until::Relayed, Until::Finalized { confirmations: 1 }] {
            timeout(LONG, server.settled(121, until)).await.expect("it settles").unwrap();
        }
        let status = server.status().await.unwrap();
        assert_eq!((status.last_place, status.batched, status.waiting, status.final_place), (121, 121, 0, 121));
        assert_eq!(rig.root(), status.root);
        let root = server.read(|ledger| B256::from(ledger.root())).await.unwrap();
        assert_eq!(root, status.root);
        assert!(server.settled(122, Until::Executed).await.is_err_and(|error| error.kind() == ErrorKind::NotFound));
    }
);

both!(
    a_repeated_request_gets_the_first_answer,
    async fn repeating<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        let server = rig.server::<RELAY>(&rig.outbox().await).start().await.unwrap();
        let first = server.request(add(1, 5)).key("a").await.unwrap();
        assert!(!first.repeated);
        server.request(add(1, 5)).await.unwrap();
        let again = server.request(add(1, 5)).key("a").await.unwrap();
        assert_eq!((again.place, again.time, again.outcome, again.repeated), (first.place, first.time, Ok(5), true));
        // Also at once, in one commit.
        let answers = join_all((0..10).map(|_| async { server.request(add(2, 1)).key("b").await.unwrap() })).await;
        assert!(answers.iter().all(|answer| (answer.place, answer.outcome.clone()) == (3, Ok(1))));
        assert_eq!(answers.iter().filter(|answer| !answer.repeated).count(), 1);
        let rejected = server.request(Order::Move { from: 9, to: 1, amount: 1 }).key("c").await.unwrap();
        server.request(add(9, 1)).await.unwrap();
        let again = server.request(Order::Move { from: 9, to: 1, amount: 1 }).key("c").await.unwrap();
        assert_eq!((again.place, again.outcome), (rejected.place, rejected.outcome));
        // A key is one request's.
        let error = server.request(add(1, 6)).key("a").await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidInput, Outcome::NotSent));
        assert_eq!(server.status().await.unwrap().last_place, 5);
    }
);

both!(
    a_request_that_panics_is_refused_and_spoils_nothing,
    async fn panicking<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        let outbox = rig.outbox().await;
        let server = rig.server::<RELAY>(&outbox).start().await.unwrap();
        for _ in 0..3 {
            server.request(add(1, 5)).await.unwrap();
        }
        for (order, why) in [(Order::Panic, "an order that panics"), (Order::Spoil, "a rejection has changed the root")]
        {
            let asked = (server.request(add(1, 1)), server.request(order.clone()).key(why), server.request(add(1, 1)));
            let (before, refused, after) =
                tokio::join!(asked.0.into_future(), asked.1.into_future(), asked.2.into_future());
            let error = refused.unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidInput, Outcome::Rejected));
            assert!(error.to_string().contains(why), "{error}");
            assert!(before.unwrap().outcome.is_ok() && after.unwrap().outcome.is_ok());
            // Asked again, it is not tried again.
            let again = server.request(order).key(why).await.unwrap_err();
            assert_eq!(again.to_string(), error.to_string());
        }
        assert_eq!(server.read(|ledger| (ledger.balance(1), ledger.balance(u16::MAX))).await.unwrap(), (19, 0));
        let refused = server.answers_since(0).await.unwrap();
        assert_eq!(refused.iter().filter(|entry| entry.kind == EntryKind::Refused).count(), 2);
        timeout(LONG, server.settled(9, Until::Relayed)).await.expect("it settles").unwrap();
        assert_eq!(rig.root(), server.status().await.unwrap().root);
        // And nothing of it is tried at a start.
        drop(server);
        let server = rig.server::<RELAY>(&outbox).start().await.unwrap();
        assert_eq!(server.request(add(1, 1)).await.unwrap().place, 10);
    }
);

both!(
    a_request_that_fits_no_batch_is_refused_before_it_is_carried_out,
    async fn too_large<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        let limits = infinityvm_sdk::Limits::default().with_max_da(5_000).with_max_message(16_000);
        let policy = quick().with_limits(limits);
        let server = rig.server::<RELAY>(&rig.outbox().await).batches(policy).start().await.unwrap();
        let error = server.request(Order::Fill(vec![1; 9_000])).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::TooLarge, Outcome::NotSent));
        assert_eq!(server.status().await.unwrap().last_place, 0);
        let answer = server.request(Order::Fill(vec![1; 2_000])).await.unwrap();
        timeout(LONG, server.settled(answer.place, Until::Relayed)).await.expect("it settles").unwrap();
    }
);

/// What a batch costs before its first request grows with the state.
#[tokio::test]
async fn a_state_that_grows_leaves_less_room_for_requests() {
    let rig = Rig::new::<true>().await;
    let limits = infinityvm_sdk::Limits::default().with_max_da(5_000).with_max_message(16_000);
    let server = rig.server::<true>(&rig.outbox().await).batches(quick().with_limits(limits)).start().await.unwrap();
    server.request(Order::Fill(vec![1; 2_000])).await.unwrap();
    join_all((0..150).map(|account| server.request(add(account, 1)).into_future())).await;
    let error = server.request(Order::Fill(vec![1; 2_000])).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::TooLarge, Outcome::NotSent));
    let answer = server.request(Order::Fill(vec![1; 1_000])).await.unwrap();
    timeout(LONG, server.settled(answer.place, Until::Relayed)).await.expect("it settles").unwrap();
    assert_eq!(rig.root(), server.status().await.unwrap().root);
}

/// Two ask for the state before there is one for reads, and the first of them looks at it for long.
#[tokio::test]
async fn a_read_that_waits_for_another_stops_nobody() {
    let rig = Rig::new::<true>().await;
    // The second one comes after the first in the queue, and not with it.
    let server = rig.server::<true>(&rig.outbox().await).queue(1).start().await.unwrap();
    answers(&server).await;
    let (begun, hear) = tokio::sync::oneshot::channel();
    let (finish, finished) = std::sync::mpsc::channel::<()>();
    let (first, second) = (server.clone(), server.clone());
    let mut long = Box::pin(async move {
        let look = move |ledger: &Ledger<true>| {
            begun.send(()).unwrap();
            finished.recv().unwrap();
            ledger.balance(1)
        };
        first.read(look).await.unwrap()
    });
    let mut short = Box::pin(async move { second.read(|ledger| ledger.balance(1)).await.unwrap() });
    assert!((&mut long).now_or_never().is_none() && (&mut short).now_or_never().is_none());
    let long =
        std::thread::spawn(move || tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(long));
    hear.await.unwrap();
    assert!((&mut short).now_or_never().is_none());
    for _ in 0..3 {
        timeout(LONG, server.request(add(1, 1)).into_future()).await.expect("it is answered").unwrap();
    }
    finish.send(()).unwrap();
    assert_eq!((long.join().unwrap(), short.await), (0, 3));
}

/// So many are on their way, and the others wait.
#[tokio::test]
async fn callers_wait_while_the_queue_is_full() {
    let rig = Rig::new::<true>().await;
    let (stood, mut standing) = tokio::sync::mpsc::unbounded_channel();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let builder = rig.server::<true>(&rig.outbox().await).queue(2).batches(never()).at_points(move |name| {
        if name == "app_applied" {
            stood.send(()).unwrap();
            // Until the test lets it go on; an error at its end.
            _ = gone.lock().unwrap().recv();
        }
    });
    let server = other.spawn(builder.start()).await.unwrap().unwrap();
    answers(&server).await;
    let mut asked: Vec<_> = (0..4).map(|_| server.request(add(1, 1)).into_future()).collect();
    assert!((&mut asked[0]).now_or_never().is_none());
    standing.recv().await.unwrap();
    // The writer is at the first one: two more are taken in, and the last one waits for a place.
    for asked in &mut asked[1..] {
        assert!(asked.now_or_never().is_none());
    }
    go.send(()).unwrap();
    assert_eq!((&mut asked[0]).await.unwrap().place, 1);
    standing.recv().await.unwrap();
    go.send(()).unwrap();
    // Nobody has moved the last one meanwhile: it is in no group yet.
    let places = (asked.remove(1).await.unwrap().place, asked.remove(1).await.unwrap().place);
    assert_eq!((places, server.status().await.unwrap().last_place), ((2, 3), 3));
    drop(go);
    assert_eq!(asked.remove(1).await.unwrap().place, 4);
    drop(server);
    other.shutdown_background();
}

both!(
    reads_show_what_is_durable,
    async fn reading<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        let server = rig.server::<RELAY>(&rig.outbox().await).start().await.unwrap();
        assert_eq!(server.read(Ledger::total).await.unwrap(), 0);
        for number in 1..=50 {
            server.request(add(1, 1)).await.unwrap();
            assert_eq!(server.read(|ledger| ledger.balance(1)).await.unwrap(), number);
        }
        // A long read stops nobody.
        let (begun, hear) = tokio::sync::oneshot::channel();
        let (finish, finished) = std::sync::mpsc::channel::<()>();
        let reader = server.clone();
        let long = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(reader.read(move |ledger: &Ledger<RELAY>| {
                begun.send(()).unwrap();
                finished.recv().unwrap();
                ledger.balance(1)
            }))
        });
        hear.await.unwrap();
        for _ in 0..100 {
            server.request(add(1, 1)).await.unwrap();
        }
        finish.send(()).unwrap();
        assert_eq!(long.join().unwrap().unwrap(), 50);
        assert_eq!(server.read(|ledger| ledger.balance(1)).await.unwrap(), 150);
    }
);

both!(
    a_read_long_after_the_last_one_shows_everything,
    async fn reading_rarely<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        // Nothing is sent.
        let policy = BatchPolicy::default().with_delay(LONG).with_count(100_000).with_cycles(u64::MAX);
        let server = rig.server::<RELAY>(&rig.outbox().await).batches(policy).start().await.unwrap();
        let mut asked = 0;
        // The state for reads is let go after 8,192 requests: more than once here.
        for _ in 0..3 {
            assert_eq!(server.read(|ledger| ledger.balance(1)).await.unwrap(), asked);
            for _ in 0..9 {
                join_all((0..1_000).map(|_| async { server.request(add(1, 1)).await.unwrap() })).await;
            }
            asked += 9_000;
        }
        assert_eq!(server.read(|ledger| ledger.balance(1)).await.unwrap(), asked);
    }
);

both!(
    batches_are_cut_by_count_and_by_cycles,
    async fn cutting<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        let cycles = 100 + 700;
        for (policy, most) in
            [(BatchPolicy::default().with_count(5), 5), (BatchPolicy::default().with_cycles(cycles), 7)]
        {
            let rig = if most == 5 { &rig } else { &Rig::new::<RELAY>().await };
            let outbox = rig.outbox().await;
            let server = rig.server::<RELAY>(&outbox).batches(policy).start().await.unwrap();
            join_all((0..most * 4).map(|_| async { server.request(add(1, 1)).await.unwrap() })).await;
            timeout(LONG, server.settled(most * 4, Until::Relayed)).await.expect("it settles").unwrap();
            assert_eq!(rig.landed(), 4);
            assert_eq!(rig.root(), server.status().await.unwrap().root);
            // Fewer wait for the delay; an end hurries them.
            server.request(add(1, 1)).await.unwrap();
            let left = server.drain(LONG).await.unwrap();
            assert_eq!((left.waiting, rig.landed()), (0, 5));
            // What it says of itself stays true, also once the outbox is drained.
            outbox.drain(LONG).await.unwrap();
            let after = server.status().await.unwrap();
            for status in [&left, &after] {
                assert_eq!(
                    (status.last_place, status.root, &status.state),
                    (most * 4 + 1, rig.root(), &AppState::Ended)
                );
                assert_eq!((status.batched, status.waiting), (most * 4 + 1, 0));
                let last = status.batches.last().map_or(status.final_place, |batch| batch.last);
                assert_eq!(last, most * 4 + 1);
            }
            let error = server.request(add(1, 1)).await.unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Closed, Outcome::NotSent));
        }
    }
);
