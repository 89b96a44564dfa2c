//! Asks, kills, asks again, and checks.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use infinityvm_sdk::{
    LocalSigner, Revision,
    app::stf::{Batch, Codec, Inputs, Reader, Source, StateTransition, decode_stateful},
    devnode::{ConsumerRules, DevNode, Loss, ProgramError, ProgramOutput},
    primitives::{B256, hex},
    rpc::Method,
};
use support::{
    harness::{APP_POINTS, FOLLOW_POINTS, OUTBOX_POINTS, REPLACE_POINTS, Random, seed, sweep},
    json_chain::{self, Rules},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use crate::{
    ledger::{Ledger, Order},
    replay::{Asked, Replay},
    service::{CONSUMER, DRAIN, deposit},
};

/// Requests on their way at once.
const CALLERS: usize = 24;
/// Requests that were answered before and are asked again in each life.
const AGAIN: usize = 4;
/// One in so many requests comes with a deposit on chain.
const DEPOSITS: usize = 8;
/// Of batches that end at a multiple of this place the first one fails.
const FAILING: u64 = 16;
/// Without a word for so long it hangs.
const SILENCE: Duration = Duration::from_secs(90);

pub async fn run() -> i32 {
    let (kills, requests) = if sweep() { (1_000, 50_000) } else { (50, 2_500) };
    let kills = env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(kills);
    let seed = seed();
    let worlds = tokio::join!(
        world::<true>(kills / 2, requests / 2, Random::new(seed)),
        world::<false>(kills - kills / 2, requests / 2, Random::new(seed + 1)),
    );
    let clean = [("relay", worlds.0), ("state", worlds.1)].into_iter().all(|(name, found)| match found {
        Ok(said) => {
            println!("{name}: {said}");
            true
        }
        Err(fault) => {
            println!("{name}: {fault}");
            false
        }
    });
    println!("seed {seed}: {}", if clean { "ok" } else { "FAILED" });
    i32::from(!clean)
}

/// What the node ran: each batch by its last place, with the root after it.
type Ran = Arc<Mutex<BTreeMap<u64, Vec<(Batch<Order>, B256)>>>>;

/// A server, as its parent sees it.
struct Life {
    child: Child,
    orders: ChildStdin,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Life {
    fn start(arguments: &[String]) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .arg("service")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (said, lines) = mpsc::unbounded_channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        let orders = child.stdin.take().unwrap();
        Self { child, orders, lines }
    }

    fn ask(&mut self, number: u64) {
        // One that was killed meanwhile is asked again in its next life.
        _ = writeln!(self.orders, "{number}").and_then(|()| self.orders.flush());
    }
}

/// SIGKILL, whatever ends the life.
impl Drop for Life {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[derive(Default)]
struct Answers {
    by_number: BTreeMap<u64, (u64, u64, Option<u64>)>,
    repeated: usize,
}

impl Answers {
    /// Takes a line of the server.
    fn hear(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<_> = line.splitn(3, ' ').collect();
        match words.as_slice() {
            ["answer", number, rest] => {
                let number = number.parse().unwrap();
                let rest: Vec<_> = rest.split(' ').collect();
                let answer = (rest[0].parse().unwrap(), rest[1].parse().unwrap(), rest[2].parse().ok());
                match self.by_number.insert(number, answer) {
                    Some(before) if before != answer => {
                        Err(format!("order {number} was answered with {before:?}, and then with {answer:?}"))
                    }
                    Some(_) => {
                        self.repeated += 1;
                        Ok(())
                    }
                    None => Ok(()),
                }
            }
            ["error", number, why] => Err(format!("order {number} was not answered: {why}")),
            _ => Err(format!("the server says {line:?}")),
        }
    }
}

async fn world<const RELAY: bool>(kills: usize, requests: u64, mut random: Random) -> Result<String, String> {
    let key = random.bytes::<32>();
    let signer = LocalSigner::from_bytes(key).unwrap();
    let first = B256::from(Ledger::<RELAY>::default().root());
    let rules = ConsumerRules::signed_by(signer.address()).with_state(first);
    let revision = if RELAY { Revision::Relay } else { Revision::State };
    let node = DevNode::builder(revision).consumer(CONSUMER, rules).start().await.unwrap();
    let ran = Ran::default();
    let noted = Arc::clone(&ran);
    // Of some batches the first one that ends at a place takes more cycles than it has: another one replaces it.
    let failed = Mutex::<BTreeMap<u64, u64>>::default();
    let replaced = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&replaced);
    let program = node.register_program(move |input| {
        let state = (!RELAY).then(|| input.state.to_vec());
        let inputs = Inputs { onchain: input.onchain.to_vec(), offchain: input.offchain.to_vec(), state };
        let output = Ledger::<RELAY>::program(&inputs).map_err(|error| ProgramError::halted(error.to_string()))?;
        let mut reader = Reader::new(&inputs.offchain);
        let batch = if RELAY { reader.bytes().and_then(|_| reader.bytes()).unwrap() } else { &inputs.onchain };
        let batch = Batch::<Order>::decode(batch).unwrap();
        let after = B256::from(decode_stateful(&output).unwrap().0);
        let last = batch.entries.last().unwrap().0.place;
        if last.is_multiple_of(FAILING) {
            let mut failed = failed.lock().unwrap();
            if *failed.entry(last).or_insert(batch.number) == batch.number {
                count.fetch_add(1, SeqCst);
                return Ok(ProgramOutput::new(output).with_cycles(u64::MAX));
            }
        }
        let mut noted = noted.lock().unwrap();
        let others = noted.entry(last).or_default();
        if !others.iter().any(|other| other.0 == batch) {
            others.push((batch, after));
        }
        Ok(ProgramOutput::new(output))
    });
    // A deposit counts once there is a block on it.
    node.chain().set_finality(1);
    let rpc = json_chain::serve(node.chain().to_chain(), Rules::none()).await;
    let mut deposits = Vec::new();
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("app.db").to_str().unwrap().to_owned();
    let arguments = |point: &str, times: usize| {
        let revision = if RELAY { "relay" } else { "state" };
        [
            store.clone(),
            node.grpc_url(),
            revision.to_owned(),
            format!("0x{}", hex::encode(key)),
            node.operator().to_string(),
            hex::encode(&program),
            point.to_owned(),
            times.to_string(),
            rpc.url(),
        ]
    };

    let mut answers = Answers::default();
    let (mut next, mut at_points, mut at_random, mut restarts) = (1, BTreeMap::<String, usize>::new(), 0, 0);
    let mut open: BTreeSet<u64> = BTreeSet::new();
    // So many are kept for later lives that each has something to do.
    let share = requests / (kills as u64 + 1);
    for life in 0..=kills {
        let last = life == kills;
        let points: Vec<_> =
            APP_POINTS.iter().chain(&OUTBOX_POINTS).chain(&FOLLOW_POINTS).chain(&REPLACE_POINTS).collect();
        let point = *points[random.below(points.len())];
        let by_point = !last && random.below(3) > 0;
        let times = 1 + random.below(4);
        let mut server = Life::start(&arguments(if by_point { point } else { "none" }, times));
        let until = if last { requests } else { (share * (life as u64 + 1)).min(requests) };
        // In a life that is to end at a point that does not come, time ends it: since its first answer, as a busy machine
        // takes its time to start a server.
        let mut alive = (!by_point).then(Instant::now);
        let most = Duration::from_millis(if by_point { 3_000 } else { 60 + random.below(500) as u64 });
        for number in &open {
            server.ask(*number);
        }
        // Also what was answered in an earlier life.
        for _ in 0..AGAIN.min(answers.by_number.len()) {
            server.ask(*answers.by_number.keys().nth(random.below(answers.by_number.len())).unwrap());
        }
        if random.below(4) == 0 {
            node.faults().drop_replies(Method::SubmitJob, 1, Loss::CloseConnection);
        }
        let mut silence = Instant::now() + SILENCE;
        loop {
            while open.len() < CALLERS && next <= until {
                open.insert(next);
                server.ask(next);
                if random.below(DEPOSITS) == 0 {
                    let asked = Asked::of(next + requests);
                    let block = node.chain().emit(CONSUMER, vec![deposit()], asked.bytes());
                    deposits.push((block.number, asked));
                }
                next += 1;
            }
            if last && open.is_empty() && next > requests {
                break;
            }
            let deadline = alive.filter(|_| !last).map_or(silence, |alive| alive + most);
            match timeout_at(deadline, server.lines.recv()).await {
                Ok(Some(line)) if line.starts_with("at ") => {
                    *at_points.entry(line[3..].to_owned()).or_default() += 1;
                    break;
                }
                Ok(Some(line)) => {
                    silence = Instant::now() + SILENCE;
                    alive.get_or_insert_with(Instant::now);
                    answers.hear(&line)?;
                    open.retain(|number| !answers.by_number.contains_key(number));
                }
                Ok(None) => return Err(format!("the server has ended by itself in life {life}")),
                Err(_) if last || alive.is_none() => {
                    return Err(format!("nothing for {SILENCE:?}, and {} orders are open", open.len()));
                }
                Err(_) => {
                    at_random += 1;
                    break;
                }
            }
        }
        if last {
            node.chain().mine(1);
            writeln!(server.orders, "drain {}", deposits.last().map_or(0, |(block, _)| *block)).unwrap();
            let drained = loop {
                match timeout_at(Instant::now() + DRAIN + SILENCE, server.lines.recv()).await {
                    Ok(Some(line)) if line.starts_with("answer") => answers.hear(&line)?,
                    other => break other,
                }
            };
            if !matches!(&drained, Ok(Some(line)) if line.starts_with("drained 0 Ended")) {
                return Err(format!("the end: {drained:?}"));
            }
        }
        // What it had said before it was killed, some of which is lost on its way.
        let loses = random.below(2) == 0;
        while let Ok(line) = server.lines.try_recv() {
            if !loses && line.starts_with("answer") {
                answers.hear(&line)?;
                open.retain(|number| !answers.by_number.contains_key(number));
            }
        }
        drop(server);
        if RELAY && random.below(8) == 0 {
            node.restart();
            restarts += 1;
        }
    }
    let root = node.chain().latest_state_root(CONSUMER).unwrap();
    let batches = check(&answers, &deposits, &ran, requests, (first, root))?;
    let landed = node.chain().all_completed().len();
    if kills > 5 && (answers.repeated == 0 || at_points.len() < 3) {
        return Err(format!("too little happened: kills at {at_points:?}, {} answers told again", answers.repeated));
    }
    let points: usize = at_points.values().sum();
    Ok(format!(
        "{requests} requests and {} deposits in {batches} batches ({landed} results on chain), {points} kills at {} points, {at_random} at random, \
         {restarts} restarts of the node, {} answers told again, {} runs without enough cycles",
        deposits.len(),
        at_points.len(),
        answers.repeated,
        replaced.load(SeqCst),
    ))
}

/// Every request was answered once, every deposit was taken once, each is in one batch on chain, in the order of the
/// answers and of the chain, and the root is theirs.
fn check(
    answers: &Answers,
    deposits: &[(u64, Asked)],
    ran: &Ran,
    requests: u64,
    (first, root): (B256, B256),
) -> Result<usize, String> {
    if answers.by_number.len() as u64 != requests {
        return Err(format!("{} of {requests} requests were answered", answers.by_number.len()));
    }
    let by_place: BTreeMap<u64, u64> = answers.by_number.iter().map(|(number, answer)| (answer.0, *number)).collect();
    if by_place.len() as u64 != requests {
        return Err(format!("{requests} answers have {} places", by_place.len()));
    }
    // From the last place back to the first one.
    let ran = ran.lock().unwrap();
    let (mut place, mut batches) = (requests + deposits.len() as u64, Vec::new());
    while place > 0 {
        let [(batch, after)] = ran.get(&place).map_or(&[][..], Vec::as_slice) else {
            return Err(format!("not one batch ends with place {place}, but {:?}", ran.get(&place)));
        };
        place = place.checked_sub(batch.entries.len() as u64).ok_or("a batch begins before the first place")?;
        batches.push((batch, *after));
    }
    let (mut replay, mut deposits) = (Replay::default(), deposits.iter());
    if first != replay.root() {
        return Err("the app begins with another root".to_owned());
    }
    for (batch, after) in batches.iter().rev() {
        if replay.root() != batch.before {
            return Err(format!("the batch behind place {place} begins with {:?}", batch.before));
        }
        for (context, order) in &batch.entries {
            place += 1;
            if context.place != place {
                return Err(format!("a batch has place {} in the place of {place}", context.place));
            }
            let bytes = order.encoded();
            let expected = match by_place.get(&place) {
                Some(number) => {
                    let ((_, time, answered), asked) = (answers.by_number[number], Asked::of(*number));
                    let expected = replay.take(asked, time, None);
                    if (expected, Source::Request, time) != (answered, context.source, context.time) {
                        return Err(format!(
                            "the answer at place {place} was {answered:?}, and should be {expected:?}"
                        ));
                    }
                    asked.bytes()
                }
                None => {
                    let (block, asked) = *deposits.next().ok_or(format!("there is no deposit for place {place}"))?;
                    if context.source != (Source::Chain { block, log_index: 0 }) {
                        return Err(format!(
                            "at place {place} is {:?}, and not the deposit of {block}",
                            context.source
                        ));
                    }
                    replay.take(asked, context.time, Some(block));
                    asked.bytes()
                }
            };
            if bytes != expected {
                return Err(format!("a batch has another order at place {place}"));
            }
        }
        if *after != replay.root() {
            return Err(format!("the batch up to place {place} ends with {after}"));
        }
    }
    if root != replay.root() {
        return Err(format!("the contract has the root {root}, and the answers lead to {}", replay.root()));
    }
    Ok(batches.len())
}
