//! Calls to a node: one span for each attempt, by OpenTelemetry's conventions, and one event when it ends.

use tokio::time::Instant;
use tracing::{
    Instrument, Level, Span,
    field::{self, Empty},
    span,
};

use super::{TARGET, event::ClientEvent, observer::Observers};
use crate::rpc::{CallError, CallFailure, Encoding, Method, Reflection};

/// The span of one attempt of a call to a server.
macro_rules! call_span {
    ($server:expr, $attempt:expr, $name:expr, $($field:tt)*) => {
        span!(
            target: TARGET,
            Level::DEBUG,
            $name,
            otel.kind = "client",
            server.address = &*$server.address,
            server.port = $server.port,
            infinityvm.attempt = $attempt,
            error.type = Empty,
            otel.status_code = Empty,
            $($field)*
        )
    };
}

macro_rules! grpc {
    ($server:expr, $attempt:expr, $name:literal) => {
        call_span!(
            $server,
            $attempt,
            $name,
            rpc.system.name = "grpc",
            rpc.method = $name,
            rpc.response.status_code = Empty
        )
    };
}

/// The node, as spans of calls name it.
#[derive(Clone)]
pub(crate) struct Server {
    encoding: Encoding,
    address: Box<str>,
    port: Option<u16>,
}

impl Server {
    /// Of an endpoint as a transport names it: scheme, host and port, or anything else.
    pub(crate) fn new(encoding: Encoding, endpoint: &str) -> Self {
        let (scheme, rest) = endpoint.split_once("://").unwrap_or(("", endpoint));
        let authority = rest.split('/').next().unwrap_or(rest);
        let (address, port) = match authority.rsplit_once(':') {
            Some((address, port)) if let Ok(port) = port.parse() => (address, Some(port)),
            _ => (authority, None),
        };
        let usual = match scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        Self { encoding, address: address.trim_matches(['[', ']']).into(), port: port.or(usual) }
    }

    /// The RPC of a chain.
    #[cfg(feature = "chain")]
    pub(crate) fn of_chain(endpoint: &str) -> Self {
        Self::new(Encoding::Json, endpoint)
    }

    /// Asks the server what it serves, in a span of its own.
    pub(crate) async fn reflection<T>(
        &self,
        protocol: Reflection,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        // Not every transport can ask, and those that cannot call nobody.
        if self.encoding != Encoding::Protobuf {
            return call.await;
        }
        let span = match protocol {
            Reflection::V1 => grpc!(self, 1, "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
            Reflection::V1Alpha => grpc!(self, 1, "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
        };
        let answer = call.instrument(span.clone()).await;
        ended(&span, self.encoding, answer.as_ref().err().map(|error| &error.failure));
        answer
    }

    /// The span of one request to a chain's RPC: named by its method, or `chain_request` if it asks several questions
    /// at once.
    #[cfg(feature = "chain")]
    pub(crate) fn chain_request(&self, method: Option<&str>, questions: usize) -> Span {
        macro_rules! request {
            ($name:literal) => {
                span!(
                    target: TARGET,
                    Level::DEBUG,
                    $name,
                    otel.kind = "client",
                    rpc.system.name = "jsonrpc",
                    rpc.method = method,
                    server.address = &*self.address,
                    server.port = self.port,
                    infinityvm.questions = questions,
                    error.type = Empty,
                    otel.status_code = Empty,
                )
            };
        }
        macro_rules! named {
            ($($name:literal)*) => {
                match method {
                    $(Some($name) => request!($name),)*
                    _ => request!("chain_request"),
                }
            };
        }
        // Reads, what a sender asks, and what it sends.
        named!(
            "eth_blobBaseFee" "eth_call" "eth_chainId" "eth_estimateGas" "eth_feeHistory" "eth_gasPrice"
            "eth_getBalance" "eth_getBlockByHash" "eth_getBlockByNumber" "eth_getCode" "eth_getLogs"
            "eth_getTransactionByHash" "eth_getTransactionCount" "eth_getTransactionReceipt"
            "eth_maxPriorityFeePerGas" "eth_sendRawTransaction" "txpool_contentFrom"
        )
    }

    /// The span of one attempt. A span's name is part of the program, so there is one for each method.
    fn span(&self, method: Method, attempt: u32) -> Span {
        macro_rules! rest {
            ($route:literal) => {
                call_span!(
                    self,
                    attempt,
                    concat!("POST ", $route),
                    http.request.method = "POST",
                    url.template = $route,
                    url.full = Empty,
                    http.response.status_code = Empty
                )
            };
        }
        match (self.encoding, method) {
            (Encoding::Protobuf, Method::SubmitJob) => {
                grpc!(self, attempt, "coprocessor_node.v1.CoprocessorNode/SubmitJob")
            }
            (Encoding::Protobuf, Method::GetResult) => {
                grpc!(self, attempt, "coprocessor_node.v1.CoprocessorNode/GetResult")
            }
            (Encoding::Protobuf, Method::SubmitProgram) => {
                grpc!(self, attempt, "coprocessor_node.v1.CoprocessorNode/SubmitProgram")
            }
            (Encoding::Protobuf, Method::GetPendingJobs) => {
                grpc!(self, attempt, "coprocessor_node.v1.CoprocessorNode/GetPendingJobs")
            }
            (Encoding::Protobuf, Method::ContainsProgram) => {
                grpc!(self, attempt, "coprocessor_node.v1.CoprocessorNode/ContainsProgram")
            }
            (Encoding::Json, Method::SubmitJob) => rest!("/v1/coprocessor_node/submit_job"),
            (Encoding::Json, Method::GetResult) => rest!("/v1/coprocessor_node/get_result"),
            (Encoding::Json, Method::SubmitProgram) => rest!("/v1/coprocessor_node/submit_program"),
            // No gateway has them; a transport of a user's may.
            (Encoding::Json, Method::GetPendingJobs) => rest!("/v1/coprocessor_node/get_pending_jobs"),
            (Encoding::Json, Method::ContainsProgram) => rest!("/v1/coprocessor_node/contains_program"),
        }
    }
}

impl Observers {
    /// One attempt of a call begins. It is awaited in the span of what this returns, by whoever calls this.
    pub(crate) fn begin(&self, server: &Server, method: Method, attempt: u32) -> Attempted {
        if attempt > 1 {
            self.tell(ClientEvent::CallRepeated { method, attempt });
        }
        let begun = (!self.is_empty()).then(Instant::now);
        Attempted { span: server.span(method, attempt), encoding: server.encoding, method, begun }
    }

    /// It has ended.
    pub(crate) fn ended<T>(&self, attempted: &Attempted, answer: &Result<T, CallError>) {
        let failure = answer.as_ref().err().map(|error| &error.failure);
        ended(&attempted.span, attempted.encoding, failure);
        if let Some(begun) = attempted.begun {
            self.hear(ClientEvent::CallEnded { method: attempted.method, failure, time: begun.elapsed() });
        }
    }
}

/// One attempt of a call, under way.
pub(crate) struct Attempted {
    span: Span,
    encoding: Encoding,
    method: Method,
    begun: Option<Instant>,
}

impl Attempted {
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }
}

/// Notes on the span of a call how it ended. What is known of the HTTP status comes from the transport.
fn ended(span: &Span, encoding: Encoding, failure: Option<&CallFailure>) {
    if span.is_disabled() {
        return;
    }
    if encoding == Encoding::Protobuf {
        // A call that no server has answered has a status by the client's own account.
        match failure {
            None => span.record("rpc.response.status_code", "OK"),
            Some(CallFailure::Status(code)) => span.record("rpc.response.status_code", field::display(code)),
            Some(CallFailure::TimedOut) => span.record("rpc.response.status_code", "DEADLINE_EXCEEDED"),
            Some(CallFailure::NotSent | CallFailure::Interrupted | CallFailure::Reset) => {
                span.record("rpc.response.status_code", "UNAVAILABLE")
            }
            Some(_) => span,
        };
    }
    let Some(failure) = failure else { return };
    match failure {
        CallFailure::Status(code) => span.record("error.type", field::display(code)),
        CallFailure::Http(status) => span.record("error.type", field::display(status)),
        other => span.record("error.type", failure_name(other)),
    };
    span.record("otel.status_code", "ERROR");
}

/// Notes in the current span, which is that of the call, where it goes: a request for this path at a gateway. Gateways
/// have keys in their URLs, also in what is before the path.
#[cfg(feature = "rest")]
pub(crate) fn http_url(url: &reqwest::Url, path: &str) {
    let span = Span::current();
    let shows = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.path() == path;
    if !span.is_disabled() && shows {
        span.record("url.full", url.as_str());
    }
}

/// Notes in the current span, which is that of the call, with which status an HTTP server has answered.
#[cfg(feature = "rest")]
pub(crate) fn http_status(status: u16) {
    let span = Span::current();
    if !span.is_disabled() {
        span.record("http.response.status_code", status);
    }
}

/// Every word for how a call failed.
#[cfg(feature = "metrics")]
pub(super) const FAILURES: [&str; 9] = [
    "not_sent",
    "misconfigured",
    "request_too_large",
    "refused",
    "interrupted",
    "reset",
    "timed_out",
    "bad_response",
    "response_too_large",
];

/// How a call failed, in a word of snake case.
pub(super) fn failure_name(failure: &CallFailure) -> &'static str {
    match failure {
        CallFailure::NotSent => "not_sent",
        CallFailure::Misconfigured => "misconfigured",
        CallFailure::RequestTooLarge => "request_too_large",
        CallFailure::Status(_) | CallFailure::Http(_) => "refused",
        CallFailure::Interrupted => "interrupted",
        CallFailure::Reset => "reset",
        CallFailure::TimedOut => "timed_out",
        CallFailure::BadResponse => "bad_response",
        CallFailure::ResponseTooLarge => "response_too_large",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_taken_apart() {
        for (endpoint, address, port) in [
            ("http://127.0.0.1:50051", "127.0.0.1", Some(50051)),
            ("https://node.example.org", "node.example.org", Some(443)),
            ("http://[::1]:8080/path", "::1", Some(8080)),
            ("http://node.example.org/", "node.example.org", Some(80)),
            ("a queue", "a queue", None),
            ("queue:jobs", "queue:jobs", None),
        ] {
            let server = Server::new(Encoding::Protobuf, endpoint);
            assert_eq!((&*server.address, server.port), (address, port), "{endpoint}");
        }
    }
}
