//! How bytes travel. A transport knows no revision and reads no message.

#[cfg(feature = "grpc")]
mod grpc;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

#[cfg(feature = "grpc")]
pub use grpc::{GrpcTransport, GrpcTransportBuilder};

use crate::rpc::{CallError, Capabilities, Encoding, Method, RequestBody};

/// Moves an encoded request to a node and brings the encoded response back.
///
/// An implementation makes one attempt for a call, with a deadline of its own, and never a second one by itself. It is
/// honest about [`CallFailure::NotSent`](crate::rpc::CallFailure::NotSent): the nonce of such a job is used again.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// How messages must be encoded.
    fn encoding(&self) -> Encoding;

    /// The calls that can be made.
    fn capabilities(&self) -> Capabilities;

    /// Where the node is, for errors and logs. Without credentials.
    fn endpoint(&self) -> &str;

    /// Makes a call.
    ///
    /// # Errors
    /// [`CallError`], which says how far the request got.
    async fn call(&self, method: Method, body: RequestBody) -> Result<Bytes, CallError>;
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
}
