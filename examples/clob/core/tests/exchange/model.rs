//! The exchange as its rules read, without any code of the core's: one list of orders, and what is free.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use clob_core::{Fill, MOST_FILLS, MOST_OWN_ORDERS, Outcome, Refusal};

/// An order as a line in a list.
#[derive(Debug, Clone)]
pub struct Line {
    pub id: u64,
    pub user: u8,
    pub buy: bool,
    pub price: u64,
    pub size: u64,
}

/// The exchange. What is locked follows from the list. Users are numbers, and a token is whether it is the base token.
#[derive(Debug)]
pub struct Model {
    pub orders: Vec<Line>,
    free: BTreeMap<(u8, bool), i128>,
    pub nonces: BTreeMap<u8, u64>,
    pub deposited: BTreeMap<(u8, bool), i128>,
    pub paid_out: BTreeMap<(u8, bool), i128>,
    address: fn(u8) -> Address,
}

impl Model {
    /// Nobody has anything.
    pub fn new(address: fn(u8) -> Address) -> Self {
        let (free, nonces, deposited) = Default::default();
        Self { orders: Vec::new(), free, nonces, deposited, paid_out: BTreeMap::new(), address }
    }

    pub fn deposit(&mut self, user: u8, base: bool, amount: u128) {
        let amount = i128::try_from(amount).unwrap();
        self.move_free(user, base, amount);
        *self.deposited.entry((user, base)).or_default() += amount;
    }

    fn move_free(&mut self, user: u8, base: bool, by: i128) {
        *self.free.entry((user, base)).or_default() += by;
    }

    pub fn free(&self, user: u8, base: bool) -> i128 {
        self.free.get(&(user, base)).copied().unwrap_or_default()
    }

    pub fn locked(&self, user: u8, base: bool) -> i128 {
        let own = self.orders.iter().filter(|order| order.user == user && order.buy != base);
        own.map(|order| if base { order.size.into() } else { i128::from(order.price) * i128::from(order.size) }).sum()
    }

    pub fn limit(&mut self, id: u64, user: u8, buy: bool, price: u64, size: u64) -> Outcome {
        if price == 0 || size == 0 {
            return Outcome::Refused(Refusal::Zero);
        }
        if self.orders.iter().filter(|order| order.user == user).count() >= MOST_OWN_ORDERS {
            return Outcome::Refused(Refusal::Orders);
        }
        let needs = if buy { i128::from(price) * i128::from(size) } else { size.into() };
        if self.free(user, !buy) < needs {
            return Outcome::Refused(Refusal::Funds);
        }
        let (mut left, mut fills) = (size, Vec::new());
        self.move_free(user, !buy, -needs);
        loop {
            let offers = self.orders.iter().filter(|order| order.buy != buy);
            let crossing = offers.filter(|order| if buy { order.price <= price } else { order.price >= price });
            let best = crossing.min_by_key(|order| (if buy { order.price } else { u64::MAX - order.price }, order.id));
            let Some(best) = best.filter(|_| left > 0).cloned() else { break };
            if best.user == user || fills.len() == MOST_FILLS {
                let back = if buy { i128::from(price) * i128::from(left) } else { left.into() };
                self.move_free(user, !buy, back);
                return Outcome::Taken { fills, resting: 0, cancelled: left };
            }
            let filled = left.min(best.size);
            let (buyer, seller) = if buy { (user, best.user) } else { (best.user, user) };
            self.move_free(buyer, true, filled.into());
            self.move_free(seller, false, i128::from(best.price) * i128::from(filled));
            if buy {
                self.move_free(user, false, i128::from(price - best.price) * i128::from(filled));
            }
            let line = self.orders.iter_mut().find(|order| order.id == best.id).unwrap();
            line.size -= filled;
            self.orders.retain(|order| order.size > 0);
            fills.push(Fill { order: best.id, user: (self.address)(best.user), price: best.price, size: filled });
            left -= filled;
        }
        if left > 0 {
            self.orders.push(Line { id, user, buy, price, size: left });
        }
        Outcome::Taken { fills, resting: left, cancelled: 0 }
    }

    pub fn cancel(&mut self, user: u8, id: u64) -> Outcome {
        let Some(place) = self.orders.iter().position(|order| order.id == id && order.user == user) else {
            return Outcome::Refused(Refusal::Order);
        };
        let order = self.orders.remove(place);
        let back = if order.buy { i128::from(order.price) * i128::from(order.size) } else { order.size.into() };
        self.move_free(user, !order.buy, back);
        Outcome::Cancelled { size: order.size }
    }

    pub fn withdraw(&mut self, user: u8, base: bool, amount: u128) -> Outcome {
        let amount = i128::try_from(amount).unwrap();
        if amount == 0 {
            return Outcome::Refused(Refusal::Zero);
        }
        if self.free(user, base) < amount {
            return Outcome::Refused(Refusal::Funds);
        }
        self.move_free(user, base, -amount);
        *self.paid_out.entry((user, base)).or_default() += amount;
        Outcome::Withdrawn
    }
}
