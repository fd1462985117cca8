//! AWS: where credentials and the region come from, once for data, metadata and catalogs.
//!
//! The chain is that of every AWS tool (`aws-config`): environment, profile, web identity (IRSA),
//! container and pod identity, instance. One cache stands before it (`credentials`); the object
//! store and the SDK's clients ask that cache, and no other.

mod credentials;

use std::fmt;
use std::sync::Arc;

use aws_config::identity::IdentityCache;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;

use crate::{Error, Result};
use credentials::{CacheHandle, CachedCredentials, Pace, is_passing};

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
    credentials: CacheHandle,
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
        Ok(Self::with_cache(config, region, CachedCredentials::new(chain, Pace::default())))
    }

    fn with_cache(config: SdkConfig, region: String, cache: CachedCredentials) -> Self {
        let cache = CacheHandle(Arc::new(cache));
        let config = config
            .into_builder()
            .credentials_provider(SharedCredentialsProvider::new(cache.clone()))
            // The SDK's own would keep credentials until seconds before they end.
            .identity_cache(IdentityCache::no_cache())
            .build();
        Self { config, region, credentials: cache }
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
        Arc::new(self.credentials.clone())
    }

    /// Fetches credentials, if there are none yet: to learn early that there are none to be had.
    ///
    /// # Errors
    /// `Denied` where nobody has any, `Unavailable` where who has them does not answer.
    pub async fn check_credentials(&self) -> Result<()> {
        let checked = self.credentials.0.get().await.map(|_| ());
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

#[cfg(test)]
mod tests;
