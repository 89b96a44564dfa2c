//! Market data: what everybody and each user is told of an exchange, request by request.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};
use core::mem::replace;

use alloy_primitives::Address;
use serde::Serialize;

use crate::{
    accounts::Account,
    book::Book,
    changes::{Level, OrderLeft, OwnChanges, Trade},
    exchange::Exchange,
    request::Request,
};

/// Trades that are kept.
const TRADES: usize = 200;

/// An exchange that repeats what a server has answered, and says what everybody sees of it.
#[derive(Debug)]
pub struct View {
    exchange: Exchange,
    place: u64,
    /// The place of the last update for everybody.
    seq: u64,
    trades: VecDeque<Trade>,
}

/// The book as of an update: `{"seq","bids","asks"}`.
#[derive(Debug, Serialize)]
pub struct BookNow<'a> {
    seq: u64,
    #[serde(flatten)]
    book: &'a Book,
}

/// An account as of a place: `{"seq","user","nonce","base","quote","orders"}`.
#[derive(Debug, Serialize)]
pub struct AccountNow {
    seq: u64,
    user: Address,
    #[serde(flatten)]
    account: Account,
    orders: Vec<OrderLeft>,
}

/// What everybody is told of a request that changed the book: `{"seq","prev","time","levels","trades"}`. Whoever has not
/// heard the update at `prev` has missed something.
#[derive(Debug, Serialize)]
pub struct Update {
    /// The place of the request.
    pub seq: u64,
    /// The place of the update before.
    pub prev: u64,
    /// When it was answered, in milliseconds since 1970.
    pub time: u64,
    /// Prices at which another amount waits now.
    pub levels: Vec<Level>,
    /// Its trades.
    pub trades: Vec<Trade>,
}

/// What a user is told of a request that changed their account: `{"seq","time","nonce","base","quote","orders","fills"}`.
#[derive(Debug, Serialize)]
pub struct OwnUpdate {
    /// The place of the request.
    pub seq: u64,
    /// When it was answered, in milliseconds since 1970.
    pub time: u64,
    /// The account now, and what has changed.
    #[serde(flatten)]
    pub changes: OwnChanges,
}

impl View {
    /// Of an exchange as of a place. `trades` are the last ones before it, in their order.
    #[must_use]
    pub fn new(exchange: Exchange, place: u64, trades: impl IntoIterator<Item = Trade>) -> Self {
        let mut view = Self { exchange, place, seq: place, trades: trades.into_iter().collect() };
        view.forget();
        view
    }

    /// The place of the last request that it has heard of.
    #[must_use]
    pub const fn place(&self) -> u64 {
        self.place
    }

    /// Hears that a request was rejected: it has changed nothing.
    pub const fn skip(&mut self, place: u64) {
        self.place = place;
    }

    /// Hears of a request that was carried out; returns what everybody is told of it, if the book has changed, and what each
    /// user is told whose account has changed.
    pub fn take(&mut self, request: &Request, place: u64, time: u64) -> (Option<Update>, BTreeMap<Address, OwnUpdate>) {
        self.place = place;
        let changes = self.exchange.watch(request, place, time);
        self.trades.extend(&changes.trades);
        self.forget();
        let own =
            changes.own.into_iter().map(|(user, changes)| (user, OwnUpdate { seq: place, time, changes })).collect();
        let (levels, trades) = (changes.levels, changes.trades);
        let update = (!levels.is_empty()).then(|| {
            let prev = replace(&mut self.seq, place);
            Update { seq: place, prev, time, levels, trades }
        });
        (update, own)
    }

    /// The book.
    #[must_use]
    pub const fn book(&self) -> BookNow<'_> {
        BookNow { seq: self.seq, book: self.exchange.book() }
    }

    /// The last 200 trades, the latest first.
    #[must_use]
    pub fn trades(&self) -> Vec<Trade> {
        self.trades.iter().rev().copied().collect()
    }

    /// A user's account.
    #[must_use]
    pub fn account(&self, user: Address) -> AccountNow {
        let (account, orders) = (self.exchange.account(&user), self.exchange.orders_of(&user));
        AccountNow { seq: self.place, user, account, orders }
    }

    fn forget(&mut self) {
        self.trades.drain(..self.trades.len().saturating_sub(TRADES));
    }
}
