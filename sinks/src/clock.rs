//! The wall clock, as tables' histories and clean-up know it.
//!
//! With the feature `failpoints`, the environment variable `LAKEBED_CLOCK_AHEAD=<seconds>` sets it
//! ahead, so that a test sees clean-up work on what is minutes old.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch, now.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX).saturating_add(ahead_ms())
}

/// How far the clock has been set ahead, in milliseconds.
#[cfg(not(feature = "failpoints"))]
fn ahead_ms() -> i64 {
    0
}

/// How far the clock has been set ahead, in milliseconds.
#[cfg(feature = "failpoints")]
fn ahead_ms() -> i64 {
    use std::sync::OnceLock;

    static AHEAD: OnceLock<i64> = OnceLock::new();
    *AHEAD.get_or_init(|| {
        let Ok(text) = std::env::var("LAKEBED_CLOCK_AHEAD") else { return 0 };
        let Ok(seconds) = text.parse::<u32>() else {
            eprintln!("LAKEBED_CLOCK_AHEAD=`{text}` is not a number of seconds");
            std::process::abort();
        };
        i64::from(seconds) * 1_000
    })
}
