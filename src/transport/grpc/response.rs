//! The response: one message and a status, from a peer that may send anything.

use std::{borrow::Cow, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode as HttpStatus};
use http_body::Body;
use http_body_util::BodyExt;
use percent_encoding::percent_decode;

use super::{body::PREFIX_LEN, details::retry_delay, ended::broke_off};
use crate::{
    http::retry_after::RefusedFor,
    rpc::{CallError, CallFailure, NO_GRPC, Pushback, StatusCode},
    text::clean,
    transport::{
        answer::{self, MAX_MESSAGE, bad, has_type, interrupted, shown_type},
        settings::CallLimits,
    },
};

/// How many messages an answer may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// One, and a status after it.
    One,
    /// Any number; the first is taken as soon as it is there, and the rest is dropped unread.
    First,
}

/// Reads the one message of an answer, or its first, of bounded length.
pub(super) async fn read<B>(response: http::Response<B>, limits: CallLimits, expect: Expect) -> Result<Bytes, CallError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, mut body) = response.into_parts();
    check_head(head.status, &head.headers)?;
    // An answer without a message has its status in the headers.
    let mut status = status_of(&head.headers)?;

    let mut message = Message::new(limits);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(broke_off)?;
        match frame.into_data() {
            Ok(data) => {
                let surplus = message.push(data)?;
                match expect {
                    Expect::First if message.is_whole() => return message.finish(),
                    Expect::One if !surplus.is_empty() => return Err(bad("the answer holds more than one message")),
                    _ => {}
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    status = status_of(&trailers)?.or(status);
                }
            }
        }
    }
    match status {
        Some(StatusOk) => message.finish(),
        None => Err(interrupted("the answer ended without a gRPC status")),
    }
}

/// Tells a gRPC server from whatever else may answer at that address.
fn check_head(status: HttpStatus, headers: &HeaderMap) -> Result<(), CallError> {
    let is_grpc = has_type(headers, &["application/grpc", "application/grpc+proto"]);
    if is_grpc && (status == HttpStatus::OK || headers.contains_key("grpc-status")) {
        return Ok(());
    }
    let message = format!("{NO_GRPC} ({})", shown_type(headers));
    Err(match status {
        HttpStatus::OK => bad(message),
        other => {
            let pushback = answer::pushback(headers, RefusedFor::of_status(other.as_u16()));
            CallError::new(CallFailure::Http(other.as_u16()), message).with_pushback(pushback)
        }
    })
}

/// The gRPC status of a call that succeeded.
#[derive(Clone, Copy)]
struct StatusOk;

/// The gRPC status, if these headers hold one; any but OK is an error.
///
/// Not by `tonic::Status::from_header_map`: that panics on `grpc-status-details-bin` that is not base64 (0.14.9).
fn status_of(headers: &HeaderMap) -> Result<Option<StatusOk>, CallError> {
    let Some(value) = headers.get("grpc-status") else { return Ok(None) };
    let code = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let Some(code) = code.and_then(|text| text.parse().ok()) else {
        return Err(bad(format!("the gRPC status is not a number: {}", clean(value.as_bytes(), 100))));
    };
    if code == 0 {
        return Ok(Some(StatusOk));
    }
    let message = headers.get("grpc-message").map(|value| {
        // Three bytes are the most that one can take.
        let raw = value.as_bytes();
        clean(&Cow::from(percent_decode(&raw[..raw.len().min(3 * MAX_MESSAGE)])), MAX_MESSAGE)
    });
    let code = StatusCode(code);
    Err(CallError::new(CallFailure::Status(code), message.unwrap_or_default()).with_pushback(pushback(code, headers)))
}

/// What a refusal asks for as to another attempt (gRPC proposal A6): milliseconds, or not again if they are negative or
/// cannot be read. Or it says so in its details. Proxies say it in the way of HTTP.
fn pushback(code: StatusCode, headers: &HeaderMap) -> Pushback {
    let Some(value) = headers.get("grpc-retry-pushback-ms") else {
        let refused = match code {
            StatusCode::RESOURCE_EXHAUSTED => RefusedFor::Rate,
            StatusCode::UNAVAILABLE => RefusedFor::Load,
            _ => RefusedFor::Other,
        };
        return retry_delay(headers).map_or_else(|| answer::pushback(headers, refused), Pushback::After);
    };
    let pause = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match pause.and_then(|text| text.parse().ok()) {
        Some(pause) => Pushback::After(Duration::from_millis(pause)),
        None => Pushback::Never,
    }
}

/// The message under construction: in `first` while it came in one frame, in `rest` after that. It holds what was
/// received, up to the limit, and copies only if the message comes in more than one frame.
struct Message {
    limits: CallLimits,
    prefix: BytesMut,
    announced: Option<usize>,
    first: Bytes,
    rest: BytesMut,
}

impl Message {
    fn new(limits: CallLimits) -> Self {
        Self { limits, prefix: BytesMut::new(), announced: None, first: Bytes::new(), rest: BytesMut::new() }
    }

    fn received(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    fn is_whole(&self) -> bool {
        self.announced == Some(self.received())
    }

    /// Takes what belongs to the message, and returns what follows it.
    fn push(&mut self, mut data: Bytes) -> Result<Bytes, CallError> {
        let announced = match self.announced {
            Some(announced) => announced,
            None => {
                let missing = PREFIX_LEN - self.prefix.len();
                self.prefix.extend_from_slice(&data.split_to(missing.min(data.len())));
                match self.prefix[..] {
                    [flags, a, b, c, d] => self.begin(flags, u32::from_be_bytes([a, b, c, d]))?,
                    _ => return Ok(data),
                }
            }
        };
        let surplus = data.split_off(data.len().min(announced - self.received()));
        if !self.rest.is_empty() {
            self.rest.extend_from_slice(&data);
        } else if self.first.is_empty() {
            self.first = data;
        } else if !data.is_empty() {
            self.rest.reserve(announced);
            self.rest.extend_from_slice(&std::mem::take(&mut self.first));
            self.rest.extend_from_slice(&data);
        }
        Ok(surplus)
    }

    /// Refuses by the announced length, before anything is buffered.
    fn begin(&mut self, flags: u8, announced: u32) -> Result<usize, CallError> {
        if flags != 0 {
            return Err(bad(format!("the answer is compressed, which was not offered (flags {flags})")));
        }
        match usize::try_from(announced) {
            Ok(announced) if announced <= self.limits.max_response => {
                self.announced = Some(announced);
                Ok(announced)
            }
            _ => Err(self.limits.too_large(Some(announced.into()))),
        }
    }

    fn finish(self) -> Result<Bytes, CallError> {
        match self.announced {
            None if self.prefix.is_empty() => Err(bad("the answer has status OK but no message")),
            Some(announced) if announced == self.received() => {
                Ok(if self.rest.is_empty() { self.first } else { self.rest.freeze() })
            }
            _ => Err(interrupted("the answer ended within its message")),
        }
    }
}
