//! Names of columns: the source's name made fit for every reader, unique in its table.

use xxhash_rust::xxh3::xxh3_64;

use crate::silver;

/// Longest name that catalogs take, in bytes.
const NAME_MAX: usize = 255;

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
/// a reader's. At most 255 bytes: what is longer is cut, and ends with a hash of the source's name.
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
    let first = fitted(&base, source_name, "");
    if !reserved && !taken(&first) {
        return first;
    }
    let mut suffix = 2u32;
    loop {
        let name = fitted(&base, source_name, &format!("__{suffix}"));
        if !taken(&name) {
            return name;
        }
        suffix += 1;
    }
}

/// A plain name with its suffix, cut to what catalogs take. The hash keeps names apart that begin
/// alike, whichever of them comes first.
fn fitted(base: &str, source_name: &str, suffix: &str) -> String {
    if base.len() + suffix.len() <= NAME_MAX {
        return format!("{base}{suffix}");
    }
    let end = format!("_{:016x}{suffix}", xxh3_64(source_name.as_bytes()));
    format!("{}{end}", &base[..NAME_MAX - end.len()])
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

    #[test]
    fn long_names_are_cut_to_what_catalogs_take_and_stay_apart() {
        let free = |_: &str| false;
        let long = |length: usize| "x".repeat(length);
        assert_eq!(column_name(&long(255), free), long(255));
        let cut = column_name(&long(256), free);
        assert_eq!(cut.len(), 255);
        assert!(cut.starts_with(&long(238)) && cut.as_bytes()[238] == b'_', "{cut}");
        assert_eq!(column_name(&long(256), free), cut, "the same at every start");
        assert_ne!(column_name(&long(257), free), cut);
        assert_ne!(column_name(&format!("{}y", long(255)), free), cut);
        // Bytes count: each of these letters becomes one `_`.
        assert_eq!(column_name(&"ü".repeat(255), free), "_".repeat(255));
    }

    #[test]
    fn a_suffix_has_room_in_a_long_name() {
        let (just, long) = ("x".repeat(255), "x".repeat(300));
        for source_name in [&just, &long] {
            let first = column_name(source_name, |_| false);
            let second = column_name(source_name, |name| name == first);
            assert_eq!(second.len(), 255);
            assert!(second.ends_with("__2"), "{second}");
            let third = column_name(source_name, |name| name == first || name == second);
            assert!(third.len() == 255 && third.ends_with("__3"), "{third}");
        }
        let reserved = format!("_cdc_{}", "x".repeat(250));
        assert!(column_name(&reserved, |_| false).ends_with("__2"));
        assert_eq!(column_name(&"x".repeat(252), |name| !name.ends_with("__2")).len(), 255);
    }
}
