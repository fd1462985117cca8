//! What an answer of a REST catalog means: one table for all calls.

use serde::Deserialize;

use super::http::Answer;
use crate::{Error, ErrorKind, Result};

/// Characters of the catalog's own words that go into an error.
const WORDS_MAX: usize = 500;

/// What to make of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is done.
    Done,
    /// What it was based on is no longer so, or it is there already; nothing was done by this
    /// request (but perhaps by an earlier one of ours whose answer was lost).
    Conflict,
    /// The namespace or table is not there; nothing was done.
    Gone,
    /// Turned away at the door; nothing was done, and trying again may help.
    Retry,
    /// Our login has ended or is not good; nothing was done.
    Login,
    /// Refused for want of permission; nothing was done.
    Denied,
    /// Refused for what was asked; nothing was done.
    Invalid,
    /// It may have been done, or may yet be.
    Unknown,
}

/// By HTTP status. What is not here and not 2xx may have been done.
const BY_STATUS: &[(u16, Verdict)] = &[
    (400, Verdict::Invalid),
    (401, Verdict::Login),
    (403, Verdict::Denied),
    (404, Verdict::Gone),
    (405, Verdict::Invalid),
    (406, Verdict::Invalid),
    (409, Verdict::Conflict),
    (411, Verdict::Invalid),
    (413, Verdict::Invalid),
    (414, Verdict::Invalid),
    (415, Verdict::Invalid),
    // The specification's own: the login has timed out.
    (419, Verdict::Login),
    (422, Verdict::Invalid),
    (429, Verdict::Retry),
    (431, Verdict::Invalid),
    (500, Verdict::Unknown),
    (501, Verdict::Invalid),
    (502, Verdict::Unknown),
    (503, Verdict::Unknown),
    (504, Verdict::Unknown),
];

/// The error that the specification has for every refusal.
#[derive(Debug, Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    message: String,
    #[serde(default, rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Refused {
    error: Refusal,
}

/// What a catalog says of its refusal; `None` where the body is not a catalog's.
fn refusal(body: &[u8]) -> Option<Refusal> {
    serde_json::from_slice::<Refused>(body).ok().map(|refused| refused.error)
}

pub(super) fn verdict(answer: &Answer) -> Verdict {
    match answer {
        Answer::NotSent(_) => Verdict::Retry,
        Answer::Lost(_) => Verdict::Unknown,
        Answer::Came { status, body, .. } => match by_status(*status) {
            // From a proxy, or from whatever else listens at a wrong address: a table must not be
            // taken for missing because of it.
            Verdict::Gone if refusal(body).is_none() => Verdict::Invalid,
            // Credentials that have ended since: new ones come.
            Verdict::Denied | Verdict::Invalid if is_expired(body) => Verdict::Retry,
            verdict => verdict,
        },
    }
}

fn by_status(status: u16) -> Verdict {
    if (200..300).contains(&status) {
        return Verdict::Done;
    }
    // Redirects are not followed: whoever gives one has done nothing.
    if (300..400).contains(&status) {
        return Verdict::Invalid;
    }
    let known = BY_STATUS.iter().find(|(known, _)| *known == status);
    known.map_or(Verdict::Unknown, |(_, verdict)| *verdict)
}

/// Whether the front of AWS's services says that the signature's credentials or time have ended.
fn is_expired(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&body[..body.len().min(4096)]);
    ["ExpiredToken", "RequestExpired", "security token included in the request is expired"]
        .iter()
        .any(|words| text.contains(words))
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(crate) enum Changed<T> {
    /// It is made; with what the catalog says of it, if that could be read.
    Done(T),
    /// Somebody else was quicker: nothing is made by this request.
    Conflict,
    /// No answer that can be trusted: it may be made, or may yet be.
    Unknown(String),
}

/// The outcome of a change; an error where nothing was made and trying again at once would not
/// help.
pub(super) fn changed(doing: impl Fn() -> String, answer: Answer) -> Result<Changed<Vec<u8>>> {
    match verdict(&answer) {
        Verdict::Done => Ok(Changed::Done(answer.body())),
        Verdict::Conflict => Ok(Changed::Conflict),
        Verdict::Unknown => Ok(Changed::Unknown(said(&answer))),
        Verdict::Gone | Verdict::Retry | Verdict::Login | Verdict::Denied | Verdict::Invalid => {
            Err(failed(doing(), &answer))
        }
    }
}

/// An error of ours that says what the catalog said.
pub(super) fn failed(doing: String, answer: &Answer) -> Error {
    let kind = match verdict(answer) {
        Verdict::Retry | Verdict::Unknown => ErrorKind::Unavailable,
        Verdict::Login | Verdict::Denied => ErrorKind::Denied,
        Verdict::Gone => ErrorKind::Corrupt,
        Verdict::Done | Verdict::Invalid | Verdict::Conflict => ErrorKind::Invalid,
    };
    Error::new(kind, format!("{doing}: {}", said(answer)))
}

/// Status and message of the catalog's, or what went wrong on the way.
pub(super) fn said(answer: &Answer) -> String {
    let (status, body) = match answer {
        Answer::NotSent(reason) | Answer::Lost(reason) => return reason.clone(),
        Answer::Came { status, body, .. } => (*status, body),
    };
    if (300..400).contains(&status) {
        return format!(
            "it redirects ({status}): set `lake.catalog.uri` to the address that it redirects to"
        );
    }
    match refusal(body) {
        Some(Refusal { message, kind }) => {
            let message: String = message.chars().take(WORDS_MAX).collect();
            let kind: String = kind.chars().take(WORDS_MAX).collect();
            match status {
                401 | 419 => format!(
                    "it refuses the login ({status}, {kind}): {message}; see `token`, `oauth2` or \
                     `sigv4` in `lake.catalog`"
                ),
                _ => format!("{status}, {kind}: {message}"),
            }
        }
        None if status == 404 => {
            "it answers 404 and not as an Iceberg REST catalog does: see that \
                                  `lake.catalog.uri` is what stands before `/v1`, and `warehouse`"
                .to_owned()
        }
        None if status == 401 || status == 419 => format!(
            "it refuses the login ({status}): see `token`, `oauth2` or `sigv4` in `lake.catalog`"
        ),
        None => format!("it answers {status}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn came(status: u16, body: &str) -> Answer {
        Answer::Came { status, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn every_status_has_one_verdict() {
        let statuses: BTreeSet<u16> = BY_STATUS.iter().map(|(status, _)| *status).collect();
        assert_eq!(statuses.len(), BY_STATUS.len());
    }

    #[test]
    fn what_nobody_named_may_have_been_done() {
        for status in [100, 402, 408, 425, 499, 500, 507, 599] {
            assert_eq!(by_status(status), Verdict::Unknown, "{status}");
        }
        assert_eq!(verdict(&Answer::Lost("cut off".to_owned())), Verdict::Unknown);
        assert_eq!(verdict(&Answer::NotSent("refused".to_owned())), Verdict::Retry);
    }

    #[test]
    fn only_a_catalog_can_say_that_a_table_is_not_there() {
        let theirs = r#"{"error":{"message":"no t","type":"NoSuchTableException","code":404}}"#;
        assert_eq!(verdict(&came(404, theirs)), Verdict::Gone);
        assert_eq!(verdict(&came(404, "<h1>Not Found</h1>")), Verdict::Invalid);
        let error = failed("could not look".to_owned(), &came(404, "nginx"));
        assert!(error.to_string().contains("lake.catalog.uri"), "{error}");
    }

    #[test]
    fn ended_credentials_are_no_refusal_for_good() {
        let body = r#"{"error":{"message":"The security token included in the request is expired",
                       "type":"ExpiredTokenException","code":403}}"#;
        assert_eq!(verdict(&came(403, body)), Verdict::Retry);
        assert_eq!(verdict(&came(403, "{}")), Verdict::Denied);
    }
}
