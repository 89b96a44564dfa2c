//! The store on a database: what SQLite and PostgreSQL have in common.
//!
//! Every statement but those of a [`SqlDialect`] is written once, in what both databases understand. `session.rs` is a
//! connection to either, `apply.rs` what each request does within a transaction, `events.rs` the part of it that
//! readers hear, `reads.rs` what is only read, `writer.rs` the task whose connection writes, and `guest.rs` what is
//! done on callers' own connections. `leases.rs` says who owns which lane, where several instances share a database.

mod apply;
mod engine;
mod events;
mod guest;
#[cfg(feature = "app")]
mod journal;
mod leases;
mod parameters;
mod reads;
mod session;
mod tables;
mod values;
mod writer;

#[cfg(feature = "sqlx-postgres")]
pub(super) use self::session::{get, query};
pub(super) use self::{
    engine::{Database, Reading, reply},
    guest::guests,
    session::{Fetched, SqlDialect, SqlRow, Value, odd},
    tables::{Tables, migrate},
    values::{failed, mixed_up},
    writer::{Reply, StoreRequest, WriterHandle, WriterLink},
};
pub use self::{guest::OutboxConnection, parameters::EnqueueParameters};
pub(crate) use self::{
    guest::{Guest, acknowledge_in, enqueue_in},
    session::SqlSession,
};
