//! Why a call reverted: in words, and what that means.

use std::fmt;

use alloy_primitives::{Bytes, hex};
use alloy_sol_types::{Panic, Revert as Reason, SolError};

use crate::{error::Error, text::one_line};

/// What a contract reverted with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revert {
    /// `require` or `revert` with a text: `Error(string)`.
    Message(String),
    /// A failed assertion, an overflow, an index out of bounds: `Panic(uint256)`, with its code.
    Panic(u64),
    /// An error of the contract's own: its selector and arguments.
    Custom(Bytes),
    /// Nothing: `revert()`, out of gas, or no such function.
    Empty,
}

/// What it means that a relay reverts. Read from the text of the contracts, of which there may be newer ones: what is
/// not recognised is [`Other`](Self::Other), and the text is in the [`Revert`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RevertCause {
    /// The consumer does not accept who signed the request.
    RequestSignature,
    /// The result is not signed by the JobManager's operator.
    ResultSignature,
    /// The chain has a job under this nonce and consumer: this one, or another.
    NonceTaken,
    /// The state that the job starts from is not the consumer's latest: it was, or it is not yet.
    StaleState,
    /// What the operator signed speaks of another job, input, program or cycle limit than the request.
    Mismatch,
    /// The transaction does not carry the blobs whose hashes the operator signed.
    BlobHashes,
    /// Posting the result needs more gas than a block has, or than a transaction may have (EIP-7825). Contracts do not
    /// say so: it is found out by trying the call with more gas, and with less.
    TooMuchGas,
    /// The consumer's own reason, or one that this release does not know.
    Other,
}

impl Revert {
    /// Reads what a call reverted with.
    #[must_use]
    pub fn decode(data: &[u8]) -> Self {
        if data.is_empty() {
            return Self::Empty;
        }
        if let Ok(reason) = Reason::abi_decode(data) {
            return Self::Message(reason.reason);
        }
        if let Ok(panic) = Panic::abi_decode(data) {
            return Self::Panic(panic.code.saturating_to());
        }
        Self::Custom(Bytes::copy_from_slice(data))
    }

    /// What an error of the kind [`Reverted`](crate::ErrorKind::Reverted) holds, if the reason is known.
    #[must_use]
    pub fn of(error: &Error) -> Option<&Self> {
        error.detail()
    }

    /// What it means, as the reason of a relay.
    #[must_use]
    pub fn cause(&self) -> RevertCause {
        match self {
            Self::Message(text) => RevertCause::of_text(text),
            Self::Panic(_) | Self::Custom(_) | Self::Empty => RevertCause::Other,
        }
    }
}

impl RevertCause {
    pub(super) fn of_text(text: &str) -> Self {
        let text = text.to_lowercase();
        let has = |words: &[&str]| words.iter().all(|word| text.contains(word));
        let differs = has(&["match"]) && (has(&["coprocessor"]) || has(&["jobmanager"]));
        if has(&["invalid signature", "request"]) {
            Self::RequestSignature
        } else if has(&["invalid signature", "result"]) {
            Self::ResultSignature
        } else if has(&["job", "already exists"]) || has(&["job", "not in pending state"]) {
            Self::NonceTaken
        } else if has(&["invalid state root"]) || has(&["invalid state hash"]) {
            Self::StaleState
        } else if differs && has(&["blob"]) {
            Self::BlobHashes
        } else if differs {
            Self::Mismatch
        } else {
            Self::Other
        }
    }

    /// Whether it stays so, whatever else happens on chain: the same relay can never succeed, unless an account is
    /// changed in the contracts.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::RequestSignature | Self::ResultSignature | Self::Mismatch)
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::RequestSignature => {
                "the consumer does not accept the job's signer: sign the payload under a new nonce with the account that it accepts; in an \
                 Ordered lane this nonce holds the later ones, and Client::diagnose says what frees it"
            }
            Self::ResultSignature => {
                "the JobManager names another operator than the one that signed the result: check that this is the node of that \
                 operator; a result signed by the old one does not land any more"
            }
            Self::NonceTaken => "the chain has a job under this nonce: submit the payload under another one",
            Self::StaleState => {
                "the job's state is not the consumer's latest. If jobs before it are still to land, it can land after them. If it never \
                 will be, build the job again from the latest state, under a new nonce; in an Ordered lane this nonce holds the later \
                 ones, and Client::diagnose says what frees it"
            }
            Self::Mismatch => {
                "the operator signed something else than was requested: the result cannot land; keep the record as evidence"
            }
            Self::BlobHashes => "the transaction needs the blobs of the offchain input, and a chain with EIP-4844",
            Self::TooMuchGas => {
                "it cannot land as it is: have the consumer do less with a result, or the program write less"
            }
            Self::Other => "the consumer refuses the result for a reason of its own: look into its contract",
        }
    }
}

impl fmt::Display for Revert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(text) => f.write_str(&one_line(text)),
            Self::Panic(code) => write!(f, "panic 0x{code:02x}"),
            Self::Custom(data) => write!(f, "custom error 0x{}", hex::encode(&data[..data.len().min(68)])),
            Self::Empty => f.write_str("no reason given"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_texts_have_their_meaning() {
        let manager = "JobManager.submitResultForOffchainJob: ";
        let signed = "signed by coprocessor doesn't match";
        let rows = [
            (format!("{manager}Invalid signature on job request"), RevertCause::RequestSignature),
            (format!("{manager}Invalid signature on result"), RevertCause::ResultSignature),
            ("JobManager.createJob: job already exists with this nonce and consumer".into(), RevertCause::NonceTaken),
            ("JobManager.submitResult: job is not in pending state".into(), RevertCause::NonceTaken),
            ("Invalid state root passed as input".into(), RevertCause::StaleState),
            ("Invalid state hash passed as input".into(), RevertCause::StaleState),
            (
                format!("JobManager.submitResult: onchain input {signed} onchain input submitted with job"),
                RevertCause::Mismatch,
            ),
            (
                format!("JobManager.submitResult: program ID {signed} program ID submitted with job"),
                RevertCause::Mismatch,
            ),
            (
                format!("JobManager.submitResult: max cycles {signed} max cycles submitted with job"),
                RevertCause::Mismatch,
            ),
            (format!("{manager}job ID {signed} job ID of job request"), RevertCause::Mismatch),
            (
                format!("{manager}offchain input hash {signed} offchain input hash of job request"),
                RevertCause::Mismatch,
            ),
            (format!("{manager}state hash {signed} state hash of job request"), RevertCause::Mismatch),
            (
                format!("{manager}blob hashes signed by coprocessor don't match blob hashes of transaction"),
                RevertCause::BlobHashes,
            ),
            ("RevertingConsumer: told to".into(), RevertCause::Other),
            ("prices do not match".into(), RevertCause::Other),
            (String::new(), RevertCause::Other),
        ];
        for (text, cause) in rows {
            assert_eq!(Revert::decode(&Reason::from(text.clone()).abi_encode()).cause(), cause, "{text}");
        }
        for other in [Revert::Panic(1), Revert::Custom(Bytes::from_static(&[1, 2, 3, 4])), Revert::Empty] {
            assert_eq!(other.cause(), RevertCause::Other);
        }
    }
}
