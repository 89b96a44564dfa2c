//! The events for `tracing`: what a service wants to read in its logs. What an observer is told otherwise has spans.

use super::{
    TARGET,
    event::{ClientEvent, ObservedJob, ObservedTicket},
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

/// One line, with what names the job of an outbox.
macro_rules! ticket {
    ($level:ident, $job:expr, $field:ident = $value:expr, $text:literal) => {{
        let ObservedTicket { ticket, consumer, strategy, nonce, id } = $job;
        tracing::event!(
            target: TARGET,
            tracing::Level::$level,
            infinityvm.ticket = ticket,
            infinityvm.job.id = id.map(tracing::field::display),
            infinityvm.consumer = %consumer,
            infinityvm.nonce = nonce,
            infinityvm.lane = %strategy,
            infinityvm.$field = $value,
            $text
        );
    }};
}

/// One line, with what names the lane of an outbox.
macro_rules! lane {
    ($consumer:expr, $strategy:expr, $($field:ident = $value:expr,)? $text:literal) => {
        tracing::event!(
            target: TARGET,
            tracing::Level::INFO,
            infinityvm.consumer = %$consumer,
            infinityvm.lane = %$strategy,
            $(infinityvm.$field = $value,)?
            $text
        )
    };
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
        ClientEvent::OutboxStep { job, step: step @ "stalled" } => {
            ticket!(WARN, job, step = step, "stalled: the job does not move, and its status says why");
        }
        ClientEvent::OutboxStep { job, step } => ticket!(DEBUG, job, step = step, "outbox step: the store has it"),
        ClientEvent::JobHeld { job, reason } => ticket!(WARN, job, reason = reason, "held: the job waits for a person"),
        ClientEvent::Retracted { job } => {
            ticket!(WARN, job, step = "retracted", "retracted: a result that was told does not stand");
        }
        ClientEvent::LaneHalted { consumer, strategy, ticket, reason } => tracing::event!(
            target: TARGET,
            tracing::Level::WARN,
            infinityvm.ticket = ticket,
            infinityvm.consumer = %consumer,
            infinityvm.lane = %strategy,
            infinityvm.reason = reason,
            "lane halted: it gives out no further nonces"
        ),
        ClientEvent::LaneResumed { consumer, strategy } => {
            lane!(consumer, strategy, "lane resumed: it gives out nonces again");
        }
        ClientEvent::NoncesSkipped { consumer, strategy, next_nonce } => {
            lane!(consumer, strategy, nonce = next_nonce, "nonces skipped: the next job of the lane gets this one");
        }
        ClientEvent::OwnershipChanged { consumer, strategy, owned: true } => {
            lane!(consumer, strategy, "lane taken: this instance works on it");
        }
        ClientEvent::OwnershipChanged { consumer, strategy, owned: false } => {
            lane!(consumer, strategy, "lane given up: this instance works on it no more");
        }
        ClientEvent::WriteFenced { consumer, strategy } => {
            lane!(consumer, strategy, "write fenced: another worker has taken the lane, and nothing was written");
        }
        ClientEvent::ReaderLags { consumer, reader, waiting, lag } => tracing::event!(
            target: TARGET,
            tracing::Level::WARN,
            infinityvm.consumer = %consumer,
            infinityvm.reader = reader,
            infinityvm.waiting = waiting,
            infinityvm.lag = ?lag,
            "reader lags: it has not acknowledged an event for long"
        ),
        _ => {}
    }
}

pub(super) fn observer_panicked() {
    tracing::event!(target: TARGET, tracing::Level::ERROR, "an observer panicked, and missed an event");
}
