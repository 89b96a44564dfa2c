//! gRPC over tonic's channel, without its codecs: messages arrive here encoded, and leave as they are.

use std::{error::Error as StdError, fmt, future::poll_fn, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri, header};
use tonic::{ConnectError, client::GrpcService, metadata::MetadataMap, transport::Channel};

use self::{pool::Pool, response::Expect};
use super::{
    Transport,
    gate::guard,
    peer::{CallAttempt, Peer},
    settings::CallLimits,
};
use crate::{
    http::{find, probe::Struck},
    rpc::{CallError, CallFailure, Capabilities, Encoding, Method, Reflection, RequestBody},
};

mod body;
mod config;
mod details;
mod ended;
mod pool;
mod response;

pub use self::config::GrpcTransportBuilder;

type Intercept = Arc<dyn Fn(tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> + Send + Sync>;

/// A node reached by gRPC.
///
/// It keeps a few connections, opened by the first calls and reopened after failures, over which calls take turns. Each
/// tokio runtime that calls run on has connections of its own, so a transport may outlive runtimes.
/// Large parts of a request go to the socket from the caller's memory. Clone it or put it in an [`Arc`]: clones of an
/// `Arc` share the connections.
///
/// ```
/// use infinityvm_sdk::transport::GrpcTransport;
///
/// let local = GrpcTransport::builder("http://127.0.0.1:50051").build()?;
/// let remote = GrpcTransport::builder("https://node.example.org").header("authorization", "Bearer 123").build()?;
/// # Ok::<(), infinityvm_sdk::error::Error>(())
/// ```
pub struct GrpcTransport {
    pool: Pool,
    peer: Peer,
    limits: CallLimits,
    intercept: Option<Intercept>,
}

/// What one call differs by from another.
struct Call {
    name: &'static str,
    path: &'static str,
    deadline: Duration,
    expect: Expect,
    reads: bool,
}

impl GrpcTransport {
    /// Starts the setup of a transport to a node at `http://host:port` or `https://host[:port]`.
    pub fn builder(url: impl Into<String>) -> GrpcTransportBuilder {
        GrpcTransportBuilder::new(url.into())
    }

    /// A transport over a channel of your own, with the default deadlines and limits. `endpoint` only names it in
    /// messages. The channel works as long as the runtime on which it was made. For other settings:
    /// [`GrpcTransportBuilder::build_on`].
    #[cfg(feature = "tonic")]
    pub fn from_channel(channel: Channel, endpoint: impl Into<String>) -> Self {
        Self {
            pool: Pool::Given(channel),
            peer: Peer::to(endpoint.into()),
            limits: CallLimits::default(),
            intercept: None,
        }
    }

    async fn headers(&self, attempt: &mut CallAttempt, message: &RequestBody) -> Result<HeaderMap, CallError> {
        let mut headers = self.peer.headers(attempt, &self.limits, message.leaving().as_ref()).await?;
        if let Some(intercept) = &self.intercept {
            let request = tonic::Request::from_parts(MetadataMap::from_headers(headers), Default::default(), ());
            let request = intercept(request)
                .map_err(|status| CallError::unprepared("the interceptor refused the call").with_source(status))?;
            headers = request.into_parts().0.into_headers();
        }
        // Last, as an interceptor must not change them.
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        // The body says how long it is. What an interceptor could add would be about another body.
        headers.remove(header::CONTENT_LENGTH);
        // Never a deadline for the server: it would cancel its handler then, and a node whose handler for a submission
        // is cancelled at the wrong moment stops its task for the consumer until it is restarted.
        headers.remove("grpc-timeout");
        Ok(headers)
    }

    /// Sends one message to a path and reads one back, whatever the call is.
    async fn send(&self, call: Call, message: RequestBody) -> Result<Bytes, CallError> {
        self.limits.admit(message.len())?;
        let attempt = |attempt| self.attempt(&call, message.clone(), attempt);
        let answer = self.peer.call(call.deadline, call.reads, attempt).await;
        let struck = |error: &CallError| match error.source().and_then(find::<tonic::transport::Error>) {
            Some(error) if is_connect(error) => Some(Struck::Connecting),
            // What can refuse a stream speaks HTTP/2.
            Some(error) if find::<h2::Error>(error).is_some_and(h2::Error::is_remote) => None,
            Some(_) => Some(Struck::Calling),
            None => None,
        };
        self.peer.explained(answer, call.reads, struck).await
    }

    async fn attempt(&self, call: &Call, message: RequestBody, mut attempt: CallAttempt) -> Result<Bytes, CallError> {
        let headers = self.headers(&mut attempt, &message).await?;
        let not_sent = |message: String| CallError::new(CallFailure::NotSent, message);
        let len = message.len();
        let Some((channel, pace)) = self.pool.channel() else {
            return Err(not_sent("the transport has no channel".to_owned()));
        };
        let Some((body, gate)) = body::body(message) else {
            return Err(not_sent(format!("the request has {len} bytes, more than gRPC can carry")));
        };
        let exchange = async {
            let mut request = http::Request::new(tonic::body::Body::new(body));
            *request.method_mut() = http::Method::POST;
            *request.uri_mut() = Uri::from_static(call.path);
            *request.version_mut() = http::Version::HTTP_2;
            *request.headers_mut() = headers;
            self.exchange(channel, request, call.expect).await
        };
        let answer = guard(&gate, call.name, attempt.deadline, &self.peer.name, exchange).await;
        answer.inspect_err(|error| {
            if let Some(cause) = error.source() {
                self.pool.heed(pace, cause);
            }
        })
    }

    async fn exchange(
        &self,
        mut channel: Channel,
        request: http::Request<tonic::body::Body>,
        expect: Expect,
    ) -> Result<Bytes, CallError> {
        poll_fn(|cx| GrpcService::poll_ready(&mut channel, cx)).await.map_err(|error| self.broken(error))?;
        let response = GrpcService::call(&mut channel, request).await.map_err(|error| self.broken(error))?;
        response::read(response, self.limits, expect).await
    }

    fn broken(&self, error: tonic::transport::Error) -> CallError {
        if is_connect(&error) {
            let message = format!("could not connect to {}", self.peer.name);
            return CallError::new(CallFailure::NotSent, message).with_source(error);
        }
        ended::broken(error, &self.peer.name)
    }
}

/// Whether there was no connection to call over.
fn is_connect(error: &(dyn StdError + 'static)) -> bool {
    find::<ConnectError>(error).is_some()
}

#[async_trait]
impl Transport for GrpcTransport {
    fn encoding(&self) -> Encoding {
        Encoding::Protobuf
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn endpoint(&self) -> &str {
        &self.peer.name
    }

    async fn call(&self, method: Method, message: RequestBody) -> Result<Bytes, CallError> {
        let deadline = self.limits.deadline(method);
        let call = Call {
            name: method.name(),
            path: method.grpc_path(),
            deadline,
            expect: Expect::One,
            reads: method.is_read(),
        };
        self.send(call, message).await
    }

    /// On the wire the protocol's stream of requests is a call like any other, as long as it holds one. A server may
    /// keep its own stream open after the answer; abandoning it does no harm.
    async fn reflect(&self, protocol: Reflection, request: RequestBody) -> Result<Bytes, CallError> {
        let deadline = self.limits.call_timeout;
        let call = Call {
            name: "server reflection",
            path: protocol.grpc_path(),
            deadline,
            expect: Expect::First,
            reads: true,
        };
        self.send(call, request).await
    }
}

// By hand: header values are not for printing.
impl fmt::Debug for GrpcTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.peer.headers.keys().map(header::HeaderName::as_str).collect();
        f.debug_struct("GrpcTransport")
            .field("endpoint", &self.peer.name)
            .field("limits", &self.limits)
            .field("connections", &self.pool.len())
            .field("headers", &headers)
            .finish_non_exhaustive()
    }
}
