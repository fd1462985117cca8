//! Where credentials come from, and that nobody waits for new ones while the old ones are good.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};

use super::credentials::REFRESH_BEFORE;
use super::*;
use crate::catalog::glue::{Glue, GlueOptions};
use crate::storage::double::S3Double;

/// What a chain does when it is asked once more than it has credentials for.
#[derive(Debug, Clone, Copy)]
enum Then {
    Fails,
    NeverAnswers,
}

/// Hands out numbered keys that are valid this long, so many of them.
#[derive(Debug)]
struct Chain {
    valid: Duration,
    asked: AtomicUsize,
    keys: usize,
    then: Then,
}

#[derive(Debug, Clone)]
struct Handle(Arc<Chain>);

impl ProvideCredentials for Handle {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let asked = self.0.asked.fetch_add(1, Ordering::SeqCst);
        match self.0.then {
            _ if asked < self.0.keys => {
                let end = SystemTime::now() + self.0.valid;
                let key =
                    Credentials::new(format!("key{asked}"), "secret", None, Some(end), "test");
                future::ProvideCredentials::ready(Ok(key))
            }
            Then::Fails => future::ProvideCredentials::ready(Err(
                CredentialsError::provider_error("the role service is down"),
            )),
            Then::NeverAnswers => future::ProvideCredentials::new(std::future::pending()),
        }
    }
}

const NEVER: Duration = Duration::from_secs(3600);

async fn with_chain(valid: u64, keys: usize, then: Then, pace: Pace) -> (Aws, Arc<Chain>) {
    let valid = Duration::from_secs(valid);
    let chain = Arc::new(Chain { valid, asked: AtomicUsize::new(0), keys, then });
    let cache = CachedCredentials::new(SharedCredentialsProvider::new(Handle(chain.clone())), pace);
    let region = Region::new("eu-west-1");
    let config = aws_config::defaults(BehaviorVersion::latest()).region(region).load().await;
    (Aws::with_cache(config, "eu-west-1".to_owned(), cache), chain)
}

/// Asks again as soon as it may, and waits as long as it takes.
fn eager() -> Pace {
    Pace { fetch_timeout: NEVER, again_after: Duration::ZERO }
}

async fn key(aws: &Aws) -> Option<String> {
    let credential = aws.object_store_credentials().get_credential().await.ok()?;
    Some(credential.key_id.clone())
}

#[tokio::test]
async fn store_and_sdk_share_credentials_that_are_fetched_once() {
    let (aws, chain) = with_chain(3600, usize::MAX, Then::Fails, eager()).await;
    let sdk = aws.sdk_config().credentials_provider().expect("a provider");

    assert_eq!(key(&aws).await.as_deref(), Some("key0"));
    assert_eq!(key(&aws.clone()).await.as_deref(), Some("key0"));
    let of_sdk = sdk.provide_credentials().await.expect("credentials");
    assert_eq!(of_sdk.access_key_id(), "key0");
    assert_eq!(chain.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn credentials_are_renewed_before_they_end() {
    let ending = REFRESH_BEFORE.as_secs() - 1;
    let (aws, _) = with_chain(ending, usize::MAX, Then::Fails, eager()).await;
    assert_eq!(key(&aws).await.as_deref(), Some("key0"));
    let mut last = key(&aws).await;
    for _ in 0..500 {
        if last.as_deref() != Some("key0") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        last = key(&aws).await;
    }
    assert_ne!(last.as_deref(), Some("key0"), "renewed aside");

    // Too short to be handed out without a question.
    let (aws, _) = with_chain(1, usize::MAX, Then::Fails, eager()).await;
    assert_eq!(key(&aws).await.as_deref(), Some("key0"));
    assert_eq!(key(&aws).await.as_deref(), Some("key1"));
}

/// The SDK's own cache would stay with the first ones until seconds before they end.
#[tokio::test]
async fn a_client_of_glue_signs_with_renewed_credentials() {
    let double = S3Double::start().await;
    let ending = REFRESH_BEFORE.as_secs() - 1;
    let (aws, _) = with_chain(ending, usize::MAX, Then::Fails, eager()).await;
    let endpoint = Some(double.endpoint().to_owned());
    let glue = Glue::new(&aws, GlueOptions { endpoint, ..GlueOptions::default() });
    let mut signed = Vec::new();
    for _ in 0..50 {
        drop(glue.has_database("any").await);
        for asked in double.take_asked() {
            let header = asked.headers.get("authorization").cloned().unwrap_or_default();
            let (_, key) = header.split_once("Credential=").expect("signed");
            signed.push(key.split('/').next().unwrap_or_default().to_owned());
        }
        if signed.last() != signed.first() {
            break;
        }
    }
    assert_eq!(signed.first().map(String::as_str), Some("key0"));
    assert_ne!(signed.last(), signed.first(), "{signed:?}");
}

#[tokio::test]
async fn old_credentials_serve_while_new_ones_cannot_be_had() {
    let (ending, _) = with_chain(100, 1, Then::Fails, eager()).await;
    for _ in 0..5 {
        assert_eq!(key(&ending).await.as_deref(), Some("key0"), "valid for 100 s yet");
        tokio::task::yield_now().await;
    }

    let (ended, _) = with_chain(0, 1, Then::Fails, eager()).await;
    assert_eq!(key(&ended).await.as_deref(), Some("key0"));
    assert_eq!(key(&ended).await, None);
    let error = ended.check_credentials().await.expect_err("none");
    assert_eq!(error.kind(), crate::ErrorKind::Unavailable);
    assert!(error.chain().contains("the role service is down"), "{}", error.chain());
}

#[tokio::test]
async fn nobody_waits_for_a_chain_that_never_answers_while_the_old_credentials_are_good() {
    let (aws, chain) = with_chain(100, 1, Then::NeverAnswers, eager()).await;
    for _ in 0..20 {
        let found = tokio::time::timeout(Duration::from_secs(30), key(&aws)).await;
        assert_eq!(found.expect("nobody waits").as_deref(), Some("key0"));
        tokio::task::yield_now().await;
    }
    assert_eq!(chain.asked.load(Ordering::SeqCst), 2, "one question at a time");

    // Shortly before they end one waits, and whoever comes after it does not.
    let pause = Duration::from_millis(300);
    let short = Pace { fetch_timeout: Duration::from_millis(50), again_after: pause };
    let (aws, chain) = with_chain(30, 1, Then::NeverAnswers, short).await;
    assert_eq!(key(&aws).await.as_deref(), Some("key0"));
    tokio::time::sleep(pause).await;
    for _ in 0..20 {
        assert_eq!(key(&aws).await.as_deref(), Some("key0"));
    }
    let asked = chain.asked.load(Ordering::SeqCst);
    assert!((2..10).contains(&asked), "asked {asked} times");
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
