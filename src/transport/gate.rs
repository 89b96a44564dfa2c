//! Proof that nothing was sent: a body that cannot leave without leaving a trace, and the deadline around a call.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::rpc::{CallError, CallFailure, Leaving};

/// Knows whether the request has begun to leave, and can prevent it from then on.
///
/// The bytes of a message can only leave through [`Guarded::poll_frame`]. So a call that failed while the gate is
/// still shut was not sent, whatever the error was, and revoking makes sure that it stays so: the request may still
/// sit in a queue of the HTTP client.
#[derive(Debug, Default)]
pub(super) struct SendGate(AtomicU8);

impl SendGate {
    const SHUT: u8 = 0;
    const OPEN: u8 = 1;
    const REVOKED: u8 = 2;

    /// Whether something may leave. Tells when it is the first of the message.
    fn pass(&self, leaving: Option<&Leaving>) -> bool {
        match self.0.compare_exchange(Self::SHUT, Self::OPEN, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                leaving.inspect(|leaving| leaving.left());
                true
            }
            Err(state) => state == Self::OPEN,
        }
    }

    /// Whether nothing has left, in which case nothing ever will.
    pub(super) fn revoke(&self) -> bool {
        self.0.compare_exchange(Self::SHUT, Self::REVOKED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Why a body yields nothing.
#[derive(Debug, thiserror::Error)]
#[error("the call was given up before it was sent")]
pub(super) struct Revoked;

/// A request body of known length behind a [`SendGate`]. It cannot be cloned, so an HTTP client cannot send it twice.
#[derive(Debug)]
pub(super) struct Guarded<I> {
    frames: I,
    remaining: usize,
    gate: Arc<SendGate>,
    leaving: Option<Leaving>,
}

impl<I: Iterator<Item = Bytes>> Guarded<I> {
    /// `len` is the length of all frames together; `leaving` is told when the first of them leaves.
    pub(super) fn new(frames: I, len: usize, leaving: Option<Leaving>) -> (Self, Arc<SendGate>) {
        let gate = Arc::new(SendGate::default());
        if len == 0 {
            // The request is complete without its body, which nobody will ask for.
            gate.pass(leaving.as_ref());
        }
        (Self { frames, remaining: len, gate: Arc::clone(&gate), leaving }, gate)
    }
}

impl<I: Iterator<Item = Bytes> + Unpin> http_body::Body for Guarded<I> {
    type Data = Bytes;
    type Error = Revoked;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Revoked>>> {
        let this = self.get_mut();
        if !this.gate.pass(this.leaving.as_ref()) {
            return Poll::Ready(Some(Err(Revoked)));
        }
        Poll::Ready(this.frames.next().map(|data| {
            this.remaining = this.remaining.saturating_sub(data.len());
            Ok(Frame::data(data))
        }))
    }

    // Exact, so that the last data frame ends the request and no empty one follows it.
    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining as u64)
    }
}

/// Makes the exchange of a call within its deadline. Whatever fails while the gate is shut was not sent.
pub(super) async fn guard<T>(
    gate: &SendGate,
    call: &str,
    deadline: Duration,
    endpoint: &str,
    exchange: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(deadline, exchange).await {
        Ok(Err(mut error)) => {
            if matches!(error.failure, CallFailure::Interrupted | CallFailure::Reset) && gate.revoke() {
                error.failure = CallFailure::NotSent;
            }
            Err(error)
        }
        Ok(answer) => answer,
        Err(_) if gate.revoke() => {
            let message = format!("{call} could not be sent to {endpoint} within {deadline:?}");
            Err(CallError::new(CallFailure::NotSent, message))
        }
        Err(_) => {
            let message = format!("{call} got no answer from {endpoint} within {deadline:?}");
            Err(CallError::new(CallFailure::TimedOut, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    fn poll<I>(body: &mut Guarded<I>) -> Poll<Option<Result<Frame<Bytes>, Revoked>>>
    where
        I: Iterator<Item = Bytes> + Unpin,
    {
        Pin::new(body).poll_frame(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn a_revoked_body_yields_nothing_and_a_begun_one_cannot_be_revoked() {
        let piece = || [Bytes::from_static(b"x")].into_iter();
        let (mut body, gate) = Guarded::new(piece(), 1, None);
        assert!(gate.revoke());
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Err(Revoked)))));

        let (mut body, gate) = Guarded::new(piece(), 1, None);
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(_)))));
        assert!(!gate.revoke());
        assert!(matches!(poll(&mut body), Poll::Ready(None)));
    }

    #[test]
    fn a_request_without_a_body_cannot_be_proven_unsent() {
        let (body, gate) = Guarded::new(std::iter::empty(), 0, None);
        assert!(body.is_end_stream());
        assert!(!gate.revoke());
    }

    /// However the call ended, nothing was sent of what had not begun to leave.
    #[tokio::test]
    async fn a_call_that_ends_before_its_body_begins_was_not_sent() {
        for ends in [CallFailure::Interrupted, CallFailure::Reset] {
            for begun in [false, true] {
                let (mut body, gate) = Guarded::new([Bytes::from_static(b"x")].into_iter(), 1, None);
                if begun {
                    assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(_)))));
                }
                let failure = if let CallFailure::Reset = ends { CallFailure::Reset } else { CallFailure::Interrupted };
                let exchange = async { Err::<(), _>(CallError::new(failure, "ended")) };
                let error = guard(&gate, "a call", Duration::from_secs(1), "a node", exchange).await.unwrap_err();
                assert_eq!(matches!(error.failure, CallFailure::NotSent), !begun, "{error:?}");
            }
        }
    }
}
