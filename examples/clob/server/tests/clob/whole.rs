//! From deposit to withdrawal; the faucet and the bots; and one who floods.

use std::{process::Command, time::Instant};

use clob::config::Store;
use infinityvm_sdk::primitives::Address;
use serde_json::json;
use support::harness::within;

use crate::{
    feed::Watcher,
    rig::{Contract, Rig, Server, number},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn from_deposit_to_withdrawal() {
    within(async {
        let rig = Rig::start().await;
        let (mut seller, mut buyer) = (rig.user(1), rig.user(2));
        let (service, http) = rig.serve(rig.world.config(Store::Memory)).await;
        let mut watcher = Watcher::connect(&http, Some(buyer.address())).await;
        assert_eq!(watcher.account["nonce"], 0);

        // Nothing is signed about deposits: they come from the chain, once they are final there.
        rig.deposit(&[(seller.address(), true, 500), (buyer.address(), false, 9_000)]).await;
        watcher.until(|watcher| number(&watcher.account["quote"]["free"]) == 9_000).await;
        assert_eq!(rig.on_chain(buyer.address()).await, (0, 9_000));

        let action = seller.0.limit(false, 20, 100);
        let (path, body) = seller.asks(&action);
        let (status, answer) = http.post(path, &body).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!((&answer["resting"], &answer["fills"]), (&json!("100"), &json!([])));
        let sale = answer["place"].as_u64().expect("a place");
        watcher.until(|watcher| watcher.book.get(&(false, 20)) == Some(&100)).await;

        // A better price than was asked for, and a part that waits.
        let action = buyer.0.limit(true, 25, 130);
        let (path, body) = buyer.asks(&action);
        let (status, answer) = http.post(path, &body).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["fills"], json!([{ "order": sale, "price": "20", "size": "100" }]));
        assert_eq!((&answer["resting"], &answer["cancelled"]), (&json!("30"), &json!("0")));
        let purchase = answer["place"].as_u64().expect("a place");
        watcher.until(|watcher| watcher.seq == purchase).await;
        watcher.until(|watcher| watcher.own.last().is_some_and(|own| own["seq"] == purchase)).await;
        let own = watcher.own.last().expect("told");
        assert_eq!(own["orders"], json!([{ "order": purchase, "side": "buy", "price": "25", "size": "30" }]));
        let fill = json!([{ "order": purchase, "side": "buy", "price": "20", "size": "100", "maker": false }]);
        assert_eq!(own["fills"], fill);
        assert_eq!((&own["base"]["free"], &own["quote"]["free"]), (&json!("100"), &json!("6250")));
        assert_eq!(own["quote"]["locked"], "750");
        let trade = watcher.trades.last().expect("a trade");
        assert_eq!((&trade["price"], &trade["size"], &trade["side"]), (&json!("20"), &json!("100"), &json!("buy")));
        watcher.compare(&http).await;
        assert_eq!(http.read("/api/trades").await[0], *trade);
        let account = http.account(buyer.address()).await;
        assert_eq!(account["orders"][0]["order"], purchase);

        // What waits is cancelled, and everything is taken out.
        let action = buyer.0.cancel(purchase);
        let (path, body) = buyer.asks(&action);
        let (status, answer) = http.post(path, &body).await;
        assert_eq!((status, &answer["size"]), (200, &json!("30")));
        let mut last = 0;
        for (base, amount) in [(true, 100), (false, 7_000)] {
            let action = buyer.0.withdraw(base, amount);
            let (path, body) = buyer.asks(&action);
            let (status, answer) = http.post(path, &body).await;
            assert_eq!(status, 200, "{answer}");
            last = answer["place"].as_u64().expect("a place");
        }
        http.settled(last, "settled").await;
        assert_eq!(rig.outside(buyer.address()).await, [100, 7_000], "paid");
        assert_eq!(rig.on_chain(buyer.address()).await, (0, 0));
        assert_eq!(rig.on_chain(seller.address()).await, (400, 2_000));
        watcher.until(|watcher| watcher.stages["final"].as_u64() >= Some(last)).await;
        assert!(watcher.book.is_empty());

        let held = rig.rpc.view(rig.world.contract, &Contract::heldCall {}).await.expect("sums");
        assert_eq!((held.base, held.quote), (400, 2_000));
        service.end(std::time::Duration::from_secs(30)).await.expect("ended");
        let action = seller.0.limit(false, 20, 100);
        let (path, body) = seller.asks(&action);
        assert_eq!(http.post(path, &body).await.1["error"]["code"], "unavailable");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn one_command_and_all_of_it_lives() {
    within(async {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clob"));
        command.args(["--maker", "--listen", "127.0.0.1:0"]).env("ANVIL", support::anvil::program("anvil"));
        let server = Server::start(&mut command);
        let market = server.http.read("/api/market").await;
        assert_eq!((&market["base"]["symbol"], &market["quote"]["decimals"]), (&json!("COIN"), &json!(6)));
        assert_eq!(market["faucet"], true);
        let user = Address::repeat_byte(7);
        let mut watcher = Watcher::connect(&server.http, Some(user)).await;
        let body = json!({ "user": user });
        let (status, given) = server.http.post("/api/faucet", &body).await;
        assert_eq!(status, 200, "{given}");
        assert_eq!(server.http.post("/api/faucet", &body).await.0, 429, "not twice");
        watcher.until(|watcher| watcher.account["base"]["free"] == given["base"]).await;
        // The bots trade, and the trades become final.
        watcher.until(|watcher| !watcher.trades.is_empty()).await;
        let trade = watcher.trades[0]["place"].as_u64().expect("a place");
        watcher.until(|watcher| watcher.stages["final"].as_u64() >= Some(trade)).await;
        let (_, metrics) = server.http.get("/metrics").await;
        let metrics = metrics.as_str().expect("text").to_owned();
        for name in ["clob_requests_total{", "clob_place{stage=\"final\"}", "infinityvm_jobs_total"] {
            assert!(metrics.contains(name), "{name} is not in {metrics}");
        }
        assert_eq!(server.http.get("/nothing").await.0, 404);
        server.interrupt();
    })
    .await;
}

/// A user who asks for too much is refused beyond the limit, whatever others do; nobody else is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_flood_of_one_user_is_theirs_alone() {
    within(async {
        let rig = Rig::start().await;
        let mut config = rig.world.config(Store::Memory);
        // So that most of it is too much on a slow machine, too.
        (config.limit.per_second, config.limit.burst) = (1, 100);
        let (service, http) = rig.serve(config).await;
        let (mut flooder, mut other) = (rig.user(1), rig.user(2));
        let mut watcher = Watcher::connect(&http, Some(other.address())).await;
        rig.deposit(&[(flooder.address(), true, 1_000), (other.address(), true, 1_000)]).await;
        watcher.until(|watcher| number(&watcher.account["base"]["free"]) == 1_000).await;
        let before = service.server.status().await.expect("a status").last_place;
        let began = Instant::now();
        let mut flood = tokio::task::JoinSet::new();
        for _ in 0..600 {
            let action = flooder.0.limit(false, 50, 1);
            let (path, body) = flooder.asks(&action);
            let http = http.clone();
            flood.spawn(async move { http.post(path, &body).await });
        }
        for _ in 0..40 {
            let action = other.0.limit(false, 60, 1);
            let (path, body) = other.asks(&action);
            let (status, answer) = http.post(path, &body).await;
            assert_eq!(status, 200, "{answer}");
        }
        let (mut carried_out, mut refused, mut used) = (0, 0, 0);
        while let Some(answer) = flood.join_next().await {
            match answer.expect("no panic") {
                (429, answer) => {
                    assert!(answer["error"]["retry_after"].as_u64() > Some(0), "{answer}");
                    refused += 1;
                }
                // They overtake each other on their way, so most come under a nonce that is not the next. One that is used
                // takes no place.
                (409, answer) if answer["error"]["place"].is_null() => used += 1,
                (200 | 409, _) => carried_out += 1,
                other => panic!("{other:?}"),
            }
        }
        // What is the next request is counted for itself, and so is what is not.
        let most = 2 * (100 + began.elapsed().as_secs() + 1);
        assert!(carried_out <= most, "{carried_out} of at most {most}");
        assert!(refused > 0 && refused + carried_out + used == 600);
        // What was refused has no place: the journal has the others only.
        let status = service.server.status().await.expect("a status");
        assert_eq!(status.last_place - before, carried_out + 40);
    })
    .await;
}

/// Batches are public, with the signatures in them: whoever sends them again takes nothing from those who signed, and
/// fills neither journal nor batches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn what_others_send_again_takes_nothing_from_a_user() {
    within(async {
        let rig = Rig::start().await;
        let mut config = rig.world.config(Store::Memory);
        (config.limit.per_second, config.limit.burst) = (1, 4);
        let (service, http) = rig.serve(config).await;
        let mut user = rig.user(1);
        let mut watcher = Watcher::connect(&http, Some(user.address())).await;
        rig.deposit(&[(user.address(), true, 1_000)]).await;
        watcher.until(|watcher| number(&watcher.account["base"]["free"]) == 1_000).await;
        let action = user.0.limit(false, 50, 1);
        let (path, body) = user.asks(&action);
        let body = body.to_string();
        let (status, first) = http.try_post(path, Some("first"), &body).await.expect("a reply");
        assert_eq!(status, 200, "{first}");

        let last = async || service.server.status().await.expect("a status").last_place;
        let (before, began) = (last().await, Instant::now());
        for _ in 0..8 {
            let (status, said) = http.try_post(path, None, &body).await.expect("a reply");
            let error = &said["error"];
            assert_eq!((status, &error["code"], &error["next_nonce"]), (409, &json!("nonce"), &json!(2)), "{said}");
            assert!(error["place"].is_null(), "{said}");
        }
        assert_eq!(last().await, before, "they are not in the journal");
        let late = clob_core::Limit { user: user.address(), nonce: 2, expiry: 5, buy: false, price: 9, size: 9 };
        let (path, expired) = user.asks(&clob_core::Action::Limit(late));
        assert_eq!(http.post(path, &expired).await.0, 410);
        assert_eq!(last().await, before, "nor what has expired");
        // Under a key it might be the user, who has lost the reply. Until a burst is used it is in the journal.
        let mut refused = 0;
        for number in 0..12 {
            let (body, key) = if number % 2 == 0 { (body.clone(), "a") } else { (expired.to_string(), "b") };
            let key = format!("{key}{number}");
            match http.try_post(path, Some(&key), &body).await.expect("a reply") {
                (429, _) => refused += 1,
                (status, said) => assert!([409, 410].contains(&status) && said["error"]["place"].is_u64(), "{said}"),
            }
        }
        let placed = last().await - before;
        assert!(placed <= 4 + began.elapsed().as_secs() && placed + refused == 12, "{placed} and {refused}");
        // All of that was as long as it took: the user has all of the burst.
        for _ in 0..3 {
            let action = user.0.limit(false, 50, 1);
            let (path, body) = user.asks(&action);
            let (status, said) = http.post(path, &body).await;
            assert_eq!(status, 200, "{said}");
        }
        // And who has lost the reply still gets it.
        let (_, mut servers) = tokio::sync::watch::channel(Some(http.clone()));
        let again = serde_json::from_str(&body).expect("JSON");
        let (status, said) = crate::kills::answer(&mut servers, path, "first", &again).await;
        assert_eq!((status, &said["place"], &said["repeated"]), (200, &first["place"], &json!(true)), "{said}");
    })
    .await;
}

/// Who hears nothing cannot know whether the server is still there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_client_hears_something_although_nothing_happens() {
    within(async {
        let rig = Rig::start().await;
        let (_service, http) = rig.serve(rig.world.config(Store::Memory)).await;
        let mut watcher = Watcher::connect(&http, None).await;
        for _ in 0..2 {
            let before = watcher.stages.clone();
            assert_eq!(watcher.next().await, "stages");
            assert_eq!(watcher.stages, before);
        }
    })
    .await;
}

/// What would work once, or do nothing, is refused with a reason.
#[test]
fn flags_that_do_not_go_together_are_refused() {
    let (contract, key) = (Address::ZERO.to_string(), format!("0x{}", "43".repeat(32)));
    let node = ["--node", "http://127.0.0.1:1", "--rpc", "http://127.0.0.1:1", "--contract", &contract];
    let node = [&node[..], &["--program", "0x00", "--key", &key]].concat();
    for (flags, why) in [
        (vec!["--db", "clob.db"], "give it by --rpc"),
        (vec!["--postgres", "postgres://127.0.0.1:1/clob"], "give it by --rpc"),
        ([&node[..], &["--db", "clob.db", "--maker"]].concat(), "--maker needs --faucet"),
        (node.clone(), "--db or --postgres is needed"),
    ] {
        let ended = Command::new(env!("CARGO_BIN_EXE_clob")).args(&flags).output().expect("runs");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success() && said.contains(why), "{flags:?}: {said}");
    }
}
