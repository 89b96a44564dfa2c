//! What a request changed, for those who watch: levels of the book, and everybody's own orders and fills; and its trades.

use alloc::{collections::BTreeSet, vec::Vec};

use alloy_primitives::Address;

use crate::{
    book::{Resting, Side},
    exchange::{Exchange, Fill, Outcome},
    request::{Action, Limit, Request},
};

/// A user's order, with what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct OrderLeft {
    /// Whose it is.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub user: Address,
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
    /// Who it is.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub user: Address,
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
    /// The trades of a request that was carried out with this outcome, in their order.
    pub fn of(request: &Request, outcome: &Outcome, place: u64, time: u64) -> impl Iterator<Item = Self> {
        let (side, fills) = match (request, outcome) {
            (Request::Signed(Action::Limit(limit), _), Outcome::Taken { fills, .. }) => (limit.side(), &fills[..]),
            _ => (Side::Buy, &[][..]),
        };
        fills.iter().map(move |Fill { price, size, .. }| Self { place, time, price: *price, size: *size, side })
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

/// What a request changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Prices at which another amount waits now.
    pub levels: Vec<Level>,
    /// Orders that are new, have traded, or are over.
    pub orders: Vec<OrderLeft>,
    /// Each trade twice: as the taker's, and then as the maker's.
    pub fills: Vec<OwnFill>,
    /// Whose accounts have changed.
    pub users: BTreeSet<Address>,
}

impl Exchange {
    /// The orders of a user that wait.
    #[must_use]
    pub fn orders_of(&self, user: &Address) -> Vec<OrderLeft> {
        let sides = [Side::Buy, Side::Sell].into_iter();
        let all = sides.flat_map(|side| self.book().orders(side).map(move |(price, order)| (side, price, *order)));
        let own = all.filter(|(_, _, order)| order.user == *user);
        let left =
            |(side, price, Resting { id, user, size })| OrderLeft { user, id, side, price, left: size, cancelled: 0 };
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
        let mut changes = Changes::default();
        let mut levels = BTreeSet::new();
        match (request, outcome) {
            (Request::Signed(Action::Limit(limit), _), Outcome::Taken { fills, resting, cancelled }) => {
                let (&Limit { user, price, .. }, side) = (limit, limit.side());
                if resting > 0 {
                    levels.insert((side, price));
                }
                changes.orders.push(OrderLeft { user, id: place, side, price, left: resting, cancelled });
                for fill in fills {
                    let (offer, price, size) = (side.other(), fill.price, fill.size);
                    levels.insert((offer, price));
                    let left = self.book().get(fill.order).map_or(0, |(_, _, order)| order.size);
                    let maker = OrderLeft { user: fill.user, id: fill.order, side: offer, price, left, cancelled: 0 };
                    changes.orders.push(maker);
                    changes.fills.push(OwnFill { user, order: place, side, price, size, maker: false });
                    let maker = OwnFill { user: fill.user, order: fill.order, side: offer, price, size, maker: true };
                    changes.fills.push(maker);
                }
            }
            (Request::Signed(Action::Cancel(cancel), _), Outcome::Cancelled { size }) => {
                if let Some((side, price, order)) = ended {
                    levels.insert((side, price));
                    let (user, id) = (order.user, cancel.order);
                    changes.orders.push(OrderLeft { user, id, side, price, left: 0, cancelled: size });
                }
            }
            _ => {}
        }
        changes.levels =
            levels.into_iter().map(|(side, price)| Level(side, price, self.book().level(side, price))).collect();
        changes.users = self.take_touched().0;
        changes
    }
}
