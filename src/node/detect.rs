//! Which revision the node speaks, asked of the node itself by gRPC server reflection.
//!
//! Where the revision was left out, this decides it; where it was given, it is checked before the first job leaves: a
//! job of one revision can run on a node of the other, and never be relayed.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;
use tracing::{Instrument, Span};

use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    job::Revision,
    observe::Server,
    retry::{Party, Retries},
    rpc::{CallError, CallFailure, Method, Reflection, StatusCode},
    runtime::Joint,
    sync::Lock,
    transport::Transport,
    wire::{
        reflection::{self, Descriptors, NodeDescription, Symbol},
        refusal,
    },
};

/// How long a submission waits for the node to say its revision before it goes on without.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// How often in a row the question may get no answer in that time, or one of something else than a node, before the
/// node counts as one that does not say.
const MAX_FAILURES: u32 = 2;

/// What a node is: what the client was told, and what the node says of itself.
pub(super) struct Identity(Arc<Questioned>);

struct Questioned {
    transport: Arc<dyn Transport>,
    told: Revision,
    /// What the node said of itself, once it has given an answer that will stay.
    said: OnceLock<Said>,
    asking: Lock<Option<Asking>>,
    failures: AtomicU32,
}

/// A question under way, which all callers on its runtime share; and why there cannot be one.
struct Asking {
    end: Joint<Option<Error>>,
    begun: Instant,
}

enum Said {
    Description(NodeDescription),
    /// Something that is neither revision.
    Neither(Error),
    /// It does not say.
    Nothing,
}

impl Identity {
    pub(super) fn new(transport: Arc<dyn Transport>, told: Revision, said: Option<NodeDescription>) -> Self {
        let said = said.map_or_else(OnceLock::new, |node| Said::Description(node).into());
        Self(Arc::new(Questioned { transport, told, said, asking: Lock::default(), failures: AtomicU32::new(0) }))
    }

    /// Notes that a call got no answer: then the node's silence says nothing of the node.
    pub(super) fn after(&self, failure: &CallFailure) {
        if matches!(
            failure,
            CallFailure::NotSent | CallFailure::Interrupted | CallFailure::Reset | CallFailure::TimedOut
        ) {
            self.0.failures.store(0, Relaxed);
        }
    }

    /// Refuses a call that the node is known to lack.
    pub(super) fn require(&self, method: Method) -> Result<()> {
        match self.0.said.get() {
            Some(Said::Description(node)) if !node.methods.contains(method) => {
                Err(Error::new(ErrorKind::Unsupported, format!("the node says that it has no {method}"))
                    .with_hint("it is older than this call, or speaks the other revision; after an update of the node make a new client"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses to submit to a node that says it speaks another revision than the client. A node that does not say is
    /// trusted to be what the client was told; one that cannot be asked now is asked again before the next submission.
    pub(super) async fn check(&self) -> Result<()> {
        let Questioned { transport, told, said, failures, .. } = &*self.0;
        if said.get().is_none() && failures.load(Relaxed) < MAX_FAILURES {
            // It ends by itself.
            let asked = tokio::time::timeout(CHECK_TIMEOUT, self.0.asking().outcome()).await;
            // A submission would fail like the question, and could not be told from one that has arrived.
            if let Ok(Some(Some(error))) = asked {
                return Err(error);
            }
        }
        match said.get() {
            Some(Said::Description(node)) if node.revision != *told => Err(Error::new(
                ErrorKind::WrongRevision,
                format!("the node speaks the {} revision, the client was told {told}", node.revision),
            )
            .with_endpoint(transport.endpoint())
            .with_hint(
                "make a client with the node's revision, or without ClientBuilder::revision, and sign the job with that one",
            )),
            Some(Said::Neither(error)) => Err(error.clone()),
            Some(Said::Description(_) | Said::Nothing) | None => Ok(()),
        }
    }
}

impl Questioned {
    /// The question under way, or a new one: in a task of its own, as the time of whoever began it may be over sooner.
    fn asking(self: &Arc<Self>) -> Joint<Option<Error>> {
        let span = Span::current();
        let mut asking = self.asking.lock();
        let under_way = |it: &&Asking| it.end.is_running() && it.end.is_here() && it.begun.elapsed() <= CHECK_TIMEOUT;
        match asking.as_ref().filter(|it| under_way(it) || self.said.get().is_some()) {
            Some(Asking { end, .. }) => end.clone(),
            None => {
                let (teller, end) = Joint::new();
                *asking = Some(Asking { end: end.clone(), begun: Instant::now() });
                let questioned = Arc::clone(self);
                let ask = async move { teller.tell(questioned.ask().await) };
                tokio::spawn(ask.instrument(span));
                end
            }
        }
    }

    /// Asks, and says why that cannot be, if it cannot.
    async fn ask(&self) -> Option<Error> {
        let answer = tokio::time::timeout(CHECK_TIMEOUT, ask(&*self.transport)).await;
        let page =
            |unclear: &Unclear| matches!(unclear, Unclear::Silent(error) if error.kind() == ErrorKind::BadResponse);
        let failed = answer.as_ref().map_or(true, |answer| answer.as_ref().is_err_and(page));
        let failures = if failed { self.failures.load(Relaxed).saturating_add(1) } else { 0 };
        self.failures.store(failures, Relaxed);
        let said = match answer {
            Ok(Ok(node)) => Said::Description(node),
            Ok(Err(Unclear::Neither(error))) => Said::Neither(error),
            Ok(Err(Unclear::Silent(_))) if !failed => Said::Nothing,
            // Not an answer that would stay: a proxy's page may be about an outage.
            Ok(Err(Unclear::Silent(_) | Unclear::Unreachable(_) | Unclear::Unprepared(_))) | Err(_) => return None,
            Ok(Err(Unclear::Misconfigured(error))) => return Some(error),
        };
        // Another question may have been faster.
        _ = self.said.set(said);
        None
    }
}

/// Why the question has no usable answer. The errors are about the question alone, so nothing was sent.
enum Unclear {
    /// The node describes something that is neither revision.
    Neither(Error),
    /// The node does not say, and asking again would not change that.
    Silent(Error),
    /// The node could not be asked, or could not answer now.
    Unreachable(Error),
    /// It was not asked, as there were no headers for that.
    Unprepared(Error),
    /// Nor can it be asked by this transport.
    Misconfigured(Error),
}

impl From<Unclear> for Error {
    fn from(unclear: Unclear) -> Self {
        match unclear {
            Unclear::Neither(error)
            | Unclear::Silent(error)
            | Unclear::Unreachable(error)
            | Unclear::Unprepared(error)
            | Unclear::Misconfigured(error) => error,
        }
    }
}

/// Asks the node what it is, again where that helps.
pub(super) async fn describe_node(transport: &dyn Transport, retries: &Retries) -> Result<NodeDescription> {
    let whole = retries.read_deadline();
    let mut attempts = retries.attempts(whole);
    loop {
        let answer = retries.attempt_deadline(whole, true).bound(ask(transport)).await;
        let (error, party) = match answer {
            Some(Err(Unclear::Unreachable(error))) => (error, Party::Peer),
            Some(Err(Unclear::Unprepared(error))) => (error, Party::Helper),
            Some(answer) => return Ok(answer?),
            None => {
                let timed_out = CallError::new(CallFailure::TimedOut, "no answer within the deadline");
                (unclear(timed_out, transport.endpoint()).into(), Party::Peer)
            }
        };
        let failed = attempts.fail();
        if !attempts.again_of(party, &error).await {
            return Err(error.with_attempts(failed));
        }
    }
}

/// Asks the node what it is.
async fn ask(transport: &dyn Transport) -> Result<NodeDescription, Unclear> {
    let answer = match ask_by(transport, Reflection::V1).await {
        Err(failure) if unimplemented(&failure) => ask_by(transport, Reflection::V1Alpha).await,
        answer => answer,
    };
    let endpoint = transport.endpoint();
    match answer {
        Ok(decided) => decided.map_err(|error| Unclear::Neither(error.with_endpoint(endpoint))),
        Err(failure) => Err(unclear(failure, endpoint)),
    }
}

/// The outer error is the call's, the inner one what the node says.
async fn ask_by(transport: &dyn Transport, protocol: Reflection) -> Result<Result<NodeDescription>, CallError> {
    let mut descriptors = Descriptors::default();
    // Most servers answer the first with the one file that holds both.
    for symbol in [Symbol::Service, Symbol::SubmitJobRequest] {
        let server = Server::new(transport.encoding(), transport.endpoint());
        let answer = server.reflection(protocol, transport.reflect(protocol, reflection::ask(symbol)));
        descriptors.read(&answer.await?)?;
        if let Some(decided) = descriptors.decide().transpose() {
            return Ok(decided);
        }
    }
    Err(CallError::new(CallFailure::BadResponse, "the files that were sent do not hold what was asked for"))
}

fn unimplemented(failure: &CallError) -> bool {
    matches!(failure.failure, CallFailure::Status(StatusCode::UNIMPLEMENTED))
}

fn unclear(failure: CallError, endpoint: &str) -> Unclear {
    use CallFailure as F;
    use StatusCode as S;
    let (kind, hint) = match failure.failure {
        F::Status(S::UNIMPLEMENTED | S::NOT_FOUND | S::INVALID_ARGUMENT | S::PERMISSION_DENIED) => {
            (ErrorKind::InvalidConfig, "state it with ClientBuilder::revision; released nodes speak Relay")
        }
        F::BadResponse | F::ResponseTooLarge | F::RequestTooLarge | F::Http(400 | 403..=406 | 415 | 501) => (
            ErrorKind::BadResponse,
            "check the address and any proxy (a node's REST gateway has another one than its gRPC server); if a \
             coprocessor node does answer there, state its revision with ClientBuilder::revision",
        ),
        F::Misconfigured => return Unclear::Misconfigured(refusal::of_reflection(failure, endpoint)),
        F::NotSent if failure.unprepared => return Unclear::Unprepared(refusal::of_reflection(failure, endpoint)),
        _ => return Unclear::Unreachable(refusal::of_reflection(failure, endpoint).with_outcome(Outcome::NotSent)),
    };
    Unclear::Silent(
        Error::new(kind, "the node does not say which protocol revision it speaks")
            .with_endpoint(endpoint)
            .with_source(failure)
            .with_hint(hint),
    )
}
