//! Logs of the chain that become requests: each once, in the order of the chain, and none that may yet be taken back.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use infinityvm_sdk::{
    Client, Error, ErrorKind, LocalSigner, Result, RetryPolicy, Revision, Until,
    app::{
        AppServer, AppState, AppStop, ChainInputs, ChainInputsStatus, EntryKind, JournalEntry,
        stf::{Codec, StateTransition},
    },
    chain::{Answer, At, Block, Chain, ChainReader, Question, RpcReader},
    devnode::{SimChain, Tear},
    nonce::Given,
    outbox::{MemoryStore, Outbox},
    primitives::{Address, B256, keccak256},
};
use serde_json::json;
use support::{
    anvil::Anvil,
    harness::{FOLLOW_POINTS, Random, seed},
    rpc::Rpc,
};
use tokio::time::{Duration, timeout};

use crate::{
    both,
    ledger::{Ledger, Order},
    rig::{CONSUMER, LONG, Rig, answers, eventually, never, quick, stop},
};

fn deposit() -> B256 {
    keccak256("Deposit(bytes)")
}

fn add(account: u16, amount: u64) -> Order {
    Order::Add { account, amount }
}

/// What a deposit asks for; other logs are not for the app.
fn inputs<const RELAY: bool>() -> ChainInputs<Ledger<RELAY>> {
    ChainInputs::since(1, |log| (log.topics == [deposit()]).then(|| Order::decode(&log.data).ok())?)
}

fn emit(chain: &SimChain, order: &Order) -> Block {
    chain.emit(CONSUMER, vec![deposit()], order.encoded())
}

async fn seen<S: StateTransition>(server: &AppServer<S>) -> ChainInputsStatus {
    server.status().await.unwrap().chain_inputs.unwrap()
}

/// Waits until the server has looked at the chain with this head, and has read all that is deep enough.
async fn looked<S: StateTransition>(server: &AppServer<S>, head: Block) {
    eventually("the follower looks", async || {
        let seen = seen(server).await;
        seen.head >= Some(head.number) && seen.behind == Some(0)
    })
    .await;
}

/// The logs that are in the journal: the block, what was asked for, and what was said.
async fn from_chain<S: StateTransition>(server: &AppServer<S>) -> Vec<(u64, Order, u64)> {
    let of = |entry: JournalEntry| {
        let said = if entry.kind == EntryKind::Answered { u64::decode(&entry.answer).unwrap() } else { 0 };
        entry.log.map(|(block, _)| (block, Order::decode(&entry.request).unwrap(), said))
    };
    server.answers_since(0).await.unwrap().into_iter().filter_map(of).collect()
}

both!(
    logs_become_requests_in_the_one_order_once_they_are_final,
    async fn depositing<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        let chain = &rig.node.chain();
        chain.set_finality(2);
        // Each relay would be one more block.
        let server = rig.server::<RELAY>(&rig.outbox().await).batches(never()).chain_inputs(inputs());
        let server = server.start().await.unwrap();
        assert_eq!(server.request(add(1, 1)).await.unwrap().outcome, Ok(1));
        let first = emit(chain, &add(1, 10));
        chain.emit(CONSUMER, vec![keccak256("Other()")], add(1, 500).encoded());
        let head = chain.emit(Address::repeat_byte(8), vec![deposit()], add(1, 700).encoded());
        looked(&server, head).await;
        // It is final by now. The next ones are not.
        assert_eq!(from_chain(&server).await, [(first.number, add(1, 10), 11)]);
        let second = emit(chain, &Order::Move { from: 9, to: 1, amount: 5 });
        let third = emit(chain, &add(2, 7));
        looked(&server, third).await;
        assert_eq!(from_chain(&server).await.len(), 1);
        assert_eq!(server.request(add(2, 1)).await.unwrap().outcome, Ok(1));
        looked(&server, chain.mine(2)).await;
        let expected = [(first.number, 11), (second.number, 0), (third.number, 8)];
        let found: Vec<_> = from_chain(&server).await.into_iter().map(|(block, _, said)| (block, said)).collect();
        assert_eq!(found, expected);
        // What the chain brings is proven like all else: the program is told of the block, too.
        let last = server.status().await.unwrap().last_place;
        assert_eq!(last, 5);
        let read = server.read(|ledger| (ledger.balance(1), ledger.balance(2), ledger.balance(u16::MAX - 1)));
        assert_eq!(read.await.unwrap(), (11, 8, first.number + third.number));
        let drained = server.drain(LONG).await.unwrap();
        assert_eq!((drained.waiting, drained.root), (0, rig.root()));
    }
);

/// What a reorganisation changes before it is final was never there.
#[tokio::test]
async fn a_shallow_reorganisation_loses_nothing_and_repeats_nothing() {
    for confirmations in [None, Some(4)] {
        let rig = Rig::new::<true>().await;
        let chain = &rig.node.chain();
        chain.set_finality(3);
        let inputs = match confirmations {
            None => inputs::<true>(),
            Some(blocks) => {
                // Whatever the chain calls final.
                chain.set_finality(0);
                inputs().with_confirmations(blocks)
            }
        };
        let server = rig.server::<true>(&rig.outbox().await).batches(never()).chain_inputs(inputs);
        let server = server.start().await.unwrap();
        emit(chain, &add(1, 1));
        for round in 1..=5 {
            emit(chain, &add(2, 100 + round));
            looked(&server, emit(chain, &add(3, 200 + round))).await;
            // Both are gone: one comes again later, in the place of the other.
            chain.reorganise(2);
            emit(chain, &add(3, 200 + round));
            looked(&server, emit(chain, &add(4, 300 + round))).await;
        }
        looked(&server, chain.mine(3)).await;
        let mut expected = vec![add(1, 1)];
        expected.extend((1..=5).flat_map(|round| [add(3, 200 + round), add(4, 300 + round)]));
        let found: Vec<_> = from_chain(&server).await.into_iter().map(|(_, order, _)| order).collect();
        assert_eq!(found, expected, "{confirmations:?}");
        assert_eq!(server.state(), AppState::Answering);
    }
}

both!(
    a_deep_reorganisation_stops_the_server,
    async fn deep<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        let (chain, outbox) = (&rig.node.chain(), rig.outbox().await);
        let builder = || rig.server::<RELAY>(&outbox).batches(never()).chain_inputs(inputs());
        let server = builder().start().await.unwrap();
        let deposited = emit(chain, &add(1, 10));
        looked(&server, deposited).await;
        assert_eq!(from_chain(&server).await.len(), 1);
        let instead = chain.reorganise(1);
        let AppStop::Reorganised { block, expected, found, .. } = stop(&server).await else { panic!("another stop") };
        assert_eq!((block, expected, found), (deposited.number, deposited.hash, instead.hash));
        let error = server.request(add(1, 1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stopped);
        // It stays so, until somebody says what to go on from.
        drop(server);
        let server = builder().start().await.unwrap();
        assert!(matches!(stop(&server).await, AppStop::Reorganised { .. }));
        drop(server);
        let server = builder().rechain(Ledger::default(), "the deposit was taken back").rechain_logs(1);
        let server = server.start().await.unwrap();
        answers(&server).await;
        looked(&server, emit(chain, &add(2, 3))).await;
        assert_eq!(server.read(|ledger| (ledger.balance(1), ledger.balance(2))).await.unwrap(), (0, 3));
        assert_eq!(server.state(), AppState::Answering);
    }
);

/// Who gives up requests of the chain reads their logs again.
#[tokio::test]
async fn logs_that_were_given_up_are_read_again() {
    let rig = Rig::new::<true>().await;
    let (chain, outbox) = (&rig.node.chain(), rig.outbox().await);
    let server = rig.server::<true>(&outbox).chain_inputs(inputs()).start().await.unwrap();
    looked(&server, emit(chain, &add(1, 10))).await;
    timeout(LONG, server.settled(1, Until::Relayed)).await.expect("it settles").unwrap();
    let mut proven = Ledger::<true>::default();
    let entry = server.answers_since(0).await.unwrap().remove(0);
    let context = infinityvm_sdk::app::stf::Context::chain(1, entry.time, entry.log.unwrap().0, 0);
    _ = proven.apply(&add(1, 10), &context);
    assert_eq!(rig.root(), B256::from(proven.root()));
    drop(server);
    // One more is in the journal and in no batch.
    let server = rig.server::<true>(&outbox).batches(never()).chain_inputs(inputs()).start().await.unwrap();
    server.request(add(5, 1)).await.unwrap();
    looked(&server, emit(chain, &add(2, 20))).await;
    assert_eq!(from_chain(&server).await.len(), 2);
    drop(server);
    let server = rig.server::<true>(&outbox).chain_inputs(inputs()).rechain(proven, "as a test");
    let server = server.start().await.unwrap();
    answers(&server).await;
    eventually("it is read again", async || from_chain(&server).await.len() == 3).await;
    let last = server.status().await.unwrap().last_place;
    timeout(LONG, server.settled(last, Until::Relayed)).await.expect("it settles").unwrap();
    let read = server.read(|ledger| (ledger.balance(1), ledger.balance(2), ledger.balance(5)));
    assert_eq!(read.await.unwrap(), (10, 20, 0));
    assert_eq!(rig.root(), server.status().await.unwrap().root);
}

both!(
    deposits_that_another_root_has_are_not_read_again,
    async fn another_root<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        let (chain, outbox) = (&rig.node.chain(), rig.outbox().await);
        // The node's program adds one to each balance of a batch with a deposit.
        rig.conduct.adds.store(true, SeqCst);
        let server = rig.server::<RELAY>(&outbox).chain_inputs(inputs()).start().await.unwrap();
        let block = emit(chain, &add(1, 10));
        assert!(matches!(stop(&server).await, AppStop::RootDiffers { .. }));
        let entry = server.answers_since(0).await.unwrap().remove(0);
        drop(server);
        eventually("it lands", async || rig.landed() == 1).await;
        rig.conduct.adds.store(false, SeqCst);
        // What the contract has by now: the deposit, in the node's way.
        let mut state = Ledger::<RELAY>::default();
        let context = infinityvm_sdk::app::stf::Context::chain(1, entry.time, block.number, 0);
        _ = state.apply(&add(1, 11), &context);
        assert_eq!(rig.root(), B256::from(state.root()));
        let builder =
            || rig.server::<RELAY>(&outbox).chain_inputs(inputs()).rechain(state.clone(), "as the node has it");
        let server = builder().start().await.unwrap();
        answers(&server).await;
        looked(&server, emit(chain, &add(1, 5))).await;
        assert_eq!(server.read(|ledger| ledger.balance(1)).await.unwrap(), 16);
        assert_eq!(from_chain(&server).await.len(), 2);
        timeout(LONG, server.settled(2, Until::Relayed)).await.expect("it settles").unwrap();
        assert_eq!(rig.root(), server.status().await.unwrap().root);
    }
);

both!(
    a_server_that_ends_between_two_steps_reads_each_log_once,
    async fn between_two_steps<const RELAY: bool>() {
        // Those in the writer are passed by every commit.
        for point in FOLLOW_POINTS.into_iter().chain(["app_applied", "app_appended"]) {
            for time in 1..=3 {
                let rig = Rig::new::<RELAY>().await;
                let (chain, outbox) = (&rig.node.chain(), rig.outbox().await);
                let passed = AtomicUsize::new(0);
                let server = rig.server::<RELAY>(&outbox).chain_inputs(inputs()).at_points(move |name| {
                    if name == point && passed.fetch_add(1, SeqCst) + 1 == time {
                        std::panic::panic_any("crashed");
                    }
                });
                let server = server.start().await.unwrap();
                let mut states = server.states();
                let mut deposits = 0;
                while *states.borrow_and_update() != AppState::Ended {
                    deposits += 1;
                    emit(chain, &add(1, deposits));
                    _ = server.request(add(2, 1)).key(format!("{deposits}")).await;
                    _ = timeout(Duration::from_millis(50), states.changed()).await;
                    assert!(deposits < 500, "it does not come to {point}");
                }
                drop(server);
                let server = rig.server::<RELAY>(&outbox).chain_inputs(inputs()).start().await.unwrap();
                answers(&server).await;
                looked(&server, chain.mine(1)).await;
                let found: Vec<_> = from_chain(&server).await.into_iter().map(|(_, order, _)| order).collect();
                let expected: Vec<_> = (1..=deposits).map(|amount| add(1, amount)).collect();
                assert_eq!(found, expected, "{point} {time}");
                let last = server.status().await.unwrap().last_place;
                timeout(LONG, server.settled(last, Until::Relayed)).await.expect("it settles").unwrap();
                assert_eq!(rig.root(), server.status().await.unwrap().root, "{point} {time}");
            }
        }
    }
);

/// A chain with so many logs in each block.
#[derive(Debug)]
struct Crowded(SimChain);

const CROWD: u64 = 300;

#[async_trait]
impl ChainReader for Crowded {
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        let of = |question: &Question| match question {
            Question::Block(At::Number(number)) => Question::Block(At::Number(number * CROWD)),
            Question::Logs(filter) => {
                let mut filter = filter.clone();
                filter.from_block = filter.from_block.saturating_sub(1) * CROWD + 1;
                filter.to_block *= CROWD;
                Question::Logs(filter)
            }
            other => other.clone(),
        };
        let questions: Vec<_> = questions.iter().map(of).collect();
        let mut answers = self.0.ask(&questions).await?;
        for answer in &mut answers {
            match answer {
                Ok(Answer::Block(Some(block))) => block.number /= CROWD,
                Ok(Answer::Logs(logs)) => {
                    for log in logs {
                        let within = log.block_number - 1;
                        log.block_number = within / CROWD + 1;
                        log.index = Some(within % CROWD);
                        let last = Question::Block(At::Number(log.block_number * CROWD));
                        let Ok(Answer::Block(Some(last))) = self.0.ask(&[last]).await?.remove(0) else { panic!() };
                        log.block_hash = last.hash;
                    }
                }
                _ => {}
            }
        }
        Ok(answers)
    }

    async fn next_head(&self, known: Option<B256>) -> Result<Block> {
        self.0.next_head(known).await
    }

    fn endpoint(&self) -> &str {
        "crowded"
    }
}

/// More than are handed over at once: the cursor is in the middle of a block then.
#[tokio::test]
async fn a_server_that_ends_within_a_block_goes_on_there() {
    let rig = Rig::new::<true>().await;
    let chain = rig.node.chain().clone();
    for amount in 1..=CROWD {
        emit(&chain, &add(1, amount));
    }
    let reads = Chain::new(Crowded(chain.clone()), chain.job_manager()).with_chain_id(chain.chain_id());
    let client = rig.client().chain(reads).operator(rig.node.operator()).connect().await.unwrap();
    let outbox = Outbox::builder(client, MemoryStore::new()).network("test").lane(rig.lane()).start().await.unwrap();
    let builder = || rig.server::<true>(&outbox).batches(never()).chain_inputs(inputs());
    let server = builder().at_points(|name| {
        if name == "app_fed" {
            std::panic::panic_any("crashed");
        }
    });
    let server = server.start().await.unwrap();
    let ended = |state: &AppState| *state == AppState::Ended;
    timeout(LONG, server.states().wait_for(ended)).await.expect("it ends").unwrap();
    let fed = from_chain(&server).await.len() as u64;
    assert!(fed > 0 && fed < CROWD, "{fed}");
    drop(server);
    let server = builder().start().await.unwrap();
    eventually("all are there", async || seen(&server).await.read == Some(1)).await;
    let entries = server.answers_since(0).await.unwrap();
    let logs: Vec<_> = entries.iter().map(|entry| (entry.log, Order::decode(&entry.request).unwrap())).collect();
    let expected = (1..=CROWD).map(|amount| (Some((1, amount - 1)), add(1, amount)));
    assert_eq!(logs, expected.collect::<Vec<_>>());
}

/// An RPC that fails, refuses what is too much, and lags. It is a chain's only one.
#[derive(Debug)]
struct Moody {
    chain: SimChain,
    random: std::sync::Mutex<Random>,
    /// The most blocks of logs.
    most: u64,
    /// One call in so many fails.
    fails: usize,
    is_moody: Arc<AtomicBool>,
}

#[async_trait]
impl ChainReader for Moody {
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        if !self.is_moody.load(SeqCst) {
            return self.chain.ask(questions).await;
        }
        if self.random.lock().unwrap().below(self.fails) == 0 {
            return Err(Error::new(ErrorKind::Chain, "not now").with_retryable(true));
        }
        let mut answers = self.chain.ask(questions).await?;
        for (question, answer) in questions.iter().zip(&mut answers) {
            if let Question::Logs(filter) = question
                && filter.to_block - filter.from_block >= self.most
            {
                *answer = Err(Error::new(ErrorKind::Chain, "too many blocks"));
            }
        }
        Ok(answers)
    }

    async fn next_head(&self, known: Option<B256>) -> Result<Block> {
        self.chain.next_head(known).await
    }

    fn endpoint(&self) -> &str {
        "moody"
    }
}

/// A server whose client reads this chain. Nothing of it is proven.
async fn server_on(rig: &Rig, chain: Chain, inputs: ChainInputs<Ledger<true>>) -> AppServer<Ledger<true>> {
    let client =
        rig.client().chain(chain).operator(rig.node.operator()).retry(RetryPolicy::none()).connect().await.unwrap();
    let outbox = Outbox::builder(client, MemoryStore::new()).network("test").lane(rig.lane()).start().await.unwrap();
    rig.server::<true>(&outbox).batches(never()).chain_inputs(inputs).start().await.unwrap()
}

#[tokio::test]
async fn rpcs_that_fail_refuse_and_lag_lose_nothing() {
    let rig = Rig::new::<true>().await;
    let chain = rig.node.chain().clone();
    let mut deposits = 0;
    let mut some = |count: u64| {
        for _ in 0..count {
            deposits += 1;
            emit(&chain, &add(1, deposits));
            chain.mine(deposits % 3);
        }
        deposits
    };
    some(60);
    let is_moody = Arc::<AtomicBool>::default();
    let moody = |most, fails, seed| Moody {
        chain: chain.clone(),
        random: Random::new(seed).into(),
        most,
        fails,
        is_moody: Arc::clone(&is_moody),
    };
    let seed = seed();
    let rpcs = [moody(7, 20, seed), moody(50, 16, seed + 1)];
    let reads = Chain::over_any(rpcs, chain.job_manager()).unwrap().with_chain_id(chain.chain_id());
    let server = server_on(&rig, reads, inputs()).await;
    is_moody.store(true, SeqCst);
    looked(&server, chain.head()).await;
    // Servers that do not have the last block yet, or not all answers of it.
    for round in 0..12 {
        let tear = Tear::questions(|question| matches!(question, Question::Logs(_)));
        chain.tear(tear.by(1 + round % 3).after(round % 2));
        some(1 + round % 4);
        looked(&server, chain.head()).await;
    }
    let last = some(1);
    chain.tear(None);
    looked(&server, chain.head()).await;
    let found: Vec<_> = from_chain(&server).await.into_iter().map(|(_, order, _)| order).collect();
    assert_eq!(found, (1..=last).map(|amount| add(1, amount)).collect::<Vec<_>>());
    assert!(chain.torn() > 5, "{} torn", chain.torn());
}

#[tokio::test]
async fn a_chain_that_cannot_be_read_stops_nobody() {
    let rig = Rig::new::<true>().await;
    let chain = &rig.node.chain();
    let server = server_on(&rig, chain.to_chain(), inputs()).await;
    looked(&server, emit(chain, &add(1, 1))).await;
    chain.set_reachable(false);
    emit(chain, &add(1, 2));
    eventually("it shows", async || seen(&server).await.trouble.is_some()).await;
    assert_eq!(server.request(add(2, 1)).await.unwrap().outcome, Ok(1));
    assert_eq!(seen(&server).await.read, Some(1));
    chain.set_reachable(true);
    looked(&server, chain.head()).await;
    assert_eq!((seen(&server).await.trouble, from_chain(&server).await.len()), (None, 2));
}

/// Where there is nothing for the app, the journal is left alone.
#[tokio::test]
async fn empty_blocks_move_the_cursor_and_are_rarely_written() {
    let rig = Rig::new::<true>().await;
    let (chain, outbox) = (&rig.node.chain(), rig.outbox().await);
    let fed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&fed);
    let server = rig.server::<true>(&outbox).batches(never()).chain_inputs(inputs()).at_points(move |name| {
        if name == "app_fed" {
            count.fetch_add(1, SeqCst);
        }
    });
    let server = server.start().await.unwrap();
    looked(&server, chain.mine(5_000)).await;
    for _ in 0..10 {
        looked(&server, chain.mine(1)).await;
    }
    assert_eq!(seen(&server).await.read, Some(5_010));
    // One at first; a machine that is very slow comes to the next one.
    assert!((1..=3).contains(&fed.load(SeqCst)), "{fed:?}");
    // A block that is replaced and had nothing for the app is none of its business.
    chain.reorganise(3);
    looked(&server, emit(chain, &add(1, 1))).await;
    assert_eq!((server.state(), from_chain(&server).await.len()), (AppState::Answering, 1));
}

both!(
    a_log_that_fits_no_batch_is_refused_and_stops_nobody,
    async fn too_large<const RELAY: bool>() {
        let rig = Rig::new::<RELAY>().await;
        let (chain, outbox) = (&rig.node.chain(), rig.outbox().await);
        let limits = infinityvm_sdk::Limits::default().with_max_da(5_000).with_max_message(16_000);
        let builder = || rig.server::<RELAY>(&outbox).batches(quick().with_limits(limits)).chain_inputs(inputs());
        let server = builder().start().await.unwrap();
        for order in [add(1, 1), Order::Fill(vec![1; 9_000]), Order::Priceless] {
            emit(chain, &order);
        }
        looked(&server, emit(chain, &add(1, 2))).await;
        let mut server = Some(server);
        for _ in 0..2 {
            let server = match server.take() {
                Some(server) => server,
                None => builder().start().await.unwrap(),
            };
            answers(&server).await;
            let kinds: Vec<_> = server.answers_since(0).await.unwrap().into_iter().map(|entry| entry.kind).collect();
            let (answered, refused) = (EntryKind::Answered, EntryKind::Refused);
            assert_eq!(kinds, [answered, refused, refused, answered]);
            timeout(LONG, server.settled(4, Until::Relayed)).await.expect("it settles").unwrap();
            assert_eq!(server.read(|ledger| ledger.balance(1)).await.unwrap(), 3);
            assert_eq!(rig.root(), server.status().await.unwrap().root);
        }
    }
);

#[tokio::test]
async fn a_log_of_which_no_request_can_be_made_stops_the_server() {
    let rig = Rig::new::<true>().await;
    let (chain, outbox) = (&rig.node.chain(), rig.outbox().await);
    let panics = ChainInputs::since(1, |log| Some(Order::decode(&log.data).expect("an order")));
    let server = rig.server::<true>(&outbox).batches(never()).chain_inputs(panics).start().await.unwrap();
    emit(chain, &add(1, 1));
    let bad = chain.emit(CONSUMER, vec![], vec![77]);
    emit(chain, &add(1, 2));
    let AppStop::ChainInput { block, log_index: 0, note, .. } = stop(&server).await else { panic!("another stop") };
    assert!(block == bad.number && note.contains("an order"), "{note}");
    // Mended, it goes on there.
    drop(server);
    let server = rig.server::<true>(&outbox).batches(never()).chain_inputs(inputs()).start().await.unwrap();
    looked(&server, chain.head()).await;
    let found: Vec<_> = from_chain(&server).await.into_iter().map(|(_, order, _)| order).collect();
    assert_eq!(found, [add(1, 1), add(1, 2)]);
}

#[tokio::test]
async fn logs_cannot_be_followed_without_a_chain() {
    let rig = Rig::new::<true>().await;
    let client =
        Client::builder().grpc(rig.node.grpc_url()).revision(Revision::Relay).signer(LocalSigner::random().unwrap());
    let client = client.operator(rig.node.operator()).nonces(Given).connect().await.unwrap();
    let outbox = Outbox::builder(client, MemoryStore::new()).network("test").lane(rig.lane()).start().await.unwrap();
    let error = rig.server::<true>(&outbox).chain_inputs(inputs()).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
}

/// Code that logs all that it is called with, under its first word, and returns 1.
const LOGS: &str = "0x365f5f375f51365fa160015f5260205ff3";
/// Code of a JobManager that knows no job.
const NO_JOBS: &str = "0x60205f52608060205260c05ff3";

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn logs_of_a_real_chain_are_followed_to_its_finalized_block() {
    // Two slots are an epoch, so that a block is final once there are four on it.
    let anvil = Anvil::builder().args(["--slots-in-an-epoch", "2"]).start();
    let rpc = Rpc::new(anvil.http_url());
    let rig = Rig::new::<true>().await;
    let job_manager = rig.node.chain().job_manager();
    for (contract, code) in [(CONSUMER, LOGS), (job_manager, NO_JOBS)] {
        rpc.call("anvil_setCode", json!([contract, code])).await;
    }
    let deposits = async |order: &Order| {
        let calldata = [deposit().as_slice(), &order.encoded()].concat();
        let tx = rpc.send(anvil.address(0), Some(CONSUMER), &calldata).await.expect("sent");
        rpc.receipt(tx).await;
    };
    let reader =
        RpcReader::builder(anvil.http_url()).poll_interval(Duration::from_millis(100)).connect().await.unwrap();
    let chain = Chain::new(reader, job_manager);
    let inputs = ChainInputs::since(1, |log| Order::decode(log.data.get(32..)?).ok()).with_events([deposit()]);
    let server = server_on(&rig, chain, inputs).await;
    for amount in 1..=3 {
        deposits(&add(1, amount)).await;
    }
    rpc.call("anvil_mine", json!(["0x8"])).await;
    eventually("the first ones are there", async || from_chain(&server).await.len() == 3).await;
    // One that a reorganisation takes away, and another one in its place.
    deposits(&add(2, 40)).await;
    eventually("the follower looks", async || seen(&server).await.head == Some(12)).await;
    assert_eq!(from_chain(&server).await.len(), 3);
    rpc.call("anvil_rollback", json!([1])).await;
    deposits(&add(2, 50)).await;
    rpc.call("anvil_mine", json!(["0x8"])).await;
    eventually("the last one is there", async || from_chain(&server).await.len() == 4).await;
    let found: BTreeMap<u64, Order> =
        from_chain(&server).await.into_iter().map(|(block, order, _)| (block, order)).collect();
    let expected = [(1, add(1, 1)), (2, add(1, 2)), (3, add(1, 3)), (12, add(2, 50))];
    assert_eq!(found, BTreeMap::from(expected));
    assert_eq!(server.state(), AppState::Answering);
}
