//! Times as the store has them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, 0 before.
pub(super) fn unix_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Now.
pub(super) fn now() -> u64 {
    unix_millis(SystemTime::now())
}
