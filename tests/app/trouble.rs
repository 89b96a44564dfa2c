//! What goes wrong at the node and on the chain: mended, or a stop that says what to do.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use futures_util::future::join_all;
use infinityvm_sdk::{
    Client, ErrorKind, Outcome, Revision, Until,
    app::{AppServer, AppState, AppStop, BatchPolicy, BatchProgress, ElfFinding, StateTransition, stf::Inputs},
    devnode::{DevNode, ProgramOutput},
    nonce::Given,
    outbox::{HoldReason, JobTicket, MemoryStore, Outbox},
    primitives::B256,
    wire::ProgramUpload,
};
use tokio::time::{Duration, timeout};

use crate::{
    both,
    ledger::{DRIFTS, Ledger, Order, PROGRAM_DRIFTS},
    rig::{CONSUMER, LONG, Rig, answers, eventually, never, often, orders, program, quick, stop},
};

async fn add<S: StateTransition<Request = Order>>(server: &AppServer<S>, count: usize) -> u64 {
    let asked = (0..count).map(|_| async { server.request(Order::Add { account: 1, amount: 1 }).await.unwrap().place });
    join_all(asked).await.into_iter().max().unwrap()
}

async fn settles<S: StateTransition>(server: &AppServer<S>, place: u64) {
    let settled = timeout(LONG, server.settled(place, Until::Relayed)).await;
    if settled.is_err() {
        panic!("it does not settle: {:?}", server.status().await);
    }
    settled.unwrap().unwrap();
}

both!(
    a_program_that_is_missing_is_uploaded_again,
    async fn missing<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        // A program that the node knows only by its file, which nobody has uploaded yet.
        let elf = rig.node.add_elf(program::<RELAY>(rig.conduct.clone()));
        let client = rig.client().connect().await.unwrap();
        let upload = if RELAY { ProgramUpload::sp1(elf.clone()) } else { ProgramUpload::risc0(elf.clone()) };
        let id = infinityvm_sdk::ProgramId::new(infinityvm_sdk::primitives::keccak256(&elf).to_vec());
        drop(client);
        let outbox = rig.outbox().await;
        let server = AppServer::builder(outbox, CONSUMER, id).initial(Ledger::<RELAY>::default()).batches(quick());
        let server = server.upload(upload).start().await.unwrap();
        let place = add(&server, 3).await;
        settles(&server, place).await;
        assert_eq!(rig.root(), server.status().await.unwrap().root);
    }
);

both!(
    a_batch_that_runs_out_of_cycles_gets_more_and_then_is_split,
    async fn cycles<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        // A batch of eight allows 900, and at most 2,000: it takes 2,500. Halves take 1,300.
        rig.conduct.extra_cycles.store(200, SeqCst);
        let policy = BatchPolicy::default().with_count(8).with_most_cycles(2_000).with_snapshots(1);
        let server = rig.server::<RELAY>(&rig.outbox().await).batches(policy).start().await.unwrap();
        let place = add(&server, 8).await;
        settles(&server, place).await;
        assert_eq!((rig.landed(), rig.root()), (2, server.status().await.unwrap().root));
        let cycles: Vec<_> = server.status().await.unwrap().batches.iter().map(|batch| batch.max_cycles).collect();
        assert!(cycles.iter().all(|cycles| *cycles == 2_000), "{cycles:?}");
        // The server goes on.
        rig.conduct.extra_cycles.store(0, SeqCst);
        let place = add(&server, 8).await;
        settles(&server, place).await;
        assert_eq!((rig.landed(), rig.root()), (3, server.status().await.unwrap().root));
    }
);

both!(
    a_batch_is_split_where_its_requests_are,
    async fn refused<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        // A batch of four allows 500, and at most 900: it takes 1,300. Halves take 700.
        rig.conduct.extra_cycles.store(200, SeqCst);
        let policy = BatchPolicy::default().with_count(4).with_most_cycles(900);
        let server = rig.server::<RELAY>(&rig.outbox().await).batches(policy).start().await.unwrap();
        // More than half of its places are of requests that are in no batch.
        for _ in 0..6 {
            server.request(Order::Panic).await.unwrap_err();
        }
        let place = add(&server, 4).await;
        settles(&server, place).await;
        assert_eq!((place, rig.landed(), rig.root()), (10, 2, server.status().await.unwrap().root));
    }
);

both!(
    a_batch_gets_no_more_cycles_than_a_job_may_have,
    async fn limited<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        // A batch of eight allows 900, and takes 2,500. Halves take 1,300.
        rig.conduct.extra_cycles.store(200, SeqCst);
        let limits = infinityvm_sdk::Limits::default().with_max_cycles(1_500);
        let policy = BatchPolicy::default().with_count(8).with_limits(limits);
        let server = rig.server::<RELAY>(&rig.outbox().await).batches(policy).start().await.unwrap();
        let place = add(&server, 8).await;
        settles(&server, place).await;
        assert_eq!((rig.landed(), rig.root()), (2, server.status().await.unwrap().root));
    }
);

/// By a person. In the Relay revision a lane of an app gives up nothing that has a nonce.
#[tokio::test]
async fn a_job_that_was_given_up_stops_the_server() {
    let rig = Rig::new::<false>().await;
    rig.conduct.extra_cycles.store(1_000_000, SeqCst);
    let policy = || quick().with_count(1).with_most_cycles(200);
    let outbox = rig.outbox().await;
    let server = rig.server::<false>(&outbox).batches(policy()).start().await.unwrap();
    add(&server, 1).await;
    assert!(matches!(stop(&server).await, AppStop::BatchFailed { .. }));
    let ticket = server.batch(1).unwrap().ticket.unwrap();
    outbox.abandon(JobTicket::from_number(ticket), "it never runs").await.unwrap();
    let given_up = |state: &AppState| matches!(state, AppState::Stopped(AppStop::JobGivenUp { first: 1, .. }));
    timeout(LONG, server.states().wait_for(given_up)).await.expect("it says so").unwrap();
    assert_eq!(server.request(Order::Add { account: 1, amount: 1 }).await.unwrap_err().kind(), ErrorKind::Stopped);
    drop(server);
    let server = rig.server::<false>(&outbox).batches(policy()).start().await.unwrap();
    assert!(matches!(stop(&server).await, AppStop::JobGivenUp { batch: 1, .. }));
    drop(server);
    rig.conduct.extra_cycles.store(0, SeqCst);
    let server = rig.server::<false>(&outbox).batches(policy()).rechain(Ledger::default(), "it never ran");
    let server = server.start().await.unwrap();
    let place = add(&server, 1).await;
    settles(&server, place).await;
    assert_eq!((place, rig.root()), (2, server.status().await.unwrap().root));
}

both!(
    a_request_that_runs_out_of_cycles_alone_stops_the_server,
    async fn hopeless<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        rig.conduct.extra_cycles.store(1_000_000, SeqCst);
        let policy = quick().with_count(1).with_cycles(300);
        let outbox = rig.outbox().await;
        let server = rig.server::<RELAY>(&outbox).batches(policy).start().await.unwrap();
        add(&server, 1).await;
        assert!(matches!(stop(&server).await, AppStop::BatchFailed { .. }));
        let error = server.request(Order::Add { account: 1, amount: 1 }).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Stopped, Outcome::NotSent));
        assert!(server.status().await.unwrap().todo.is_some());
    }
);

both!(
    another_root_of_the_operator_stops_the_server,
    async fn another_root<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        let outbox = rig.outbox().await;
        let server = rig.server::<RELAY>(&outbox).start().await.unwrap();
        let proven = add(&server, 3).await;
        timeout(LONG, server.settled(proven, Until::Finalized { confirmations: 1 })).await.unwrap().unwrap();
        rig.conduct.lies.store(true, SeqCst);
        add(&server, 2).await;
        let AppStop::RootDiffers { first, expected, executed, .. } = stop(&server).await else {
            panic!("another stop")
        };
        assert_eq!(first, proven + 1);
        assert!(executed.is_some_and(|executed| executed != expected));
        assert_eq!(server.answers_since(first - 1).await.unwrap().len(), 2);
        // It stays so after a restart.
        drop(server);
        let server = rig.server::<RELAY>(&outbox).start().await.unwrap();
        assert!(matches!(stop(&server).await, AppStop::RootDiffers { .. }));
        drop(server);
        // Until somebody says which state the contract has: here it is put back by hand, as nobody knows the state of the
        // node's root.
        rig.conduct.lies.store(false, SeqCst);
        let mut state = Ledger::<RELAY>::default();
        eventually("the lie lands", async || rig.landed() == 2).await;
        _ = state.apply(&Order::Add { account: 9, amount: 9 }, &infinityvm_sdk::app::stf::Context::request(1, 1));
        let wrong = rig.server::<RELAY>(&outbox).rechain(state.clone(), "by hand").start().await.unwrap();
        assert!(matches!(stop(&wrong).await, AppStop::Journal { .. }));
        drop(wrong);
        rig.node.chain().set_latest_state_root(CONSUMER, state.root().into());
        let server = rig.server::<RELAY>(&outbox).rechain(state, "by hand").start().await.unwrap();
        let place = add(&server, 4).await;
        settles(&server, place).await;
        assert_eq!(server.read(|ledger| (ledger.balance(1), ledger.balance(9))).await.unwrap(), (4, 9));
        assert_eq!(rig.root(), server.status().await.unwrap().root);
    }
);

both!(
    what_was_given_up_once_is_not_given_up_again,
    async fn given_up<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        let outbox = rig.outbox().await;
        let server = rig.server::<RELAY>(&outbox).start().await.unwrap();
        let proven = add(&server, 3).await;
        timeout(LONG, server.settled(proven, Until::Finalized { confirmations: 1 })).await.unwrap().unwrap();
        let state = server.read(Ledger::<RELAY>::clone).await.unwrap();
        drop(server);
        let server = rig.server::<RELAY>(&outbox).batches(never()).start().await.unwrap();
        let lost = add(&server, 2).await;
        drop(server);
        let rechained =
            |reason: &'static str| rig.server::<RELAY>(&outbox).batches(never()).rechain(state.clone(), reason);
        let server = rechained("by hand").start().await.unwrap();
        let kept = add(&server, 4).await;
        assert_eq!(server.read(|ledger| ledger.balance(1)).await.unwrap(), 7);
        drop(server);
        // The command is still there.
        let server = rechained("by hand").start().await.unwrap();
        assert_eq!(server.read(|ledger| ledger.balance(1)).await.unwrap(), 7);
        // Whoever waits is told what was given up, and only of that.
        let waited = timeout(LONG, server.settled(lost, Until::Executed)).await.unwrap();
        assert_eq!(waited.unwrap_err().kind(), ErrorKind::JobFailed);
        server.settled(proven, Until::Relayed).await.unwrap();
        drop(server);
        // Another reason is another command.
        let server = rechained("once more").start().await.unwrap();
        let last = add(&server, 1).await;
        assert_eq!((last, server.read(|ledger| ledger.balance(1)).await.unwrap()), (10, 4));
        drop(server);
        let server = rig.server::<RELAY>(&outbox).batches(quick().with_snapshots(1)).start().await.unwrap();
        timeout(LONG, server.settled(last, Until::Finalized { confirmations: 1 })).await.unwrap().unwrap();
        for place in [lost, kept] {
            assert_eq!(server.settled(place, Until::Relayed).await.unwrap_err().kind(), ErrorKind::JobFailed);
        }
        assert_eq!(rig.root(), server.status().await.unwrap().root);
    }
);

both!(
    a_contract_with_another_state_stops_the_server_until_it_has_the_right_one,
    async fn stale<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        let server = rig.server::<RELAY>(&rig.outbox().await).start().await.unwrap();
        let place = add(&server, 3).await;
        settles(&server, place).await;
        let root = rig.root();
        rig.node.chain().set_latest_state_root(CONSUMER, B256::repeat_byte(1));
        let place = add(&server, 1).await;
        let AppStop::StaleState { expected, found, .. } = stop(&server).await else { panic!("another stop") };
        assert_eq!((expected, found, rig.landed()), (root, B256::repeat_byte(1), 1));
        rig.node.chain().set_latest_state_root(CONSUMER, root);
        answers(&server).await;
        settles(&server, place).await;
    }
);

both!(
    a_chain_that_shows_an_earlier_state_is_waited_for,
    async fn lagging<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        let lags = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&lags);
        let server = rig.server::<RELAY>(&rig.outbox().await).at_points(move |name| {
            if name == "app_lags" {
                counted.fetch_add(1, SeqCst);
            }
        });
        let server = server.start().await.unwrap();
        let earlier = rig.root();
        let place = add(&server, 3).await;
        settles(&server, place).await;
        let root = rig.root();
        rig.node.chain().set_latest_state_root(CONSUMER, earlier);
        let place = add(&server, 1).await;
        // More often than it takes to believe that it is another state.
        eventually("it looks", async || lags.load(SeqCst) > 4).await;
        assert_eq!(server.state(), AppState::Answering);
        assert!(server.status().await.unwrap().alarm.is_some());
        rig.node.chain().set_latest_state_root(CONSUMER, root);
        settles(&server, place).await;
        assert_eq!(server.status().await.unwrap().alarm, None);
    }
);

/// A node that forgot a job runs it again, and to another end.
#[tokio::test]
async fn a_root_that_is_signed_after_another_one_stops_the_server() {
    let rig = Rig::new::<true>().await;
    let outbox = rig.outbox().await;
    let server = rig.server::<true>(&outbox).start().await.unwrap();
    rig.node.faults().stall_relays(true);
    let place = add(&server, 3).await;
    timeout(LONG, server.settled(place, Until::Executed)).await.unwrap().unwrap();
    rig.conduct.lies.store(true, SeqCst);
    rig.node.restart();
    rig.node.faults().stall_relays(false);
    for server in [Some(server), None] {
        let server = match server {
            Some(server) => server,
            None => rig.server::<true>(&outbox).start().await.unwrap(),
        };
        let AppStop::RootDiffers { first: 1, expected, executed, .. } = stop(&server).await else {
            panic!("another stop")
        };
        assert!(executed.is_some_and(|executed| executed != expected && executed == rig.root()));
    }
}

#[tokio::test]
async fn a_node_that_lost_everything_is_told_again() {
    let rig = Rig::new::<true>().await;
    let server = rig.server::<true>(&rig.outbox().await).start().await.unwrap();
    rig.node.faults().stall_relays(true);
    let place = add(&server, 3).await;
    timeout(LONG, server.settled(place, Until::Executed)).await.unwrap().unwrap();
    rig.node.restart();
    rig.node.faults().stall_relays(false);
    settles(&server, place).await;
    assert_eq!(rig.root(), server.status().await.unwrap().root);
}

#[tokio::test]
async fn a_nonce_that_others_took_stops_the_server() {
    let rig = Rig::new::<true>().await;
    let lane = rig.lane().with_patience(Duration::from_millis(300));
    let outbox = rig.outbox_on(infinityvm_sdk::outbox::MemoryStore::new(), lane).await;
    let server = rig.server::<true>(&outbox).start().await.unwrap();
    let place = add(&server, 1).await;
    settles(&server, place).await;
    let gate = rig.node.faults().hold_executions();
    add(&server, 1).await;
    eventually("the job is sent", async || {
        server.status().await.unwrap().batches.iter().any(|batch| batch.progress == BatchProgress::Sent)
    })
    .await;
    rig.node.chain().take_nonce(CONSUMER).unwrap();
    gate.open();
    let AppStop::LaneStopped { reason, .. } = stop(&server).await else { panic!("another stop") };
    assert_eq!(reason, HoldReason::NonceTaken);
}

#[tokio::test]
async fn a_result_that_reverts_stops_the_server_until_it_is_there() {
    let rig = Rig::new::<true>().await;
    let lane = rig.lane().with_patience(Duration::from_millis(300));
    let outbox = rig.outbox_on(infinityvm_sdk::outbox::MemoryStore::new(), lane).await;
    let server = rig.server::<true>(&outbox).start().await.unwrap();
    rig.node.faults().stall_relays(true);
    let place = add(&server, 1).await;
    timeout(LONG, server.settled(place, Until::Executed)).await.unwrap().unwrap();
    let root = rig.root();
    rig.node.chain().set_latest_state_root(CONSUMER, B256::repeat_byte(1));
    rig.node.faults().stall_relays(false);
    let AppStop::NotRelayed { note, .. } = stop(&server).await else { panic!("another stop") };
    assert!(!note.is_empty());
    rig.node.chain().set_latest_state_root(CONSUMER, root);
    rig.node.restart();
    answers(&server).await;
    settles(&server, place).await;
    let place = add(&server, 1).await;
    settles(&server, place).await;
}

// In one revision, as what drifts is one for the process.
#[tokio::test]
async fn a_state_transition_that_is_not_deterministic_is_found_before_anything_is_sent() {
    let rig = Rig::new::<true>().await;
    let outbox = rig.outbox().await;
    let policy = BatchPolicy::default().with_delay(Duration::from_secs(3_600));
    let server = rig.server::<true>(&outbox).batches(policy.clone()).start().await.unwrap();
    server.request(Order::Drift).await.unwrap();
    drop(server);
    DRIFTS.store(true, SeqCst);
    let server = rig.server::<true>(&outbox).batches(policy).start().await.unwrap();
    let stop = stop(&server).await;
    DRIFTS.store(false, SeqCst);
    assert!(matches!(stop, AppStop::NotDeterministic { place: 1, .. }), "{stop}");
    assert_eq!(rig.landed(), 0);
}

// As above.
#[tokio::test]
async fn a_program_that_does_not_agree_is_found_before_anything_is_sent() {
    let rig = Rig::new::<true>().await;
    let outbox = rig.outbox().await;
    PROGRAM_DRIFTS.store(true, SeqCst);
    let server = rig.server::<true>(&outbox).start().await.unwrap();
    server.request(Order::Drift).await.unwrap();
    let stop = stop(&server).await;
    assert!(matches!(stop, AppStop::ProgramDiffers { first: 1, last: 1, .. }), "{stop}");
    assert_eq!(outbox.status().await.unwrap().lanes.remove(0).queued, 0);
    // Mended, the request is proven.
    drop(server);
    PROGRAM_DRIFTS.store(false, SeqCst);
    let server = rig.server::<true>(&outbox).start().await.unwrap();
    settles(&server, 1).await;
    assert_eq!(rig.root(), server.status().await.unwrap().root);
}

/// A node of the State revision that lost its records, too: the same bytes are sent again.
#[tokio::test]
async fn a_chain_of_states_goes_on_at_a_node_that_forgot_everything() {
    let rig = Rig::new::<false>().await;
    let client = Client::builder().grpc(rig.node.grpc_url()).revision(Revision::State).signer(rig.signer.clone());
    let client = client.operator(rig.node.operator()).nonces(Given).polling(often()).connect().await.unwrap();
    let lane = rig.lane().with_keep(Duration::from_secs(3_600));
    let outbox = Outbox::builder(client, MemoryStore::new()).network("test").lane(lane).start().await.unwrap();
    let server = rig.server::<false>(&outbox).start().await.unwrap();
    let place = add(&server, 3).await;
    settles(&server, place).await;
    rig.node.faults().stall_relays(true);
    let place = add(&server, 4).await;
    timeout(LONG, server.settled(place, Until::Executed)).await.unwrap().unwrap();
    let mut saved: serde_json::Value = serde_json::from_str(&rig.node.save().unwrap()).unwrap();
    saved["records"] = serde_json::json!([]);
    let address: std::net::SocketAddr = rig.node.grpc_url().trim_start_matches("http://").parse().unwrap();
    let Rig { node, conduct, .. } = rig;
    drop(node);
    let node = loop {
        let node = DevNode::builder(Revision::State).load(saved.to_string()).grpc_address(address);
        // The port is free a moment after the node that had it is gone.
        match node.start().await {
            Ok(node) => break node,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    node.register_program(program::<false>(conduct));
    settles(&server, place).await;
    let place = add(&server, 2).await;
    settles(&server, place).await;
    let status = server.status().await.unwrap();
    assert_eq!(node.chain().latest_state_root(CONSUMER), Some(status.root));
    assert_eq!((status.last_place, status.state), (9, AppState::Answering));
}

#[tokio::test]
async fn batches_are_sent_while_earlier_ones_wait_for_their_relay() {
    let rig = Rig::new::<true>().await;
    let server = rig.server::<true>(&rig.outbox().await).start().await.unwrap();
    rig.node.faults().stall_relays(true);
    for _ in 0..5 {
        let place = add(&server, 2).await;
        timeout(LONG, server.settled(place, Until::Executed)).await.unwrap().unwrap();
    }
    assert_eq!((server.status().await.unwrap().batches.len(), rig.landed()), (5, 0));
    assert_eq!(server.state(), AppState::Answering);
    rig.node.faults().stall_relays(false);
    settles(&server, 10).await;
    assert_eq!((rig.landed(), rig.root()), (5, server.status().await.unwrap().root));
}

#[tokio::test]
async fn without_an_order_one_batch_at_a_time_is_sent() {
    let rig = Rig::new::<false>().await;
    let server = rig.server::<false>(&rig.outbox().await).start().await.unwrap();
    rig.node.faults().stall_relays(true);
    let first = add(&server, 2).await;
    timeout(LONG, server.settled(first, Until::Executed)).await.unwrap().unwrap();
    let last = add(&server, 6).await;
    // Until the relay comes, the others gather.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.status().await.unwrap().batches.iter().filter(|batch| batch.ticket.is_some()).count(), 1);
    rig.node.faults().stall_relays(false);
    settles(&server, last).await;
    assert_eq!((rig.landed(), rig.root()), (2, server.status().await.unwrap().root));
}

/// The one order that the compiled program carries out otherwise.
const ODD: Order = Order::Add { account: 13, amount: 1 };

/// The ledger's program, as a compiler has made it: it carries out [`ODD`] otherwise.
fn compiled<const RELAY: bool>(inputs: &Inputs) -> Vec<u8> {
    let mut output = Ledger::<RELAY>::program(inputs).unwrap();
    if orders::<RELAY>(inputs).iter().any(|(_, order)| *order == ODD) {
        output[40] ^= 1;
    }
    output
}

both!(
    the_first_request_that_the_compiled_program_carries_out_otherwise_is_found,
    async fn found<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        let node = rig.node.register_program(|input| {
            let (onchain, offchain) = (input.onchain.to_vec(), input.offchain.to_vec());
            let inputs = Inputs { onchain, offchain, state: (!RELAY).then(|| input.state.to_vec()) };
            Ok(ProgramOutput::new(compiled::<RELAY>(&inputs)).with_cycles(1))
        });
        let outbox = rig.outbox().await;
        let whole = BatchPolicy::default().with_count(8).with_delay(Duration::from_secs(3_600));
        let builder = || {
            let server = AppServer::<Ledger<RELAY>>::builder(outbox.clone(), CONSUMER, node.clone());
            server.initial(Ledger::default()).batches(whole.clone())
        };
        let runs = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&runs);
        let server = builder().executor(move |inputs, cycles| {
            count.fetch_add(1, SeqCst);
            assert_eq!(cycles, 900);
            async move { Ok(compiled::<RELAY>(&inputs)) }
        });
        let server = server.start().await.unwrap();
        for order in [1, 2, 3, 4, 5, 13, 1, 13].map(|account| Order::Add { account, amount: 1 }) {
            server.request(order).await.unwrap();
        }
        let (place, expected, found) = differs(finding(&server).await);
        let at = server.answers_since(5).await.unwrap().remove(0);
        assert_eq!((place, expected, at.place), (6, at.root, 6));
        assert!(found.is_some_and(|found| found != expected));
        assert_eq!(runs.load(SeqCst), 4, "the whole batch, and three halves");
        assert!(server.request(ODD).await.unwrap_err().to_string().contains("at place 6"));
        // After a restart it is found again; without an executor it is not.
        drop(server);
        let server = builder().start().await.unwrap();
        assert!(matches!(stop(&server).await, AppStop::RootDiffers { finding: None, .. }));
        drop(server);
        let server = builder().executor(|inputs, _| async move { Ok(compiled::<RELAY>(&inputs)) });
        assert_eq!(differs(finding(&server.start().await.unwrap()).await).0, 6);
        // The program is fine here, or cannot be run.
        let server = builder().executor(|inputs, _| async move { Ok(Ledger::<RELAY>::program(&inputs).unwrap()) });
        assert_eq!(finding(&server.start().await.unwrap()).await, ElfFinding::Agrees);
        let server = builder().executor(|_, _| async { Err("no such file".to_owned()) }).start().await.unwrap();
        assert!(matches!(finding(&server).await, ElfFinding::Unknown { note, .. } if note == "no such file"));
    }
);

/// Waits until a server that has stopped as the operator signed another root has run the compiled program.
async fn finding<S: StateTransition>(server: &AppServer<S>) -> ElfFinding {
    let mut states = server.states();
    let found = |state: &AppState| match state {
        AppState::Stopped(AppStop::RootDiffers { finding, .. }) => finding.as_deref().cloned(),
        _ => None,
    };
    let state = timeout(LONG, states.wait_for(|state| found(state).is_some())).await.expect("it is found").unwrap();
    found(&state).unwrap()
}

fn differs(finding: ElfFinding) -> (u64, B256, Option<B256>) {
    let ElfFinding::Differs { place, expected, found, .. } = finding else { panic!("{finding:?}") };
    (place, expected, found)
}
