//! The app of the tests: accounts with balances. Its root is the hash of all of them, and its program gets them whole.

use std::collections::BTreeMap;

use infinityvm_sdk::{
    app::stf::{
        Batch, Codec, Context, Cost, DecodeError, Inputs, ProgramError, Reader, RestoreError, Root, Source,
        StateTransition, decode_stateful, encode_stateful, put_bytes, replay,
    },
    primitives::keccak256,
};

/// What a user of the ledger may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    Add {
        account: u16,
        amount: u64,
    },
    /// Rejected if the account has less.
    Move {
        from: u16,
        to: u16,
        amount: u64,
    },
    /// The app panics.
    Panic,
    /// Rejected, and the state is changed all the same.
    Spoil,
    /// Depends on something that is not in the state, once [`Self::DRIFTS`] says so.
    Drift,
    /// So many bytes.
    Fill(Vec<u8>),
    /// The app panics over what it costs.
    Priceless,
}

impl Codec for Order {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Add { account, amount } => {
                out.push(0);
                account.encode(out);
                amount.encode(out);
            }
            Self::Move { from, to, amount } => {
                out.push(1);
                from.encode(out);
                to.encode(out);
                amount.encode(out);
            }
            Self::Panic => out.push(2),
            Self::Spoil => out.push(3),
            Self::Drift => out.push(4),
            Self::Fill(bytes) => {
                out.push(5);
                put_bytes(out, bytes);
            }
            Self::Priceless => out.push(6),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let order = match reader.byte()? {
            0 => {
                Self::Add { account: u16::from_be_bytes(reader.array()?), amount: u64::from_be_bytes(reader.array()?) }
            }
            1 => Self::Move {
                from: u16::from_be_bytes(reader.array()?),
                to: u16::from_be_bytes(reader.array()?),
                amount: u64::from_be_bytes(reader.array()?),
            },
            2 => Self::Panic,
            3 => Self::Spoil,
            4 => Self::Drift,
            5 => Self::Fill(reader.bytes()?.to_vec()),
            6 => Self::Priceless,
            _ => return Err(DecodeError::Invalid),
        };
        reader.end()?;
        Ok(order)
    }
}

/// The accounts. `RELAY`: for the Relay revision, where the state goes into the offchain input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger<const RELAY: bool> {
    balances: BTreeMap<u16, u64>,
    /// Orders that were carried out, and the last one's time.
    orders: u64,
    time: u64,
}

/// Once it is set, [`Order::Drift`] does something else.
pub static DRIFTS: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Once it is set, the program ends elsewhere over a batch with an [`Order::Drift`].
pub static PROGRAM_DRIFTS: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Cycles that an order takes, as the ledger estimates them.
pub const CYCLES: u64 = 100;

impl<const RELAY: bool> Ledger<RELAY> {
    pub fn balance(&self, account: u16) -> u64 {
        self.balances.get(&account).copied().unwrap_or_default()
    }

    #[allow(dead_code, reason = "the tests that kill servers read nothing")]
    pub fn total(&self) -> u64 {
        self.balances.values().sum()
    }
}

impl<const RELAY: bool> StateTransition for Ledger<RELAY> {
    type Request = Order;
    type Response = u64;
    type Rejection = String;

    fn apply(&mut self, order: &Order, context: &Context) -> Result<u64, String> {
        let account = match order {
            Order::Add { account, amount } => {
                *self.balances.entry(*account).or_default() += amount;
                *account
            }
            Order::Move { from, to, amount } => {
                let left = self.balance(*from).checked_sub(*amount);
                let left = left.ok_or_else(|| format!("{from} has only {}", self.balance(*from)))?;
                self.balances.insert(*from, left);
                *self.balances.entry(*to).or_default() += amount;
                *to
            }
            Order::Panic => panic!("an order that panics"),
            Order::Spoil => {
                self.balances.insert(u16::MAX, 1);
                return Err("spoilt".to_owned());
            }
            Order::Drift => {
                let by = if DRIFTS.load(std::sync::atomic::Ordering::SeqCst) { 2 } else { 1 };
                *self.balances.entry(0).or_default() += by;
                0
            }
            Order::Fill(bytes) => {
                *self.balances.entry(1).or_default() += bytes.len() as u64;
                1
            }
            Order::Priceless => 0,
        };
        self.orders += 1;
        self.time = context.time;
        if let Source::Chain { block, .. } = context.source {
            *self.balances.entry(u16::MAX - 1).or_default() += block;
        }
        Ok(self.balance(account))
    }

    fn root(&self) -> Root {
        keccak256(self.snapshot()).0
    }

    fn inputs(&self, batch: &Batch<Order>) -> Inputs {
        if RELAY {
            let mut offchain = Vec::new();
            put_bytes(&mut offchain, &self.snapshot());
            put_bytes(&mut offchain, &batch.encode());
            let onchain = encode_stateful(&batch.before, &batch.number.encoded());
            Inputs { onchain, offchain, state: None }
        } else {
            Inputs { onchain: batch.encode(), offchain: Vec::new(), state: Some(self.snapshot()) }
        }
    }

    fn program(inputs: &Inputs) -> Result<Vec<u8>, ProgramError> {
        let mut reader = Reader::new(&inputs.offchain);
        let (state, batch) = match &inputs.state {
            Some(state) => (state.as_slice(), inputs.onchain.as_slice()),
            None => {
                let parts = (reader.bytes()?, reader.bytes()?);
                reader.end()?;
                let (root, _) = decode_stateful(&inputs.onchain)?;
                if keccak256(parts.0) != root {
                    return Err("this is not the state of the root".into());
                }
                parts
            }
        };
        let mut ledger = Self::restore(state).map_err(|error| error.to_string())?;
        let batch = Batch::decode(batch)?;
        if ledger.root() != batch.before || batch.entries.is_empty() {
            return Err("the batch begins with another state, or is empty".into());
        }
        let mut root = replay(&mut ledger, &batch);
        let drifts = batch.entries.iter().any(|(_, order)| *order == Order::Drift);
        if drifts && PROGRAM_DRIFTS.load(std::sync::atomic::Ordering::SeqCst) {
            root[0] ^= 1;
        }
        Ok(encode_stateful(&root, &batch.number.encoded()))
    }

    fn output_root(output: &[u8]) -> Option<Root> {
        Some(decode_stateful(output).ok()?.0)
    }

    fn cost(&self, order: &Order) -> Cost {
        assert!(*order != Order::Priceless, "an order without a price");
        let size = Batch::<Order>::entry_size(order.encoded().len());
        let (onchain, offchain) = if RELAY { (0, size) } else { (size, 0) };
        Cost { onchain, offchain, cycles: CYCLES, ..Cost::ZERO }
    }

    fn overhead(&self) -> Cost {
        Cost {
            onchain: 1_000,
            offchain: if RELAY { 1_000 + self.balances.len() * 16 } else { 0 },
            state: 1_000,
            cycles: CYCLES,
            ..Cost::ZERO
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.orders.encode(&mut out);
        self.time.encode(&mut out);
        for (account, balance) in &self.balances {
            account.encode(&mut out);
            balance.encode(&mut out);
        }
        out
    }

    fn restore(bytes: &[u8]) -> Result<Self, RestoreError> {
        let mut reader = Reader::new(bytes);
        let (orders, time) = (u64::from_be_bytes(reader.array()?), u64::from_be_bytes(reader.array()?));
        let mut balances = BTreeMap::new();
        while reader.left() > 0 {
            balances.insert(u16::from_be_bytes(reader.array()?), u64::from_be_bytes(reader.array()?));
        }
        Ok(Self { balances, orders, time })
    }
}
