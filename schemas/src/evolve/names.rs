//! Names of columns: the source's name made fit for every reader, unique in its table.

use crate::silver;

/// What the names of our own columns begin with. The source's columns may not.
const RESERVED: &str = "_cdc_";

/// Names that a reader gives a meaning of its own: Iceberg's metadata columns (Spark refuses a
/// table that has one) and those that Delta's change data feed adds.
const READERS_OWN: [&str; 12] = [
    "_change_ordinal",
    "_change_type",
    "_commit_snapshot_id",
    "_commit_timestamp",
    "_commit_version",
    "_deleted",
    "_file",
    "_last_updated_sequence_number",
    "_partition",
    "_pos",
    "_row_id",
    "_spec_id",
];

/// The name that a source's field gets in a table: lower case, `[a-z0-9_]`, everything else `_`;
/// with the suffix `__2`, `__3`, … where `taken` holds it already or where it is one of ours or of
/// a reader's.
pub fn column_name(source_name: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut base: String = source_name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '_' })
        .collect();
    if base.is_empty() {
        base.push('_');
    }
    let reserved = base.starts_with(RESERVED)
        || silver::is_system(&base)
        || READERS_OWN.contains(&base.as_str());
    if !reserved && !taken(&base) {
        return base;
    }
    let mut suffix = 2u32;
    loop {
        let name = format!("{base}__{suffix}");
        if !taken(&name) {
            return name;
        }
        suffix += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_and_plain() {
        let free = |_: &str| false;
        assert_eq!(column_name("Order Total", free), "order_total");
        assert_eq!(column_name("ünï", free), "_n_");
        assert_eq!(column_name("a.b", free), "a_b");
        assert_eq!(column_name("1st", free), "1st");
        assert_eq!(column_name("", free), "_");
    }

    #[test]
    fn taken_and_reserved_names_get_the_next_free_suffix() {
        let taken = |name: &str| matches!(name, "id" | "id__2");
        assert_eq!(column_name("ID", taken), "id__3");
        assert_eq!(column_name("_cdc_op", |_| false), "_cdc_op__2");
        assert_eq!(column_name("_CDC_mine", |_| false), "_cdc_mine__2");
        assert_eq!(column_name("_Partition", |_| false), "_partition__2");
    }
}
