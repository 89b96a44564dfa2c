//! The exchange against a model that shares no code with it, and against requests that nobody has signed.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256, keccak256};
use clob_core::{
    Action, Cancel, Delta, Exchange, Fill, Funds, Limit, MOST_FILLS, MOST_OWN_ORDERS, Outcome, Refusal, Rejection,
    Request, SIGNATURE, Side, Token, Withdraw, domain,
};
use infinityvm_stf::{Codec, Context, check::encoding};
use k256::ecdsa::SigningKey;
use proptest::prelude::*;

mod model;
mod state;
#[cfg(feature = "serde")]
mod view;

use model::Model;

const CHAIN: u64 = 31_337;
const CONTRACT: Address = Address::repeat_byte(0xc1);
const USERS: u8 = 4;
/// Nobody waits longer in these tests.
const LATER: u64 = u64::MAX;

fn key(user: u8) -> SigningKey {
    SigningKey::from_slice(&[user + 1; 32]).unwrap()
}

fn address(user: u8) -> Address {
    Address::from_public_key(key(user).verifying_key())
}

fn sign(action: Action, by: u8) -> Request {
    sign_for(action, by, CHAIN, CONTRACT)
}

fn sign_for(action: Action, by: u8, chain: u64, contract: Address) -> Request {
    let hash = action.signing_hash(&domain(chain, contract));
    let (signature, recovery) = key(by).sign_prehash_recoverable(hash.as_slice()).unwrap();
    let mut bytes = [0; SIGNATURE];
    bytes[..64].copy_from_slice(&signature.to_bytes());
    bytes[64] = 27 + recovery.to_byte();
    Request::Signed(action, bytes)
}

fn limit(user: u8, nonce: u64, buy: bool, price: u64, size: u64) -> Action {
    Action::Limit(Limit { user: address(user), nonce, expiry: LATER, buy, price, size })
}

/// The next deposit for a state that has counted so many.
fn deposit(counted: u64, user: u8, token: Token, amount: u128) -> Request {
    Request::Deposit { number: counted + 1, user: address(user), token, amount }
}

fn exchange() -> Exchange {
    Exchange::new(domain(CHAIN, CONTRACT))
}

/// An exchange in which everybody has this much of both tokens.
fn funded(amount: u128) -> Exchange {
    let mut exchange = exchange();
    for user in 0..USERS {
        for token in [Token::Base, Token::Quote] {
            let deposit = deposit(exchange.deposits().0, user, token, amount);
            exchange.apply(&deposit, &Context::chain(1, 1, 1, 0)).unwrap();
        }
    }
    exchange
}

/// Everything that there is to see.
fn all(exchange: &Exchange) -> String {
    format!("{exchange:?}")
}

/// What a user does; prices and sizes are near to each other, so that orders meet.
#[derive(Debug, Clone)]
enum Step {
    Limit(u8, bool, u64, u64),
    Cancel(u8, u64),
    Withdraw(u8, bool, u128),
    Deposit(u8, bool, u128),
    Batch,
}

fn step() -> impl Strategy<Value = Step> {
    let user = 0..USERS;
    prop_oneof![
        12 => (user.clone(), any::<bool>(), 95..105_u64, 0..30_u64).prop_map(|(user, buy, price, size)| Step::Limit(user, buy, price, size)),
        2 => (user.clone(), 0..80_u64).prop_map(|(user, back)| Step::Cancel(user, back)),
        1 => (user.clone(), any::<bool>(), 0..300_u128).prop_map(|(user, base, amount)| Step::Withdraw(user, base, amount)),
        2 => (user, any::<bool>(), 1..2_000_u128).prop_map(|(user, base, amount)| Step::Deposit(user, base, amount)),
        1 => Just(Step::Batch),
    ]
}

fn token(base: bool) -> Token {
    if base { Token::Base } else { Token::Quote }
}

fn signed(number: (u128, u128)) -> i128 {
    assert!(number.0 == 0 || number.1 == 0, "one of the two is 0: {number:?}");
    i128::try_from(number.0).unwrap() - i128::try_from(number.1).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_exchange_is_the_model(steps in prop::collection::vec(step(), 1..80)) {
        let (mut exchange, mut model) = (funded(1_500), Model::new(address));
        for user in 0..USERS {
            for base in [true, false] {
                model.deposit(user, base, 1_500);
            }
        }
        let mut told: BTreeMap<(u8, bool), i128> = BTreeMap::new();
        for (place, step) in (1..).zip(steps) {
            let nonce = |model: &mut Model, user: u8| {
                let nonce = model.nonces.entry(user).or_default();
                *nonce += 1;
                (address(user), *nonce)
            };
            let request = match &step {
                Step::Limit(user, buy, price, size) => {
                    let nonce = nonce(&mut model, *user).1;
                    sign(limit(*user, nonce, *buy, *price, *size), *user)
                }
                Step::Cancel(by, back) => {
                    let (user, nonce) = nonce(&mut model, *by);
                    sign(Action::Cancel(Cancel { user, nonce, expiry: LATER, order: back % place }), *by)
                }
                Step::Withdraw(by, base, amount) => {
                    let (user, nonce) = nonce(&mut model, *by);
                    sign(Action::Withdraw(Withdraw { user, nonce, expiry: LATER, base: *base, amount: *amount }), *by)
                }
                Step::Deposit(user, base, amount) => deposit(exchange.deposits().0, *user, token(*base), *amount),
                Step::Batch => {
                    for (user, Delta { base, quote }) in exchange.take_deltas() {
                        let user = (0..USERS).find(|known| address(*known) == user).unwrap();
                        for (is_base, change) in [(true, base), (false, quote)] {
                            *told.entry((user, is_base)).or_default() += signed(change);
                        }
                    }
                    continue;
                }
            };
            let context = if matches!(step, Step::Deposit(..)) { Context::chain(place, 7, 1, place) } else { Context::request(place, 7) };
            let outcome = exchange.apply(&request, &context).unwrap();
            let expected = match step {
                Step::Limit(user, buy, price, size) => model.limit(place, user, buy, price, size),
                Step::Cancel(user, back) => model.cancel(user, back % place),
                Step::Withdraw(user, base, amount) => model.withdraw(user, base, amount),
                Step::Deposit(user, base, amount) => {
                    model.deposit(user, base, amount);
                    Outcome::Deposited
                }
                Step::Batch => unreachable!("goes on above"),
            };
            prop_assert_eq!(&outcome, &expected, "place {}", place);
            // No fill is worse than what was asked for.
            if let (Outcome::Taken { fills, .. }, Request::Signed(Action::Limit(limit), _)) = (&outcome, &request) {
                let side = if limit.buy { Side::Buy } else { Side::Sell };
                let worst = fills.iter().map(|fill| fill.price).reduce(if limit.buy { u64::max } else { u64::min });
                prop_assert!(worst.is_none_or(|worst| side.takes(limit.price, worst)), "{:?}", fills);
                let done = |outcome: &Outcome| match outcome {
                    Outcome::Taken { fills, resting, cancelled } => fills.iter().map(|fill| fill.size).sum::<u64>() + resting + cancelled,
                    _ => 0,
                };
                prop_assert_eq!(done(&outcome), limit.size);
            }
            // The book is not crossed, and is in its order.
            if let (Some((bid, _)), Some((offer, _))) = (exchange.book().first(Side::Buy), exchange.book().first(Side::Sell)) {
                prop_assert!(bid < offer, "{} against {}", bid, offer);
            }
            for side in [Side::Buy, Side::Sell] {
                let mut lines: Vec<_> = model.orders.iter().filter(|line| line.buy == (side == Side::Buy)).collect();
                lines.sort_by_key(|line| (if line.buy { u64::MAX - line.price } else { line.price }, line.id));
                let lines: Vec<_> = lines.into_iter().map(|line| (line.price, line.id, address(line.user), line.size)).collect();
                let orders: Vec<_> = exchange.book().orders(side).map(|(price, order)| (price, order.id, order.user, order.size)).collect();
                prop_assert_eq!(orders, lines);
            }
            // Everybody has what the model says, and both tokens are all there.
            for base in [true, false] {
                let mut total = 0;
                for user in 0..USERS {
                    let Funds { free, locked } = *exchange.account(&address(user)).funds(token(base));
                    prop_assert_eq!(i128::try_from(free).unwrap(), model.free(user, base));
                    prop_assert_eq!(i128::try_from(locked).unwrap(), model.locked(user, base));
                    total += free + locked;
                }
                prop_assert_eq!(total, exchange.supply(token(base)));
            }
            prop_assert_eq!(exchange.book().len(), model.orders.len());
        }
        // What the contract was told, with the deposits that it knows of, is what everybody has.
        for (user, Delta { base, quote }) in exchange.take_deltas() {
            let user = (0..USERS).find(|known| address(*known) == user).unwrap();
            for (is_base, change) in [(true, base), (false, quote)] {
                *told.entry((user, is_base)).or_default() += signed(change);
            }
        }
        for user in 0..USERS {
            for base in [true, false] {
                let has = i128::try_from(exchange.account(&address(user)).funds(token(base)).total()).unwrap();
                let change = told.get(&(user, base)).copied().unwrap_or_default();
                prop_assert_eq!(model.deposited[&(user, base)] + change, has);
            }
        }
        prop_assert!(exchange.take_deltas().is_empty());
    }

    #[test]
    fn any_bytes_are_one_request_or_none(bytes in prop::collection::vec(any::<u8>(), 0..140), kind in 0..6_u8) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        if let Ok(request) = Request::decode(&bytes) {
            prop_assert_eq!(request.encoded(), bytes);
        }
    }
}

#[test]
fn encodings_are_exact() {
    let withdraw = Action::Withdraw(Withdraw { user: address(1), nonce: 9, expiry: 1, base: false, amount: u128::MAX });
    let cancel = Action::Cancel(Cancel { user: address(1), nonce: 8, expiry: 1, order: 3 });
    let requests =
        [sign(limit(0, 1, true, 5, 6), 0), sign(cancel, 1), sign(withdraw, 1), deposit(6, 1, Token::Quote, 7)];
    for request in requests {
        encoding(&request).unwrap();
        assert_eq!(Request::decode(&request.encoded()), Ok(request));
    }
}

/// What wallets sign, worked out from EIP-712 by hand.
#[test]
fn the_signed_hash_is_that_of_the_standard() {
    let word = |number: u64| U256::from(number).to_be_bytes::<32>();
    let domain_type = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    let parts =
        [domain_type, keccak256("InfinityVM CLOB"), keccak256("1"), B256::from(word(CHAIN)), CONTRACT.into_word()];
    let separator = keccak256(parts.concat());
    let limit_type = keccak256("Limit(address user,uint64 nonce,uint64 expiry,bool buy,uint64 price,uint64 size)");
    let fields = [word(4), word(LATER), word(1), word(70), word(8)];
    let hashed = keccak256([&limit_type.0[..], &address(2).into_word().0[..], &fields.concat()].concat());
    let expected = keccak256([&[0x19, 0x01][..], &separator.0[..], &hashed.0[..]].concat());
    assert_eq!(limit(2, 4, true, 70, 8).signing_hash(&domain(CHAIN, CONTRACT)), expected);
}

#[test]
fn what_is_not_signed_like_this_changes_nothing() {
    let mut exchange = funded(1_000);
    let now = Context::request(20, 1_000);
    exchange.apply(&sign(limit(0, 1, false, 10, 5), 0), &Context::request(10, 5)).unwrap();
    let before = all(&exchange);
    let order = || limit(0, 2, false, 10, 5);
    let changed = |change: fn(&mut Limit)| {
        let Request::Signed(Action::Limit(mut limit), signature) = sign(order(), 0) else { panic!("an order") };
        change(&mut limit);
        Request::Signed(Action::Limit(limit), signature)
    };
    let with_signature = |bytes: [u8; SIGNATURE]| Request::Signed(order(), bytes);
    let cancel = Cancel { user: address(1), nonce: 1, expiry: LATER, order: 10 };
    let late = Action::Limit(Limit { user: address(0), nonce: 2, expiry: 999, buy: false, price: 10, size: 5 });
    let refused = [
        ("signed by another", sign(order(), 1), Rejection::Signature),
        ("for another chain", sign_for(order(), 0, 1, CONTRACT), Rejection::Signature),
        ("for another contract", sign_for(order(), 0, CHAIN, Address::ZERO), Rejection::Signature),
        ("another price", changed(|limit| limit.price = 9), Rejection::Signature),
        ("another size", changed(|limit| limit.size = 6), Rejection::Signature),
        ("another side", changed(|limit| limit.buy = true), Rejection::Signature),
        ("a longer expiry", changed(|limit| limit.expiry -= 1), Rejection::Signature),
        ("no signature", with_signature([0; SIGNATURE]), Rejection::Signature),
        ("noise", with_signature([0xff; SIGNATURE]), Rejection::Signature),
        ("in the name of another", changed(|limit| limit.user = address(1)), Rejection::Nonce),
        ("the next nonce but one", changed(|limit| limit.nonce = 3), Rejection::Nonce),
        ("repeated", sign(limit(0, 1, false, 10, 5), 0), Rejection::Nonce),
        ("nonce 0", sign(limit(1, 0, false, 10, 5), 1), Rejection::Nonce),
        ("the last nonce", sign(limit(1, u64::MAX, false, 10, 5), 1), Rejection::Nonce),
        ("expired", sign(late, 0), Rejection::Expired),
        ("signed by nobody who is known", sign(Action::Cancel(cancel), 3), Rejection::Signature),
        ("the next deposit, which no log brought", deposit(8, 0, Token::Base, 5), Rejection::Source),
        ("by one who has no account", sign(limit(9, 1, false, 10, 5), 9), Rejection::Account),
    ];
    for (what, request, why) in refused {
        assert_eq!(exchange.apply(&request, &now), Err(why), "{what}");
        assert_eq!(all(&exchange), before, "{what}");
    }
    let from_chain = Context::chain(21, 1_000, 5, 0);
    assert_eq!(exchange.apply(&sign(order(), 0), &from_chain), Err(Rejection::Source));
    assert_eq!(exchange.apply(&deposit(8, 0, Token::Base, u128::MAX), &from_chain), Err(Rejection::Supply));
    assert_eq!(exchange.apply(&deposit(7, 0, Token::Base, 5), &from_chain), Err(Rejection::Deposit), "counted before");
    assert_eq!(exchange.apply(&deposit(9, 0, Token::Base, 5), &from_chain), Err(Rejection::Deposit), "one is left out");
    assert_eq!(all(&exchange), before);
    // The order itself is taken, at the last moment, too.
    let last = Action::Limit(Limit { user: address(0), nonce: 2, expiry: 1_000, buy: false, price: 10, size: 5 });
    assert!(matches!(exchange.apply(&sign(last, 0), &now), Ok(Outcome::Taken { resting: 5, .. })));
}

/// What was signed and is refused uses its nonce, so that the server cannot carry it out later.
#[test]
fn a_refused_request_is_over() {
    let mut exchange = funded(100);
    let context = Context::request(1, 0);
    let withdraw =
        |nonce, amount| Action::Withdraw(Withdraw { user: address(0), nonce, expiry: LATER, base: true, amount });
    let refused = [
        (limit(0, 1, true, u64::MAX, u64::MAX), Refusal::Funds),
        (limit(0, 2, false, 1, 101), Refusal::Funds),
        (limit(0, 3, false, 0, 1), Refusal::Zero),
        (limit(0, 4, false, 1, 0), Refusal::Zero),
        (withdraw(5, 101), Refusal::Funds),
        (withdraw(6, 0), Refusal::Zero),
        (Action::Cancel(Cancel { user: address(0), nonce: 7, expiry: LATER, order: 1 }), Refusal::Order),
    ];
    for (action, why) in refused {
        let request = sign(action, 0);
        let funds = exchange.account(&address(0)).base;
        assert_eq!(exchange.apply(&request, &context), Ok(Outcome::Refused(why)));
        assert_eq!(exchange.account(&address(0)).base, funds);
        assert_eq!(exchange.apply(&request, &context), Err(Rejection::Nonce), "not once more");
    }
    assert!(exchange.take_deltas().is_empty() && exchange.book().is_empty());
    // An order that another has in the book is not theirs to cancel, and one's own only once.
    exchange.apply(&sign(limit(1, 1, false, 5, 100), 1), &Context::request(8, 0)).unwrap();
    let cancel = |user: u8, nonce| Action::Cancel(Cancel { user: address(user), nonce, expiry: LATER, order: 8 });
    assert_eq!(exchange.apply(&sign(cancel(0, 8), 0), &context), Ok(Outcome::Refused(Refusal::Order)));
    assert_eq!(exchange.apply(&sign(cancel(1, 2), 1), &context), Ok(Outcome::Cancelled { size: 100 }));
    assert_eq!(exchange.apply(&sign(cancel(1, 3), 1), &context), Ok(Outcome::Refused(Refusal::Order)));
}

#[test]
fn an_order_meets_a_bounded_number_of_others() {
    let mut exchange = funded(1_000);
    for nonce in 1..=70 {
        exchange.apply(&sign(limit(0, nonce, false, 5, 1), 0), &Context::request(nonce, 0)).unwrap();
    }
    let outcome = exchange.apply(&sign(limit(1, 1, true, 6, 100), 1), &Context::request(71, 0)).unwrap();
    let Outcome::Taken { fills, resting, cancelled } = outcome else { panic!("{outcome:?}") };
    assert_eq!((fills.len(), resting, cancelled), (MOST_FILLS, 0, 100 - MOST_FILLS as u64));
    assert_eq!(fills.iter().map(|fill| fill.order).collect::<Vec<_>>(), (1..=64).collect::<Vec<_>>(), "by time");
    let quote = exchange.account(&address(1)).quote;
    assert_eq!((quote.free, quote.locked), (1_000 - 64 * 5, 0));
}

/// Nobody closes the book for all others: whoever has as many orders in it as anybody may have is told so, also of an order
/// that would trade. Each that is over makes room for one, however it ended.
#[test]
fn a_user_has_a_bounded_number_of_orders() {
    let mut exchange = funded(1_000_000);
    let (mut place, mut nonces) = (0, [0; 2]);
    let mut act = |exchange: &mut Exchange, user: u8, action: &dyn Fn(u64) -> Action| {
        place += 1;
        nonces[usize::from(user)] += 1;
        let request = sign(action(nonces[usize::from(user)]), user);
        exchange.apply(&request, &Context::request(place, 0)).unwrap()
    };
    let waits = |size| Outcome::Taken { fills: Vec::new(), resting: size, cancelled: 0 };
    let full = Outcome::Refused(Refusal::Orders);
    let buys = |nonce| limit(0, nonce, true, 10, 2);
    let sells = |nonce| limit(0, nonce, false, 20, 2);
    for number in 1..=MOST_OWN_ORDERS {
        let outcome = act(&mut exchange, 0, if number % 2 == 1 { &buys } else { &sells });
        assert_eq!(outcome, waits(2), "{number}");
    }
    let before = exchange.account(&address(0));
    assert_eq!(act(&mut exchange, 0, &buys), full);
    assert_eq!(exchange.account(&address(0)), clob_core::Account { nonce: before.nonce + 1, ..before });
    // Others have theirs, and the user may not take it, either.
    assert_eq!(act(&mut exchange, 1, &|nonce| limit(1, nonce, false, 15, 1)), waits(1));
    assert_eq!(act(&mut exchange, 0, &|nonce| limit(0, nonce, true, 15, 1)), full);
    // A part of the first is sold, and then the rest: only then it is over.
    for (next, after) in [(&full, "a part is left"), (&waits(2), "it is filled"), (&full, "that was the room")] {
        if after != "that was the room" {
            let fill = Fill { order: 1, user: address(0), price: 10, size: 1 };
            let sold = act(&mut exchange, 1, &|nonce| limit(1, nonce, false, 10, 1));
            assert_eq!(sold, Outcome::Taken { fills: vec![fill], resting: 0, cancelled: 0 });
        }
        assert_eq!(act(&mut exchange, 0, &buys), *next, "{after}");
    }
    let cancel = |nonce| Action::Cancel(Cancel { user: address(0), nonce, expiry: LATER, order: 2 });
    assert_eq!(act(&mut exchange, 0, &cancel), Outcome::Cancelled { size: 2 });
    assert_eq!(act(&mut exchange, 0, &sells), waits(2), "one was cancelled");
    assert_eq!(act(&mut exchange, 0, &sells), full);
}
