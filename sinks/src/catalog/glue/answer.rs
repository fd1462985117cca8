//! What an answer of Glue means: one table for all calls.

use aws_sdk_glue::config::http::HttpResponse;
use aws_sdk_glue::error::{ProvideErrorMetadata, SdkError};

use crate::error::with_causes;
use crate::{Error, ErrorKind, Result};

/// What to make of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Somebody else was quicker; nothing of ours was done.
    Conflict,
    /// It is there already; nothing was done.
    Exists,
    /// The database or table is not there; nothing was done.
    Gone,
    /// Turned away at the door; nothing was done, and trying again may help.
    Retry,
    /// Refused for want of permission; nothing was done.
    Denied,
    /// Refused for what was asked; nothing was done.
    Invalid,
    /// It may have been done, or may yet be.
    Unknown,
}

/// By the code that Glue (or the front of all AWS services) gives.
const BY_CODE: &[(&str, Verdict)] = &[
    ("ConcurrentModificationException", Verdict::Conflict),
    ("AlreadyExistsException", Verdict::Exists),
    ("EntityNotFoundException", Verdict::Gone),
    ("ThrottlingException", Verdict::Retry),
    ("Throttling", Verdict::Retry),
    ("ThrottledException", Verdict::Retry),
    ("TooManyRequestsException", Verdict::Retry),
    ("RequestLimitExceeded", Verdict::Retry),
    ("ConcurrentRunsExceededException", Verdict::Retry),
    ("ResourceNotReadyException", Verdict::Retry),
    ("FederationSourceRetryableException", Verdict::Retry),
    // Signed with credentials that have ended since, or by a clock that is off: new ones come.
    ("ExpiredToken", Verdict::Retry),
    ("ExpiredTokenException", Verdict::Retry),
    ("RequestExpired", Verdict::Retry),
    ("AccessDeniedException", Verdict::Denied),
    ("AccessDenied", Verdict::Denied),
    ("UnrecognizedClientException", Verdict::Denied),
    ("InvalidClientTokenId", Verdict::Denied),
    ("InvalidSignatureException", Verdict::Denied),
    ("IncompleteSignature", Verdict::Denied),
    ("MissingAuthenticationToken", Verdict::Denied),
    ("NotAuthorized", Verdict::Denied),
    ("OptInRequired", Verdict::Denied),
    ("GlueEncryptionException", Verdict::Denied),
    ("PermissionTypeMismatchException", Verdict::Denied),
    ("InvalidInputException", Verdict::Invalid),
    ("ValidationException", Verdict::Invalid),
    ("ResourceNumberLimitExceededException", Verdict::Invalid),
    ("FederationSourceException", Verdict::Invalid),
    ("OperationTimeoutException", Verdict::Unknown),
    ("InternalServiceException", Verdict::Unknown),
    ("InternalFailure", Verdict::Unknown),
    ("InternalError", Verdict::Unknown),
    ("ServiceUnavailable", Verdict::Unknown),
    ("ServiceUnavailableException", Verdict::Unknown),
];

/// By code; by HTTP status where there is none that we know; whatever did not come back whole is
/// unknown.
pub(super) fn verdict<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Verdict {
    match error {
        SdkError::ConstructionFailure(_) => Verdict::Invalid,
        SdkError::ServiceError(answer) => {
            let code = answer.err().code().unwrap_or_default();
            let known = BY_CODE.iter().find(|(known, _)| *known == code);
            known.map_or_else(|| by_status(answer.raw().status().as_u16()), |(_, verdict)| *verdict)
        }
        _ => Verdict::Unknown,
    }
}

fn by_status(status: u16) -> Verdict {
    match status {
        429 => Verdict::Retry,
        401 | 403 => Verdict::Denied,
        _ => Verdict::Unknown,
    }
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Changed {
    /// It is made.
    Done,
    /// Somebody else was quicker: nothing of ours is made.
    Conflict,
    /// No answer that can be trusted: it may be made, or may yet be.
    Unknown(String),
}

/// The outcome of a change; an error where nothing was made and trying again at once would not
/// help.
pub(super) fn changed<E>(
    doing: impl Fn() -> String,
    answer: Result<(), SdkError<E, HttpResponse>>,
) -> Result<Changed>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let Err(error) = answer else { return Ok(Changed::Done) };
    match verdict(&error) {
        Verdict::Conflict | Verdict::Exists => Ok(Changed::Conflict),
        Verdict::Unknown => Ok(Changed::Unknown(said(&error))),
        Verdict::Gone | Verdict::Retry | Verdict::Denied | Verdict::Invalid => {
            Err(failed(doing(), &error))
        }
    }
}

/// An error of ours that says what Glue said.
pub(super) fn failed<E>(doing: String, error: &SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let kind = match verdict(error) {
        Verdict::Retry | Verdict::Unknown => ErrorKind::Unavailable,
        Verdict::Denied => ErrorKind::Denied,
        Verdict::Gone => ErrorKind::Corrupt,
        Verdict::Invalid | Verdict::Conflict | Verdict::Exists => ErrorKind::Invalid,
    };
    Error::new(kind, format!("{doing}: {}", said(error)))
}

/// Code and message of Glue's, or what went wrong on the way.
fn said<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error.code() {
        Some(code) => format!("{code}: {}", error.message().unwrap_or("no reason was given")),
        None => with_causes(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_one_verdict() {
        let codes: BTreeSet<&str> = BY_CODE.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes.len(), BY_CODE.len());
    }

    #[test]
    fn what_nobody_named_may_have_been_done() {
        assert_eq!(by_status(500), Verdict::Unknown);
        assert_eq!(by_status(400), Verdict::Unknown);
        assert_eq!(by_status(403), Verdict::Denied);
    }
}
