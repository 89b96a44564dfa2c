//! Twenty users and ten thousand requests, while the server is killed again and again; and a model that shares no code with
//! the core says what must have come of it. `REQUESTS` sets another number.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use alloy_signer_local::PrivateKeySigner;
use clob_core::{Action, Fill, Outcome, Refusal};
use infinityvm_sdk::primitives::{Address, B256};
use serde_json::Value;
use support::harness::{Random, seed};
use tokio::{sync::watch, time::timeout};

use crate::{
    feed::Watcher,
    model::Model,
    rig::{Contract, Http, Rig, User, free_address, number},
};

const USERS: u8 = 20;
const KILLS: usize = 20;
const FUNDS: u128 = 1_000_000;
/// Only a hang takes that long: signatures take milliseconds in a debug build.
const HANGS: Duration = Duration::from_secs(3_600);

fn requests() -> usize {
    std::env::var("REQUESTS").ok().and_then(|number| number.parse().ok()).unwrap_or(10_000)
}

fn address(user: u8) -> Address {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(user + 1)).expect("a key").address()
}

/// What a user asked for, and what the server said.
struct Asked {
    user: u8,
    action: Action,
    status: u16,
    said: Value,
}

/// Asks until there is an answer: whoever lost a reply asks again with the same key.
pub async fn answer(servers: &mut watch::Receiver<Option<Http>>, path: &str, key: &str, body: &Value) -> (u16, Value) {
    loop {
        let http = servers.wait_for(Option::is_some).await.expect("the test goes on").clone().expect("there is one");
        match http.try_post(path, Some(key), &body.to_string()).await {
            // One that starts, or ends, or was asked too often.
            None | Some((503, _)) => tokio::time::sleep(Duration::from_millis(5)).await,
            Some((429, said)) => {
                let wait = said["error"]["retry_after"].as_u64().expect("a time");
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
            Some(answer) => return answer,
        }
    }
}

/// One user's share of the requests, one after the other.
async fn trade(
    mut user: User,
    number: u8,
    mut servers: watch::Receiver<Option<Http>>,
    done: Arc<AtomicUsize>,
) -> Vec<Asked> {
    let mut random = Random::new(seed() + u64::from(number));
    let (mut asked, mut open) = (Vec::new(), Vec::new());
    while done.fetch_add(1, SeqCst) < requests() {
        let action = match random.below(20) {
            0..3 if !open.is_empty() => user.0.cancel(open[random.below(open.len())]),
            3 => user.0.withdraw(random.below(2) == 0, random.below(200) as u128),
            _ => user.0.limit(random.below(2) == 0, 90 + random.below(20) as u64, random.below(40) as u64),
        };
        let (path, body) = user.asks(&action);
        let key = format!("{}", user.0.nonce);
        let (status, said) = answer(&mut servers, path, &key, &body).await;
        if let (Action::Limit(_), 200) = (&action, status) {
            open.push(said["place"].as_u64().expect("a place"));
        }
        asked.push(Asked { user: number, action, status, said });
    }
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn ten_thousand_requests_and_twenty_kills() {
    let whole = async {
        let requests = requests();
        let (rig, folder) = (Rig::start().await, tempfile::tempdir().expect("a folder"));
        let database = folder.path().join("clob.db").to_str().expect("text").to_owned();
        let mut deposits = Vec::new();
        for user in 0..USERS {
            deposits.extend([(address(user), true, FUNDS), (address(user), false, 100 * FUNDS)]);
        }
        rig.deposit(&deposits).await;
        let (listen, store) = (free_address(), ["--db", &database]);
        let mut server = rig.spawn(&listen, &store);
        let (last, _, quote) = (deposits[deposits.len() - 1].0, true, 100 * FUNDS);
        let mut watcher = Watcher::connect(&server.http, Some(last)).await;
        watcher.until(|watcher| number(&watcher.account["quote"]["free"]) == quote).await;

        let (servers, served) = watch::channel(Some(server.http.clone()));
        let done = Arc::new(AtomicUsize::new(0));
        let mut users = tokio::task::JoinSet::new();
        for number in 0..USERS {
            users.spawn(trade(rig.user(number), number, served.clone(), Arc::clone(&done)));
        }
        let mut random = Random::new(seed());
        for kill in 1..=KILLS {
            // Somewhere in this part of the requests.
            let until = requests * kill / (KILLS + 1) + random.below(requests / (KILLS + 1));
            while done.load(SeqCst) < until {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            servers.send_replace(None);
            server.kill();
            server = rig.spawn(&listen, &store);
            servers.send_replace(Some(server.http.clone()));
        }
        let mut asked: Vec<Asked> = users.join_all().await.into_iter().flatten().collect();
        assert_eq!(asked.len(), requests);

        // Every request was answered, in one order.
        let place = |asked: &Asked| {
            let place = if asked.status == 200 { &asked.said["place"] } else { &asked.said["error"]["place"] };
            place.as_u64().unwrap_or_else(|| panic!("{}: {}", asked.status, asked.said))
        };
        asked.sort_by_key(place);
        let places: Vec<u64> = asked.iter().map(place).collect();
        let first = u64::from(2 * USERS) + 1;
        assert_eq!(
            places,
            (first..first + requests as u64).collect::<Vec<_>>(),
            "each has its place, and none is empty"
        );

        // In that order, the model gives the same answers.
        let mut model = Model::new(address);
        for user in 0..USERS {
            model.deposit(user, true, FUNDS);
            model.deposit(user, false, 100 * FUNDS);
        }
        let (mut trades, mut repeated) = (0, 0);
        for one in &asked {
            let expected = match &one.action {
                Action::Limit(limit) => model.limit(place(one), one.user, limit.buy, limit.price, limit.size),
                Action::Cancel(cancel) => model.cancel(one.user, cancel.order),
                Action::Withdraw(withdraw) => model.withdraw(one.user, withdraw.base, withdraw.amount),
            };
            match &expected {
                Outcome::Taken { fills, resting, cancelled } => {
                    let told = one.said["fills"].as_array().expect("fills");
                    let same = |(told, fill): (&Value, &Fill)| {
                        told["order"] == fill.order
                            && number(&told["price"]) == u128::from(fill.price)
                            && number(&told["size"]) == u128::from(fill.size)
                    };
                    assert!(told.len() == fills.len() && told.iter().zip(fills).all(same), "{} {fills:?}", one.said);
                    assert_eq!(number(&one.said["resting"]), u128::from(*resting));
                    assert_eq!(number(&one.said["cancelled"]), u128::from(*cancelled));
                    trades += fills.len();
                }
                Outcome::Cancelled { size } => assert_eq!(number(&one.said["size"]), u128::from(*size)),
                Outcome::Refused(refusal) => {
                    let code = match refusal {
                        Refusal::Zero => "zero",
                        Refusal::Funds => "funds",
                        Refusal::Order => "order",
                        Refusal::Orders => "orders",
                    };
                    assert_eq!((one.status, &one.said["error"]["code"]), (422, &Value::from(code)));
                }
                _ => assert_eq!(one.status, 200, "{}", one.said),
            }
            repeated += usize::from(one.said["repeated"] == true);
        }
        println!("{trades} trades, {} orders wait, {repeated} answers were told again", model.orders.len());
        assert!(trades > requests / 10);

        // So do the server's book and accounts, and, once all is settled, the contract.
        server.http.settled(*places.last().expect("many"), "settled").await;
        let mut levels: BTreeMap<(bool, u128), u128> = BTreeMap::new();
        for order in &model.orders {
            *levels.entry((order.buy, order.price.into())).or_default() += u128::from(order.size);
        }
        let watcher = Watcher::connect(&server.http, None).await;
        assert_eq!(watcher.book, levels);
        let paid = |model: &Model, user, base| model.paid_out.get(&(user, base)).copied().unwrap_or_default();
        let mut sums = [0; 2];
        for user in 0..USERS {
            let account = server.http.account(address(user)).await;
            let (base, quote) = rig.on_chain(address(user)).await;
            let outside = rig.outside(address(user)).await;
            for (at, (is_base, name, on_chain)) in
                [(true, "base", base), (false, "quote", quote)].into_iter().enumerate()
            {
                let (free, locked) = (model.free(user, is_base), model.locked(user, is_base));
                assert_eq!(
                    number(&account[name]["free"]),
                    u128::try_from(free).expect("never negative"),
                    "user {user}"
                );
                assert_eq!(number(&account[name]["locked"]), u128::try_from(locked).expect("never negative"));
                assert_eq!(on_chain, u128::try_from(free + locked).expect("never negative"), "user {user} on chain");
                assert_eq!(outside[at], u128::try_from(paid(&model, user, is_base)).expect("never negative"));
                sums[at] += on_chain + outside[at];
            }
        }
        assert_eq!(sums, [u128::from(USERS) * FUNDS, u128::from(USERS) * 100 * FUNDS], "both tokens are all there");
        let held = rig.rpc.view(rig.world.contract, &Contract::heldCall {}).await.expect("sums");
        let total = |base| (0..USERS).map(|user| model.free(user, base) + model.locked(user, base)).sum::<i128>();
        assert_eq!([held.base as i128, held.quote as i128], [total(true), total(false)]);
    };
    timeout(HANGS, whole).await.expect("the test hangs");
}
