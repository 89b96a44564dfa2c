//! Several services at once on one PostgreSQL: one at a time sends for their lane, whoever is killed or stopped.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use support::harness::Random;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use crate::{life::World, lives::Scene, orders::TASKS, parent::summary, service::LEASE};

/// Without progress for so long it hangs.
const SILENCE: Duration = Duration::from_secs(120);

struct Service {
    child: Child,
    /// Which life of which service a line is from.
    life: usize,
    done: bool,
}

struct Fleet {
    services: Vec<Service>,
    lives: usize,
    words: Vec<String>,
    said: mpsc::UnboundedSender<(usize, String)>,
}

impl Fleet {
    fn start(&mut self) -> Service {
        let mut command = Command::new(env::current_exe().unwrap());
        let mut child = command.arg("service").args(&self.words).stdout(Stdio::piped()).spawn().unwrap();
        self.lives += 1;
        let (life, said) = (self.lives, self.said.clone());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| said.send((life, line))));
        Service { child, life, done: false }
    }

    fn signal(&self, at: usize, signal: &str) {
        let id = self.services[at].child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
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

/// So many services, of which one is killed or stopped so often. Whether everything came to its end as it must.
pub async fn run(world: World, services: usize, deaths: usize, each: u64, random: &mut Random) -> bool {
    let began = Instant::now();
    let mut scene = Scene::new(world, false, random).await;
    let (said, mut lines) = mpsc::unbounded_channel();
    let mut fleet = Fleet { services: Vec::new(), lives: 0, words: scene.life(each).write(), said };
    for _ in 0..services {
        let service = fleet.start();
        fleet.services.push(service);
    }
    let (mut kills, mut stops, mut fenced) = (0, 0, 0);
    let mut next = Instant::now() + pause(random);
    let mut heard = Instant::now();
    let mut odd = Vec::new();
    while fleet.services.iter().any(|service| !service.done) {
        match timeout(next.saturating_duration_since(Instant::now()), lines.recv()).await {
            Ok(Some((life, line))) => {
                heard = Instant::now();
                fenced += usize::from(line.contains("another worker has taken the lane"));
                if line == "done" {
                    fleet.services.iter_mut().filter(|service| service.life == life).for_each(|done| done.done = true);
                } else if line.starts_with("stopped ") {
                    scene.seen.stopped.push(line);
                } else {
                    scene.hear(&line);
                }
            }
            Ok(None) => break,
            Err(_) => {
                next = Instant::now() + pause(random);
                if heard.elapsed() > SILENCE {
                    odd.push("the services hang".to_owned());
                    break;
                }
                let at = random.below(services);
                if kills + stops >= deaths || fleet.services[at].done {
                    continue;
                }
                if random.below(3) == 0 {
                    stops += 1;
                    fleet.signal(at, "-STOP");
                    // What it had when it was stopped is another's by the time that it wakes up.
                    sleep(LEASE * 2 + Duration::from_millis(random.below(1_000) as u64)).await;
                    fleet.signal(at, "-CONT");
                } else {
                    kills += 1;
                    _ = fleet.services[at].child.kill();
                    fleet.services[at].child.wait().unwrap();
                    fleet.services[at] = fleet.start();
                }
            }
        }
    }
    drop(fleet);
    let mut found = scene.findings().await;
    // Several services bill at once, each in its own transaction.
    found.out_of_order.clear();
    odd.append(&mut scene.seen.odd);
    let is_clean = found.is_clean() && odd.is_empty() && kills + stops > 0 && found.orders as u64 == TASKS * each;
    let what = if is_clean { "clean".to_owned() } else { format!("{found:?} {odd:?} {:?}", scene.seen.stopped) };
    println!(
        "{services} services: {}; {kills} kills, {stops} stops, {fenced} workers fenced off, in {:.0?}: {what}",
        summary(&found, &scene),
        began.elapsed(),
    );
    is_clean
}

fn pause(random: &mut Random) -> Duration {
    Duration::from_millis(300 + random.below(1_200) as u64)
}
