//! Several byte ranges of one object in few requests.

/// Requests for ranges of one object at the same time.
pub(super) const RANGES_PARALLEL: usize = 8;
/// Ranges closer than this are read in one request: a request costs more than these bytes.
const RANGE_GAP_BYTES: u64 = 64 * 1024;

/// Sorted, disjoint ranges that cover these.
pub(super) fn merge_ranges(ranges: &[std::ops::Range<u64>]) -> Vec<std::ops::Range<u64>> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| (range.start, range.end));
    let mut merged: Vec<std::ops::Range<u64>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(RANGE_GAP_BYTES) => {
                last.end = last.end.max(range.end);
            }
            _ => merged.push(range),
        }
    }
    merged
}
