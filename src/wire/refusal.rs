//! What a failed call means: gRPC code and message to kind, outcome and advice, for every transport.
//!
//! Nodes answer almost every refusal with INTERNAL and a text, so the text decides. A text that is not known falls into
//! the safe class: the outcome is unknown, and nothing but the identical bytes may be sent.

use alloy_primitives::hex;

use crate::{
    error::{Error, ErrorKind, Outcome},
    job::{PastNonce, ProgramId},
    rpc::{CallError, CallFailure, Method, NO_GRPC, Pushback, StatusCode},
};

/// Whether a call that failed may be made again at once, with the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// It had no effect, and nothing of it is under way.
    Safe,
    /// The node has stored the job and does not run it until it comes again; nothing is under way.
    Stored,
    /// It may have arrived, and may still be under way behind a proxy.
    Doubtful,
    /// The node's handler of the call died, and would again. What it did before that is open.
    Died,
    /// It would fail again, or nobody knows what it would do.
    Never,
}

pub(crate) fn again(method: Method, failure: &CallError) -> Again {
    let Class(_, _, retryable, _) = classify(method, failure);
    if failure.pushback == Pushback::Never {
        return Again::Never;
    }
    match failure.failure {
        CallFailure::NotSent => Again::Safe,
        CallFailure::Status(StatusCode::INTERNAL)
            if method == Method::SubmitJob && failure.message.contains(NONCE_UNREADABLE) =>
        {
            Again::Stored
        }
        // The consumer's task is dead until the node is restarted; or this file kills every handler that reads it.
        _ if handler_died(failure) => match method {
            Method::SubmitJob | Method::SubmitProgram => Again::Died,
            Method::GetPendingJobs => Again::Never,
            Method::GetResult | Method::ContainsProgram => Again::Doubtful,
        },
        _ if retryable => Again::Doubtful,
        _ => Again::Never,
    }
}

/// Whether the node's handler died, and the connection to it lives: by a stream that was reset, or by what a gateway or
/// a proxy says of one. Not where the node had no room for the call.
fn handler_died(failure: &CallError) -> bool {
    let passed_on = match &failure.failure {
        CallFailure::Reset | CallFailure::Status(StatusCode::CANCELLED) => return true,
        CallFailure::Status(code) => {
            matches!(*code, StatusCode::INTERNAL | StatusCode::UNKNOWN | StatusCode::UNAVAILABLE)
        }
        CallFailure::Http(status) => matches!(*status, 500 | 502 | 503),
        _ => false,
    };
    let text = failure.message.to_ascii_lowercase();
    // gRPC in Go, Java and C; Envoy; h2 of Rust.
    let reset = ["rst_stream", "reset reason: remote reset", "h2 protocol error: stream error received"];
    let no_room = ["refused", "enhance_your_calm", "excessive load", "error code 7", "error code 11"];
    passed_on && reset.iter().any(|words| text.contains(words)) && !no_room.iter().any(|words| text.contains(words))
}

const NONCE_TOO_LOW: &str = "nonce is too low for an ordered job";
const NONCE_UNREADABLE: &str = "could not read the nonce from the consumer contract";

/// The refusals that a client acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The node has a job under this nonce: this one, or another.
    NonceInUse,
    /// The node's Ordered lane is past the nonce.
    NonceTooLow,
    /// The node's own program store has the program.
    ProgramExists,
    /// Anything else.
    Other,
}

impl Refusal {
    pub(crate) fn of(error: &CallError) -> Self {
        let CallFailure::Status(code) = error.failure else { return Self::Other };
        let text = error.message.as_str();
        match code {
            StatusCode::INTERNAL if text.contains("job already exists") => Self::NonceInUse,
            StatusCode::INTERNAL if text.contains("job has already been executed and relayed") => Self::NonceInUse,
            StatusCode::INTERNAL if text.contains(NONCE_TOO_LOW) => Self::NonceTooLow,
            StatusCode::INTERNAL if program_exists(text) => Self::ProgramExists,
            _ => Self::Other,
        }
    }
}

/// What stands before the id of a program that the node has already, in the words of either revision.
const PROGRAM_NAMES: [&str; 2] = ["elf with program ID ", "elf with verifying key "];

fn program_exists(text: &str) -> bool {
    PROGRAM_NAMES.iter().any(|name| text.contains(name)) && text.contains("already exists")
}

/// The id of the program that the node says it has already. In hex, which the State revision puts in quotes.
///
/// Nothing where it cannot be read for certain: then the text proves nothing about any program.
pub(crate) fn existing_program(failure: &CallError) -> Option<ProgramId> {
    if Refusal::of(failure) != Refusal::ProgramExists {
        return None;
    }
    let text = failure.message.as_str();
    // The State revision says all of it twice, and the id once.
    let rest = PROGRAM_NAMES.iter().find_map(|name| Some(text.rsplit_once(name)?.1))?;
    let (id, rest) = rest.split_once(' ')?;
    let id = id.strip_prefix('"').and_then(|id| id.strip_suffix('"')).unwrap_or(id);
    let id = hex::decode(id).ok().filter(|id| !id.is_empty())?;
    rest.starts_with("already exists").then(|| ProgramId::new(id))
}

/// A class of failure: kind, outcome, whether to try again, advice.
struct Class(ErrorKind, Outcome, bool, &'static str);

const NOT_A_NODE: &str = "what answers at this endpoint is not a coprocessor node over this transport: check the address and any \
     proxy; a node's gRPC server (usually port 50051) and its REST gateway (8080) are two addresses";
pub(crate) const SUBMIT_AGAIN: &str = "send the same signed job again with Client::submit_signed, which looks it up first (it is in \
     Client::unresolved); Client::submit would make another job";
const CREDENTIALS: &str = "set the credentials that the node or its proxy wants on the transport";

/// Turns a transport's failure into the crate's error.
pub(crate) fn error(method: Method, failure: CallError, endpoint: &str) -> Error {
    let too_low = Refusal::of(&failure) == Refusal::NonceTooLow;
    let error = describe(method.name(), classify(method, &failure), failure, endpoint);
    if too_low { error.with_detail(PastNonce) } else { error }
}

/// Whether a failed submission says that the node does not take this very job. What is about every call alike, such as
/// credentials that have expired or a message that the gateway cannot read, says nothing of the job.
#[cfg(feature = "outbox")]
pub(crate) fn is_of_the_job(error: &Error) -> bool {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let failure = causes.filter_map(|cause| cause.downcast_ref::<CallError>()).next();
    failure.is_none_or(|failure| match failure.failure {
        CallFailure::Status(code) => !matches!(code, StatusCode::UNAUTHENTICATED | StatusCode::PERMISSION_DENIED),
        // Something before the gateway takes smaller messages only.
        CallFailure::Http(status) => status == 413,
        _ => false,
    })
}

/// The same for asking a node what it serves, which is a read like others.
pub(crate) fn of_reflection(failure: CallError, endpoint: &str) -> Error {
    describe("server reflection", classify(Method::ContainsProgram, &failure), failure, endpoint)
}

fn describe(call: &str, class: Class, failure: CallError, endpoint: &str) -> Error {
    let Class(kind, outcome, retryable, hint) = class;
    let message = match failure.failure {
        // What to change is all there is to say.
        CallFailure::Misconfigured => failure.message.clone(),
        CallFailure::NotSent if failure.unprepared => failure.message.clone(),
        _ => format!("{call} failed"),
    };
    let error = Error::new(kind, message).with_outcome(outcome).with_endpoint(endpoint);
    let error = match &failure.hint {
        Some(explained) => error.with_hint(format!("{explained}; {hint}")),
        None => error.with_hint(hint),
    };
    let error = match failure.pushback {
        Pushback::After(pause) => error.with_retryable(retryable).with_retry_after(pause),
        Pushback::Never => error,
        Pushback::Unsaid => error.with_retryable(retryable),
    };
    error.with_source(failure)
}

fn classify(method: Method, failure: &CallError) -> Class {
    if handler_died(failure) {
        return died(method);
    }
    match &failure.failure {
        CallFailure::NotSent if failure.unprepared => Class(
            ErrorKind::Unavailable,
            Outcome::NotSent,
            true,
            "nothing was sent, and the node was not asked: see to what the transport takes its headers from",
        ),
        CallFailure::NotSent => Class(
            ErrorKind::Unavailable,
            Outcome::NotSent,
            true,
            "nothing was sent: check that the node runs at this address and that TLS is set up as it expects",
        ),
        CallFailure::Misconfigured => Class(
            ErrorKind::InvalidConfig,
            Outcome::NotSent,
            false,
            "set the transport up as the message says: nothing has run, and nothing would",
        ),
        CallFailure::RequestTooLarge => {
            Class(ErrorKind::TooLarge, Outcome::NotSent, false, "send less, or raise the transport's request limit")
        }
        CallFailure::Http(status) => http(method, *status, &failure.message),
        CallFailure::Interrupted => Class(ErrorKind::Unavailable, Outcome::Unknown, true, may_have_arrived(method)),
        CallFailure::Reset => died(method),
        CallFailure::TimedOut => Class(ErrorKind::CallTimeout, Outcome::Unknown, true, may_have_arrived(method)),
        CallFailure::BadResponse => Class(ErrorKind::BadResponse, Outcome::Unknown, false, NOT_A_NODE),
        CallFailure::ResponseTooLarge => Class(
            ErrorKind::TooLarge,
            Outcome::Unknown,
            false,
            "raise the transport's response limit if the answer is expected to be this large",
        ),
        CallFailure::Status(code) => status(method, *code, &failure.message),
    }
}

/// What to do about a call that may have arrived. Only jobs can be looked up.
fn may_have_arrived(method: Method) -> &'static str {
    match method {
        Method::SubmitJob => SUBMIT_AGAIN,
        Method::SubmitProgram => "the program may have arrived: uploading the same bytes again does no harm",
        _ => "the call only reads: make it again; it says nothing of what became of a job",
    }
}

/// The node ended the call without an answer, over gRPC by a reset stream; a gateway says CANCELLED of it.
fn died(method: Method) -> Class {
    match method {
        Method::SubmitJob => Class(
            ErrorKind::Unavailable,
            Outcome::Unknown,
            true,
            "the node's task for this consumer has died, and answers again after a restart of the node. Until then the job does not \
             run, even if its record is there. Then send the same signed job again with Client::submit_signed (it is in \
             Client::unresolved)",
        ),
        Method::GetPendingJobs => Class(
            ErrorKind::Unavailable,
            Outcome::Unknown,
            true,
            "the node's task for this consumer has died; it answers again after a restart of the node",
        ),
        Method::SubmitProgram => Class(
            ErrorKind::Rejected,
            Outcome::Unknown,
            false,
            "the node's handler died of this file, and would die of it again: it is not an ELF file that the node's virtual machine \
             reads, or it is for another virtual machine",
        ),
        // Not of the node's: a server that is shutting down, or a proxy.
        Method::GetResult | Method::ContainsProgram => {
            Class(ErrorKind::Unavailable, Outcome::Unknown, true, may_have_arrived(method))
        }
    }
}

/// A whole answer without a gRPC status: by the gateway itself, which has not asked its node then, or by something
/// between here and there, which may have. Only what certainly means that nothing has run says so.
fn http(method: Method, status: u16, text: &str) -> Class {
    use ErrorKind as K;
    use Outcome as O;
    match status {
        422 if text.starts_with("Failed to deserialize the JSON body") => {
            let missing = |field: &str| text.contains(&format!("missing field `{field}`"));
            let other_revision = match method {
                Method::SubmitJob => missing("state") || missing("relayStrategy"),
                Method::SubmitProgram => missing("programId"),
                _ => false,
            };
            if other_revision {
                let hint = "the gateway asks for a field of the other revision: make a client with that one, and sign the job with it";
                return Class(K::WrongRevision, O::Rejected, false, hint);
            }
            Class(K::Rejected, O::Rejected, false, "the gateway names what it does not accept")
        }
        400 if text.starts_with("Failed to parse the request body as JSON") => {
            let hint = "the gateway could not read the message: something on the way changes what is sent";
            Class(K::Rejected, O::Rejected, false, hint)
        }
        // The message broke off on its way; the gateway has not asked its node.
        400 if text.starts_with("Failed to buffer the request body") => {
            Class(K::Unavailable, O::Unknown, true, may_have_arrived(method))
        }
        415 if text.starts_with("Expected request with") => {
            let hint = "the gateway wants the content type application/json: something on the way takes it off";
            Class(K::Rejected, O::Rejected, false, hint)
        }
        // By the gRPC transport. A gateway answers so, for one.
        404 | 405 if text.starts_with(NO_GRPC) => Class(K::BadResponse, O::Unknown, false, NOT_A_NODE),
        // Every gateway has the routes of the others.
        404 | 405 if matches!(method, Method::GetPendingJobs | Method::ContainsProgram) => {
            let outcome = if text.is_empty() { O::Rejected } else { O::Unknown };
            Class(K::Unsupported, outcome, false, "gateways do not have this call: use the gRPC transport")
        }
        // Without a body, as the gateway's own router answers: at another path, or another kind of server.
        404 | 405 if text.is_empty() => {
            let hint = "there is no gateway at this address: check the URL and its path";
            Class(K::BadResponse, O::Rejected, false, hint)
        }
        // Both come before anything else is done with a request. A 403 may also be about an answer.
        401 | 407 => Class(K::Rejected, O::Rejected, false, CREDENTIALS),
        403 => Class(K::Rejected, O::Unknown, false, CREDENTIALS),
        413 => {
            let hint = "something before the node takes smaller messages only: send less, or raise its limit";
            Class(K::TooLarge, O::Rejected, false, hint)
        }
        300..=399 => {
            let hint = "redirects are not followed: give the transport the address that this one leads to";
            Class(K::BadResponse, O::Unknown, false, hint)
        }
        501 | 505 | 511 => Class(K::BadResponse, O::Unknown, false, NOT_A_NODE),
        // Overloaded, or cut off from the node, perhaps after the request got through.
        408 | 425 | 429 | 500..=599 => Class(K::Unavailable, O::Unknown, true, may_have_arrived(method)),
        _ => Class(K::BadResponse, O::Unknown, false, NOT_A_NODE),
    }
}

/// What tonic, with which gateways ask, says of a connection that broke.
const BROKEN: [&str; 3] = ["transport error", "h2 protocol error", "error reading a body from connection"];

fn status(method: Method, code: StatusCode, text: &str) -> Class {
    use ErrorKind as K;
    use Outcome as O;
    let has = |part: &str| text.contains(part);
    match code {
        // This crate encodes canonically and hashes what it sends, so to a node of the client's revision both would be
        // right.
        StatusCode::INVALID_ARGUMENT
            if method == Method::SubmitJob
                && (has("invalid ABI-encoding of job request") || has("state hash does not match")) =>
        {
            Class(
                K::WrongRevision,
                O::Rejected,
                false,
                "check which revision the node speaks: it read the job as another",
            )
        }
        StatusCode::INVALID_ARGUMENT if method == Method::SubmitJob => {
            Class(K::Rejected, O::Rejected, false, "the node names the field; build the job with this crate's builder")
        }
        StatusCode::INVALID_ARGUMENT => {
            Class(K::Rejected, O::Rejected, false, "the node names what it does not accept")
        }
        // Not "rejected": a node that lost its database may have run and relayed the job before.
        StatusCode::NOT_FOUND if method == Method::GetResult => Class(
            K::NotFound,
            O::Unknown,
            false,
            "the node does not know the job: it was never accepted, or the node lost its database; submit the same signed job",
        ),
        StatusCode::UNIMPLEMENTED => {
            Class(K::Unsupported, O::Rejected, false, "the node is older than this call, or speaks the other revision")
        }
        StatusCode::UNAUTHENTICATED => Class(K::Rejected, O::Rejected, false, CREDENTIALS),
        // Not of the node's. As 403: a proxy may also say it of an answer.
        StatusCode::PERMISSION_DENIED => Class(K::Rejected, O::Unknown, false, CREDENTIALS),
        // A gateway passes answers on by the same gRPC, with the same limit.
        StatusCode::OUT_OF_RANGE if method.is_read() && has("message length too large") => Class(
            K::TooLarge,
            O::Unknown,
            false,
            "the answer is larger than the gateway can pass on: ask the node itself, over gRPC",
        ),
        StatusCode::OUT_OF_RANGE if has("message length too large") => Class(
            K::TooLarge,
            O::Rejected,
            false,
            "the node takes smaller messages than Limits::max_message says; split the inputs and lower the limit",
        ),
        // gRPC in Go, with which gateways are written, of what comes in and of what goes out.
        StatusCode::RESOURCE_EXHAUSTED if has("message larger than max") => Class(
            K::TooLarge,
            O::Unknown,
            false,
            "something before the node takes smaller messages only: send less, or raise its limit",
        ),
        StatusCode::UNAVAILABLE | StatusCode::RESOURCE_EXHAUSTED | StatusCode::ABORTED => Class(
            K::Unavailable,
            O::Unknown,
            true,
            match method {
                Method::SubmitJob => SUBMIT_AGAIN,
                _ => "the node, or a proxy before it, is overloaded or down; try again later",
            },
        ),
        // The gateway's connection to its node.
        StatusCode::UNKNOWN | StatusCode::INTERNAL if BROKEN.iter().any(|words| has(words)) => {
            Class(K::Unavailable, O::Unknown, true, may_have_arrived(method))
        }
        StatusCode::DEADLINE_EXCEEDED => Class(K::CallTimeout, O::Unknown, true, may_have_arrived(method)),
        StatusCode::INTERNAL if has("job has already been executed and relayed") || has("job already exists") => Class(
            K::NonceTaken,
            O::Unknown,
            false,
            "the nonce is in use: compare the node's record with this job; if they differ, use another nonce",
        ),
        StatusCode::INTERNAL if has(NONCE_TOO_LOW) => Class(
            K::Nonce,
            // The relayed record can be lost in a crash: then the node refuses a job that has run.
            O::Unknown,
            false,
            "the consumer's next nonce is higher: this job may be complete on chain already, or another took its place; \
             look on chain before using another nonce",
        ),
        StatusCode::INTERNAL if has("offchain input over max DA per job") => Class(
            K::TooLarge,
            O::Rejected,
            false,
            "send less offchain input, and set Limits::with_max_da to the node's limit",
        ),
        StatusCode::INTERNAL if has(NONCE_UNREADABLE) => Class(
            K::Unavailable,
            O::Unknown,
            true,
            "the node stored the job but does not run it: check that the consumer is a deployed contract and that the \
             node's chain RPC works, then submit the same signed job again",
        ),
        StatusCode::INTERNAL if has("given program ID does not match derived program ID") => {
            Class(K::Rejected, O::Rejected, false, "the ELF is another program than its id says; rebuild one of them")
        }
        StatusCode::INTERNAL if has("invalid VM type") => {
            Class(K::Rejected, O::Rejected, false, "the node cannot run programs of this virtual machine")
        }
        StatusCode::INTERNAL if program_exists(text) => Class(
            K::Rejected,
            O::Rejected,
            false,
            "the node has a program under the id that it names. If that is the id of this file, nothing is left to do; \
             ProgramUpload::with_id has the client compare them",
        ),
        StatusCode::INTERNAL if has("failed to create ELF") => {
            Class(K::Rejected, O::Rejected, false, "the node cannot read the file: it names what is wrong with it")
        }
        StatusCode::INTERNAL if has("failed to decode Protobuf message") => Class(
            K::WrongRevision,
            O::Unknown,
            false,
            "the node could not read the message: check which revision it speaks",
        ),
        _ => Class(
            K::Rejected,
            O::Unknown,
            false,
            match method {
                Method::SubmitJob => {
                    "the node's answer is not one this release knows: look the job up, and send only the same signed job \
                     (Client::submit_signed)"
                }
                _ => "the node's answer is not one this release knows; see the cause for its text",
            },
        ),
    }
}
