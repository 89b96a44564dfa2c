//! What tests of every kind need: a bound for hangs, how much is wanted, and random choices that can be had again.

use std::{env, future::Future, pin::Pin, task::Poll, time::Duration};

/// Ends a test that hangs. Generous: only a hang reaches it. Where the test stops tokio's clock, see
/// [`scripted::within`](crate::scripted::within).
pub async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(600), what).await.expect("the test hangs")
}

/// Looks at a future once.
pub async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

/// Whether the long versions are wanted.
pub fn sweep() -> bool {
    env::var("SWEEP").is_ok_and(|sweep| sweep == "full")
}

/// One seed in the tests, so that they are the same each time; others on demand.
pub fn seed() -> u64 {
    env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// The points between two steps of the outbox at which tests end it.
pub const OUTBOX_POINTS: [&str; 12] = [
    "before_number",
    "numbered",
    "before_sign",
    "before_store_signature",
    "signed",
    "before_send",
    "sent",
    "result",
    "before_tell",
    "told",
    "before_close",
    "closed",
];

/// The points between two steps of an app server at which tests end it.
pub const APP_POINTS: [&str; 14] = [
    "app_applied",
    "app_appended",
    "app_before_freeze",
    "app_frozen",
    "app_before_enqueue",
    "app_enqueued",
    "app_noted",
    "app_before_executed",
    "app_executed",
    "app_before_settled",
    "app_settled",
    "app_final",
    "app_before_snapshot",
    "app_snapshot",
];

/// Those of a server whose batch has failed.
pub const REPLACE_POINTS: [&str; 2] = ["app_before_replace", "app_replaced"];

/// Those of a server that follows the chain's logs.
pub const FOLLOW_POINTS: [&str; 2] = ["app_before_fed", "app_fed"];

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// From one to this, both included.
    pub fn up_to(&mut self, most: usize) -> usize {
        1 + self.below(most)
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next().to_be_bytes()[0])
    }
}
