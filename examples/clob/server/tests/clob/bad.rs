//! Requests that nobody may have carried out: each is refused with its reason, and nothing changes.

use alloy_signer::SignerSync as _;
use alloy_signer_local::PrivateKeySigner;
use clob::{
    config::Store,
    service::{Service, now},
};
use clob_core::{Action, Cancel, Limit, Rejection, Request, Token, Withdraw, domain};
use infinityvm_sdk::primitives::{Address, B256, hex};
use serde_json::{Value, json};
use support::harness::within;

use crate::{
    feed::Watcher,
    rig::{Http, Rig, User, fields, number},
};

/// What there is to be changed.
#[derive(Debug, PartialEq)]
struct Everything {
    root: B256,
    book: Value,
    accounts: Vec<Value>,
}

struct Bench {
    service: std::sync::Arc<Service>,
    http: Http,
    users: Vec<Address>,
    count: usize,
}

impl Bench {
    async fn everything(&self) -> Everything {
        let root = self.service.server.status().await.expect("a status").root;
        let mut accounts = Vec::new();
        for user in &self.users {
            let mut account = self.http.account(*user).await;
            account["seq"].take();
            accounts.push(account);
        }
        Everything { root, book: self.http.read("/api/book").await, accounts }
    }

    async fn refused(&mut self, what: &str, path: &str, body: &str, expected: (u16, &str)) {
        let before = self.everything().await;
        let (status, said) = self.http.try_post(path, None, body).await.expect("a reply");
        let error = &said["error"];
        assert_eq!((status, error["code"].as_str().unwrap_or_default()), expected, "{what}: {said}");
        assert!(error["message"].as_str().is_some_and(|message| message.len() > 10), "{what}: {said}");
        let after = self.everything().await;
        if status == 422 {
            // The nonce is used, and nothing else has changed.
            let without = |everything: Everything| {
                let mut accounts = everything.accounts;
                accounts.iter_mut().for_each(|account| _ = account["nonce"].take());
                (everything.book, accounts)
            };
            assert_ne!(after.root, before.root, "{what}");
            assert_eq!(without(after), without(before), "{what}");
        } else {
            assert_eq!(after, before, "{what}");
        }
        self.count += 1;
    }

    async fn done(&self, user: &User, action: &Action) -> u64 {
        let (path, body) = user.asks(action);
        let (status, said) = self.http.post(path, &body).await;
        assert_eq!(status, 200, "{said}");
        said["place"].as_u64().expect("a place")
    }
}

/// The body of an action with another signature, or with other fields.
fn with(action: &Action, changes: Value) -> (&'static str, String) {
    let (path, mut body) = fields(action);
    for (name, value) in changes.as_object().expect("fields") {
        body[name] = value.clone();
    }
    (path, body.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn bad_requests_are_refused_and_change_nothing() {
    within(async {
        let rig = Rig::start().await;
        let mut config = rig.world.config(Store::Memory);
        (config.limit.per_second, config.limit.burst) = (1_000_000, 1_000_000);
        let (service, http) = rig.serve(config).await;
        let (mut alice, mut bob, stranger) = (rig.user(1), rig.user(2), rig.user(9));
        let contract = rig.world.contract;
        let mut watcher = Watcher::connect(&http, Some(bob.address())).await;
        rig.deposit(&[(alice.address(), true, 1_000), (bob.address(), false, 10_000)]).await;
        watcher.until(|watcher| number(&watcher.account["quote"]["free"]) == 10_000).await;
        let users = vec![alice.address(), bob.address(), stranger.address()];
        let mut bench = Bench { service, http, users, count: 0 };

        let action = alice.0.limit(false, 50, 100);
        let waits = bench.done(&alice, &action).await;
        let action = alice.0.limit(false, 40, 10);
        let taken = bench.done(&alice, &action).await;
        let buys = bob.0.limit(true, 40, 10);
        bench.done(&bob, &buys).await;
        let action = alice.0.limit(false, 60, 1);
        let over = bench.done(&alice, &action).await;
        let cancels = alice.0.cancel(over);
        bench.done(&alice, &cancels).await;
        let takes_out = alice.0.withdraw(true, 5);
        bench.done(&alice, &takes_out).await;

        let (user, nonce, expiry) = (alice.address(), alice.0.nonce + 1, now() + 600_000);
        let order = Limit { user, nonce, expiry, buy: false, price: 70, size: 3 };
        let good = Action::Limit(order.clone());
        let signature = alice.signature(&good);
        let signed = |action: &Action, signature: &str| with(action, json!({ "signature": signature }));

        // Signatures of others, or of something else.
        let unauthorized = (401, "signature");
        let hash_of = |chain, contract| good.signing_hash(&domain(chain, contract));
        let key = PrivateKeySigner::from_bytes(&B256::repeat_byte(2)).expect("alice's key");
        assert_eq!(key.address(), user);
        let by_key = |hash: B256| hex::encode_prefixed(key.sign_hash_sync(&hash).expect("signed").as_bytes());
        let flipped = |at: usize| {
            let mut bytes = hex::decode(&signature).expect("hex");
            bytes[at] ^= 1;
            hex::encode_prefixed(bytes)
        };
        let swapped = {
            let bytes = hex::decode(&signature).expect("hex");
            hex::encode_prefixed([&bytes[32..64], &bytes[..32], &bytes[64..]].concat())
        };
        let message = key.sign_message_sync(hash_of(31_337, contract).as_slice()).expect("signed");
        let cancel_alike = Action::Cancel(Cancel { user, nonce, expiry, order: waits });
        let others = [
            ("signed by another", bob.signature(&good)),
            ("signed for another chain", by_key(hash_of(1, contract))),
            ("signed for another contract", by_key(hash_of(31_337, Address::ZERO))),
            ("signed as a message", hex::encode_prefixed(message.as_bytes())),
            ("the signature of a cancel", alice.signature(&cancel_alike)),
            ("no signature", hex::encode_prefixed([0; 65])),
            ("noise", hex::encode_prefixed([0xff; 65])),
            ("a changed r", flipped(3)),
            ("a changed s", flipped(40)),
            ("the other v", flipped(64)),
            ("r and s swapped", swapped),
        ];
        for (what, signature) in &others {
            let (path, body) = signed(&good, signature);
            bench.refused(what, path, &body, unauthorized).await;
        }
        type Change = (&'static str, fn(&mut Limit));
        let changed: [Change; 5] = [
            ("another price", |order| order.price = 1),
            ("another size", |order| order.size = 4),
            ("another side", |order| order.buy = true),
            ("another nonce", |order| order.nonce += 1),
            ("a longer expiry", |order| order.expiry += 1),
        ];
        for (what, change) in changed {
            let mut order = order.clone();
            change(&mut order);
            let (path, body) = signed(&Action::Limit(order), &signature);
            bench.refused(what, path, &body, unauthorized).await;
        }
        let in_the_name = Action::Limit(Limit { user: bob.address(), ..order.clone() });
        let (path, body) = signed(&in_the_name, &signature);
        bench.refused("in the name of another", path, &body, unauthorized).await;

        // What was signed, and comes at the wrong time.
        let limit = |nonce, expiry| Action::Limit(Limit { nonce, expiry, ..order.clone() });
        let cancel = |nonce, order| Action::Cancel(Cancel { user, nonce, expiry, order });
        let withdraw = |nonce, base, amount| Action::Withdraw(Withdraw { user, nonce, expiry, base, amount });
        let conflict = (409, "nonce");
        let gone = (410, "expired");
        let late = [
            ("a replayed cancel", cancels.clone(), conflict),
            ("a replayed withdrawal", takes_out.clone(), conflict),
            ("nonce 0", limit(0, expiry), conflict),
            ("an old nonce", limit(1, expiry), conflict),
            ("the nonce before", limit(nonce - 1, expiry), conflict),
            ("the next nonce but one", limit(nonce + 1, expiry), conflict),
            ("the last nonce of all", limit(u64::MAX, expiry), conflict),
            ("expired long ago", limit(nonce, 0), gone),
            ("expired just now", limit(nonce, now() - 1), gone),
            ("an expired cancel", Action::Cancel(Cancel { user, nonce, expiry: 5, order: waits }), gone),
            (
                "an expired withdrawal",
                Action::Withdraw(Withdraw { user, nonce, expiry: 5, base: true, amount: 1 }),
                gone,
            ),
        ];
        for (what, action, expected) in &late {
            let (path, body) = alice.asks(action);
            bench.refused(what, path, &body.to_string(), *expected).await;
        }
        let (path, body) = bob.asks(&buys);
        bench.refused("a replayed order of another", path, &body.to_string(), conflict).await;
        let unknown = stranger.address();
        for action in [
            Action::Limit(Limit { user: unknown, nonce: 1, ..order.clone() }),
            Action::Cancel(Cancel { user: unknown, nonce: 1, expiry, order: waits }),
            Action::Withdraw(Withdraw { user: unknown, nonce: 1, expiry, base: true, amount: 1 }),
        ] {
            let (path, body) = stranger.asks(&action);
            bench.refused("by one who has no account", path, &body.to_string(), (409, "account")).await;
        }

        // What is no request at all.
        let malformed = (400, "malformed");
        for (what, body) in [("nothing", ""), ("no JSON", "{"), ("a list", "[]"), ("a text", "\"order\"")] {
            bench.refused(what, "/api/orders", body, malformed).await;
        }
        for field in ["user", "nonce", "expiry", "side", "price", "size", "signature"] {
            let (path, mut body) = alice.asks(&good);
            body.as_object_mut().expect("fields").remove(field);
            bench.refused(&format!("without {field}"), path, &body.to_string(), malformed).await;
        }
        let wrong = [
            ("an unknown field", json!({ "leverage": 5 })),
            ("a nonce as a text", json!({ "nonce": "3" })),
            ("a negative nonce", json!({ "nonce": -1 })),
            ("a fraction of a nonce", json!({ "nonce": 1.5 })),
            ("a price as a number", json!({ "price": 70 })),
            ("a price in scientific notation", json!({ "price": "7e1" })),
            ("a negative price", json!({ "price": "-70" })),
            ("a price with a sign", json!({ "price": "+70" })),
            ("a price with a leading zero", json!({ "price": "070" })),
            ("a price with a space", json!({ "price": " 70" })),
            ("a price with a fraction", json!({ "price": "70.5" })),
            ("an empty price", json!({ "price": "" })),
            ("a price beyond 64 bits", json!({ "price": "18446744073709551616" })),
            ("a size beyond 64 bits", json!({ "size": "99999999999999999999999" })),
            ("an unknown side", json!({ "side": "hold" })),
            ("no address", json!({ "user": "alice" })),
            ("a short address", json!({ "user": "0x1234" })),
            ("a short signature", json!({ "signature": "0x1234" })),
            ("a long signature", json!({ "signature": format!("{signature}00") })),
        ];
        for (what, mut changes) in wrong {
            if changes.get("signature").is_none() {
                changes["signature"] = signature.clone().into();
            }
            let (path, body) = with(&good, changes);
            bench.refused(what, path, &body, malformed).await;
        }
        let nonce_of_20_digits =
            alice.asks(&good).1.to_string().replace(&format!("\"nonce\":{nonce}"), "\"nonce\":18446744073709551616");
        bench.refused("a nonce beyond 64 bits", "/api/orders", &nonce_of_20_digits, malformed).await;
        let (path, body) = with(&withdraw(nonce, true, 1), json!({ "token": "ether", "signature": signature }));
        bench.refused("an unknown token", path, &body, malformed).await;
        let beyond = json!({ "amount": "340282366920938463463374607431768211456", "signature": signature });
        let (path, body) = with(&withdraw(nonce, true, 1), beyond);
        bench.refused("an amount beyond 128 bits", path, &body, malformed).await;
        let (path, body) = with(&cancel(nonce, 1), json!({ "order": "1", "signature": signature }));
        bench.refused("an order as a text", path, &body, malformed).await;
        let long = format!("{}{}", " ".repeat(5_000), alice.asks(&good).1);
        bench.refused("too long", "/api/orders", &long, (413, "too_large")).await;
        let (path, body) = alice.asks(&good);
        let (status, said) = bench.http.post_as("text/plain", path, &body.to_string()).await;
        assert_eq!((status, &said["error"]["code"]), (400, &json!("malformed")), "JSON that does not say so");

        // Deposits are not asked for: there is no path for them, and the core takes them from the chain's logs alone. This
        // one has the next number, and would be counted if a log had brought it.
        let deposit = json!({ "number": 3, "user": user, "token": "base", "amount": "1000000" });
        bench.refused("a deposit", "/api/deposits", &deposit.to_string(), (404, "unknown")).await;
        bench.refused("a deposit for an order", "/api/orders", &deposit.to_string(), malformed).await;
        let before = bench.everything().await;
        let claimed = Request::Deposit { number: 3, user, token: Token::Base, amount: 1_000_000 };
        let answer = bench.service.server.request(claimed).await.expect("an answer");
        assert_eq!(answer.outcome, Err(Rejection::Source));
        assert_eq!(bench.everything().await, before, "a deposit past the server");
        bench.count += 1;

        bench.refused("an unknown path", "/api/nothing", "{}", (404, "unknown")).await;
        bench.refused("no faucet", "/api/faucet", &json!({ "user": user }).to_string(), (404, "unknown")).await;

        // What was signed, and cannot be done. Each of these uses a nonce.
        let (zero, funds, order_code) = ((422, "zero"), (422, "funds"), (422, "order"));
        let refused = [
            ("a price of 0", alice.0.limit(false, 0, 5), zero),
            ("a size of 0", alice.0.limit(false, 5, 0), zero),
            ("an amount of 0", alice.0.withdraw(true, 0), zero),
            ("more than is free", alice.0.limit(false, 5, 1_000), funds),
            ("as much as there can be", alice.0.limit(true, u64::MAX, u64::MAX), funds),
            ("what is locked", alice.0.withdraw(true, 900), funds),
            ("all there can be", alice.0.withdraw(false, u128::MAX), funds),
            ("cancelled twice", alice.0.cancel(over), order_code),
            ("an order that was filled", alice.0.cancel(taken), order_code),
            ("an order that is none", alice.0.cancel(u64::MAX), order_code),
            ("order 0", alice.0.cancel(0), order_code),
        ];
        for (what, action, expected) in &refused {
            let (path, body) = alice.asks(action);
            bench.refused(what, path, &body.to_string(), *expected).await;
        }
        let theirs = bob.0.cancel(waits);
        let (path, body) = bob.asks(&theirs);
        bench.refused("the order of another", path, &body.to_string(), order_code).await;
        // Once more, it is a replay.
        bench.refused("a refused request again", path, &body.to_string(), conflict).await;
        println!("{} bad requests", bench.count);
        assert!(bench.count >= 60, "{}", bench.count);

        // After all of that the good one is taken, once; and under its key it has one answer.
        let next = alice.0.limit(false, 70, 3);
        let (path, body) = alice.asks(&next);
        let first = bench.http.try_post(path, Some("seventy"), &body.to_string()).await.expect("a reply");
        assert_eq!((first.0, &first.1["resting"]), (200, &json!("3")));
        let mut again = bench.http.try_post(path, Some("seventy"), &body.to_string()).await.expect("a reply");
        assert_eq!(again.1["repeated"].take(), true);
        again.1["repeated"] = false.into();
        assert_eq!(again, first);
        let action = alice.0.cancel(waits);
        let (path, body) = alice.asks(&action);
        let (status, said) = bench.http.try_post(path, Some("seventy"), &body.to_string()).await.expect("a reply");
        assert_eq!((status, &said["error"]["code"]), (409, &json!("key")));

        // What was refused is in the batches, too, and the program refuses it as the server did.
        bench.http.settled(first.1["place"].as_u64().expect("a place"), "settled").await;
    })
    .await;
}
