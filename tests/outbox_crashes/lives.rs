//! Starts the service, ends it, and starts it again, in one world.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use support::harness::{OUTBOX_POINTS, Random};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    ledger::{self, Findings, Rows},
    life::{Life, World},
    node_process::NodeProcess,
    orders,
    power::Disk,
    recorder::{Named, Recorder, Sending},
};

/// Without progress for so long it hangs.
const SILENCE: Duration = Duration::from_secs(120);

/// After that the client says of a job that does not move that the node may have forgotten it.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// What ends the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    Kill,
    PowerCut,
}

/// What the service was seen to do.
#[derive(Default)]
pub struct Seen {
    pub told: BTreeSet<String>,
    pub at_points: usize,
    pub at_random: usize,
    pub cuts: usize,
    /// Lives that had done all there was to do before they came to their end: killed all the same, and no proof.
    pub idle: usize,
    pub odd: Vec<String>,
    /// What stopped the service, or a lane of it.
    pub stopped: Vec<String>,
}

/// A node, what lies before it, and a service's place.
pub struct Scene {
    pub world: World,
    pub node: NodeProcess,
    pub disk: Option<Disk>,
    pub seen: Seen,
    recorder: Recorder,
    /// The URL of the store's database, if it is not in a file.
    database: Option<String>,
    url: String,
    key: String,
    consumers: Vec<String>,
    folder: TempDir,
    began: Instant,
    repeats: bool,
}

/// How a life is to end.
pub enum End {
    /// When all is done.
    Done,
    /// At a point, the so-manieth time.
    Point(&'static str, usize),
    After(Duration),
    /// At a write or sync.
    Cut(usize),
    /// With the first word of what has stopped it, after so many orders, at which something is done to it.
    Stopped(usize),
}

pub enum Ended {
    AtPoint,
    AtRandom,
    Cut,
    Done,
    Stopped,
    Broken(String),
}

impl Scene {
    pub async fn new(world: World, disk: bool, random: &mut Random) -> Self {
        let database = world.postgres.then(support::postgres::database);
        Self::with(world, disk, 1, database, random).await
    }

    /// With so many lanes.
    pub async fn with(world: World, disk: bool, lanes: u8, database: Option<String>, random: &mut Random) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = random.bytes::<32>().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let consumers: Vec<_> = (9..9 + lanes).map(|byte| format!("0x{}", format!("{byte:02x}").repeat(20))).collect();
        let node = NodeProcess::start(world.state, &key, &consumers, world.chain);
        let recorder = Recorder::default();
        let disk = disk.then(|| Disk::new(folder.path()));
        let repeats = env::var("SAY").is_ok_and(|say| say == "all");
        let (seen, began, url) = (Seen::default(), Instant::now(), String::new());
        let mut scene =
            Self { world, node, disk, seen, recorder, database, url, key, consumers, folder, began, repeats };
        scene.url = scene.way(0).await;
        scene
    }

    /// A way to the node for one life of a service: what passes is noted.
    pub async fn way(&self, life: usize) -> String {
        let address = if self.world.rest { &self.node.rest } else { &self.node.grpc };
        format!("http://{}", self.recorder.before(address.parse().unwrap(), life).await)
    }

    /// Every submission.
    pub fn sendings(&self) -> BTreeMap<Named, Vec<Sending>> {
        self.recorder.sendings()
    }

    pub fn store(&self) -> PathBuf {
        let folder = self.disk.as_ref().map_or_else(|| self.folder.path().to_owned(), Disk::seen);
        folder.join("service.db")
    }

    /// Where the store is: a file, or the URL of a database.
    fn place(&self) -> String {
        self.database.clone().unwrap_or_else(|| self.store().to_str().unwrap().to_owned())
    }

    /// What a service is told that is to take so many orders of each task.
    pub fn life(&self, each: u64) -> Life {
        Life {
            world: self.world,
            store: self.place(),
            url: self.url.clone(),
            rpc: self.node.rpc.clone(),
            job_manager: self.node.job_manager.clone(),
            key: self.key.clone(),
            operator: self.node.operator.clone(),
            consumers: self.consumers.clone(),
            program: self.node.program.clone(),
            each,
            point: "none".to_owned(),
            times: 0,
            tolerant: false,
            part: None,
            lease: 1_000,
        }
    }

    /// One life of the service. `meanwhile` is told of every order.
    pub async fn live(
        &mut self,
        each: u64,
        end: End,
        random: &mut Random,
        mut meanwhile: impl FnMut(&Self, usize) + Send,
    ) -> Ended {
        let (point, times) = if let End::Point(name, times) = end { (name, times) } else { ("none", 0) };
        let tolerant = matches!(end, End::Stopped(_));
        let life = Life { point: point.to_owned(), times: times as u64, tolerant, ..self.life(each) };
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg("service").args(life.write()).stdout(Stdio::piped());
        if let Some(disk) = &self.disk {
            disk.under(&mut command, if let End::Cut(at) = end { at } else { 0 }, random.next());
        }
        let mut child = command.spawn().unwrap();
        let (said, mut lines) = mpsc::unbounded_channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                _ = said.send(line);
            }
        });
        let ended = self.listen(&mut child, &mut lines, &end, random, &mut meanwhile).await;
        // SIGKILL.
        _ = child.kill();
        child.wait().unwrap();
        reader.join().unwrap();
        // What it had said before.
        while let Ok(line) = lines.try_recv() {
            self.hear(&line);
        }
        ended
    }

    async fn listen(
        &mut self,
        child: &mut Child,
        lines: &mut mpsc::UnboundedReceiver<String>,
        end: &End,
        random: &mut Random,
        meanwhile: &mut (impl FnMut(&Self, usize) + Send),
    ) -> Ended {
        let death = if let End::After(time) = end { *time } else { Duration::MAX / 4 };
        let death = tokio::time::sleep(death.min(Duration::from_secs(3600)));
        let silence = tokio::time::sleep(SILENCE);
        let restart = tokio::time::sleep(Duration::from_millis(random.below(2_000) as u64));
        tokio::pin!(death, silence, restart);
        let mut restarts = random.below(4) == 0;
        let mut orders = 0;
        loop {
            tokio::select! {
                line = lines.recv() => {
                    let Some(line) = line else { return self.gone(child, end) };
                    if self.repeats {
                        eprintln!("{:.1?}: {line}", self.began.elapsed());
                    }
                    match line.split(' ').next().unwrap_or_default() {
                        "point" => return Ended::AtPoint,
                        "done" => return Ended::Done,
                        word => {
                            // A lane that has stopped says so again and again, which is no progress.
                            if matches!(word, "order" | "billed") {
                                silence.as_mut().reset(Instant::now() + SILENCE);
                            }
                            self.hear(&line);
                            if word == "order" {
                                orders += 1;
                                meanwhile(self, orders);
                            }
                            // The service's own connection has the same trouble; what counts is the outbox.
                            let stops = ["stopped lane ", "stopped open ", "stopped start ", "halted restored"];
                            let stops = stops.iter().any(|what| line.starts_with(what));
                            if stops && matches!(end, End::Stopped(after) if orders >= *after) {
                                return Ended::Stopped;
                            }
                        }
                    }
                }
                () = &mut death => return Ended::AtRandom,
                () = &mut silence => return Ended::Broken(format!("the service hangs: {:?}", self.seen.stopped.last())),
                () = &mut restart, if restarts => {
                    restarts = false;
                    self.node.restart();
                }
            }
        }
    }

    fn gone(&mut self, child: &mut Child, end: &End) -> Ended {
        let status = child.wait().unwrap();
        match end {
            End::Cut(_) if status.signal() == Some(9) => Ended::Cut,
            _ => Ended::Broken(format!("the service ended by itself: {status}")),
        }
    }

    pub fn hear(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("order", id)) => _ = self.seen.told.insert(id.to_owned()),
            Some(("billed", _)) => {}
            Some(("halted" | "stopped", _)) => {
                if self.seen.stopped.last().is_none_or(|last| last != line) {
                    self.seen.stopped.push(line.to_owned());
                }
            }
            _ if matches!(line, "point" | "done") => {}
            _ => self.seen.odd.push(line.to_owned()),
        }
    }

    /// Nonces that the node has a record of.
    pub fn taken(&mut self) -> BTreeSet<u64> {
        self.node.report(1).remove(0).records.into_keys().collect()
    }

    /// What has become of everything.
    pub async fn findings(&mut self) -> Findings {
        let rows = Rows::read(&self.place()).await;
        let lanes = self.consumers.len();
        let mut found = Findings::default();
        for (lane, report) in self.node.report(lanes).into_iter().enumerate() {
            let told =
                self.seen.told.iter().filter(|id| orders::task_of(id) as usize % lanes == lane).cloned().collect();
            let (rows, sent) = (rows.of_lane(lane, lanes), self.recorder.sent(&self.consumers[lane]));
            found.add(ledger::check(&self.world, &rows, &told, &sent, &report, self.node.restarts));
        }
        found
    }
}

/// So many deaths in a world, and a last life in which everything comes to its end.
pub async fn many(world: World, death: Death, deaths: usize, each: u64, random: &mut Random) -> (Findings, Scene) {
    let mut scene = Scene::new(world, death == Death::PowerCut, random).await;
    // As many orders as there are lives, a part in each: so that every life has something to do.
    for life in 0..=deaths {
        let last = life == deaths;
        let portion = if last { each } else { (each * (life as u64 + 1)).div_ceil(deaths as u64 + 1) };
        if !last && random.below(3) == 0 {
            scene.node.lose_replies(random.up_to(3), random.below(2) == 0);
        }
        if world.chain && random.below(2) == 0 {
            scene.node.reorganise(random.up_to(3), random.below(600));
        }
        let end = match death {
            _ if last => End::Done,
            // Early ones while the store is opened, and the rest in the middle of work.
            Death::PowerCut if random.below(4) == 0 => End::Cut(random.up_to(40)),
            Death::PowerCut => End::Cut(random.up_to(400)),
            Death::Kill if random.below(3) > 0 => {
                End::Point(OUTBOX_POINTS[life % OUTBOX_POINTS.len()], random.up_to(6))
            }
            // Long enough that jobs are given up which a node of the State revision has forgotten.
            Death::Kill if world.state && life % 20 == 19 => {
                End::After(FORGOTTEN + Duration::from_millis(random.below(6_000) as u64))
            }
            // Long enough that the lease of the life before has ended.
            Death::Kill if world.postgres => End::After(Duration::from_millis(1_200 + random.below(1_500) as u64)),
            Death::Kill => End::After(Duration::from_millis(20 + random.below(700) as u64)),
        };
        match scene.live(portion, end, random, |_, _| {}).await {
            Ended::AtPoint => scene.seen.at_points += 1,
            Ended::AtRandom => scene.seen.at_random += 1,
            Ended::Cut => scene.seen.cuts += 1,
            Ended::Done if !last => scene.seen.idle += 1,
            Ended::Done => {}
            Ended::Stopped => scene.seen.odd.push("it stopped".to_owned()),
            Ended::Broken(why) => scene.seen.odd.push(why),
        }
        if !last && let Some(disk) = &scene.disk {
            disk.power_on();
        }
        // The restart loses what is under way at the node.
        if !last && random.below(4) == 0 {
            scene.node.restart();
        }
    }
    (scene.findings().await, scene)
}
