//! Several services at once on one PostgreSQL, with as many lanes as there are tasks: one at a time sends for a lane,
//! whoever is killed, stopped for longer than its lease, or cut off, and whatever becomes of the server.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use support::{
    harness::Random,
    postgres::{Pooler, Server},
    wire::CutWire,
};
use tokio::{
    sync::mpsc,
    task::block_in_place,
    time::{sleep, timeout},
};

use crate::{
    life::{Life, World},
    lives::Scene,
    orders::TASKS,
    parent::summary,
    recorder::{Named, Sending},
};

/// Without progress for so long it hangs.
const SILENCE: Duration = Duration::from_secs(240);
/// For so long one that woke up may send what is another's: until it has looked at its clock, on a machine that is busy.
const WAKES: Duration = Duration::from_secs(5);
/// Until the server has ended the sessions of services that are gone.
const ENDS: Duration = Duration::from_secs(30);

/// What is done to how many.
#[derive(Clone, Copy)]
pub struct Plan {
    pub services: usize,
    pub lease: Duration,
    /// Kills and stops.
    pub deaths: usize,
    /// Times that a service is cut off from the database, and for how long.
    pub cuts: usize,
    pub cut: Duration,
    /// Crashes of the server.
    pub crashes: usize,
    /// Orders of each task.
    pub each: u64,
    /// Behind a pooler.
    pub pooled: bool,
}

struct Service {
    child: Child,
    /// Which life of which service a line is from.
    life: usize,
    done: bool,
    wire: Arc<CutWire>,
}

/// A life that was stopped, and woke up.
#[derive(Clone, Copy)]
struct Stop {
    life: usize,
    began: Instant,
    woke: Instant,
}

struct Fleet {
    services: Vec<Service>,
    lives: usize,
    stops: Vec<Stop>,
    plan: Plan,
    database: String,
    said: mpsc::UnboundedSender<(usize, String)>,
}

impl Fleet {
    async fn start(&mut self, at: usize, wire: Arc<CutWire>, scene: &Scene) -> Service {
        self.lives += 1;
        let (life, said) = (self.lives, self.said.clone());
        let words = Life {
            url: scene.way(life).await,
            store: wire.url(&self.database),
            part: Some((at as u64, self.plan.services as u64)),
            lease: self.plan.lease.as_millis() as u64,
            ..scene.life(self.plan.each)
        };
        let mut command = Command::new(env::current_exe().unwrap());
        let mut child = command.arg("service").args(words.write()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| said.send((life, line))));
        Service { child, life, done: false, wire }
    }

    fn signal(&self, at: usize, signal: &str) {
        let id = self.services[at].child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    async fn kill(&mut self, at: usize, scene: &Scene) {
        _ = self.services[at].child.kill();
        self.services[at].child.wait().unwrap();
        let wire = Arc::clone(&self.services[at].wire);
        self.services[at] = self.start(at, wire, scene).await;
    }

    /// What it had when it was stopped is another's by the time that it wakes up.
    async fn stop(&mut self, at: usize, random: &mut Random) {
        let began = Instant::now();
        self.signal(at, "-STOP");
        sleep(self.plan.lease * 2 + Duration::from_millis(random.below(1_000) as u64)).await;
        self.stops.push(Stop { life: self.services[at].life, began, woke: Instant::now() });
        self.signal(at, "-CONT");
    }

    fn cut_off(&self, at: usize) {
        let (wire, cut) = (Arc::clone(&self.services[at].wire), self.plan.cut);
        wire.cut(true);
        tokio::spawn(async move {
            sleep(cut).await;
            wire.cut(false);
        });
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for service in &mut self.services {
            _ = service.child.kill();
            _ = service.child.wait();
        }
    }
}

/// What is done next, and how often it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Kill,
    Stop,
    Cut,
    Crash,
}

/// All blows of a plan, in an order of their own: the rarer ones among the first, or a run that is done early lacks them.
fn blows(plan: &Plan, random: &mut Random) -> Vec<Blow> {
    let mut rare = [vec![Blow::Cut; plan.cuts], vec![Blow::Crash; plan.crashes]].concat();
    let mut blows = Vec::new();
    for number in 0..plan.deaths {
        blows.push(if number % 3 == 1 { Blow::Stop } else { Blow::Kill });
        if !rare.is_empty() && number % 2 == 1 {
            blows.push(rare.swap_remove(random.below(rare.len())));
        }
    }
    blows.extend(rare);
    blows.reverse();
    blows
}

/// Whether everything came to its end as it must.
pub async fn run(world: World, plan: Plan, random: &mut Random) -> bool {
    let began = Instant::now();
    let server = Server::start("");
    let database = server.database();
    let pooler = plan.pooled.then(|| Pooler::with(&server, 20));
    let way = pooler.as_ref().map_or(server.folder(), Pooler::folder);
    let mut scene = Scene::with(world, false, TASKS as u8, Some(database.clone()), random).await;
    let (said, mut lines) = mpsc::unbounded_channel();
    let mut fleet = Fleet { services: Vec::new(), lives: 0, stops: Vec::new(), plan, database, said };
    for at in 0..plan.services {
        let service = fleet.start(at, Arc::new(CutWire::to(way)), &scene).await;
        fleet.services.push(service);
    }
    let mut blows = blows(&plan, random);
    let mut dealt: Vec<Blow> = Vec::new();
    let mut next = Instant::now() + pause(random);
    let mut heard = Instant::now();
    let (mut fenced, mut odd) = (0, Vec::new());
    while fleet.services.iter().any(|service| !service.done) {
        match timeout(next.saturating_duration_since(Instant::now()), lines.recv()).await {
            Ok(Some((life, line))) => {
                match line.split(' ').next().unwrap_or_default() {
                    "done" => {
                        let done = fleet.services.iter_mut().filter(|service| service.life == life);
                        done.for_each(|service| service.done = true);
                    }
                    "fenced" => fenced += 1,
                    // A line of several at once, as from services that say so all the time, is no progress.
                    "halted" | "stopped" => {
                        if scene.seen.stopped.len() < 1000 {
                            scene.hear(&line);
                        }
                    }
                    _ => {
                        heard = Instant::now();
                        scene.hear(&line);
                    }
                }
            }
            Ok(None) => break,
            Err(_) => {
                next = Instant::now() + pause(random);
                if heard.elapsed() > SILENCE {
                    odd.push("the services hang".to_owned());
                    break;
                }
                let at = random.below(plan.services);
                if fleet.services[at].done {
                    continue;
                }
                let Some(blow) = blows.pop() else { continue };
                dealt.push(blow);
                match blow {
                    Blow::Kill => fleet.kill(at, &scene).await,
                    Blow::Stop => fleet.stop(at, random).await,
                    Blow::Cut => fleet.cut_off(at),
                    Blow::Crash => block_in_place(|| server.crash_and_restart()),
                }
                if random.below(4) == 0 {
                    scene.node.lose_replies(random.up_to(3), random.below(2) == 0);
                }
            }
        }
    }
    let (stops, name) = (std::mem::take(&mut fleet.stops), fleet.database.rsplit('/').next().unwrap().to_owned());
    drop(fleet);
    let locks = block_in_place(|| locks_left(&server, &name));
    let found = scene.findings().await;
    let sends = Sends::of(&scene.sendings(), &stops);
    odd.append(&mut scene.seen.odd);
    let times = |blow: Blow| dealt.iter().filter(|dealt| **dealt == blow).count();
    let (kills, pauses, cuts, crashes) = (times(Blow::Kill), times(Blow::Stop), times(Blow::Cut), times(Blow::Crash));
    let is_whole = found.orders as u64 == TASKS * plan.each && kills > 0 && pauses > 0;
    // A short run may be done before all were dealt, and need not meet a write of one that was stopped in the middle of it.
    let is_short = plan.deaths < 40;
    let (cuts_wanted, crashes_wanted) = if is_short { (1, 1) } else { (plan.cuts, plan.crashes) };
    let is_whole = is_whole && cuts >= cuts_wanted && crashes >= crashes_wanted;
    let is_fenced = fenced > 0 || is_short;
    let is_clean = found.is_clean() && odd.is_empty() && is_whole && is_fenced && locks == 0 && sends.at_once == 0;
    let what = if is_clean { "clean".to_owned() } else { format!("{found:?} {odd:?} {:?}", scene.seen.stopped) };
    println!(
        "{} services{}, {TASKS} lanes: {}; {kills} kills, {pauses} stops, {cuts} cut off for {:.0?}, {crashes} crashes \
         of the server; {fenced} writes fenced off, {locks} locks left; {} submissions of {} jobs, {} at once, {} by \
         instances that woke up, in {:.0?}: {what}",
        plan.services,
        if plan.pooled { " behind a pooler" } else { "" },
        summary(&found, &scene),
        plan.cut,
        sends.all,
        sends.jobs,
        sends.at_once,
        sends.woken,
        began.elapsed(),
    );
    is_clean
}

/// Locks that nobody gives back any more.
fn locks_left(server: &Server, database: &str) -> usize {
    let text = "SELECT COUNT(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
                WHERE d.datname = current_database() AND l.pid IS DISTINCT FROM pg_backend_pid()";
    let began = Instant::now();
    loop {
        let left = server.asked(database, text).parse().unwrap();
        if left == 0 || began.elapsed() > ENDS {
            return left;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// How often jobs were submitted.
#[derive(Default)]
struct Sends {
    jobs: usize,
    all: usize,
    /// While another submission of the same job was under way, by nobody who had just woken up.
    at_once: usize,
    /// By a service that was stopped, of a payload that another one had sent meanwhile.
    woken: usize,
}

impl Sends {
    fn of(sendings: &BTreeMap<Named, Vec<Sending>>, stops: &[Stop]) -> Self {
        let mut sends = Self { jobs: sendings.len(), ..Self::default() };
        for of_job in sendings.values() {
            sends.all += of_job.len();
            let woken: Vec<_> = of_job.iter().map(|sending| is_woken(sending, of_job, stops)).collect();
            sends.woken += woken.iter().filter(|woken| **woken).count();
            for (at, sending) in of_job.iter().enumerate() {
                let under_way = of_job[..at]
                    .iter()
                    .zip(&woken[..at])
                    .filter(|(before, woke)| !**woke && before.ended.is_none_or(|ended| ended > sending.began));
                sends.at_once += usize::from(!woken[at] && under_way.count() > 0);
            }
        }
        sends
    }
}

/// Whether another life has sent the payload while this one was stopped, which sends it when it wakes up. What a service
/// sent before it was stopped may be under way for as long.
fn is_woken(sending: &Sending, of_job: &[Sending], stops: &[Stop]) -> bool {
    stops.iter().filter(|stop| stop.life == sending.life).any(|stop| {
        let spans = sending.began < stop.woke && sending.ended.is_none_or(|ended| ended > stop.began);
        let others = |other: &Sending| other.life != sending.life && other.payload == sending.payload;
        let meanwhile = |other: &Sending| others(other) && other.began > stop.began;
        let soon = sending.began > stop.woke && sending.began < stop.woke + WAKES;
        let after = |other: &Sending| soon && meanwhile(other) && other.began <= sending.began;
        of_job.iter().any(|other| after(other) || spans && meanwhile(other))
    })
}

fn pause(random: &mut Random) -> Duration {
    Duration::from_millis(300 + random.below(1_200) as u64)
}
