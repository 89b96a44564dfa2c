//! The bodies of gRPC requests and responses: length-prefixed messages, without copying large ones.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    vec,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use crate::rpc::{CallError, CallFailure, RequestBody};

/// Compressed flag and length, before each message.
const PREFIX: usize = 5;
/// Messages up to this length go out as one frame: below it a copy is cheaper than a second frame.
const ONE_FRAME: usize = 8 * 1024;
/// A first piece up to this length shares its frame with the prefix.
const SHARES_WITH_PREFIX: usize = 4 * 1024;

/// A request: the prefix and the small fields in one frame, each large input as a frame of its own.
#[derive(Debug)]
pub(super) struct GrpcBody {
    frames: vec::IntoIter<Bytes>,
    left: u64,
}

impl GrpcBody {
    /// `None` if the message is longer than gRPC can express.
    pub(super) fn new(message: RequestBody) -> Option<Self> {
        let len = u32::try_from(message.len()).ok()?;
        let left = (PREFIX + message.len()) as u64;
        let mut segments = message.into_segments().into_iter();
        let share = if len as usize <= ONE_FRAME {
            len as usize
        } else {
            segments.as_slice().first().map_or(0, Bytes::len).min(SHARES_WITH_PREFIX)
        };
        let mut head = BytesMut::with_capacity(PREFIX + share);
        head.put_u8(0);
        head.put_u32(len);
        let mut frames = Vec::with_capacity(1 + segments.len());
        if len as usize <= ONE_FRAME {
            segments.by_ref().for_each(|segment| head.extend_from_slice(&segment));
        } else if segments.as_slice().first().is_some_and(|first| first.len() <= SHARES_WITH_PREFIX) {
            head.extend_from_slice(&segments.next().unwrap_or_default());
        }
        frames.push(head.freeze());
        frames.extend(segments);
        Some(Self { frames: frames.into_iter(), left })
    }
}

impl Body for GrpcBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.frames.next();
        self.left -= next.as_ref().map_or(0, |frame| frame.len() as u64);
        Poll::Ready(next.map(|frame| Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.as_slice().is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Gathers the one message of a response, and never more than the limit.
pub(super) struct MessageReader {
    limit: usize,
    chunks: Vec<Bytes>,
    held: usize,
    expected: Option<usize>,
}

impl MessageReader {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, chunks: Vec::new(), held: 0, expected: None }
    }

    pub(super) fn push(&mut self, chunk: Bytes) -> Result<(), CallError> {
        self.held += chunk.len();
        self.chunks.push(chunk);
        if self.expected.is_none() && self.held >= PREFIX {
            let mut prefix = [0; PREFIX];
            let bytes = self.chunks.iter().flat_map(|chunk| chunk.iter());
            prefix.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            let [flag, len @ ..] = prefix;
            if flag != 0 {
                return Err(CallError::new(CallFailure::BadResponse, "the response is compressed, which was not asked for"));
            }
            let len = u32::from_be_bytes(len) as usize;
            if len > self.limit {
                return Err(CallError::new(
                    CallFailure::ResponseTooLarge,
                    format!("the response has {len} bytes, over the limit of {} bytes", self.limit),
                ));
            }
            self.expected = Some(PREFIX + len);
        }
        match self.expected {
            Some(expected) if self.held > expected => {
                Err(CallError::new(CallFailure::BadResponse, "the response holds more than one message"))
            }
            _ => Ok(()),
        }
    }

    /// The message, sharing memory with the frame it came in where it came in one.
    pub(super) fn finish(self) -> Result<Bytes, CallError> {
        if self.expected != Some(self.held) {
            return Err(CallError::new(
                CallFailure::Interrupted,
                format!("the response ends after {} bytes, before the end of its message", self.held),
            ));
        }
        let mut chunks = self.chunks;
        if let [one] = chunks.as_mut_slice() {
            return Ok(one.split_off(PREFIX));
        }
        let mut message = BytesMut::with_capacity(self.held);
        chunks.iter().for_each(|chunk| message.extend_from_slice(chunk));
        message.advance(PREFIX);
        Ok(message.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(body: RequestBody) -> Vec<Bytes> {
        GrpcBody::new(body).expect("short enough").frames.collect()
    }

    #[test]
    fn large_pieces_are_the_callers_memory() {
        let large = Bytes::from(vec![7; 1 << 20]);
        let mut body = RequestBody::from(Bytes::from_static(b"head"));
        body.push(large.clone());
        body.push(Bytes::from_static(b"tail"));
        let frames = frames(body);
        assert_eq!(frames.len(), 3);
        assert_eq!(frames[0][..], [0, 0, 0x10, 0, 8, b'h', b'e', b'a', b'd']);
        assert_eq!(frames[1].as_ptr(), large.as_ptr());
        assert_eq!(frames[1].len(), large.len());
    }

    #[test]
    fn small_messages_are_one_frame() {
        let mut body = RequestBody::from(Bytes::from(vec![1; 3000]));
        body.push(Bytes::from(vec![2; 3000]));
        let frames = frames(body);
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].len(), PREFIX + 6000);
        assert_eq!(self::frames(RequestBody::new()), [Bytes::from_static(&[0; 5])]);
    }

    #[test]
    fn end_and_size_are_exact() {
        let mut body = RequestBody::from(Bytes::from(vec![1; 9000]));
        body.push(Bytes::from(vec![2; 10]));
        let mut body = GrpcBody::new(body).expect("short enough");
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut seen = 0;
        while !body.is_end_stream() {
            assert_eq!(body.size_hint().exact(), Some(9015 - seen));
            let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut context) else { panic!("a frame") };
            seen += frame.into_data().expect("data").len() as u64;
        }
        assert_eq!(seen, 9015);
    }

    #[test]
    fn a_response_is_read_from_any_cut() {
        let wire = [0, 0, 0, 0, 3, 1, 2, 3];
        for cut in 0..=wire.len() {
            let mut reader = MessageReader::new(3);
            reader.push(Bytes::copy_from_slice(&wire[..cut])).expect("in limits");
            reader.push(Bytes::copy_from_slice(&wire[cut..])).expect("in limits");
            assert_eq!(reader.finish().expect("whole")[..], [1, 2, 3], "cut at {cut}");
        }
        let cases: [(&[u8], &str); 5] = [
            (&[0, 0, 0, 0, 4], "over the limit of 3 bytes"),
            (&[0, 255, 255, 255, 255], "over the limit of 3 bytes"),
            (&[1, 0, 0, 0, 0], "compressed"),
            (&[0, 0, 0, 0, 1, 9, 9], "more than one"),
            (&[0, 0, 0, 0, 2, 9], "before the end"),
        ];
        for (bytes, reason) in cases {
            let mut reader = MessageReader::new(3);
            let error = reader.push(Bytes::copy_from_slice(bytes)).and_then(|()| reader.finish().map(drop));
            let error = error.expect_err("refused").to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
