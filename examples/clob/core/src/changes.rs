//! What a request changed, for those who watch: levels of the book, trades, and everybody's own orders and fills.

use alloc::{collections::BTreeSet, vec::Vec};

use alloy_primitives::Address;

use crate::{
    book::{Resting, Side},
    exchange::{Exchange, Outcome},
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

/// What a request changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Prices at which another amount waits now, and how much.
    pub levels: Vec<(Side, u64, u128)>,
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
        own.map(|(side, price, Resting { id, user, size })| OrderLeft { user, id, side, price, left: size }).collect()
    }

    /// Does as [`repeat`](Self::repeat), and says what has changed.
    pub fn watch(&mut self, request: &Request, place: u64) -> Changes {
        self.take_touched();
        let cancelled = match request {
            Request::Signed(Action::Cancel(cancel), _) => self.book().get(cancel.order),
            _ => None,
        };
        let outcome = self.repeat(request, place);
        let mut changes = Changes::default();
        let mut levels = BTreeSet::new();
        match (request, outcome) {
            (Request::Signed(Action::Limit(limit), _), Outcome::Taken { fills, resting, .. }) => {
                let Limit { user, buy, price, .. } = *limit;
                let side = if buy { Side::Buy } else { Side::Sell };
                if resting > 0 {
                    levels.insert((side, price));
                }
                changes.orders.push(OrderLeft { user, id: place, side, price, left: resting });
                for fill in fills {
                    let (offer, price, size) = (side.other(), fill.price, fill.size);
                    levels.insert((offer, price));
                    let left = self.book().get(fill.order).map_or(0, |(_, _, order)| order.size);
                    changes.orders.push(OrderLeft { user: fill.user, id: fill.order, side: offer, price, left });
                    changes.fills.push(OwnFill { user, order: place, side, price, size, maker: false });
                    let maker = OwnFill { user: fill.user, order: fill.order, side: offer, price, size, maker: true };
                    changes.fills.push(maker);
                }
            }
            (Request::Signed(Action::Cancel(cancel), _), Outcome::Cancelled { .. }) => {
                if let Some((side, price, order)) = cancelled {
                    levels.insert((side, price));
                    changes.orders.push(OrderLeft { user: order.user, id: cancel.order, side, price, left: 0 });
                }
            }
            _ => {}
        }
        changes.levels =
            levels.into_iter().map(|(side, price)| (side, price, self.book().level(side, price))).collect();
        changes.users = self.take_touched().0;
        changes
    }
}
