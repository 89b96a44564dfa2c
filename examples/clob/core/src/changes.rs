//! What a request changed, for those who watch: levels of the book, and everybody's own orders and fills; and its trades.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use alloy_primitives::Address;
use infinityvm_stf::Codec;

use crate::{
    accounts::Account,
    book::{Resting, Side},
    exchange::{Exchange, Fill, Outcome},
    request::{Action, Limit, Request},
};

/// A user's order, with what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct OrderLeft {
    /// Its number.
    #[cfg_attr(feature = "serde", serde(rename = "order"))]
    pub id: u64,
    /// Its side.
    pub side: Side,
    /// Its price.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::text"))]
    pub price: u64,
    /// What waits of it; 0 if it is over.
    #[cfg_attr(feature = "serde", serde(rename = "size", serialize_with = "crate::text::text"))]
    pub left: u64,
    /// What was given up of it by this request: by a cancel, or because it could not wait.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::text", skip_serializing_if = "is_none"))]
    pub cancelled: u64,
}

/// Of most orders nothing is given up, and nothing is said of it.
#[cfg(feature = "serde")]
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives it so")]
const fn is_none(size: &u64) -> bool {
    *size == 0
}

/// A trade, as one of the two sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct OwnFill {
    /// The user's order.
    pub order: u64,
    /// The side of that order.
    pub side: Side,
    /// The price.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::text"))]
    pub price: u64,
    /// How much.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::text"))]
    pub size: u64,
    /// Whether that order had waited.
    pub maker: bool,
}

/// A trade, as everybody sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Trade {
    /// The place of the order that took.
    pub place: u64,
    /// When that was, in milliseconds since 1970.
    pub time: u64,
    /// The price.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::text"))]
    pub price: u64,
    /// How much.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::text"))]
    pub size: u64,
    /// The side of the order that took.
    pub side: Side,
}

impl Trade {
    /// The trades of a request that was carried out, in their order: of both as the journal has them, encoded. There are
    /// none if it was no order.
    #[must_use]
    pub fn of(request: &[u8], outcome: &[u8], place: u64, time: u64) -> Vec<Self> {
        match (Request::decode(request), Outcome::decode(outcome)) {
            (Ok(Request::Signed(Action::Limit(limit), _)), Ok(Outcome::Taken { fills, .. })) => {
                fills.iter().map(|fill| Self::of_fill(&limit, fill, place, time)).collect()
            }
            _ => Vec::new(),
        }
    }

    const fn of_fill(limit: &Limit, fill: &Fill, place: u64, time: u64) -> Self {
        Self { place, time, price: fill.price, size: fill.size, side: limit.side() }
    }
}

/// How much waits at a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Level(
    /// On which side.
    pub Side,
    /// The price.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::text"))]
    pub u64,
    /// How much; 0 if nothing waits any more.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::text"))]
    pub u128,
);

/// What a request changed for one user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct OwnChanges {
    /// The account, as it is now.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub account: Account,
    /// The user's orders that are new, have traded, or are over.
    pub orders: Vec<OrderLeft>,
    /// The user's trades.
    pub fills: Vec<OwnFill>,
}

/// What a request changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Prices at which another amount waits now.
    pub levels: Vec<Level>,
    /// Its trades, in their order.
    pub trades: Vec<Trade>,
    /// For each user whose account has changed.
    pub own: BTreeMap<Address, OwnChanges>,
}

impl Exchange {
    /// The orders of a user that wait.
    #[must_use]
    pub fn orders_of(&self, user: &Address) -> Vec<OrderLeft> {
        let sides = [Side::Buy, Side::Sell].into_iter();
        let all = sides.flat_map(|side| self.book().orders(side).map(move |(price, order)| (side, price, *order)));
        let own = all.filter(|(_, _, order)| order.user == *user);
        let left = |(side, price, Resting { id, size, .. })| OrderLeft { id, side, price, left: size, cancelled: 0 };
        own.map(left).collect()
    }

    /// Does as [`repeat`](Self::repeat), and says what has changed.
    pub fn watch(&mut self, request: &Request, place: u64, time: u64) -> Changes {
        self.take_touched();
        let ended = match request {
            Request::Signed(Action::Cancel(cancel), _) => self.book().get(cancel.order),
            _ => None,
        };
        let outcome = self.repeat(request, place, time);
        let mut own: BTreeMap<Address, OwnChanges> = BTreeMap::new();
        for user in self.take_touched().0 {
            own.entry(user).or_default().account = self.account(&user);
        }
        let (mut levels, mut trades) = (BTreeSet::new(), Vec::new());
        match (request, outcome) {
            (Request::Signed(Action::Limit(limit), _), Outcome::Taken { fills, resting, cancelled }) => {
                let (&Limit { user, price, .. }, side) = (limit, limit.side());
                if resting > 0 {
                    levels.insert((side, price));
                }
                let taker = OrderLeft { id: place, side, price, left: resting, cancelled };
                own.entry(user).or_default().orders.push(taker);
                for fill in fills {
                    trades.push(Trade::of_fill(limit, &fill, place, time));
                    let Fill { order, user: other, price, size } = fill;
                    let offer = side.other();
                    levels.insert((offer, price));
                    own.entry(user).or_default().fills.push(OwnFill { order: place, side, price, size, maker: false });
                    let left = self.book().get(order).map_or(0, |(_, _, order)| order.size);
                    let maker = own.entry(other).or_default();
                    maker.orders.push(OrderLeft { id: order, side: offer, price, left, cancelled: 0 });
                    maker.fills.push(OwnFill { order, side: offer, price, size, maker: true });
                }
            }
            (Request::Signed(Action::Cancel(cancel), _), Outcome::Cancelled { size }) => {
                if let Some((side, price, order)) = ended {
                    levels.insert((side, price));
                    let over = OrderLeft { id: cancel.order, side, price, left: 0, cancelled: size };
                    own.entry(order.user).or_default().orders.push(over);
                }
            }
            _ => {}
        }
        let level = |(side, price)| Level(side, price, self.book().level(side, price));
        Changes { levels: levels.into_iter().map(level).collect(), trades, own }
    }
}
