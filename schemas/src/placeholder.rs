//! The value that stands for "unchanged, not sent", in each of the encodings that Debezium gives it.
//!
//! Matched by exact equality and before any conversion. A row that really holds the placeholder
//! looks the same: such a source sets `unavailable.value.placeholder` to something else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::field_kind::FieldKind;
use crate::json::{Json, Kind};

/// What Debezium sends unless told otherwise.
pub(crate) const DEFAULT: &str = "__debezium_unavailable_value";

/// A placeholder in all its forms.
#[derive(Debug, Clone)]
pub(crate) struct Placeholder {
    literal: String,
    base64: String,
    hex: String,
    /// hstore as JSON text.
    pairs: String,
    /// uuid arrays: the name-based UUID (version 3) of the bytes.
    uuid: String,
    bytes: Vec<u8>,
}

impl Placeholder {
    /// From the connector's `unavailable.value.placeholder`; `hex:` in front of hex digits means
    /// the bytes that they spell.
    pub(crate) fn new(configured: &str) -> Self {
        let spelled = configured.strip_prefix("hex:").and_then(unhex);
        let bytes = spelled.unwrap_or_else(|| configured.as_bytes().to_vec());
        let literal = String::from_utf8_lossy(&bytes).into_owned();
        let quoted = serde_json::Value::from(literal.as_str()).to_string();
        Self {
            base64: STANDARD.encode(&bytes),
            hex: bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            pairs: format!("{{{quoted}:{quoted}}}"),
            uuid: name_based_uuid(&bytes),
            literal,
            bytes,
        }
    }

    /// As text columns have it.
    pub(crate) fn literal(&self) -> &str {
        &self.literal
    }

    /// Whether `json` is the placeholder of a field of whatever kind.
    pub(crate) fn is_any(&self, json: Json<'_, '_>) -> bool {
        self.is(json, &FieldKind::Inferred)
    }

    /// Whether `json`, the value of a field of this kind, is the placeholder.
    pub(crate) fn is(&self, json: Json<'_, '_>, kind: &FieldKind) -> bool {
        match json.kind() {
            Kind::Plain | Kind::Escaped => self.is_text(json, kind),
            Kind::Array if matches!(kind, FieldKind::List(_) | FieldKind::Inferred) => {
                self.is_array(json)
            }
            Kind::Object => {
                let mut members = json.members();
                let first = members.next();
                let is = |part: Json<'_, '_>| part.is_text(&self.literal);
                first.is_some_and(|(name, value)| is(name) && is(value)) && members.next().is_none()
            }
            _ => false,
        }
    }

    fn is_text(&self, json: Json<'_, '_>, kind: &FieldKind) -> bool {
        if json.is_text(&self.literal) {
            return true;
        }
        // A type whose texts are something else cannot meet the encoded forms.
        use FieldKind::{Bytes, Document, Inferred, Text};
        let encoded = matches!(kind, Text | Bytes(_) | Document | Inferred);
        encoded && [&self.base64, &self.hex, &self.pairs].into_iter().any(|form| json.is_text(form))
    }

    fn is_array(&self, json: Json<'_, '_>) -> bool {
        let mut items = json.items();
        let Some(first) = items.next() else { return false };
        if first.kind() == Kind::Number {
            let mut items = json.items();
            let mut bytes = self.bytes.iter();
            return loop {
                match (items.next(), bytes.next()) {
                    (Some(item), Some(byte)) => {
                        // Connect's int8 bytes are signed.
                        let byte = i64::from(byte.cast_signed());
                        if item.integer() != Some(byte) {
                            break false;
                        }
                    }
                    (None, None) => break true,
                    _ => break false,
                }
            };
        }
        let forms = [&self.literal, &self.base64, &self.uuid, &self.hex];
        items.next().is_none() && forms.into_iter().any(|form| first.is_text(form))
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| {
        let text = std::str::from_utf8(pair).ok().filter(|text| text.len() == 2)?;
        u8::from_str_radix(text, 16).ok()
    });
    pairs.collect()
}

fn name_based_uuid(bytes: &[u8]) -> String {
    let mut hash = md5(bytes);
    hash[6] = (hash[6] & 0x0f) | 0x30;
    hash[8] = (hash[8] & 0x3f) | 0x80;
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// MD5 (RFC 1321), which version 3 UUIDs are defined by. For nothing that has to be secure.
fn md5(message: &[u8]) -> [u8; 16] {
    const SHIFTS: [[u32; 4]; 4] =
        [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64), 0);
    if padded.len() - message.len() < 9 {
        padded.resize(padded.len() + 64, 0);
    }
    let end = padded.len();
    padded[end - 8..].copy_from_slice(&(message.len() as u64 * 8).to_le_bytes());
    let mut state = [0x6745_2301u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in padded.as_chunks::<64>().0 {
        let [mut a, mut b, mut c, mut d] = state;
        for step in 0..64 {
            let (mix, word) = match step / 16 {
                0 => ((b & c) | (!b & d), step),
                1 => ((d & b) | (!d & c), (5 * step + 1) % 16),
                2 => (b ^ c ^ d, (3 * step + 5) % 16),
                _ => (c ^ (b | !d), (7 * step) % 16),
            };
            let word = u32::from_le_bytes(block.as_chunks::<4>().0[word]);
            // The constants are defined as the sine of the step.
            let constant = (((step + 1) as f64).sin().abs() * 4_294_967_296.0) as u32;
            let sum = a.wrapping_add(mix).wrapping_add(constant).wrapping_add(word);
            let turned = sum.rotate_left(SHIFTS[step / 16][step % 4]);
            (a, b, c, d) = (d, b.wrapping_add(turned), b, c);
        }
        for (word, add) in state.iter_mut().zip([a, b, c, d]) {
            *word = word.wrapping_add(add);
        }
    }
    let mut hash = [0; 16];
    state.iter().zip(hash.as_chunks_mut::<4>().0).for_each(|(word, out)| *out = word.to_le_bytes());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field_kind::BytesForm;
    use crate::json::Parser;

    fn is(placeholder: &Placeholder, text: &str, kind: &FieldKind) -> bool {
        let mut parser = Parser::default();
        placeholder.is(parser.parse(text.as_bytes(), 16).expect("json"), kind)
    }

    #[test]
    fn every_encoding_of_the_default_is_recognised() {
        let placeholder = Placeholder::new(DEFAULT);
        let numbers = "[95,95,100,101,98,101,122,105,117,109,95,117,110,97,118,97,105,108,97,98,\
                       108,101,95,118,97,108,117,101]";
        let list = || FieldKind::List(Box::new(FieldKind::Text));
        for (text, kind) in [
            ("\"__debezium_unavailable_value\"", FieldKind::Text),
            ("\"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==\"", FieldKind::Bytes(BytesForm::Base64)),
            ("\"__debezium_unavailable_value\"", FieldKind::Bytes(BytesForm::Hex)),
            (
                "\"5f5f646562657a69756d5f756e617661696c61626c655f76616c7565\"",
                FieldKind::Bytes(BytesForm::Hex),
            ),
            ("[\"__debezium_unavailable_value\"]", list()),
            ("[\"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==\"]", list()),
            ("[\"b68a35a7-17ad-35b3-af2a-ae46edb4545a\"]", list()),
            (numbers, FieldKind::List(Box::new(FieldKind::Date))),
            (
                "{\"__debezium_unavailable_value\":\"__debezium_unavailable_value\"}",
                FieldKind::Json,
            ),
            (
                r#""{\"__debezium_unavailable_value\":\"__debezium_unavailable_value\"}""#,
                FieldKind::Text,
            ),
        ] {
            assert!(is(&placeholder, text, &kind), "{text} as {kind:?}");
            assert!(is(&placeholder, text, &FieldKind::Inferred), "{text} without schema");
        }
    }

    #[test]
    fn nothing_else_is_taken_for_it() {
        let placeholder = Placeholder::new(DEFAULT);
        for text in [
            "\"__debezium_unavailable_value \"",
            "\"x__debezium_unavailable_value\"",
            "[\"__debezium_unavailable_value\",\"__debezium_unavailable_value\"]",
            "[\"__debezium_unavailable_value\",null]",
            "[]",
            "[95,95]",
            "{}",
            "{\"a\":\"__debezium_unavailable_value\"}",
            "95",
            "null",
            "\"\"",
        ] {
            assert!(!is(&placeholder, text, &FieldKind::Inferred), "{text}");
        }
        let numbers = "[78,47,65]";
        assert!(is(&Placeholder::new("N/A"), numbers, &FieldKind::Inferred));
        assert!(!is(&Placeholder::new("N/A"), numbers, &FieldKind::Json));
        assert!(is(&Placeholder::new("hex:4E2f41"), "\"N/A\"", &FieldKind::Text));
        assert!(is(&Placeholder::new("hex:"), "\"\"", &FieldKind::Text));
    }

    #[test]
    fn md5_gives_the_vectors_of_its_rfc() {
        let hex = |text: &str| -> String {
            md5(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
        };
        assert_eq!(hex(""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(hex("message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
        let digits = "1234567890".repeat(8);
        assert_eq!(hex(&digits), "57edf4a22be3c955ac49da2e2107b67a");
        for length in 55..65 {
            assert_ne!(hex(&"a".repeat(length)), hex(&"a".repeat(length + 1)));
        }
    }
}
