//! What the order book does in a second: `cargo bench -p clob --bench clob` prints each figure, and whether what was promised
//! holds. With names of parts (`core`, `answers`, `flood`), only those. It needs anvil, as the tests do.
//!
//! Server, node, anvil and those who ask share the machine.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use alloy_signer_local::PrivateKeySigner;
use clob::{maker::Trader, service::now};
use clob_core::{Clob, Exchange, Request, Token, domain};
use futures_util::{StreamExt as _, stream};
use infinityvm_sdk::{
    app::stf::{Context, StateTransition as _},
    primitives::{Address, keccak256},
};
use serde_json::Value;
use support::measure::{runtime, say, say_load};

#[path = "../tests/clob/rig.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod rig;

use rig::{Http, Rig, Server, User, number};

const CHAIN: u64 = 31_337;
const USERS: usize = 256;
/// Orders of each user: no more than their burst, so that none is refused.
const ORDERS: usize = 80;
/// Orders in the core alone.
const MATCHED: usize = 50_000;
/// Orders whose way to the end is timed.
const TIMED: usize = 12;
/// Turns with a flood and without; those who take part in each, one after the other; and how many orders they make.
const TURNS: usize = 5;
const OTHERS: usize = 32;
const TURN: usize = 320;
/// Requests of the flood that are on their way at once.
const FLOOD: usize = 64;

fn main() {
    let wanted: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == part);
    say_load();
    if wants("core") {
        core();
    }
    runtime().block_on(async {
        if wants("answers") {
            answers().await;
        }
        if wants("flood") {
            flood().await;
        }
    });
}

fn trader(number: usize, contract: Address) -> Trader {
    let key = PrivateKeySigner::from_bytes(&keccak256(number.to_be_bytes())).expect("a key");
    Trader::new(key, CHAIN, contract)
}

/// Orders of many users around one price: each meets one or two of the others, or waits.
fn order(trader: &mut Trader, number: usize) -> clob_core::Action {
    let buy = number.is_multiple_of(2);
    let price = 1_000 + (number as u64 * 7) % 11;
    let mut action = trader.limit(buy, price, 1 + number as u64 % 5);
    if let clob_core::Action::Limit(limit) = &mut action {
        limit.expiry = now() + 3_600_000;
    }
    action
}

/// The core alone: with all that a server's `apply` does, without the tree of its root, and matching alone.
fn core() {
    let contract = Address::repeat_byte(1);
    let mut traders: Vec<_> = (0..USERS).map(|number| trader(number, contract)).collect();
    let requests: Vec<_> = (0..MATCHED)
        .map(|number| {
            // Places are odd and even by turns, so users are on both sides.
            let trader = &mut traders[number * 5 % 251];
            let action = order(trader, number);
            let signature = trader.sign(&action).expect("signed");
            Request::Signed(action, signature)
        })
        .collect();
    let mut clob = Clob::new(CHAIN, contract);
    let mut exchange = Exchange::new(domain(CHAIN, contract));
    let (mut deposits, time) = (0, now());
    for trader in &traders {
        for token in [Token::Base, Token::Quote] {
            deposits += 1;
            let deposit = Request::Deposit { number: deposits, user: trader.address(), token, amount: 1 << 60 };
            let context = Context::chain(deposits, time, 1, deposits);
            clob.apply(&deposit, &context).expect("counted");
            exchange.apply(&deposit, &context).expect("counted");
        }
    }
    let mut alone = exchange.clone();
    let mut trades = 0;
    let paced = |what: &str, each: &mut dyn FnMut(&Request, &Context)| {
        let began = Instant::now();
        for (place, request) in (deposits + 1..).zip(&requests) {
            each(request, &Context::request(place, time));
        }
        let pace = MATCHED as f64 / began.elapsed().as_secs_f64();
        println!("core: {pace:.0} orders a second, {what}");
    };
    paced("with signatures, and the root after each", &mut |request, context| {
        clob.apply(request, context).expect("carried out");
        std::hint::black_box(clob.root());
    });
    paced("with signatures", &mut |request, context| {
        exchange.apply(request, context).expect("carried out");
    });
    paced("matching and balances alone", &mut |request, context| {
        if let clob_core::Outcome::Taken { fills, .. } = alone.repeat(request, context.place, context.time) {
            trades += fills.len();
        }
    });
    println!("core: {trades} trades of {MATCHED} orders, {} wait in the end", alone.book().len());
}

/// A server with users who have enough of both tokens.
struct Scene {
    server: Server,
    users: Vec<User>,
    _rig: Rig,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new(users: usize) -> Self {
        let (rig, folder) = (Rig::start().await, tempfile::tempdir().expect("a folder"));
        let database = folder.path().join("clob.db").to_str().expect("text").to_owned();
        let users: Vec<_> = (0..users).map(|number| User(trader(number, rig.world.contract))).collect();
        let both = |user: &User| [(user.address(), true, 1 << 40), (user.address(), false, 1 << 60)];
        let deposits: Vec<_> = users.iter().flat_map(both).collect();
        rig.deposit(&deposits).await;
        let server = rig.spawn("127.0.0.1:0", &["--db", &database]);
        let last = users[users.len() - 1].address();
        // It comes once the blocks of the deposits are deep enough.
        while number(&server.http.account(last).await["quote"]["free"]) == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self { server, users, _rig: rig, _folder: folder }
    }
}

/// The answer to an order, and how long it took.
async fn ask(http: &Http, (path, body): &(&'static str, Value)) -> (u64, Duration) {
    let began = Instant::now();
    let (status, said) = http.post(path, body).await;
    assert_eq!(status, 200, "{said}");
    (said["place"].as_u64().expect("a place"), began.elapsed())
}

fn at(took: &mut [Duration], share: f64) -> Duration {
    took.sort_unstable();
    took[((took.len() - 1) as f64 * share) as usize]
}

/// 256 users at once, over HTTP; what becomes of it on chain; and the way of single orders to the end.
async fn answers() {
    let mut scene = Scene::new(USERS).await;
    let http = scene.server.http.clone();
    let before = http.read("/api/stages").await["answered"].as_u64().expect("a place");
    let mut users = Vec::new();
    for (number, mut user) in scene.users.drain(..).enumerate() {
        // One more of the first, to begin with: each user has a connection of their own.
        let orders: Vec<_> = (0..ORDERS)
            .map(|turn| {
                let action = order(&mut user.0, number + turn);
                user.asks(&action)
            })
            .collect();
        users.push((user, orders));
    }
    let began = Instant::now();
    let asked = stream::iter(&users).map(|(_, orders)| {
        let http = &http;
        async move {
            let mut took = Vec::new();
            for order in orders {
                took.push(ask(http, order).await);
            }
            took
        }
    });
    let took: Vec<Vec<(u64, Duration)>> = asked.buffer_unordered(USERS).collect().await;
    let (orders, whole) = (USERS * ORDERS, began.elapsed());
    let last = took.iter().flatten().map(|(place, _)| *place).max().expect("many");
    let mut took: Vec<_> = took.into_iter().flatten().map(|(_, took)| took).collect();
    let pace = orders as f64 / whole.as_secs_f64();
    println!("answers: {pace:.0} orders a second, durably, {USERS} users over HTTP ({orders} in {whole:.1?})");
    println!("answers: p50 {:?}, p99 {:?}, longest {:?}", at(&mut took, 0.5), at(&mut took, 0.99), at(&mut took, 1.0));

    // Each batch's first and last place, as long as the status tells of it.
    let mut batches: HashMap<u64, (u64, u64)> = HashMap::new();
    loop {
        let status = http.read("/api/status").await;
        for batch in status["batches"].as_array().expect("batches") {
            let place = |name: &str| batch[name].as_u64().expect("a place");
            batches.insert(place("number"), (place("first"), place("last")));
        }
        if http.read("/api/stages").await["settled"].as_u64() >= Some(last) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let whole = began.elapsed();
    let of_these = batches.values().filter(|(first, _)| *first > before);
    let sizes: Vec<u64> = of_these.map(|(first, last)| last - first + 1).collect();
    let (count, mean) = (sizes.len(), sizes.iter().sum::<u64>() as f64 / sizes.len().max(1) as f64);
    println!(
        "settled: {:.0} orders a second on chain, {mean:.0} requests a batch in the mean, {} at most, {count} batches seen",
        orders as f64 / whole.as_secs_f64(),
        sizes.iter().max().copied().unwrap_or(0),
    );

    // One order at a time, with nothing else going on; blocks come every second, and two make a result final.
    let mut ways: HashMap<&str, Vec<Duration>> = HashMap::new();
    for (turn, (user, _)) in users.iter_mut().enumerate().take(TIMED) {
        let action = order(&mut user.0, turn);
        let order = user.asks(&action);
        let began = Instant::now();
        let (place, took) = ask(&http, &order).await;
        ways.entry("answered").or_default().push(took);
        for stage in ["executed", "settled", "final"] {
            http.settled(place, stage).await;
            ways.entry(stage).or_default().push(began.elapsed());
        }
    }
    for stage in ["answered", "executed", "settled", "final"] {
        let took = ways.get_mut(stage).expect("timed");
        println!("single orders, {stage}: p50 {:.1?}, longest {:.1?}", at(took, 0.5), at(took, 1.0));
    }
}

/// How long others wait for their answers while one user sends as much as they can, and while nobody does; by turns.
async fn flood() {
    let mut scene = Scene::new(OTHERS + 1).await;
    let http = scene.server.http.clone();
    let mut flooder = scene.users.pop().expect("one more");
    let mut took: [Vec<Duration>; 2] = Default::default();
    let (mut sent, mut flooded) = (0_usize, Duration::ZERO);
    for turn in 0..2 * TURNS {
        let (is_flood, going) = (turn % 2 == 1, Arc::new(AtomicBool::new(turn % 2 == 1)));
        // Signed under one nonce: what is not refused for the rate is refused for that.
        let order = {
            let action = flooder.0.limit(true, 1, 1);
            flooder.asks(&action)
        };
        let flood: Vec<_> = (0..if is_flood { FLOOD } else { 0 })
            .map(|_| {
                let (http, going, (path, body)) = (http.clone(), Arc::clone(&going), order.clone());
                tokio::spawn(async move {
                    let mut sent = 0;
                    while going.load(SeqCst) {
                        http.post(path, &body).await;
                        sent += 1;
                    }
                    sent
                })
            })
            .collect();
        let began = Instant::now();
        for number in 0..TURN {
            let user = &mut scene.users[number % OTHERS];
            let action = user.0.limit(number % 2 == 0, 500 + number as u64 % 3, 1);
            let order = user.asks(&action);
            took[usize::from(is_flood)].push(ask(&http, &order).await.1);
        }
        going.store(false, SeqCst);
        for one in flood {
            sent += one.await.expect("no panic");
        }
        if is_flood {
            flooded += began.elapsed();
        }
    }
    let pace = sent as f64 / flooded.as_secs_f64();
    let [quiet, loud] = &mut took;
    for (name, share) in [("median", 0.5), ("99 of 100", 0.99)] {
        let (quiet, loud) = (at(quiet, share), at(loud, share));
        let ratio = loud.as_secs_f64() / quiet.as_secs_f64();
        let figure = format!("{ratio:.2}x ({loud:?} against {quiet:?}; {pace:.0} requests a second by the flood)");
        say(&format!("a flood slows others by at most 2x, {name}"), ratio <= 2.0, figure);
    }
}
