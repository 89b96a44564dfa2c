//! The answer: JSON, or a refusal in one of several forms, from a peer that may send anything.

use bytes::Bytes;
use http::{HeaderMap, StatusCode as HttpStatus, header};
use http_body::Body;
use serde::Deserialize;

use crate::{
    http::{
        body::{self, Unread, is_encoded},
        retry_after::RefusedFor,
    },
    observe::http_status,
    rpc::{CallError, CallFailure, StatusCode},
    text::{clean, without_mark},
    transport::{
        answer::{MAX_MESSAGE, bad, broke_off, has_type, pushback, shown_type},
        settings::CallLimits,
    },
};

/// What a gateway takes and sends.
pub(super) const JSON: &str = "application/json";

/// The most that is read of a refusal, in bytes.
const MAX_REFUSAL: usize = 64 * 1024;

/// The statuses of refusals that come before a message is cared for, whatever their text says: whoever sends them may
/// close the connection at once, and that can cut off the text.
const REFUSES_UNREAD: [HttpStatus; 3] =
    [HttpStatus::UNAUTHORIZED, HttpStatus::PROXY_AUTHENTICATION_REQUIRED, HttpStatus::PAYLOAD_TOO_LARGE];

/// The gateway's own form of a refusal: a gRPC status in JSON.
#[derive(Deserialize)]
struct Refusal {
    message: String,
    grpc_code: u32,
}

/// Reads the JSON of an answer, of bounded length.
pub(super) async fn read<B>(response: http::Response<B>, limits: CallLimits) -> Result<Bytes, CallError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = response.into_parts();
    let encoded = is_encoded(&head.headers);
    http_status(head.status.as_u16());
    if head.status != HttpStatus::OK {
        return Err(refusal(head.status, &head.headers, encoded, body).await);
    }
    if encoded {
        return Err(bad("the answer is compressed, which was not asked for"));
    }
    if !has_type(&head.headers, &[JSON]) {
        return Err(bad(format!("the answer is not JSON ({})", shown_type(&head.headers))));
    }
    // Refused by what is announced, before anything is read.
    let announced = body.size_hint().lower();
    if usize::try_from(announced).map_or(true, |announced| announced > limits.max_response) {
        return Err(limits.too_large(Some(announced)));
    }
    match body::read(body, limits.max_response).await {
        (whole, Ok(())) => Ok(whole),
        (_, Err(Unread::TooLong)) => Err(limits.too_large(None)),
        (_, Err(Unread::Broken(error))) => Err(broke_off(error)),
    }
}

/// What a status other than 200 says. The body decides where it is the gateway's; the status alone says little.
async fn refusal<B>(status: HttpStatus, headers: &HeaderMap, encoded: bool, body: B) -> CallError
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let pushback = pushback(headers, RefusedFor::of_status(status.as_u16()));
    let http = |message: String| CallError::new(CallFailure::Http(status.as_u16()), message).with_pushback(pushback);
    if encoded {
        return http(format!("a compressed text ({})", shown_type(headers)));
    }
    let (text, end) = body::read(body, MAX_REFUSAL).await;
    if let Err(Unread::Broken(error)) = end {
        if REFUSES_UNREAD.contains(&status) {
            return http("its text broke off".to_owned()).with_source(error);
        }
        let message = format!("HTTP status {}, and its text broke off", status.as_u16());
        return CallError { message, pushback, ..broke_off(error) };
    }
    let json = has_type(headers, &[JSON]);
    if json
        && end.is_ok()
        && let Ok(refusal) = serde_json::from_slice::<Refusal>(without_mark(&text))
        && refusal.grpc_code != 0
    {
        let message = clean(refusal.message.as_bytes(), MAX_MESSAGE);
        return CallError::new(CallFailure::Status(StatusCode(refusal.grpc_code)), message).with_pushback(pushback);
    }
    if status.is_redirection()
        && let Some(location) = headers.get(header::LOCATION)
    {
        // Without a query, which may hold a secret.
        let location = clean(location.as_bytes(), 200);
        return http(format!("redirected to {}", location.split(['?', '#']).next().unwrap_or_default()));
    }
    http(match text.is_empty() {
        true => String::new(),
        false if json || has_type(headers, &["text/plain"]) => clean(&text, MAX_MESSAGE),
        // Pages are for browsers, not for logs.
        false => format!("a page that is not of the gateway ({})", shown_type(headers)),
    })
}
