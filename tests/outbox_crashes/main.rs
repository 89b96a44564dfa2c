//! Kills a service in the middle of its work, again and again, and counts what became of its orders.
//!
//! The service is this very program, started as a child: it enqueues orders from eight tasks, each in the transaction of
//! a row of its own, and bills each result in the transaction that acknowledges it. It is killed with SIGKILL at a named
//! point between two steps of the outbox, or after a random time. In between the node restarts, and loses replies. At the
//! end every order that was stored must be on chain once, and billed once.
//!
//! `KILLS` sets how often, `SEED` the seed.

mod child;
mod ledger;
mod parent;
mod recorder;

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("child") {
        child::run(&arguments.collect::<Vec<_>>());
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(parent::run());
}
