//! The exchange: checks what is asked for, and carries it out.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::{Eip712Domain, SolValue};
use infinityvm_stf::{Context, Source};

use crate::{
    accounts::{Account, Accounts, Delta, MOST_ACCOUNTS, Token},
    book::{Book, MOST_ORDERS, Resting, Side},
    request::{Action, Cancel, Limit, Request, Withdraw},
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
    /// A deposit that no log of the contract brought, or a signed request that one did.
    Source = 4,
    /// A deposit with which a token's total would not fit into 128 bits. The contract takes none.
    Supply = 5,
    /// A deposit that is not the contract's next one.
    Deposit = 6,
    /// Nothing was ever deposited for the user.
    Account = 7,
}

impl Rejection {
    /// Its name in one word, and what it says.
    #[must_use]
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Signature => ("signature", "the user has not signed this"),
            Self::Nonce => ("nonce", "this is not the user's next nonce"),
            Self::Expired => ("expired", "the request's expiry is past"),
            Self::Source => ("source", "deposits come from the contract's logs, and nothing else does"),
            Self::Supply => ("supply", "the total would not fit into 128 bits"),
            Self::Deposit => ("deposit", "this is not the contract's next deposit"),
            Self::Account => ("account", "nothing was ever deposited for the user"),
        }
    }
}

/// Why a request that the user has signed was refused. Its nonce is used, so that it is not carried out later on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
pub enum Refusal {
    /// A price, size or amount of 0.
    Zero = 1,
    /// More than is free.
    Funds = 2,
    /// The user has no such order in the book.
    Order = 3,
    /// As many orders of the user wait as anybody may have.
    Orders = 4,
}

impl Refusal {
    /// Its name in one word, and what it says.
    #[must_use]
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Zero => ("zero", "a price, a size or an amount is 0"),
            Self::Funds => ("funds", "this is more than is free"),
            Self::Order => ("order", "the user has no such order in the book"),
            Self::Orders => ("orders", "as many orders of the user wait as anybody may have: cancel one"),
        }
    }
}

/// A trade of an order that was just taken, at the price of the one that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Fill {
    /// The order that had waited.
    pub order: u64,
    /// Whose that order is.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub user: Address,
    /// The price.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::text"))]
    pub price: u64,
    /// How much.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::text"))]
    pub size: u64,
}

/// What a request did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(untagged))]
pub enum Outcome {
    /// An order was taken. Its number is the place of its request.
    Taken {
        /// Its trades, in their order.
        fills: Vec<Fill>,
        /// What waits in the book.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::text"))]
        resting: u64,
        /// What was given up: it would have met an order of the same user, or too many orders, or the book is full.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::text"))]
        cancelled: u64,
    },
    /// An order ended.
    Cancelled {
        /// What was left of it.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::text"))]
        size: u64,
    },
    /// The contract is to pay this out.
    Withdrawn,
    /// A deposit was counted.
    Deposited,
    /// A deposit is paid back by the contract: there are too many accounts for another one.
    Returned,
    /// Nothing but the nonce has changed.
    Refused(Refusal),
}

/// Accounts and book of one pair of tokens.
#[derive(Debug, Clone)]
pub struct Exchange {
    domain: Eip712Domain,
    accounts: Accounts,
    book: Book,
    deposits: u64,
    deposit_hash: B256,
    last: (u64, u64),
}

impl Exchange {
    /// Nobody has anything. Signatures are for this [domain](crate::domain).
    #[must_use]
    pub fn new(domain: Eip712Domain) -> Self {
        let (accounts, book) = (Accounts::default(), Book::default());
        Self { domain, accounts, book, deposits: 0, deposit_hash: B256::ZERO, last: (0, 0) }
    }

    /// What signatures are for.
    #[must_use]
    pub const fn domain(&self) -> &Eip712Domain {
        &self.domain
    }

    /// How many deposits were counted, and the [hash](chained) of them all.
    #[must_use]
    pub const fn deposits(&self) -> (u64, B256) {
        (self.deposits, self.deposit_hash)
    }

    /// Place and time of the last request that was carried out; 0 before the first. A batch that goes back behind them is
    /// refused: orders would get the places of others, and what has expired would be carried out.
    #[must_use]
    pub const fn last(&self) -> (u64, u64) {
        self.last
    }

    /// A user's account.
    #[must_use]
    pub fn account(&self, user: &Address) -> Account {
        self.accounts.get(user)
    }

    /// Whether anything was ever deposited for a user.
    #[must_use]
    pub fn knows(&self, user: &Address) -> bool {
        self.accounts.has(user)
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

    /// What the contract is to pay out since this was last called, for each user and token.
    pub fn take_payouts(&mut self) -> BTreeMap<(Address, Token), u128> {
        self.accounts.take_payouts()
    }

    /// Whose accounts, and which orders have changed since this was last called.
    pub fn take_touched(&mut self) -> (BTreeSet<Address>, BTreeSet<u64>) {
        (self.accounts.take_touched(), self.book.take_touched())
    }

    /// Carries out one request. Places are to grow, and times not to go back: `Clob::program` sees to that for batches, and
    /// a server's journal for its requests.
    ///
    /// # Errors
    ///
    /// A rejection, after which all is as before.
    pub fn apply(&mut self, request: &Request, context: &Context) -> Result<Outcome, Rejection> {
        self.due(request, context)?;
        match request {
            Request::Signed(action, _) if request.signer(&self.domain) != Some(action.terms().0) => {
                Err(Rejection::Signature)
            }
            _ => Ok(self.repeat(request, context.place, context.time)),
        }
    }

    /// Whether [`apply`](Self::apply) would now carry out a request, if it is signed: looking at signatures takes long.
    ///
    /// # Errors
    ///
    /// Why it would not.
    pub fn due(&self, request: &Request, context: &Context) -> Result<(), Rejection> {
        match (request, context.source) {
            // Nothing but the chain's logs brings them, and the contract compares the hash of all deposits.
            (Request::Deposit { number, token, amount, .. }, Source::Chain { .. }) => {
                if self.deposits.checked_add(1) != Some(*number) {
                    return Err(Rejection::Deposit);
                }
                if self.supply(*token).checked_add(*amount).is_none() {
                    return Err(Rejection::Supply);
                }
            }
            (Request::Signed(action, _), Source::Request) => {
                let (user, nonce, expiry) = action.terms();
                if context.time > expiry {
                    return Err(Rejection::Expired);
                }
                if !self.accounts.has(&user) {
                    return Err(Rejection::Account);
                }
                // The last nonce of all is never used, so that there is always a next one.
                if self.account(&user).nonce.checked_add(1) != Some(nonce) || nonce == u64::MAX {
                    return Err(Rejection::Nonce);
                }
            }
            _ => return Err(Rejection::Source),
        }
        Ok(())
    }

    /// Carries out again what [`apply`](Self::apply) has accepted in this very state: whoever follows a journal of
    /// answers does not check every signature once more.
    pub fn repeat(&mut self, request: &Request, place: u64, time: u64) -> Outcome {
        self.last = (place, time);
        match request {
            Request::Deposit { number, user, token, amount } => {
                self.deposits = *number;
                self.deposit_hash = chained(self.deposit_hash, *user, *token, *amount);
                if self.returns(user) {
                    self.accounts.pay_out(*user, *token, *amount);
                    return Outcome::Returned;
                }
                self.accounts.deposit(*user, *token, *amount);
                Outcome::Deposited
            }
            Request::Signed(action, _) => {
                self.accounts.use_nonce(action.terms().0);
                self.act(action, place).unwrap_or_else(Outcome::Refused)
            }
        }
    }

    /// Whether a deposit for this user is paid back: there are too many accounts for another one.
    #[must_use]
    pub fn returns(&self, user: &Address) -> bool {
        !self.accounts.has(user) && self.accounts.len() >= MOST_ACCOUNTS
    }

    /// How many orders a new one would meet, at most.
    #[must_use]
    pub fn meets(&self, side: Side, price: u64, size: u64) -> usize {
        let (mut left, mut met) = (size, 0);
        for (_, order) in self.book.orders(side.other()).take_while(|(offer, _)| side.takes(price, *offer)) {
            if left == 0 || met == MOST_FILLS {
                break;
            }
            left = left.saturating_sub(order.size);
            met += 1;
        }
        met
    }

    /// An account of a snapshot. Whether it fits.
    pub(crate) fn restore_account(&mut self, user: Address, nonce: u64, base: u128, quote: u128) -> bool {
        self.accounts.restore(user, nonce, base, quote)
    }

    /// An order of a snapshot, of a user whose account was restored with what it locks in its free funds. Whether it fits.
    pub(crate) fn restore_order(&mut self, side: Side, price: u64, order: Resting) -> bool {
        let (token, amount) = side.locks(price, order.size);
        let sound = price > 0 && order.size > 0 && self.book.get(order.id).is_none();
        let has_room = self.book.len() < MOST_ORDERS && self.book.has_room_for(&order.user);
        if !sound || !has_room || !self.accounts.has(&order.user) || !self.accounts.lock(order.user, token, amount) {
            return false;
        }
        self.book.add(side, price, order);
        true
    }

    pub(crate) fn restore_counts(&mut self, last: (u64, u64), deposits: u64, hash: B256) {
        (self.last, self.deposits, self.deposit_hash) = (last, deposits, hash);
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
        let (&Limit { user, price, size, .. }, side) = (limit, limit.side());
        if price == 0 || size == 0 {
            return Err(Refusal::Zero);
        }
        // Also if it would trade at once: what its user may have must not depend on what others do.
        if !self.book.has_room_for(&user) {
            return Err(Refusal::Orders);
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
        if left > 0 && (given_up || self.book.len() >= MOST_ORDERS) {
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

/// The hash of all deposits up to this one: `keccak256(abi.encode(hash before, user, is base, amount))`, 0 before the first.
/// The contract has the same, so it takes results only that count the deposits it holds.
#[must_use]
pub fn chained(before: B256, user: Address, token: Token, amount: u128) -> B256 {
    keccak256((before, user, token == Token::Base, amount).abi_encode())
}
