//! What posting a result would do, tried in a call.

use alloy_primitives::Bytes;

use crate::{
    chain::{Answers, Batch, Block, Call, OneRpc, Revert, RevertCause},
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
    /// What it means. A revert for no known reason is looked into: it may be for want of gas. So is a call that passes,
    /// as an RPC may allow it more gas than a block has.
    pub(super) async fn of(chain: &OneRpc, tried: Option<Tried>, at: Block) -> Self {
        let (call, data) = match tried {
            Some(Tried { call, answer: Ok(Err(data)) }) => (call, data),
            Some(Tried { call, answer: Ok(Ok(_)) }) if Box::pin(chain.lacks_block_gas(&call, at)).await => {
                return Self::too_much_gas();
            }
            Some(Tried { answer: Ok(Ok(_)), .. }) => return Self::Lands,
            Some(Tried { answer: Err(_), .. }) | None => return Self::NotMade,
        };
        let revert = Revert::decode(&data);
        match revert.cause() {
            RevertCause::Other if Box::pin(chain.needs_much_gas(&call, at)).await => Self::too_much_gas(),
            cause => Self::Reverts { cause, reason: revert.to_string() },
        }
    }

    fn too_much_gas() -> Self {
        let reason = "it needs more gas than a block of this chain has".into();
        Self::Reverts { cause: RevertCause::TooMuchGas, reason }
    }
}
