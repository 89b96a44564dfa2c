//! Disks that are full, cannot be written, fail to sync, or have lost the end of the store's log.
//!
//! Each time the outbox must stop with a typed error, and no nonce may be used twice. After a disk that was mended, every
//! order comes to its end.

use std::{fs, path::PathBuf};

use support::harness::{Random, sweep};

use crate::{
    life::World,
    lives::{End, Ended, Scene},
    orders::{After, TASKS},
    parent::summary,
    power::Fault,
};

const EACH: u64 = 6;

const WORLD: World =
    World { state: false, rest: false, ordered: true, after: After::Replace, chain: false, postgres: false };

pub async fn all(seed: u64) -> bool {
    let mut clean = true;
    for (number, fault) in [Fault::Full, Fault::FailsToSync, Fault::ReadOnly].into_iter().enumerate() {
        let mut random = Random::new(seed.wrapping_mul(64).wrapping_add(number as u64));
        clean &= told(&format!("{fault:?}"), broken(fault, &mut random).await);
    }
    // Until one has lost enough: a check that saw nothing proves nothing.
    let (mut logs, mut halted) = (0, 0);
    while logs < if sweep() { 24 } else { 4 } || halted == 0 && logs < 40 {
        let mut random = Random::new(seed.wrapping_mul(64).wrapping_add(8 + logs));
        let done = cut_short(&mut random).await;
        halted += usize::from(done.as_ref().is_ok_and(|how| how.starts_with("halted restored")));
        logs += 1;
        clean &= told("the end of the log is lost", done);
    }
    println!("disk: {halted} of {logs} lanes were halted as their store went back");
    clean && halted > 0
}

fn told(what: &str, done: Result<String, String>) -> bool {
    match &done {
        Ok(how) => println!("disk, {what}: {how}: clean"),
        Err(why) => println!("disk, {what}: FAILED: {why}"),
    }
    done.is_ok()
}

/// What stops the service must be a typed error of the store that is not to be tried again, or one of the service's own
/// connection.
fn is_typed(stopped: &[String]) -> bool {
    stopped.iter().any(|line| line.contains(" Store retryable="))
}

/// The disk breaks after some orders, or before the first; then it is mended, and everything comes to its end.
async fn broken(fault: Fault, random: &mut Random) -> Result<String, String> {
    let mut scene = Scene::new(WORLD, true, random).await;
    let at_once = fault == Fault::ReadOnly;
    if at_once {
        // There is a store, with orders in it.
        let end = End::Cut(300 + random.below(200));
        scene.live(EACH / 2, end, random, |_, _| {}).await;
        let disk = scene.disk.as_ref().expect("a disk");
        disk.power_on();
        disk.set(fault);
    }
    let after = if at_once { 0 } else { random.up_to(20) };
    let breaks = |scene: &Scene, orders: usize| {
        if orders == after {
            scene.disk.as_ref().expect("a disk").set(fault);
        }
    };
    let ended = scene.live(EACH, End::Stopped(after), random, breaks).await;
    if !matches!(ended, Ended::Stopped) {
        return Err(format!("it did not stop: {:?}", scene.seen.stopped));
    }
    if !is_typed(&scene.seen.stopped) {
        return Err(format!("without a typed error: {:?}", scene.seen.stopped));
    }
    let stopped = scene.seen.stopped.join("; ");
    let disk = scene.disk.as_ref().expect("a disk");
    disk.set(Fault::None);
    // What was not synced is lost; a full disk goes on as it is.
    if fault == Fault::FailsToSync {
        disk.power_on();
    }
    to_the_end(scene, random).await.map(|how| format!("{stopped}; {how}"))
}

/// The power goes, and the log loses its end with it: the store went back in time. If nonces that it takes to be free are
/// in use at the node, the lane stops before one is given out. What the node had not taken yet cannot be found, and does
/// no harm: the node never sees the payload that was lost.
async fn cut_short(random: &mut Random) -> Result<String, String> {
    let mut scene = Scene::new(WORLD, true, random).await;
    let end = End::Cut(600 + random.below(600));
    scene.live(EACH, end, random, |_, _| {}).await;
    let mut log = scene.store().into_os_string();
    log.push("-wal");
    let log = PathBuf::from(log);
    let length = fs::metadata(&log).map_err(|error| format!("no log: {error}"))?.len();
    let left = length * random.below(40) as u64 / 100;
    fs::OpenOptions::new()
        .write(true)
        .open(&log)
        .and_then(|file| file.set_len(left))
        .map_err(|error| error.to_string())?;
    // The index is of the whole log.
    let mut index = scene.store().into_os_string();
    index.push("-shm");
    _ = fs::remove_file(index);
    // Orders that were in the lost part are not known any more: the service takes them again.
    scene.seen.told.clear();
    let before = scene.taken();
    let ended = scene.live(EACH, End::Stopped(0), random, |_, _| {}).await;
    let found = scene.findings().await;
    let how = format!("{left} of {length} bytes left; {}", summary(&found, &scene));
    if !found.doubled.is_empty() || found.two_payloads.iter().any(|nonce| before.contains(nonce)) {
        return Err(format!("{how}: {before:?} {found:?}"));
    }
    match ended {
        Ended::Stopped => Ok(format!("{}; {how}", scene.seen.stopped.join("; "))),
        Ended::Done if found.came_to_its_end() => Ok(format!("nothing was lost that the node had; {how}")),
        Ended::Broken(why) => Err(format!("{why}; {how}")),
        _ => Err(format!("{how}: {found:?}")),
    }
}

async fn to_the_end(mut scene: Scene, random: &mut Random) -> Result<String, String> {
    if let Ended::Broken(why) = scene.live(EACH, End::Done, random, |_, _| {}).await {
        return Err(why);
    }
    let found = scene.findings().await;
    if found.is_clean() && found.orders as u64 == TASKS * EACH && scene.seen.odd.is_empty() {
        return Ok(summary(&found, &scene));
    }
    Err(format!("{found:?} {:?}", scene.seen.odd))
}
