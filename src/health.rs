//! Whether the process is alive and ready.
//!
//! Alive: its loops have turned lately, whatever the world outside does. Ready: it has joined the
//! consumer group, reached the tables once, and waits for no schema registry. Being behind is neither.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A loop that has not turned for this long is stuck: well above the longest single commit, well
/// below what an operator would wait.
pub const STUCK_AFTER: Duration = Duration::from_secs(120);

/// What must have happened before the process is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Milestone {
    /// The consumer group gave us an assignment, be it empty.
    Joined,
    /// The tables' storage and catalog have answered.
    CatalogReached,
}

impl Milestone {
    const ALL: [Self; 2] = [Self::Joined, Self::CatalogReached];

    fn missing(self) -> &'static str {
        match self {
            Self::Joined => "has not joined the consumer group",
            Self::CatalogReached => "has not reached the tables",
        }
    }
}

#[derive(Debug, Default)]
struct State {
    beats: BTreeMap<String, Instant>,
    reached: Vec<Milestone>,
    waits: BTreeMap<String, String>,
    stopping: bool,
}

/// Heartbeats and milestones of the process.
#[derive(Debug, Default)]
pub struct Health {
    state: Mutex<State>,
}

impl Health {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Notes that a loop has turned. From the first beat on the loop is expected to go on beating,
    /// until [`Self::retire`].
    pub fn beat(&self, name: &str) {
        self.beat_at(name, Instant::now());
    }

    fn beat_at(&self, name: &str, now: Instant) {
        let mut state = self.state();
        match state.beats.get_mut(name) {
            Some(last) => *last = now,
            None => {
                state.beats.insert(name.to_owned(), now);
            }
        }
    }

    /// No longer expects beats from a loop: it has ended as it should.
    pub fn retire(&self, name: &str) {
        self.state().beats.remove(name);
    }

    /// Notes that a milestone was reached.
    pub fn reached(&self, milestone: Milestone) {
        let mut state = self.state();
        if !state.reached.contains(&milestone) {
            state.reached.push(milestone);
        }
    }

    /// Notes that something outside keeps tables from going on.
    pub fn waits(&self, name: &str, reason: String) {
        self.state().waits.insert(name.to_owned(), reason);
    }

    /// Notes that it no longer does.
    pub fn waits_no_more(&self, name: &str) {
        self.state().waits.remove(name);
    }

    /// Notes that the process is on its way out: it is no longer ready.
    pub fn stopping(&self) {
        self.state().stopping = true;
    }

    /// Why the process should be restarted, if it should.
    pub fn stuck(&self, now: Instant) -> Option<String> {
        let state = self.state();
        let stuck = |last: &Instant| now.saturating_duration_since(*last) > STUCK_AFTER;
        let (name, last) = state.beats.iter().find(|(_, last)| stuck(last))?;
        let seconds = now.saturating_duration_since(*last).as_secs();
        Some(format!("loop `{name}` has not turned for {seconds} s"))
    }

    /// Why the process is not ready, if it is not.
    pub fn unready(&self) -> Option<String> {
        let state = self.state();
        if state.stopping {
            return Some("is stopping".to_owned());
        }
        let missing = Milestone::ALL.iter().find(|milestone| !state.reached.contains(milestone));
        let missing = missing.map(|milestone| milestone.missing().to_owned());
        missing.or_else(|| state.waits.values().next().cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_loop_is_stuck_and_a_retired_one_is_not() {
        let (health, start) = (Health::default(), Instant::now());
        assert_eq!(health.stuck(start), None, "nothing has begun");

        health.beat_at("poll", start);
        health.beat_at("commit", start + STUCK_AFTER);
        let later = start + STUCK_AFTER + Duration::from_secs(1);

        assert_eq!(health.stuck(later).as_deref(), Some("loop `poll` has not turned for 121 s"));
        health.retire("poll");
        assert_eq!(health.stuck(later), None);
    }

    #[test]
    fn readiness_needs_every_milestone_and_ends_with_the_process() {
        let health = Health::default();
        assert_eq!(health.unready().as_deref(), Some("has not joined the consumer group"));
        health.reached(Milestone::Joined);
        assert_eq!(health.unready().as_deref(), Some("has not reached the tables"));
        health.reached(Milestone::CatalogReached);
        assert_eq!(health.unready(), None);
        health.stopping();
        assert_eq!(health.unready().as_deref(), Some("is stopping"));
    }
}
