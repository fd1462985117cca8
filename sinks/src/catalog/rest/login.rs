//! How requests to a REST catalog are logged in: a token, OAuth2, or a signature of AWS.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use reqwest::{Client, Method};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::form_urlencoded;

use super::http;
use crate::aws::Aws;
use crate::error::with_causes;
use crate::{Error, ErrorKind, Result};

/// A token is renewed when it is good for less than this, or for less than a tenth of its time.
const RENEW_BEFORE: Duration = Duration::from_secs(60);
/// Scope of a token where nobody says another: what the specification asks for.
const SCOPE: &str = "catalog";

/// How to log in.
#[derive(Clone, Default)]
pub enum LoginOptions {
    /// Not at all.
    #[default]
    None,
    /// With this bearer token.
    Token(String),
    /// With tokens of an OAuth2 server, by client credentials.
    OAuth2 {
        /// Who gives tokens; the catalog itself without.
        token_uri: Option<String>,
        /// The client's id.
        client_id: String,
        /// Its secret.
        client_secret: String,
        /// What the token is to be good for.
        scope: Option<String>,
    },
    /// By signing each request with the credentials of AWS.
    SigV4 {
        /// The service that it is signed for: `glue`, `s3tables`.
        service: String,
        /// Its region; that of the credentials without.
        region: Option<String>,
        /// The credentials.
        aws: Box<Aws>,
    },
}

impl fmt::Debug for LoginOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Token(_) => "Token",
            Self::OAuth2 { .. } => "OAuth2",
            Self::SigV4 { .. } => "SigV4",
        })
    }
}

/// What a request carries to show that it is ours.
pub(super) struct Proof {
    headers: Vec<(String, String)>,
    /// The token of an OAuth2 server among them.
    token: Option<String>,
}

impl Proof {
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn bearer(token: &str) -> Vec<(String, String)> {
        vec![("authorization".to_owned(), format!("Bearer {token}"))]
    }
}

/// A login, with the token that is good at present.
#[derive(Debug)]
pub(super) struct Login {
    options: LoginOptions,
    /// Where tokens come from if nobody says.
    catalog_tokens: String,
    /// Locked while one is fetched, so that many requests fetch it once.
    token: Mutex<Option<Token>>,
}

#[derive(Clone)]
struct Token {
    text: String,
    /// When it is to be renewed, and when it ends; never where nobody says.
    ends: Option<(Instant, Instant)>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("ends", &self.ends).finish_non_exhaustive()
    }
}

impl Login {
    /// Of a catalog at this address.
    pub(super) fn new(options: LoginOptions, uri: &str) -> Self {
        let catalog_tokens = format!("{uri}/v1/oauth/tokens");
        Self { options, catalog_tokens, token: Mutex::new(None) }
    }

    /// What a request has to carry.
    ///
    /// # Errors
    /// `Denied` where there is no login to be had, `Unavailable` where who gives it does not
    /// answer.
    pub(super) async fn proof(
        &self,
        client: &Client,
        method: &Method,
        url: &str,
        body: Option<&[u8]>,
    ) -> Result<Proof> {
        match &self.options {
            LoginOptions::None => Ok(Proof { headers: Vec::new(), token: None }),
            LoginOptions::Token(token) => Ok(Proof { headers: Proof::bearer(token), token: None }),
            LoginOptions::OAuth2 { .. } => {
                let token = self.token(client).await?;
                Ok(Proof { headers: Proof::bearer(&token), token: Some(token) })
            }
            LoginOptions::SigV4 { service, region, aws } => {
                let region = region.as_deref().unwrap_or(aws.region());
                let headers = signature(aws, (service, region), method, url, body).await?;
                Ok(Proof { headers, token: None })
            }
        }
    }

    /// Drops a token that the catalog has refused; whether another one can be had.
    pub(super) async fn forget(&self, proof: &Proof) -> bool {
        let Some(refused) = &proof.token else { return false };
        let mut kept = self.token.lock().await;
        if kept.as_ref().is_some_and(|token| token.text == *refused) {
            *kept = None;
        }
        true
    }

    /// A token that is good for a while.
    async fn token(&self, client: &Client) -> Result<String> {
        let mut kept = self.token.lock().await;
        let now = Instant::now();
        let is_fresh = |token: &&Token| token.ends.is_none_or(|(renew, _)| now < renew);
        if let Some(token) = kept.as_ref().filter(is_fresh) {
            return Ok(token.text.clone());
        }
        match self.fetch(client).await {
            Ok(token) => Ok(kept.insert(token).text.clone()),
            Err(error) => {
                let is_good = |token: &&Token| token.ends.is_none_or(|(_, end)| now < end);
                match kept.as_ref().filter(is_good) {
                    Some(token) => {
                        let error = error.chain();
                        tracing::warn!(
                            error,
                            "could not renew the token of the REST catalog, using the old one"
                        );
                        Ok(token.text.clone())
                    }
                    None => Err(error),
                }
            }
        }
    }

    async fn fetch(&self, client: &Client) -> Result<Token> {
        let LoginOptions::OAuth2 { token_uri, client_id, client_secret, scope } = &self.options
        else {
            return Err(Error::internal("no token without OAuth2"));
        };
        let uri = token_uri.as_deref().unwrap_or(&self.catalog_tokens);
        let doing = || format!("could not get a token for the REST catalog from `{uri}`");
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", client_id)
            .append_pair("client_secret", client_secret)
            .append_pair("scope", scope.as_deref().unwrap_or(SCOPE))
            .finish();
        let asked = Instant::now();
        let request = client.post(uri).header("content-type", "application/x-www-form-urlencoded");
        let response = request.body(form).send().await.map_err(|error| {
            Error::unavailable(format!("{}: {}", doing(), with_causes(&error.without_url())))
        })?;
        let status = response.status().as_u16();
        let body = http::read(response).await;
        let body = body.map_err(|why| Error::unavailable(format!("{}: {why}", doing())))?;
        if status != 200 {
            return Err(refused(doing(), status, &body));
        }
        let granted: Granted = serde_json::from_slice(&body).map_err(|_| {
            Error::invalid(format!("{}: its answer is none of OAuth2's: see `token_uri`", doing()))
        })?;
        let ends = granted.expires_in.map(|seconds| {
            let life = Duration::from_secs(seconds);
            (asked + (life - RENEW_BEFORE.min(life / 10)), asked + life)
        });
        Ok(Token { text: granted.access_token, ends })
    }
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Option<u64>,
}

/// What OAuth2 has for refusals.
#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

fn refused(doing: String, status: u16, body: &[u8]) -> Error {
    let Refusal { error, error_description } = serde_json::from_slice(body).unwrap_or_default();
    let said = format!("{status} {error} {error_description}");
    let kind = match status {
        400 | 401 | 403 => ErrorKind::Denied,
        404 | 405 => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    };
    let next = match kind {
        ErrorKind::Denied => "; see `client_id`, `client_secret` and `scope`",
        ErrorKind::Invalid => "; see `token_uri`",
        _ => "",
    };
    Error::new(kind, format!("{doing}: it answers {}{next}", said.trim()))
}

/// Headers that sign a request for a service of AWS in a region.
async fn signature(
    aws: &Aws,
    (service, region): (&str, &str),
    method: &Method,
    url: &str,
    body: Option<&[u8]>,
) -> Result<Vec<(String, String)>> {
    aws.check_credentials().await?;
    let provider = aws.sdk_config().credentials_provider();
    let provider = provider.ok_or_else(|| Error::internal("the AWS chain has no credentials"))?;
    let credentials = provider.provide_credentials().await.map_err(|error| {
        Error::unavailable("AWS credentials could not be fetched").with_source(error)
    })?;
    sign_with(credentials, SystemTime::now(), (service, region), method, url, body)
}

fn sign_with(
    credentials: aws_credential_types::Credentials,
    time: SystemTime,
    (service, region): (&str, &str),
    method: &Method,
    url: &str,
    body: Option<&[u8]>,
) -> Result<Vec<(String, String)>> {
    let doing = "could not sign a request to the REST catalog";
    let identity = credentials.into();
    let mut settings = SigningSettings::default();
    // As Iceberg's own clients do it: the digest of the body goes along.
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(time)
        .settings(settings)
        .build()
        .map_err(|error| Error::internal(doing).with_source(error))?
        .into();
    let content = body.map(|_| ("content-type", "application/json"));
    let body = SignableBody::Bytes(body.unwrap_or_default());
    let request = SignableRequest::new(method.as_str(), url, content.into_iter(), body)
        .map_err(|error| Error::invalid(doing).with_source(error))?;
    let signed =
        sign(request, &params).map_err(|error| Error::internal(doing).with_source(error))?;
    let (instructions, _) = signed.into_parts();
    Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Held against what botocore makes of the same: the path is encoded once more, as for every
    /// service but S3, and the type of a body is signed with it.
    #[test]
    fn a_request_is_signed_for_its_service_and_region() {
        let credentials = aws_credential_types::Credentials::new(
            "AKIDEXAMPLE",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            Some("the session".to_owned()),
            None,
            "test",
        );
        // 2015-08-30T12:36:00Z
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let url = "https://glue.eu-west-1.amazonaws.com/iceberg/v1/catalogs/1%3Aa/namespaces/n";
        let sign = |method: Method, body: Option<&[u8]>| {
            let service = ("glue", "eu-west-1");
            sign_with(credentials.clone(), time, service, &method, url, body).expect("signed")
        };
        let header = |headers: &[(String, String)], name: &str| {
            let found = headers.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };

        let get = sign(Method::GET, None);
        assert_eq!(header(&get, "x-amz-date"), "20150830T123600Z");
        assert_eq!(header(&get, "x-amz-security-token"), "the session");
        assert_eq!(
            header(&get, "authorization"),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/eu-west-1/glue/aws4_request, \
             SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, \
             Signature=a826aa08aa1a71f09065d05a71719c8ad92038c8f2ce8954db9ada16b443a15b"
        );
        let post = sign(Method::POST, Some(br#"{"a":1}"#));
        assert_eq!(
            header(&post, "authorization"),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/eu-west-1/glue/aws4_request, \
             SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token, \
             Signature=a32ab81ff0f27ded3b521a4ad41aba6ddb93a2294c3d3f203c15794a7ed2be70"
        );
    }
}
