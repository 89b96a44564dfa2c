//! The orders that wait, by price and then by time.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use alloy_primitives::Address;

use crate::accounts::Token;

/// How many orders may wait, as the whole state is in each job. What would wait beyond that is given up.
pub const MOST_ORDERS: usize = 4_000;
/// How many orders of one user may wait, so that nobody closes the book for all others.
pub const MOST_OWN_ORDERS: usize = 200;

/// Which side of the book an order is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum Side {
    /// Buys base for quote. The highest price is first.
    Buy = 0,
    /// Sells base for quote. The lowest price is first.
    Sell = 1,
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Buy => Self::Sell,
            Self::Sell => Self::Buy,
        }
    }

    /// What an order of this side sets aside: the token, and how much for a size at a price.
    #[must_use]
    pub const fn locks(self, price: u64, size: u64) -> (Token, u128) {
        match self {
            Self::Buy => (Token::Quote, price as u128 * size as u128),
            Self::Sell => (Token::Base, size as u128),
        }
    }

    /// Whether an order of this side, with this limit, takes an offer of the other side at that price.
    #[must_use]
    pub const fn takes(self, limit: u64, offer: u64) -> bool {
        match self {
            Self::Buy => offer <= limit,
            Self::Sell => offer >= limit,
        }
    }
}

/// An order that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resting {
    /// The order's number: the place of its request.
    pub id: u64,
    /// Whose it is.
    pub user: Address,
    /// What is left of it.
    pub size: u64,
}

type Levels = BTreeMap<u64, VecDeque<Resting>>;

/// Both sides. No level is empty, and no bid reaches an offer.
#[derive(Debug, Clone, Default)]
pub struct Book {
    sides: [Levels; 2],
    places: BTreeMap<u64, (Side, u64)>,
    /// How many orders of each user wait; nobody has 0.
    own: BTreeMap<Address, usize>,
    touched: BTreeSet<u64>,
}

impl Book {
    /// The order that is first on a side, with its price.
    #[must_use]
    pub fn first(&self, side: Side) -> Option<(u64, Resting)> {
        let levels = &self.sides[side as usize];
        let (price, level) = match side {
            Side::Buy => levels.last_key_value()?,
            Side::Sell => levels.first_key_value()?,
        };
        Some((*price, *level.front()?))
    }

    /// Every order of a side with its price, the first ones first.
    pub fn orders(&self, side: Side) -> impl Iterator<Item = (u64, &Resting)> {
        let levels = &self.sides[side as usize];
        let (up, down) = match side {
            Side::Buy => (None, Some(levels.iter().rev())),
            Side::Sell => (Some(levels.iter()), None),
        };
        let levels = up.into_iter().flatten().chain(down.into_iter().flatten());
        levels.flat_map(|(price, level)| level.iter().map(|order| (*price, order)))
    }

    /// How much waits on a side at a price.
    #[must_use]
    pub fn level(&self, side: Side, price: u64) -> u128 {
        let level = self.sides[side as usize].get(&price);
        level.into_iter().flatten().map(|order| u128::from(order.size)).sum()
    }

    /// Every price of a side with how much waits there, the best first.
    pub fn levels(&self, side: Side) -> impl Iterator<Item = (u64, u128)> {
        let mut orders = self.orders(side).peekable();
        core::iter::from_fn(move || {
            let (price, first) = orders.next()?;
            let mut size = u128::from(first.size);
            while let Some((_, order)) = orders.next_if(|(next, _)| *next == price) {
                size += u128::from(order.size);
            }
            Some((price, size))
        })
    }

    /// How many orders wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether another order of this user may wait.
    #[must_use]
    pub fn has_room_for(&self, user: &Address) -> bool {
        self.own.get(user).is_none_or(|own| *own < MOST_OWN_ORDERS)
    }

    /// An order that waits, with its side and its price.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<(Side, u64, Resting)> {
        let (side, price) = *self.places.get(&id)?;
        let level = self.sides[side as usize].get(&price)?;
        Some((side, price, *level.get(find(level, id)?)?))
    }

    /// Which orders have changed since this was last called.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<u64> {
        core::mem::take(&mut self.touched)
    }

    /// Puts an order behind all others of its price.
    pub(crate) fn add(&mut self, side: Side, price: u64, order: Resting) {
        self.touched.insert(order.id);
        self.places.insert(order.id, (side, price));
        *self.own.entry(order.user).or_default() += 1;
        self.sides[side as usize].entry(price).or_default().push_back(order);
    }

    /// Takes so much of an order; all of it goes if nothing is left.
    pub(crate) fn take(&mut self, id: u64, size: u64) {
        let Some((side, price)) = self.places.get(&id).copied() else { return };
        let levels = &mut self.sides[side as usize];
        let Some(level) = levels.get_mut(&price) else { return };
        let Some(index) = find(level, id) else { return };
        self.touched.insert(id);
        let Some(order) = level.get_mut(index) else { return };
        order.size = order.size.saturating_sub(size);
        let Resting { user, size: left, .. } = *order;
        if left == 0 {
            level.remove(index);
            self.places.remove(&id);
            if let Some(own) = self.own.get_mut(&user) {
                *own -= 1;
                if *own == 0 {
                    self.own.remove(&user);
                }
            }
            if level.is_empty() {
                levels.remove(&price);
            }
        }
    }
}

/// Orders come in the order of their numbers, which are places.
fn find(level: &VecDeque<Resting>, id: u64) -> Option<usize> {
    level.binary_search_by_key(&id, |order| order.id).ok()
}
