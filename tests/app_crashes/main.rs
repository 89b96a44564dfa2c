//! Kills an app server under load, again and again, and counts what became of the requests that it answered.
//!
//! The server is this very program, started as a child on a SQLite file. Its parent has the node, asks, and asks again
//! under the same keys what it has no reply to. SIGKILL ends the child, at a named point between two steps of the server
//! or of the outbox, or after a random time; its replies up to then may be lost on their way. Meanwhile the node loses
//! replies, and in the Relay revision restarts; and the consumer logs deposits, which the server follows.
//!
//! At the end every answer must have kept its place, each place must be in exactly one batch on chain, in the order of
//! the places, each deposit must have one place, in the order of the chain, and the root on chain must be the one of
//! `replay.rs`, which shares no code with the app or the server.
//!
//! 50 kills over both revisions, and 1,000 under `SWEEP=full`; `KILLS` sets another number, `SEED` the seed.

#[path = "../app/ledger.rs"]
mod ledger;
mod parent;
mod replay;
mod service;

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("service") {
        return service::run(&arguments.collect::<Vec<_>>());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    std::process::exit(runtime.block_on(parent::run()));
}
