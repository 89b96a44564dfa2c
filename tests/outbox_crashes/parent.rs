//! What is run, how often, and what it must come to.

use std::{
    env,
    time::{Duration, Instant},
};

use support::harness::{Random, seed, sweep};
use tokio::task::JoinSet;

use crate::{
    apps, disk,
    fleet::{self, Plan},
    ledger::Findings,
    life::World,
    lives::{self, Death, Scene},
    orders::{After, TASKS},
};

const RELAY: World =
    World { state: false, rest: false, ordered: true, after: After::Replace, chain: false, postgres: false };
const STATE: World = World { state: true, ordered: false, after: After::Renumber, ..RELAY };

/// Both revisions and transports; a chain that reorganises in one of them.
const KILLED: [World; 5] = [
    RELAY,
    World { rest: true, ordered: false, ..RELAY },
    World { after: After::Fill, chain: true, ..RELAY },
    STATE,
    World { rest: true, ..STATE },
];

const ON_POSTGRES: [World; 2] = [World { postgres: true, ..RELAY }, World { postgres: true, ..STATE }];

const CUT_OFF: [World; 2] = [RELAY, World { rest: true, ..STATE }];

/// How often in all, and how many orders of each task in each world.
struct Size {
    deaths: usize,
    each: u64,
}

fn size(variable: &str, quick: Size, whole: Size) -> Size {
    let size = if sweep() { whole } else { quick };
    let wanted = env::var(variable).ok().map(|deaths| deaths.parse().expect("a number"));
    let each = env::var("ORDERS").ok().map(|orders| orders.parse().expect("a number"));
    Size { deaths: wanted.unwrap_or(size.deaths), each: each.unwrap_or(size.each) }
}

/// The exit code.
pub async fn run() -> i32 {
    let part = env::var("PART").ok();
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    let mut failed = false;
    if wanted("kills") {
        // 250 orders of each of 8 tasks in each of 5 worlds are 10,000.
        let size = size("KILLS", Size { deaths: 50, each: 20 }, Size { deaths: 1000, each: 250 });
        failed |= !all(&KILLED, Death::Kill, &size).await;
    }
    if wanted("cuts") {
        let size = size("CUTS", Size { deaths: 12, each: 10 }, Size { deaths: 200, each: 100 });
        failed |= !all(&CUT_OFF, Death::PowerCut, &size).await;
    }
    if wanted("disk") {
        failed |= !disk::all(seed()).await;
    }
    if wanted("apps") {
        failed |= !app_servers().await;
    }
    if wanted("postgres") || wanted("fleet") {
        if !support::postgres::is_installed() {
            let required = env::var("REQUIRE_ALL").is_ok_and(|all| all == "1");
            println!("PostgreSQL is not installed: what needs it was ignored");
            println!("seed {}: {}", seed(), if failed || required { "FAILED" } else { "ok" });
            return i32::from(failed || required);
        }
        if wanted("postgres") {
            let size = size("KILLS", Size { deaths: 16, each: 10 }, Size { deaths: 100, each: 100 });
            failed |= !all(&ON_POSTGRES, Death::Kill, &size).await;
        }
        if wanted("fleet") {
            failed |= !fleets().await;
        }
    }
    println!("seed {}: {}", seed(), if failed { "FAILED" } else { "ok" });
    i32::from(failed)
}

/// App servers of both revisions, killed and without power.
async fn app_servers() -> bool {
    let of = |quick, whole| (Size { deaths: quick, each: 0 }, Size { deaths: whole, each: 0 });
    let ((quick_cuts, whole_cuts), (quick_kills, whole_kills)) = (of(8, 200), of(4, 200));
    let (cuts, kills) = (size("CUTS", quick_cuts, whole_cuts), size("KILLS", quick_kills, whole_kills));
    let mut running = JoinSet::new();
    for (number, (state, death, deaths)) in [
        (false, Death::PowerCut, cuts.deaths / 2),
        (true, Death::PowerCut, cuts.deaths / 2),
        (false, Death::Kill, kills.deaths / 2),
        (true, Death::Kill, kills.deaths / 2),
    ]
    .into_iter()
    .enumerate()
    {
        let mut random = Random::new(seed().wrapping_mul(16).wrapping_add(number as u64 + 500));
        running.spawn(async move {
            let began = Instant::now();
            let found = apps::many(state, death, deaths, &mut random).await;
            let (revision, what) =
                (if state { "state" } else { "relay" }, found.as_deref().unwrap_or_else(|what| what));
            println!("an app server, {revision}, in {:.0?}: {what}", began.elapsed());
            found.is_ok()
        });
    }
    running.join_all().await.into_iter().all(|is_clean| is_clean)
}

/// Several services at once; in the sweep once more behind a pooler. `WORLD` runs one of the two alone, also without the
/// sweep: 0 is direct, 1 behind a pooler.
async fn fleets() -> bool {
    // 2,500 orders of each of 8 tasks are 20,000.
    let size = size("KILLS", Size { deaths: 8, each: 25 }, Size { deaths: 160, each: 2_500 });
    let quick = Plan {
        services: 3,
        lease: Duration::from_secs(2),
        deaths: size.deaths,
        cuts: 1,
        cut: Duration::from_secs(4),
        crashes: 1,
        each: size.each,
        pooled: false,
    };
    let whole = Plan {
        services: 8,
        // Eight services on a busy machine may not come to prolong a shorter one.
        lease: Duration::from_secs(4),
        cuts: 4,
        cut: Duration::from_secs(60),
        crashes: 4,
        ..quick
    };
    let world = World { postgres: true, ..RELAY };
    let plan = if sweep() { whole } else { quick };
    let plans = [plan, Plan { pooled: true, ..plan }];
    let wanted = |number: usize| only().map_or(number == 0 || sweep(), |only| only == number);
    let mut clean = true;
    for (number, plan) in plans.into_iter().enumerate().filter(|(number, _)| wanted(*number)) {
        clean &= fleet::run(world, plan, &mut Random::new(seed() + 77 + number as u64)).await;
    }
    clean
}

/// The only world that is wanted.
fn only() -> Option<usize> {
    env::var("WORLD").ok().map(|number| number.parse().expect("a number"))
}

/// All worlds at once: most of the time each waits.
async fn all(worlds: &[World], death: Death, size: &Size) -> bool {
    let (deaths, each) = (size.deaths / worlds.len(), size.each);
    let mut running = JoinSet::new();
    for (number, world) in worlds.iter().copied().enumerate() {
        if only().is_some_and(|only| only != number) {
            continue;
        }
        let mut random = Random::new(seed().wrapping_mul(16).wrapping_add(number as u64 + 8 * death as u64));
        running.spawn(async move {
            let began = Instant::now();
            let (found, scene) = lives::many(world, death, deaths, each, &mut random).await;
            let is_clean = found.is_clean() && scene.seen.odd.is_empty() && is_whole(&found, &scene, deaths, each);
            let what = if is_clean { "clean".to_owned() } else { format!("{found:?} {:?}", scene.seen.odd) };
            println!("{}, in {:.0?}: {what}", summary(&found, &scene), began.elapsed());
            is_clean
        });
    }
    running.join_all().await.into_iter().all(|is_clean| is_clean)
}

/// A check that saw nothing proves nothing.
fn is_whole(found: &Findings, scene: &Scene, deaths: usize, each: u64) -> bool {
    let seen = &scene.seen;
    found.orders as u64 == TASKS * each
        && found.submissions >= found.orders
        && seen.at_points + seen.at_random + seen.cuts + seen.idle == deaths
        && seen.at_points + seen.cuts > 0
}

pub fn summary(found: &Findings, scene: &Scene) -> String {
    let World { state, rest, ordered, chain, postgres, .. } = scene.world;
    let (seen, node) = (&scene.seen, &scene.node);
    format!(
        "{} {} {}{}{}: {} orders, {} payloads sent; {} replaced, {} filled, {} renumbered ({} forgotten); {} kills at \
         points, {} at random, {} power cuts, {} at rest; {} restarts of the node, {} reorganisations",
        if state { "state" } else { "relay" },
        if rest { "rest" } else { "grpc" },
        if ordered { "ordered" } else { "unordered" },
        if chain { " with a chain" } else { "" },
        if postgres { " on PostgreSQL" } else { "" },
        found.orders,
        found.submissions,
        found.replaced,
        found.filled,
        found.renumbered,
        found.forgotten,
        seen.at_points,
        seen.at_random,
        seen.cuts,
        seen.idle,
        node.restarts,
        node.reorganisations,
    )
}
