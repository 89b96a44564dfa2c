//! Starts the service, kills it, and starts it again.

use std::{
    collections::BTreeSet,
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use infinityvm_sdk::{
    LocalSigner, Revision,
    devnode::{ConsumerRules, DevNode, Loss, ProgramError, ProgramInput, ProgramOutput},
    primitives::Address,
    rpc::Method,
};
use support::harness::{OUTBOX_POINTS, Random, seed, sweep};
use tokio::sync::mpsc;

use crate::{
    child::{FAILS, Orders, TASKS},
    ledger::{self, Findings},
    recorder::Recorder,
};

/// Without a word from the service for so long it hangs.
const SILENCE: Duration = Duration::from_secs(120);

/// One world: a revision, a transport, a strategy.
struct World {
    revision: Revision,
    rest: bool,
    ordered: bool,
}

/// What the service was seen to do.
#[derive(Default)]
struct Seen {
    told: BTreeSet<String>,
    at_points: usize,
    at_random: usize,
    /// Lives that had done all there was to do before they came to their point: killed all the same, and no proof.
    idle: usize,
    odd: Vec<String>,
}

pub async fn run() {
    let whole = sweep();
    let kills = env::var("KILLS").ok().and_then(|kills| kills.parse().ok());
    // Each world has a quarter of them.
    let kills: usize = kills.unwrap_or(if whole { 1000 } else { 48 });
    let each = if whole { 300 } else { 25 };
    let mut failed = false;
    for (number, world) in [
        World { revision: Revision::Relay, rest: false, ordered: true },
        World { revision: Revision::Relay, rest: true, ordered: false },
        World { revision: Revision::State, rest: false, ordered: false },
        World { revision: Revision::State, rest: true, ordered: false },
    ]
    .into_iter()
    .enumerate()
    {
        let began = Instant::now();
        let random = Random::new(seed().wrapping_mul(4).wrapping_add(number as u64));
        let (findings, seen) = kill(&world, kills / 4, each, random).await;
        println!(
            "{} {} {}: {} orders, {} submissions, {} replaced, {} kills at points, {} at random, {} at rest, in {:?}: {}",
            world.revision,
            if world.rest { "rest" } else { "grpc" },
            if world.ordered { "ordered" } else { "unordered" },
            findings.orders,
            findings.submissions,
            findings.replaced,
            seen.at_points,
            seen.at_random,
            seen.idle,
            began.elapsed(),
            if findings.is_clean() && seen.odd.is_empty() {
                "clean".to_owned()
            } else {
                format!("{findings:?} {:?}", seen.odd)
            },
        );
        failed |= !findings.is_clean() || !seen.odd.is_empty() || findings.orders as u64 != TASKS * each;
        // A recorder that sees nothing proves nothing.
        failed |= (findings.submissions as u64) < TASKS * each;
        failed |= seen.at_points + seen.at_random + seen.idle < kills / 4 || seen.at_points == 0;
    }
    println!("seed {}: {}", seed(), if failed { "FAILED" } else { "ok" });
    std::process::exit(i32::from(failed));
}

async fn kill(world: &World, kills: usize, each: u64, mut random: Random) -> (Findings, Seen) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("service.db").to_str().unwrap().to_owned();
    let key = random.bytes::<32>();
    let signer = LocalSigner::from_bytes(key).unwrap();
    let consumer = Address::repeat_byte(9);
    let rules = ConsumerRules::signed_by(signer.address());
    let node = DevNode::builder(world.revision).consumer(consumer, rules).start().await.unwrap();
    let program = node.register_program(program(world.revision));
    let recorder = Recorder::default();
    let url =
        format!("http://{}", recorder.before(if world.rest { node.rest_address() } else { node.grpc_address() }).await);
    let mut seen = Seen::default();
    // As many orders as there are lives, a part in each: so that every life has something to do.
    for life in 0..=kills {
        let last = life == kills;
        let portion = if last { each } else { (each * (life as u64 + 1)).div_ceil(kills as u64 + 1) };
        let at_point = !last && random.below(3) > 0;
        let orders = Orders {
            store: store.clone(),
            url: url.clone(),
            rest: world.rest,
            revision: world.revision,
            key,
            operator: node.operator(),
            consumer,
            program: program.to_vec(),
            ordered: world.ordered,
            each: portion,
            point: if at_point { OUTBOX_POINTS[life % OUTBOX_POINTS.len()].to_owned() } else { "none".to_owned() },
            times: random.up_to(6) as u64,
        };
        if !last && random.below(3) == 0 {
            let how = [Loss::ResetStream, Loss::CloseConnection][random.below(2)];
            node.faults().drop_replies(Method::SubmitJob, random.up_to(3), how);
        }
        let mut child = start(&orders);
        let ended = live(&mut child, &mut seen, !last && !at_point, &mut random, &node).await;
        match ended {
            Ended::AtPoint => seen.at_points += 1,
            Ended::AtRandom => seen.at_random += 1,
            Ended::Done if !last => seen.idle += 1,
            Ended::Done => {}
            Ended::Broken(why) => seen.odd.push(why),
        }
        // The relay's restart loses what is under way there.
        if !last && random.below(4) == 0 && world.revision == Revision::Relay {
            node.restart();
        }
    }
    (ledger::check(&store, &node, &seen.told, &recorder.sent(), world.ordered).await, seen)
}

/// Says what it is given, once it does not fail. In the Relay revision what fails does so always; in the State revision,
/// whose nodes take no other payload under a nonce, only the first time.
fn program(revision: Revision) -> impl Fn(ProgramInput<'_>) -> Result<ProgramOutput, ProgramError> + Send + Sync {
    let failed = Mutex::new(BTreeSet::new());
    move |input| {
        let text = String::from_utf8_lossy(input.onchain).into_owned();
        let Some(id) = text.strip_prefix(FAILS) else { return Ok(ProgramOutput::new(text.into_bytes())) };
        if revision == Revision::State && !failed.lock().unwrap().insert(id.to_owned()) {
            return Ok(ProgramOutput::new(id.as_bytes().to_vec()));
        }
        Ok(ProgramOutput::new(Vec::new()).with_cycles(u64::MAX))
    }
}

enum Ended {
    AtPoint,
    AtRandom,
    Done,
    Broken(String),
}

fn start(orders: &Orders) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.arg("child").args(orders.write()).stdout(Stdio::piped());
    command.spawn().unwrap()
}

/// One life of the service.
async fn live(child: &mut Child, seen: &mut Seen, at_random: bool, random: &mut Random, node: &DevNode) -> Ended {
    let (said, mut lines) = mpsc::unbounded_channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            _ = said.send(line);
        }
    });
    let death = if at_random { Duration::from_millis(20 + random.below(700) as u64) } else { SILENCE };
    let death = tokio::time::sleep(death);
    tokio::pin!(death);
    let restart = tokio::time::sleep(Duration::from_millis(random.below(2_000) as u64));
    tokio::pin!(restart);
    let mut restarts = random.below(4) == 0 && node.revision() == Revision::Relay;
    let ended = loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => match line.split_once(' ') {
                    Some(("order", id)) => { seen.told.insert(id.to_owned()); }
                    Some(("odd", what)) => seen.odd.push(what.to_owned()),
                    _ if line == "point" => break Ended::AtPoint,
                    _ if line == "done" => break Ended::Done,
                    _ => seen.odd.push(line),
                },
                None => break Ended::Broken(format!("the service ended by itself: {:?}", child.wait())),
            },
            () = &mut death => {
                break if at_random { Ended::AtRandom } else { Ended::Broken("the service hangs".to_owned()) };
            }
            () = &mut restart, if restarts => {
                restarts = false;
                node.restart();
            }
        }
    };
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap();
    // What it had said before.
    while let Ok(line) = lines.try_recv() {
        if let Some(("order", id)) = line.split_once(' ') {
            seen.told.insert(id.to_owned());
        }
    }
    ended
}
