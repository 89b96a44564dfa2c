//! What the RPCs there are say of a transaction that they do not take. What is not known here decides nothing.

use alloy_transport::{RpcError, TransportError};

use super::decide::Word;
use crate::chain::{
    Revert,
    rpc::{convert, fault},
};

/// It has the transaction.
const TAKEN: &[&str] = &[
    "alreadyknown",
    "knowntransaction",
    "alreadyimported",
    "existingtxwithsamehash",
    "existingtransactionwithsamehash",
    "samehashwasalready",
    "transactionalreadyexists",
    "txalreadyexists",
    "txalreadyin",
    "transactionalreadyin",
    "alreadyinmempool",
    "alreadyinthemempool",
    "alreadyinpool",
    "alreadyinthepool",
    "alreadyintxpool",
    "alreadysubmitted",
    "alreadybroadcast",
];
/// A block has the account's nonce, says the RPC.
const USED: &[&str] = &[
    "noncetoolow",
    "nonceistoolow",
    "oldnonce",
    "noncebelow",
    "belowsenderaccountnonce",
    "lowerthanthecurrentnonce",
    "noncehasalreadybeenused",
    "noncealreadyused",
    "nonceexpired",
    "invalidtransactionnonce",
    "invalidnonce",
    "incorrectnonce",
    "noncemismatch",
    "staletransaction",
];
/// Another transaction waits under it, says the RPC.
const HELD: &[&str] = &["replace", "samenonce", "noncealreadyin", "nonceinuse", "noncealreadyexists", "nonceconflict"];
/// The account has too little.
const FUNDS: &[&str] =
    &["insufficientfunds", "insufficientbalance", "notenoughfunds", "notenoughbalance", "upfrontcost"];
/// Other reasons of the transaction's own.
const REFUSED: &[&str] = &[
    "alreadyreserved",
    "intrinsicgas",
    "gaslimit",
    "exceedsblock",
    "underpriced",
    "feetoolow",
    "gaspricetoolow",
    "gaspricebelow",
    "feebelow",
    "lessthanblockbasefee",
    "belowbasefee",
    "belowthebasefee",
    "exceedstheconfiguredcap",
    "unknowntransactiontype",
    "transactiontypenotsupported",
    "unsupportedtransactiontype",
    "typenotsupported",
    "notsupportedtransaction",
    "invalidchainid",
    "wrongchainid",
    "chainidmismatch",
    "incorrectchainid",
    "invalidsender",
    "invalidsignature",
    "invalidtransactionsignature",
    "oversizeddata",
    "oversizedtransaction",
    "noncetoohigh",
    "noncegap",
    "noncetoofar",
    "nonceistoodistant",
    "poolisfull",
    "poolfull",
];

/// Letters and digits alone, all of them small: one phrase has many spellings.
fn squashed(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// An RPC's refusal, without quotation marks around it.
pub(super) fn of(error: &TransportError) -> Word {
    let RpcError::ErrorResp(payload) = error else { return Word::Silent };
    let text = squashed(&payload.message);
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    // "Unknown transaction type" holds the words for one that is known.
    let taken = has(TAKEN) && !text.contains("unknowntransaction");
    // Whoever names the nonce speaks of that, and of another transaction perhaps.
    if taken && !text.contains("nonce") {
        Word::Taken
    } else if has(USED) {
        Word::NonceUsed
    } else if has(HELD) || taken {
        Word::NonceHeld
    } else if has(FUNDS) || has(REFUSED) {
        Word::Refused
    } else {
        Word::Unclear
    }
}

/// What a trial reverted with, if that is what the RPC says. Not all pass on what the contract gave.
pub(super) fn reverted(error: &TransportError) -> Option<Revert> {
    let RpcError::ErrorResp(payload) = error else { return None };
    if let Some(data) = convert::reverted(payload).filter(|data| !data.is_empty()) {
        return Some(Revert::decode(&data));
    }
    let text = squashed(&payload.message);
    let words = ["revert", "vmexecutionerror", "alwaysfailing", "executionfailed", "invalidopcode"];
    words.iter().any(|word| text.contains(word)).then(|| Revert::Message(payload.message.to_string()))
}

/// Whether a trial ran out of gas: because it needs more, or because the RPC or the account allows no more.
pub(super) fn lacks_gas(error: &TransportError) -> bool {
    let RpcError::ErrorResp(payload) = error else { return false };
    let text = squashed(&payload.message);
    let words = ["gasrequiredexceeds", "outofgas", "exceedsallowance", "gaslimit", "gastoohigh", "intrinsicgas"];
    words.iter().any(|word| text.contains(word))
}

/// Whether it says that a transaction has, or needs, more gas than one may have (EIP-7825).
pub(super) fn over_the_cap(error: &TransportError) -> bool {
    matches!(error, RpcError::ErrorResp(payload) if convert::is_over_gas_cap(payload))
}

/// Whether it ran out of gas, whoever allowed it no more.
pub(super) fn runs_out(error: &TransportError) -> bool {
    matches!(error, RpcError::ErrorResp(payload) if squashed(&payload.message).contains("outofgas"))
}

/// How much gas an RPC allows, as it says: in brackets, or after a colon.
pub(super) fn allowance(error: &TransportError) -> Option<u64> {
    let RpcError::ErrorResp(payload) = error else { return None };
    let (_, after) = payload.message.split_once("gas required exceeds")?;
    let number = after.trim_start_matches(|c: char| !c.is_ascii_digit());
    number[..number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len())].parse().ok()
}

/// Whether what an RPC says of an estimate may be of a simulation: not of a limit, of a method that it lacks, or of
/// what the account has.
pub(super) fn may_be_a_trial(error: &TransportError) -> bool {
    let RpcError::ErrorResp(payload) = error else { return false };
    let text = squashed(&payload.message);
    let broke = FUNDS.iter().any(|word| text.contains(word));
    !broke && !fault::is_limit(payload) && !lacks(error)
}

/// Whether an RPC may lack a method, or a form of it, so that another is tried. What passes is no lack.
pub(super) fn lacks(error: &TransportError) -> bool {
    let payload = match error {
        RpcError::ErrorResp(payload) => payload,
        RpcError::Transport(kind) => {
            return kind.as_http_error().is_some_and(|it| matches!(it.status, 400 | 404 | 405 | 422 | 501));
        }
        other => return matches!(other, RpcError::NullResp),
    };
    if fault::is_limit(payload) {
        return false;
    }
    if payload.code == METHOD {
        return true;
    }
    let text = squashed(&payload.message);
    let words = ["notsupported", "unsupported", "notimplemented", "toomanyarguments"];
    let absent = ["notfound", "doesnotexist", "notavailable"];
    let of_method = text.contains("method") && absent.iter().any(|word| text.contains(word));
    !fault::is_behind(payload)
        && (matches!(payload.code, PARAMS | -32004) || of_method || words.iter().any(|word| text.contains(word)))
}

/// The codes of JSON-RPC for a method that there is not, and for parameters that it does not take.
const METHOD: i64 = -32601;
const PARAMS: i64 = -32602;

/// Whether it says so in a way that leaves no doubt: by the code for that.
pub(super) fn lacks_method(error: &TransportError) -> bool {
    code(error) == Some(METHOD) && lacks(error)
}

/// The same of a form of a method.
pub(super) fn lacks_form(error: &TransportError) -> bool {
    let counted = matches!(error, RpcError::ErrorResp(it) if squashed(&it.message).contains("toomanyarguments"));
    (code(error) == Some(PARAMS) || counted) && lacks(error)
}

fn code(error: &TransportError) -> Option<i64> {
    match error {
        RpcError::ErrorResp(payload) => Some(payload.code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: i64, message: &'static str) -> TransportError {
        RpcError::ErrorResp(alloy_json_rpc::ErrorPayload { code, message: message.into(), data: None })
    }

    /// As geth, reth, Erigon, Nethermind, Besu, OpenEthereum, anvil and services in front of them put it.
    #[test]
    fn words_of_the_nodes_there_are() {
        let rows = [
            ("already known", Word::Taken),
            ("AlreadyKnown", Word::Taken),
            ("ALREADY_EXISTS: already known", Word::Taken),
            ("known transaction: 0xab", Word::Taken),
            ("Known transaction", Word::Taken),
            ("transaction already imported", Word::Taken),
            ("Transaction with the same hash was already imported.", Word::Taken),
            ("INTERNAL_ERROR: existing tx with same hash", Word::Taken),
            ("existing tx with same hash", Word::Taken),
            ("tx already exists in cache", Word::Taken),
            ("tx already in mempool", Word::Taken),
            ("nonce already in the mempool", Word::NonceHeld),
            ("a transaction with this nonce is already in the pool", Word::NonceHeld),
            ("nonce already in txpool", Word::NonceHeld),
            ("nonce too low", Word::NonceUsed),
            ("nonce too low: next nonce 8, tx nonce 7", Word::NonceUsed),
            ("NONCE_TOO_LOW: nonce too low", Word::NonceUsed),
            ("Nonce too low", Word::NonceUsed),
            ("OldNonce", Word::NonceUsed),
            ("OldNonce, Current nonce: 8, nonce of rejected tx: 7", Word::NonceUsed),
            ("Transaction nonce is too low. Try incrementing the nonce.", Word::NonceUsed),
            ("transaction nonce below sender account nonce", Word::NonceUsed),
            ("nonce has already been used", Word::NonceUsed),
            ("invalid nonce; got 5, expected 6: invalid sequence", Word::NonceUsed),
            ("replacement transaction underpriced", Word::NonceHeld),
            ("REPLACEMENT_TRANSACTION_UNDERPRICED", Word::NonceHeld),
            ("could not replace existing tx", Word::NonceHeld),
            ("INTERNAL_ERROR: could not replace existing tx", Word::NonceHeld),
            ("ReplacementNotAllowed", Word::NonceHeld),
            (
                "Transaction gas price is too low. There is another transaction with same nonce in the queue.",
                Word::NonceHeld,
            ),
            ("insufficient funds for gas * price + value: balance 0, tx cost 1", Word::Refused),
            ("Upfront cost exceeds account balance", Word::Refused),
            ("InsufficientFunds, Account balance: 0", Word::Refused),
            ("exceeds block gas limit", Word::Refused),
            ("transaction underpriced: tip needed 1, tip permitted 0", Word::Refused),
            ("fee too low", Word::Refused),
            ("FeeTooLowToCompete", Word::Refused),
            ("max fee per gas less than block base fee", Word::Refused),
            ("address already reserved", Word::Refused),
            ("Unknown transaction type", Word::Refused),
            ("nonce too high", Word::Refused),
            ("Internal error", Word::Unclear),
            ("INTERNAL_ERROR: EOF", Word::Unclear),
            ("Internal server error", Word::Unclear),
            ("context deadline exceeded", Word::Unclear),
            ("Too Many Requests", Word::Unclear),
            ("daily request count exceeded, request rate limited", Word::Unclear),
            ("failed to broadcast", Word::Unclear),
            ("", Word::Unclear),
        ];
        for (text, word) in rows {
            assert_eq!(of(&said(-32000, text)), word, "{text}");
        }
        assert_eq!(of(&RpcError::NullResp), Word::Silent);
    }

    #[test]
    fn trials_that_fail() {
        for text in [
            "execution reverted",
            "execution reverted: JobManager.createJob: job already exists with this nonce and consumer",
            "VM execution error.",
            "Transaction execution failed: always failing transaction",
            "Reverted 0x",
        ] {
            assert!(reverted(&said(-32000, text)).is_some(), "{text}");
        }
        assert!(reverted(&said(-32000, "header not found")).is_none());
        assert!(lacks_gas(&said(-32000, "gas required exceeds allowance (30000000)")));
        assert_eq!(allowance(&said(-32000, "gas required exceeds allowance (30000000)")), Some(30_000_000));
        assert_eq!(allowance(&said(-32000, "out of gas: gas required exceeds: 30000000")), Some(30_000_000));
        assert_eq!(allowance(&said(-32000, "out of gas: gas required exceeds allowance: 30000000")), Some(30_000_000));
        assert_eq!(allowance(&said(-32000, "gas limit of 30000000 is too high")), None);
        assert!(runs_out(&said(-32000, "EVM error OutOfGas")) && !runs_out(&said(-32000, "gas limit too high")));
        assert!(lacks(&said(-32601, "the method eth_maxPriorityFeePerGas does not exist/is not available")));
        assert!(lacks(&said(-32602, "too many arguments, want at most 1")));
        assert!(lacks(&said(-32600, "Unsupported method: eth_maxPriorityFeePerGas")));
        for (code, text, method, form) in [
            (-32601, "Method not found", true, false),
            (-32602, "invalid argument 1", false, true),
            (-32000, "too many arguments, want at most 1", false, true),
            (-32004, "this request method is not supported", false, false),
            // What passes, and what says nothing.
            (-32000, "timeout", false, false),
            (-32000, "header not found", false, false),
            (-32602, "header not found", false, false),
            (-32000, "service is not available", false, false),
            (-32601, "too many requests", false, false),
        ] {
            let error = said(code, text);
            assert_eq!((lacks_method(&error), lacks_form(&error)), (method, form), "{text}");
        }
        for text in ["timeout", "header not found", "service not available", "state not available", "not found"] {
            assert!(!lacks(&said(-32000, text)), "{text}");
        }
        for (text, cap) in [
            ("transaction gas limit too high (cap: 16777216, tx: 20000000)", true),
            ("gas limit too high", true),
            ("intrinsic gas too high -- tx.gas_limit > env.cfg.tx_gas_limit_cap", true),
            ("intrinsic gas too high", true),
            ("transaction gas limit (20000000) is greater than the cap (16777216)", true),
            ("TxGasLimitCapExceeded: Gas limit 20000000 exceeded cap of 16777216.", true),
            ("Transaction gas limit must be at most 16777216", true),
            ("gas required exceeds allowance (16777216)", true),
            ("intrinsic gas too high -- CallGasCostMoreThanGasLimit", false),
            ("intrinsic gas too high -- tx.gas_limit > env.block.gas_limit", false),
            ("exceeds block gas limit", false),
            ("gas required exceeds allowance (30000000)", false),
            ("intrinsic gas too low", false),
            ("gas limit too low", false),
            ("already known", false),
        ] {
            assert_eq!(over_the_cap(&said(-32000, text)), cap, "{text}");
        }
        for (code, text, trial) in [
            (-32000, "simulation failed", true),
            (-32603, "cannot estimate gas; transaction may fail", true),
            (-32000, "insufficient funds for transfer", false),
            (-32601, "Method not found", false),
            (-32005, "limit exceeded, too many requests", false),
        ] {
            assert_eq!(may_be_a_trial(&said(code, text)), trial, "{text}");
        }
    }
}
