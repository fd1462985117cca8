//! S3 and what speaks like it: the clients of a bucket.

use std::fmt;
use std::sync::Arc;

use object_store::RetryConfig;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use url::{Host, Url};

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
        let of_bucket = match s3.path_style {
            true => endpoint.clone(),
            false => before_host(bucket, endpoint)?,
        };
        builder = builder
            // Not `with_endpoint`: a variable of the environment would win over it.
            .with_config(AmazonS3ConfigKey::S3Endpoint, of_bucket)
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

/// The endpoint with the bucket before its host name, unless it stands there already: the library
/// takes an endpoint as it is.
fn before_host(bucket: &str, endpoint: &str) -> Result<String> {
    let unfit = || {
        Error::invalid(format!(
            "bucket `{bucket}` cannot stand before the host name of `lake.s3.endpoint`, \
             `{endpoint}`: set `lake.s3.path_style: true`"
        ))
    };
    let mut url = Url::parse(endpoint).map_err(|error| unfit().with_source(error))?;
    let Some(Host::Domain(host)) = url.host() else { return Err(unfit()) };
    if !host.starts_with(&format!("{bucket}.")) {
        let host = format!("{bucket}.{host}");
        url.set_host(Some(&host)).map_err(|error| unfit().with_source(error))?;
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// The two clients of a bucket: one that tries again, and one that sends once.
pub(super) fn clients(bucket: &str, s3: &S3Options) -> Result<(Arc<AmazonS3>, Arc<AmazonS3>)> {
    Ok((Arc::new(client(bucket, s3, 10)?), Arc::new(client(bucket, s3, 0)?)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use object_store::path::Path;
    use object_store::signer::Signer;
    use reqwest::Method;

    use super::super::PutOutcome;
    use super::super::double::{S3Double, options};
    use super::*;

    /// Where an object `a/b.parquet` of a bucket is put.
    async fn place(bucket: &str, endpoint: &str, path_style: bool) -> Result<String> {
        let endpoint = Some(endpoint.to_owned());
        let s3 = S3Options { endpoint, path_style, ..options().await };
        let signed = client(bucket, &s3, 0)?
            .signed_url(Method::PUT, &Path::from("a/b.parquet"), Duration::from_secs(60))
            .await
            .expect("signed");
        Ok(signed.as_str().split('?').next().unwrap_or_default().to_owned())
    }

    #[tokio::test]
    async fn the_bucket_is_in_the_host_name_or_in_the_path() {
        let aws = "https://s3.eu-west-1.amazonaws.com";
        for (endpoint, path_style, wanted) in [
            (aws, true, "https://s3.eu-west-1.amazonaws.com/lake/a/b.parquet"),
            (aws, false, "https://lake.s3.eu-west-1.amazonaws.com/a/b.parquet"),
            ("http://minio:9000/", true, "http://minio:9000/lake/a/b.parquet"),
            ("http://minio:9000/", false, "http://lake.minio:9000/a/b.parquet"),
            ("https://lake.minio.example", false, "https://lake.minio.example/a/b.parquet"),
            ("https://lakes.example/s3", false, "https://lake.lakes.example/s3/a/b.parquet"),
        ] {
            let found = place("lake", endpoint, path_style).await.expect("a client");
            assert_eq!(found, wanted, "{endpoint}, path_style: {path_style}");
        }
    }

    #[tokio::test]
    async fn a_bucket_that_cannot_stand_before_an_address_is_refused() {
        for endpoint in ["http://127.0.0.1:9000", "http://[::1]:9000", "minio:9000"] {
            let error = place("lake", endpoint, false).await.expect_err("refused");
            assert_eq!(error.kind(), crate::ErrorKind::Invalid);
            assert!(error.to_string().contains("lake.s3.path_style: true"), "{error}");
            assert!(error.to_string().contains(endpoint), "{error}");
        }
    }

    /// What each kind of request that makes an object says of encryption: how, and with which key.
    async fn asked(how: Option<Encryption>) -> BTreeSet<(&'static str, String, String)> {
        let double = S3Double::start().await;
        let storage = double.encrypted("s3://lake/t", how).await;
        storage.put("whole", "x").await.expect("put");
        assert_eq!(storage.put_if_absent("new", "x").await.expect("put"), PutOutcome::Created);
        let mut upload = storage.upload("large");
        upload.write(&vec![0; 9 << 20]).await.expect("written");
        upload.finish().await.expect("finished");
        let name = |asked: &super::super::double::Asked| match asked.headers.get("if-none-match") {
            Some(_) => "PutObject if there is none",
            None => asked.what,
        };
        let header = |asked: &super::super::double::Asked, name: &str| {
            let header = format!("x-amz-server-side-encryption{name}");
            asked.headers.get(&header).cloned().unwrap_or_default()
        };
        let all = double.take_asked();
        let told = |asked| (name(asked), header(asked, ""), header(asked, "-aws-kms-key-id"));
        all.iter().map(told).collect()
    }

    #[tokio::test]
    async fn whatever_makes_an_object_says_how_it_is_encrypted() {
        let key = "arn:aws:kms:eu-west-1:123456789012:key/k";
        for (encryption, how, key) in [
            (None, "", ""),
            (Some(Encryption::S3), "AES256", ""),
            (Some(Encryption::Kms(None)), "aws:kms", ""),
            (Some(Encryption::Kms(Some(key.to_owned()))), "aws:kms", key),
        ] {
            // S3 refuses the header where an object that has begun goes on.
            let wanted = [
                ("PutObject", how, key),
                ("PutObject if there is none", how, key),
                ("CreateMultipartUpload", how, key),
                ("UploadPart", "", ""),
                ("CompleteMultipartUpload", "", ""),
            ];
            let wanted = wanted.map(|(what, how, key)| (what, how.to_owned(), key.to_owned()));
            assert_eq!(asked(encryption).await, BTreeSet::from(wanted));
        }
    }
}
