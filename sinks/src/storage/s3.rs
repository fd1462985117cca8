//! S3 and what speaks like it: the clients, and objects too large for one request.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::{MultipartUpload, RetryConfig};

use crate::aws::Aws;
use crate::{Error, Result};

/// Objects beyond this many bytes are put in parts.
pub(super) const WHOLE_BYTES_MAX: usize = 64 << 20;
/// Bytes of a part: S3 takes 10 000 of them, of 5 MiB or more.
const PART_BYTES: usize = 16 << 20;
/// Parts of one object on their way at the same time.
const PARTS_PARALLEL: usize = 4;

/// How to reach S3 or what speaks like it.
#[derive(Clone, Default)]
pub struct S3Options {
    /// Region and credentials; required for S3.
    pub aws: Option<Aws>,
    /// Region of the bucket; that of `aws` without.
    pub region: Option<String>,
    /// Endpoint other than AWS's.
    pub endpoint: Option<String>,
    /// Bucket in the path, not in the host name.
    pub path_style: bool,
    /// How S3 encrypts what we put; the bucket's own setting without.
    pub encryption: Option<Encryption>,
}

/// Server-side encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// With S3's own keys (SSE-S3).
    S3,
    /// With a key of KMS (SSE-KMS): this one, or the account's key for S3.
    Kms(Option<String>),
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("encryption", &self.encryption)
            .finish_non_exhaustive()
    }
}

/// A client for a bucket that sends each request up to `retries + 1` times.
pub(super) fn client(bucket: &str, s3: &S3Options, retries: usize) -> Result<AmazonS3> {
    let Some(aws) = &s3.aws else {
        return Err(Error::invalid(format!(
            "bucket `{bucket}` cannot be reached with a lake that is not on S3: give \
             `lake.location` a place there"
        )));
    };
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_region(s3.region.as_deref().unwrap_or(aws.region()))
        .with_credentials(aws.object_store_credentials())
        // Whatever the environment says of it: commits rest on it.
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(RetryConfig { max_retries: retries, ..Default::default() });
    if let Some(endpoint) = &s3.endpoint {
        builder = builder
            .with_endpoint(endpoint)
            .with_allow_http(endpoint.starts_with("http://"))
            .with_virtual_hosted_style_request(!s3.path_style);
    }
    if let Some(encryption) = &s3.encryption {
        let kind: AmazonS3ConfigKey =
            "aws_server_side_encryption".parse().expect("a key of the library");
        builder = match encryption {
            Encryption::S3 => builder.with_config(kind, "AES256"),
            Encryption::Kms(None) => builder.with_config(kind, "aws:kms"),
            Encryption::Kms(Some(key)) => builder.with_sse_kms_encryption(key),
        };
    }
    builder
        .build()
        .map_err(|e| Error::invalid(format!("S3 client for bucket `{bucket}`")).with_source(e))
}

/// Puts an object in parts. What was sent is given up if any part fails: parts that nobody
/// completes are stored, and paid for, until somebody does.
pub(super) async fn put_in_parts(
    upload: Box<dyn MultipartUpload>,
    bytes: Bytes,
) -> object_store::Result<()> {
    put_in_parts_of(upload, bytes, PART_BYTES).await
}

async fn put_in_parts_of(
    mut upload: Box<dyn MultipartUpload>,
    bytes: Bytes,
    part_bytes: usize,
) -> object_store::Result<()> {
    let starts = (0..bytes.len()).step_by(part_bytes);
    let parts: Vec<_> = starts
        .map(|start| {
            upload.put_part(bytes.slice(start..bytes.len().min(start + part_bytes)).into())
        })
        .collect();
    let sent =
        futures::stream::iter(parts).buffer_unordered(PARTS_PARALLEL).try_collect::<()>().await;
    let completed = match sent {
        Ok(()) => upload.complete().await.map(|_| ()),
        Err(error) => Err(error),
    };
    if completed.is_err()
        && let Err(error) = upload.abort().await
    {
        let error = error.to_string();
        tracing::warn!(
            error,
            "could not give up the parts of an object: they stay until the bucket's lifecycle rules remove them"
        );
    }
    completed
}

/// The two clients of a bucket: one that tries again, and one that sends once.
pub(super) fn clients(bucket: &str, s3: &S3Options) -> Result<(Arc<AmazonS3>, Arc<AmazonS3>)> {
    Ok((Arc::new(client(bucket, s3, 10)?), Arc::new(client(bucket, s3, 0)?)))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use object_store::{PutPayload, PutResult, UploadPart};

    use super::*;

    /// Parts as they came, and how it ended.
    #[derive(Debug, Default)]
    struct Seen {
        parts: Mutex<Vec<(usize, Bytes)>>,
        end: Mutex<Option<&'static str>>,
    }

    #[derive(Debug)]
    struct Upload {
        seen: Arc<Seen>,
        next: usize,
        failing: Option<usize>,
    }

    #[async_trait::async_trait]
    impl MultipartUpload for Upload {
        fn put_part(&mut self, data: PutPayload) -> UploadPart {
            let (seen, number, failing) = (self.seen.clone(), self.next, self.failing);
            self.next += 1;
            Box::pin(async move {
                if failing == Some(number) {
                    let source = "slow down".into();
                    return Err(object_store::Error::Generic { store: "S3", source });
                }
                seen.parts.lock().expect("lock").push((number, data.into()));
                Ok(())
            })
        }

        async fn complete(&mut self) -> object_store::Result<PutResult> {
            *self.seen.end.lock().expect("lock") = Some("complete");
            Ok(PutResult { e_tag: None, version: None })
        }

        async fn abort(&mut self) -> object_store::Result<()> {
            *self.seen.end.lock().expect("lock") = Some("abort");
            Ok(())
        }
    }

    async fn put(bytes: &Bytes, failing: Option<usize>) -> (Arc<Seen>, object_store::Result<()>) {
        let seen = Arc::new(Seen::default());
        let upload = Box::new(Upload { seen: seen.clone(), next: 0, failing });
        let done = put_in_parts_of(upload, bytes.clone(), 10).await;
        (seen, done)
    }

    #[tokio::test]
    async fn parts_are_the_object_and_a_failed_one_gives_it_up() {
        let bytes: Bytes = (0..95u8).collect::<Vec<_>>().into();

        let (seen, done) = put(&bytes, None).await;
        done.expect("put");
        let mut parts = seen.parts.lock().expect("lock").clone();
        parts.sort_by_key(|(number, _)| *number);
        let sizes: Vec<usize> = parts.iter().map(|(_, part)| part.len()).collect();
        assert_eq!(sizes, [10, 10, 10, 10, 10, 10, 10, 10, 10, 5]);
        let joined: Vec<u8> = parts.iter().flat_map(|(_, part)| part.to_vec()).collect();
        assert_eq!(joined, bytes);
        assert_eq!(*seen.end.lock().expect("lock"), Some("complete"));

        let (seen, done) = put(&bytes, Some(4)).await;
        assert!(done.is_err());
        assert_eq!(*seen.end.lock().expect("lock"), Some("abort"));
    }

    #[tokio::test]
    async fn every_kind_of_encryption_makes_a_client() {
        let options = crate::aws::AwsOptions {
            region: Some("eu-west-1".to_owned()),
            access_key_id: Some("key".to_owned()),
            secret_access_key: Some("secret".to_owned()),
            ..Default::default()
        };
        let aws = Aws::load(&options).await.expect("loads");
        let key = "arn:aws:kms:eu-west-1:123456789012:key/k".to_owned();
        for encryption in [Encryption::S3, Encryption::Kms(None), Encryption::Kms(Some(key))] {
            let s3 = S3Options {
                aws: Some(aws.clone()),
                encryption: Some(encryption.clone()),
                ..Default::default()
            };
            assert!(client("lake", &s3, 0).is_ok(), "{encryption:?}");
        }
    }
}
