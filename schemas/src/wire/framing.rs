//! Where a record says which schema of the registry it was written with.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;

use crate::config::{IdForm, IdSpace};
use crate::decoder::RecordRef;

/// Names a schema in a registry. The numbers of the kinds have nothing to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SchemaId {
    /// Of a registry with Confluent's API.
    Confluent(u32),
    /// The same by the GUID of its content: the UUID's bytes.
    ConfluentGuid([u8; 16]),
    /// Apicurio's `contentId`.
    Content(u64),
    /// Apicurio's `globalId`.
    Global(u64),
    /// A schema version in AWS Glue: the UUID's bytes.
    Glue([u8; 16]),
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Confluent(id) => write!(f, "{id}"),
            Self::Content(id) => write!(f, "contentId {id}"),
            Self::Global(id) => write!(f, "globalId {id}"),
            Self::ConfluentGuid(uuid) | Self::Glue(uuid) => {
                for (index, byte) in uuid.iter().enumerate() {
                    let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
                    write!(f, "{dash}{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

/// How a table's records name their schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// As Confluent's serializers write it: byte 0 and a big-endian id of 4 bytes, or byte 1 and a
    /// GUID of 16 bytes, before the body or in the header `__key_schema_id` or `__value_schema_id`.
    Confluent,
    /// Apicurio's own forms.
    Apicurio(IdForm, IdSpace),
    /// AWS Glue's: byte 3, a byte for compression, 16 bytes of the schema version's UUID.
    Glue,
}

impl IdSpace {
    fn id(self, number: u64) -> SchemaId {
        match self {
            Self::Content => SchemaId::Content(number),
            Self::Global => SchemaId::Global(number),
        }
    }
}

/// Which bytes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Key,
    Value,
    /// A header that holds a key.
    Header,
}

impl Place {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Value => "value",
            Self::Header => "header",
        }
    }
}

/// A record's bytes without their frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Framed<'a> {
    pub(crate) id: SchemaId,
    pub(crate) body: &'a [u8],
    /// zlib.
    pub(crate) compressed: bool,
    /// What came after the id in a header: where Protobuf's message index stands then.
    pub(crate) after_id: Option<&'a [u8]>,
}

impl Framed<'_> {
    /// The body, decompressed where it is compressed.
    ///
    /// # Errors
    /// When it cannot be, or grows beyond `bytes_max`.
    pub(crate) fn plain(&self, bytes_max: usize) -> Result<Cow<'_, [u8]>, String> {
        if !self.compressed {
            return Ok(Cow::Borrowed(self.body));
        }
        let mut plain = Vec::new();
        let mut reader = flate2::read::ZlibDecoder::new(self.body).take(bytes_max as u64 + 1);
        reader.read_to_end(&mut plain).map_err(|_| "is compressed and cannot be decompressed")?;
        if plain.len() > bytes_max {
            return Err(format!("has more than the {bytes_max} bytes allowed once decompressed"));
        }
        Ok(Cow::Owned(plain))
    }
}

impl Framing {
    /// Takes a key, a value or a header apart.
    ///
    /// # Errors
    /// When the bytes do not begin as the framing says; names what they look like and the setting
    /// to look at.
    pub(crate) fn split<'a>(
        self,
        place: Place,
        bytes: &'a [u8],
        record: &RecordRef<'a>,
    ) -> Result<Framed<'a>, String> {
        let framed = |id, body| Framed { id, body, compressed: false, after_id: None };
        let mismatch = || self.mismatch(bytes, record);
        let in_headers = matches!(self, Self::Apicurio(IdForm::Headers, _));
        if !in_headers && header_id(place, record).is_some() {
            return Err(mismatch());
        }
        match self {
            Self::Confluent => match confluent_header(place, record) {
                Some(header) => {
                    let (id, after) = confluent_id(header).ok_or_else(|| {
                        format!("has a header `{}` that is no schema id", confluent_name(place))
                    })?;
                    Ok(Framed { after_id: Some(after), ..framed(id, bytes) })
                }
                None => {
                    let (id, body) = confluent_id(bytes).ok_or_else(mismatch)?;
                    Ok(framed(id, body))
                }
            },
            Self::Apicurio(IdForm::FourByte, space) => {
                let (id, body) = after_zero(bytes).ok_or_else(mismatch)?;
                Ok(framed(space.id(u32::from_be_bytes(*id).into()), body))
            }
            Self::Apicurio(IdForm::EightByte, space) => {
                let (id, body) = after_zero(bytes).ok_or_else(mismatch)?;
                Ok(framed(space.id(u64::from_be_bytes(*id)), body))
            }
            Self::Apicurio(IdForm::Headers, _) => {
                let id = header_id(place, record).ok_or_else(mismatch)?;
                Ok(framed(id, bytes))
            }
            Self::Glue => {
                let (head, rest) = bytes.split_first_chunk::<2>().ok_or_else(mismatch)?;
                let (uuid, body) = rest.split_first_chunk::<16>().ok_or_else(mismatch)?;
                let compressed = match head {
                    [3, 0] => false,
                    [3, 5] => true,
                    [3, other] => {
                        return Err(format!(
                            "is compressed in way {other}, which AWS Glue's serializers do not have: the record is damaged, or not theirs"
                        ));
                    }
                    _ => return Err(mismatch()),
                };
                Ok(Framed { compressed, ..framed(SchemaId::Glue(*uuid), body) })
            }
        }
    }

    fn mismatch(self, bytes: &[u8], record: &RecordRef<'_>) -> String {
        let expected = match self {
            Self::Confluent => {
                "byte 0 and a schema id of 4 bytes, nor byte 1 and a GUID, as of a Confluent registry"
            }
            Self::Apicurio(IdForm::FourByte, _) => {
                "byte 0 and a schema id of 4 bytes, as Apicurio's serializers write by `ids: 4-byte`"
            }
            Self::Apicurio(IdForm::EightByte, _) => {
                "byte 0 and a schema id of 8 bytes, as Apicurio's serializers write by `ids: 8-byte`"
            }
            Self::Apicurio(IdForm::Headers, _) => {
                "a schema id in the record's headers, as Apicurio's serializers write by `ids: headers`"
            }
            Self::Glue => "byte 3 and the 18-byte header of AWS Glue's serializers",
        };
        let (found, next) = looks_like(bytes, record);
        format!("has no {expected}: {found}; {next}")
    }
}

/// What bytes look like that are not what was expected, and what to set for it.
pub(crate) fn looks_like(bytes: &[u8], record: &RecordRef<'_>) -> (String, &'static str) {
    let from_headers = [Place::Key, Place::Value];
    if from_headers.into_iter().any(|place| header_id(place, record).is_some()) {
        let next =
            "set `records.registry` to `{ type: apicurio, ids: headers }` and `format: avro`";
        return ("its headers name a schema, as Apicurio's do".to_owned(), next);
    }
    if from_headers.into_iter().any(|place| confluent_header(place, record).is_some()) {
        let next = "set `records.format` to `avro` or `protobuf`, and `records.registry` to \
                    `{ type: confluent }`";
        return ("its headers name a schema, as of a Confluent registry".to_owned(), next);
    }
    match bytes.first() {
        None => ("it is empty".to_owned(), "correct the producer"),
        Some(b'{' | b'[' | b'"') => ("it looks like JSON".to_owned(), "set `records.format: json`"),
        Some(0) => (
            "it begins with byte 0, as records with a Confluent or Apicurio registry do".to_owned(),
            "set `records.format` to `avro` or `protobuf`, and `records.registry`",
        ),
        Some(1) => (
            "it begins with byte 1, as records do that name their schema by a GUID".to_owned(),
            "set `records.format` to `avro` or `protobuf`, and `records.registry` to `{ type: confluent }`",
        ),
        Some(3) => (
            "it begins with byte 3, as records with AWS Glue's registry do".to_owned(),
            "set `records.format: avro` and `records.registry: { type: glue }`",
        ),
        Some(byte) => (format!("it begins with byte {byte}"), "check `records.format`"),
    }
}

fn after_zero<const N: usize>(bytes: &[u8]) -> Option<(&[u8; N], &[u8])> {
    bytes.strip_prefix(&[0])?.split_first_chunk::<N>()
}

/// An id of Confluent's, and what comes after it.
fn confluent_id(bytes: &[u8]) -> Option<(SchemaId, &[u8])> {
    match bytes.split_first()? {
        (0, rest) => {
            let (id, rest) = rest.split_first_chunk::<4>()?;
            Some((SchemaId::Confluent(u32::from_be_bytes(*id)), rest))
        }
        (1, rest) => {
            let (guid, rest) = rest.split_first_chunk::<16>()?;
            Some((SchemaId::ConfluentGuid(*guid), rest))
        }
        _ => None,
    }
}

/// Name of the header in which Confluent's serializers may put the id.
fn confluent_name(place: Place) -> &'static str {
    match place {
        Place::Value => "__value_schema_id",
        Place::Key | Place::Header => "__key_schema_id",
    }
}

/// What that header holds. A header that is decoded itself has none.
fn confluent_header<'a>(place: Place, record: &RecordRef<'a>) -> Option<&'a [u8]> {
    (place != Place::Header).then(|| record.header(confluent_name(place)))?
}

/// The id that Apicurio's headers give. The name of the header says which kind it is.
fn header_id(place: Place, record: &RecordRef<'_>) -> Option<SchemaId> {
    let [global, content] = match place {
        Place::Value => ["apicurio.value.globalId", "apicurio.value.contentId"],
        Place::Key | Place::Header => ["apicurio.key.globalId", "apicurio.key.contentId"],
    };
    let number = |name| Some(u64::from_be_bytes(record.header(name)?.try_into().ok()?));
    let global = number(global).map(SchemaId::Global);
    global.or_else(|| number(content).map(SchemaId::Content))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(headers: &'a [(&'a str, Option<&'a [u8]>)]) -> RecordRef<'a> {
        RecordRef {
            topic: "t",
            partition: 0,
            offset: 0,
            timestamp_ms: None,
            key: None,
            value: None,
            headers,
        }
    }

    #[test]
    fn each_form_gives_its_id_and_the_body() {
        let eight = Framing::Apicurio(IdForm::EightByte, IdSpace::Global);
        let four = Framing::Apicurio(IdForm::FourByte, IdSpace::Content);
        for (framing, bytes, id) in [
            (Framing::Confluent, &[0, 0, 0, 1, 2, 9][..], SchemaId::Confluent(258)),
            (four, &[0, 0, 0, 1, 2, 9], SchemaId::Content(258)),
            (eight, &[0, 0, 0, 0, 0, 0, 0, 1, 2, 9], SchemaId::Global(258)),
        ] {
            let framed = framing.split(Place::Value, bytes, &record(&[])).expect("framed");
            assert_eq!(framed, Framed { id, body: &[9], compressed: false, after_id: None });
        }
        let headers: [(&str, Option<&[u8]>); 2] = [
            ("apicurio.key.globalId", Some(&[0, 0, 0, 0, 0, 0, 0, 7])),
            ("apicurio.value.contentId", Some(&[0, 0, 0, 0, 0, 0, 0, 8])),
        ];
        let in_headers = Framing::Apicurio(IdForm::Headers, IdSpace::Global);
        let key = in_headers.split(Place::Key, &[9], &record(&headers)).expect("framed");
        assert_eq!((key.id, key.body), (SchemaId::Global(7), &[9][..]));
        let value = in_headers.split(Place::Value, &[0, 9], &record(&headers)).expect("framed");
        assert_eq!((value.id, value.body), (SchemaId::Content(8), &[0, 9][..]));
    }

    #[test]
    fn confluents_ids_and_guids_stand_before_the_body_or_in_a_header() {
        let guid: Vec<u8> = [1].into_iter().chain((0..16).map(|byte| byte * 17)).collect();
        let named = "00112233-4455-6677-8899-aabbccddeeff";
        fn split<'a>(bytes: &'a [u8], record: &RecordRef<'a>) -> Result<Framed<'a>, String> {
            Framing::Confluent.split(Place::Value, bytes, record)
        }
        let bytes = [&guid[..], &[9]].concat();
        let before = record(&[]);
        let framed = split(&bytes, &before).expect("framed");
        assert_eq!((framed.id.to_string().as_str(), framed.body), (named, &[9][..]));
        assert_eq!(framed.after_id, None);
        assert!(split(&bytes[..16], &before).expect_err("cut").contains("a GUID"));

        let header = [&guid[..], &[0]].concat();
        let headers: [(&str, Option<&[u8]>); 2] =
            [("__value_schema_id", Some(&header)), ("__key_schema_id", Some(&[0, 0, 0, 0, 7]))];
        let with = record(&headers);
        let framed = split(&[0, 9], &with).expect("framed");
        assert_eq!((framed.id.to_string().as_str(), framed.body), (named, &[0, 9][..]));
        assert_eq!(framed.after_id, Some(&[0][..]));
        let key = Framing::Confluent.split(Place::Key, &[9], &with).expect("framed");
        assert_eq!((key.id, key.body), (SchemaId::Confluent(7), &[9][..]));
        // An old key stands in a header of its own, with its id before it.
        let old = Framing::Confluent.split(Place::Header, &[0, 0, 0, 0, 5, 9], &with);
        assert_eq!(old.expect("framed").id, SchemaId::Confluent(5));

        for damaged in [&[][..], &[2, 0, 0, 0, 1], &guid[..16], &[0, 0, 0, 1]] {
            let headers: [(&str, Option<&[u8]>); 1] = [("__value_schema_id", Some(damaged))];
            let error = split(&[9], &record(&headers)).expect_err("refused");
            assert!(error.contains("`__value_schema_id`"), "{error}");
        }
        let glue = Framing::Glue.split(Place::Value, &[9], &with).expect_err("refused");
        assert!(glue.contains("type: confluent"), "{glue}");
    }

    #[test]
    fn glue_bodies_are_decompressed_within_bounds() {
        let mut bytes = vec![3, 5];
        bytes.extend((0..16).map(|byte| byte * 16 + byte));
        let mut encoder =
            flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, &[7; 5_000]).expect("writes");
        bytes.extend(encoder.finish().expect("writes"));
        let framed = Framing::Glue.split(Place::Value, &bytes, &record(&[])).expect("framed");
        assert_eq!(framed.id.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(*framed.plain(5_000).expect("plain"), [7; 5_000]);
        assert!(framed.plain(4_999).expect_err("too much").contains("4999"));
        bytes.truncate(30);
        let cut = Framing::Glue.split(Place::Value, &bytes, &record(&[])).expect("framed");
        assert!(cut.plain(5_000).is_err());
        bytes[1] = 0;
        let plain = Framing::Glue.split(Place::Value, &bytes, &record(&[])).expect("framed");
        assert_eq!(*plain.plain(1).expect("as it is"), bytes[18..]);
        bytes[1] = 4;
        assert!(Framing::Glue.split(Place::Value, &bytes, &record(&[])).is_err());
    }

    #[test]
    fn a_mismatch_says_what_the_bytes_look_like_and_what_to_set() {
        let headers: [(&str, Option<&[u8]>); 1] =
            [("apicurio.value.globalId", Some(&[0, 0, 0, 0, 0, 0, 0, 7]))];
        let in_headers = Framing::Apicurio(IdForm::Headers, IdSpace::Global);
        for (framing, bytes, headers, parts) in [
            (Framing::Confluent, &b"{\"a\":1}"[..], &[][..], ["JSON", "`records.format: json`"]),
            (Framing::Confluent, &[0, 1], &[], ["byte 0", "4 bytes"]),
            (Framing::Confluent, &[3, 0, 1], &[], ["byte 3", "glue"]),
            (Framing::Confluent, &[], &[], ["empty", "producer"]),
            (Framing::Confluent, &[2], &headers, ["headers", "ids: headers"]),
            (Framing::Glue, &[0, 0, 0, 0, 1], &[], ["byte 0", "byte 3"]),
            (in_headers, &[0, 0, 0, 0, 1], &[], ["in the record's headers", "byte 0"]),
        ] {
            let error = framing.split(Place::Value, bytes, &record(headers)).expect_err("refused");
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }
}
