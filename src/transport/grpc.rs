//! gRPC over tonic's channel, without its codecs: messages arrive here encoded, and leave as they are.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri, header};
use hyper_util::rt::TokioIo;
use tonic::{
    ConnectError,
    client::GrpcService,
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};

use tower_service::Service;

use self::response::Expect;
use super::{Transport, gate::guard, settings::CallLimits};
use crate::{
    http::{
        connect::{Connector, Stream},
        find,
    },
    rpc::{CallError, CallFailure, Capabilities, Encoding, Method, Reflection, RequestBody},
};

mod body;
mod config;
mod ended;
mod response;

pub use self::config::GrpcTransportBuilder;

type Intercept = Arc<dyn Fn(tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> + Send + Sync>;

/// A node reached by gRPC.
///
/// It keeps a few connections, opened by the first calls and reopened after failures, over which calls take turns.
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
    name: String,
    limits: CallLimits,
    headers: HeaderMap,
    intercept: Option<Intercept>,
}

/// A fixed number of channels. tonic's need a runtime when made, so each is made by the first call that uses it.
struct Pool {
    slots: Box<[OnceLock<Channel>]>,
    next: AtomicUsize,
    endpoint: Option<(Endpoint, Dial)>,
}

/// How tonic's channels connect.
#[derive(Clone)]
struct Dial(Connector);

impl Service<Uri> for Dial {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let opening = self.0.clone().open();
        Box::pin(async move { Ok(TokioIo::new(opening.await?)) })
    }
}

impl Pool {
    fn of(channel: Channel) -> Self {
        Self { slots: Box::new([OnceLock::from(channel)]), next: AtomicUsize::new(0), endpoint: None }
    }

    /// The next channel in turn. Must be called on a runtime.
    fn channel(&self) -> Option<Channel> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len().max(1);
        let slot = self.slots.get(turn)?;
        match (slot.get(), &self.endpoint) {
            (Some(channel), _) => Some(channel.clone()),
            (None, Some((endpoint, dial))) => {
                Some(slot.get_or_init(|| endpoint.connect_with_connector_lazy(dial.clone())).clone())
            }
            (None, None) => None,
        }
    }
}

/// What one call differs by from another.
struct Call {
    name: &'static str,
    path: &'static str,
    deadline: Duration,
    expect: Expect,
}

impl GrpcTransport {
    /// Starts the setup of a transport to a node at `http://host:port` or `https://host[:port]`.
    pub fn builder(url: impl Into<String>) -> GrpcTransportBuilder {
        GrpcTransportBuilder::new(url.into())
    }

    /// A transport over a channel of your own, with the default deadlines and limits. `endpoint` only names it in
    /// messages. For other settings: [`GrpcTransportBuilder::build_on`].
    pub fn from_channel(channel: Channel, endpoint: impl Into<String>) -> Self {
        Self {
            pool: Pool::of(channel),
            name: endpoint.into(),
            limits: CallLimits::default(),
            headers: HeaderMap::new(),
            intercept: None,
        }
    }

    fn headers(&self) -> Result<HeaderMap, CallError> {
        let mut headers = self.headers.clone();
        if let Some(intercept) = &self.intercept {
            let request = tonic::Request::from_parts(MetadataMap::from_headers(headers), Default::default(), ());
            let request = intercept(request).map_err(|status| {
                CallError::new(CallFailure::NotSent, "the interceptor refused the call").with_source(status)
            })?;
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
        let not_sent = |message: String| CallError::new(CallFailure::NotSent, message);
        let len = message.len();
        self.limits.admit(len)?;
        let Some(channel) = self.pool.channel() else {
            return Err(not_sent("the transport has no channel".to_owned()));
        };
        let headers = self.headers()?;
        let Some((body, gate)) = body::body(message) else {
            return Err(not_sent(format!("the request has {len} bytes, more than gRPC can carry")));
        };
        let mut request = http::Request::new(tonic::body::Body::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = Uri::from_static(call.path);
        *request.version_mut() = http::Version::HTTP_2;
        *request.headers_mut() = headers;

        let exchange = self.exchange(channel, request, call.expect);
        guard(&gate, call.name, call.deadline, &self.name, exchange).await
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
        if find::<ConnectError>(&error).is_some() {
            let message = format!("could not connect to {}", self.name);
            return CallError::new(CallFailure::NotSent, message).with_source(error);
        }
        ended::broken(error, &self.name)
    }
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
        &self.name
    }

    async fn call(&self, method: Method, message: RequestBody) -> Result<Bytes, CallError> {
        let deadline = self.limits.deadline(method);
        let call = Call { name: method.name(), path: method.grpc_path(), deadline, expect: Expect::One };
        self.send(call, message).await
    }

    /// On the wire the protocol's stream of requests is a call like any other, as long as it holds one. A server may keep
    /// its own stream open after the answer; abandoning it does no harm.
    async fn reflect(&self, protocol: Reflection, request: RequestBody) -> Result<Bytes, CallError> {
        let deadline = self.limits.call_timeout;
        let call = Call { name: "server reflection", path: protocol.grpc_path(), deadline, expect: Expect::First };
        self.send(call, request).await
    }
}

// By hand: header values are not for printing.
impl fmt::Debug for GrpcTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.keys().map(header::HeaderName::as_str).collect();
        f.debug_struct("GrpcTransport")
            .field("endpoint", &self.name)
            .field("limits", &self.limits)
            .field("connections", &self.pool.slots.len())
            .field("headers", &headers)
            .finish_non_exhaustive()
    }
}
