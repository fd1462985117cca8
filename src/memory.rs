//! How one budget is shared between records on their way and the key indexes.

/// One part in this many of what the indexes leave may be taken by records as they came: as rows
/// they take about as much again, and so do the files that they become and the client's queues.
const RECORDS_SHARE: usize = 4;

/// One part in this many of the budget is always there for records, so that tables go on, slowly,
/// when their indexes take it all.
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

    /// Bytes of records that may be out while the indexes take so many.
    pub fn for_records(self, index_bytes: usize) -> usize {
        let left = self.max.saturating_sub(index_bytes) / RECORDS_SHARE;
        left.max(self.max / RECORDS_MIN)
    }

    /// Bytes that are taken, as they are counted: an estimate.
    pub fn taken(self, index_bytes: usize, record_bytes: usize) -> usize {
        index_bytes.saturating_add(record_bytes.saturating_mul(RECORDS_SHARE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_get_a_share_of_what_the_indexes_leave_and_never_nothing() {
        let budget = MemoryBudget::new(1_600);
        assert_eq!(budget.for_records(0), 400);
        assert_eq!(budget.for_records(800), 200);
        assert_eq!(budget.for_records(1_600), 100);
        assert_eq!(budget.for_records(9_000), 100);
        assert_eq!(budget.taken(800, 200), 1_600);
    }
}
