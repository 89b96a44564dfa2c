//! What is told of each request adds up to the exchange: the book, the accounts and the trades.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use clob_core::{Account, Action, Cancel, Outcome, Side, Trade, View};
use infinityvm_stf::{Codec, Context};
use proptest::prelude::*;

use crate::{LATER, USERS, address, funded, limit, sign};

/// Whoever hears everything from the start.
#[derive(Default)]
struct Listener {
    seq: u64,
    levels: BTreeMap<(Side, u64), u128>,
    accounts: BTreeMap<Address, Account>,
    /// What is left of each user's orders.
    orders: BTreeMap<(Address, u64), u64>,
    trades: Vec<Trade>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn updates_add_up_to_the_exchange(
        asked in prop::collection::vec((0..USERS, any::<bool>(), 95..105_u64, 1..20_u64, 0..4_u8), 1..300),
    ) {
        let mut exchange = funded(500);
        let from = exchange.last().0;
        let mut view = View::new(exchange.clone(), from, []);
        let mut heard = Listener { seq: from, ..Listener::default() };
        let mut read = Vec::new();
        for (place, (user, buy, price, size, kind)) in (from + 1..).zip(asked) {
            let nonce = exchange.account(&address(user)).nonce + 1;
            // One in four ends an order, if there is one so old.
            let action = match kind {
                0 => Action::Cancel(Cancel { user: address(user), nonce, expiry: LATER, order: place.saturating_sub(size) }),
                _ => limit(user, nonce, buy, price, size),
            };
            let request = sign(action, user);
            let outcome = exchange.apply(&request, &Context::request(place, place)).unwrap();
            read.extend(Trade::of(&encoded(&request), &encoded(&outcome), place, place));
            let (update, own) = view.take(&request, place, place);
            let trades = if let Outcome::Taken { fills, .. } = &outcome { fills.len() } else { 0 };
            prop_assert_eq!(update.as_ref().map_or(0, |update| update.trades.len()), trades);
            if let Some(update) = update {
                prop_assert_eq!((update.seq, update.prev), (place, heard.seq));
                heard.seq = place;
                for level in update.levels {
                    prop_assert_ne!(heard.levels.insert((level.0, level.1), level.2).unwrap_or(0), level.2);
                }
                heard.trades.extend(update.trades);
            }
            // Each trade is told to both.
            prop_assert_eq!(own.values().map(|own| own.changes.fills.len()).sum::<usize>(), 2 * trades);
            for (user, own) in own {
                heard.accounts.insert(user, own.changes.account);
                heard.orders.extend(own.changes.orders.iter().map(|order| ((user, order.id), order.left)));
            }
        }
        heard.levels.retain(|_, size| *size > 0);
        heard.orders.retain(|_, left| *left > 0);
        let mut orders = BTreeMap::new();
        for side in [Side::Buy, Side::Sell] {
            let levels: BTreeMap<_, _> = exchange.book().levels(side).collect();
            let told = heard.levels.iter().filter(|((of, _), _)| *of == side).map(|((_, price), size)| (*price, *size));
            prop_assert_eq!(told.collect::<BTreeMap<_, _>>(), levels);
            orders.extend(exchange.book().orders(side).map(|(_, order)| ((order.user, order.id), order.size)));
        }
        prop_assert_eq!(&heard.orders, &orders);
        for (user, account) in &heard.accounts {
            prop_assert_eq!(*account, exchange.account(user));
        }
        prop_assert_eq!(&heard.trades, &read, "as the journal has them");
        let last: Vec<_> = heard.trades.iter().rev().take(200).copied().collect();
        prop_assert_eq!(view.trades(), last);
    }
}

fn encoded(value: &impl Codec) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    bytes
}
