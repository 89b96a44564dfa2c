//! The events for `tracing`: what a service wants to read in its logs. What an observer is told otherwise has spans.

use super::{
    TARGET,
    event::{ClientEvent, ObservedJob},
};

/// One line, with what names the job.
macro_rules! about {
    ($level:ident, $job:expr, $text:literal) => {{
        let ObservedJob { id, consumer, nonce, strategy, .. } = $job;
        tracing::event!(
            target: TARGET,
            tracing::Level::$level,
            infinityvm.job.id = %id,
            infinityvm.consumer = %consumer,
            infinityvm.nonce = nonce,
            infinityvm.lane = %strategy,
            $text
        );
    }};
}

/// Writes the event, if it is one for logs.
pub(super) fn notice(event: &ClientEvent<'_>) {
    match *event {
        ClientEvent::CallRepeated { method, attempt } => tracing::event!(
            target: TARGET,
            tracing::Level::DEBUG,
            rpc.method = method.grpc_path().trim_start_matches('/'),
            infinityvm.attempt = attempt,
            "repeated: the call failed and is made again"
        ),
        ClientEvent::SentAgain { job } => about!(WARN, job, "sent again: the node had lost the job"),
        ClientEvent::LaneStalled { job } => about!(WARN, job, "lane stalled: nothing behind this job can be relayed"),
        ClientEvent::Reorganised { job } => {
            about!(WARN, job, "reorganisation: the block with the job's result was given up");
        }
        ClientEvent::Quarantined { consumer, nonce } => tracing::event!(
            target: TARGET,
            tracing::Level::INFO,
            infinityvm.consumer = %consumer,
            infinityvm.nonce = nonce,
            "quarantined: it is not known what became of the job that was signed with the nonce"
        ),
        ClientEvent::Released { consumer, nonce } => tracing::event!(
            target: TARGET,
            tracing::Level::INFO,
            infinityvm.consumer = %consumer,
            infinityvm.nonce = nonce,
            "released: the nonce left quarantine"
        ),
        ClientEvent::OperatorChanged { from, to } => tracing::event!(
            target: TARGET,
            tracing::Level::WARN,
            infinityvm.operator.now = %to,
            infinityvm.operator.before = %from,
            "operator changed: the JobManager names another one"
        ),
        _ => {}
    }
}

pub(super) fn observer_panicked() {
    tracing::event!(target: TARGET, tracing::Level::ERROR, "an observer panicked, and missed an event");
}
