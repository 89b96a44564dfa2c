//! Seeing what a client does: an [`Observer`] is told, spans and events go to `tracing`, the feature `metrics` counts.
//!
//! The [guide](crate::guide::seeing_what_happens) shows how to use all three, lists the spans, the events and the
//! metrics, and says which levels they have.
//!
//! ```text
//! node, submit, watch, nonce, chain, outbox ──→ Observers::tell ──→ each Observer of the client (`Metrics` is one)
//!                │                            └──→ notice: the events that are worth a line of a log ──→ tracing
//!                └──→ spans, call: what takes time, and for whom ──→ tracing
//! ```
//!
//! - **One seam.** Whatever is counted or logged is a [`ClientEvent`] first. A room tells it in one line.
//! - **Never under a lock.** What is noticed under a lock is told once that is released.
//! - **Parents.** A span's parent is the span in which the caller called, also where a task of the client's does the
//!   work. Where a task works for several callers, its parent is the span of the first, and the others are linked
//!   (`follows_from`): of a flight or a look that callers share, 16 at most.
//! - **Nothing secret.** Spans and events name jobs; they hold no payload, key, token or signature.

mod call;
mod event;
#[cfg(feature = "metrics")]
mod metrics;
mod notice;
mod observer;
mod spans;

#[cfg(feature = "rest")]
pub(crate) use self::call::{http_status, http_url};
#[cfg(feature = "metrics")]
pub use self::metrics::Metrics;
#[cfg(feature = "chain")]
pub(crate) use self::spans::failed;
#[cfg(feature = "outbox")]
pub(crate) use self::spans::{acted_on, numbered, outbox_act, outbox_job};
pub(crate) use self::{
    call::Server,
    observer::{Observers, WeakObservers, tell_all},
    spans::{Callers, end, ended, flight, follow, found, post, preflight, shown, signed, submit, wait},
};
pub use self::{
    event::{ClientEvent, ObservedJob, ObservedTicket},
    observer::Observer,
};

/// The target of all spans and events, for filters.
const TARGET: &str = "infinityvm_sdk";
