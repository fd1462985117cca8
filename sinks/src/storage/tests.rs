//! On local disk; what S3 does is shown by the tests on real parts.

use std::sync::atomic::AtomicUsize;

use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, PutMultipartOptions,
    PutPayload, PutResult,
};

use super::*;

pub(super) fn local() -> (tempfile::TempDir, Storage) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("a lake");
    let location = path.to_str().expect("a temporary path is text");
    let storage = Storage::open(location, &S3Options::default()).expect("local storage");
    (folder, storage)
}

/// Storage that overwrites whatever it is asked.
pub(super) fn careless() -> Storage {
    odd(Odd { inner: InMemory::new(), overwrites: true, unanswered: AtomicUsize::new(0) })
}

/// Storage that keeps what is there, but does not answer the first `puts`.
pub(super) fn silent(puts: usize) -> Storage {
    odd(Odd { inner: InMemory::new(), overwrites: false, unanswered: AtomicUsize::new(puts) })
}

fn odd(store: Odd) -> Storage {
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    Storage {
        once: store.clone(),
        store,
        prefix: Path::default(),
        location: "s3://odd".to_owned(),
        local: false,
        s3: Arc::default(),
        counters: Arc::default(),
    }
}

#[derive(Debug)]
struct Odd {
    inner: InMemory,
    overwrites: bool,
    /// Puts that will not be answered.
    unanswered: AtomicUsize,
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Odd")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Odd {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let left = |left: usize| left.checked_sub(1);
        if self.unanswered.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok() {
            return Err(object_store::Error::Generic { store: "Odd", source: "silence".into() });
        }
        let options = if self.overwrites { PutOptions::default() } else { options };
        match self.inner.put_opts(location, payload, options).await {
            // As S3 says it.
            Err(object_store::Error::AlreadyExists { path, source }) => {
                Err(object_store::Error::Precondition { path, source })
            }
            answer => answer,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
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

    let escaped = "data/region=a%2Fb%20%25/t0-0-x.parquet";
    storage.put(escaped, "two").await.expect("put");
    assert!(folder.path().join("a lake").join(escaped).is_file(), "nothing is escaped again");
    let listed = storage.list("data/region=a%2Fb%20%25").await.expect("listed");
    assert_eq!(listed.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>(), [escaped]);
    assert_eq!(storage.get(escaped).await.expect("read").expect("there"), "two");
    storage.delete(escaped).await.expect("deleted");

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
