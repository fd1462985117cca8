//! What Athena takes, held against what lies in storage.
//!
//! Reads a table as a stranger would: metadata, manifests or log, and the footers of its files; what
//! the writer has in memory plays no part. Each [`Rule`] is a sentence of AWS's documentation or a
//! limit of the engine; a table that keeps them all can be queried, one that does not says which
//! rule is broken, and where.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};
use lakebed_schemas::config::{Reader, TableFormat, Takes};
use serde_json::Value as Json;

use crate::catalog::Entry;
use crate::storage::Storage;
use crate::table::footer;
use crate::{Error, Format, Result, delta, iceberg};

pub(crate) mod entry;
mod footers;
mod neighbours;
mod rule;

pub use neighbours::shared_locations;
pub use rule::{Broken, Rule};

/// Footers read at the same time.
const READS_AT_ONCE: usize = 16;
/// Longest name of a database, table or column in the Glue catalog.
const NAME_MAX: usize = 255;
/// Longest type of a column there, as Hive spells it.
const TYPE_MAX: usize = 131_072;
/// Longest location there.
const LOCATION_MAX: usize = 2_056;

/// What a look at one table gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Rules that are broken, in the order of [`Rule`].
    pub broken: Vec<Broken>,
    /// Data and delete files of the newest version.
    pub files: usize,
    /// How many of them have been opened.
    pub opened: usize,
    /// Where rows are marked dead, and by what: not every reader leaves them out.
    pub dead_rows: Vec<(String, DeadRows)>,
    /// Where the table lies, by each that says so: itself, and its entry in Glue.
    pub locations: BTreeSet<String>,
}

/// By what rows are marked dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeadRows {
    /// Delta's protocol asks readers to know deletion vectors, whether there is one or not.
    Feature,
    /// A deletion vector of Delta.
    DeletionVector,
    /// A delete file of Iceberg.
    DeleteFile,
}

impl Report {
    /// What keeps these engines from reading the table, as sentences with the next move. Engines that
    /// have not been seen to take rows that are marked dead count as if they did not.
    pub fn not_for(&self, format: TableFormat, readers: &[Reader]) -> Vec<String> {
        let with = |takes: Takes| {
            let of = readers.iter().filter(|reader| reader.takes_dead_rows(format) == takes);
            let names: Vec<&str> = of.map(|reader| reader.as_str()).collect();
            (!names.is_empty()).then(|| names.join(", "))
        };
        let refusing = with(Takes::No).map(|names| format!("{names} does not read"));
        let unproven = with(Takes::Unproven).map(|names| format!("nobody has seen {names} read"));
        let told: Vec<String> = refusing.into_iter().chain(unproven).collect();
        let mut places: BTreeMap<DeadRows, Vec<&str>> = BTreeMap::new();
        for (place, dead) in self.dead_rows.iter().filter(|_| !told.is_empty()) {
            places.entry(*dead).or_default().push(place);
        }
        let sentence = |(dead, places): (DeadRows, Vec<&str>)| {
            let place = match places[..] {
                [only] => only.to_owned(),
                [first, ..] => format!("{first} and {} more", places.len() - 1),
                [] => String::new(),
            };
            let (what, next) = dead.told();
            format!("{place}: {what}, which {}; {next}", told.join(" and "))
        };
        places.into_iter().map(sentence).collect()
    }
}

impl DeadRows {
    fn told(self) -> (&'static str, &'static str) {
        let rewrite = "let `mode: copy-on-write` write these files anew, with its next commits";
        match self {
            Self::Feature => (
                "the reader feature `deletionVectors`",
                "once no file has one, drop it in Spark (`ALTER TABLE … DROP FEATURE deletionVectors \
                 TRUNCATE HISTORY`), or build the table anew with `mode: copy-on-write`",
            ),
            Self::DeletionVector => ("a deletion vector", rewrite),
            Self::DeleteFile => ("position deletes", rewrite),
        }
    }
}

/// Looks at the newest version of a table, which `entry` leads to; opens at most `files_max` of its
/// files.
///
/// # Errors
/// When there is no table, storage or catalog do not answer, or something there cannot be read at all.
pub async fn inspect(
    storage: &Storage,
    format: Format,
    entry: &Entry,
    files_max: usize,
) -> Result<Report> {
    let storage = &match format {
        Format::Iceberg => iceberg::profile::place(storage, entry).await?,
        Format::Delta => storage.clone(),
    };
    let mut found = Found::default();
    match entry {
        // A place of S3 Tables' own choosing is a bucket for each table, with a name of its kind.
        Entry::Rest(table) if table.has_own_place() => found.lies_at(storage.location()),
        _ => found.location(storage.location()),
    }
    // Looked up once: what it leads to and what it says belong together.
    let in_glue = match entry {
        Entry::Glue(table) => Some(table.get().await?),
        Entry::Filesystem | Entry::Rest(_) => None,
    };
    match (format, &in_glue) {
        (Format::Delta, _) => delta::profile::read(storage, &mut found).await?,
        (Format::Iceberg, None) => iceberg::profile::read(storage, entry, &mut found).await?,
        (Format::Iceberg, Some(table)) => {
            if let Some(uri) = entry::newest(table.as_ref()) {
                iceberg::profile::read_at(storage, &uri, &mut found).await?;
            }
        }
    }
    if let Some(table) = &in_glue {
        entry::check(table.as_ref(), format, storage.location(), &mut found);
    }
    let opened = found.files.len().min(files_max);
    let by_id = format == Format::Iceberg;
    let footers: Vec<Vec<Broken>> = futures::stream::iter(found.files.iter().take(opened).cloned())
        .map(|file| async move {
            let metadata = footer::read(storage, &file.path, file.size).await?;
            Ok::<_, Error>(footers::check(&file.path, &metadata, by_id))
        })
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await?;
    found.broken.extend(footers.into_iter().flatten());
    found.broken.sort();
    found.broken.dedup();
    let Found { broken, files, dead_rows, locations, .. } = found;
    Ok(Report { broken, files: files.len(), opened, dead_rows, locations })
}

/// A Parquet file that is part of the table.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// Relative to the table.
    pub(crate) path: String,
    /// Bytes.
    pub(crate) size: u64,
}

/// The words in which a format's metadata tells types.
pub(crate) struct TypeWords {
    pub(crate) list: &'static str,
    pub(crate) element: &'static str,
    pub(crate) key: &'static str,
    pub(crate) value: &'static str,
    /// Whether Athena reads a type of this name, one that has no parts.
    pub(crate) takes: fn(&str) -> bool,
}

/// What the metadata of a table gave.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) broken: Vec<Broken>,
    pub(crate) files: Vec<File>,
    /// See [`Report::dead_rows`].
    pub(crate) dead_rows: Vec<(String, DeadRows)>,
    /// Names and Hive's types of the columns; none where they could not be read.
    pub(crate) columns: Vec<(String, String)>,
    /// Whether there was a version before this one.
    pub(crate) has_history: bool,
    /// See [`Report::locations`].
    pub(crate) locations: BTreeSet<String>,
}

impl Found {
    pub(crate) fn breaks(
        &mut self,
        rule: Rule,
        place: impl Into<String>,
        found: impl Into<String>,
    ) {
        self.broken.push(Broken { rule, place: place.into(), found: found.into() });
    }

    /// A table's columns: their names, and their types in the words of its format.
    pub(crate) fn take_schema(&mut self, fields: &[&Json], words: &TypeWords) {
        let named =
            fields.iter().filter_map(|field| Some((field["name"].as_str()?, &field["type"])));
        self.take_columns(named);
        for field in fields {
            let column = field["name"].as_str().unwrap_or_default();
            self.take_type(column, &field["type"], words);
        }
    }

    fn take_type(&mut self, column: &str, of: &Json, words: &TypeWords) {
        let place = || format!("column `{column}`");
        match (of, of["type"].as_str()) {
            (Json::String(name), _) if (words.takes)(name) => {}
            (Json::String(name), _) => self.breaks(Rule::ColumnType, place(), format!("`{name}`")),
            (_, Some("struct")) => {
                for field in of["fields"].as_array().into_iter().flatten() {
                    self.field(column, field["name"].as_str().unwrap_or_default());
                    self.take_type(column, &field["type"], words);
                }
            }
            (_, Some(kind)) if kind == words.list => {
                self.take_type(column, &of[words.element], words);
            }
            (_, Some("map")) => {
                self.take_type(column, &of[words.key], words);
                self.take_type(column, &of[words.value], words);
            }
            _ => self.breaks(Rule::ColumnType, place(), of.to_string()),
        }
    }

    fn take_columns<'n>(&mut self, columns: impl Iterator<Item = (&'n str, &'n Json)>) {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for (name, of) in columns {
            let hive = entry::hive_type(of);
            self.length(format!("the type of column `{name}`"), &hive, TYPE_MAX);
            self.columns.push((name.to_lowercase(), hive));
            if !is_name(name) {
                self.breaks(Rule::Name, format!("column `{name}`"), "its name");
            }
            if let Some(twin) = seen.insert(name.to_lowercase(), name) {
                self.breaks(Rule::NameTwice, format!("column `{name}`"), format!("also `{twin}`"));
            }
        }
    }

    /// A text that the catalog keeps.
    fn length(&mut self, place: impl Into<String>, text: &str, max: usize) {
        let length = text.chars().count();
        if length > max {
            self.breaks(Rule::Length, place, format!("{length} characters"));
        }
    }

    /// The name of a field inside of a column.
    fn field(&mut self, column: &str, name: &str) {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(is_word) {
            self.breaks(Rule::Name, format!("column `{column}`"), format!("its field `{name}`"));
        }
    }

    fn lies_at(&mut self, location: &str) {
        self.locations.insert(location.to_owned());
        self.length("the location", location, LOCATION_MAX);
    }

    /// Where the table lies, and what it and its database are called.
    fn location(&mut self, location: &str) {
        self.lies_at(location);
        let (scheme, path) = location.split_once("://").unwrap_or(("file", location));
        let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        if scheme != "file" && parts.len() < 2 {
            self.breaks(Rule::BucketRoot, location, "a whole bucket");
        }
        for part in parts.split_off(parts.len().saturating_sub(2)) {
            if !is_name(part) {
                self.breaks(Rule::Name, location, format!("`{part}`"));
            }
        }
    }
}

/// Whether the catalog takes it as it stands.
fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(is_plain)
}

#[cfg(test)]
pub(crate) mod tests;
