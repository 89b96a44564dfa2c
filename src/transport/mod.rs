//! How calls travel: bytes in, bytes out.
//!
//! A [`Transport`] moves encoded messages and knows nothing of their content or of protocol revisions.
//! [`GrpcTransport`] is the one for nodes, [`RestTransport`] the one for their REST gateways; write your own to go
//! through something else (a test double, a queue).

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use crate::rpc::{CallError, CallFailure, Capabilities, Encoding, Method, Reflection, RequestBody, StatusCode};

#[cfg(any(feature = "grpc", feature = "rest"))]
mod answer;
#[cfg(any(feature = "grpc", feature = "rest"))]
mod gate;
#[cfg(feature = "grpc")]
mod grpc;
#[cfg(any(feature = "grpc", feature = "rest"))]
mod peer;
#[cfg(feature = "rest")]
mod rest;
#[cfg(any(feature = "grpc", feature = "rest"))]
mod settings;

#[cfg(any(feature = "grpc", feature = "rest", feature = "chain"))]
pub use crate::http::provider::{HeaderProvider, HeaderRequest};

#[cfg(feature = "grpc")]
pub use self::grpc::{GrpcTransport, GrpcTransportBuilder};
#[cfg(feature = "rest")]
pub use self::rest::{RestTransport, RestTransportBuilder};

/// Moves the bytes of a call to a node and back.
///
/// To write one, annotate the `impl` with `#[async_trait]` of the crate `async-trait`, which makes the methods plain
/// `async fn`s; `examples/custom_transport.rs` is one, and puts itself through the suite of the feature
/// `unstable-conformance`.
///
/// # What an implementation owes its callers
///
/// - [`CallFailure::NotSent`] is a promise that the message cannot have reached a
///   node, now or later. When in doubt the failure is
///   [`Interrupted`](CallFailure::Interrupted).
/// - A call is made at most once: no retries here, they belong to the layer above, which knows what is safe. A call
///   that was refused for want of credentials has not run; it may be made again with others.
/// - Every call ends: by an answer, an error, or a deadline of the transport's own.
/// - Answers are bounded in size, and so are the messages of errors.
/// - Dropping the future of a call abandons it. Callers take care not to do that to a method that
///   [must run to its end](Method::must_run_to_end).
#[async_trait]
pub trait Transport: Send + Sync + fmt::Debug + 'static {
    /// How messages are written on this transport.
    fn encoding(&self) -> Encoding;

    /// The calls this transport can make. It says nothing about what the node at the other end implements.
    fn capabilities(&self) -> Capabilities;

    /// The node this transport talks to, for error messages and logs. It holds no credentials.
    fn endpoint(&self) -> &str;

    /// Sends one request message and returns the one message of the answer.
    ///
    /// # Errors
    ///
    /// [`CallError`] with the way the call failed, as far as the transport can tell.
    async fn call(&self, method: Method, body: RequestBody) -> Result<Bytes, CallError>;

    /// Asks the server what it serves, by gRPC server reflection: sends one request message of the protocol's stream
    /// and returns the first response message. A transport that cannot keeps this default.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call); the default is the status UNIMPLEMENTED.
    async fn reflect(&self, protocol: Reflection, request: RequestBody) -> Result<Bytes, CallError> {
        let _ = (protocol, request);
        let unimplemented = CallFailure::Status(StatusCode::UNIMPLEMENTED);
        Err(CallError::new(unimplemented, "this transport has no server reflection"))
    }
}

#[async_trait]
impl<T: Transport + ?Sized> Transport for Arc<T> {
    fn encoding(&self) -> Encoding {
        (**self).encoding()
    }

    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    fn endpoint(&self) -> &str {
        (**self).endpoint()
    }

    async fn call(&self, method: Method, body: RequestBody) -> Result<Bytes, CallError> {
        (**self).call(method, body).await
    }

    async fn reflect(&self, protocol: Reflection, request: RequestBody) -> Result<Bytes, CallError> {
        (**self).reflect(protocol, request).await
    }
}
