//! Two servers on one PostgreSQL: one answers, and the other stands by until it is gone.

use clob_core::Action;
use serde_json::{Value, json};
use support::{harness::within, postgres};
use tokio::sync::watch;

use crate::{
    feed::Watcher,
    kills::answer,
    rig::{Rig, User, number},
};

const REQUESTS: usize = 40;
/// The first server is killed once there are so many answers.
const KILLED: usize = 20;

/// What was asked under a key, and the answer.
struct Asked {
    path: &'static str,
    key: String,
    body: Value,
    place: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil and PostgreSQL: tests/run installs them"]
async fn another_server_takes_over_and_nothing_answered_is_lost() {
    within(async {
        let (rig, url) = (Rig::start().await, postgres::database());
        let store = ["--postgres", &url];
        let (mut seller, mut buyer) = (rig.user(1), rig.user(2));
        let mut first = rig.spawn("127.0.0.1:0", &store);
        rig.deposit(&[(seller.address(), true, 1_000), (buyer.address(), false, 100_000)]).await;
        let mut watcher = Watcher::connect(&first.http, Some(buyer.address())).await;
        watcher.until(|watcher| number(&watcher.account["quote"]["free"]) == 100_000).await;

        // The other names the one that answers, whatever it is asked.
        let second = rig.spawn("127.0.0.1:0", &store);
        let action = seller.0.limit(false, 10, 5);
        let (path, body) = seller.asks(&action);
        let leader = first.http.read("/api/status").await["leader"].as_str().expect("a name").to_owned();
        for (status, said) in [second.http.get("/api/book").await, second.http.post(path, &body).await] {
            assert_eq!((status, &said["error"]["code"]), (503, &json!("unavailable")), "{said}");
            let message = said["error"]["message"].as_str().expect("a text");
            assert!(message.contains("stands by") && message.contains(&leader), "{message}");
        }
        assert_eq!(second.http.read("/api/status").await["leader"], leader);
        assert_eq!(first.http.post(path, &body).await.0, 200, "it did not get in by the other one");

        // Both trade, until the first one is killed in between; whoever has no answer asks the other one.
        let (servers, served) = watch::channel(Some(first.http.clone()));
        let (counted, mut count) = watch::channel(0_usize);
        let trade = async |user: &mut User, buy: bool| {
            let (mut served, mut asked) = (served.clone(), Vec::new());
            for number in 0..REQUESTS {
                let action: Action = user.0.limit(buy, 10, 5);
                let (path, body) = user.asks(&action);
                let key = format!("{buy}/{number}");
                let (status, said) = answer(&mut served, path, &key, &body).await;
                assert_eq!(status, 200, "{said}");
                counted.send_modify(|count| *count += 1);
                asked.push(Asked { path, key, body, place: said["place"].as_u64().expect("a place") });
            }
            asked
        };
        let kill = async {
            count.wait_for(|count| *count >= KILLED).await.expect("the trades go on");
            servers.send_replace(None);
            first.kill();
            servers.send_replace(Some(second.http.clone()));
        };
        let (sold, bought, ()) = tokio::join!(trade(&mut seller, false), trade(&mut buyer, true), kill);

        // Each answer, of whichever server, is still the answer.
        let mut asked: Vec<_> = sold.into_iter().chain(bought).collect();
        asked.sort_by_key(|asked| asked.place);
        let from = asked[0].place;
        for (place, Asked { path, key, body, place: told }) in (from..).zip(&asked) {
            assert_eq!(place, *told, "no place is left out");
            let (status, said) = answer(&mut served.clone(), path, key, body).await;
            assert_eq!((status, &said["place"], &said["repeated"]), (200, &json!(told), &json!(true)), "{said}");
        }
        let last = asked[asked.len() - 1].place;
        second.http.settled(last, "settled").await;
        // 41 sales of 5 for 10 each, and 40 of them were bought.
        let sold = (REQUESTS * 5) as u128;
        assert_eq!(rig.on_chain(seller.address()).await, (1_000 - sold, 10 * sold));
        assert_eq!(rig.on_chain(buyer.address()).await, (sold, 100_000 - 10 * sold));
        // The one that took over tells of the trades before that, too.
        let trades = second.http.read("/api/trades").await;
        let places = trades.as_array().expect("trades").iter().map(|trade| trade["place"].as_u64().expect("a place"));
        let places: Vec<_> = places.collect();
        assert!(places.len() == REQUESTS && places.is_sorted_by(|one, next| one > next), "{trades}");
        let book = second.http.read("/api/book").await;
        assert_eq!((&book["asks"], &book["bids"]), (&json!([["10", "5"]]), &json!([])));
    })
    .await;
}
