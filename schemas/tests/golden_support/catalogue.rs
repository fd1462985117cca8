//! The recordings that are compared with their source: how each is read, how many cells have to be
//! equal, and which cannot be.

use super::cells::Divergence;
use super::columns::{self, Said};

/// A recording, how it is read, and where it cannot give the source's cells.
pub(crate) struct Entry {
    pub(crate) recording: &'static str,
    /// The source's final rows.
    pub(crate) state: &'static str,
    /// Where it is not Debezium's own.
    pub(crate) placeholder: Option<&'static str>,
    /// What the configuration says of a column of this type.
    pub(crate) columns: fn(&str) -> Option<Said>,
    /// Tables that are left out.
    pub(crate) without: &'static [&'static str],
    /// Cells of a plain replay that are the source's.
    pub(crate) equal: usize,
    pub(crate) divergent: Vec<Divergence>,
}

/// One block of columns cannot say what a column was at each time.
const EVOLVE: &[&str] = &["evolve.t", "golden.evolve"];

fn entry(recording: &'static str, equal: usize, lists: &[&[Listed]]) -> Entry {
    let state = match recording {
        "postgres/apicurio-8byte" => "postgres/apicurio-8byte.state",
        "postgres/apicurio-headers" => "postgres/apicurio-headers.state",
        "postgres/incremental" => "postgres/incremental.state",
        "postgres/special-precise" => "postgres/special-precise.state",
        "postgres/special-string" => "postgres/special-string.state",
        "postgres/special-double" => "postgres/special-double.state",
        other if other.starts_with("postgres/") => "postgres/state",
        _ => "mariadb/state",
    };
    let divergent = lists.concat().into_iter().map(|(table, column, cells, reason)| Divergence {
        table,
        column,
        cells,
        reason,
    });
    Entry {
        recording,
        state,
        placeholder: None,
        columns: columns::by_schema,
        without: &[],
        equal,
        divergent: divergent.collect(),
    }
}

/// Table, column, cells and reason of a divergence.
type Listed = (&'static str, &'static str, usize, &'static str);

// Reasons: entries of the manifest.
const IDENT_INDEX: &str = "changes.ident_index";
const TRUNC: &str = "changes.three_trunc";
const TOAST: &str = "changes.toast id 1";
const NAME: &str = "types.basic.c_name";
const CHAR: &str = "types.basic.c_char";
const INET: &str = "types.netbits.c_inet";
const VARBIT: &str = "types.netbits vb, vbu";
const GENERATED: &str = "types.generated.twice";
const ODD: &str = "types.odd";
const TEMPORAL: &str = "types.temporal";
const EDGE: &str = "types.temporal_edge";
const SPECIAL: &str = "special-*";
const BIGINT_UNSIGNED: &str = "t_int.biu, ubig_key";
const ADJUSTED: &str = "t_time id 7";

// Reasons: settings of the connector, which its own documentation says of them.
const ISO_TIME: &str =
    "mode: isostring knows times of day only: 24:00:00 is midnight, more is null";
const CONNECT_TIME: &str = "mode: connect cuts to milliseconds, and has times of day only";
const NO_TRUNCATE: &str = "mode: flattening drops truncates";
const DOUBLE: &str = "mode: decimals are sent as doubles";
const YEAR: &str = "mode: YEAR 0000 is streamed as 1900";

/// Of PostgreSQL's types, whatever the connector's modes.
const PG_TYPES: &[Listed] = &[
    ("types.basic", "c_char", 4, CHAR),
    ("types.generated", "twice", 2, GENERATED),
    ("types.netbits", "c_inet", 2, INET),
    ("types.netbits", "vbu", 2, VARBIT),
    ("types.odd", "arr2", 2, ODD),
    ("types.odd", "comp", 2, ODD),
    ("types.odd", "mr", 2, ODD),
    ("types.temporal", "d", 1, TEMPORAL),
    ("types.temporal_edge", "d", 2, EDGE),
];
/// Of PostgreSQL's types where they are not sent as text.
const PG_NUMERIC: &[Listed] = &[
    ("types.basic", "c_name", 4, NAME),
    ("types.temporal", "iv", 10, TEMPORAL),
    ("types.temporal_edge", "ts", 2, EDGE),
];
const PG_CHANGES: &[Listed] =
    &[("changes.ident_index", "rows", 2, IDENT_INDEX), ("changes.toast", "big", 1, TOAST)];
/// Rows that were not touched after an ALTER keep what they were sent with.
const PG_EVOLVE: &[Listed] = &[
    ("evolve.t", "d", 1, "evolve.t"),
    ("evolve.t", "e_renamed", 2, "evolve.t"),
    ("evolve.t", "f", 3, "evolve.t"),
    ("evolve.t", "h", 6, "evolve.t"),
];
const PG_ISO: &[Listed] = &[
    ("types.temporal", "t", 2, ISO_TIME),
    ("types.temporal", "t0", 2, ISO_TIME),
    ("types.temporal", "t3", 2, ISO_TIME),
];
const PG_CONNECT: &[Listed] = &[
    ("types.arrays", "a_ts", 2, CONNECT_TIME),
    ("types.numbers", "c_money", 4, DOUBLE),
    ("types.numbers", "n", 2, DOUBLE),
    ("types.numbers", "n_38_10", 4, DOUBLE),
    ("types.numbers", "n_60_20", 2, DOUBLE),
    ("types.temporal", "t", 4, CONNECT_TIME),
    ("types.temporal", "ts", 4, CONNECT_TIME),
];
/// A truncate is not told by flattened records.
const PG_FLAT: &[Listed] =
    &[("changes.trunc", "rows", 6, NO_TRUNCATE), ("changes.trunc_child", "rows", 6, NO_TRUNCATE)];
const PG_SPECIAL: &[Listed] = &[("public.sp", "n", 6, SPECIAL), ("public.sp", "n2", 2, SPECIAL)];

/// Of MariaDB, whatever the connector's modes.
const MY_ALWAYS: &[Listed] = &[
    ("golden.cascade_c", "pid", 1, "cascade_c"),
    ("golden.cascade_c", "rows", 2, "cascade_c"),
    ("golden.t_int", "iz", 4, "t_int.iz"),
    ("golden.t_int", "yr", 1, YEAR),
    ("golden.t_num", "db2", 1, "t_num"),
    ("golden.t_num", "f", 2, "t_num"),
    ("golden.t_num", "fu", 2, "t_num"),
    ("golden.t_time", "d", 2, ADJUSTED),
    ("golden.t_time", "dt", 2, ADJUSTED),
    ("golden.t_time", "dt3", 2, ADJUSTED),
    ("golden.t_time", "dt6", 2, ADJUSTED),
    ("golden.t_time", "dt6", 1, "t_time dt6 id 6"),
    ("golden.t_zero", "d", 4, "t_zero"),
    ("golden.t_zero", "dn", 4, "t_zero"),
    ("golden.t_zero", "dt", 4, "t_zero"),
    ("golden.t_zero", "dtn", 4, "t_zero"),
    ("golden.t_zero", "ts", 2, "t_zero"),
    ("golden.t_zero", "tsn", 2, "t_zero"),
];
const MY_EVOLVE: &[Listed] = &[
    ("golden.evolve", "d", 1, "evolve"),
    ("golden.evolve", "e_renamed", 2, "evolve"),
    ("golden.evolve", "h", 5, "evolve"),
];
/// Unless the configuration says that a column is unsigned.
const MY_WRAPPED: &[Listed] =
    &[("golden.t_int", "biu", 4, BIGINT_UNSIGNED), ("golden.ubig_key", "rows", 4, BIGINT_UNSIGNED)];
const MY_FLAT: &[Listed] = &[("golden.trunc", "rows", 4, NO_TRUNCATE)];
const MY_ISO: &[Listed] = &[
    ("golden.t_time", "t", 8, ISO_TIME),
    ("golden.t_time", "t3", 8, ISO_TIME),
    ("golden.t_time", "t6", 8, ISO_TIME),
];
const MY_CONNECT: &[Listed] = &[
    ("golden.t_num", "d38", 4, DOUBLE),
    ("golden.t_num", "d65_30", 4, DOUBLE),
    ("golden.t_time", "dt6", 7, CONNECT_TIME),
    ("golden.t_time", "t", 6, CONNECT_TIME),
    ("golden.t_time", "t3", 8, CONNECT_TIME),
    ("golden.t_time", "t6", 10, CONNECT_TIME),
];

/// The recordings that are compared.
pub(crate) fn entries() -> Vec<Entry> {
    [postgres(), mariadb()].into_iter().flatten().collect()
}

fn postgres() -> Vec<Entry> {
    let trunc = |rows| [("changes.three_trunc", "rows", rows, TRUNC)];
    let changes: [&[Listed]; 3] = [PG_TYPES, PG_NUMERIC, PG_CHANGES];
    vec![
        entry("postgres/json-schema", 1_068, &[&changes[..], &[&trunc(6), PG_EVOLVE]].concat()),
        Entry {
            columns: columns::adaptive,
            without: EVOLVE,
            ..entry("postgres/json", 1_029, &[&changes[..], &[&trunc(8)]].concat())
        },
        Entry {
            placeholder: Some("N/A"),
            columns: columns::modes_string,
            ..entry("postgres/modes-string", 745, &[PG_TYPES, PG_ISO])
        },
        Entry {
            columns: columns::hex,
            ..entry("postgres/modes-connect", 713, &[PG_TYPES, PG_NUMERIC, PG_CONNECT])
        },
        entry("postgres/special-precise", 15, &[PG_SPECIAL]),
        Entry { columns: columns::special_string, ..entry("postgres/special-string", 23, &[]) },
        entry("postgres/special-double", 23, &[]),
        entry("postgres/incremental", 9_017, &[]),
        entry("postgres/avro", 1_072, &[&changes[..], &[&trunc(4), PG_EVOLVE]].concat()),
        entry("postgres/apicurio-8byte", 3, &[]),
        entry("postgres/apicurio-headers", 3, &[]),
        Entry {
            columns: columns::adaptive,
            without: EVOLVE,
            ..entry("postgres/flat", 1_029, &[&changes[..], &[&trunc(18), PG_FLAT]].concat())
        },
    ]
}

fn mariadb() -> Vec<Entry> {
    vec![
        entry("mariadb/json-schema", 838, &[MY_ALWAYS, MY_EVOLVE, MY_WRAPPED]),
        Entry {
            columns: columns::my_adaptive,
            without: EVOLVE,
            ..entry("mariadb/json", 800, &[MY_ALWAYS])
        },
        Entry {
            columns: columns::my_modes,
            ..entry("mariadb/modes", 822, &[MY_ALWAYS, MY_EVOLVE, MY_ISO])
        },
        Entry {
            columns: columns::my_hex,
            ..entry("mariadb/modes-connect", 799, &[MY_ALWAYS, MY_EVOLVE, MY_WRAPPED, MY_CONNECT])
        },
        Entry {
            columns: columns::my_adaptive,
            without: EVOLVE,
            ..entry("mariadb/mysql-connector", 784, &[MY_ALWAYS])
        },
        entry("mariadb/avro", 838, &[MY_ALWAYS, MY_EVOLVE, MY_WRAPPED]),
        Entry {
            columns: columns::my_adaptive,
            without: EVOLVE,
            ..entry("mariadb/flat", 800, &[MY_ALWAYS, MY_FLAT])
        },
    ]
}
