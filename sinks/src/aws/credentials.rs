//! The newest credentials of a chain. They are renewed before they end, and nobody waits for that
//! while the old ones are good.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use object_store::aws::AwsCredential;

use crate::error::with_causes;

/// Credentials are renewed when they are valid for less than this: longer than the object store
/// sends one request again.
pub(super) const REFRESH_BEFORE: Duration = Duration::from_secs(300);
/// Credentials that are valid for less may end amid a request: new ones are waited for.
const SPARE: Duration = Duration::from_secs(60);

/// How a chain is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// One walk through the chain, at most.
    pub(super) fetch_timeout: Duration,
    /// From the end of a walk to the next one, while there are credentials that are good.
    pub(super) again_after: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { fetch_timeout: Duration::from_secs(30), again_after: Duration::from_secs(15) }
    }
}

/// The newest credentials of a chain.
#[derive(Debug)]
pub(super) struct CachedCredentials {
    chain: SharedCredentialsProvider,
    pace: Pace,
    known: Mutex<Known>,
    /// Locked while they are fetched, so that many requests fetch them once.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Known {
    latest: Option<Credentials>,
    /// When the chain was last asked, with whatever end.
    asked: Option<Instant>,
}

impl CachedCredentials {
    pub(super) fn new(chain: SharedCredentialsProvider, pace: Pace) -> Self {
        Self { chain, pace, known: Mutex::default(), fetching: Arc::default() }
    }

    /// Credentials that are valid.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Credentials, CredentialsError> {
        let Some(known) = self.valid(SPARE) else { return self.wait_for_new().await };
        if !is_valid(&known, REFRESH_BEFORE) {
            self.renew_aside();
        }
        Ok(known)
    }

    /// Fetches new ones while the old ones serve, unless somebody does or just did.
    fn renew_aside(self: &Arc<Self>) {
        if self.was_just_asked() {
            return;
        }
        let Ok(fetching) = self.fetching.clone().try_lock_owned() else { return };
        let cache = self.clone();
        tokio::spawn(async move {
            drop(cache.fetch().await);
            drop(fetching);
        });
    }

    async fn wait_for_new(&self) -> Result<Credentials, CredentialsError> {
        let _fetching = self.fetching.lock().await;
        // Somebody may have fetched them, or tried to, while this one waited.
        let margin = if self.was_just_asked() { Duration::ZERO } else { SPARE };
        if let Some(known) = self.valid(margin) {
            return Ok(known);
        }
        self.fetch().await.or_else(|error| self.valid(Duration::ZERO).ok_or(error))
    }

    async fn fetch(&self) -> Result<Credentials, CredentialsError> {
        let patience = self.pace.fetch_timeout;
        let fetched = tokio::time::timeout(patience, self.chain.provide_credentials())
            .await
            .unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(patience)));
        let mut known = self.lock();
        known.asked = Some(Instant::now());
        match &fetched {
            Ok(fetched) => known.latest = Some(fetched.clone()),
            Err(error)
                if known.latest.as_ref().is_some_and(|old| is_valid(old, Duration::ZERO)) =>
            {
                let error = with_causes(error);
                tracing::warn!(error, "could not renew the AWS credentials, using the old ones");
            }
            Err(_) => {}
        }
        fetched
    }

    /// The latest, if they are good for this long.
    fn valid(&self, margin: Duration) -> Option<Credentials> {
        self.lock().latest.clone().filter(|known| is_valid(known, margin))
    }

    fn was_just_asked(&self) -> bool {
        self.lock().asked.is_some_and(|asked| asked.elapsed() < self.pace.again_after)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether credentials are good for this long.
fn is_valid(credentials: &Credentials, margin: Duration) -> bool {
    credentials.expiry().is_none_or(|end| SystemTime::now() + margin < end)
}

/// Whether trying again may help.
pub(super) fn is_passing(error: &CredentialsError) -> bool {
    matches!(error, CredentialsError::ProviderTimedOut(_) | CredentialsError::ProviderError(_))
}

/// The cache as the SDK and the object store ask it. Copies share it.
#[derive(Debug, Clone)]
pub(super) struct CacheHandle(pub(super) Arc<CachedCredentials>);

impl ProvideCredentials for CacheHandle {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.0.get())
    }
}

#[async_trait::async_trait]
impl object_store::CredentialProvider for CacheHandle {
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
