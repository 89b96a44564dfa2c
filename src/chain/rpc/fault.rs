//! What went wrong on the way to an RPC, in this crate's words. Nothing that an address or a header holds is quoted.

use std::{error::Error as StdError, time::Duration};

use alloy_json_rpc::{ErrorPayload, RpcError};
use alloy_transport::{TransportError, TransportErrorKind};

use crate::{
    error::{Error, ErrorKind},
    http::find,
    text::clean,
};

/// The longest text of a peer that is quoted, in bytes.
const QUOTED: usize = 300;

pub(super) fn chain(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Chain, message.into())
}

/// Something that may well work later.
fn passing(message: impl Into<String>, hint: &'static str) -> Error {
    chain(message).with_retryable(true).with_hint(hint)
}

pub(super) fn late(limit: Duration) -> Error {
    let hint = "try again, or set a longer timeout() on RpcReader::builder(url)";
    passing(format!("the RPC did not answer within {limit:?}"), hint)
}

pub(super) fn unreachable(why: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    passing("could not connect to the RPC", "check the address, and that the RPC runs; then try again").with_source(why)
}

pub(super) fn broken(why: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    passing("the connection to the RPC broke", "try again").with_source(why)
}

pub(super) fn too_large(limit: usize) -> Error {
    chain(format!("the RPC's answer has more than {limit} bytes, which is the limit (max_response_bytes)"))
        .with_hint("ask for less at once, for instance for logs of fewer blocks, or raise max_response_bytes()")
}

/// What was sent makes no sense.
pub(super) fn nonsense(what: impl Into<String>) -> Error {
    passing(what, "check that the address is that of a JSON-RPC of an Ethereum node")
}

pub(super) fn not_json(raw: &[u8]) -> Error {
    let shown = match raw.trim_ascii() {
        [] => "nothing".to_owned(),
        raw => format!("{:?}", clean(raw, QUOTED)),
    };
    nonsense(format!("what answers does not speak JSON-RPC: it sent {shown}"))
}

/// Text of a peer that is to be quoted in a status's error.
pub(super) fn quoted(raw: &[u8]) -> String {
    clean(raw.trim_ascii(), QUOTED)
}

fn status(status: u16, body: &str) -> Error {
    let body = clean(body.as_bytes(), QUOTED);
    let text = if body.is_empty() { String::new() } else { format!(": {body:?}") };
    let error = chain(format!("the RPC answered with HTTP status {status}{text}"));
    match status {
        429 => limited(error),
        401 | 403 | 407 => {
            error.with_hint("check the RPC's key: in the address, or by header() on RpcReader::builder(url)")
        }
        408 | 425 | 500..=599 => error.with_retryable(true).with_hint("try again"),
        413 => error.with_hint("ask for less at once: max_batch() on RpcReader::builder(url)"),
        _ => error.with_hint("check the RPC's address"),
    }
}

fn limited(error: Error) -> Error {
    error
        .with_retryable(true)
        .with_hint("the RPC limits how much it is asked: wait, ask less often, or use another RPC")
}

/// What the RPC said instead of a result.
pub(super) fn said(payload: &ErrorPayload) -> Error {
    let text = clean(payload.message.as_bytes(), QUOTED);
    let error = chain(format!("the RPC answered with error {}: {text:?}", payload.code));
    if is_limit(payload) {
        return limited(error);
    }
    let lower = text.to_ascii_lowercase();
    // Of an RPC with several nodes behind it, one can be behind the others.
    let later = ["timeout", "timed out", "header not found", "unknown block", "unavailable", "overloaded", "try again"];
    if payload.code == -32002 || later.iter().any(|known| lower.contains(known)) {
        return error.with_retryable(true).with_hint("try again");
    }
    match payload.code {
        -32601 => error.with_hint("the RPC has no such method: use that of a full node"),
        _ => error.with_hint("the RPC refused this question; others may do"),
    }
}

/// Whether it is the number of questions that the RPC refuses.
pub(super) fn is_limit(payload: &ErrorPayload) -> bool {
    payload.is_retry_err() || payload.message.to_ascii_lowercase().contains("too many requests")
}

/// Whether it may have been the batch that was refused, not its questions.
pub(super) fn refuses_batches(error: &TransportError) -> bool {
    let RpcError::Transport(kind) = error else { return false };
    kind.as_http_error().is_some_and(|it| matches!(it.status, 400 | 404..=406 | 411 | 413 | 415 | 422 | 501))
}

/// What a transport says, whoever wrote it.
pub(super) fn of(error: TransportError) -> Error {
    match error {
        RpcError::ErrorResp(payload) => said(&payload),
        RpcError::DeserError { text, .. } => not_json(text.as_bytes()),
        RpcError::Transport(kind) => {
            if let Some(http) = kind.as_http_error() {
                return status(http.status, &http.body);
            }
            match kind {
                TransportErrorKind::Custom(custom) => match custom.downcast::<Error>() {
                    Ok(ours) => *ours,
                    Err(theirs) => foreign(&*theirs),
                },
                other => foreign(&other),
            }
        }
        other => foreign(&other),
    }
}

/// An error of somebody else's transport. Its texts may hold the address with all it holds, so only those without one are kept.
fn foreign(error: &(dyn StdError + 'static)) -> Error {
    if let Some(ours) = find::<Error>(error) {
        return ours.clone();
    }
    let mut why = None;
    let mut cause = Some(error);
    while let Some(it) = cause {
        let text = it.to_string();
        if !text.contains("://") {
            why = Some(clean(text.as_bytes(), QUOTED));
        }
        cause = it.source();
    }
    let error = passing("the RPC could not be asked", "try again");
    match why {
        Some(why) => error.with_source(why),
        None => error,
    }
}
