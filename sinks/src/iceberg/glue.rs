//! The newest version as AWS Glue has it: a commit is one update of the table's entry.
//!
//! Metadata files are `metadata/<N>-<uuid>.metadata.json`; which of them is the newest, only the
//! entry says. The update names the version of the entry that was looked up right before, so Glue
//! refuses it when anything has changed since: another engine's commit, or somebody's parameter.

use iceberg::spec::TableMetadata;
use uuid::Uuid;

use super::convert::column_type;
use super::filesystem;
use super::metadata;
use super::pointer::{Located, Swapped};
use super::state::Reader;
use crate::catalog::glue::{
    CatalogColumn, Changed, GlueTable, hive_type, iceberg_input, metadata_location, version_id,
};
use crate::storage::Storage;
use crate::{Error, Result};

const FOLDER: &str = "metadata/";
const SUFFIX: &str = ".metadata.json";

/// A table whose newest version is named by its entry in Glue.
#[derive(Debug, Clone)]
pub(super) struct GluePointer {
    table: GlueTable,
}

/// Where the metadata of a version goes.
pub(super) fn locate(version: i64, attempt: Uuid) -> Located {
    Located { version, path: format!("{FOLDER}{version:05}-{attempt}{SUFFIX}") }
}

/// The N of `metadata/<N>-<uuid>.metadata.json`; `None` for every other name.
pub(super) fn version_of(path: &str) -> Option<i64> {
    let name = path.strip_prefix(FOLDER)?.strip_suffix(SUFFIX)?;
    let (number, attempt) = name.split_once('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && Uuid::parse_str(attempt).is_ok()).then(|| number.parse().ok())?
}

impl GluePointer {
    pub(super) fn new(table: GlueTable) -> Self {
        Self { table }
    }

    pub(super) async fn newest(&self, storage: &Storage) -> Result<Option<Located>> {
        let Some(table) = self.table.get().await? else { return Ok(None) };
        self.located(storage, metadata_location(&table)?).map(Some)
    }

    /// A metadata file by its URI. Other engines may name theirs as they like: the number is for
    /// people and for the next name.
    fn located(&self, storage: &Storage, uri: &str) -> Result<Located> {
        let path = Reader::new(storage, storage.location()).relative(uri).map_err(|_| {
            Error::invalid(format!(
                "Glue has table `{}` with its metadata at `{uri}`, not below `{}`: correct \
                 `lake.location` or the table's name, or drop that entry",
                self.table,
                storage.location()
            ))
        })?;
        Ok(Located { version: version_of(&path).unwrap_or(0), path })
    }

    /// Looks an older version up in the log of the newest.
    pub(super) async fn at(&self, storage: &Storage, version: i64) -> Result<Located> {
        let not_kept = || {
            Error::invalid(format!("version {version} of Glue table `{}` is not kept", self.table))
        };
        let newest = self.newest(storage).await?.ok_or_else(not_kept)?;
        if newest.version == version {
            return Ok(newest);
        }
        let uri = storage.uri(&newest.path);
        let bytes = storage.get(&newest.path).await?.ok_or_else(not_kept)?;
        let (metadata, _) = metadata::decode(&uri, &bytes)?;
        let older = metadata.metadata_log().iter().rev();
        older
            .filter_map(|entry| self.located(storage, &entry.metadata_file).ok())
            .find(|located| located.version == version)
            .ok_or_else(not_kept)
    }

    pub(super) async fn create(
        &self,
        storage: &Storage,
        metadata: &TableMetadata,
        bytes: Vec<u8>,
    ) -> Result<Swapped> {
        let first = locate(0, Uuid::new_v4());
        storage.put(&first.path, bytes).await?;
        let uri = storage.uri(&first.path);
        let columns = columns(metadata)?;
        let input = iceberg_input(None, self.table.name(), metadata.location(), &uri, &columns)?;
        Ok(match self.table.create(input).await? {
            Changed::Done => Swapped::Done,
            Changed::Conflict => Swapped::Conflict,
            Changed::Unknown(reason) => Swapped::Unknown(reason),
        })
    }

    /// See [`super::pointer::Pointer::refuse_occupied`].
    pub(super) async fn refuse_occupied(&self, storage: &Storage) -> Result<()> {
        let listed = storage.list(FOLDER.trim_end_matches('/')).await?;
        let version = |path: &str| version_of(path).or_else(|| filesystem::version_of(path));
        let taken = listed.iter().find(|entry| version(&entry.path).is_some_and(|n| n > 0));
        match taken {
            None => Ok(()),
            Some(entry) => Err(Error::invalid(format!(
                "there is an Iceberg table at `{}` (`{}`) that Glue does not have as `{}`: register \
                 its newest metadata file there, or move it away",
                storage.location(),
                entry.path,
                self.table
            ))),
        }
    }

    pub(super) async fn swap(
        &self,
        storage: &Storage,
        base: &Located,
        next: &Located,
        metadata: &TableMetadata,
        bytes: Vec<u8>,
    ) -> Result<Swapped> {
        let table = self.table.get().await?.ok_or_else(|| {
            Error::corrupt(format!(
                "Glue table `{}` is gone: register its newest metadata file again, or restart to \
                 begin a new table elsewhere",
                self.table
            ))
        })?;
        let current = self.located(storage, metadata_location(&table)?)?;
        if current.path != base.path {
            return Ok(Swapped::Conflict);
        }
        let version = version_id(&table)?;
        storage.put(&next.path, bytes).await?;
        let uri = storage.uri(&next.path);
        let columns = columns(metadata)?;
        let name = self.table.name();
        let input = iceberg_input(Some(&table), name, metadata.location(), &uri, &columns)?;
        Ok(match self.table.update(input, &version).await? {
            Changed::Done => Swapped::Done,
            Changed::Conflict => Swapped::Conflict,
            Changed::Unknown(reason) => Swapped::Unknown(reason),
        })
    }
}

/// The current columns as Glue shows them. Engines read the metadata; this is for people and for
/// the tools that look no further.
fn columns(metadata: &TableMetadata) -> Result<Vec<CatalogColumn>> {
    let fields = metadata.current_schema().as_struct().fields().iter();
    let column = |field: &iceberg::spec::NestedFieldRef| {
        Ok(CatalogColumn {
            name: field.name.clone(),
            hive_type: hive_type(&column_type(&field.field_type, &field.name)?),
            comment: field.doc.clone(),
            parameters: vec![
                ("iceberg.field.id", field.id.to_string()),
                ("iceberg.field.optional", (!field.required).to_string()),
                ("iceberg.field.current", "true".to_owned()),
            ],
        })
    };
    fields.map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbered_as_every_engine_numbers_them() {
        let attempt = Uuid::new_v4();
        let located = locate(12, attempt);
        assert_eq!(located.path, format!("metadata/00012-{attempt}.metadata.json"));
        assert_eq!(version_of(&located.path), Some(12));
        assert_eq!(version_of("metadata/v12.metadata.json"), None);
        assert_eq!(version_of("metadata/00012-notes.metadata.json"), None);
        assert_eq!(version_of(&format!("metadata/123456-{attempt}.metadata.json")), Some(123_456));
    }
}
