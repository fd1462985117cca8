//! Columns whose values nobody may see: left out, or replaced before anything else sees the record.
//!
//! Works on the JSON of keys, envelopes and rows, before they become rows: whatever is kept, counted
//! or sent afterwards is made of the text that comes out here.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::json::{Json, Kind};
use crate::placeholder::Placeholder;
use crate::wire::write_string;

/// Values shorter than this show nothing under [`Rule::LastFour`]: four of five characters would be
/// the value.
const SHOWN_FROM_CHARS: usize = 8;

/// Members of the source block that may quote values: the statement (`include.query`), the redo.
const QUOTES_VALUES: [&str; 2] = ["query", "redo_sql"];

/// Members of an envelope that a change is made of. Others are left out of masked records: nobody
/// knows what they hold.
const OF_ENVELOPE: [&str; 8] =
    ["op", "before", "after", "source", "transaction", "ts_ms", "ts_us", "ts_ns"];

/// What becomes of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// There is no such column.
    Exclude,
    /// NULL.
    Null,
    /// `****` and the last four characters; `****` alone for short values.
    LastFour,
    /// HMAC-SHA-256 of the value's text, 64 hex digits: equal values stay equal.
    Hmac,
}

impl Rule {
    /// Whether different values may become equal, which no key survives.
    pub fn loses_identity(self) -> bool {
        self != Self::Hmac
    }

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exclude => "exclude",
            Self::Null => "mask: null",
            Self::LastFour => "mask: last4",
            Self::Hmac => "mask: hmac-sha256",
        }
    }
}

/// The columns of one table that are left out or masked. `Debug` does not show the key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Masking {
    rules: BTreeMap<String, Rule>,
    key: Vec<u8>,
    /// Whether rows are found by the fields of the record key.
    by_record_key: bool,
}

impl std::fmt::Debug for Masking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masking").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Masking {
    /// Rules by the source's names. `key` is for [`Rule::Hmac`]; `by_record_key` says that no key
    /// is configured, so that fields of the record key have to stay distinct.
    pub fn new(rules: BTreeMap<String, Rule>, key: &[u8], by_record_key: bool) -> Self {
        Self { rules, key: key.to_vec(), by_record_key }
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The columns and what becomes of them.
    pub fn rules(&self) -> impl Iterator<Item = (&str, Rule)> {
        self.rules.iter().map(|(name, rule)| (name.as_str(), *rule))
    }

    /// Why a key with these fields cannot be used.
    pub(crate) fn key_refusal(&self, key: Json<'_, '_>) -> Option<String> {
        if !self.by_record_key {
            return None;
        }
        key.members().find_map(|(name, _)| {
            let name = name.text()?;
            let rule = self.rules.get(name.as_ref()).filter(|rule| rule.loses_identity())?;
            Some(format!(
                "column `{name}` is part of the record key and set to `{}`, which makes different \
                 keys equal: use `mask: hmac-sha256`, or set `key` to other columns",
                rule.name()
            ))
        })
    }

    /// Writes the fields of a row without what is hidden; says whether any of them was concerned.
    ///
    /// # Errors
    /// When a name differs from a configured one by case alone.
    pub(crate) fn row(
        &self,
        row: Json<'_, '_>,
        placeholder: &Placeholder,
        out: &mut String,
    ) -> Result<bool, String> {
        let (mut concerned, mut first) = (false, true);
        out.push('{');
        for (name, json) in row.members() {
            let text = name.text().unwrap_or_default();
            let rule = self.rule(&text)?;
            concerned |= rule.is_some();
            if rule == Some(Rule::Exclude) {
                continue;
            }
            separate(&mut first, out);
            out.push_str(name.raw());
            out.push(':');
            match rule {
                None => out.push_str(json.raw()),
                Some(rule) => self.value(rule, json, placeholder, out),
            }
        }
        out.push('}');
        Ok(concerned)
    }

    /// Writes an envelope with its rows and its source block cleared of what is hidden.
    ///
    /// # Errors
    /// As [`Self::row`]; and when a row is no object, so that its columns cannot be told.
    pub(crate) fn envelope(
        &self,
        envelope: Json<'_, '_>,
        placeholder: &Placeholder,
        out: &mut String,
    ) -> Result<(), String> {
        let mut first = true;
        out.push('{');
        for (name, json) in envelope.members() {
            let Some(known) = OF_ENVELOPE.into_iter().find(|known| name.is_text(known)) else {
                continue;
            };
            separate(&mut first, out);
            out.push_str(name.raw());
            out.push(':');
            match (known, json.kind()) {
                ("before" | "after", Kind::Object) => {
                    self.row(json, placeholder, out)?;
                }
                ("before" | "after", kind) if kind != Kind::Null => {
                    return Err(format!(
                        "`{known}` is a document: its columns cannot be left out or masked"
                    ));
                }
                ("source", Kind::Object) => source(json, out),
                _ => out.push_str(json.raw()),
            }
        }
        out.push('}');
        Ok(())
    }

    fn rule(&self, name: &str) -> Result<Option<Rule>, String> {
        if let Some(rule) = self.rules.get(name) {
            return Ok(Some(*rule));
        }
        match self.rules.keys().find(|known| known.to_lowercase() == name.to_lowercase()) {
            Some(known) => Err(format!(
                "`columns` hides `{known}`, and the record has `{name}`: write it as the source does"
            )),
            None => Ok(None),
        }
    }

    fn value(&self, rule: Rule, json: Json<'_, '_>, unchanged: &Placeholder, out: &mut String) {
        if json.is_null() || rule == Rule::Null {
            out.push_str("null");
        } else if unchanged.is_any(json) {
            // It says only that the value is the one before.
            write_string(unchanged.literal(), out);
        } else {
            let text = json.text().unwrap_or_else(|| json.raw().into());
            match rule {
                Rule::Hmac => write_string(&self.digest(&text), out),
                _ => write_string(&last_four(&text), out),
            }
        }
    }

    fn digest(&self, text: &str) -> String {
        hmac_sha256(&self.key, text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// HMAC (RFC 2104) over SHA-256.
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let mut padded = [0u8; BLOCK];
    if key.len() > BLOCK {
        padded[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        padded[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(padded.map(|byte| byte ^ 0x36)).chain_update(message);
    let outer = Sha256::new().chain_update(padded.map(|byte| byte ^ 0x5c));
    outer.chain_update(inner.finalize()).finalize().into()
}

fn source(block: Json<'_, '_>, out: &mut String) {
    let mut first = true;
    out.push('{');
    for (name, json) in block.members() {
        if QUOTES_VALUES.iter().any(|quoting| name.is_text(quoting)) {
            continue;
        }
        separate(&mut first, out);
        out.push_str(name.raw());
        out.push(':');
        out.push_str(json.raw());
    }
    out.push('}');
}

fn separate(first: &mut bool, out: &mut String) {
    if !std::mem::take(first) {
        out.push(',');
    }
}

fn last_four(text: &str) -> String {
    let count = text.chars().count();
    let shown = if count < SHOWN_FROM_CHARS { 0 } else { 4 };
    let tail = text.chars().skip(count - shown);
    "****".chars().chain(tail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Parser;
    use crate::placeholder;

    fn masking(rules: &[(&str, Rule)]) -> Masking {
        let rules = rules.iter().map(|(name, rule)| ((*name).to_owned(), *rule)).collect();
        Masking::new(rules, b"key", true)
    }

    fn row(masking: &Masking, json: &str) -> Result<String, String> {
        let (mut parser, mut out) = (Parser::default(), String::new());
        let json = parser.parse(json.as_bytes(), 16).expect("JSON");
        let placeholder = Placeholder::new(placeholder::DEFAULT);
        masking.row(json, &placeholder, &mut out).map(|_| out)
    }

    #[test]
    fn each_rule_hides_its_column_and_no_other() {
        let masking = masking(&[
            ("a", Rule::Exclude),
            ("b", Rule::Null),
            ("c", Rule::LastFour),
            ("d", Rule::LastFour),
        ]);
        let json = r#"{"id":1,"a":"s","b":{"x":[1]},"c":"4111111111111111","d":"1234567","e":[1]}"#;
        let expected = r#"{"id":1,"b":null,"c":"****1111","d":"****","e":[1]}"#;
        assert_eq!(row(&masking, json), Ok(expected.to_owned()));
    }

    #[test]
    fn the_digest_is_that_of_the_standard_and_the_same_for_a_number_and_its_text() {
        let masking = masking(&[("v", Rule::Hmac)]);
        // RFC 2104's well-known sentence.
        let fox = r#"{"v":"The quick brown fox jumps over the lazy dog"}"#;
        let digest = "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8";
        assert_eq!(row(&masking, fox), Ok(format!("{{\"v\":\"{digest}\"}}")));
        assert_eq!(row(&masking, r#"{"v":12}"#), row(&masking, r#"{"v":"12"}"#));
        assert_eq!(row(&masking, r#"{"v":"\u0041"}"#), row(&masking, r#"{"v":"A"}"#));
        assert_eq!(row(&masking, r#"{"v":null}"#), Ok(r#"{"v":null}"#.to_owned()));
    }

    #[test]
    fn what_was_not_sent_stays_that_in_every_form() {
        let masking = masking(&[("v", Rule::Hmac)]);
        let plain = r#"{"v":"__debezium_unavailable_value"}"#;
        for form in [
            plain,
            r#"{"v":["__debezium_unavailable_value"]}"#,
            r#"{"v":"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="}"#,
        ] {
            assert_eq!(row(&masking, form), Ok(plain.to_owned()));
        }
    }

    #[test]
    fn a_name_in_other_letters_is_refused_and_no_value_repeated() {
        let refused = row(&masking(&[("ssn", Rule::Null)]), r#"{"SSN":"078-05-1120"}"#);
        let reason = refused.expect_err("refused");
        assert!(reason.contains("`SSN`") && !reason.contains("078"), "{reason}");
    }

    #[test]
    fn statements_and_unknown_members_do_not_pass_with_the_envelope() {
        let json = r#"{"op":"c","after":{"s":"x"},"message":{"content":"x"},"source":{"db":"d","query":"INSERT x","redo_sql":"x"}}"#;
        let (mut parser, mut out) = (Parser::default(), String::new());
        let json = parser.parse(json.as_bytes(), 16).expect("JSON");
        let placeholder = Placeholder::new(placeholder::DEFAULT);
        masking(&[("s", Rule::Null)]).envelope(json, &placeholder, &mut out).expect("written");
        assert_eq!(out, r#"{"op":"c","after":{"s":null},"source":{"db":"d"}}"#);
    }
}
