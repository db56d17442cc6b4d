//! The clock: the one place of this crate that reads it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// This moment, for durations.
#[expect(clippy::disallowed_methods, reason = "a server measures times and sets deadlines")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "answers carry the time at which they were made")]
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).as_ref().map_or(0, Duration::as_secs)
}
