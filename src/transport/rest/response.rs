//! The answer: JSON, or a refusal in one of several forms, from a peer that may send anything.

use std::{future::poll_fn, pin::Pin};

use bytes::Bytes;
use http::{HeaderMap, StatusCode as HttpStatus, header};
use http_body::Body;
use serde::Deserialize;

use super::JSON;
use crate::{
    rpc::{CallError, CallFailure, StatusCode},
    transport::{
        answer::{MAX_MESSAGE, bad, broke_off, clean, has_type, shown_type},
        settings::Limits,
    },
};

/// The most that is read of a refusal, in bytes.
const MAX_REFUSAL: usize = 64 * 1024;

/// The gateway's own form of a refusal: a gRPC status in JSON.
#[derive(Deserialize)]
struct Refusal {
    message: String,
    grpc_code: u32,
}

/// Reads the JSON of an answer, of bounded length.
pub(super) async fn read<B>(response: http::Response<B>, limits: Limits) -> Result<Bytes, CallError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = response.into_parts();
    let encoded = head.headers.get_all(header::CONTENT_ENCODING).iter().any(|value| value != "identity");
    if head.status != HttpStatus::OK {
        return Err(refusal(head.status, &head.headers, encoded, body).await);
    }
    if encoded {
        return Err(bad("the answer is compressed, which was not asked for"));
    }
    if !has_type(&head.headers, &[JSON]) {
        return Err(bad(format!("the answer is not JSON ({})", shown_type(&head.headers))));
    }
    let mut buffer = Buffer::new(limits.max_response);
    // Refused by what is announced, before anything is read.
    let announced = body.size_hint().lower();
    if usize::try_from(announced).map_or(true, |announced| announced > limits.max_response) {
        return Err(limits.too_large(Some(announced)));
    }
    if fill(body, &mut buffer).await? { Ok(buffer.finish()) } else { Err(limits.too_large(None)) }
}

/// Reads the body into the buffer; false if it does not fit.
async fn fill<B>(mut body: B, buffer: &mut Buffer) -> Result<bool, CallError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(broke_off)?;
        if let Ok(data) = frame.into_data()
            && !buffer.push(data, body.size_hint().lower())
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a status other than 200 says. The body decides where it is the gateway's; the status alone says little.
async fn refusal<B>(status: HttpStatus, headers: &HeaderMap, encoded: bool, body: B) -> CallError
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let http = |message: String| CallError::new(CallFailure::Http(status.as_u16()), message);
    if encoded {
        return http(format!("a compressed text ({})", shown_type(headers)));
    }
    let mut buffer = Buffer::new(MAX_REFUSAL);
    let whole = match fill(body, &mut buffer).await {
        Ok(whole) => whole,
        Err(error) => {
            let message = format!("HTTP status {}, and its text broke off", status.as_u16());
            return CallError { message, ..error };
        }
    };
    let text = buffer.finish();
    let json = has_type(headers, &[JSON]);
    if json
        && whole
        && let Ok(refusal) = serde_json::from_slice::<Refusal>(&text)
        && refusal.grpc_code != 0
    {
        let message = clean(refusal.message.as_bytes(), MAX_MESSAGE);
        return CallError::new(CallFailure::Status(StatusCode(refusal.grpc_code)), message);
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

/// What was read: in `first` while it came in one piece, in `rest` after that, never more than the limit.
struct Buffer {
    limit: usize,
    first: Bytes,
    rest: Vec<u8>,
}

impl Buffer {
    fn new(limit: usize) -> Self {
        Self { limit, first: Bytes::new(), rest: Vec::new() }
    }

    /// Takes a piece, of which `more` bytes at least are known to follow. What exceeds the limit is cut off, and false.
    fn push(&mut self, mut data: Bytes, more: u64) -> bool {
        let len = self.first.len() + self.rest.len();
        let fits = data.len() <= self.limit - len;
        if !fits {
            data.truncate(self.limit - len);
        }
        if len == 0 {
            self.first = data;
            return fits;
        }
        let needed = len + data.len();
        if self.rest.capacity() < needed {
            // What is announced at once. Otherwise the limit, or the least half, quarter and so on of it that will do:
            // then the old and the new buffer together are never more than one and a half times the limit.
            let wanted = match usize::try_from(more) {
                Ok(0) => std::iter::successors(Some(self.limit), |size| Some(size / 2).filter(|half| *half >= needed))
                    .last()
                    .unwrap_or(needed),
                Ok(more) => needed.saturating_add(more).min(self.limit),
                Err(_) => self.limit,
            };
            self.rest.reserve_exact(wanted - self.rest.len());
        }
        if !self.first.is_empty() {
            self.rest.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.rest.extend_from_slice(&data);
        fits
    }

    fn finish(self) -> Bytes {
        if self.rest.is_empty() { self.first } else { self.rest.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes pieces of this length, as many as it takes for the total.
    fn pushed(limit: usize, total: usize, piece: usize, announced: bool) -> (Buffer, bool) {
        let mut buffer = Buffer::new(limit);
        let all = vec![7; total];
        let mut fits = true;
        let mut left = total;
        for chunk in all.chunks(piece) {
            left -= chunk.len();
            fits = buffer.push(Bytes::copy_from_slice(chunk), if announced { left as u64 } else { 0 });
            assert!(buffer.rest.capacity() <= limit);
        }
        (buffer, fits)
    }

    #[test]
    fn holds_what_fits_and_no_more() {
        for announced in [true, false] {
            for (total, fits) in [(1, true), (999, true), (1000, true), (1001, false), (1100, false)] {
                for piece in [1, 100, 333, 2000] {
                    // Only a last piece may be cut.
                    if !fits && 1000 / piece != total / piece && piece == 1 && total > 1001 {
                        continue;
                    }
                    let (buffer, fitted) = pushed(1000, total, piece, announced);
                    assert_eq!(fitted, fits, "{total} in pieces of {piece}");
                    assert_eq!(buffer.finish().len(), total.min(1000));
                }
            }
        }
    }

    #[test]
    fn one_piece_is_not_copied_and_an_announced_length_is_reserved_once() {
        let mut buffer = Buffer::new(100);
        let piece = Bytes::from(vec![1; 50]);
        assert!(buffer.push(piece.clone(), 0));
        assert_eq!(buffer.finish().as_ptr(), piece.as_ptr());

        let (buffer, _) = pushed(1000, 600, 10, true);
        assert_eq!(buffer.rest.capacity(), 600);
    }
}
