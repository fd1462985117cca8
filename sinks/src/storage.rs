//! One client for data and metadata, on local disk or S3, that counts what it does.
//!
//! Paths are relative to the table's location. On local disk every write is made durable (file and
//! directory are synced, which the library does not do). A conditional put goes out once, without
//! the library's retries, so that a lost reply is seen as unknown and never as a conflict.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use url::Url;

use crate::{Error, Result};

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
    counters: Arc<Counters>,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Storage({})", self.location)
    }
}

/// How to reach S3 or what speaks like it.
#[derive(Clone, Default)]
pub struct S3Options {
    /// AWS region.
    pub region: Option<String>,
    /// Endpoint other than AWS's.
    pub endpoint: Option<String>,
    /// Bucket in the path, not in the host name.
    pub path_style: bool,
    /// Static credentials; without them the environment's.
    pub access_key_id: Option<String>,
    /// See `access_key_id`.
    pub secret_access_key: Option<String>,
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Storage {
    /// Opens a location: an absolute path, `file://` or `s3://bucket/prefix`.
    ///
    /// # Errors
    /// When the location cannot be understood or the client cannot be built.
    pub fn open(location: &str, s3: &S3Options) -> Result<Self> {
        let location = location.trim_end_matches('/');
        if let Some(rest) = location.strip_prefix("s3://") {
            return Self::open_s3(rest, s3);
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
            counters: Arc::default(),
        })
    }

    fn open_s3(rest: &str, s3: &S3Options) -> Result<Self> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let build = |retries: usize| {
            let mut builder =
                object_store::aws::AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(
                    object_store::RetryConfig { max_retries: retries, ..Default::default() },
                );
            if let Some(region) = &s3.region {
                builder = builder.with_region(region);
            }
            if let Some(endpoint) = &s3.endpoint {
                builder = builder
                    .with_endpoint(endpoint)
                    .with_allow_http(endpoint.starts_with("http://"))
                    .with_virtual_hosted_style_request(!s3.path_style);
            }
            if let Some(key) = &s3.access_key_id {
                builder = builder.with_access_key_id(key);
            }
            if let Some(secret) = &s3.secret_access_key {
                builder = builder.with_secret_access_key(secret);
            }
            builder.build().map_err(|e| {
                Error::invalid(format!("S3 client for bucket `{bucket}`")).with_source(e)
            })
        };
        Ok(Self {
            store: Arc::new(build(10)?),
            once: Arc::new(build(0)?),
            prefix: Path::from(prefix),
            location: format!("s3://{rest}"),
            local: false,
            counters: Arc::default(),
        })
    }

    /// A place below this one, sharing client and counters.
    #[must_use]
    pub fn child(&self, relative: &str) -> Self {
        let mut child = self.clone();
        child.prefix = self.full(relative);
        child.location = format!("{}/{relative}", self.location);
        child
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

    fn full(&self, path: &str) -> Path {
        path.split('/')
            .filter(|part| !part.is_empty())
            .fold(self.prefix.clone(), |p, part| p.join(part))
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
        self.store
            .put(&self.full(path), bytes.into())
            .await
            .map(|_| ())
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
            Err(error) => Ok(PutOutcome::Unknown(error.to_string())),
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

/// Requests for ranges of one object at the same time.
const RANGES_PARALLEL: usize = 8;
/// Ranges closer than this are read in one request: a request costs more than these bytes.
const RANGE_GAP_BYTES: u64 = 64 * 1024;

/// Sorted, disjoint ranges that cover these.
fn merge_ranges(ranges: &[std::ops::Range<u64>]) -> Vec<std::ops::Range<u64>> {
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

fn local_error(doing: String, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied => crate::ErrorKind::Denied,
        _ => crate::ErrorKind::Unavailable,
    };
    Error::new(kind, doing).with_source(error)
}

/// See [`Storage::put_local`]. With `create` an existing file is left alone.
fn write_durably(target: &std::path::Path, bytes: &[u8], create: bool) -> std::io::Result<()> {
    use std::io::Write;
    let folder = target.parent().unwrap_or(std::path::Path::new("/"));
    make_folder(folder)?;
    // The library passes over names that end so in listings: a file left by a crash stays unseen.
    let unique = uuid::Uuid::new_v4().as_u128();
    let mut draft = target.as_os_str().to_owned();
    draft.push(format!("#{unique}"));
    let draft = std::path::PathBuf::from(draft);
    let written = (|| {
        let mut file = std::fs::File::create_new(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        if create { std::fs::hard_link(&draft, target) } else { std::fs::rename(&draft, target) }
    })();
    if create || written.is_err() {
        // Best effort: a draft that stays is an orphan with a name that says so.
        drop(std::fs::remove_file(&draft));
    }
    written?;
    std::fs::File::open(folder)?.sync_all()
}

/// Makes a folder and those above it, each name on disk before the next.
fn make_folder(folder: &std::path::Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(std::path::Path::new("/"));
    make_folder(above)?;
    match std::fs::create_dir(folder) {
        Ok(()) => std::fs::File::open(above)?.sync_all(),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> (tempfile::TempDir, Storage) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a lake");
        let location = path.to_str().expect("a temporary path is text");
        let storage = Storage::open(location, &S3Options::default()).expect("local storage");
        (folder, storage)
    }

    #[test]
    fn locations_are_paths_or_urls() {
        let open = |location: &str| Storage::open(location, &S3Options::default());
        assert_eq!(open("/a/b/").expect("a path").location(), "file:///a/b");
        assert_eq!(open("file:///a/b").expect("a URL").uri("c/d"), "file:///a/b/c/d");
        let error = open("a/b").expect_err("relative");
        assert!(error.to_string().contains("`a/b`"), "{error}");
    }

    #[tokio::test]
    async fn an_object_is_created_by_one_of_many() {
        let (_folder, storage) = local();
        let attempts = (0..16).map(|n: u8| {
            let storage = storage.clone();
            tokio::spawn(async move { (n, storage.put_if_absent("x/v1", vec![n; 9000]).await) })
        });
        let mut winners = Vec::new();
        for attempt in attempts.collect::<Vec<_>>() {
            let (n, outcome) = attempt.await.expect("ran");
            match outcome.expect("no refusal") {
                PutOutcome::Created => winners.push(n),
                PutOutcome::Exists => {}
                PutOutcome::Unknown(reason) => panic!("local disk answers: {reason}"),
            }
        }
        let [winner] = winners[..] else { panic!("one creates it: {winners:?}") };
        let stored = storage.get("x/v1").await.expect("read").expect("there");
        assert_eq!(stored, vec![winner; 9000]);
        assert_eq!(storage.list("").await.expect("listed").len(), 1, "no draft is left or listed");
    }

    #[tokio::test]
    async fn what_is_put_is_listed_read_and_deleted_by_the_same_name() {
        let (folder, storage) = local();
        let name = "data/_date=2026-01-31/t0-0-x.parquet";
        storage.put(name, "one").await.expect("put");
        storage.put(name, "three").await.expect("put again");
        let listed = storage.list("data").await.expect("listed");
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].path.as_str(), listed[0].size), (name, 5));
        let child = storage.child("data/_date=2026-01-31");
        assert_eq!(child.get("t0-0-x.parquet").await.expect("read").expect("there"), "three");
        assert!(folder.path().join("a lake").join(name).is_file(), "the disk has it by that name");

        storage.delete(name).await.expect("deleted");
        storage.delete(name).await.expect("deleted already");
        assert_eq!(storage.get(name).await.expect("read"), None);
        assert_eq!(storage.head(name).await.expect("looked up"), None);
    }

    #[tokio::test]
    async fn near_ranges_are_one_request_and_everything_is_counted() {
        let (_folder, storage) = local();
        let bytes: Vec<u8> = (0..400_000u32).map(|n| (n % 251) as u8).collect();
        storage.put("x", bytes.clone()).await.expect("put");
        let ranges = [300_000..300_010, 10..20, 0..5, 15..30, 399_999..400_000];

        let parts = storage.get_ranges("x", &ranges).await.expect("read");

        for (range, part) in ranges.iter().zip(&parts) {
            assert_eq!(part.as_ref(), &bytes[range.start as usize..range.end as usize]);
        }
        let counts = storage.counters().take();
        assert_eq!((counts.puts, counts.bytes_written), (1, 400_000));
        assert_eq!((counts.gets, counts.bytes_read), (3, 30 + 10 + 1));
        let error = storage.get_range("x", 399_990..400_001).await.expect_err("beyond the end");
        assert!(error.chain().contains("/x`"), "{}", error.chain());
    }
}
