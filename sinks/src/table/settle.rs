//! One change from staged to settled: committed, or overtaken, or an error that says which.
//!
//! A commit is tried on the freshest head, and only where the table's offsets stand at the start of
//! the batch. A lost race is followed by a look: is our commit id there, are the offsets covered? If
//! the change still applies, the same staged files are committed again. After silence nothing else
//! happens until a look has answered; then the *same* change is tried again on the same version,
//! which is safe whenever the silent attempt lands: one of the two loses, and the loser finds the
//! winner's commit id. Nothing is ever deleted here.

use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use lakebed_schemas::position::{CheckpointDelta, Fit};
use tracing::{info, warn};

use crate::log::{CommitOutcome, Head, MaintenanceReport, TableChange, TableLog};
use crate::{Error, ErrorKind, Result};

/// Bounds of settling one change.
#[derive(Debug, Clone)]
pub struct SettleOptions {
    /// Commit attempts before a lost race becomes an error.
    pub attempts_max: u32,
    /// Wait after the first attempt that did not commit; doubles, with jitter.
    pub backoff_min: Duration,
    /// Longest wait between attempts or looks.
    pub backoff_max: Duration,
    /// How long an unknown outcome, or storage that does not answer, is borne before the table
    /// stops with an error.
    pub unknown_max: Duration,
    /// A head older than this is refreshed before a commit.
    pub base_age_max: Duration,
}

impl Default for SettleOptions {
    fn default() -> Self {
        Self {
            attempts_max: 50,
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
            unknown_max: Duration::from_secs(300),
            base_age_max: Duration::from_secs(600),
        }
    }
}

/// How a change was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It is in the table.
    Committed {
        /// The version that holds it, or a later one where its own is no longer told.
        version: i64,
        /// Commits tried.
        attempts: u32,
        /// The head is exactly the version that the change was last rebased on, plus the change.
        next_to_base: bool,
    },
    /// Its offsets are somebody else's now.
    Overtaken,
    /// The head has moved so that its files have to be written again.
    Restage,
}

/// Whether a change could be carried over to a new head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rebased {
    /// It may be committed there, with the files it has.
    Ready,
    /// Its files do not fit the head's schema.
    Restage,
}

/// What has to be thought over when the head has moved under a change.
#[async_trait]
pub(crate) trait Rebase: Send {
    /// Makes `change` right for `head`.
    async fn rebase(&mut self, log: &dyn TableLog, change: &mut TableChange) -> Result<Rebased>;
}

/// A table's log with the patience to settle changes on it.
pub(crate) struct Settler {
    log: Box<dyn TableLog>,
    options: SettleOptions,
    seen: Seen,
    /// Attempts of the change settled last that were not answered.
    unanswered: u32,
}

/// When the head was last known to be the newest. Two clocks: one may stop while the machine
/// sleeps, the other may be set.
struct Seen {
    monotonic: Instant,
    wall: SystemTime,
}

impl Seen {
    fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    fn is_older_than(&self, age: Duration) -> bool {
        // A wall clock set back makes the age unknown, which counts as old.
        let wall = SystemTime::now().duration_since(self.wall).unwrap_or(Duration::MAX);
        self.monotonic.elapsed() > age || wall > age
    }
}

impl Settler {
    pub(crate) fn new(log: Box<dyn TableLog>, options: SettleOptions) -> Self {
        Self { log, options, seen: Seen::now(), unanswered: 0 }
    }

    pub(crate) fn head(&self) -> &Head {
        self.log.head()
    }

    pub(crate) fn log(&self) -> &dyn TableLog {
        self.log.as_ref()
    }

    pub(crate) async fn refresh(&mut self) -> Result<bool> {
        let moved = self.log.refresh().await?;
        self.seen = Seen::now();
        Ok(moved)
    }

    pub(crate) async fn maintain(&mut self) -> Result<MaintenanceReport> {
        self.log.maintain().await
    }

    /// How `delta` relates to the newest head: a head that may be stale is refreshed before it is
    /// believed that the delta does not apply.
    pub(crate) async fn fit(&mut self, delta: &CheckpointDelta) -> Result<Fit> {
        let stale = self.seen.is_older_than(self.options.base_age_max);
        if stale || self.head().checkpoint.fit(delta) != Fit::Applies {
            self.refresh().await?;
        }
        Ok(self.head().checkpoint.fit(delta))
    }

    /// Attempts of the change settled last whose outcome had to be found out.
    pub(crate) fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// Commits `change`, or finds out that it is in or cannot be.
    ///
    /// # Errors
    /// `Unavailable` when the outcome could not be found out or the races did not end within the
    /// bounds: the change may be in or land later, and its offsets keep it from being applied
    /// twice; [`Error::is_outcome_unknown`] says whether an attempt was not answered. Other kinds as
    /// the log gives them: the change is not in.
    pub(crate) async fn settle(
        &mut self,
        change: &mut TableChange,
        rebase: &mut dyn Rebase,
    ) -> Result<Settled> {
        self.unanswered = 0;
        let settled = self.try_settle(change, rebase).await;
        settled.map_err(|error| match self.unanswered {
            0 => error,
            _ => error.with_unknown_outcome(),
        })
    }

    async fn try_settle(
        &mut self,
        change: &mut TableChange,
        rebase: &mut dyn Rebase,
    ) -> Result<Settled> {
        let mut attempts = 0;
        let mut silent_since: Option<Instant> = None;
        loop {
            if self.seen.is_older_than(self.options.base_age_max)
                && self.look(&mut silent_since, change).await?
                && rebase.rebase(self.log.as_ref(), change).await? == Rebased::Restage
            {
                return Ok(Settled::Restage);
            }
            match self.head().checkpoint.fit(&change.delta) {
                Fit::Applies => {}
                Fit::Covered => return self.covered(change, attempts).await,
                Fit::Overtaken { tp, stored, start } => {
                    warn!(%tp, ?stored, start, "another writer has moved on: batch dropped");
                    return Ok(Settled::Overtaken);
                }
            }
            attempts += 1;
            if let Some(version) = self.attempt(change, attempts, &mut silent_since).await? {
                return Ok(version);
            }
            self.pause(attempts).await;
            let moved = self.look(&mut silent_since, change).await?;
            if let Some(version) = self.find(change, &mut silent_since).await? {
                info!(version, attempts, "the commit is in, by an attempt that was not answered");
                return Ok(Settled::Committed { version, attempts, next_to_base: false });
            }
            if moved && rebase.rebase(self.log.as_ref(), change).await? == Rebased::Restage {
                return Ok(Settled::Restage);
            }
        }
    }

    /// One try; `None` where it has to be found out what became of it or it has to be tried again.
    async fn attempt(
        &mut self,
        change: &TableChange,
        attempts: u32,
        silent_since: &mut Option<Instant>,
    ) -> Result<Option<Settled>> {
        let base = self.head().version;
        match self.log.commit(change).await {
            Ok(CommitOutcome::Committed { version }) => {
                self.seen = Seen::now();
                let next_to_base = version == base + 1;
                return Ok(Some(Settled::Committed { version, attempts, next_to_base }));
            }
            Ok(CommitOutcome::Conflict) => {
                info!(base, attempts, "lost the race for the next table version");
                *silent_since = None;
            }
            Ok(CommitOutcome::Unknown { reason }) => {
                warn!(base, attempts, %reason, "the commit was not answered: looking for it");
                self.unanswered += 1;
                self.bear_silence(silent_since, change, None)?;
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                warn!(base, attempts, error = %error.chain(), "the commit did not come through");
                self.bear_silence(silent_since, change, Some(error))?;
            }
            Err(error) => return Err(error),
        }
        if attempts >= self.options.attempts_max {
            return Err(Error::unavailable(format!(
                "commit {} lost {attempts} races: another writer is committing all the time",
                change.commit_id
            )));
        }
        Ok(None)
    }

    /// Refreshes the head, again and again until storage answers; says whether it moved.
    async fn look(
        &mut self,
        silent_since: &mut Option<Instant>,
        change: &TableChange,
    ) -> Result<bool> {
        let mut looks = 0;
        loop {
            match self.refresh().await {
                Ok(moved) => return Ok(moved),
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    looks += 1;
                    self.bear_silence(silent_since, change, Some(error))?;
                    self.pause(looks).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Looks for the change's commit id, again and again until storage answers.
    async fn find(
        &mut self,
        change: &TableChange,
        silent_since: &mut Option<Instant>,
    ) -> Result<Option<i64>> {
        let mut looks = 0;
        loop {
            match self.log.find_commit(change.commit_id).await {
                Ok(found) => return Ok(found),
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    looks += 1;
                    self.bear_silence(silent_since, change, Some(error))?;
                    self.pause(looks).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The offsets are in; the commit id says whether by us, which no longer matters.
    async fn covered(&mut self, change: &TableChange, attempts: u32) -> Result<Settled> {
        let found = self.find(change, &mut None).await?;
        let version = found.unwrap_or(self.head().version);
        Ok(Settled::Committed { version, attempts, next_to_base: false })
    }

    /// An error once there has been no trustworthy answer for too long.
    fn bear_silence(
        &self,
        silent_since: &mut Option<Instant>,
        change: &TableChange,
        cause: Option<Error>,
    ) -> Result<()> {
        let since = *silent_since.get_or_insert_with(Instant::now);
        if since.elapsed() < self.options.unknown_max {
            return Ok(());
        }
        let error = Error::unavailable(format!(
            "what became of commit {} is unknown after {} s without a trustworthy answer: \
             restore access to the table's storage, then start again from its checkpoint",
            change.commit_id,
            since.elapsed().as_secs()
        ));
        Err(match cause {
            Some(cause) => error.with_source(cause),
            None => error,
        })
    }

    /// Waits longer each time, never in step with others.
    async fn pause(&self, attempts: u32) {
        let doubled =
            self.options.backoff_min.saturating_mul(1 << attempts.min(16).saturating_sub(1));
        let longest = doubled.min(self.options.backoff_max);
        let random = uuid::Uuid::new_v4().as_u128() % 1024;
        let jitter = u32::try_from(random).unwrap_or(0);
        tokio::time::sleep(longest / 2 + longest / 2 * jitter / 1024).await;
    }
}
