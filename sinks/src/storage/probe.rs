//! Whether a place refuses to overwrite when it is asked to.

use uuid::Uuid;

use super::{PutOutcome, Storage};
use crate::{Error, Result};

/// What a probe of a lake found.
#[derive(Debug)]
pub enum Probe {
    /// It can be written to and enforces conditional puts.
    Enforced {
        /// Why the probe's object could not be deleted again, if so.
        undeleted: Option<Error>,
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
            unfit(
                format!("the lake at {place} gave no answer that can be trusted: {reason}"),
                "correct `lake.location` and `lake.s3`, or wait until the storage answers",
            )
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

    /// Refuses a place that a probe finds unfit.
    ///
    /// # Errors
    /// As [`Self::probe`], and `Invalid` where conditional puts are not enforced.
    pub async fn require_conditional_puts(&self) -> Result<()> {
        match self.probe().await? {
            Probe::Enforced { .. } => Ok(()),
            Probe::Unfit { what, next } => Err(Error::invalid(format!("{what}; {next}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{careless, local};
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
}
