//! The one error type of the crate: what happened, whether the request may have run, what to do next.

mod serial;

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

use alloy_primitives::B256;
use serde::Serialize;

use crate::text::shorten;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Arc<dyn StdError + Send + Sync + 'static>;

/// What went wrong. Match on this, never on the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A job, key, signature or stored value does not hold what it must. [`Error::faults`] lists every fault of a
    /// builder.
    InvalidInput,
    /// The client or transport is set up in a way that cannot work or is not safe.
    InvalidConfig,
    /// A message is larger than a configured limit; see [`Limits`](crate::Limits). Or posting a result needs more gas
    /// than a block has.
    TooLarge,
    /// The signer refused or failed.
    Signer,
    /// No nonce could be reserved, or its use would break the rules of its lane.
    Nonce,
    /// The window of the consumer's Ordered lane is full: as many jobs as may be are sent and not relayed. Nothing was
    /// sent now.
    LaneFull,
    /// The node or the chain shows another payload under the nonce. The outcome says whether this job may have run:
    /// only [`Outcome::NotSent`] and [`Outcome::Rejected`] exclude it, as two payloads that are sent at once can both
    /// run.
    NonceTaken,
    /// The transport or the protocol revision has no such call or field.
    Unsupported,
    /// The node speaks another protocol revision than the client was told, or one that this release does not know.
    WrongRevision,
    /// The node could not be reached, or the connection broke; or whoever provides headers for the call is away, as the
    /// message says then.
    Unavailable,
    /// One call took longer than its deadline.
    CallTimeout,
    /// The node's answer is not a valid message of the protocol.
    BadResponse,
    /// The node refused the request.
    Rejected,
    /// The node does not know the job.
    NotFound,
    /// The node ran the job and it failed, or gave it up.
    JobFailed,
    /// The node's result is not signed by the operator, or does not belong to the job. Do not use it.
    Verification,
    /// The job did not reach the awaited status before the deadline of the wait. The job itself goes on.
    DeadlineExceeded,
    /// The client was closed, or its runtime shut down, while the call was under way.
    Closed,
    /// The chain could not be read: its RPC did not answer, or a contract is not what it must be.
    Chain,
    /// This is not the chain, contract or account that the client is bound to. What was signed for one must not be used
    /// on another.
    WrongChain,
    /// A required preflight found that the job would not land. Nothing was sent.
    Preflight,
    /// The contracts refuse the result: the transaction that posts it would revert, or did.
    /// [`Revert::of`](crate::chain::Revert::of) says why. If the error names a [transaction](Error::tx_hash), that was
    /// sent, and has cost its gas.
    Reverted,
    /// The outbox's store could not be read or written, belongs to another worker, or holds what must not be there.
    Store,
    /// An app server does not answer: it has stopped, for a reason that its state names, or another instance answers.
    Stopped,
}

impl ErrorKind {
    /// A stable name in snake case, fit for a label of metrics and a field of logs. [`Display`](fmt::Display) has words
    /// for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::InvalidConfig => "invalid_config",
            Self::TooLarge => "too_large",
            Self::Signer => "signer",
            Self::Nonce => "nonce",
            Self::LaneFull => "lane_full",
            Self::NonceTaken => "nonce_taken",
            Self::Unsupported => "unsupported",
            Self::WrongRevision => "wrong_revision",
            Self::Unavailable => "unavailable",
            Self::CallTimeout => "call_timeout",
            Self::BadResponse => "bad_response",
            Self::Rejected => "rejected",
            Self::NotFound => "not_found",
            Self::JobFailed => "job_failed",
            Self::Verification => "verification",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Closed => "closed",
            Self::Chain => "chain",
            Self::WrongChain => "wrong_chain",
            Self::Preflight => "preflight",
            Self::Reverted => "reverted",
            Self::Store => "store",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidInput => "invalid input",
            Self::InvalidConfig => "invalid configuration",
            Self::TooLarge => "too large",
            Self::Signer => "signer failed",
            Self::Nonce => "no usable nonce",
            Self::LaneFull => "lane full",
            Self::NonceTaken => "nonce taken",
            Self::Unsupported => "unsupported",
            Self::WrongRevision => "wrong protocol revision",
            Self::Unavailable => "node unavailable",
            Self::CallTimeout => "call timed out",
            Self::BadResponse => "bad response",
            Self::Rejected => "rejected by the node",
            Self::NotFound => "not found",
            Self::JobFailed => "job failed",
            Self::Verification => "verification failed",
            Self::DeadlineExceeded => "wait deadline exceeded",
            Self::Closed => "closed",
            Self::Chain => "chain not readable",
            Self::WrongChain => "wrong chain",
            Self::Preflight => "preflight failed",
            Self::Reverted => "reverted by the contracts",
            Self::Store => "outbox store failed",
            Self::Stopped => "app server stopped",
        })
    }
}

/// Gives the values of an enum their names: `Display` writes them, and `FromStr` reads them in any case.
macro_rules! written_as {
    ($type:ident, $what:literal, $($variant:ident: $name:literal),+) => {
        impl $type {
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::error::Error;

            /// Reads what [`Display`](std::fmt::Display) writes, in any case.
            fn from_str(name: &str) -> Result<Self, Self::Err> {
                $crate::error::named($what, name, [$(($name, Self::$variant)),+])
            }
        }
    };
}
pub(crate) use written_as;

/// Whether the request that the error speaks of may have run. Written `not_sent`, `rejected`, `unknown` or `accepted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// No byte of the request reached a node. It has not run and will not.
    NotSent,
    /// The node answered and refused. This payload has not run and will not, unless it is submitted again.
    Rejected,
    /// The request may or may not have reached the node, and may still run. Ask the node or the chain first, and send
    /// nothing but the same bytes.
    Unknown,
    /// The node has the request. The error is about what came after that: the execution, the wait, or the verification.
    Accepted,
}

written_as!(Outcome, "outcome", NotSent: "not_sent", Rejected: "rejected", Unknown: "unknown", Accepted: "accepted");

/// Finds a value by its name, in any case.
pub(crate) fn named<T: Copy, const N: usize>(what: &str, given: &str, values: [(&str, T); N]) -> Result<T> {
    let found = values.iter().find(|(name, _)| name.eq_ignore_ascii_case(given));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names = values.map(|(name, _)| format!("`{name}`")).join(" or ");
        Error::new(ErrorKind::InvalidInput, format!("unknown {what} {:?}", shorten(given)))
            .with_hint(format!("use {names}"))
    })
}

/// One thing that is wrong with a value under construction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fault {
    /// The field at fault, by its name in the protocol.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
    /// What to do, naming the method that sets the field.
    pub hint: String,
    /// Whether a size is all that is wrong.
    #[serde(skip)]
    size: bool,
}

impl Fault {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { field, problem: problem.into(), hint: hint.into(), size: false }
    }

    pub(crate) fn size(field: &'static str, problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { size: true, ..Self::new(field, problem, hint) }
    }
}

/// An error of this crate: opaque, the size of a pointer, cheap to clone.
///
/// - [`kind`](Self::kind) says what happened,
/// - [`outcome`](Self::outcome) whether the request may have run,
/// - [`is_retryable`](Self::is_retryable) whether the same call may succeed later,
/// - [`hint`](Self::hint) what to do next,
/// - [`report`](Self::report) prints all of it with the chain of causes and the endpoint.
///
/// [`Display`](fmt::Display) is one line and leaves the causes to [`source`](StdError::source). [`Debug`](fmt::Debug)
/// is the report, so that a `main` which returns an error prints it in full. With serde it is written as a map of
/// `version` (1) and everything that is known, its causes as texts. It cannot be read back.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    outcome: Outcome,
    retryable: bool,
    attempts: u32,
    retry_after: Option<Duration>,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    endpoint: Option<String>,
    job_id: Option<B256>,
    tx_hash: Option<B256>,
    faults: Vec<Fault>,
    source: Option<Source>,
    /// What belongs to this kind of error alone, typed by whoever made it.
    #[cfg(feature = "client")]
    detail: Option<Arc<dyn std::any::Any + Send + Sync>>,
}

impl Error {
    /// An error about something that never left this process.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            outcome: Outcome::NotSent,
            retryable: false,
            attempts: 1,
            retry_after: None,
            message: message.into(),
            hint: None,
            endpoint: None,
            job_id: None,
            tx_hash: None,
            faults: Vec::new(),
            source: None,
            #[cfg(feature = "client")]
            detail: None,
        }))
    }

    pub(crate) fn from_faults(what: &'static str, faults: Vec<Fault>) -> Self {
        let list: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.problem)).collect();
        let kind = if faults.iter().all(|fault| fault.size) { ErrorKind::TooLarge } else { ErrorKind::InvalidInput };
        let hints: Vec<_> = faults.iter().map(|fault| fault.hint.as_str()).collect();
        let hint = hints.join("; ");
        Self::new(kind, format!("{what}: {}", list.join("; "))).with_hint(hint).edit(|inner| inner.faults = faults)
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Sets whether the request may have run; [`Outcome::NotSent`] unless set.
    #[must_use]
    pub fn with_outcome(self, outcome: Outcome) -> Self {
        self.edit(|inner| inner.outcome = outcome)
    }

    /// Sets whether the same call may succeed later; `false` unless set.
    #[must_use]
    pub fn with_retryable(self, retryable: bool) -> Self {
        self.edit(|inner| inner.retryable = retryable)
    }

    /// Sets how often the call was made; once unless set.
    #[must_use]
    pub fn with_attempts(self, attempts: u32) -> Self {
        self.edit(|inner| inner.attempts = attempts)
    }

    /// Sets how long whoever refused wants to be left alone, such as the `Retry-After` of a service that throttles.
    #[must_use]
    pub fn with_retry_after(self, pause: Duration) -> Self {
        self.edit(|inner| inner.retry_after = Some(pause))
    }

    /// Sets what the user should do next.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.edit(|inner| inner.hint = Some(hint.into()))
    }

    /// Sets the cause.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync + 'static>>) -> Self {
        let source: Box<dyn StdError + Send + Sync> = source.into();
        self.edit(|inner| inner.source = Some(Source::from(source)))
    }

    /// Sets the node that was talked to.
    #[must_use]
    pub fn with_endpoint(self, endpoint: impl Into<String>) -> Self {
        self.edit(|inner| inner.endpoint = Some(endpoint.into()))
    }

    /// Sets the job the error is about.
    #[must_use]
    pub fn with_job(self, id: impl Into<B256>) -> Self {
        self.edit(|inner| inner.job_id = Some(id.into()))
    }

    /// Sets the transaction the error is about.
    #[must_use]
    pub fn with_tx_hash(self, hash: B256) -> Self {
        self.edit(|inner| inner.tx_hash = Some(hash))
    }

    #[cfg(feature = "client")]
    pub(crate) fn with_detail(self, detail: impl std::any::Any + Send + Sync) -> Self {
        self.edit(|inner| inner.detail = Some(Arc::new(detail)))
    }

    #[cfg(feature = "client")]
    pub(crate) fn detail<T: std::any::Any>(&self) -> Option<&T> {
        self.0.detail.as_deref()?.downcast_ref()
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the request may have run.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// Whether the same call, with the same bytes, may succeed later although nothing was changed.
    ///
    /// It does not say that it is safe to repeat the call: see [`outcome`](Self::outcome). `Client::submit_signed`
    /// submits the same bytes again; `Client::submit` makes another job.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// How often the call was made before it was given up. The error is that of the last time; the
    /// [outcome](Self::outcome) is about all of them.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// How long whoever refused wants to be left alone, if they said so. No repetition comes sooner.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The node that was talked to.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        self.0.endpoint.as_deref()
    }

    /// The id of the job the error is about, once it has one.
    #[must_use]
    pub fn job_id(&self) -> Option<B256> {
        self.0.job_id
    }

    /// The transaction that the error is about. It was signed; the [outcome](Self::outcome) says whether it may have
    /// been sent.
    #[must_use]
    pub fn tx_hash(&self) -> Option<B256> {
        self.0.tx_hash
    }

    /// Every fault of a value that could not be built, at once. Empty for other errors.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.0.faults
    }

    /// The texts of the causes, the nearest first, each with its hint.
    fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut said = String::new();
        let mut cause = self.source();
        while let Some(source) = cause {
            // Some libraries print their cause and return it as well.
            let text = source.to_string();
            if text != said {
                // What to do about the cause is often what there is to do.
                let hint = source.downcast_ref::<Self>().and_then(Self::hint);
                let hint = hint.filter(|hint| self.hint() != Some(hint));
                causes.push(hint.map_or_else(|| text.clone(), |hint| format!("{text} ({hint})")));
            }
            said = text;
            cause = source.source();
        }
        causes
    }

    /// Everything that is known, in several lines: the error, its causes, the endpoint, the outcome, and the hint.
    #[must_use]
    pub fn report(&self) -> Report<'_> {
        Report(self)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind, self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.report(), f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Prints an [`Error`] in full; made by [`Error::report`].
#[derive(Clone, Copy)]
pub struct Report<'a>(&'a Error);

impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = self.0;
        write!(f, "{error}")?;
        for cause in error.causes() {
            write!(f, "\n  caused by: {cause}")?;
        }
        for fault in error.faults() {
            write!(f, "\n  - {}: {} ({})", fault.field, fault.problem, fault.hint)?;
        }
        if error.attempts() > 1 {
            write!(f, "\n  attempts:  {}", error.attempts())?;
        }
        if let Some(pause) = error.retry_after() {
            write!(f, "\n  wait for:  {pause:?}")?;
        }
        if let Some(endpoint) = error.endpoint() {
            write!(f, "\n  endpoint:  {endpoint}")?;
        }
        if let Some(id) = error.job_id() {
            write!(f, "\n  job:       {id}")?;
        }
        if let Some(hash) = error.tx_hash() {
            write!(f, "\n  tx:        {hash}")?;
        }
        let outcome = match error.outcome() {
            Outcome::NotSent => "not sent: nothing has run",
            Outcome::Rejected => "rejected: this payload has not run",
            Outcome::Unknown => "unknown: the request may have run, or may still run",
            Outcome::Accepted => "accepted: the node has the request",
        };
        write!(f, "\n  outcome:   {outcome}")?;
        // Faults bring their own.
        if let Some(hint) = error.hint().filter(|_| error.faults().is_empty()) {
            write!(f, "\n  what next: {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_pointer_and_thread_safe() {
        fn shared<T: Send + Sync + 'static>() {}
        shared::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn a_report_has_the_hints_of_its_causes() {
        let inner = Error::new(ErrorKind::Chain, "refused").with_hint("set it lower");
        let outer = Error::new(ErrorKind::DeadlineExceeded, "not final").with_source(inner.clone());
        let report = outer.with_hint("wait again").report().to_string();
        assert!(report.contains("caused by: chain not readable: refused (set it lower)"), "{report}");
        assert!(report.ends_with("what next: wait again"), "{report}");
        let same = Error::new(ErrorKind::Chain, "not read").with_hint("set it lower").with_source(inner);
        assert_eq!(same.report().to_string().matches("set it lower").count(), 1);
    }

    #[test]
    fn display_leaves_the_cause_to_source() {
        let error = Error::new(ErrorKind::Unavailable, "could not connect")
            .with_source(std::io::Error::other("refused"))
            .with_endpoint("http://127.0.0.1:1")
            .with_hint("start the node");
        assert_eq!(error.to_string(), "node unavailable: could not connect");
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("refused"));
        let report = "node unavailable: could not connect\n  caused by: refused\n  endpoint:  http://127.0.0.1:1\n  \
                      outcome:   not sent: nothing has run\n  what next: start the node";
        assert_eq!(error.report().to_string(), report);
        assert_eq!([format!("{error:?}"), format!("{error:#?}")], [report, report]);
    }

    #[test]
    fn a_kind_is_labelled_by_its_name_in_snake_case() {
        let kinds = [
            ErrorKind::InvalidInput,
            ErrorKind::InvalidConfig,
            ErrorKind::TooLarge,
            ErrorKind::Signer,
            ErrorKind::Nonce,
            ErrorKind::NonceTaken,
            ErrorKind::Unsupported,
            ErrorKind::WrongRevision,
            ErrorKind::Unavailable,
            ErrorKind::CallTimeout,
            ErrorKind::BadResponse,
            ErrorKind::Rejected,
            ErrorKind::NotFound,
            ErrorKind::JobFailed,
            ErrorKind::Verification,
            ErrorKind::DeadlineExceeded,
            ErrorKind::Closed,
            ErrorKind::Chain,
            ErrorKind::WrongChain,
            ErrorKind::Preflight,
            ErrorKind::Reverted,
        ];
        for kind in kinds {
            let mut snake = String::new();
            for letter in format!("{kind:?}").chars() {
                if letter.is_ascii_uppercase() && !snake.is_empty() {
                    snake.push('_');
                }
                snake.push(letter.to_ascii_lowercase());
            }
            assert_eq!(kind.as_str(), snake);
        }
    }
}
