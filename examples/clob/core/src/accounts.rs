//! Who owns how much, and how that changed within a batch.

use alloc::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;

/// How many accounts there may be, as the whole state is in each job. Who comes later has deposits paid back.
pub const MOST_ACCOUNTS: usize = 2_000;

/// One of the two tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum Token {
    /// What is traded.
    Base = 0,
    /// What it is paid with.
    Quote = 1,
}

/// A user's amount of one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Funds {
    /// What orders and withdrawals may take.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::text"))]
    pub free: u128,
    /// What is set aside for orders in the book.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::text::text"))]
    pub locked: u128,
}

impl Funds {
    /// Both together.
    #[must_use]
    pub const fn total(&self) -> u128 {
        self.free.saturating_add(self.locked)
    }
}

/// A user's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Account {
    /// The nonce of the last request that was carried out; 0 before the first.
    pub nonce: u64,
    /// The base token.
    pub base: Funds,
    /// The quote token.
    pub quote: Funds,
}

impl Account {
    /// The funds of a token.
    #[must_use]
    pub const fn funds(&self, token: Token) -> &Funds {
        match token {
            Token::Base => &self.base,
            Token::Quote => &self.quote,
        }
    }
}

/// How a user's totals changed: what trades and withdrawals added up to. Deposits are not in it, as the contract has
/// counted them itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delta {
    /// Of the base token: what came in, and what went out. Only one of the two is not 0.
    pub base: (u128, u128),
    /// Of the quote token.
    pub quote: (u128, u128),
}

/// All accounts, the totals of both tokens, and the changes since they were last taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Accounts {
    accounts: BTreeMap<Address, Account>,
    supply: [u128; 2],
    deltas: BTreeMap<Address, Delta>,
    payouts: BTreeMap<(Address, Token), u128>,
    touched: BTreeSet<Address>,
}

impl Accounts {
    pub(crate) fn get(&self, user: &Address) -> Account {
        self.accounts.get(user).copied().unwrap_or_default()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&Address, &Account)> {
        self.accounts.iter()
    }

    pub(crate) const fn supply(&self, token: Token) -> u128 {
        self.supply[token as usize]
    }

    pub(crate) fn take_deltas(&mut self) -> BTreeMap<Address, Delta> {
        let mut deltas = core::mem::take(&mut self.deltas);
        deltas.retain(|_, delta| *delta != Delta::default());
        deltas
    }

    pub(crate) fn take_payouts(&mut self) -> BTreeMap<(Address, Token), u128> {
        core::mem::take(&mut self.payouts)
    }

    /// Whose accounts have changed since this was last called.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<Address> {
        core::mem::take(&mut self.touched)
    }

    pub(crate) fn len(&self) -> usize {
        self.accounts.len()
    }

    pub(crate) fn has(&self, user: &Address) -> bool {
        self.accounts.contains_key(user)
    }

    /// An account of a snapshot, with nothing locked. Whether it fits.
    pub(crate) fn restore(&mut self, user: Address, nonce: u64, base: u128, quote: u128) -> bool {
        if self.len() == MOST_ACCOUNTS || !self.deposit(user, Token::Base, base) {
            return false;
        }
        self.account(user).nonce = nonce;
        self.deposit(user, Token::Quote, quote)
    }

    pub(crate) fn use_nonce(&mut self, user: Address) {
        let account = self.account(user);
        account.nonce = account.nonce.saturating_add(1);
    }

    /// Whether it was counted: no total goes beyond 128 bits, and so no account does.
    pub(crate) fn deposit(&mut self, user: Address, token: Token, amount: u128) -> bool {
        let Some(supply) = self.supply(token).checked_add(amount) else { return false };
        self.supply[token as usize] = supply;
        self.funds(user, token).free += amount;
        true
    }

    /// Whether that much was free.
    pub(crate) fn withdraw(&mut self, user: Address, token: Token, amount: u128) -> bool {
        let funds = self.funds(user, token);
        let Some(free) = funds.free.checked_sub(amount) else { return false };
        funds.free = free;
        self.supply[token as usize] -= amount;
        self.pay_out(user, token, amount);
        true
    }

    /// Has the contract pay out what was never counted here, or is not any more.
    pub(crate) fn pay_out(&mut self, user: Address, token: Token, amount: u128) {
        self.note(user, token, 0, amount);
        let sum = self.payouts.entry((user, token)).or_default();
        *sum = sum.saturating_add(amount);
    }

    /// Sets something aside. Whether that much was free.
    pub(crate) fn lock(&mut self, user: Address, token: Token, amount: u128) -> bool {
        let funds = self.funds(user, token);
        let Some(free) = funds.free.checked_sub(amount) else { return false };
        *funds = Funds { free, locked: funds.locked + amount };
        true
    }

    /// Frees what was set aside.
    pub(crate) fn unlock(&mut self, user: Address, token: Token, amount: u128) {
        let funds = self.funds(user, token);
        let amount = amount.min(funds.locked);
        *funds = Funds { free: funds.free + amount, locked: funds.locked - amount };
    }

    /// Moves what one has set aside to another's free funds.
    pub(crate) fn pay(&mut self, from: Address, to: Address, token: Token, amount: u128) {
        let funds = self.funds(from, token);
        let amount = amount.min(funds.locked);
        funds.locked -= amount;
        self.funds(to, token).free += amount;
        self.note(from, token, 0, amount);
        self.note(to, token, amount, 0);
    }

    fn account(&mut self, user: Address) -> &mut Account {
        self.touched.insert(user);
        self.accounts.entry(user).or_default()
    }

    fn funds(&mut self, user: Address, token: Token) -> &mut Funds {
        let account = self.account(user);
        match token {
            Token::Base => &mut account.base,
            Token::Quote => &mut account.quote,
        }
    }

    fn note(&mut self, user: Address, token: Token, more: u128, less: u128) {
        let delta = self.deltas.entry(user).or_default();
        let (plus, minus) = match token {
            Token::Base => &mut delta.base,
            Token::Quote => &mut delta.quote,
        };
        // What goes back and forth cancels out, so neither grows beyond the total.
        let gained = (*plus).saturating_add(more);
        let lost = (*minus).saturating_add(less);
        let both = gained.min(lost);
        (*plus, *minus) = (gained - both, lost - both);
    }
}
