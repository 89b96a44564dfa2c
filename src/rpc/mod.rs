//! The vocabulary of both axes: what is called, how it is encoded, what moves, and how a call can end.
//!
//! [`wire`](crate::wire) turns values into a [`RequestBody`] and response bytes into values; a
//! [`Transport`](crate::transport::Transport) moves the bytes. Neither knows the other; both know this module.

use std::{error::Error as StdError, fmt, time::Duration};

mod body;
mod leaving;

pub use self::body::{Chunks, RequestBody};
pub(crate) use self::leaving::Leaving;

/// How the gRPC transport begins to say that something else answers there than a gRPC server.
pub(crate) const NO_GRPC: &str = "not an answer of a gRPC server";

/// The calls of `coprocessor_node.v1.CoprocessorNode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// Submits a signed job.
    SubmitJob,
    /// Reads a job's record.
    GetResult,
    /// Uploads a program.
    SubmitProgram,
    /// Lists the nonces of a consumer that the node is working on (Relay revision, v0.2.1 and later).
    GetPendingJobs,
    /// Asks whether a program is known (Relay revision, v0.2.2 and later).
    ContainsProgram,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 5] =
        [Self::SubmitJob, Self::GetResult, Self::SubmitProgram, Self::GetPendingJobs, Self::ContainsProgram];

    /// The method's name in the protobuf service.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SubmitJob => "SubmitJob",
            Self::GetResult => "GetResult",
            Self::SubmitProgram => "SubmitProgram",
            Self::GetPendingJobs => "GetPendingJobs",
            Self::ContainsProgram => "ContainsProgram",
        }
    }

    /// The HTTP/2 path of the method in gRPC.
    #[must_use]
    pub fn grpc_path(self) -> &'static str {
        match self {
            Self::SubmitJob => "/coprocessor_node.v1.CoprocessorNode/SubmitJob",
            Self::GetResult => "/coprocessor_node.v1.CoprocessorNode/GetResult",
            Self::SubmitProgram => "/coprocessor_node.v1.CoprocessorNode/SubmitProgram",
            Self::GetPendingJobs => "/coprocessor_node.v1.CoprocessorNode/GetPendingJobs",
            Self::ContainsProgram => "/coprocessor_node.v1.CoprocessorNode/ContainsProgram",
        }
    }

    /// Whether the call only reads, so that repeating it changes nothing.
    #[must_use]
    pub fn is_read(self) -> bool {
        matches!(self, Self::GetResult | Self::GetPendingJobs | Self::ContainsProgram)
    }

    /// Whether abandoning the call can hurt the node. SubmitJob and GetPendingJobs go through the node's task for the
    /// consumer. That task dies if a caller goes away at the wrong moment, and then every later call for the consumer
    /// fails. So these calls run to their end even if nobody waits for them.
    #[must_use]
    pub fn must_run_to_end(self) -> bool {
        matches!(self, Self::SubmitJob | Self::GetPendingJobs)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The protocols of gRPC server reflection, by which a node says what it serves. Both have the same messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reflection {
    /// `grpc.reflection.v1`.
    V1,
    /// `grpc.reflection.v1alpha`, which older servers have.
    V1Alpha,
}

impl Reflection {
    /// The HTTP/2 path of the call in gRPC.
    #[must_use]
    pub fn grpc_path(self) -> &'static str {
        match self {
            Self::V1 => "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            Self::V1Alpha => "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        }
    }
}

/// How messages are written on a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// Protobuf, as in gRPC.
    Protobuf,
    /// JSON, as the nodes' REST gateways take it.
    Json,
}

/// The calls a transport can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Capabilities(u8);

impl Capabilities {
    /// No call at all.
    pub const NONE: Self = Self(0);
    /// Every call there is.
    pub const ALL: Self = Self(0b1_1111);

    /// Adds a call.
    #[must_use]
    pub const fn with(self, method: Method) -> Self {
        Self(self.0 | 1 << method as u8)
    }

    /// Removes a call.
    #[must_use]
    pub const fn without(self, method: Method) -> Self {
        Self(self.0 & !(1 << method as u8))
    }

    /// Whether the call can be made.
    #[must_use]
    pub const fn contains(self, method: Method) -> bool {
        self.0 & (1 << method as u8) != 0
    }
}

/// A gRPC status code, by the numbers of the gRPC specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatusCode(pub u32);

#[allow(missing_docs, reason = "the names are those of the gRPC specification")]
impl StatusCode {
    pub const CANCELLED: Self = Self(1);
    pub const UNKNOWN: Self = Self(2);
    pub const INVALID_ARGUMENT: Self = Self(3);
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    pub const NOT_FOUND: Self = Self(5);
    pub const ALREADY_EXISTS: Self = Self(6);
    pub const PERMISSION_DENIED: Self = Self(7);
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    pub const FAILED_PRECONDITION: Self = Self(9);
    pub const ABORTED: Self = Self(10);
    pub const OUT_OF_RANGE: Self = Self(11);
    pub const UNIMPLEMENTED: Self = Self(12);
    pub const INTERNAL: Self = Self(13);
    pub const UNAVAILABLE: Self = Self(14);
    pub const DATA_LOSS: Self = Self(15);
    pub const UNAUTHENTICATED: Self = Self(16);
}

impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 17] = [
            "OK",
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        ];
        match NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "code {}", self.0),
        }
    }
}

/// How a call failed, as far as the transport knows.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallFailure {
    /// No byte of the request left this process: there was no connection, the name was not found, or a local rule
    /// forbade it.
    NotSent,
    /// The transport is set up in a way that cannot work: what answers at the address speaks another protocol, such as
    /// plain text where TLS was wanted, or there are no credentials to call with. The request has not run, and would
    /// fail again. The message says what to change.
    Misconfigured,
    /// The request is larger than the transport's own limit. No byte of it was sent.
    RequestTooLarge,
    /// The server answered with a status other than OK.
    Status(StatusCode),
    /// The server, or a proxy before it, answered with this HTTP status, and the answer holds no gRPC status. So
    /// answers a gateway that refuses by itself, and a proxy that sends an error page. The answer was whole, so the
    /// request is no longer on its way.
    Http(u16),
    /// The request may have been delivered, but no whole answer came back.
    Interrupted,
    /// The server ended this call without a whole answer, and the connection lives: in HTTP/2 it reset the stream. So a
    /// server does whose handler died. The request may have been delivered. A gateway answers `Status(CANCELLED)` then.
    Reset,
    /// The deadline of the call passed. The request may have been delivered.
    TimedOut,
    /// An answer came, but not one of this protocol.
    BadResponse,
    /// The answer, or one of its parts, is larger than the configured limit.
    ResponseTooLarge,
}

/// What a server that refuses a call asks for, as to the next attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pushback {
    /// Nothing.
    #[default]
    Unsaid,
    /// To be left alone for so long: `Retry-After` of HTTP, `grpc-retry-pushback-ms` or `google.rpc.RetryInfo` of gRPC,
    /// or the end of a rate limit's window.
    After(Duration),
    /// No other attempt at all: a negative `grpc-retry-pushback-ms`, or one that cannot be read.
    Never,
}

/// Why a call failed: what a [`Transport`](crate::transport::Transport) reports.
#[derive(Debug)]
#[non_exhaustive]
pub struct CallError {
    /// How the call failed.
    pub failure: CallFailure,
    /// The server's message, or a description; bounded in length by the transport.
    pub message: String,
    /// What the server asks for, as to another attempt.
    pub pushback: Pushback,
    /// What may explain the failure, with what to change then. It changes nothing of what the failure says.
    pub(crate) hint: Option<String>,
    /// Nothing was tried: it failed here, for want of headers. So it says nothing of the way to the node.
    pub(crate) unprepared: bool,
    /// The cause.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl CallError {
    /// A failure without a further cause.
    #[must_use]
    pub fn new(failure: CallFailure, message: impl Into<String>) -> Self {
        let (message, pushback) = (message.into(), Pushback::Unsaid);
        Self { failure, message, pushback, hint: None, unprepared: false, source: None }
    }

    /// Adds what the server asks for, as to another attempt.
    #[must_use]
    pub fn with_pushback(mut self, pushback: Pushback) -> Self {
        self.pushback = pushback;
        self
    }

    /// Adds what may explain the failure.
    #[cfg(any(feature = "grpc", feature = "rest"))]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A call that was not begun, for want of headers.
    #[cfg(any(feature = "grpc", feature = "rest", feature = "client"))]
    pub(crate) fn unprepared(message: impl Into<String>) -> Self {
        Self { unprepared: true, ..Self::new(CallFailure::NotSent, message) }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failure {
            CallFailure::Status(code) => write!(f, "{code}: {}", self.message),
            CallFailure::Http(status) if self.message.is_empty() => write!(f, "HTTP status {status}"),
            CallFailure::Http(status) => write!(f, "HTTP status {status}: {}", self.message),
            _ => f.write_str(&self.message),
        }
    }
}

impl StdError for CallError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
