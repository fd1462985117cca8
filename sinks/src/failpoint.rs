//! Named crash points in the commit protocol, for the tests that kill the process there.
//!
//! Without the feature `failpoints` a hit costs nothing and does nothing. With it, the environment
//! variable `LAKEBED_KILL_AT=<point>[:<nth hit>]` makes the process kill itself (SIGKILL: no
//! destructor, no flush) at the n-th hit of that point, after it has said so on standard error in
//! one line, `failpoint <point> hit`, so that a test knows that the kill fell inside the protocol.

/// A batch is about to be written; nothing of it is in storage.
pub const BEFORE_STAGE: &str = "before-stage";
/// One data file of the batch is durable, others may not be.
pub const AMID_STAGE: &str = "amid-stage";
/// All data files of the batch are durable and invisible.
pub const AFTER_STAGE: &str = "after-stage";
/// What the commit point will name (manifests, deletes, deletion vectors) is about to be written.
pub const BEFORE_COMMIT_METADATA: &str = "before-commit-metadata";
/// The conditional write that makes the commit visible is next.
pub const BEFORE_COMMIT_POINT: &str = "before-commit-point";
/// The commit is visible, and nobody has been told.
pub const AFTER_COMMIT_POINT: &str = "after-commit-point";
/// The commit is visible; a hint to its readers (`version-hint.text`, `_last_checkpoint`) is next.
pub const BEFORE_HINT: &str = "before-hint";
/// The table has the batch, the consumer group's offsets are not committed.
pub const BEFORE_OFFSET_COMMIT: &str = "before-offset-commit";
/// The consumer group's offsets are committed.
pub const AFTER_OFFSET_COMMIT: &str = "after-offset-commit";
/// Maintenance is about to delete objects.
pub const BEFORE_CLEANUP: &str = "before-cleanup";
/// Maintenance has deleted some of its objects.
pub const AMID_CLEANUP: &str = "amid-cleanup";

/// Every point, in the order of the protocol.
pub const ALL: &[&str] = &[
    BEFORE_STAGE,
    AMID_STAGE,
    AFTER_STAGE,
    BEFORE_COMMIT_METADATA,
    BEFORE_COMMIT_POINT,
    AFTER_COMMIT_POINT,
    BEFORE_HINT,
    BEFORE_OFFSET_COMMIT,
    AFTER_OFFSET_COMMIT,
    BEFORE_CLEANUP,
    AMID_CLEANUP,
];

/// The protocol has reached `point`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn hit(_point: &str) {}

/// The protocol has reached `point`: the process dies here if it was told to.
#[cfg(feature = "failpoints")]
pub fn hit(point: &str) {
    armed::hit(point);
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Trap {
        point: String,
        hits_left: AtomicU64,
    }

    /// `point` or `point:n`, n from 1.
    pub(super) fn parse(text: &str) -> Option<(String, u64)> {
        let (point, nth) = match text.split_once(':') {
            Some((point, nth)) => (point, nth.parse().ok()?),
            None => (text, 1),
        };
        (super::ALL.contains(&point) && nth > 0).then(|| (point.to_owned(), nth))
    }

    fn trap() -> Option<&'static Trap> {
        static TRAP: OnceLock<Option<Trap>> = OnceLock::new();
        TRAP.get_or_init(|| {
            let text = std::env::var("LAKEBED_KILL_AT").ok()?;
            let Some((point, nth)) = parse(&text) else {
                // A test that sets a trap and misses it would pass for the wrong reason.
                eprintln!("LAKEBED_KILL_AT=`{text}` names no failpoint");
                std::process::abort();
            };
            Some(Trap { point, hits_left: AtomicU64::new(nth) })
        })
        .as_ref()
    }

    pub(super) fn hit(point: &str) {
        let Some(trap) = trap() else { return };
        if trap.point == point && trap.hits_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            eprintln!("failpoint {point} hit");
            die();
        }
    }

    fn die() -> ! {
        let killed = std::process::Command::new("kill")
            .args(["-9", &std::process::id().to_string()])
            .status();
        if killed.is_ok() {
            // The signal is on its way; nothing of ours may run meanwhile on this thread.
            std::thread::sleep(std::time::Duration::from_secs(5));
        }
        std::process::abort();
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_trap_is_a_known_point_and_a_count() {
            assert_eq!(parse("after-stage"), Some(("after-stage".to_owned(), 1)));
            assert_eq!(parse("after-stage:3"), Some(("after-stage".to_owned(), 3)));
            assert_eq!(parse("after-stage:0"), None);
            assert_eq!(parse("afterstage"), None);
        }

        /// Runs only as the child of the next test, which sets its trap.
        #[test]
        fn victim() {
            if std::env::var("LAKEBED_KILL_AT").is_ok() {
                super::super::hit(crate::failpoint::BEFORE_STAGE);
                super::super::hit(crate::failpoint::AFTER_STAGE);
                eprintln!("first hit survived");
                super::super::hit(crate::failpoint::AFTER_STAGE);
                eprintln!("second hit survived");
            }
        }

        #[test]
        fn a_trap_kills_the_process_at_its_hit_and_says_so_first() {
            use std::os::unix::process::ExitStatusExt;

            let output = std::process::Command::new(std::env::current_exe().expect("this test"))
                .args(["--exact", "failpoint::armed::tests::victim", "--nocapture"])
                .env("LAKEBED_KILL_AT", "after-stage:2")
                .output()
                .expect("the victim ran");

            assert_eq!(output.status.signal(), Some(9));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("first hit survived"), "{said}");
            assert!(said.contains("failpoint after-stage hit\n"), "{said}");
            assert!(!said.contains("second hit survived"), "{said}");
        }
    }
}
