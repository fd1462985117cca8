//! Objects that are too large for one request: sent in parts, completed, or given up.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{MultipartUpload, ObjectStoreExt};

use super::Storage;
use crate::{Error, Result};

/// Objects beyond this many bytes are put in parts.
pub(super) const WHOLE_BYTES_MAX: usize = 64 << 20;
/// Bytes of a part: S3 takes 10 000 of them, of 5 MiB or more.
const PART_BYTES: usize = 16 << 20;
/// Parts of one object on their way at the same time.
const PARTS_PARALLEL: usize = 4;

impl Storage {
    /// Puts an object in parts.
    pub(super) async fn put_in_parts(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.put_in_parts_of(path, bytes, PART_BYTES).await
    }

    async fn put_in_parts_of(&self, path: &str, bytes: Bytes, part_bytes: usize) -> Result<()> {
        let mut upload = self.begin_parts(path).await?;
        let starts = (0..bytes.len()).step_by(part_bytes);
        let parts: Vec<_> = starts
            .map(|start| {
                upload.put_part(bytes.slice(start..bytes.len().min(start + part_bytes)).into())
            })
            .collect();
        let sent = futures::stream::iter(parts).buffer_unordered(PARTS_PARALLEL);
        match sent.try_collect::<()>().await {
            Ok(()) => self.complete_parts(path, bytes.len() as u64, upload).await,
            Err(error) => {
                give_up(upload).await;
                Err(self.parts_error(path, error))
            }
        }
    }

    pub(super) async fn begin_parts(&self, path: &str) -> Result<Box<dyn MultipartUpload>> {
        let begun = self.store.put_multipart(&self.full(path)).await;
        begun.map_err(|e| Error::from_store(format!("could not write `{}`", self.uri(path)), e))
    }

    /// Makes an object of parts that have been sent, `size` bytes in all, or gives them up.
    pub(super) async fn complete_parts(
        &self,
        path: &str,
        size: u64,
        mut upload: Box<dyn MultipartUpload>,
    ) -> Result<()> {
        let Err(error) = upload.complete().await else { return Ok(()) };
        if !matches!(error, object_store::Error::NotFound { .. }) {
            give_up(upload).await;
            return Err(self.parts_error(path, error));
        }
        // The library asks again where a reply is lost, and a store may then know nothing of parts
        // that it has made an object of. Nobody else writes under this name.
        match self.head(path).await? {
            Some(there) if there.size == size => Ok(()),
            _ => Err(self.parts_error(path, error)),
        }
    }

    /// Parts that the store does not know are gone, and nothing else is: they can be sent anew.
    pub(super) fn parts_error(&self, path: &str, error: object_store::Error) -> Error {
        let doing = format!("could not write `{}`", self.uri(path));
        match error {
            object_store::Error::NotFound { .. } => {
                Error::unavailable(format!("{doing}: the store has lost its parts"))
                    .with_source(error)
            }
            error => Error::from_store(doing, error),
        }
    }
}

/// Parts that nobody completes are stored, and paid for, until somebody gives them up.
pub(super) async fn give_up(mut upload: Box<dyn MultipartUpload>) {
    match upload.abort().await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
        Err(error) => {
            let error = error.to_string();
            tracing::warn!(
                error,
                "could not give up the parts of an object: they stay until the bucket's lifecycle rules remove them"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::double::{Fault, S3Double};
    use super::*;
    use crate::ErrorKind;

    fn bytes() -> Bytes {
        (0..95u8).collect::<Vec<_>>().into()
    }

    async fn put(storage: &Storage) -> Result<()> {
        storage.put_in_parts_of("data/x.parquet", bytes(), 10).await
    }

    #[tokio::test]
    async fn parts_are_the_object_and_a_refused_one_gives_it_up() {
        let double = S3Double::start().await;
        let storage = double.storage("s3://lake/t").await;

        put(&storage).await.expect("put");
        assert_eq!(double.object("/lake/t/data/x.parquet").expect("there"), bytes());
        let asked = double.take_asked();
        let parts: Vec<_> = asked.iter().filter(|asked| asked.what == "UploadPart").collect();
        assert_eq!(parts.len(), 10);

        for call in ["UploadPart", "CompleteMultipartUpload"] {
            double.forget();
            double.push(call, Fault::Refused(403));
            let error = put(&storage).await.expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Denied, "{call}");
            assert!(error.to_string().contains("s3://lake/t/data/x.parquet"), "{error}");
            assert_eq!((double.uploads(), double.object("/lake/t/data/x.parquet")), (0, None));
        }
    }

    #[tokio::test]
    async fn a_lost_reply_to_the_completion_is_no_failure() {
        let double = S3Double::start().await;
        let storage = double.storage("s3://lake/t").await;
        double.push("CompleteMultipartUpload", Fault::LostReply);

        put(&storage).await.expect("put");

        assert_eq!(double.object("/lake/t/data/x.parquet").expect("there"), bytes());
        let asked = double.take_asked();
        let of = |what: &str| asked.iter().filter(|asked| asked.what == what).count();
        assert_eq!((of("CompleteMultipartUpload"), of("HeadObject")), (2, 1));
        assert_eq!(of("AbortMultipartUpload"), 0);
    }

    #[tokio::test]
    async fn parts_that_the_store_has_lost_can_be_sent_again() {
        let double = S3Double::start().await;
        let storage = double.storage("s3://lake/t").await;
        for (call, there) in [
            ("UploadPart", None),
            ("CompleteMultipartUpload", None),
            ("CompleteMultipartUpload", Some("another size")),
        ] {
            double.forget();
            if let Some(there) = there {
                storage.put("data/x.parquet", there).await.expect("put");
            }
            double.push(call, Fault::Lost);
            let error = put(&storage).await.expect_err("lost");
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{call}: {}", error.chain());
            assert!(error.chain().contains("NoSuchUpload"), "{call}: {}", error.chain());
        }
    }
}
