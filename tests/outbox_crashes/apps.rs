//! App servers whose power goes, or who are killed: what was answered is in the journal and on chain, once, in its order.
//!
//! The server is a child of this very program. Its callers ask for the same things under the same keys in every life, so
//! whatever was answered once must be answered in the same way for ever. The node is in this process.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use infinityvm_sdk::{
    Client, LocalSigner, ProgramId, Revision, Until,
    app::{
        self, AppServer, BatchPolicy,
        stf::{Inputs, StateTransition},
    },
    devnode::{ConsumerRules, DevNode, ProgramError, ProgramInput, ProgramOutput},
    nonce::Given,
    outbox::{Outbox, sqlite::SqliteStore},
    primitives::{Address, B256},
};
use support::harness::Random;
use tokio::sync::mpsc;

use crate::{
    app_ledger::{CYCLES, Ledger, Order},
    lives::Death,
    power::Disk,
};

const CONSUMER: Address = Address::repeat_byte(7);
const CALLERS: u64 = 4;
/// Without an answer for so long it hangs.
const SILENCE: Duration = Duration::from_secs(120);

/// What was answered: by caller and number the place, and what was said.
type Answers = BTreeMap<(u64, u64), (u64, u64)>;

/// What a server is told: `app`, then these in their order.
struct AppLife {
    state: bool,
    store: PathBuf,
    url: String,
    key: String,
    operator: String,
    program: String,
    /// What each caller asks for before it waits until all is on chain; for ever, if that is 0.
    each: u64,
}

impl AppLife {
    fn write(&self) -> [String; 7] {
        let (state, store) = (self.state.to_string(), self.store.to_str().unwrap().to_owned());
        let (url, key, operator, program) = (&self.url, &self.key, &self.operator, &self.program);
        [state, store, url.clone(), key.clone(), operator.clone(), program.clone(), self.each.to_string()]
    }

    fn read(words: &[String]) -> Self {
        let [state, store, url, key, operator, program, each] = words else { panic!("{words:?}") };
        Self {
            state: state == "true",
            store: store.into(),
            url: url.clone(),
            key: key.clone(),
            operator: operator.clone(),
            program: program.clone(),
            each: each.parse().unwrap(),
        }
    }
}

/// The child.
pub fn run(words: &[String]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let life = AppLife::read(words);
    if life.state { runtime.block_on(serve::<false>(life)) } else { runtime.block_on(serve::<true>(life)) }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

async fn serve<const RELAY: bool>(life: AppLife) {
    let revision = if RELAY { Revision::Relay } else { Revision::State };
    let signer = LocalSigner::from_hex(&life.key).unwrap();
    let client = Client::builder().grpc(life.url.clone()).revision(revision).signer(signer);
    let client = client.operator(life.operator.parse().unwrap()).nonces(Given).connect().await.unwrap();
    let lane = app::lane(CONSUMER, revision).with_keep(Duration::from_millis(300));
    let store = SqliteStore::open(&life.store).await.unwrap();
    let outbox = Outbox::builder(client, store).network("crashes").lane(lane).start().await.unwrap();
    let program: ProgramId = life.program.parse().unwrap();
    let often = BatchPolicy::default().with_delay(Duration::from_millis(20)).with_count(16).with_snapshots(20);
    let server = AppServer::builder(outbox, CONSUMER, program).initial(Ledger::<RELAY>::default()).batches(often);
    let server = server.start().await.unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let (server, each) = (server.clone(), life.each);
        callers.spawn(async move {
            for number in 1.. {
                let order = order(caller, number);
                match server.request(order).key(format!("{caller}/{number}")).await {
                    Ok(answer) => say(&format!("{caller} {number} {} {}", answer.place, answer.outcome.unwrap())),
                    Err(error) => return say(&format!("stopped {error}")),
                }
                if number == each {
                    return;
                }
            }
        });
    }
    callers.join_all().await;
    let last = server.status().await.unwrap().last_place;
    server.settled(last, Until::Relayed).await.unwrap();
    let root = server.read(|ledger| B256::from(ledger.root())).await.unwrap();
    say(&format!("done {last} {root}"));
}

fn order(caller: u64, number: u64) -> Order {
    Order::Add { account: u16::try_from(caller).unwrap(), amount: number % 7 + 1 }
}

fn program<const RELAY: bool>(input: ProgramInput<'_>) -> Result<ProgramOutput, ProgramError> {
    let state = (!RELAY).then(|| input.state.to_vec());
    let inputs = Inputs { onchain: input.onchain.to_vec(), offchain: input.offchain.to_vec(), state };
    let output = Ledger::<RELAY>::program(&inputs).map_err(|error| ProgramError::halted(error.to_string()))?;
    Ok(ProgramOutput::new(output).with_cycles(CYCLES))
}

/// So many deaths, and a last life in which everything comes to its end. What was found wrong.
pub async fn many(state: bool, death: Death, deaths: usize, random: &mut Random) -> Result<String, String> {
    if state { lives::<false>(death, deaths, random).await } else { lives::<true>(death, deaths, random).await }
}

async fn lives<const RELAY: bool>(death: Death, deaths: usize, random: &mut Random) -> Result<String, String> {
    let key = random.bytes::<32>().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let signer = LocalSigner::from_hex(&key).unwrap();
    let revision = if RELAY { Revision::Relay } else { Revision::State };
    let root = B256::from(Ledger::<RELAY>::default().root());
    let rules = ConsumerRules::signed_by(signer.address()).with_state(root);
    let node = DevNode::builder(revision).consumer(CONSUMER, rules).start().await.unwrap();
    let id = ProgramId::new(node.register_program(program::<RELAY>)).to_string();
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path());
    let life = |each| {
        let (store, url) = (disk.seen().join("app.db"), node.grpc_url().to_owned());
        let operator = node.operator().to_string();
        AppLife { state: !RELAY, store, url, key: key.clone(), operator, program: id.clone(), each }
    };
    let (mut answers, mut cuts, mut done) = (Answers::new(), 0, None);
    for number in 0..=deaths {
        let last = number == deaths;
        if last && answers.is_empty() {
            return Err("nothing was answered before the last life".to_owned());
        }
        let each = if last { answers.keys().map(|(_, number)| *number).max().unwrap_or(0) + 10 } else { 0 };
        let cut = match death {
            Death::PowerCut if !last => random.up_to(300),
            _ => 0,
        };
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg("app").args(life(each).write()).stdout(Stdio::piped());
        disk.under(&mut command, cut, random.next());
        let mut child = command.spawn().unwrap();
        let (said, mut lines) = mpsc::unbounded_channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                _ = said.send(line);
            }
        });
        // Somewhere between two answers.
        let mut left = if death == Death::Kill && !last { random.up_to(60) } else { usize::MAX };
        let mut wrong = None;
        while left > 0 && wrong.is_none() {
            left -= 1;
            match tokio::time::timeout(SILENCE, lines.recv()).await {
                Err(_) => wrong = Some(format!("life {number} hangs")),
                Ok(None) => break,
                Ok(Some(line)) if line.starts_with("done ") => done = Some(line),
                Ok(Some(line)) => wrong = hear(&mut answers, &line).err(),
            }
        }
        if left == 0 {
            tokio::time::sleep(Duration::from_micros(random.below(20_000) as u64)).await;
        }
        _ = child.kill();
        let status = child.wait().unwrap();
        reader.join().unwrap();
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        while let Ok(line) = lines.try_recv() {
            if !line.starts_with("done ") {
                hear(&mut answers, &line)?;
            }
        }
        if !last && status.signal() != Some(9) {
            return Err(format!("life {number} ended by itself: {status}"));
        }
        if cut > 0 {
            cuts += 1;
            disk.power_on();
        }
    }
    let done = done.ok_or("the last life did not come to its end")?;
    check(&answers, &done, node.chain().latest_state_root(CONSUMER).unwrap_or(root))?;
    let landed = node.chain().all_completed().len();
    Ok(format!("{} answers in {landed} batches, {deaths} deaths, {cuts} of them power cuts", answers.len()))
}

/// An answer that was given once stays the same.
fn hear(answers: &mut Answers, line: &str) -> Result<(), String> {
    let words: Vec<_> = line.split(' ').map(|word| word.parse::<u64>()).collect();
    let [Ok(caller), Ok(number), Ok(place), Ok(said)] = words[..] else { return Err(line.to_owned()) };
    match answers.insert((caller, number), (place, said)) {
        Some(before) if before != (place, said) => {
            Err(format!("{caller}/{number} was answered {before:?}, and now {:?}", (place, said)))
        }
        _ => Ok(()),
    }
}

/// Everything has a place of its own, and an answer that follows from those before it; nothing is beside that.
fn check(answers: &Answers, done: &str, on_chain: B256) -> Result<(), String> {
    let by_place: BTreeMap<_, _> = answers.iter().map(|(asked, (place, said))| (*place, (*asked, *said))).collect();
    let (last, root) = done.strip_prefix("done ").and_then(|rest| rest.split_once(' ')).ok_or(done)?;
    if by_place.len() != answers.len() || by_place.len().to_string() != last {
        return Err(format!("{} answers at {} places, and the journal has {last}", answers.len(), by_place.len()));
    }
    let mut balances = BTreeMap::<u64, u64>::new();
    for (place, ((caller, number), said)) in by_place {
        let balance = balances.entry(caller).or_default();
        *balance += number % 7 + 1;
        if *balance != said {
            return Err(format!("place {place} was answered {said}, and what came before makes it {balance}"));
        }
    }
    if on_chain.to_string() != root {
        return Err(format!("the chain has {on_chain}, and the server {root}"));
    }
    Ok(())
}
