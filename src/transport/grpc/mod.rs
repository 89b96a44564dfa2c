//! gRPC on tonic's `Channel`, without tonic's codecs: encoded pieces go into the HTTP/2 body as they are.

mod body;
mod config;

use std::{
    error::Error as StdError,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode as HttpStatus, Uri, header};
use http_body::Body as _;
use tonic::{body::Body, transport::Channel};
use tower_service::Service as _;

use self::body::{GrpcBody, MessageReader};
pub use self::config::GrpcTransportBuilder;
use super::Transport;
use crate::rpc::{CallError, CallFailure, Capabilities, Encoding, Method, RequestBody, StatusCode};

/// Server messages are cut to this many bytes.
const MAX_STATUS_TEXT: usize = 4096;

type Intercept = Arc<dyn Fn() -> Result<HeaderMap, tonic::Status> + Send + Sync>;

/// Talks gRPC to one node. Made by [`GrpcTransport::builder`], or around a channel of yours by
/// [`GrpcTransport::from_channel`].
///
/// Connections are made when they are first needed, kept, and made again after they broke.
#[derive(Clone)]
pub struct GrpcTransport {
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: String,
    origin: Uri,
    channels: Vec<Channel>,
    next: AtomicUsize,
    headers: HeaderMap,
    intercept: Option<Intercept>,
    call_timeout: Duration,
    submit_timeout: Duration,
    max_request: usize,
    max_response: usize,
}

impl GrpcTransport {
    /// Starts a transport to the node at `url`, such as `http://127.0.0.1:50051` or `https://node.example.org`.
    #[must_use]
    pub fn builder(url: &str) -> GrpcTransportBuilder {
        GrpcTransportBuilder::new(url)
    }

    async fn attempt(&self, method: Method, body: RequestBody) -> Result<Bytes, CallError> {
        let shared = &*self.shared;
        let not_sent = |message: String| CallError::new(CallFailure::NotSent, message);
        if body.len() > shared.max_request {
            return Err(not_sent(format!(
                "the request has {} bytes, over the limit of {} bytes",
                body.len(),
                shared.max_request
            )));
        }
        let body = GrpcBody::new(body).ok_or_else(|| not_sent("the request is over gRPC's limit of 4 GiB".into()))?;
        let request = self.request(method, body)?;

        let turn = shared.next.fetch_add(1, Ordering::Relaxed) % shared.channels.len();
        let mut channel = shared.channels[turn].clone();
        std::future::poll_fn(|context| channel.poll_ready(context)).await.map_err(transport_error)?;
        let response = channel.call(request).await.map_err(transport_error)?;
        read(response, shared.max_response).await
    }

    /// No `grpc-timeout` is sent: a server enforces it by cancelling its handler, and that can kill a node's task for the
    /// consumer. The deadline is kept on this side.
    fn request(&self, method: Method, body: GrpcBody) -> Result<http::Request<Body>, CallError> {
        let shared = &*self.shared;
        let mut uri = shared.origin.clone().into_parts();
        uri.path_and_query = Some(http::uri::PathAndQuery::from_static(method.grpc_path()));
        let uri = Uri::from_parts(uri)
            .map_err(|source| CallError::new(CallFailure::NotSent, "the endpoint is no base for a path").with_source(source))?;
        let mut headers = shared.headers.clone();
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        if let Some(intercept) = &shared.intercept {
            let added = intercept().map_err(|status| {
                CallError::new(CallFailure::NotSent, "the interceptor refused the call").with_source(status)
            })?;
            headers.extend(added);
        }
        let mut request = http::Request::new(Body::new(body));
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
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
        &self.shared.endpoint
    }

    async fn call(&self, method: Method, body: RequestBody) -> Result<Bytes, CallError> {
        let deadline =
            if method.must_run_to_end() { self.shared.submit_timeout } else { self.shared.call_timeout };
        match tokio::time::timeout(deadline, self.attempt(method, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::new(
                CallFailure::TimedOut,
                format!("no answer within {:.3} s", deadline.as_secs_f64()),
            )),
        }
    }
}

impl fmt::Debug for GrpcTransport {
    /// Without headers: they may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcTransport")
            .field("endpoint", &self.shared.endpoint)
            .field("connections", &self.shared.channels.len())
            .finish_non_exhaustive()
    }
}

/// An error of the channel. Only a connection that never came to be proves that nothing was sent.
fn transport_error(error: tonic::transport::Error) -> CallError {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(source) = cause {
        if source.is::<tonic::ConnectError>() {
            return CallError::new(CallFailure::NotSent, "no connection to the node").with_source(error);
        }
        cause = source.source();
    }
    CallError::new(CallFailure::Interrupted, "the connection broke before the answer").with_source(error)
}

async fn read(response: http::Response<Body>, max_response: usize) -> Result<Bytes, CallError> {
    let (head, mut body) = response.into_parts();
    let is_grpc = head
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if head.status != HttpStatus::OK || !is_grpc {
        return Err(not_grpc(head.status, &head.headers));
    }
    if let Some(status) = status(&head.headers) {
        // The whole answer is in the headers, as servers do for errors.
        return match status {
            Ok(()) => Err(CallError::new(CallFailure::Interrupted, "the answer says OK and holds no message")),
            Err(error) => Err(error),
        };
    }
    let mut message = MessageReader::new(max_response);
    let mut outcome = None;
    while let Some(frame) = std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|source| {
            CallError::new(CallFailure::Interrupted, "the connection broke within the answer").with_source(source)
        })?;
        match frame.into_data() {
            Ok(data) => message.push(data)?,
            Err(frame) => outcome = frame.trailers_ref().and_then(status),
        }
    }
    match outcome {
        Some(Ok(())) => message.finish(),
        Some(Err(error)) => Err(error),
        None => Err(CallError::new(CallFailure::Interrupted, "the answer ends without a status")),
    }
}

/// What answers is not a gRPC server: a proxy, a web server, the node's REST gateway.
fn not_grpc(status: HttpStatus, headers: &HeaderMap) -> CallError {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("no content type");
    let message = format!("HTTP {} with {} instead of a gRPC answer", status.as_u16(), crate::job::shorten(kind));
    match status {
        // A proxy that lost the node: the request may have gone through.
        HttpStatus::BAD_GATEWAY | HttpStatus::SERVICE_UNAVAILABLE | HttpStatus::GATEWAY_TIMEOUT => {
            CallError::new(CallFailure::Interrupted, message)
        }
        HttpStatus::UNAUTHORIZED => CallError::new(CallFailure::Status(StatusCode::UNAUTHENTICATED), message),
        HttpStatus::FORBIDDEN => CallError::new(CallFailure::Status(StatusCode::PERMISSION_DENIED), message),
        _ => CallError::new(CallFailure::BadResponse, message),
    }
}

/// The gRPC status among headers or trailers, if there is one.
fn status(headers: &HeaderMap) -> Option<Result<(), CallError>> {
    static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
    let number = headers.get(&GRPC_STATUS)?;
    // tonic reads the percent-encoding; the number is read here, because tonic folds unknown ones into one.
    let code = number.to_str().ok().and_then(|text| text.parse().ok()).map_or(StatusCode::UNKNOWN, StatusCode);
    if code == StatusCode(0) {
        return Some(Ok(()));
    }
    let text = tonic::Status::from_header_map(headers).map(|status| status.message().to_owned()).unwrap_or_default();
    let mut end = text.len().min(MAX_STATUS_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Some(Err(CallError::new(CallFailure::Status(code), &text[..end])))
}
