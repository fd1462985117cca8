//! One client for data and metadata, on local disk or S3, that counts what it does.
//!
//! Paths are relative to the table's location. On local disk every write is made durable (file and
//! directory are synced, which the library does not do). A conditional put goes out once, without
//! the library's retries, so that a lost reply is seen as unknown and never as a conflict.

#[cfg(test)]
pub(crate) mod double;
mod local;
mod parts;
mod probe;
mod ranges;
mod s3;
mod upload;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use url::Url;

use crate::error::with_causes;
use crate::{Error, Result};

use local::{local_error, write_durably};
pub use probe::Probe;
use ranges::{RANGES_PARALLEL, merge_ranges};
pub use s3::{Encryption, S3Options};
pub use upload::Upload;

/// Requests and bytes, counted since the process started or [`Counters::take`] was called.
#[derive(Debug, Default)]
pub struct Counters {
    /// Whole-object and range reads.
    pub gets: AtomicU64,
    /// Bytes read.
    pub bytes_read: AtomicU64,
    /// Writes.
    pub puts: AtomicU64,
    /// Bytes written.
    pub bytes_written: AtomicU64,
    /// Metadata look-ups of one object.
    pub heads: AtomicU64,
    /// Listings.
    pub lists: AtomicU64,
    /// Deletions.
    pub deletes: AtomicU64,
}

/// A copy of [`Counters`] at one moment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counts {
    pub gets: u64,
    pub bytes_read: u64,
    pub puts: u64,
    pub bytes_written: u64,
    pub heads: u64,
    pub lists: u64,
    pub deletes: u64,
}

impl Counters {
    /// The counts so far; they start again from zero.
    pub fn take(&self) -> Counts {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        Counts {
            gets: take(&self.gets),
            bytes_read: take(&self.bytes_read),
            puts: take(&self.puts),
            bytes_written: take(&self.bytes_written),
            heads: take(&self.heads),
            lists: take(&self.lists),
            deletes: take(&self.deletes),
        }
    }
}

/// What became of a conditional put.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum PutOutcome {
    /// The object was not there and is now ours.
    Created,
    /// Somebody's object is there: perhaps our own, if an answer was lost. Read it to know.
    Exists,
    /// No answer that can be trusted (timeout, connection lost, 409).
    Unknown(String),
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the table's location.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// When it was last written, milliseconds since the epoch.
    pub modified_ms: i64,
}

/// The objects of one table (or of a whole lake, for a listing of tables).
#[derive(Clone)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    /// Same store without retries; conditional puts only.
    once: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Without a slash at the end: `file:///a/b` or `s3://bucket/a/b`.
    location: String,
    local: bool,
    /// How to reach other buckets.
    s3: Arc<S3Options>,
    counters: Arc<Counters>,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Storage({})", self.location)
    }
}

impl Storage {
    /// Opens a location: an absolute path, `file://` or `s3://bucket/prefix`.
    ///
    /// # Errors
    /// When the location cannot be understood or the client cannot be built.
    pub fn open(location: &str, s3: &S3Options) -> Result<Self> {
        Self::open_counted(location, &Arc::new(s3.clone()), Arc::default())
    }

    fn open_counted(location: &str, s3: &Arc<S3Options>, counters: Arc<Counters>) -> Result<Self> {
        let location = location.trim_end_matches('/');
        if let Some(rest) = location.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let (store, once) = s3::clients(bucket, s3)?;
            return Ok(Self {
                store,
                once,
                prefix: Path::parse(prefix).unwrap_or_else(|_| Path::from(prefix)),
                location: location.to_owned(),
                local: false,
                s3: s3.clone(),
                counters,
            });
        }
        let path = location.strip_prefix("file://").unwrap_or(location);
        if !path.starts_with('/') {
            return Err(Error::invalid(format!(
                "lake location `{location}` is neither an absolute path nor file:// nor s3://"
            )));
        }
        let store: Arc<dyn ObjectStore> = Arc::new(object_store::local::LocalFileSystem::new());
        let prefix = Path::from_absolute_path(path)
            .map_err(|e| Error::invalid(format!("path `{path}`")).with_source(e))?;
        Ok(Self {
            once: store.clone(),
            store,
            location: format!("file://{path}"),
            prefix,
            local: true,
            s3: s3.clone(),
            counters,
        })
    }

    /// A bucket of its own in memory, for tables that say to be on S3.
    #[cfg(test)]
    pub(crate) fn in_memory(location: &str) -> Self {
        let store: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        let inside = location.strip_prefix("s3://").expect("on S3");
        Self {
            once: store.clone(),
            store,
            prefix: Path::from(inside.split_once('/').map_or("", |(_, prefix)| prefix)),
            location: location.to_owned(),
            local: false,
            s3: Arc::default(),
            counters: Arc::default(),
        }
    }

    /// A place below this one, sharing client and counters.
    #[must_use]
    pub fn child(&self, relative: &str) -> Self {
        let mut child = self.clone();
        child.prefix = self.full(relative);
        child.location = format!("{}/{relative}", self.location);
        child
    }

    /// Another place, reached as this one is, sharing its counters.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn elsewhere(&self, location: &str) -> Result<Self> {
        Self::open_counted(location, &self.s3, self.counters.clone())
    }

    /// The same place with counters of its own.
    #[must_use]
    pub fn counted_apart(&self) -> Self {
        Self { counters: Arc::default(), ..self.clone() }
    }

    /// `file:///a/b` or `s3://bucket/a/b`, no slash at the end.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// URI of an object: what manifests and deletes name, the same to the byte everywhere.
    pub fn uri(&self, path: &str) -> String {
        format!("{}/{path}", self.location)
    }

    /// The location as a URL with a slash at the end.
    ///
    /// # Errors
    /// When the location is not a URL.
    pub fn url(&self) -> Result<Url> {
        Url::parse(&format!("{}/", self.location))
            .map_err(|e| Error::invalid(format!("location `{}`", self.location)).with_source(e))
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether it is on local disk.
    pub fn is_local(&self) -> bool {
        self.local
    }

    /// An object is called what `path` says, to the byte: joining parts would encode a `%` again, and
    /// readers would look for another name than the one that manifests and logs tell.
    fn full(&self, path: &str) -> Path {
        let parts = || path.split('/').filter(|part| !part.is_empty());
        let whole = std::iter::once(self.prefix.as_ref()).chain(parts()).collect::<Vec<_>>();
        let as_it_is = Path::parse(whole.join("/").trim_start_matches('/'));
        // What cannot be a name (`..`, control characters) leads nowhere.
        as_it_is.unwrap_or_else(|_| parts().fold(self.prefix.clone(), |p, part| p.join(part)))
    }

    /// Writes a whole object under a name that nobody else uses; durable on return.
    ///
    /// # Errors
    /// When storage refuses.
    pub async fn put(&self, path: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let bytes = bytes.into();
        self.count_put(bytes.len());
        if self.local {
            return match self.put_local(path, bytes, false).await? {
                Ok(()) => Ok(()),
                Err(error) => {
                    Err(local_error(format!("could not write `{}`", self.uri(path)), error))
                }
            };
        }
        if bytes.len() > parts::WHOLE_BYTES_MAX {
            return self.put_in_parts(path, bytes).await;
        }
        let put = self.store.put(&self.full(path), bytes.into()).await;
        put.map(|_| ())
            .map_err(|e| Error::from_store(format!("could not write `{}`", self.uri(path)), e))
    }

    /// Writes a whole object if there is none of that name. One attempt.
    ///
    /// # Errors
    /// Only when nothing can have been written (denied, invalid).
    pub async fn put_if_absent(&self, path: &str, bytes: impl Into<Bytes>) -> Result<PutOutcome> {
        use object_store::Error as E;
        let bytes = bytes.into();
        self.count_put(bytes.len());
        if self.local {
            return Ok(match self.put_local(path, bytes, true).await? {
                Ok(()) => PutOutcome::Created,
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    PutOutcome::Exists
                }
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    return Err(local_error(
                        format!("could not create `{}`", self.uri(path)),
                        error,
                    ));
                }
                Err(error) => PutOutcome::Unknown(error.to_string()),
            });
        }
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        match self.once.put_opts(&self.full(path), bytes.into(), options).await {
            Ok(_) => Ok(PutOutcome::Created),
            // A 412 arrives here as an error of the library inside another; a 409, which says
            // nothing of who is there, as the bare answer.
            Err(E::AlreadyExists { source, .. }) => Ok(match source.downcast_ref::<E>() {
                Some(_) => PutOutcome::Exists,
                None => PutOutcome::Unknown(source.to_string()),
            }),
            Err(E::Precondition { .. }) => Ok(PutOutcome::Exists),
            Err(
                error @ (E::PermissionDenied { .. }
                | E::Unauthenticated { .. }
                | E::NotFound { .. }
                | E::InvalidPath { .. }),
            ) => Err(Error::from_store(format!("could not create `{}`", self.uri(path)), error)),
            Err(error) => Ok(PutOutcome::Unknown(with_causes(&error))),
        }
    }

    /// Reads a whole object; `None` if there is none.
    ///
    /// # Errors
    /// When storage does not answer.
    pub async fn get(&self, path: &str) -> Result<Option<Bytes>> {
        self.counters.gets.fetch_add(1, Ordering::Relaxed);
        let doing = || format!("could not read `{}`", self.uri(path));
        let bytes = match self.store.get(&self.full(path)).await {
            Ok(result) => result.bytes().await.map_err(|e| Error::from_store(doing(), e))?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(Error::from_store(doing(), error)),
        };
        self.counters.bytes_read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(Some(bytes))
    }

    /// Reads one byte range of one object.
    ///
    /// # Errors
    /// When the object is not there or storage does not answer.
    pub async fn get_range(&self, path: &str, range: std::ops::Range<u64>) -> Result<Bytes> {
        self.counters.gets.fetch_add(1, Ordering::Relaxed);
        let asked = range.end.saturating_sub(range.start);
        let bytes =
            self.store.get_range(&self.full(path), range).await.map_err(|e| {
                Error::from_store(format!("could not read `{}`", self.uri(path)), e)
            })?;
        self.counters.bytes_read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if bytes.len() as u64 != asked {
            return Err(Error::corrupt(format!("`{}` is shorter than expected", self.uri(path))));
        }
        Ok(bytes)
    }

    /// Reads byte ranges of one object. Ranges less than 64 KiB apart are one request, gap
    /// included; the answers are in the order asked.
    ///
    /// # Errors
    /// When the object is not there or storage does not answer.
    pub async fn get_ranges(
        &self,
        path: &str,
        ranges: &[std::ops::Range<u64>],
    ) -> Result<Vec<Bytes>> {
        let merged = merge_ranges(ranges);
        let requests: Vec<_> =
            merged.iter().map(|range| self.get_range(path, range.clone())).collect();
        let parts: Vec<Bytes> =
            futures::stream::iter(requests).buffered(RANGES_PARALLEL).try_collect().await?;
        let cut = |range: &std::ops::Range<u64>| {
            let at = merged.partition_point(|whole| whole.end < range.end);
            let start = (range.start - merged[at].start) as usize;
            parts[at].slice(start..start + (range.end - range.start) as usize)
        };
        Ok(ranges.iter().map(cut).collect())
    }

    /// Size and age of one object; `None` if there is none.
    ///
    /// # Errors
    /// When storage does not answer.
    pub async fn head(&self, path: &str) -> Result<Option<Entry>> {
        self.counters.heads.fetch_add(1, Ordering::Relaxed);
        match self.store.head(&self.full(path)).await {
            Ok(meta) => Ok(Some(self.entry(&meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => {
                Err(Error::from_store(format!("could not look up `{}`", self.uri(path)), error))
            }
        }
    }

    /// Every object below a folder, in no promised order.
    ///
    /// # Errors
    /// When storage does not answer.
    pub async fn list(&self, folder: &str) -> Result<Vec<Entry>> {
        self.counters.lists.fetch_add(1, Ordering::Relaxed);
        let listed: Vec<ObjectMeta> =
            self.store.list(Some(&self.full(folder))).try_collect().await.map_err(|e| {
                Error::from_store(format!("could not list `{}`", self.uri(folder)), e)
            })?;
        Ok(listed.iter().map(|meta| self.entry(meta)).collect())
    }

    /// Names of the folders directly at this location.
    ///
    /// # Errors
    /// When storage does not answer.
    pub async fn folders(&self) -> Result<Vec<String>> {
        self.counters.lists.fetch_add(1, Ordering::Relaxed);
        let listed = self.store.list_with_delimiter(Some(&self.full(""))).await;
        let listed = listed
            .map_err(|e| Error::from_store(format!("could not list `{}`", self.location), e))?;
        let name = |path: &Path| path.filename().map(str::to_owned);
        Ok(listed.common_prefixes.iter().filter_map(name).collect())
    }

    /// Every object below a folder whose name sorts after `after` (relative to the location).
    ///
    /// # Errors
    /// When storage does not answer.
    pub async fn list_after(&self, folder: &str, after: &str) -> Result<Vec<Entry>> {
        self.counters.lists.fetch_add(1, Ordering::Relaxed);
        let listed: Vec<ObjectMeta> = self
            .store
            .list_with_offset(Some(&self.full(folder)), &self.full(after))
            .try_collect()
            .await
            .map_err(|e| Error::from_store(format!("could not list `{}`", self.uri(folder)), e))?;
        Ok(listed.iter().map(|meta| self.entry(meta)).collect())
    }

    /// Deletes one object; one that is gone already is no error.
    ///
    /// # Errors
    /// When storage refuses.
    pub async fn delete(&self, path: &str) -> Result<()> {
        self.counters.deletes.fetch_add(1, Ordering::Relaxed);
        match self.store.delete(&self.full(path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => {
                Err(Error::from_store(format!("could not delete `{}`", self.uri(path)), error))
            }
        }
    }

    /// Overwrites a small object in place: hints only, never the truth.
    ///
    /// # Errors
    /// When storage refuses.
    pub async fn put_hint(&self, path: &str, bytes: impl Into<Bytes>) -> Result<()> {
        self.put(path, bytes).await
    }

    /// The store itself, rooted at this location: for libraries that bring their own paths.
    /// What goes through it is not counted.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(object_store::prefix::PrefixStore::new(self.store.clone(), self.prefix.clone()))
    }

    fn entry(&self, meta: &ObjectMeta) -> Entry {
        let full = meta.location.as_ref();
        let path = full.strip_prefix(self.prefix.as_ref()).unwrap_or(full).trim_start_matches('/');
        Entry {
            path: path.to_owned(),
            size: meta.size,
            modified_ms: meta.last_modified.timestamp_millis(),
        }
    }

    fn count_put(&self, bytes: usize) {
        self.counters.puts.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes_written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Writes a file so that it is there whole or not at all, also after a power cut: contents,
    /// name and the folders above it are on disk before this returns.
    ///
    /// The outer error is ours, the inner one the disk's.
    async fn put_local(
        &self,
        path: &str,
        bytes: Bytes,
        create: bool,
    ) -> Result<std::io::Result<()>> {
        let target = std::path::PathBuf::from(format!("/{}", self.full(path)));
        tokio::task::spawn_blocking(move || write_durably(&target, &bytes, create))
            .await
            .map_err(|e| Error::internal("the task that writes files died").with_source(e))
    }
}

/// One spelling of a place that has several: `file:/a`, `file:///a`; `s3a://b`, `s3://b`.
pub(crate) fn normal(uri: &str) -> String {
    if let Some(path) = uri.strip_prefix("file:") {
        return format!("file:///{}", path.trim_start_matches('/'));
    }
    for scheme in ["s3a://", "s3n://"] {
        if let Some(rest) = uri.strip_prefix(scheme) {
            return format!("s3://{rest}");
        }
    }
    uri.to_owned()
}

#[cfg(test)]
mod tests;
