//! Posts through an RPC that lags, repeats, forgets, limits and reorganises at random. Whatever it does, nothing wrong is
//! told, and no result is posted twice by one account.
#![cfg(all(feature = "grpc", feature = "blobs"))]

use std::{
    future::IntoFuture,
    sync::{Arc, Mutex},
    time::Duration,
};

use infinityvm_sdk::{Client, ErrorKind, Outcome as Fate, Revision, chain::RpcPoster};
use serde_json::Value;
use support::scripted::{Random, seed, sweep, within};
use tokio::task::JoinHandle;

use crate::{
    edges::{Edge, KEY},
    pool::{BASE_FEE, Outcome, PoolChain, error},
    several::{Mode, Rpc},
};

/// Posts in one world.
const POSTS: u64 = 20;
/// How often somebody tries.
const AGAIN: usize = 8;

#[derive(Default)]
struct Told {
    landed: usize,
    open: usize,
    /// Of the open ones: those that wait behind an account nonce that nobody looks after any more.
    behind_a_gap: usize,
    refused: usize,
    wasted: usize,
}

fn chance(random: &Mutex<Random>, percent: u64) -> bool {
    random.lock().unwrap().next() % 100 < percent
}

fn up_to(random: &Mutex<Random>, most: usize) -> usize {
    random.lock().unwrap().up_to(most)
}

/// What such an RPC answers.
fn answer(random: &Mutex<Random>, method: &str, params: &Value, chain: &PoolChain) -> (Duration, Outcome) {
    let texts =
        ["could not coalesce error", "INTERNAL_ERROR: EOF", "request rate limited", "une erreur", "internal error"];
    let text = || error(-32000 - up_to(random, 10) as i64, texts[up_to(random, texts.len()) - 1]);
    let pause = if up_to(random, 300) == 1 {
        Duration::from_secs(11)
    } else {
        Duration::from_millis(up_to(random, 400) as u64)
    };
    let outcome = match (method, up_to(random, 100)) {
        ("eth_sendRawTransaction", 1..=8) => Outcome::Broken,
        ("eth_sendRawTransaction", 9..=16) => text(),
        ("eth_sendRawTransaction", 17..=40) => {
            let first = chain.forward(method, params);
            if chance(random, 50) {
                chain.mine();
            }
            match up_to(random, 4) {
                1 => chain.forward(method, params),
                2 => Outcome::Broken,
                3 => text(),
                _ => first,
            }
        }
        (_, 1) => Outcome::Broken,
        (_, 2) => text(),
        ("eth_sendRawTransaction", _) => chain.forward(method, params),
        // A server that is behind, and has no pool.
        (_, 3..=10) => chain.forward_lagging(method, params, up_to(random, 3)),
        ("eth_estimateGas", 11..=20) => chain.on_pending(method, params),
        _ => chain.forward(method, params),
    };
    (pause, outcome)
}

/// A client that posts by two or three RPCs, each with faults of its own, which change.
async fn by_several(edge: &Edge, random: &Arc<Mutex<Random>>) -> (Client, JoinHandle<()>) {
    let rpcs: Vec<_> = (0..1 + up_to(random, 2)).map(|_| Rpc::new(Mode::Works)).collect();
    let readers = || {
        rpcs.iter().map(|rpc| {
            let (rpc, random) = (rpc.clone(), Arc::clone(random));
            edge.chain.reader_by(move |method, params, chain| match rpc.mode() {
                // Beside what it is told to do, each of them fails now and then.
                Mode::Works if chance(&random, 10) => answer(&random, method, params, chain),
                _ => rpc.answer(method, params, chain),
            })
        })
    };
    let poster = RpcPoster::over_any(readers(), RpcPoster::key(KEY).unwrap()).unwrap();
    let client = edge.reading_by(readers().collect(), poster).await;
    let (chain, random) = (edge.chain.clone(), Arc::clone(random));
    let weather = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(up_to(&random, 12_000) as u64)).await;
            let rpc = &rpcs[up_to(&random, rpcs.len()) - 1];
            rpc.set(match up_to(&random, 14) {
                1 => Mode::Down,
                2 => Mode::Hangs,
                3 => Mode::Lags(up_to(&random, 8)),
                4 => Mode::Lies,
                5 => Mode::Breaks,
                6 | 7 => Mode::Keeps { says: chance(&random, 50) },
                8 => {
                    rpc.forget();
                    Mode::Works
                }
                _ => {
                    rpc.give_away(&chain);
                    Mode::Works
                }
            });
        }
    });
    (client, weather)
}

/// A world is its seed's, wherever a run begins.
async fn world(seed: u64, several: bool) -> Told {
    let (revision, reorganises) = (Revision::ALL[(seed + 1) as usize % 2], (seed + 3) % 4 >= 2);
    let random = Arc::new(Mutex::new(Random::new(seed)));
    let edge = Edge::new(revision).await;
    let (mut clients, node) = (Vec::new(), edge.another_account().await);
    let mut weathers = Vec::new();
    for _ in 0..2 {
        if several {
            let (client, weather) = by_several(&edge, &random).await;
            clients.push(client);
            weathers.push(weather);
        } else {
            clients.push(edge.another(|it| it).await);
        }
    }
    let weather = tokio::spawn({
        let (chain, random) = (edge.chain.clone(), Arc::clone(&random));
        async move {
            loop {
                tokio::time::sleep(Duration::from_millis(up_to(&random, 8_000) as u64)).await;
                match up_to(&random, 10) {
                    1 => chain.drop_pool(),
                    2 if reorganises => chain.reorganise(up_to(&random, 3), chance(&random, 50)),
                    3 => chain.set_base_fee(BASE_FEE / 2 * up_to(&random, 8) as u128),
                    _ => {}
                }
            }
        }
    });
    let (noise, account) = (Arc::clone(&random), edge.account());
    edge.chain.slow_edge(move |method, params, chain| answer(&noise, method, params, chain));
    let mut posts = Vec::new();
    for nonce in 1..=POSTS {
        let (job, verified) = edge.result(nonce).await;
        let (client, chain, random) = (clients[nonce as usize % 2].clone(), edge.chain.clone(), Arc::clone(&random));
        let rival = chance(&random, 15).then(|| node.post_result(&job, &verified).into_future());
        posts.push(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(up_to(&random, 60_000) as u64)).await;
            let rival = rival.map(tokio::spawn);
            let mut ended = None;
            for _ in 0..AGAIN {
                let told = client.post_result(&job, &verified).await;
                let (ever, alive) = chain.knows(&verified.post_calldata(), account);
                let case = format!("seed {seed}, {revision:?}, nonce {nonce}");
                match &told {
                    Ok(post) => assert!(ever, "{case}: told as landed: {post:?}"),
                    Err(error) => {
                        let report = error.report();
                        // Nobody has another payload, and no contract refuses this one.
                        let wrong = matches!(error.kind(), ErrorKind::NonceTaken | ErrorKind::Reverted);
                        assert!(!wrong, "{case}: {report}");
                        if error.outcome() != Fate::Unknown {
                            assert!(!alive, "{case}: it may land: {report}");
                        }
                    }
                }
                let over = told.is_ok();
                ended = Some(told);
                if over {
                    break;
                }
            }
            if let Some(rival) = rival {
                _ = rival.await;
            }
            (verified.post_calldata(), ended.unwrap())
        }));
    }
    let mut told = Told::default();
    let mut calls = Vec::new();
    for post in posts {
        let (call, ended) = post.await.unwrap();
        match &ended {
            Ok(post) => {
                told.landed += 1;
                told.wasted += usize::from(post.wasted.is_some());
            }
            Err(error) if error.outcome() == Fate::Unknown => {
                told.open += 1;
                told.behind_a_gap += usize::from(edge.chain.gap(account).is_some());
            }
            Err(_) => told.refused += 1,
        }
        calls.push((call, ended.is_ok_and(|post| post.already)));
    }
    weather.abort();
    weathers.iter().for_each(JoinHandle::abort);
    // What is left in the pool lands.
    edge.chain.set_base_fee(1);
    for _ in 0..50 {
        edge.chain.mine();
    }
    for (call, already) in calls {
        let mined = edge.chain.mined(&call, account);
        let most = 1 + usize::from(already) + if reorganises { 1 } else { 0 };
        let twice = mined.len() > most || (!reorganises && !already && mined.len() > 1);
        assert!(!twice, "seed {seed}, {revision:?}: posted {} times by us: {mined:?}", mined.len());
        let landed = mined.iter().filter(|succeeded| **succeeded).count();
        assert!(landed <= 1);
    }
    told
}

/// All seeds are in what a failure prints. Behind `SWEEP=full` 2,000 posts, else 80.
#[tokio::test(start_paused = true)]
async fn whatever_an_rpc_does_nothing_wrong_is_told() {
    worlds(false).await;
}

/// The same by two or three RPCs: one fails, another lags, is on another chain, or keeps what it was sent to itself.
#[tokio::test(start_paused = true)]
async fn whatever_several_rpcs_do_nothing_wrong_is_told() {
    worlds(true).await;
}

async fn worlds(several: bool) {
    within(async {
        let begun = std::time::Instant::now();
        let (worlds, first) = (if sweep() { 100 } else { 4 }, seed());
        let mut all = Told::default();
        for at in 0..worlds {
            let told = world(first + at, several).await;
            all.landed += told.landed;
            all.open += told.open;
            all.behind_a_gap += told.behind_a_gap;
            all.refused += told.refused;
            all.wasted += told.wasted;
        }
        println!(
            "{} posts by {} at a time, seeds from {first}: {} landed, {} open ({} behind a gap), {} certainly not sent, {} in vain beside another's; {:?}",
            worlds * POSTS,
            if several { "one of several RPCs" } else { "an RPC" },
            all.landed,
            all.open,
            all.behind_a_gap,
            all.refused,
            all.wasted,
            begun.elapsed(),
        );
        // Most of them do.
        // Few posts can meet bad luck together: then more of them are open when their time is up.
        let (landed, of) = if sweep() { (9, 10) } else { (1, 2) };
        assert!(all.landed * of >= (worlds * POSTS) as usize * landed, "{} landed", all.landed);
    })
    .await;
}
