//! One behaviour suite for every table log.
//!
//! A format passes by implementing [`LogFactory`] and writing, in its test module,
//! `crate::conformance_tests!(MyFactory::new());`: one test for each behaviour, on a table of its
//! own in a temporary folder.

pub mod commits;
pub mod cost;
pub mod fixture;
#[cfg(test)]
pub(crate) mod in_catalog;
pub mod modes;
pub mod partitions;
pub mod rewrites;
pub mod rows;
pub mod sweep;
pub mod taken;
pub mod truncate;
pub mod upkeep;

use async_trait::async_trait;
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::config::Mode;

use crate::Result;
use crate::catalog::Entry;
use crate::log::{TableLog, TableOptions};
use crate::storage::Storage;

/// Makes and opens tables of one format.
#[async_trait]
pub trait LogFactory: Send + Sync {
    /// Makes an empty table with this schema (ids assigned) at `storage`, which holds none.
    ///
    /// # Errors
    /// When it cannot be made.
    async fn create(
        &self,
        storage: &Storage,
        options: &TableOptions,
        schema: &TableSchema,
    ) -> Result<Box<dyn TableLog>>;

    /// Opens the table at `storage`: a new process, knowing nothing but what is stored.
    ///
    /// # Errors
    /// When there is none or it cannot be read.
    async fn open(&self, storage: &Storage, options: &TableOptions) -> Result<Box<dyn TableLog>>;

    /// How rows go from its silver tables.
    fn mode(&self) -> Mode {
        Mode::MergeOnRead
    }

    /// Whether its [`TableLog::maintain`] deletes files.
    fn keeps_files(&self) -> bool {
        true
    }

    /// Where readers look up the table at `storage`.
    fn looked_up(&self, _storage: &Storage) -> Entry {
        Entry::Filesystem
    }
}

/// The tables of another factory, whose files are rewritten when rows go.
pub struct CopyOnWrite<F>(pub F);

#[async_trait]
impl<F: LogFactory> LogFactory for CopyOnWrite<F> {
    async fn create(
        &self,
        storage: &Storage,
        options: &TableOptions,
        schema: &TableSchema,
    ) -> Result<Box<dyn TableLog>> {
        self.0.create(storage, options, schema).await
    }

    async fn open(&self, storage: &Storage, options: &TableOptions) -> Result<Box<dyn TableLog>> {
        self.0.open(storage, options).await
    }

    fn mode(&self) -> Mode {
        Mode::CopyOnWrite
    }

    fn looked_up(&self, storage: &Storage) -> Entry {
        self.0.looked_up(storage)
    }
}

/// One test for each behaviour, on tables that `$factory` (an expression) makes.
#[macro_export]
macro_rules! conformance_tests {
    ($factory:expr) => {
        $crate::conformance_tests!(@behaviour $factory);
        $crate::conformance_tests!(@each $factory;
            upkeep: metadata_for_each_commit_stays_flat
            cost: an_upsert_costs_what_its_batch_costs
            rewrites: files_that_leave_take_their_rows_along
            rewrites: dead_rows_leave_with_their_files
            rewrites: a_file_that_is_gone_cannot_leave_again
            modes: both_modes_give_the_same_rows
            modes: a_table_may_change_its_mode
            modes: a_file_that_another_writer_changed_is_written_for_what_is_there_now
            modes: files_stay_few_and_bounded
            modes: what_was_rewritten_is_kept_as_long_as_promised
            modes: what_each_mode_writes
        );
    };
    // On tables that are partitioned: where rows are found, moved and lost.
    (@partitioned $factory:expr) => {
        $crate::conformance_tests!(@each $factory;
            commits: a_replayed_batch_is_written_once
            commits: a_commit_that_lands_late_is_not_applied_twice
            commits: a_zombie_is_refused
            rows: two_deletes_of_one_file_add_up
            rows: a_table_opened_again_has_the_same_index
            rows: two_writers_may_add_columns_at_once
            rows: placeholders_keep_what_the_row_had
            truncate: a_truncate_empties_a_topic_before_the_rows_of_its_batch
            sweep: what_a_snapshot_did_not_find_goes_with_its_last_record
            partitions: rows_move_between_partitions
            partitions: a_batch_may_touch_very_many_partitions
        );
    };
    // What is right or wrong; not what it costs, which is the same on every catalog.
    (@behaviour $factory:expr) => {
        $crate::conformance_tests!(@each $factory;
            commits: staged_files_are_invisible_until_commit
            commits: a_replayed_batch_is_written_once
            commits: a_lost_race_commits_the_same_files_again
            commits: a_lost_reply_is_recognised
            commits: a_lost_request_is_sent_again
            commits: a_commit_that_lands_late_is_not_applied_twice
            commits: a_refusal_before_the_commit_point_is_tried_again
            commits: silence_without_end_stops_the_table_and_loses_nothing
            commits: a_zombie_is_refused
            commits: a_zombie_is_refused_after_a_long_sleep_with_cleanup
            commits: a_change_that_does_not_fit_is_refused
            commits: offsets_move_without_rows
            commits: memos_are_there_from_their_commit_on
            rows: two_deletes_of_one_file_add_up
            rows: a_table_opened_again_has_the_same_index
            rows: a_schema_changes_in_the_commit_of_its_data
            rows: two_writers_may_add_columns_at_once
            rows: a_name_that_another_writer_took_is_read_again
            rows: bronze_lands_in_its_partitions
            rows: placeholders_keep_what_the_row_had
            rows: every_type_reads_back_as_it_was_written
            rows: a_key_with_two_rows_is_healed
            rows: rows_that_others_moved_are_found_again
            truncate: a_truncate_empties_a_topic_before_the_rows_of_its_batch
            truncate: a_truncate_without_rows_leaves_an_empty_table
            truncate: a_truncate_that_lost_a_race_takes_its_own_topic_only
            sweep: what_a_snapshot_did_not_find_goes_with_its_last_record
            sweep: a_swept_row_that_was_incomplete_takes_nothing_along
            truncate: a_truncate_takes_from_other_partitions_what_was_there_before_it
            truncate: a_row_that_does_not_tell_when_it_was_made_stops_a_truncate
            upkeep: cleanup_keeps_what_readers_need
        );
    };
    // The behaviours again where files are rewritten when rows go.
    (@copy_on_write $factory:expr) => {
        $crate::conformance_tests!(@behaviour $crate::conformance::CopyOnWrite($factory));
    };
    (@each $factory:expr; $($module:ident: $name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $crate::conformance::$module::$name(&$factory).await;
            }
        )*
    };
}
