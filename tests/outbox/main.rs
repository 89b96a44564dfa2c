//! The outbox, from a job that is enqueued to the event that tells of its result, against the development node.

mod attending;
mod cancel;
mod failures;
mod instances;
mod life;
mod observed;
mod operations;
mod postgres;
mod posting;
mod restarts;
mod rig;
mod settling;
mod stalls;
mod transactions;
mod worlds;
