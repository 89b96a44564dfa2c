//! What users sign, and how it is encoded.

use alloc::{borrow::Cow, vec::Vec};

use alloy_primitives::{Address, B256, Signature, U256};
use alloy_sol_types::{Eip712Domain, SolStruct, sol};
use infinityvm_stf::{Codec, DecodeError, Reader};

use crate::{accounts::Token, book::Side};

sol! {
    /// A limit order.
    #[derive(Debug, PartialEq, Eq)]
    struct Limit { address user; uint64 nonce; uint64 expiry; bool buy; uint64 price; uint64 size; }

    /// The end of an order that waits.
    #[derive(Debug, PartialEq, Eq)]
    struct Cancel { address user; uint64 nonce; uint64 expiry; uint64 order; }

    /// Free funds, to be paid out by the contract.
    #[derive(Debug, PartialEq, Eq)]
    struct Withdraw { address user; uint64 nonce; uint64 expiry; bool base; uint128 amount; }
}

impl Limit {
    /// Its side of the book.
    #[must_use]
    pub const fn side(&self) -> Side {
        if self.buy { Side::Buy } else { Side::Sell }
    }
}

/// The size of a signature: r, s and v.
pub const SIGNATURE: usize = 65;

/// What this app is called in what users sign.
pub const NAME: &str = "InfinityVM CLOB";
/// Its version there.
pub const VERSION: &str = "1";

/// What signatures are for: this app, on one chain and for one contract.
#[must_use]
pub const fn domain(chain_id: u64, contract: Address) -> Eip712Domain {
    Eip712Domain {
        name: Some(Cow::Borrowed(NAME)),
        version: Some(Cow::Borrowed(VERSION)),
        chain_id: Some(U256::from_limbs([chain_id, 0, 0, 0])),
        verifying_contract: Some(contract),
        salt: None,
    }
}

/// What a user wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A limit order.
    Limit(Limit),
    /// The end of an order that waits.
    Cancel(Cancel),
    /// Free funds, to be paid out.
    Withdraw(Withdraw),
}

impl Action {
    /// Who signs it, under which nonce, and until when it may be carried out, in milliseconds since 1970.
    #[must_use]
    pub const fn terms(&self) -> (Address, u64, u64) {
        match self {
            Self::Limit(Limit { user, nonce, expiry, .. })
            | Self::Cancel(Cancel { user, nonce, expiry, .. })
            | Self::Withdraw(Withdraw { user, nonce, expiry, .. }) => (*user, *nonce, *expiry),
        }
    }

    /// What the user signs.
    #[must_use]
    pub fn signing_hash(&self, domain: &Eip712Domain) -> B256 {
        match self {
            Self::Limit(limit) => limit.eip712_signing_hash(domain),
            Self::Cancel(cancel) => cancel.eip712_signing_hash(domain),
            Self::Withdraw(withdraw) => withdraw.eip712_signing_hash(domain),
        }
    }
}

/// What the exchange is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// What a user has signed.
    Signed(Action, [u8; SIGNATURE]),
    /// A deposit, as a log of the contract tells it. Only one that the contract holds can be settled.
    Deposit {
        /// Its number, counted from 1.
        number: u64,
        /// Whose it is.
        user: Address,
        /// The token.
        token: Token,
        /// How much.
        amount: u128,
    },
}

impl Request {
    /// The size of the largest encoding, in bytes.
    pub const MOST: usize = 1 + 20 + 8 + 8 + 1 + 8 + 8 + SIGNATURE;

    /// Who has signed it, for this [domain](crate::domain); `None` if it is no signature, or a deposit.
    #[must_use]
    pub fn signer(&self, domain: &Eip712Domain) -> Option<Address> {
        match self {
            Self::Signed(action, signature) => signer(&action.signing_hash(domain), signature),
            Self::Deposit { .. } => None,
        }
    }
}

/// Who has signed it; `None` if it is no signature.
pub(crate) fn signer(hash: &B256, signature: &[u8; SIGNATURE]) -> Option<Address> {
    Signature::from_raw_array(signature).ok()?.recover_address_from_prehash(hash).ok()
}

const LIMIT: u8 = 1;
const CANCEL: u8 = 2;
const WITHDRAW: u8 = 3;
const DEPOSIT: u8 = 4;

/// A byte for the kind; the fields in their order, big-endian, a flag in one byte; and the signature.
impl Codec for Request {
    fn encode(&self, out: &mut Vec<u8>) {
        let terms = |out: &mut Vec<u8>, kind: u8, (user, nonce, expiry): (Address, u64, u64)| {
            out.push(kind);
            out.extend_from_slice(user.as_slice());
            out.extend_from_slice(&nonce.to_be_bytes());
            out.extend_from_slice(&expiry.to_be_bytes());
        };
        match self {
            Self::Signed(action, signature) => {
                let kind = match action {
                    Action::Limit(_) => LIMIT,
                    Action::Cancel(_) => CANCEL,
                    Action::Withdraw(_) => WITHDRAW,
                };
                terms(out, kind, action.terms());
                match action {
                    Action::Limit(limit) => {
                        limit.buy.encode(out);
                        limit.price.encode(out);
                        limit.size.encode(out);
                    }
                    Action::Cancel(cancel) => cancel.order.encode(out),
                    Action::Withdraw(withdraw) => {
                        withdraw.base.encode(out);
                        withdraw.amount.encode(out);
                    }
                }
                out.extend_from_slice(signature);
            }
            Self::Deposit { number, user, token, amount } => {
                out.push(DEPOSIT);
                out.extend_from_slice(user.as_slice());
                number.encode(out);
                out.push(*token as u8);
                amount.encode(out);
            }
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.byte()?;
        let user = Address::from(reader.array::<20>()?);
        let request = if kind == DEPOSIT {
            let number = number(&mut reader)?;
            let token = if flag(&mut reader)? { Token::Quote } else { Token::Base };
            Self::Deposit { number, user, token, amount: u128::from_be_bytes(reader.array()?) }
        } else {
            let (nonce, expiry) = (number(&mut reader)?, number(&mut reader)?);
            let action = match kind {
                LIMIT => {
                    let (buy, price, size) = (flag(&mut reader)?, number(&mut reader)?, number(&mut reader)?);
                    Action::Limit(Limit { user, nonce, expiry, buy, price, size })
                }
                CANCEL => Action::Cancel(Cancel { user, nonce, expiry, order: number(&mut reader)? }),
                WITHDRAW => {
                    let (base, amount) = (flag(&mut reader)?, u128::from_be_bytes(reader.array()?));
                    Action::Withdraw(Withdraw { user, nonce, expiry, base, amount })
                }
                _ => return Err(DecodeError::Invalid),
            };
            Self::Signed(action, reader.array()?)
        };
        reader.end()?;
        Ok(request)
    }
}

fn number(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    reader.array().map(u64::from_be_bytes)
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    bool::decode(&reader.array::<1>()?)
}
