//! AWS: where credentials and the region come from, once for data, metadata and catalogs.
//!
//! The chain is that of every AWS tool (`aws-config`): environment, profile, web identity (IRSA),
//! container and pod identity, instance. One cache stands before it; the object store and the
//! SDK's clients ask that cache, which fetches new credentials well before the old ones end.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use object_store::aws::AwsCredential;
use tokio::sync::Mutex;

use crate::error::with_causes;
use crate::{Error, Result};

/// Credentials are fetched anew when they are valid for less than this.
const REFRESH_BEFORE: Duration = Duration::from_secs(300);
/// One walk through the chain, at most.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Region of an endpoint that is not AWS's, where nobody says one: it only goes into signatures.
const ANY_REGION: &str = "us-east-1";
/// Name of the session of a role that we take on: seen in CloudTrail.
const SESSION: &str = "lakebed";

/// What of AWS's configuration is not left to the environment.
#[derive(Clone, Default)]
pub struct AwsOptions {
    /// Region; the chain's without.
    pub region: Option<String>,
    /// Whether all of it goes to an endpoint that is not AWS's: then no machine is asked for a
    /// region.
    pub foreign_endpoint: bool,
    /// Static credentials; the chain's without.
    pub access_key_id: Option<String>,
    /// See `access_key_id`.
    pub secret_access_key: Option<String>,
    /// A role to take on with them, by its ARN.
    pub role_arn: Option<String>,
    /// The external id that the role asks for, if any.
    pub external_id: Option<String>,
}

impl fmt::Debug for AwsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsOptions")
            .field("region", &self.region)
            .field("role_arn", &self.role_arn)
            .finish_non_exhaustive()
    }
}

/// Region and credentials, found. Copies share one cache of credentials.
#[derive(Debug, Clone)]
pub struct Aws {
    config: SdkConfig,
    region: String,
    credentials: Arc<CachedCredentials>,
}

impl Aws {
    /// Finds the region and where credentials come from. Credentials are not fetched yet.
    ///
    /// # Errors
    /// `Invalid` where nobody names a region.
    pub async fn load(options: &AwsOptions) -> Result<Self> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        let from_environment = || {
            ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| std::env::var(name).ok())
        };
        let region = match (&options.region, options.foreign_endpoint) {
            (Some(region), _) => Some(region.clone()),
            (None, true) => Some(from_environment().unwrap_or_else(|| ANY_REGION.to_owned())),
            (None, false) => None,
        };
        if let Some(region) = region {
            loader = loader.region(Region::new(region));
        }
        if let (Some(key), Some(secret)) = (&options.access_key_id, &options.secret_access_key) {
            let fixed = Credentials::new(key, secret, None, None, "configuration");
            loader = loader.credentials_provider(fixed);
        }
        let config = loader.load().await;
        let region = config.region().map(ToString::to_string).ok_or_else(|| {
            Error::invalid("no AWS region is known: set `lake.s3.region`, or AWS_REGION")
        })?;
        let chain = match (&options.role_arn, config.credentials_provider()) {
            (Some(role), _) => {
                let mut role = AssumeRoleProvider::builder(role).session_name(SESSION);
                if let Some(id) = &options.external_id {
                    role = role.external_id(id);
                }
                SharedCredentialsProvider::new(role.configure(&config).build().await)
            }
            (None, Some(chain)) => chain,
            (None, None) => return Err(Error::internal("the AWS chain has no credentials")),
        };
        Ok(Self::with_provider(config, region, chain))
    }

    fn with_provider(config: SdkConfig, region: String, chain: SharedCredentialsProvider) -> Self {
        let credentials = Arc::new(CachedCredentials::new(chain));
        let shared = SharedCredentialsProvider::new(CacheHandle(credentials.clone()));
        let config = config.into_builder().credentials_provider(shared).build();
        Self { config, region, credentials }
    }

    /// The region.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// For clients of the AWS SDK: region, credentials, endpoints from the environment.
    pub fn sdk_config(&self) -> &SdkConfig {
        &self.config
    }

    /// For clients of the object store.
    pub fn object_store_credentials(&self) -> object_store::aws::AwsCredentialProvider {
        Arc::new(ObjectStoreCredentials(self.credentials.clone()))
    }

    /// Fetches credentials, if there are none yet: to learn early that there are none to be had.
    ///
    /// # Errors
    /// `Denied` where nobody has any, `Unavailable` where who has them does not answer.
    pub async fn check_credentials(&self) -> Result<()> {
        let checked = self.credentials.get().await.map(|_| ());
        checked.map_err(|error| {
            let message = "no AWS credentials could be had: set them in the environment, in a \
                           profile or as `lake.s3.access_key_id`, or give the machine a role";
            match is_passing(&error) {
                true => Error::unavailable("AWS credentials could not be fetched"),
                false => Error::new(crate::ErrorKind::Denied, message),
            }
            .with_source(error)
        })
    }
}

/// Whether trying again may help.
fn is_passing(error: &CredentialsError) -> bool {
    matches!(error, CredentialsError::ProviderTimedOut(_) | CredentialsError::ProviderError(_))
}

/// The newest credentials of a chain.
#[derive(Debug)]
struct CachedCredentials {
    chain: SharedCredentialsProvider,
    /// Locked while they are fetched, so that many requests fetch them once.
    latest: Mutex<Option<Credentials>>,
}

impl CachedCredentials {
    fn new(chain: SharedCredentialsProvider) -> Self {
        Self { chain, latest: Mutex::new(None) }
    }

    async fn get(&self) -> Result<Credentials, CredentialsError> {
        let mut latest = self.latest.lock().await;
        if let Some(known) = latest.as_ref().filter(|known| is_valid(known, REFRESH_BEFORE)) {
            return Ok(known.clone());
        }
        let fetched = tokio::time::timeout(FETCH_TIMEOUT, self.chain.provide_credentials());
        match fetched
            .await
            .unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(FETCH_TIMEOUT)))
        {
            Ok(fetched) => {
                *latest = Some(fetched.clone());
                Ok(fetched)
            }
            Err(error) => match latest.as_ref().filter(|known| is_valid(known, Duration::ZERO)) {
                Some(known) => {
                    let error = with_causes(&error);
                    tracing::warn!(
                        error,
                        "could not renew the AWS credentials, using the old ones"
                    );
                    Ok(known.clone())
                }
                None => Err(error),
            },
        }
    }
}

/// Whether credentials are good for this long.
fn is_valid(credentials: &Credentials, margin: Duration) -> bool {
    credentials.expiry().is_none_or(|end| SystemTime::now() + margin < end)
}

/// The cache as the SDK asks it.
#[derive(Debug)]
struct CacheHandle(Arc<CachedCredentials>);

impl ProvideCredentials for CacheHandle {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.0.get())
    }
}

/// The cache as the object store asks it.
#[derive(Debug)]
struct ObjectStoreCredentials(Arc<CachedCredentials>);

#[async_trait::async_trait]
impl object_store::CredentialProvider for ObjectStoreCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        match self.0.get().await {
            Ok(found) => Ok(Arc::new(AwsCredential {
                key_id: found.access_key_id().to_owned(),
                secret_key: found.secret_access_key().to_owned(),
                token: found.session_token().map(str::to_owned),
            })),
            Err(error) if is_passing(&error) => {
                Err(object_store::Error::Generic { store: "S3", source: Box::new(error) })
            }
            Err(error) => Err(object_store::Error::Unauthenticated {
                path: "AWS credentials".to_owned(),
                source: Box::new(error),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Hands out numbered keys that are valid this long, and fails from the n-th on.
    #[derive(Debug)]
    struct Chain {
        valid: Duration,
        asked: AtomicUsize,
        fails_from: usize,
    }

    #[derive(Debug, Clone)]
    struct Handle(Arc<Chain>);

    impl ProvideCredentials for Handle {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let asked = self.0.asked.fetch_add(1, Ordering::SeqCst);
            future::ProvideCredentials::ready(if asked >= self.0.fails_from {
                Err(CredentialsError::provider_error("the role service is down"))
            } else {
                let end = SystemTime::now() + self.0.valid;
                Ok(Credentials::new(format!("key{asked}"), "secret", None, Some(end), "test"))
            })
        }
    }

    fn aws(valid: Duration, fails_from: usize) -> (Aws, Arc<Chain>) {
        let chain = Arc::new(Chain { valid, asked: AtomicUsize::new(0), fails_from });
        let provider = SharedCredentialsProvider::new(Handle(chain.clone()));
        let config = SdkConfig::builder().behavior_version(BehaviorVersion::latest()).build();
        (Aws::with_provider(config, "eu-west-1".to_owned(), provider), chain)
    }

    async fn key(aws: &Aws) -> Option<String> {
        let credential = aws.object_store_credentials().get_credential().await.ok()?;
        Some(credential.key_id.clone())
    }

    #[tokio::test]
    async fn store_and_sdk_share_credentials_that_are_fetched_once() {
        let (aws, chain) = aws(Duration::from_secs(3600), usize::MAX);
        let sdk = aws.sdk_config().credentials_provider().expect("a provider");

        assert_eq!(key(&aws).await.as_deref(), Some("key0"));
        assert_eq!(key(&aws.clone()).await.as_deref(), Some("key0"));
        let of_sdk = sdk.provide_credentials().await.expect("credentials");
        assert_eq!(of_sdk.access_key_id(), "key0");
        assert_eq!(chain.asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn credentials_are_renewed_before_they_end() {
        let (aws, _) = aws(REFRESH_BEFORE - Duration::from_secs(1), usize::MAX);

        assert_eq!(key(&aws).await.as_deref(), Some("key0"));
        assert_eq!(key(&aws).await.as_deref(), Some("key1"));
    }

    #[tokio::test]
    async fn old_credentials_serve_while_new_ones_cannot_be_had() {
        let (ending, _) = aws(Duration::from_secs(100), 1);
        assert_eq!(key(&ending).await.as_deref(), Some("key0"));
        assert_eq!(key(&ending).await.as_deref(), Some("key0"), "valid for 100 s yet");

        let (ended, _) = aws(Duration::ZERO, 1);
        assert_eq!(key(&ended).await.as_deref(), Some("key0"));
        assert_eq!(key(&ended).await, None);
        let error = ended.check_credentials().await.expect_err("none");
        assert_eq!(error.kind(), crate::ErrorKind::Unavailable);
        assert!(error.chain().contains("the role service is down"), "{}", error.chain());
    }

    #[tokio::test]
    async fn configured_keys_and_region_need_no_environment() {
        let options = AwsOptions {
            region: Some("eu-central-1".to_owned()),
            access_key_id: Some("the key".to_owned()),
            secret_access_key: Some("the secret".to_owned()),
            ..AwsOptions::default()
        };
        let aws = Aws::load(&options).await.expect("loads");

        assert_eq!(aws.region(), "eu-central-1");
        assert_eq!(key(&aws).await.as_deref(), Some("the key"));
        let shown = format!("{options:?} {aws:?}");
        assert!(!shown.contains("the secret"), "secrets are not shown: {shown}");
    }
}
