//! App servers, from a request to its proof on chain, against the development node, in both revisions.

mod failover;
mod inputs;
mod ledger;
mod rig;
mod serving;
mod stores;
mod trouble;

/// A test in both revisions.
#[macro_export]
macro_rules! both {
    ($name:ident, async fn $inner:ident<const RELAY: bool>() $body:block) => {
        mod $name {
            use super::*;

            async fn $inner<const RELAY: bool>() $body

            #[tokio::test]
            async fn relay() {
                $inner::<true>().await;
            }

            #[tokio::test]
            async fn state() {
                $inner::<false>().await;
            }
        }
    };
}
