//! What both transports make of what a peer sends: content types, broken connections.

use std::error::Error as StdError;

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};

use crate::{
    http::retry_after::{self, RefusedFor},
    rpc::{CallError, CallFailure, Pushback},
    text::clean,
};

/// The longest message of a peer that is kept, in bytes.
pub(super) const MAX_MESSAGE: usize = 4 * 1024;

pub(super) fn bad(message: impl Into<String>) -> CallError {
    CallError::new(CallFailure::BadResponse, message)
}

pub(super) fn interrupted(message: impl Into<String>) -> CallError {
    CallError::new(CallFailure::Interrupted, message)
}

/// Whether the content type is one of these, parameters aside.
pub(super) fn has_type(headers: &HeaderMap, types: &[&str]) -> bool {
    headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).is_some_and(|value| {
        let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
        let essence = value[..end].trim_ascii();
        types.iter().any(|known| essence.eq_ignore_ascii_case(known.as_bytes()))
    })
}

/// How long these headers of a refusal ask to be left alone, in the way of HTTP.
pub(super) fn pushback(headers: &HeaderMap, refused: RefusedFor) -> Pushback {
    retry_after::pause(headers, refused).map_or(Pushback::Unsaid, Pushback::After)
}

/// The content type, for messages.
pub(super) fn shown_type(headers: &HeaderMap) -> String {
    match headers.get(CONTENT_TYPE) {
        Some(value) => format!("content type {}", clean(value.as_bytes(), 100)),
        None => "no content type".to_owned(),
    }
}

/// An error before the answer began. Whether it struck before the request was sent is for the gate to say.
///
/// Not the peer: of a refused stream RFC 9113 (section 8.7) promises that it was not processed, but HAProxy refuses as
/// well what it sent on over a connection that then closed without an answer.
pub(super) fn broken(error: impl Into<Box<dyn StdError + Send + Sync>>, endpoint: &str) -> CallError {
    interrupted(format!("the connection to {endpoint} broke during the call")).with_source(error)
}

/// An error after the answer began.
pub(super) fn broke_off(error: impl Into<Box<dyn StdError + Send + Sync>>) -> CallError {
    interrupted("the answer broke off").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_compared_without_their_parameters() {
        let of = |value: &'static str| HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
        for same in ["application/json", "Application/JSON ; charset=utf-8", "application/json;"] {
            assert!(has_type(&of(same), &["application/json"]), "{same}");
        }
        for other in ["application/jsonp", "text/json", "", ";application/json"] {
            assert!(!has_type(&of(other), &["application/json"]), "{other}");
        }
        assert!(!has_type(&HeaderMap::new(), &["application/json"]));
    }
}
