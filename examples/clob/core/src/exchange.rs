//! The exchange: checks what is asked for, and carries it out.

use alloc::{collections::BTreeMap, vec::Vec};

use alloy_primitives::Address;
use alloy_sol_types::Eip712Domain;
use infinityvm_stf::{Context, Source};

use crate::{
    accounts::{Account, Accounts, Delta, Token},
    book::{Book, Resting, Side},
    request::{Action, Cancel, Limit, Request, Withdraw, signer},
};

/// How many orders one order may meet, so that what a request costs has a bound. What is left then is cancelled.
pub const MOST_FILLS: usize = 64;

/// Why a request was not carried out. It has changed nothing, and its nonce is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Rejection {
    /// The user did not sign this.
    Signature = 1,
    /// The nonce is not the user's next one.
    Nonce = 2,
    /// It was to be carried out earlier.
    Expired = 3,
    /// A deposit that does not come from the contract's logs, or signed requests that do.
    Source = 4,
    /// A deposit with which a token's total would not fit into 128 bits.
    Supply = 5,
}

/// Why a request that the user has signed was refused. Its nonce is used, so that it is not carried out later on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// A price, size or amount of 0.
    Zero = 1,
    /// More than is free.
    Funds = 2,
    /// The user has no such order in the book.
    Order = 3,
}

/// A trade of an order that was just taken, at the price of the one that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// The order that had waited.
    pub order: u64,
    /// Whose that order is.
    pub user: Address,
    /// The price.
    pub price: u64,
    /// How much.
    pub size: u64,
}

/// What a request did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An order was taken. Its number is the place of its request.
    Taken {
        /// Its trades, in their order.
        fills: Vec<Fill>,
        /// What waits in the book.
        resting: u64,
        /// What was given up: it would have met an order of the same user, or too many orders.
        cancelled: u64,
    },
    /// An order ended.
    Cancelled {
        /// What was left of it.
        size: u64,
    },
    /// The contract is to pay this out.
    Withdrawn,
    /// A deposit was counted.
    Deposited,
    /// Nothing but the nonce has changed.
    Refused(Refusal),
}

/// Accounts and book of one pair of tokens.
#[derive(Debug, Clone)]
pub struct Exchange {
    domain: Eip712Domain,
    accounts: Accounts,
    book: Book,
}

impl Exchange {
    /// Nobody has anything. Signatures are for this [domain](crate::domain).
    #[must_use]
    pub fn new(domain: Eip712Domain) -> Self {
        Self { domain, accounts: Accounts::default(), book: Book::default() }
    }

    /// A user's account.
    #[must_use]
    pub fn account(&self, user: &Address) -> Account {
        self.accounts.get(user)
    }

    /// All accounts.
    pub fn accounts(&self) -> impl Iterator<Item = (&Address, &Account)> {
        self.accounts.all()
    }

    /// How much of a token all accounts have together: deposits without withdrawals.
    #[must_use]
    pub const fn supply(&self, token: Token) -> u128 {
        self.accounts.supply(token)
    }

    /// The orders that wait.
    #[must_use]
    pub const fn book(&self) -> &Book {
        &self.book
    }

    /// How totals have changed since this was last called: what a batch tells the contract. Users for whom all cancels out
    /// are not in it.
    pub fn take_deltas(&mut self) -> BTreeMap<Address, Delta> {
        self.accounts.take_deltas()
    }

    /// Carries out one request.
    ///
    /// # Errors
    ///
    /// A rejection, after which all is as before.
    pub fn apply(&mut self, request: &Request, context: &Context) -> Result<Outcome, Rejection> {
        match (request, context.source) {
            (Request::Deposit { user, token, amount }, Source::Chain { .. }) => {
                if self.accounts.deposit(*user, *token, *amount) {
                    Ok(Outcome::Deposited)
                } else {
                    Err(Rejection::Supply)
                }
            }
            (Request::Signed(action, signature), Source::Request) => {
                let (user, nonce, expiry) = action.terms();
                if context.time > expiry {
                    return Err(Rejection::Expired);
                }
                // The last nonce of all is never used, so that there is always a next one.
                if self.account(&user).nonce.checked_add(1) != Some(nonce) || nonce == u64::MAX {
                    return Err(Rejection::Nonce);
                }
                if signer(&action.signing_hash(&self.domain), signature) != Some(user) {
                    return Err(Rejection::Signature);
                }
                self.accounts.use_nonce(user);
                Ok(self.act(action, context.place).unwrap_or_else(Outcome::Refused))
            }
            _ => Err(Rejection::Source),
        }
    }

    fn act(&mut self, action: &Action, place: u64) -> Result<Outcome, Refusal> {
        match action {
            Action::Limit(limit) => self.limit(limit, place),
            Action::Cancel(Cancel { user, order, .. }) => {
                let found = self.book.get(*order).filter(|(_, _, order)| order.user == *user);
                let (side, price, Resting { size, .. }) = found.ok_or(Refusal::Order)?;
                self.book.take(*order, size);
                self.free(*user, side, price, size);
                Ok(Outcome::Cancelled { size })
            }
            Action::Withdraw(Withdraw { amount: 0, .. }) => Err(Refusal::Zero),
            Action::Withdraw(Withdraw { user, base, amount, .. }) => {
                let token = if *base { Token::Base } else { Token::Quote };
                if self.accounts.withdraw(*user, token, *amount) { Ok(Outcome::Withdrawn) } else { Err(Refusal::Funds) }
            }
        }
    }

    fn limit(&mut self, limit: &Limit, place: u64) -> Result<Outcome, Refusal> {
        let Limit { user, buy, price, size, .. } = *limit;
        let side = if buy { Side::Buy } else { Side::Sell };
        if price == 0 || size == 0 {
            return Err(Refusal::Zero);
        }
        let (token, amount) = side.locks(price, size);
        if !self.accounts.lock(user, token, amount) {
            return Err(Refusal::Funds);
        }
        let (mut left, mut fills) = (size, Vec::new());
        let mut given_up = false;
        while left > 0 {
            let Some((offer, order)) = self.book.first(side.other()).filter(|(offer, _)| side.takes(price, *offer))
            else {
                break;
            };
            // Nobody trades with themselves. The order that waits was there first.
            if order.user == user || fills.len() == MOST_FILLS {
                given_up = true;
                break;
            }
            let filled = left.min(order.size);
            self.trade(side, user, price, &order, offer, filled);
            fills.push(Fill { order: order.id, user: order.user, price: offer, size: filled });
            left -= filled;
        }
        if left > 0 && given_up {
            self.free(user, side, price, left);
            return Ok(Outcome::Taken { fills, resting: 0, cancelled: left });
        }
        if left > 0 {
            self.book.add(side, price, Resting { id: place, user, size: left });
        }
        Ok(Outcome::Taken { fills, resting: left, cancelled: 0 })
    }

    /// One fill: of what both have set aside, at the price of the order that waited.
    fn trade(&mut self, side: Side, user: Address, limit: u64, order: &Resting, price: u64, size: u64) {
        let (buyer, seller) = match side {
            Side::Buy => (user, order.user),
            Side::Sell => (order.user, user),
        };
        self.book.take(order.id, size);
        self.accounts.pay(buyer, seller, Token::Quote, u128::from(price) * u128::from(size));
        self.accounts.pay(seller, buyer, Token::Base, u128::from(size));
        if side == Side::Buy {
            // It had set aside what its own limit asks for.
            self.accounts.unlock(buyer, Token::Quote, u128::from(limit.saturating_sub(price)) * u128::from(size));
        }
    }

    /// Frees what an order had set aside for a size.
    fn free(&mut self, user: Address, side: Side, price: u64, size: u64) {
        let (token, amount) = side.locks(price, size);
        self.accounts.unlock(user, token, amount);
    }
}
