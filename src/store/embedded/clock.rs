//! The store's own clock: follows the wall clock over restarts, and never runs backwards.

#![expect(clippy::disallowed_methods, reason = "this clock is where the ages of records come from")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, as a machine's clock said when the store was opened, and counted
/// steadily from there.
///
/// Within a run nobody can set it. Over a restart it starts no earlier than the newest write: a
/// wall clock that was set back makes records seem younger (they wait longer), never older.
#[derive(Debug)]
pub(super) struct Clock {
    base: u64,
    started: Instant,
    behind: Duration,
}

impl Clock {
    /// Starts at the wall clock's time, or at that of the newest write if the wall is behind it.
    pub(super) fn start(newest: u64) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = millis(wall);
        Self {
            base: wall.max(newest),
            started: Instant::now(),
            behind: Duration::from_millis(newest.saturating_sub(wall)),
        }
    }

    /// The time now.
    pub(super) fn now(&self) -> u64 {
        self.base.saturating_add(millis(self.started.elapsed()))
    }

    /// How far the wall clock was behind the newest write when the store was opened.
    pub(super) fn behind(&self) -> Duration {
        self.behind
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_was_set_back_does_not_turn_the_store_back() {
        let newest = u64::from(u32::MAX) * 1_000;

        let clock = Clock::start(newest);

        assert!(clock.now() >= newest);
        assert!(clock.behind() > Duration::from_secs(3_600));
        assert_eq!(Clock::start(0).behind(), Duration::ZERO);
    }
}
