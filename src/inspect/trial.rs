//! What posting a result would do, tried in a call.

use alloy_primitives::Bytes;

use crate::{
    chain::{Answers, Batch, Block, Call, GasShortage, OneRpc, Revert, RevertCause, TX_GAS_CAP},
    error::Result,
};

/// A call that was made, and what it returned or reverted with.
pub(super) struct Tried {
    call: Call,
    answer: Result<std::result::Result<Bytes, Bytes>>,
}

/// What it came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// There is no result, or the call could not be made.
    NotMade,
    Lands,
    Reverts {
        cause: RevertCause,
        reason: String,
    },
}

impl Tried {
    pub(super) fn ask(batch: &mut Batch, call: Call) -> impl FnOnce(&mut Answers) -> Self + use<> {
        let answer = batch.raw_call(call.clone());
        move |answers| Self { call, answer: answers.take(answer) }
    }
}

impl Trial {
    /// What it means, and whether that is certain. A revert for no known reason is looked into: it may be for want of
    /// gas. So is a call that passes, as an RPC may allow it more gas than a transaction can have.
    pub(super) async fn of(chain: &OneRpc, tried: Option<Tried>, at: Block) -> (Self, bool) {
        let (call, data) = match tried {
            Some(Tried { call, answer: Ok(Err(data)) }) => (call, data),
            Some(Tried { call, answer: Ok(Ok(_)) }) => {
                return match Box::pin(chain.gas_shortage(&call, at)).await {
                    None => (Self::Lands, true),
                    Some(GasShortage::Block) => (Self::too_much_gas(ABOVE_A_BLOCK.into()), true),
                    Some(GasShortage::Transaction { certain }) => (Self::too_much_gas(above_the_cap(certain)), certain),
                };
            }
            Some(Tried { answer: Err(_), .. }) | None => return (Self::NotMade, true),
        };
        let revert = Revert::decode(&data);
        let trial = match revert.cause() {
            RevertCause::Other if Box::pin(chain.needs_much_gas(&call, at)).await => {
                Self::too_much_gas(ABOVE_A_BLOCK.into())
            }
            cause => Self::Reverts { cause, reason: revert.to_string() },
        };
        (trial, true)
    }

    fn too_much_gas(reason: String) -> Self {
        Self::Reverts { cause: RevertCause::TooMuchGas, reason }
    }
}

const ABOVE_A_BLOCK: &str = "it needs more gas than a block of this chain has";

fn above_the_cap(certain: bool) -> String {
    let doubt = if certain { "" } else { "; the RPC does not say whether this chain has that bound" };
    format!("it needs more than {TX_GAS_CAP} gas, the most that a transaction may have where EIP-7825 holds{doubt}")
}
