//! How one budget is shared between records on their way and what tables keep between batches: key
//! indexes, and the events that may come again.

/// One part in this many of what the tables leave may be taken by records as they came: as rows
/// they take about as much again, and so do the files that they become and the client's queues.
const RECORDS_SHARE: usize = 4;

/// One part in this many of the budget is always there for records, so that tables go on, slowly,
/// when what they keep takes it all.
const RECORDS_MIN: usize = 16;

/// The budget of the process.
#[derive(Debug, Clone, Copy)]
pub struct MemoryBudget {
    max: usize,
}

impl MemoryBudget {
    /// A budget of so many bytes.
    pub fn new(max: u64) -> Self {
        Self { max: usize::try_from(max).unwrap_or(usize::MAX) }
    }

    /// Bytes in all.
    pub fn max(self) -> usize {
        self.max
    }

    /// Bytes of records that may be out while tables keep so many.
    pub fn for_records(self, kept_bytes: usize) -> usize {
        let left = self.max.saturating_sub(kept_bytes) / RECORDS_SHARE;
        left.max(self.max / RECORDS_MIN)
    }

    /// Bytes that are taken, as they are counted: an estimate.
    pub fn taken(self, kept_bytes: usize, record_bytes: usize) -> usize {
        kept_bytes.saturating_add(record_bytes.saturating_mul(RECORDS_SHARE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_get_a_share_of_what_the_tables_leave_and_never_nothing() {
        let budget = MemoryBudget::new(1_600);
        assert_eq!(budget.for_records(0), 400);
        assert_eq!(budget.for_records(800), 200);
        assert_eq!(budget.for_records(1_600), 100);
        assert_eq!(budget.for_records(9_000), 100);
        assert_eq!(budget.taken(800, 200), 1_600);
    }
}
