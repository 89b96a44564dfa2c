//! Rounds of many jobs, each with a life of its own on one chain.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use alloy_sol_types::SolCall;
use infinityvm_sdk::{
    Client, ErrorKind, Finality, JobEvent, PollPolicy, Result, Revision, SignedJob, Stage, Until, Verified,
    chain::{Chain, RpcReader},
    primitives::{Address, B256, Bytes, hex},
};
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    answers::Signed,
    anvil::Anvil,
    contracts::{Consumer, JobManager, World, result},
    node::{Node, Says},
    rig::{Random, seed, sweep},
    truth::{Landed, Truth, Witness},
};

/// The jobs of a round.
const JOBS: usize = 50;
const OUTPUTS: [&[u8]; 2] = [b"first", b"second"];
/// How long those are waited for that need not land.
const SHORT: Duration = Duration::from_secs(12);
const GAS: &str = "0x7a120"; // 500,000

const CLASSES: [&str; 17] = [
    "final: 1 confirmation",
    "final: more",
    "final: result of the node",
    "final: result of the calldata",
    "final: in another block than first",
    "final: with another result than first on chain",
    "final: after a false RELAYED",
    "final: node says FAILED",
    "final: node is down or does not know it",
    "ended: deadline",
    "ended: the node's error",
    "events: finalized",
    "chain: reorganised",
    "chain: rolled back",
    "chain: gone back to a snapshot",
    "chain: reverting transaction",
    "chain: another payload",
];

#[derive(Default)]
struct Coverage(Mutex<BTreeMap<&'static str, usize>>);

impl Coverage {
    fn count(&self, what: &'static str) {
        assert!(CLASSES.contains(&what), "{what}");
        *self.0.lock().unwrap().entry(what).or_default() += 1;
    }
}

struct Kit {
    job: SignedJob,
    /// Another payload under the same nonce.
    other: SignedJob,
    results: [Signed; 2],
    /// Is not posted in the end, and waited for only so long.
    left_out: bool,
    past: Mutex<Past>,
}

#[derive(Default)]
struct Past {
    says: Option<Says>,
    said_end: Option<usize>,
    false_relayed: bool,
    shown: Vec<&'static [u8]>,
    landed: Vec<(B256, Bytes)>,
}

struct Scene {
    world: World,
    witness: Witness,
    truth: tokio::sync::Mutex<Truth>,
    node: Node,
    coverage: Coverage,
}

impl Scene {
    async fn new(revision: Revision) -> Self {
        let world = World::on(Anvil::start(), revision).await;
        let mode = Consumer::setModeCall { mode: 0 };
        world.rpc.transact(world.owner, world.reverting, &mode).await.unwrap();
        world.rpc.call("evm_setAutomine", json!([false])).await;
        // The contracts themselves are not to be dropped.
        world.rpc.call("anvil_mine", json!(["0x20"])).await;
        let builder = RpcReader::builder(world.anvil.http_url()).poll_interval(Duration::from_millis(50));
        let reader = builder.connect().await.unwrap();
        let (turn, now, read, asked) = Default::default();
        let witness = Witness { reader, turn, now, read, asked };
        let mut truth = Truth::new(world.rpc.clone(), world.job_manager);
        truth.read().await;
        Self {
            world,
            witness,
            truth: tokio::sync::Mutex::new(truth),
            node: Node::default(),
            coverage: Coverage::default(),
        }
    }

    fn kit(&self, nonce: u64, left_out: bool) -> Kit {
        let consumer = self.world.reverting;
        let job = self.world.job(consumer, nonce, format!("input {nonce}").into_bytes(), vec![]);
        let other = self.world.job(consumer, nonce, b"another".to_vec(), vec![]);
        let results = OUTPUTS.map(|output| self.signed(&job, output));
        Kit { job, other, results, left_out, past: Mutex::default() }
    }

    fn signed(&self, job: &SignedJob, output: &[u8]) -> Signed {
        Signed::by(&self.world.operator, result(job, output, &[]))
    }

    async fn post(&self, job: &SignedJob, signed: &Signed) -> B256 {
        let call = JobManager::submitResultForOffchainJobCall {
            result: signed.result.clone().into(),
            operatorSig: signed.signature.clone().into(),
            request: job.request().clone(),
            requestSig: job.signature().clone(),
        };
        self.send(self.world.owner, self.world.job_manager, &call.abi_encode()).await
    }

    async fn send(&self, from: Address, to: Address, data: &[u8]) -> B256 {
        let tx = json!([{ "from": from, "to": to, "data": hex::encode_prefixed(data), "gas": GAS }]);
        self.world.rpc.call("eth_sendTransaction", tx).await.as_str().unwrap().parse().unwrap()
    }

    async fn rpc(&self, method: &str, params: serde_json::Value) -> serde_json::Value {
        self.world.rpc.call(method, params).await
    }

    /// Takes note of the chain after a change of it, which the caller has made with the turn in hand.
    async fn note(&self, kits: &[Kit]) {
        let mut truth = self.truth.lock().await;
        truth.read().await;
        let version = truth.versions.len() - 1;
        self.witness.now.store(version, Ordering::SeqCst);
        for kit in kits {
            if let Some((landed, place)) = truth.find(version, kit.job.id().into()) {
                let mut past = kit.past.lock().unwrap();
                if past.landed.last().is_none_or(|(block, _)| *block != place.block_hash) {
                    past.landed.push((place.block_hash, landed.output));
                }
            }
        }
    }

    async fn check(&self, kit: &Kit, depth: u64, ended: &Result<Verified>) {
        // As the last answers of the chain were, before this came.
        let version = self.witness.read.load(Ordering::SeqCst);
        let truth = self.truth.lock().await;
        let found = truth.find(version, kit.job.id().into());
        match ended {
            Ok(result) => {
                let place = result.finality().expect("a place");
                let (landed, there) = found.unwrap_or_else(|| panic!("WRONG FINAL: not on chain: {place:?}"));
                assert_eq!(landed.output, *result.output(), "WRONG FINAL: {place:?} {there:?}");
                assert_eq!(
                    (place.block_hash, place.block_number, place.tx_hash),
                    (there.block_hash, there.block_number, there.tx_hash),
                    "WRONG FINAL"
                );
                assert!(
                    (depth..=there.confirmations).contains(&place.confirmations),
                    "WRONG FINAL: {place:?} {there:?}"
                );
                infinityvm_sdk::verify(&kit.job, result.record(), self.world.operator.address()).unwrap();
                self.cover(kit, depth, result);
            }
            Err(error) => match error.kind() {
                ErrorKind::DeadlineExceeded => {
                    assert!(
                        found.is_none() || kit.left_out,
                        "it landed and stayed, and was never final: {}",
                        error.report()
                    );
                    self.coverage.count("ended: deadline");
                }
                ErrorKind::NonceTaken => {
                    assert!(found.is_some_and(|(landed, _)| landed.output[..] == *b"else"), "{error}")
                }
                ErrorKind::JobFailed => {
                    let since = kit.past.lock().unwrap().said_end.expect("the node said it");
                    // Another payload is not the job, either.
                    let ours = |(landed, _): (Landed, Finality)| landed.output[..] != *b"else";
                    let open =
                        (since..=version).any(|version| !truth.find(version, kit.job.id().into()).is_some_and(ours));
                    assert!(open, "ended by the node's word: {error}");
                    self.coverage.count("ended: the node's error");
                }
                _ => panic!("{error:?}"),
            },
        }
    }

    fn cover(&self, kit: &Kit, depth: u64, result: &Verified) {
        let past = kit.past.lock().unwrap();
        let count = |what| self.coverage.count(what);
        count(if depth == 1 { "final: 1 confirmation" } else { "final: more" });
        let shown = past.shown.contains(&&result.output()[..]);
        count(if shown { "final: result of the node" } else { "final: result of the calldata" });
        if past.false_relayed {
            count("final: after a false RELAYED");
        }
        match past.says {
            Some(Says::Failed(_)) => count("final: node says FAILED"),
            None | Some(Says::Down | Says::NotFound) => count("final: node is down or does not know it"),
            _ => {}
        }
        if past.landed.first().is_some_and(|(block, _)| *block != result.finality().unwrap().block_hash) {
            count("final: in another block than first");
        }
        if past.landed.iter().any(|(_, output)| output != result.output()) {
            count("final: with another result than first on chain");
        }
    }

    /// Something happens to the chain.
    async fn happen(&self, kits: &[Kit], random: &mut Random, snapshot: &mut Option<serde_json::Value>) {
        let _turn = self.witness.turn.write().await;
        match random.up_to(16) {
            1..=6 => {
                for kit in kits {
                    match random.up_to(40) {
                        1..=6 => drop(self.post(&kit.job, &kit.results[random.up_to(4) / 4]).await),
                        7 => {
                            let signed = self.signed(&kit.other, b"else");
                            self.post(&kit.other, &signed).await;
                            self.coverage.count("chain: another payload");
                        }
                        _ => {}
                    }
                }
                self.rpc("anvil_mine", json!([format!("0x{:x}", random.up_to(2))])).await;
            }
            7 => {
                // What is posted in this block reverts, as the consumer takes nothing.
                let mode = |mode| Consumer::setModeCall { mode }.abi_encode();
                self.send(self.world.owner, self.world.reverting, &mode(1)).await;
                for kit in kits {
                    if random.up_to(10) > 1 {
                        continue;
                    }
                    let tx = self.post(&kit.job, &kit.results[0]).await;
                    self.coverage.count("chain: reverting transaction");
                    if random.up_to(2) == 1 {
                        self.say(kit, Says::Relayed(kit.results[0].clone(), tx));
                        kit.past.lock().unwrap().shown.push(OUTPUTS[0]);
                    }
                }
                self.send(self.world.owner, self.world.reverting, &mode(0)).await;
                self.rpc("anvil_mine", json!(["0x1"])).await;
            }
            8 | 9 => {
                self.coverage.count("chain: reorganised");
                self.rpc("anvil_reorg", json!([random.up_to(3), []])).await;
                self.rpc("anvil_dropAllTransactions", json!([])).await;
                *snapshot = None;
            }
            10 | 11 => {
                self.coverage.count("chain: rolled back");
                self.rpc("anvil_rollback", json!([random.up_to(2)])).await;
                self.rpc("anvil_dropAllTransactions", json!([])).await;
                *snapshot = None;
            }
            12..=14 => match snapshot.take() {
                Some(before) => {
                    self.coverage.count("chain: gone back to a snapshot");
                    self.rpc("evm_revert", json!([before])).await;
                    self.rpc("anvil_dropAllTransactions", json!([])).await;
                    // On another branch than before: with the same timestamps the blocks would be the same.
                    self.rpc("evm_increaseTime", json!([random.up_to(1000)])).await;
                }
                None => *snapshot = Some(self.rpc("evm_snapshot", json!([])).await),
            },
            _ => drop(self.rpc("anvil_mine", json!([format!("0x{:x}", random.up_to(3))])).await),
        }
        self.restore_mode().await;
        self.note(kits).await;
    }

    /// A reorganisation may have left the consumer as it was told to revert.
    async fn restore_mode(&self) {
        let storage = json!([{ "to": self.world.reverting, "data": hex::encode_prefixed(&infinityvm_sdk::primitives::keccak256("mode()")[..4]) }, "latest"]);
        let mode = self.rpc("eth_call", storage).await;
        if !mode.as_str().unwrap().ends_with('0') {
            self.send(self.world.owner, self.world.reverting, &Consumer::setModeCall { mode: 0 }.abi_encode()).await;
            self.rpc("anvil_mine", json!(["0x1"])).await;
        }
    }

    fn say(&self, kit: &Kit, says: Says) {
        kit.past.lock().unwrap().says = Some(says.clone());
        self.node.say(&kit.job, says);
    }

    async fn speak(&self, kits: &[Kit], random: &mut Random) {
        for kit in kits {
            let which = random.up_to(4) / 4;
            let shown = |past: &mut Past| past.shown.push(OUTPUTS[which]);
            match random.up_to(24) {
                1 => self.say(kit, Says::Pending),
                2 | 3 => {
                    shown(&mut kit.past.lock().unwrap());
                    self.say(kit, Says::Done(kit.results[which].clone()));
                }
                4 => {
                    let tx = self.truth.lock().await.find(self.witness.now.load(Ordering::SeqCst), kit.job.id().into());
                    {
                        let mut past = kit.past.lock().unwrap();
                        shown(&mut past);
                        past.false_relayed |= tx.is_none();
                    }
                    let tx = tx.map_or(B256::repeat_byte(7), |(landed, _)| landed.tx);
                    self.say(kit, Says::Relayed(kit.results[which].clone(), tx));
                }
                5 => self.say(kit, Says::NotFound),
                6 => {
                    let version = self.witness.now.load(Ordering::SeqCst);
                    let there = self.truth.lock().await.find(version, kit.job.id().into()).is_some();
                    if there || random.up_to(10) == 1 {
                        kit.past.lock().unwrap().said_end.get_or_insert(version);
                        self.say(kit, Says::Failed("low nonce"));
                    }
                }
                7 if random.up_to(20) == 1 => self.say(kit, Says::Down),
                _ => {}
            }
        }
    }
}

async fn events(scene: &Scene, kit: &Kit, depth: u64, mut events: infinityvm_sdk::client::Events) -> Result<Verified> {
    let mut last = Stage::Submitted;
    while let Some(event) = events.next().await {
        let event = event?;
        if let Some(stage) = event.stage() {
            assert_eq!(stage as u8, last as u8 + 1);
            last = stage;
        }
        if let JobEvent::Finalized(result) = event {
            scene.coverage.count("events: finalized");
            let ended = Ok(*result);
            scene.check(kit, depth, &ended).await;
            return ended;
        }
    }
    panic!("events ended with nothing")
}

/// One round; returns its number of jobs.
async fn round(scene: &Arc<Scene>, random: &mut Random, first_nonce: u64) -> usize {
    let some_never_land = random.up_to(3) == 1 || first_nonce == 1;
    let kits = (0..JOBS as u64).map(|number| scene.kit(first_nonce + number, some_never_land && random.up_to(10) == 1));
    let kits: Arc<Vec<Kit>> = Arc::new(kits.collect());
    let chain = Chain::new(scene.witness.clone(), scene.world.job_manager).with_log_range(50);
    let transport = scene.node.scripted(random.up_to(2) == 1);
    let timeout = Duration::from_secs(90);
    let client = Client::builder().transport(transport).revision(scene.world.revision).chain(chain);
    let client = client.polling(PollPolicy::default().with_timeout(timeout)).connect().await.unwrap();
    for kit in kits.iter() {
        scene.say(kit, if random.up_to(4) == 1 { Says::NotFound } else { Says::Pending });
    }
    let mut waits = JoinSet::new();
    for number in 0..JOBS {
        let depth = random.up_to(4) as u64;
        let handle = client.resume(kits[number].job.clone()).unwrap();
        for until in [Until::Finalized { confirmations: depth }, Until::Relayed] {
            let depth = if until == Until::Relayed { 1 } else { depth };
            let (scene, kits, handle) = (Arc::clone(scene), Arc::clone(&kits), handle.clone());
            waits.spawn(async move {
                let timeout = if kits[number].left_out { SHORT } else { timeout };
                let ended = handle.wait(until).timeout(timeout).await;
                scene.check(&kits[number], depth, &ended).await;
            });
        }
        let (scene, kits) = (Arc::clone(scene), Arc::clone(&kits));
        waits.spawn(async move {
            let timeout = if kits[number].left_out { SHORT } else { timeout };
            let stream = handle.events_until(Until::Finalized { confirmations: depth }).timeout(timeout);
            if let Err(error) = events(&scene, &kits[number], depth, stream).await {
                scene.check(&kits[number], depth, &Err(error)).await;
            }
        });
    }
    let mut snapshot = None;
    for _ in 0..14 {
        sleep(Duration::from_millis(random.next() % 150)).await;
        scene.happen(&kits, random, &mut snapshot).await;
        scene.speak(&kits, random).await;
    }
    // What has not landed by now mostly does, and stays.
    {
        let _turn = scene.witness.turn.write().await;
        scene.restore_mode().await;
        let last: Vec<_> = kits.iter().filter(|kit| !kit.left_out).collect();
        for kit in &last {
            scene.post(&kit.job, &kit.results[0]).await;
        }
        scene.rpc("anvil_mine", json!(["0x2"])).await;
        scene.note(&kits).await;
        let (truth, now) = (scene.truth.lock().await, scene.witness.now.load(Ordering::SeqCst));
        assert!(last.iter().all(|kit| truth.find(now, kit.job.id().into()).is_some()), "not all has landed");
    }
    for _ in 0..6 {
        sleep(Duration::from_millis(100)).await;
        let _turn = scene.witness.turn.write().await;
        scene.rpc("anvil_mine", json!(["0x1"])).await;
        scene.note(&kits).await;
    }
    let begun = Instant::now();
    while let Some(ended) = waits.join_next().await {
        ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        // What has landed is final soon, whatever the machine is busy with.
        assert!(begun.elapsed() < Duration::from_secs(60), "a wait does not end");
    }
    kits.len()
}

/// As many jobs as asked for, half of them in each revision.
async fn jobs(all: usize) {
    let mut counts = BTreeMap::<&str, usize>::new();
    let mut done = 0;
    for revision in Revision::ALL {
        let scene = Arc::new(Scene::new(revision).await);
        let mut random = Random::new(seed().wrapping_mul(77).wrapping_add(revision as u64));
        let (mut nonce, mut here) = (1, 0);
        while here < all / 2 {
            let begun = Instant::now();
            here += round(&scene, &mut random, nonce).await;
            nonce += JOBS as u64;
            println!(
                "{revision}: {here} jobs, {} questions, round of {:?}",
                scene.witness.asked.load(Ordering::SeqCst),
                begun.elapsed()
            );
        }
        done += here;
        for (what, times) in scene.coverage.0.lock().unwrap().iter() {
            *counts.entry(what).or_default() += times;
        }
    }
    println!("{done} jobs: {counts:#?}");
    // Whether the node's word or the deadline comes before the chain's is up to the machine: with few jobs it may never.
    let by_luck = |class: &str| !sweep() && class.starts_with("ended: ");
    let missing: Vec<_> = CLASSES.iter().filter(|class| !counts.contains_key(*class) && !by_luck(class)).collect();
    assert!(missing.is_empty(), "never happened: {missing:?}");
}

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn no_job_on_a_real_chain_has_a_wrong_final() {
    jobs(if sweep() { 5000 } else { 200 }).await;
}
