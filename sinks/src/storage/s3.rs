//! S3 and what speaks like it: the clients of a bucket.

use std::fmt;
use std::sync::Arc;

use object_store::RetryConfig;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};

use crate::aws::Aws;
use crate::{Error, Result};

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

/// The two clients of a bucket: one that tries again, and one that sends once.
pub(super) fn clients(bucket: &str, s3: &S3Options) -> Result<(Arc<AmazonS3>, Arc<AmazonS3>)> {
    Ok((Arc::new(client(bucket, s3, 10)?), Arc::new(client(bucket, s3, 0)?)))
}

#[cfg(test)]
mod tests {
    use super::super::double::options;
    use super::*;

    #[tokio::test]
    async fn every_kind_of_encryption_makes_a_client() {
        let key = "arn:aws:kms:eu-west-1:123456789012:key/k".to_owned();
        for encryption in [Encryption::S3, Encryption::Kms(None), Encryption::Kms(Some(key))] {
            let s3 = S3Options { encryption: Some(encryption.clone()), ..options().await };
            assert!(client("lake", &s3, 0).is_ok(), "{encryption:?}");
        }
    }
}
