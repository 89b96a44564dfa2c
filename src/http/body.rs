//! Bodies of bounded length, from a peer that may send anything.

use std::{error::Error as StdError, pin::pin};

use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_ENCODING};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};

/// Why a body was not read to its end.
pub(crate) enum Unread {
    /// It is longer than the limit.
    TooLong,
    /// The connection broke.
    Broken(Box<dyn StdError + Send + Sync>),
}

/// Whether by its headers a body is compressed. An encoding without a name is none.
pub(crate) fn is_encoded(headers: &HeaderMap) -> bool {
    let encodings =
        headers.get_all(CONTENT_ENCODING).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    encodings.map(<[u8]>::trim_ascii).any(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity"))
}

/// Reads a body up to a limit, in bytes: what was read, and why that is not all of it, if it is not. One piece is not
/// copied; otherwise old and new buffer together are never more than one and a half times the limit.
pub(crate) async fn read<B>(body: B, limit: usize) -> (Bytes, Result<(), Unread>)
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let mut body = pin!(Limited::new(body, limit));
    let (mut first, mut rest) = (Bytes::new(), Vec::new());
    let mut end = Ok(());
    while let Some(frame) = body.frame().await {
        let data = match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => data,
            // Trailers.
            Ok(Err(_)) => continue,
            Err(error) if error.is::<LengthLimitError>() => {
                end = Err(Unread::TooLong);
                break;
            }
            Err(error) => {
                end = Err(Unread::Broken(error));
                break;
            }
        };
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        let needed = first.len() + rest.len() + data.len();
        if rest.capacity() < needed {
            // All that is announced at once. Otherwise the limit, or the least half, quarter and so on of it that will do.
            let wanted = match usize::try_from(body.size_hint().lower()) {
                Ok(0) => {
                    std::iter::successors(Some(limit), |size| Some(size / 2).filter(|half| *half >= needed)).last()
                }
                Ok(more) => needed.checked_add(more),
                Err(_) => None,
            };
            let wanted = wanted.unwrap_or(limit).min(limit);
            rest.reserve_exact(wanted - rest.len());
        }
        rest.extend_from_slice(&std::mem::take(&mut first));
        rest.extend_from_slice(&data);
    }
    (if rest.is_empty() { first } else { rest.into() }, end)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http_body::{Frame, SizeHint};

    use super::*;

    /// A body in pieces, which may say how long it is.
    struct Pieces(VecDeque<Bytes>, bool);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            std::task::Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }

        fn size_hint(&self) -> SizeHint {
            let left = self.0.iter().map(|piece| piece.len() as u64).sum();
            if self.1 { SizeHint::with_exact(left) } else { SizeHint::default() }
        }
    }

    fn pieces(total: usize, piece: usize, announced: bool) -> Pieces {
        Pieces(vec![7; total].chunks(piece).map(Bytes::copy_from_slice).collect(), announced)
    }

    #[tokio::test]
    async fn takes_what_fits_and_no_more() {
        for announced in [true, false] {
            for (total, fits) in [(0, true), (1, true), (999, true), (1000, true), (1001, false), (1100, false)] {
                for piece in [1, 100, 333, 2000] {
                    let (read, end) = read(pieces(total, piece, announced), 1000).await;
                    assert_eq!(end.is_ok(), fits, "{total} in pieces of {piece}");
                    // What follows the limit is not there, nor is the piece that it fell into.
                    assert_eq!(read.len(), if fits { total } else { 1000 / piece * piece }, "{total}, {piece}");
                }
            }
        }
    }

    #[test]
    fn an_encoding_is_one_that_changes_the_text() {
        let of = |values: &[&'static str]| {
            HeaderMap::from_iter(values.iter().map(|it| (CONTENT_ENCODING, http::HeaderValue::from_static(it))))
        };
        for none in [&[][..], &["identity"], &["Identity"], &[""], &[" , identity"], &["identity", "identity"]] {
            assert!(!is_encoded(&of(none)), "{none:?}");
        }
        for encoded in [&["gzip"][..], &["x"], &["identity, br"], &["identity", "zstd"]] {
            assert!(is_encoded(&of(encoded)), "{encoded:?}");
        }
    }

    #[tokio::test]
    async fn one_piece_is_not_copied_and_an_announced_length_is_reserved_once() {
        let piece = Bytes::from(vec![1; 50]);
        let (read_back, end) = read(Pieces([piece.clone()].into(), false), 100).await;
        assert!(end.is_ok());
        assert_eq!(read_back.as_ptr(), piece.as_ptr());

        let (whole, _) = read(pieces(600, 10, true), 1000).await;
        assert_eq!(Vec::from(whole).capacity(), 600);
    }
}
