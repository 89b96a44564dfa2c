//! What a client shows of itself: observers, metrics, spans and events; and that the guide says the same.
#![cfg(all(feature = "devnode", feature = "grpc", feature = "rest", feature = "metrics"))]

use support::{answers, http1, json_chain, recorder, scripted, traces};

mod counted;
mod guide;
mod observers;
mod rig;
mod spans;
mod trace_context;
