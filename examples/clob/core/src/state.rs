//! The exchange as an app: its root, and what a batch's job is given.
//!
//! The root is that of a Merkle tree with a leaf for each account, one for each order that waits, and one for the deposits
//! that were counted and the place and time of the last request, so a request changes a few leaves of it and not a hash of everything. What is locked is in no leaf:
//! it follows from the orders.
//!
//! A job is given the whole state. Proofs of what a batch touches would be smaller, as in the matching game, but which
//! orders a batch touches is for the matching to find out: a proof would have to show that no better offer was left out. So
//! the state has bounds ([`MOST_ACCOUNTS`], [`MOST_ORDERS`]), with which state and batch fit into the blobs of a
//! transaction.

use alloc::{string::ToString, vec::Vec};

use alloy_primitives::{Address, B256, I256, U256};
use alloy_sol_types::SolValue;
use infinityvm_stf::{
    Batch, Codec, Context, Cost, Inputs, ProgramError, Reader, RestoreError, Root, StateTransition, decode_stateful,
    encode_stateful, put_bytes, put_varint, replay,
};
use state_tree::{KeyPath, LeafData, Tree, hash};

use crate::{
    accounts::{Account, MOST_ACCOUNTS, Token},
    book::{MOST_ORDERS, Resting, Side},
    contract::{Change, Payout, Settlement},
    exchange::{Exchange, Outcome, Rejection},
    request::{Action, Request, domain},
};

/// The exchange, and the tree of its state.
#[derive(Debug, Clone)]
pub struct Clob {
    exchange: Exchange,
    tree: Tree,
    place: u64,
}

/// The first byte of a snapshot.
const SNAPSHOT: u8 = 2;
/// Address, nonce, and both tokens.
const ACCOUNT_SIZE: usize = 20 + 8 + 16 + 16;
/// Number, user, price and size.
const ORDER_SIZE: usize = 8 + 20 + 8 + 8;
/// Version, domain, place, place and time of what was carried out last, deposits and their hash, and three counts.
const HEADER_SIZE: usize = 1 + 8 + 20 + 8 + 8 + 8 + 8 + 32 + 3 * 3;
/// The largest snapshot.
const MOST_SIZE: usize = HEADER_SIZE + MOST_ACCOUNTS * ACCOUNT_SIZE + MOST_ORDERS * ORDER_SIZE;

// Cycles on RV32IM, an instruction a cycle, without a zkVM's circuits for hashes and curves: rounded up, so that no job runs
// out of them.
/// Recovering a signer: EIP-712 and secp256k1.
const SIGNATURE_CYCLES: u64 = 12_000_000;
/// One leaf that changes: its hash, and the way to the root.
const LEAF_CYCLES: u64 = 400_000;
/// One leaf of the state before: read, hashed, and put into the tree.
const START_CYCLES: u64 = 50_000;

// Gas of the transaction that relays a result, its calldata included: rounded up from what was measured on anvil, which
// a test of the server does again.
/// What any result takes: the operator's signature, the job, the latest root. Measured: 318,547 for one that changes
/// nothing.
pub const RELAY_GAS: u64 = 400_000;
/// A user whose balances change. Everybody whose balances change has some already, so no storage is new. Measured:
/// 9,203 for each of 960, and 8,937 for each of 480, as memory costs the more the larger a result is.
pub const CHANGE_GAS: u64 = 10_000;
/// A payout. The contract lets a token spend 100,000 on it, and writes down what is owed if that is not enough: forge's
/// tests of the contract hold the sum against this. Measured: 39,194 with the change of the balance, for each of 64, with a
/// token that does no more than an ERC-20 must, and users who had none of it.
pub const PAYOUT_GAS: u64 = 140_000;

impl Clob {
    /// An exchange in which nobody has anything, for a contract on a chain.
    #[must_use]
    pub fn new(chain_id: u64, contract: Address) -> Self {
        Self::of(Exchange::new(domain(chain_id, contract)), 0)
    }

    /// The exchange.
    #[must_use]
    pub const fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// The place of the last request, also of a rejected one; 0 before the first, or if a rejected one came since the
    /// snapshot.
    #[must_use]
    pub const fn place(&self) -> u64 {
        self.place
    }

    /// As [`Exchange::repeat`].
    pub fn repeat(&mut self, request: &Request, place: u64, time: u64) -> Outcome {
        self.place = place;
        let outcome = self.exchange.repeat(request, place, time);
        self.follow();
        outcome
    }

    fn of(mut exchange: Exchange, place: u64) -> Self {
        exchange.take_touched();
        let accounts = exchange.accounts().map(|(user, account)| account_leaf(user, account));
        let mut leaves: Vec<LeafData> = accounts.collect();
        for side in [Side::Buy, Side::Sell] {
            leaves.extend(exchange.book().orders(side).map(|(price, order)| order_leaf(side, price, order)));
        }
        leaves.push(counts_leaf(&exchange));
        Self { tree: Tree::new(leaves), exchange, place }
    }

    /// Brings the tree to where the exchange is.
    fn follow(&mut self) {
        let (users, orders) = self.exchange.take_touched();
        for user in users {
            let LeafData { key_path, value_hash } = account_leaf(&user, &self.exchange.account(&user));
            self.tree.set(key_path, Some(value_hash));
        }
        for id in orders {
            let leaf = self.exchange.book().get(id).map(|(side, price, order)| order_leaf(side, price, &order));
            self.tree.set(order_key(id), leaf.map(|leaf| leaf.value_hash));
        }
        let LeafData { key_path, value_hash } = counts_leaf(&self.exchange);
        self.tree.set(key_path, Some(value_hash));
    }

    /// What the contract is told of the requests since the snapshot.
    fn settlement(&mut self) -> Settlement {
        let (deposits, hash) = self.exchange.deposits();
        let signed = |(more, less): (u128, u128)| {
            I256::from_raw(U256::from(more)).wrapping_sub(I256::from_raw(U256::from(less)))
        };
        let changes = self.exchange.take_deltas().into_iter();
        let payouts = self.exchange.take_payouts().into_iter();
        Settlement {
            domain: self.exchange.domain().hash_struct(),
            deposits,
            depositHash: hash,
            changes: changes
                .map(|(user, delta)| Change { user, base: signed(delta.base), quote: signed(delta.quote) })
                .collect(),
            payouts: payouts
                .map(|((user, token), amount)| Payout { user, base: token == Token::Base, amount })
                .collect(),
        }
    }
}

/// The kinds of leaves.
#[repr(u8)]
enum Leaf {
    Counts = 0,
    Account = 1,
    Order = 2,
}

fn key(kind: Leaf, name: &[u8]) -> KeyPath {
    hash(&[&[kind as u8][..], name].concat())
}

fn order_key(id: u64) -> KeyPath {
    key(Leaf::Order, &id.to_be_bytes())
}

fn account_leaf(user: &Address, account: &Account) -> LeafData {
    let Account { nonce, base, quote } = account;
    let value = [&nonce.to_be_bytes()[..], &base.free.to_be_bytes(), &quote.free.to_be_bytes()].concat();
    LeafData { key_path: key(Leaf::Account, user.as_slice()), value_hash: hash(&value) }
}

fn order_leaf(side: Side, price: u64, order: &Resting) -> LeafData {
    let Resting { id, user, size } = order;
    let value = [&[side as u8][..], user.as_slice(), &price.to_be_bytes(), &size.to_be_bytes()].concat();
    LeafData { key_path: order_key(*id), value_hash: hash(&value) }
}

fn counts_leaf(exchange: &Exchange) -> LeafData {
    let ((number, all), (place, time)) = (exchange.deposits(), exchange.last());
    let value = [&number.to_be_bytes()[..], all.as_slice(), &place.to_be_bytes(), &time.to_be_bytes()].concat();
    LeafData { key_path: key(Leaf::Counts, &[]), value_hash: hash(&value) }
}

impl StateTransition for Clob {
    type Request = Request;
    type Response = Outcome;
    type Rejection = Rejection;

    fn apply(&mut self, request: &Request, context: &Context) -> Result<Outcome, Rejection> {
        self.place = context.place;
        let outcome = self.exchange.apply(request, context)?;
        self.follow();
        Ok(outcome)
    }

    fn root(&self) -> Root {
        self.tree.root()
    }

    fn inputs(&self, batch: &Batch<Request>) -> Inputs {
        let mut offchain = Vec::new();
        put_bytes(&mut offchain, &self.snapshot());
        put_bytes(&mut offchain, &batch.encode());
        Inputs { onchain: encode_stateful(&batch.before, &[]), offchain, state: None }
    }

    fn program(inputs: &Inputs) -> Result<Vec<u8>, ProgramError> {
        let (root, _) = decode_stateful(&inputs.onchain)?;
        let mut reader = Reader::new(&inputs.offchain);
        let mut clob = Self::restore(reader.bytes()?).map_err(|error| error.to_string())?;
        let batch = Batch::<Request>::decode(reader.bytes()?)?;
        reader.end()?;
        if clob.root() != root || batch.before != root {
            return Err("this is not the state of the root".into());
        }
        // Within a batch places grow and times do not go back: nothing else decodes.
        let (place, time) = clob.exchange.last();
        if batch.entries.first().is_some_and(|(first, _)| first.place <= place || first.time < time) {
            return Err("the batch goes back behind what was carried out".into());
        }
        let root = replay(&mut clob, &batch);
        Ok(encode_stateful(&root, &clob.settlement().abi_encode()))
    }

    fn output_root(output: &[u8]) -> Option<Root> {
        decode_stateful(output).ok().map(|(root, _)| root)
    }

    fn cost(&self, request: &Request) -> Cost {
        let (signatures, leaves, gas) = match request {
            Request::Signed(Action::Limit(limit), _) => {
                let met = self.exchange.meets(limit.side(), limit.price, limit.size);
                // Two leaves for each trade, and the order, its user and the deposits. Who only waits changes no balance.
                (1, 2 * met + 3, if met > 0 { (met as u64 + 1) * CHANGE_GAS } else { 0 })
            }
            Request::Signed(Action::Cancel(_), _) => (1, 3, 0),
            Request::Signed(Action::Withdraw(_), _) => (1, 3, CHANGE_GAS + PAYOUT_GAS),
            Request::Deposit { user, .. } if self.exchange.returns(user) => (0, 2, CHANGE_GAS + PAYOUT_GAS),
            Request::Deposit { .. } => (0, 2, 0),
        };
        let cycles = signatures * SIGNATURE_CYCLES + leaves as u64 * LEAF_CYCLES;
        Cost { offchain: Batch::<Request>::entry_size(Request::MOST), cycles, gas, ..Cost::ZERO }
    }

    /// As for the largest state that there can be.
    fn overhead(&self) -> Cost {
        let leaves = (MOST_ACCOUNTS + MOST_ORDERS + 1) as u64;
        Cost {
            onchain: 4 * 32,
            offchain: 2 * 10 + MOST_SIZE + Batch::<Request>::HEADER,
            cycles: (leaves + 10) * START_CYCLES,
            gas: RELAY_GAS,
            ..Cost::ZERO
        }
    }

    /// A byte for the version; the chain and the contract; the last place; place and time of what was
    /// carried out last; the deposits; and, each with their count before
    /// them, the accounts by their users, the bids and the offers, the best first.
    fn snapshot(&self) -> Vec<u8> {
        let exchange = &self.exchange;
        let mut out = Vec::with_capacity(MOST_SIZE.min(HEADER_SIZE + ACCOUNT_SIZE * exchange.accounts().count()));
        out.push(SNAPSHOT);
        let domain = exchange.domain();
        domain.chain_id.unwrap_or_default().saturating_to::<u64>().encode(&mut out);
        out.extend_from_slice(domain.verifying_contract.unwrap_or_default().as_slice());
        self.place.encode(&mut out);
        let ((deposits, hash), (place, time)) = (exchange.deposits(), exchange.last());
        place.encode(&mut out);
        time.encode(&mut out);
        deposits.encode(&mut out);
        out.extend_from_slice(hash.as_slice());
        put_varint(&mut out, exchange.accounts().count() as u64);
        for (user, account) in exchange.accounts() {
            out.extend_from_slice(user.as_slice());
            account.nonce.encode(&mut out);
            // With what is locked, which the orders take out again.
            account.base.total().encode(&mut out);
            account.quote.total().encode(&mut out);
        }
        for side in [Side::Buy, Side::Sell] {
            put_varint(&mut out, exchange.book().orders(side).count() as u64);
            for (price, order) in exchange.book().orders(side) {
                order.id.encode(&mut out);
                out.extend_from_slice(order.user.as_slice());
                price.encode(&mut out);
                order.size.encode(&mut out);
            }
        }
        out
    }

    fn restore(bytes: &[u8]) -> Result<Self, RestoreError> {
        let mut reader = Reader::new(bytes);
        let number = |reader: &mut Reader<'_>| reader.array().map(u64::from_be_bytes);
        let amount = |reader: &mut Reader<'_>| reader.array().map(u128::from_be_bytes);
        let user = |reader: &mut Reader<'_>| reader.array::<20>().map(Address::from);
        let version = reader.byte()?;
        if version != SNAPSHOT {
            return Err(alloc::format!("version {version} is not known").into());
        }
        let mut exchange = Exchange::new(domain(number(&mut reader)?, user(&mut reader)?));
        let place = number(&mut reader)?;
        let last = (number(&mut reader)?, number(&mut reader)?);
        exchange.restore_counts(last, number(&mut reader)?, B256::from(reader.array::<32>()?));
        let mut last = None;
        for _ in 0..reader.varint()? {
            let (user, nonce) = (user(&mut reader)?, number(&mut reader)?);
            if last.replace(user).is_some_and(|last| last >= user)
                || !exchange.restore_account(user, nonce, amount(&mut reader)?, amount(&mut reader)?)
            {
                return Err("the accounts are no exchange's".into());
            }
        }
        for side in [Side::Buy, Side::Sell] {
            let mut last: Option<(u64, u64)> = None;
            for _ in 0..reader.varint()? {
                let (id, user) = (number(&mut reader)?, user(&mut reader)?);
                let (price, size) = (number(&mut reader)?, number(&mut reader)?);
                let rank = (if side == Side::Buy { u64::MAX - price } else { price }, id);
                if last.replace(rank).is_some_and(|last| last >= rank)
                    || !exchange.restore_order(side, price, Resting { id, user, size })
                {
                    return Err("the orders are no exchange's".into());
                }
            }
        }
        reader.end()?;
        exchange.take_deltas();
        Ok(Self::of(exchange, place))
    }
}
