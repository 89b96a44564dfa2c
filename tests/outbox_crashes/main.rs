//! Kills a service in the middle of its work, again and again, and counts what became of its orders.
//!
//! The service is this very program, started as a child: it enqueues orders from eight tasks, each in the transaction of
//! a row of its own, and bills each result in the transaction that acknowledges it. The node is another child. It
//! restarts, loses replies, and its chain reorganises. Three things end the service:
//!
//! - **SIGKILL**, at a named point between two steps of the outbox, or after a random time (`lives.rs`);
//! - **a power cut**: nothing is left but what was synced, and parts of what was not (`power.rs`, `power.c`);
//! - **a disk** that is full, read-only, fails to sync, or has lost a part (`disk.rs`).
//!
//! An app server on the outbox goes through kills and power cuts, too (`apps.rs`).
//!
//! The kills run on PostgreSQL, too; and there several services at once share its lanes, are killed, stopped for longer
//! than their lease lasts, cut off from the database, and the server crashes (`fleet.rs`).
//!
//! At the end every order that was stored must be on chain once, and billed once. `ledger.rs` checks that from the
//! service's tables, the chain, and what a proxy saw pass; it shares no code with the SDK.
//!
//! `KILLS` and `CUTS` set how often in all, `ORDERS` how many orders each task takes, `SEED` the seed, `PART` which part runs (`kills`, `cuts`, `disk`, `apps`, `postgres` or `fleet`), and `WORLD`
//! in which of its worlds, by number. `SAY=all` repeats what the services say.

#[allow(dead_code, reason = "only a part of what the tests of app servers ask for is asked for here")]
#[path = "../app/ledger.rs"]
mod app_ledger;
mod apps;
mod database;
mod disk;
mod fleet;
mod ledger;
mod life;
mod lives;
mod node;
mod node_process;
mod orders;
mod parent;
mod power;
mod recorder;
mod service;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (first, rest) = (arguments.next(), arguments.collect::<Vec<_>>());
    match first.as_deref() {
        Some("service") if life::Life::read(&rest).world.postgres => return service::run::<database::Postgres>(&rest),
        Some("service") => return service::run::<database::Sqlite>(&rest),
        Some("node") => return node::run(&rest),
        Some("app") => return apps::run(&rest),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    std::process::exit(runtime.block_on(parent::run()));
}
