//! Random tears of random histories: no verdict that was never so. `SWEEP=full`: 100,000 verdicts, and more tears than
//! that; `SEED=n`: other ones; `TEAR=n`: that one alone.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use infinityvm_sdk::{
    Error, ErrorKind, Outcome, Result, Revision, SignedJob, Until, Verified,
    chain::{Revert, RevertCause},
    client::Posted,
    devnode::{ConsumerRules, Tear},
    primitives::Address,
};

use crate::{
    answers::Signed,
    fixture::Rig,
    node::Says,
    rig::{CONSUMER, Random, seed, sweep, within},
};

/// How many cases one chain has: what a reorganisation leaves behind it grows.
const A_CHAIN: u64 = 250;

/// What the last blocks have done to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum History {
    /// Nothing.
    Open,
    /// Its result is on chain.
    Landed,
    /// Another payload's is, of the same program and the same bound.
    Another,
    /// Another payload's, of another bound.
    OtherBound,
    Requested,
    Cancelled,
    /// The JobManager named another operator for a while, or names one now.
    OperatorBack,
    OperatorGone,
    /// The consumer took another signer for a while, or takes one now.
    SignerBack,
    SignerGone,
}

use History as H;

const HISTORIES: [History; 10] = [
    H::Open,
    H::Landed,
    H::Another,
    H::OtherBound,
    H::Requested,
    H::Cancelled,
    H::OperatorBack,
    H::OperatorGone,
    H::SignerBack,
    H::SignerGone,
];

/// Those of which an older block shows nothing but that nothing has happened yet.
const BLANK_BEFORE: [History; 6] = [H::Open, H::Landed, H::Another, H::OtherBound, H::Requested, H::Cancelled];

/// A job under one nonce, and other payloads under the same.
struct Kit {
    ours: (SignedJob, Signed, Verified),
    another: (SignedJob, Signed),
    other_bound: (SignedJob, Signed),
}

struct Scene {
    rig: Rig,
    kit: Kit,
    base: u64,
}

impl Scene {
    async fn new(revision: Revision) -> Self {
        let rig = Rig::new(revision).await;
        let ours = rig.sign(1, b"ours").await;
        let (signed, verified) = rig.executed(&ours);
        let another = rig.sign(1, b"another").await;
        let other_bound = rig.sign_with(1, b"ours", 999).await;
        let kit = Kit {
            another: (another.clone(), rig.executed(&another).0),
            other_bound: (other_bound.clone(), rig.executed(&other_bound).0),
            ours: (ours, signed, verified),
        };
        let base = rig.sim.head().number;
        Self { rig, kit, base }
    }

    /// Has nothing but this happen, in the last blocks.
    fn play(&self, history: History, random: &mut Random) {
        let sim = &self.rig.sim;
        sim.tear(None);
        sim.reorganise(sim.head().number - self.base);
        sim.mine(random.next() % 2);
        let ours = self.rig.signer.address();
        let rules = |signer| ConsumerRules::signed_by(signer);
        match history {
            H::Open => {}
            H::Landed => self.rig.land(&self.kit.ours.0, &self.kit.ours.1),
            H::Another => self.rig.land(&self.kit.another.0, &self.kit.another.1),
            H::OtherBound => self.rig.land(&self.kit.other_bound.0, &self.kit.other_bound.1),
            H::Requested | H::Cancelled => {
                assert_eq!(sim.take_nonce(CONSUMER), Some(1));
                if history == H::Cancelled {
                    assert!(sim.cancel(self.kit.ours.0.id().into()));
                }
            }
            H::OperatorBack | H::OperatorGone => {
                sim.set_operator(Address::repeat_byte(2));
                if history == H::OperatorBack {
                    sim.set_operator(crate::answers::operator());
                }
            }
            H::SignerBack | H::SignerGone => {
                sim.deploy(CONSUMER, rules(Address::repeat_byte(2)));
                if history == H::SignerBack {
                    sim.deploy(CONSUMER, rules(ours));
                }
            }
        }
        sim.mine(random.next() % 2);
    }

    /// What the node says of it, and with what it would end a wait if the chain had nothing to say.
    fn node_says(&self, random: &mut Random) -> Option<ErrorKind> {
        let (job, signed, _) = &self.kit.ours;
        let (says, end) = match random.up_to(4) {
            1 => (Says::NotFound, Some(ErrorKind::NotFound)),
            2 => (Says::Pending, None),
            3 => (Says::Failed("low nonce"), Some(ErrorKind::JobFailed)),
            _ => (Says::Done(signed.clone()), None),
        };
        self.rig.node.say(job, says);
        end
    }
}

/// How the answers are torn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Torn {
    /// One batch of those that a verdict takes, in some of its answers.
    Once,
    /// Every batch, in some answers of each, for as long as the verdict takes.
    Always,
    /// A block comes in between two answers of one batch.
    Between,
}

fn tear(torn: Torn, random: &mut Random) -> Tear {
    let (by, after) = (1 + random.next() % 3, random.next() % 5);
    match torn {
        Torn::Once => Tear::at_random(random.next()).by(by).after(after),
        // Until it rests: whoever waits gets a verdict in the end.
        Torn::Always => Tear::at_random(random.next()).by(by).batches(60),
        Torn::Between => Tear::first(random.up_to(14)).by(by).after(after),
    }
}

#[derive(Default)]
struct Figures(Mutex<BTreeMap<String, u64>>);

impl Figures {
    fn count(&self, what: String) {
        *self.0.lock().unwrap().entry(what).or_default() += 1;
    }

    /// How many batches of a verdict were torn.
    fn count_torn(&self, batches: u64) {
        *self.0.lock().unwrap().entry("batches torn".into()).or_default() += batches;
        if batches > 0 {
            self.count("verdicts with a torn batch".into());
        }
    }
}

/// An RPC that is torn for ever can be told of; a verdict in its place would be one that was never so.
fn is_doubt(error: &Error) -> bool {
    let unsure = matches!(error.kind(), ErrorKind::Chain | ErrorKind::DeadlineExceeded | ErrorKind::Reverted);
    unsure && error.is_retryable() && Revert::of(error).is_none()
}

/// What a relay may end with.
fn check_relay(history: History, torn: Torn, relayed: &Result<Posted>) -> &'static str {
    let error = |kind: ErrorKind| matches!(relayed, Err(error) if error.kind() == kind);
    let cause = relayed.as_ref().err().and_then(Revert::of).map(Revert::cause);
    let right = match history {
        H::Open | H::OperatorBack | H::SignerBack => matches!(relayed, Ok(post) if !post.already),
        H::Landed => matches!(relayed, Ok(post) if post.already),
        H::Another | H::OtherBound | H::Requested | H::Cancelled => error(ErrorKind::NonceTaken),
        H::OperatorGone => error(ErrorKind::WrongChain),
        H::SignerGone => error(ErrorKind::Reverted) && cause == Some(RevertCause::RequestSignature),
    };
    let doubt = torn == Torn::Always && matches!(relayed, Err(error) if is_doubt(error));
    assert!(right || doubt, "WRONG VERDICT of a relay: {history:?}, {torn:?}: {relayed:?}");
    match relayed {
        Ok(post) if post.wasted.is_some() => "right, and a transaction was wasted",
        Err(error) if error.outcome() == Outcome::Rejected => "right, and a transaction was wasted",
        _ if right => "right",
        _ => "doubt",
    }
}

/// What a wait may end with, where the node has ended the job, and where it has not.
fn check_wait(history: History, end: Option<ErrorKind>, ended: &Result<Verified>) -> &'static str {
    let says = |error: &Error, kind: ErrorKind, text: &str| error.kind() == kind && error.to_string().contains(text);
    let right = match (history, ended) {
        (H::Landed, Ok(result)) => result.output()[..] == *b"ours output",
        (H::Another | H::OtherBound, Err(error)) => {
            says(error, ErrorKind::NonceTaken, "the chain completed another job")
        }
        (H::Cancelled, Err(error)) => says(error, ErrorKind::JobFailed, "cancelled"),
        (H::Open | H::Requested, Err(error)) => {
            error.kind() == end.unwrap_or(ErrorKind::DeadlineExceeded) && !error.to_string().contains("chain")
        }
        _ => false,
    };
    assert!(right, "WRONG VERDICT of a wait: {history:?}, {end:?}: {ended:?}");
    "right"
}

async fn relay(scene: &Scene, random: &mut Random, figures: &Figures) {
    let torn = [Torn::Once, Torn::Always, Torn::Between][random.up_to(3) - 1];
    // Of an RPC that is torn for ever, what it says of an older block is as good as of the latest.
    let of: &[History] = if torn == Torn::Always { &BLANK_BEFORE } else { &HISTORIES };
    let history = of[random.up_to(of.len()) - 1];
    scene.play(history, random);
    scene.node_says(random);
    let client = scene.rig.builder().connect().await.unwrap();
    let before = scene.rig.sim.torn();
    scene.rig.sim.tear(tear(torn, random));
    let relayed = client.post_result(&scene.kit.ours.0, &scene.kit.ours.2).timeout(Duration::from_secs(120)).await;
    let outcome = check_relay(history, torn, &relayed);
    figures.count(format!("relay, {torn:?}, {history:?}: {outcome}"));
    figures.count_torn(scene.rig.sim.torn() - before);
}

async fn wait(scene: &Scene, random: &mut Random, figures: &Figures) {
    let torn = [Torn::Once, Torn::Always, Torn::Between][random.up_to(3) - 1];
    let history = BLANK_BEFORE[random.up_to(BLANK_BEFORE.len()) - 1];
    scene.play(history, random);
    let mut end = scene.node_says(random);
    if end.is_some() && torn == Torn::Always {
        // All of an older block, twice: then the node's word is as good as any.
        scene.rig.node.say(&scene.kit.ours.0, Says::Pending);
        end = None;
    }
    let client = scene.rig.builder().connect().await.unwrap();
    let before = scene.rig.sim.torn();
    scene.rig.sim.tear(tear(torn, random));
    let handle = client.resume(scene.kit.ours.0.clone()).unwrap();
    // Blocks come, so that a look which was of before the last one is not the last.
    let (sim, stop) = (scene.rig.sim.clone(), Arc::new(tokio::sync::Notify::new()));
    let stopped = Arc::clone(&stop);
    let mining = tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stopped.notified() => return,
                () = tokio::time::sleep(Duration::from_secs(2)) => drop(sim.mine(1)),
            }
        }
    });
    let ended = handle.wait(Until::Finalized { confirmations: 1 }).timeout(Duration::from_secs(90)).await;
    stop.notify_one();
    mining.await.unwrap();
    let outcome = check_wait(history, end, &ended);
    let by_node = end.map(|end| format!(", {end:?} at the node")).unwrap_or_default();
    figures.count(format!("wait, {torn:?}, {history:?}{by_node}: {outcome}"));
    figures.count_torn(scene.rig.sim.torn() - before);
}

async fn cases(numbers: impl Iterator<Item = u64>, revision: Revision, figures: &Figures) {
    let scene = Scene::new(revision).await;
    for number in numbers {
        let mut random = Random::new(seed().wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(number));
        let what = format!("tear {number} with SEED={}", seed());
        let shown = Shown(Some(what));
        if random.up_to(2) == 1 {
            relay(&scene, &mut random, figures).await;
        } else {
            wait(&scene, &mut random, figures).await;
        }
        shown.forget();
    }
}

/// Names the case that panics.
struct Shown(Option<String>);

impl Shown {
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(what) = &self.0 {
            eprintln!("{what}");
        }
    }
}

#[test]
fn no_tear_yields_a_wrong_verdict() {
    let tears: u64 = if sweep() { 100_000 } else { 800 };
    let only: Option<u64> = std::env::var("TEAR").ok().and_then(|number| number.parse().ok());
    let (figures, next) = (Figures::default(), AtomicU64::new(0));
    let chains = tears.div_ceil(A_CHAIN);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                loop {
                    let chain = next.fetch_add(1, Relaxed);
                    if chain >= chains {
                        return;
                    }
                    let numbers = chain * A_CHAIN..tears.min((chain + 1) * A_CHAIN);
                    let numbers = numbers.filter(|number| only.is_none_or(|only| only == *number));
                    let revision = Revision::ALL[(chain % 2) as usize];
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
                    runtime.block_on(within(cases(numbers, revision, &figures)));
                }
            });
        }
    });
    let figures = figures.0.into_inner().unwrap();
    println!("{tears} verdicts: {figures:#?}");
    if only.is_none() {
        let (verdicts, batches) = (figures["verdicts with a torn batch"], figures["batches torn"]);
        assert!(verdicts > tears / 2 && batches > tears, "{verdicts} verdicts, {batches} batches");
        // Each history, in each way, of relays and waits, has been told rightly.
        let told = |start: String| figures.keys().any(|what| what.starts_with(&start) && what.contains(": right"));
        for torn in ["Once", "Always", "Between"] {
            let relayed: &[History] = if torn == "Always" { &BLANK_BEFORE } else { &HISTORIES };
            for history in relayed {
                assert!(told(format!("relay, {torn}, {history:?}")), "{torn}, {history:?}");
            }
            for history in BLANK_BEFORE {
                assert!(told(format!("wait, {torn}, {history:?}")), "{torn}, {history:?}");
            }
        }
    }
}
