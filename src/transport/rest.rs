//! JSON over HTTP, as the nodes' REST gateways take it. What reqwest would do of its own accord (retries, redirects,
//! proxies of the environment, decompression) is turned off.

use std::{error::Error as _, fmt};

use async_trait::async_trait;
use bytes::Bytes;
use http::header;
use reqwest::Url;

use super::{
    Transport,
    answer::{bad, broken},
    gate::{Guarded, guard},
    peer::{CallAttempt, Peer},
    settings::CallLimits,
};
use crate::{
    http::{client::Clients, find, probe::Struck},
    observe::http_url,
    rpc::{CallError, CallFailure, Capabilities, Encoding, Method, RequestBody},
};

mod config;
mod response;

pub use self::config::RestTransportBuilder;

/// Messages up to this length, in bytes, travel as one piece.
const COALESCE: usize = 8 * 1024;

/// A message longer than this, in bytes, may be refused by its length before it was read.
const LONG: usize = 64 * 1024;

/// A node reached through its REST gateway.
///
/// The gateway has no GetPendingJobs and no ContainsProgram, and no server reflection. Connections are opened when they
/// are needed and kept for a while: one for all calls where the server speaks HTTP/2, one for each call under way
/// where it speaks HTTP/1.1. They belong to the tokio runtime that the calls run on, so a transport may outlive
/// runtimes. Requests are written out as JSON on their way to the socket, so that the JSON of a large input never
/// exists as a whole.
///
/// ```
/// use infinityvm_sdk::transport::RestTransport;
///
/// let local = RestTransport::builder("http://127.0.0.1:8080").build()?;
/// let remote = RestTransport::builder("https://node.example.org/infinity").header("x-api-key", "123").build()?;
/// # Ok::<(), infinityvm_sdk::error::Error>(())
/// ```
pub struct RestTransport {
    clients: Clients,
    base: Url,
    peer: Peer,
    limits: CallLimits,
}

impl RestTransport {
    /// Starts the setup of a transport to a gateway at `http(s)://host[:port][/path]`. Gateways listen on port 8080
    /// unless told otherwise; a URL without a port means 80 or 443.
    pub fn builder(url: impl Into<String>) -> RestTransportBuilder {
        RestTransportBuilder::new(url.into())
    }

    async fn attempt(
        &self,
        method: Method,
        url: Url,
        message: RequestBody,
        mut attempt: CallAttempt,
    ) -> Result<Bytes, CallError> {
        let (len, leaving) = (message.len(), message.leaving());
        let headers = self.peer.headers(&mut attempt, &self.limits, leaving.as_ref()).await?;
        let (client, pace) = self
            .clients
            .here()
            .map_err(|error| CallError::new(CallFailure::NotSent, "there is no HTTP client").with_source(error))?;
        let (body, gate) = Guarded::new(message.into_chunks(), len, leaving);
        let exchange = async {
            let mut request = reqwest::Request::new(http::Method::POST, url);
            *request.headers_mut() = headers;
            *request.body_mut() = Some(reqwest::Body::wrap(body));
            let response = client.execute(request).await.map_err(|error| self.broken(error))?;
            response::read(response.into(), self.limits).await
        };
        let answer = guard(&gate, method.name(), attempt.deadline, &self.peer.name, exchange).await;
        answer.map_err(|error| {
            if let Some(cause) = error.source() {
                self.clients.heed(pace, cause);
            }
            let cut_short = matches!(error.failure, CallFailure::Interrupted) && len > LONG;
            if cut_short && find(&error).is_some_and(stopped_reading) {
                return error.with_hint(
                    "the connection was closed while the message was sent, as by something before the node that takes smaller \
                     messages only: if that goes on, send less, or raise its limit",
                );
            }
            error
        })
    }

    /// An error before the answer began.
    fn broken(&self, error: reqwest::Error) -> CallError {
        // The endpoint is named already.
        let (connecting, error) = (error.is_connect(), error.without_url());
        if connecting {
            let message = format!("could not connect to {}", self.peer.name);
            return CallError::new(CallFailure::NotSent, message).with_source(error);
        }
        match find::<hyper::Error>(&error) {
            Some(cause) if cause.is_parse_too_large() => {
                let message = "the answer's headers are longer than HTTP clients take";
                CallError::new(CallFailure::ResponseTooLarge, message).with_source(error)
            }
            // A gRPC server, for instance, answers in HTTP/2 whatever it is asked in.
            Some(cause) if cause.is_parse() => bad("what answers does not speak HTTP/1.1").with_source(error),
            _ => broken(error, &self.peer.name),
        }
    }
}

/// Whether the other end closed the connection, and read no more. It may have answered before, as a server does that
/// refuses a long message by its length alone. hyper looks for an answer before it goes on sending, and takes no other
/// look once sending has failed, so what came in between is lost. Where the server reads on for a while, as nginx does,
/// nothing is.
fn stopped_reading(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset)
}

/// Where the gateway takes a method, if it does.
fn route(method: Method) -> Option<&'static str> {
    match method {
        Method::SubmitJob => Some("submit_job"),
        Method::GetResult => Some("get_result"),
        Method::SubmitProgram => Some("submit_program"),
        Method::GetPendingJobs | Method::ContainsProgram => None,
    }
}

#[async_trait]
impl Transport for RestTransport {
    fn encoding(&self) -> Encoding {
        Encoding::Json
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL.without(Method::GetPendingJobs).without(Method::ContainsProgram)
    }

    fn endpoint(&self) -> &str {
        &self.peer.name
    }

    async fn call(&self, method: Method, message: RequestBody) -> Result<Bytes, CallError> {
        let Some(route) = route(method) else {
            return Err(CallError::new(CallFailure::NotSent, format!("the REST gateway has no {method}")));
        };
        let len = message.len();
        self.limits.admit(len)?;
        let mut url = self.base.clone();
        let path = format!("/v1/coprocessor_node/{route}");
        url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
        http_url(&url, &path);
        let leaving = message.leaving();
        let message = if len <= COALESCE { RequestBody::from(message.to_bytes()) } else { message };
        let message = match &leaving {
            Some(leaving) => message.with_leaving(leaving),
            None => message,
        };
        let attempt = |attempt| self.attempt(method, url.clone(), message.clone(), attempt);
        let answer = self.peer.call(self.limits.deadline(method), method.is_read(), attempt).await;
        let struck = |error: &CallError| match error.source().and_then(find::<reqwest::Error>) {
            Some(error) if error.is_connect() && error.is_timeout() => Some(Struck::ConnectingTooLong),
            Some(error) if error.is_connect() => Some(Struck::Connecting),
            Some(error) if !error.is_body() => Some(Struck::Calling),
            _ => None,
        };
        self.peer.explained(answer, method.is_read(), struck).await
    }
}

// By hand: header values, keys and a proxy's credentials are not for printing.
impl fmt::Debug for RestTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.peer.headers.keys().map(header::HeaderName::as_str).collect();
        f.debug_struct("RestTransport")
            .field("endpoint", &self.peer.name)
            .field("limits", &self.limits)
            .field("headers", &headers)
            .finish_non_exhaustive()
    }
}
