//! Objects in pieces, on disk and in parts.

use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;

use super::*;
use crate::ErrorKind;
use crate::storage::S3Options;
use crate::storage::double::{Fault, S3Double};

/// A place whose objects are put in parts.
fn remote() -> Storage {
    let local = Storage::open("/nowhere", &S3Options::default()).expect("opens");
    Storage { store: Arc::new(InMemory::new()), local: false, ..local }
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n % 251) as u8).collect()
}

async fn check(storage: &Storage) {
    for size in [0, 10, PART_BYTES, 2 * PART_BYTES + 17] {
        let wanted = bytes(size);
        let path = format!("data/{size}.parquet");
        let mut upload = storage.upload(&path);
        for piece in wanted.chunks(3 << 20) {
            upload.write(piece).await.expect("written");
            assert!(upload.buffer.len() < PART_BYTES, "no more than a part is held");
        }
        assert_eq!(upload.size(), size as u64);
        assert_eq!(storage.list("data").await.expect("listed").len(), listed(size));
        upload.finish().await.expect("finished");
        assert_eq!(storage.get(&path).await.expect("read").expect("there"), wanted);
    }
}

/// How many objects there are before that of this size.
fn listed(size: usize) -> usize {
    [0, 10, PART_BYTES].iter().filter(|before| **before < size).count()
}

#[tokio::test]
async fn an_object_in_pieces_is_there_whole_or_not_at_all() {
    let folder = tempfile::tempdir().expect("folder");
    let place = folder.path().to_str().expect("text");
    let disk = Storage::open(place, &S3Options::default()).expect("opens");
    check(&disk).await;
    check(&remote()).await;

    // Given up halfway.
    let mut upload = disk.upload("data/half.parquet");
    upload.write(&bytes(PART_BYTES + 1)).await.expect("written");
    drop(upload);
    assert_eq!(disk.get("data/half.parquet").await.expect("read"), None);
    let left = std::fs::read_dir(folder.path().join("data")).expect("read").count();
    assert_eq!(left, 4, "no draft stays");
}

#[tokio::test]
async fn an_object_counts_once_with_all_its_bytes() {
    let storage = remote();
    let mut upload = storage.upload("x");
    upload.write(&bytes(PART_BYTES + 5)).await.expect("written");
    upload.finish().await.expect("finished");
    let counts = storage.counters().take();
    assert_eq!((counts.puts, counts.bytes_written), (1, (PART_BYTES + 5) as u64));
}

#[tokio::test]
async fn parts_that_nobody_completes_are_given_up() {
    let double = S3Double::start().await;
    let storage = double.storage("s3://lake/t").await;
    let half = bytes(PART_BYTES + 1);

    let mut upload = storage.upload("dropped");
    upload.write(&half).await.expect("written");
    assert_eq!(double.uploads(), 1);
    drop(upload);
    for _ in 0..500 {
        if double.uploads() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(double.uploads(), 0, "given up where nobody waits for it");

    let mut upload = storage.upload("refused");
    upload.write(&half).await.expect("written");
    double.push("CompleteMultipartUpload", Fault::Refused(403));
    let error = upload.finish().await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", error.chain());
    assert_eq!((double.uploads(), double.object("/lake/t/refused")), (0, None));
}

#[tokio::test]
async fn a_finish_whose_reply_is_lost_is_no_failure() {
    let double = S3Double::start().await;
    let storage = double.storage("s3://lake/t").await;
    let wanted = bytes(PART_BYTES + 1);
    let mut upload = storage.upload("x");
    upload.write(&wanted).await.expect("written");
    double.push("CompleteMultipartUpload", Fault::LostReply);

    upload.finish().await.expect("finished");

    assert!(double.object("/lake/t/x").expect("there") == wanted);
}
