//! The ledger a second time, written without the app's code: what its balances and its root are after some orders.

use std::collections::BTreeMap;

use infinityvm_sdk::primitives::{B256, keccak256};

/// An order by its number: the same for whoever asks and whoever checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Add { account: u16, amount: u64 },
    Move { from: u16, to: u16, amount: u64 },
}

impl Asked {
    pub fn of(number: u64) -> Self {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let (account, amount) = ((mixed % 13) as u16, mixed % 50 + 1);
        match number % 3 {
            0 => Self::Move { from: account, to: ((mixed >> 9) % 13) as u16, amount: amount * 3 },
            _ => Self::Add { account, amount },
        }
    }

    /// As the app encodes it.
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Add { account, amount } => [&[0_u8][..], &account.to_be_bytes(), &amount.to_be_bytes()].concat(),
            Self::Move { from, to, amount } => {
                [&[1_u8][..], &from.to_be_bytes(), &to.to_be_bytes(), &amount.to_be_bytes()].concat()
            }
        }
    }
}

#[derive(Default)]
pub struct Replay {
    balances: BTreeMap<u16, u64>,
    orders: u64,
    time: u64,
}

impl Replay {
    /// What the answer must be: the balance, or nothing for a rejection. `block`: the one whose log has asked.
    pub fn take(&mut self, asked: Asked, time: u64, block: Option<u64>) -> Option<u64> {
        let account = match asked {
            Asked::Add { account, amount } => {
                *self.balances.entry(account).or_insert(0) += amount;
                account
            }
            Asked::Move { from, to, amount } => {
                let has = self.balances.get(&from).copied().unwrap_or(0);
                if has < amount {
                    return None;
                }
                self.balances.insert(from, has - amount);
                *self.balances.entry(to).or_insert(0) += amount;
                to
            }
        };
        (self.orders, self.time) = (self.orders + 1, time);
        if let Some(block) = block {
            *self.balances.entry(u16::MAX - 1).or_insert(0) += block;
        }
        Some(self.balances[&account])
    }

    pub fn root(&self) -> B256 {
        let mut bytes = [self.orders.to_be_bytes(), self.time.to_be_bytes()].concat();
        for (account, balance) in &self.balances {
            bytes.extend_from_slice(&account.to_be_bytes());
            bytes.extend_from_slice(&balance.to_be_bytes());
        }
        keccak256(bytes)
    }
}
