//! Whether a place refuses to overwrite when it is asked to.

use std::time::{Duration, Instant};

use tracing::warn;
use uuid::Uuid;

use super::{PutOutcome, Storage};
use crate::{Error, Result};

/// How long a place that does not answer is asked again before a process gives up its start.
const PATIENCE: Duration = Duration::from_secs(30);
/// Wait before the second question; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a probe of a lake found.
#[derive(Debug)]
pub enum Probe {
    /// It can be written to and enforces conditional puts.
    Enforced {
        /// Why the probe's object could not be deleted again, if so.
        undeleted: Option<Error>,
    },
    /// It did not say: an answer was lost, refused for the moment, or cannot be trusted.
    Unanswered {
        /// What is wrong.
        what: String,
        /// What to do about it.
        next: &'static str,
    },
    /// It cannot be used: what, and the next move.
    Unfit {
        /// What is wrong.
        what: String,
        /// What to do about it.
        next: &'static str,
    },
}

impl Storage {
    /// Puts one small object twice, the second time to be refused, and deletes it.
    ///
    /// # Errors
    /// When the store refuses to be written to at all.
    pub async fn probe(&self) -> Result<Probe> {
        let place = self.location();
        let probe = format!("_lakebed/probe-{}", Uuid::new_v4().simple());
        let unfit = |what: String, next| Ok(Probe::Unfit { what, next });
        let unanswered = |reason: String| {
            Ok(Probe::Unanswered {
                what: format!("the lake at {place} gave no answer that can be trusted: {reason}"),
                next: "correct `lake.location` and `lake.s3`, or wait until the storage answers",
            })
        };
        match self.put_if_absent(&probe, "probe").await? {
            PutOutcome::Created => {}
            PutOutcome::Unknown(reason) => return unanswered(reason),
            PutOutcome::Exists => {
                return unfit(
                    format!(
                        "the lake at {place} says that an object with a fresh random name exists"
                    ),
                    "use a storage that answers conditional puts truthfully",
                );
            }
        }
        let again = self.put_if_absent(&probe, "again").await;
        let undeleted = self.delete(&probe).await.err();
        match again? {
            PutOutcome::Exists => Ok(Probe::Enforced { undeleted }),
            PutOutcome::Unknown(reason) => unanswered(reason),
            PutOutcome::Created => unfit(
                format!("the lake at {place} overwrote an object that it was asked to keep"),
                "use a storage that enforces `If-None-Match: *`: without it two writers would \
                 overwrite each other's commits",
            ),
        }
    }

    /// Refuses a place that a probe finds unfit; one that does not answer is asked again for half a
    /// minute, so that a lost reply does not end a process that has just been started.
    ///
    /// # Errors
    /// As [`Self::probe`]; `Invalid` where conditional puts are not enforced, and where nothing has
    /// answered.
    pub async fn require_conditional_puts(&self) -> Result<()> {
        self.require_within(PATIENCE, FIRST_PAUSE).await
    }

    async fn require_within(&self, patience: Duration, first_pause: Duration) -> Result<()> {
        let began = Instant::now();
        let mut pause = first_pause;
        loop {
            let (what, next) = match self.probe().await? {
                Probe::Enforced { .. } => return Ok(()),
                Probe::Unanswered { what, .. } if began.elapsed() + pause <= patience => {
                    warn!("{what}; asking again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
                Probe::Unanswered { what, next } | Probe::Unfit { what, next } => (what, next),
            };
            return Err(Error::invalid(format!("{what}; {next}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{careless, local, silent};
    use super::*;

    #[tokio::test]
    async fn a_fit_place_is_left_as_it_was() {
        let (_folder, storage) = local();

        let found = storage.probe().await.expect("probed");

        assert!(matches!(found, Probe::Enforced { undeleted: None }), "{found:?}");
        assert_eq!(storage.list("").await.expect("listed"), []);
    }

    #[tokio::test]
    async fn a_place_that_overwrites_is_refused_with_the_reason() {
        let storage = careless();

        let error = storage.require_conditional_puts().await.expect_err("refused");

        assert!(error.to_string().contains("overwrote an object"), "{error}");
        assert!(error.to_string().contains("If-None-Match"), "{error}");
        assert_eq!(storage.list("").await.expect("listed"), []);
    }

    #[tokio::test]
    async fn a_lost_reply_is_not_the_end() {
        let (patience, pause) = (Duration::from_secs(20), Duration::from_millis(1));
        silent(2).require_within(patience, pause).await.expect("asked a third time");

        let error = silent(usize::MAX)
            .require_within(Duration::from_millis(20), pause)
            .await
            .expect_err("nobody answers");
        assert!(error.to_string().contains("no answer that can be trusted"), "{error}");
    }
}
