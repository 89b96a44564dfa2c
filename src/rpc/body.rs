//! An encoded request, in pieces.

use std::{collections::VecDeque, fmt};

use bytes::{Bytes, BytesMut};

use super::leaving::Leaving;

/// The most bytes that are written out at a time where a large input is encoded on its way to the socket.
const STEP: usize = 32 * 1024;

/// Bytes up to this length beside something that is encoded are copied to it: a frame of their own would cost more.
const COPY_UP_TO: usize = 2048;

/// An encoded request, in pieces. Small fields are gathered in one piece; a large input is a piece of its own, which
/// shares the caller's memory. If the encoding makes an input longer, as JSON does, it is encoded piece by piece while
/// the message is read. So the long form never exists as a whole.
#[derive(Clone, Default)]
pub struct RequestBody {
    pieces: VecDeque<Piece>,
    len: usize,
    #[cfg_attr(not(any(feature = "grpc", feature = "rest")), expect(dead_code, reason = "these transports tell it"))]
    leaving: Option<Leaving>,
}

#[derive(Clone)]
enum Piece {
    Raw(Bytes),
    /// As decimal numbers with commas between them.
    Numbers(Bytes),
    /// As lower-case hex digits.
    Hex(Bytes),
}

impl RequestBody {
    /// An empty body.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a piece without copying it.
    pub fn push(&mut self, segment: Bytes) {
        if !segment.is_empty() {
            self.len += segment.len();
            self.pieces.push_back(Piece::Raw(segment));
        }
    }

    /// Appends these bytes as the elements of a JSON array of numbers, without its brackets.
    pub(crate) fn push_numbers(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.len += numbers_len(&bytes);
            self.pieces.push_back(Piece::Numbers(bytes));
        }
    }

    /// Appends these bytes as lower-case hex, without 0x.
    pub(crate) fn push_hex(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.len += 2 * bytes.len();
            self.pieces.push_back(Piece::Hex(bytes));
        }
    }

    /// Has a transport that can tell say when the message begins to leave.
    pub(crate) fn with_leaving(self, leaving: &Leaving) -> Self {
        Self { leaving: Some(leaving.clone()), ..self }
    }

    /// Who wants to know when the message begins to leave.
    #[cfg(any(feature = "grpc", feature = "rest"))]
    pub(crate) fn leaving(&self) -> Option<Leaving> {
        self.leaving.clone()
    }

    /// The length of the message in bytes, exactly.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the message has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The message in pieces, in order, none of them empty. What is encoded on the way comes in pieces of at most 32
    /// KiB, together with small fields beside it. Everything else is the memory that was put in.
    #[must_use]
    pub fn into_chunks(self) -> Chunks {
        Chunks { pieces: self.pieces, left: self.len }
    }

    /// The whole message in one buffer; copies unless there is a single piece that needs no encoding.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        if self.pieces.len() == 1
            && let Some(Piece::Raw(one)) = self.pieces.front()
        {
            return one.clone();
        }
        let mut all = BytesMut::with_capacity(self.len);
        self.clone().into_chunks().for_each(|chunk| all.extend_from_slice(&chunk));
        all.freeze()
    }
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> Self {
        let mut body = Self::new();
        body.push(bytes);
        body
    }
}

// By hand: a message can be megabytes.
impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("len", &self.len).field("pieces", &self.pieces.len()).finish()
    }
}

/// The pieces of a [`RequestBody`], in order; made by [`RequestBody::into_chunks`].
pub struct Chunks {
    pieces: VecDeque<Piece>,
    left: usize,
}

impl Chunks {
    /// Writes out pieces until the next is not fully written, or is better handed out as it is.
    fn gather(&mut self) -> Bytes {
        // Numbers are written in words of four bytes, of which at least two count.
        let mut out = BytesMut::with_capacity(STEP.min(2 * self.left + 2));
        while let Some(piece) = self.pieces.front_mut() {
            let room = STEP - out.len();
            let whole = match piece {
                Piece::Raw(bytes) if bytes.len() <= COPY_UP_TO.min(room) => {
                    out.extend_from_slice(bytes);
                    true
                }
                Piece::Raw(_) => false,
                Piece::Numbers(bytes) => {
                    let step = bytes.split_to(bytes.len().min(room / 4));
                    write_numbers(&step, bytes.is_empty(), &mut out);
                    bytes.is_empty()
                }
                Piece::Hex(bytes) => {
                    let step = bytes.split_to(bytes.len().min(room / 2));
                    write_hex(&step, &mut out);
                    bytes.is_empty()
                }
            };
            if !whole {
                break;
            }
            self.pieces.pop_front();
        }
        out.freeze()
    }
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let encoded = |piece: Option<&Piece>| matches!(piece, Some(Piece::Numbers(_) | Piece::Hex(_)));
        let chunk = match self.pieces.front()? {
            Piece::Raw(bytes) if bytes.len() > COPY_UP_TO || !encoded(self.pieces.get(1)) => {
                let bytes = bytes.clone();
                self.pieces.pop_front();
                bytes
            }
            _ => self.gather(),
        };
        self.left = self.left.saturating_sub(chunk.len());
        Some(chunk)
    }
}

impl fmt::Debug for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunks").field("pieces", &self.pieces.len()).field("left", &self.left).finish()
    }
}

/// Every byte as a decimal number and a comma, in as many of the four bytes as that takes.
const DECIMAL: [([u8; 4], u8); 256] = {
    let mut table = [([b','; 4], 0); 256];
    let mut byte = 0;
    while byte < 256 {
        let digits = [b'0' + (byte / 100) as u8, b'0' + (byte / 10 % 10) as u8, b'0' + (byte % 10) as u8];
        let skip = if byte < 10 {
            2
        } else if byte < 100 {
            1
        } else {
            0
        };
        let mut at = skip;
        while at < 3 {
            table[byte].0[at - skip] = digits[at];
            at += 1;
        }
        table[byte].1 = (3 - skip + 1) as u8;
        byte += 1;
    }
    table
};

/// Writes a whole word per byte and steps on by the length that counts: no branch depends on the data. The last number
/// of an array has no comma behind it.
fn write_numbers(bytes: &[u8], last: bool, out: &mut BytesMut) {
    let mut at = out.len();
    out.resize(at + bytes.len() * 4, 0);
    for byte in bytes {
        let (word, len) = DECIMAL[usize::from(*byte)];
        out[at..at + 4].copy_from_slice(&word);
        at += usize::from(len);
    }
    out.truncate(at - usize::from(last));
}

fn numbers_len(bytes: &[u8]) -> usize {
    // Branches of the comparison become additions of whole vectors.
    let digits = |byte: &u8| 2 + usize::from(*byte > 9) + usize::from(*byte > 99);
    (bytes.iter().map(digits).sum::<usize>()).saturating_sub(1)
}

fn write_hex(bytes: &[u8], out: &mut BytesMut) {
    let at = out.len();
    out.resize(at + bytes.len() * 2, 0);
    // The slice is of the length it wants, so this cannot fail.
    let _ = alloy_primitives::hex::encode_to_slice(bytes, &mut out[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &RequestBody) -> String {
        let chunks: Vec<Bytes> = body.clone().into_chunks().collect();
        assert!(chunks.iter().all(|chunk| !chunk.is_empty()));
        let all = chunks.concat();
        assert_eq!(all.len(), body.len(), "the length is announced before the message is written");
        assert_eq!(body.to_bytes(), all);
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn numbers_and_hex_are_written_as_the_plain_way_writes_them() {
        let every: Vec<u8> = (0..=255).collect();
        for len in [1, 2, 255, 256, STEP - 1, STEP, STEP + 1, 3 * STEP, 3 * STEP + 7] {
            let bytes: Vec<u8> = every.iter().copied().cycle().take(len).collect();
            let mut body = RequestBody::new();
            body.push(Bytes::from_static(b"["));
            body.push_numbers(bytes.clone().into());
            body.push(Bytes::from_static(b"] "));
            body.push_hex(bytes.clone().into());
            let plain = bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
            assert_eq!(text(&body), format!("[{plain}] {}", alloy_primitives::hex::encode(&bytes)));
        }
    }

    #[test]
    fn nothing_is_nothing() {
        let mut body = RequestBody::new();
        body.push(Bytes::new());
        body.push_numbers(Bytes::new());
        body.push_hex(Bytes::new());
        assert!(body.is_empty());
        assert_eq!(text(&body), "");
    }

    #[test]
    fn large_raw_pieces_keep_their_memory_and_encoded_ones_stay_small() {
        let large = Bytes::from(vec![200; 100_000]);
        let mut body = RequestBody::from(large.clone());
        assert_eq!(body.to_bytes().as_ptr(), large.as_ptr());
        body.push_numbers(large.clone());
        body.push(large.clone());
        body.push_hex(large.clone());
        let (raw, encoded): (Vec<Bytes>, Vec<Bytes>) = body.into_chunks().partition(|chunk| chunk.len() == large.len());
        assert_eq!([raw[0].as_ptr(), raw[1].as_ptr()], [large.as_ptr(); 2]);
        assert!(encoded.iter().all(|chunk| chunk.len() <= STEP && chunk.len() > STEP / 10));
        assert_eq!(encoded.iter().map(Bytes::len).sum::<usize>(), 399_999 + 200_000);
    }

    #[test]
    fn small_fields_travel_in_one_piece() {
        let mut body = RequestBody::new();
        for _ in 0..4 {
            body.push(Bytes::from_static(b"{\"field\":["));
            body.push_numbers(vec![100; 500].into());
            body.push(Bytes::from_static(b"],\"other\":\""));
            body.push_hex(vec![100; 500].into());
            body.push(Bytes::from_static(b"\"}"));
        }
        assert_eq!(text(&body).len(), body.len());
        assert_eq!(body.into_chunks().count(), 1);

        // Without anything to encode there is nothing to gather: whoever made the pieces had a reason.
        let pieces = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        let mut body = RequestBody::new();
        pieces.iter().for_each(|piece| body.push(piece.clone()));
        let chunks: Vec<Bytes> = body.into_chunks().collect();
        assert_eq!(chunks, pieces);
        assert_eq!(chunks[0].as_ptr(), pieces[0].as_ptr());
    }

    /// Wherever the end of a step falls: in each field, and between them.
    #[test]
    fn steps_end_anywhere() {
        for first in STEP / 4 - 12..STEP / 4 + 3 {
            let mut body = RequestBody::new();
            body.push_numbers(vec![123; first].into());
            body.push(Bytes::from_static(b"|"));
            body.push_hex(vec![0xab; 2].into());
            body.push(Bytes::from_static(b"|"));
            body.push_numbers(vec![7; 3].into());
            let numbers = vec!["123"; first].join(",");
            assert_eq!(text(&body), format!("{numbers}|abab|7,7,7"));
        }
    }
}
