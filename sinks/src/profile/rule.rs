//! The rules, each a sentence, and what breaks one.

use std::fmt;

/// One thing that Athena asks of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Iceberg tables have format version 2.
    FormatVersion,
    /// Columns have types that the engine reads.
    ColumnType,
    /// Names are `[a-z0-9_]`, 1 to 255 characters; fields inside of columns may have upper case.
    Name,
    /// No two columns have one name, whatever the case.
    NameTwice,
    /// Iceberg partitions are identity, year, month, day, hour, bucket or truncate of a column.
    Transform,
    /// Delta partition columns are scalar and not binary.
    PartitionType,
    /// Data and delete files are Parquet.
    FileFormat,
    /// Rows are deleted by position or equality deletes in Parquet, not by Puffin vectors.
    Deletes,
    /// Columns of Iceberg's data files carry their field ids.
    FieldIds,
    /// Timestamps in files are 64-bit microseconds.
    TimestampUnit,
    /// Files are compressed with Zstandard or Snappy.
    Codec,
    /// Everything that the table names lies below its location.
    OutsideLocation,
    /// On S3 everything is named `s3://…`.
    Scheme,
    /// A table does not lie at the root of a bucket: cleaning up would take everything in it.
    BucketRoot,
    /// No other table lies at the same place, around it or inside of it.
    SharedLocation,
    /// Texts that Glue keeps of a table are within its lengths.
    Length,
    /// Delta asks for reader version 3 at most.
    ReaderVersion,
    /// Delta's reader features are columnMapping, timestampNtz and deletionVectors.
    ReaderFeature,
    /// Delta's log checkpoints are of the classic kind.
    LogCheckpoint,
    /// Delta names its files by paths relative to the table.
    AbsolutePath,
    /// The table has an entry in Glue, with the markers that engines go by.
    Entry,
    /// The entry says where the table lies, in every place where engines look.
    EntryLocation,
    /// The entry's columns are the table's, or for Delta the placeholder.
    EntryColumns,
    /// Comments in the entry are one line of 255 characters at most.
    EntryComment,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 24] = [
        Self::FormatVersion,
        Self::ColumnType,
        Self::Name,
        Self::NameTwice,
        Self::Transform,
        Self::PartitionType,
        Self::FileFormat,
        Self::Deletes,
        Self::FieldIds,
        Self::TimestampUnit,
        Self::Codec,
        Self::OutsideLocation,
        Self::Scheme,
        Self::BucketRoot,
        Self::SharedLocation,
        Self::Length,
        Self::ReaderVersion,
        Self::ReaderFeature,
        Self::LogCheckpoint,
        Self::AbsolutePath,
        Self::Entry,
        Self::EntryLocation,
        Self::EntryColumns,
        Self::EntryComment,
    ];

    /// What Athena takes.
    fn wanted(self) -> &'static str {
        match self {
            Self::FormatVersion => "Iceberg format version 2",
            Self::ColumnType => "types that Athena reads: others as string or binary",
            Self::Name => "names of [a-z0-9_], 1 to 255 characters",
            Self::NameTwice => "names that differ in more than case",
            Self::Transform => {
                "identity, year, month, day, hour, bucket or truncate of a top-level column"
            }
            Self::PartitionType => "partition columns that are scalar and not binary",
            Self::FileFormat => "Parquet files",
            Self::Deletes => "position or equality deletes in Parquet files",
            Self::FieldIds => "Parquet columns with field ids",
            Self::TimestampUnit => "timestamps as 64-bit microseconds",
            Self::Codec => "Zstandard or Snappy",
            Self::OutsideLocation => "all files below the table's location",
            Self::Scheme => "`s3://` in every name",
            Self::BucketRoot => "a location with a prefix in its bucket",
            Self::SharedLocation => "a location that no other table lies at, around or in",
            Self::Length => {
                "at most 131072 characters for a type, 2056 for a location, 2048 for a \
                 description, 255 for a parameter and 512000 for its value"
            }
            Self::ReaderVersion => "Delta reader version 3 at most",
            Self::ReaderFeature => {
                "no reader features but columnMapping, timestampNtz, deletionVectors"
            }
            Self::LogCheckpoint => "classic log checkpoints",
            Self::AbsolutePath => "files named by paths relative to the table",
            Self::Entry => "an external table's entry with the markers of its format",
            Self::EntryLocation => "an entry that says where the table lies",
            Self::EntryColumns => "an entry with the table's columns",
            Self::EntryComment => "comments of one line and 255 characters",
        }
    }
}

/// A rule that a table breaks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Broken {
    /// Which.
    pub rule: Rule,
    /// Where: an object, a column, a property.
    pub place: String,
    /// What is there.
    pub found: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, place, found } = self;
        write!(f, "{place}: {found}; Athena takes {}", rule.wanted())
    }
}
